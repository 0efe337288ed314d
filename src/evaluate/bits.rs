//! What an image costs: the variational bound in bits per dimension, term by term ([`likelihood`](crate::diffusion::likelihood)).
//!
//! Every validation image is looked at at every time of the chain, once, with a noise of its own: the stream
//! (seed, "eval.bits.noise", [image, t]) of a seed that does not depend on the run. The mean over the images has an interval of
//! 95 %, ±1.96 standard errors: they are the images that happened to be held out, and the noise.
//!
//! The network computes in f32. What follows from its output is computed in f64.

use ndarray::Array4;
use serde::Serialize;

use super::noise::check_subject;
use crate::data::Dataset;
use crate::denoise::{Denoiser, Output};
use crate::diffusion::likelihood::{Cdf, Reading, Said, Step, Term, prior, steps};
use crate::diffusion::{Schedule, Variance, q_sample};
use crate::layers::{ParameterVector, Prepared, flat, flat_mut};
use crate::numerics::parallel;
use crate::numerics::rng::Stream;
use crate::numerics::sum::{sum, sum_by};
use crate::pipeline::Pipeline;
use crate::{Error, Result};

/// Images between two calls of `progress`.
const AT_ONCE: usize = 4;

/// Times at which the network looks at once.
const BATCH: usize = 16;

/// The seed of the noise.
pub(super) const SEED: u64 = 0;

/// Of what the bound is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct BitsSettings {
    /// How many validation images.
    pub images: usize,
    /// The times of the chain in 1..=T, ascending.
    pub times: Vec<usize>,
    /// The variance of its steps.
    pub variance: Variance,
    /// The decoder's distribution.
    pub cdf: Cdf,
}

/// A mean over images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Half of its interval of 95 %; of one image there is none.
    pub margin: Option<f64>,
}

/// The bound, in bits per dimension.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bits {
    /// Images looked at.
    pub images: usize,
    /// All of it: prior, KL terms, decoder.
    pub total: Mean,
    /// What x_T still says of the image.
    pub prior: Mean,
    /// The sum of the KL terms.
    pub kl: Mean,
    /// The step to the image.
    pub decoder: Mean,
    /// The times of the chain, ascending.
    pub times: Vec<usize>,
    /// The term of each time, that of the first being the decoder's.
    pub terms: Vec<Mean>,
    /// The mean squared error of x̂₀ at each time, clipped as the model is sampled.
    pub x_0_mse: Vec<f64>,
}

impl Mean {
    /// Of some numbers, at least one.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = sum(values) / count;
        let squares = sum_by(values, |x| (x - mean) * (x - mean));
        let margin = (values.len() > 1).then(|| 1.96 * (squares / (count - 1.0) / count).sqrt());
        Mean { mean, margin }
    }
}

/// The bound of `weights` of the model's network on validation images; `progress` hears of each image done.
///
/// # Errors
/// As [`evaluate`](super::evaluate); a variance that the network does not learn, or times that are no chain.
pub fn bits_per_dim(
    model: &Pipeline,
    weights: &ParameterVector<f32>,
    data: &Dataset,
    settings: &BitsSettings,
    progress: impl FnMut(usize),
) -> Result<Bits> {
    check_subject(model, weights, data)?;
    let prepared = Prepared::new(weights);
    let (denoiser, scheduler) = (model.denoiser(&prepared), model.scheduler());
    let reading = Reading {
        prediction: scheduler.prediction,
        variance: settings.variance,
        clip: scheduler.clip,
        cdf: settings.cdf,
    };
    bits_of_denoiser(&denoiser, &scheduler.schedule, data, &|class| model.label(class), (settings, reading), progress)
}

/// [`bits_per_dim`] for any denoiser of images of the data's shape; `label` says what it is told of an image of a class, or of one
/// without.
///
/// # Errors
/// No images, times that are no chain; whatever the denoiser refuses; an output that is not finite, or without a variance where
/// one is to be learned.
pub fn bits_of_denoiser(
    denoiser: &dyn Denoiser<f32>,
    schedule: &Schedule,
    data: &Dataset,
    label: &(dyn Fn(Option<usize>) -> Option<usize> + Sync),
    (settings, reading): (&BitsSettings, Reading),
    mut progress: impl FnMut(usize),
) -> Result<Bits> {
    let (images, times) = (settings.images.min(data.len()), &settings.times);
    if images == 0 {
        return Err(Error::value("images", "at least one image to look at", format!("0 of {}", data.name())));
    }
    let ascend = times.windows(2).all(|pair| pair[0] < pair[1]);
    if times.is_empty() || times[0] < 1 || *times.last().expect("one") > schedule.t_max() || !ascend {
        let expected = format!("times in 1..={}, ascending", schedule.t_max());
        return Err(Error::value("times", expected, format!("{times:?}")));
    }
    let asked = Asked { denoiser, data, label, reading, steps: steps(schedule, times) };
    let mut by_image = Vec::with_capacity(images);
    for chunk in parallel::ranges(images, AT_ONCE) {
        for of_image in parallel::map(chunk.len(), |i| asked.terms(chunk.start + i)) {
            by_image.push(of_image?);
        }
        progress(chunk.end);
    }
    let mean = |of: &dyn Fn(&(f64, Vec<Term<f64>>)) -> f64| Mean::of(&by_image.iter().map(of).collect::<Vec<_>>());
    let kl = |terms: &[Term<f64>]| sum_by(&terms[1..], |term: Term<f64>| term.bits);
    let of_times = 0..times.len();
    Ok(Bits {
        images,
        total: mean(&|(prior, terms)| prior + kl(terms) + terms[0].bits),
        prior: mean(&|(prior, _)| *prior),
        kl: mean(&|(_, terms)| kl(terms)),
        decoder: mean(&|(_, terms)| terms[0].bits),
        times: times.clone(),
        terms: of_times.clone().map(|i| mean(&|(_, terms)| terms[i].bits)).collect(),
        x_0_mse: of_times.map(|i| mean(&|(_, terms)| terms[i].x_0_mse).mean).collect(),
    })
}

