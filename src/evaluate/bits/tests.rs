use super::*;
use crate::data::Shape;
use crate::diffusion::{BetaSchedule, Level, Prediction};

fn data() -> Dataset {
    let shape = Shape { height: 3, width: 2, channels: 1 };
    let pixels = (0..5 * 6).map(|i| (i * 41 % 256) as u8).collect();
    Dataset::new("made", shape, pixels).and_then(|data| data.with_labels(vec![0, 2, 1, 2, 0], 3)).unwrap()
}

fn settings(times: Vec<usize>) -> BitsSettings {
    BitsSettings { images: 9, times, variance: Variance::FixedSmall, cdf: Cdf::Erf }
}

fn bits(settings: &BitsSettings) -> Result<Bits> {
    let schedule = Schedule::new(BetaSchedule::Linear, 30, 1e-3, 0.2).unwrap();
    let denoiser = |x: &Array4<f32>, levels: &[Level], labels: Option<&[usize]>| {
        let labels = labels.expect("a conditional denoiser is told labels");
        let mut value = x.clone();
        for ((mut image, level), &label) in value.outer_iter_mut().zip(levels).zip(labels) {
            image.mapv_inplace(|x| (0.9 * level.sigma() as f32) * x + 0.1 * label as f32);
        }
        Ok(Output::new(Prediction::Epsilon, value))
    };
    let reading =
        Reading { prediction: Prediction::Epsilon, variance: settings.variance, clip: Some(1.0), cdf: settings.cdf };
    bits_of_denoiser(&denoiser, &schedule, &data(), &|class| class, (settings, reading), |_| {})
}

#[test]
fn bound_of_a_known_denoiser_is_that_of_its_terms_and_the_parts_add_up() {
    let found = bits(&settings((1..=30).collect())).unwrap();
    let parts = found.prior.mean + found.kl.mean + found.decoder.mean;
    assert!((found.total.mean - parts).abs() < 1e-12);
    assert_eq!((found.images, found.terms[0]), (5, found.decoder));
    let kl: f64 = found.terms[1..].iter().map(|term| term.mean).sum();
    assert!((found.kl.mean - kl).abs() < 1e-12);

    let schedule = Schedule::new(BetaSchedule::Linear, 30, 1e-3, 0.2).unwrap();
    let (step, label) = (steps(&schedule, &(1..=30).collect::<Vec<_>>())[20], [0.0, 2.0, 1.0, 2.0, 0.0]);
    let reading =
        Reading { prediction: Prediction::Epsilon, variance: Variance::FixedSmall, clip: Some(1.0), cdf: Cdf::Erf };
    let term = |image: usize| {
        let mut eps = vec![0.0f64; 6];
        Stream::keyed(0, "eval.bits.noise", &[image as u64, 21]).fill_normal(&mut eps);
        let x_0: Vec<f64> = data().batch::<f64>(&[image]).iter().copied().collect();
        let (a, sigma) = (step.from.signal(), step.from.sigma());
        let said: Vec<f64> = (0..6).map(|k| 0.9 * sigma * (a * x_0[k] + sigma * eps[k]) + 0.1 * label[image]).collect();
        step.term(&reading, &x_0, &eps, Said { mean: &said, variance: &[] }).bits
    };
    let expected = Mean::of(&(0..5).map(term).collect::<Vec<_>>());
    assert!((found.terms[20].mean - expected.mean).abs() < 1e-6); // float32 in the denoiser
    assert!((found.terms[20].margin.unwrap() - expected.margin.unwrap()).abs() < 1e-6);
}

#[test]
fn bound_is_the_same_with_any_number_of_threads() {
    let with_threads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bits(&settings(vec![1, 2, 3, 9, 14, 15, 16, 20, 25, 30])).unwrap())
    };
    assert_eq!(with_threads(1), with_threads(3));
}

#[test]
fn interval_is_that_of_the_mean_of_normal_numbers() {
    let mean = Mean::of(&[1.0, 2.0, 3.0, 6.0]);
    // Σ (x − 3)² = 14; √(14/3/4).
    assert_eq!(mean.mean, 3.0);
    assert!((mean.margin.unwrap() - 1.96 * (14.0f64 / 12.0).sqrt()).abs() < 1e-15);
    assert_eq!(Mean::of(&[5.0]), Mean { mean: 5.0, margin: None });
}

#[test]
fn chain_that_is_none_and_a_variance_that_was_not_learned_are_refused() {
    for times in [vec![], vec![0, 4], vec![4, 4], vec![31]] {
        assert!(bits(&settings(times)).unwrap_err().to_string().starts_with("times: expected times in 1..=30"));
    }
    let learned = BitsSettings { variance: Variance::Learned, ..settings(vec![1, 9]) };
    assert!(bits(&learned).unwrap_err().to_string().starts_with("variance: expected fixed_small"));
    let none = BitsSettings { images: 0, ..settings(vec![1]) };
    assert!(bits(&none).unwrap_err().to_string().starts_with("images: expected at least one"));
}