/// What is looked at, and by whom.
struct Asked<'a> {
    denoiser: &'a dyn Denoiser<f32>,
    data: &'a Dataset,
    label: &'a (dyn Fn(Option<usize>) -> Option<usize> + Sync),
    reading: Reading,
    steps: Vec<Step>,
}

impl Asked<'_> {
    /// The prior of one image, and its terms.
    fn terms(&self, image: usize) -> Result<(f64, Vec<Term<f64>>)> {
        let exact = self.data.batch::<f64>(&[image]);
        let mut terms = Vec::with_capacity(self.steps.len());
        for steps in self.steps.chunks(BATCH) {
            let x_0 = self.data.batch::<f32>(&vec![image; steps.len()]);
            let (mut eps, mut x_t) = (x_0.clone(), x_0.clone());
            let size = exact.len();
            for (step, eps) in steps.iter().zip(flat_mut(&mut eps).chunks_mut(size)) {
                let t = step.from.t() as u64;
                Stream::keyed(SEED, "eval.bits.noise", &[image as u64, t]).fill_normal(eps);
            }
            let rows = flat_mut(&mut x_t).chunks_mut(size).zip(flat(&x_0).chunks(size)).zip(flat(&eps).chunks(size));
            for (((x_t, x_0), eps), step) in rows.zip(steps) {
                x_t.copy_from_slice(&q_sample(step.from, x_0, eps));
            }
            let levels: Vec<_> = steps.iter().map(|step| step.from).collect();
            let class = self.data.label(image).map(|class| class as usize);
            let labels = (self.label)(class).map(|label| vec![label; steps.len()]);
            let output = self.denoiser.predict(&x_t, &levels, labels.as_deref())?;
            let (mean, variance) = self.parts(&output)?;
            for (i, step) in steps.iter().enumerate() {
                let of = |x: &[f64]| if x.is_empty() { Vec::new() } else { x[i * size..][..size].to_vec() };
                let eps: Vec<f64> = flat(&eps)[i * size..][..size].iter().map(|&eps| eps.into()).collect();
                let said = Said { mean: &of(&mean), variance: &of(&variance) };
                let reading = Reading { prediction: output.prediction, ..self.reading };
                let term = step.term(&reading, flat(&exact), &eps, said);
                if !term.bits.is_finite() {
                    let remedy = "the weights are damaged or the model does not fit the images".into();
                    let tensor = "the network's output in the evaluation".into();
                    return Err(Error::NonFinite { step: step.from.t() as u64, tensor, remedy });
                }
                terms.push(term);
            }
        }
        let last = self.steps.last().expect("a chain").from;
        Ok((prior(last, flat(&exact)), terms))
    }

    /// What an output says of the mean, and of the variance where that is learned.
    fn parts(&self, output: &Output<f32>) -> Result<(Vec<f64>, Vec<f64>)> {
        let wide = |x: &Array4<f32>| -> Vec<f64> { flat(x).iter().map(|&said| said.into()).collect() };
        let variance = match (&output.log_variance, self.reading.variance.is_learned()) {
            (Some(said), true) => wide(said),
            (None, true) => {
                let expected = "fixed_small or fixed_large: the network says nothing of variances";
                return Err(Error::value("variance", expected, format!("{:?}", self.reading.variance)));
            }
            (_, false) => Vec::new(),
        };
        Ok((wide(&output.value), variance))
    }
}

#[cfg(test)]
mod tests {
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
        let reading = Reading {
            prediction: Prediction::Epsilon,
            variance: settings.variance,
            clip: Some(1.0),
            cdf: settings.cdf,
        };
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
            let said: Vec<f64> =
                (0..6).map(|k| 0.9 * sigma * (a * x_0[k] + sigma * eps[k]) + 0.1 * label[image]).collect();
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
}
