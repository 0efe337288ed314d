use super::losses::{halves, hybrid, joined, vlb};
use super::*;
use crate::diffusion::BetaSchedule;
use crate::numerics::elementary::{exp, ln};
use crate::numerics::rng::Stream;

const N: usize = 7;

fn schedule() -> Schedule {
    Schedule::new(BetaSchedule::Linear, 20, 0.01, 0.4).unwrap()
}

fn normals(purpose: &str, deviation: f64) -> Vec<f64> {
    let mut z = vec![f64::NAN; N];
    Stream::keyed(31, purpose, &[]).fill_normal(&mut z);
    z.iter().map(|z| deviation * z).collect()
}

/// Bytes as pixels, black and white among them.
fn image() -> Vec<f64> {
    [0.0, 255.0, 17.0, 128.0, 200.0, 254.0, 90.0].map(|byte| byte * 2.0 / 255.0 - 1.0).to_vec()
}

fn readings() -> Vec<Reading> {
    let mut readings = Vec::new();
    for prediction in [Prediction::Epsilon, Prediction::Sample, Prediction::V] {
        for variance in [Variance::FixedSmall, Variance::FixedLarge, Variance::Learned, Variance::LearnedRange] {
            let cdf = if prediction == Prediction::V { Cdf::Tanh } else { Cdf::Erf };
            readings.push(Reading { prediction, variance, clip: None, cdf });
        }
    }
    readings
}

#[test]
fn kl_of_two_gaussians_is_the_integral() {
    let density = |x: f64, mean: f64, s: f64| {
        exp(-0.5 * (x - mean) * (x - mean) * exp(-s)) / (exp(s) * std::f64::consts::TAU).sqrt()
    };
    for (mean_q, s_q, mean_p, s_p) in [(0.3, -1.0, -0.2, 0.4), (0.0, 0.5, 1.0, -0.3), (0.1, 0.0, 0.1, 0.0)] {
        let h = 1e-3; // a sum over a grid is exact to rounding for a Gaussian a thousand steps wide
        let integral: f64 = (-20_000..=20_000)
            .map(|i| i as f64 * h)
            .map(|x| {
                let log_ratio = 0.5 * (s_p - s_q) - 0.5 * (x - mean_q) * (x - mean_q) * exp(-s_q)
                    + 0.5 * (x - mean_p) * (x - mean_p) * exp(-s_p);
                density(x, mean_q, s_q) * log_ratio * h
            })
            .sum();
        assert!((kl(mean_q, s_q, mean_p, s_p) - integral).abs() < 1e-12);
    }
}

#[test]
fn terms_of_a_model_that_knows_the_image_are_zero_but_for_the_decoder() {
    let (x_0, eps) = (image(), normals("eps", 1.0));
    let reading =
        Reading { prediction: Prediction::Epsilon, variance: Variance::FixedSmall, clip: None, cdf: Cdf::Erf };
    let steps = steps(&schedule(), &[1, 4, 5, 20]);
    for step in &steps[1..] {
        let term = step.term(&reading, &x_0, &eps, Said { mean: &eps, variance: &[] });
        assert!(term.bits.abs() < 1e-12 && term.x_0_mse < 1e-25, "{term:?}");
        // With β for β̃ the term is that of the variances alone.
        let large = Reading { variance: Variance::FixedLarge, ..reading };
        let expected = kl(0.0, ln(step.posterior.beta_tilde), 0.0, ln(step.posterior.beta)) * BITS;
        assert!((step.term(&large, &x_0, &eps, Said { mean: &eps, variance: &[] }).bits - expected).abs() < 1e-12);
    }
    let decoder = steps[0].term(&reading, &x_0, &eps, Said { mean: &eps, variance: &[] });
    assert!(decoder.bits > 0.0 && decoder.bits < 8.0, "{decoder:?}");
}

#[test]
fn prior_is_zero_where_nothing_of_the_image_is_left() {
    let noise = Schedule::new(BetaSchedule::Linear, 5, 0.1, 1.0).unwrap();
    assert_eq!(prior(noise.level(5), &image()), 0.0);
    let some = prior(schedule().level(20), &image());
    assert!(some > 0.0 && some < 0.1, "{some}");
}

#[test]
fn steps_of_a_chain_that_skips_times_have_variances_of_their_own() {
    let (all, few) = (steps(&schedule(), &(1..=20).collect::<Vec<_>>()), steps(&schedule(), &[2, 9, 20]));
    assert_eq!(few[1].posterior, Posterior::at(&schedule(), 9, 2));
    assert!(few[1].range.large > all[8].range.large + 1.0);
    assert_eq!(few[0].range.small, ln(few[1].posterior.beta_tilde));
    assert_eq!((few[0].range.to_image, few[1].range.to_image), (true, false));
}

#[test]
fn slopes_of_a_term_equal_central_differences() {
    let (x_0, eps) = (image(), normals("eps", 1.0));
    let (mean, variance) = (normals("mean", 1.0), normals("variance", 0.5));
    let h = 1e-5;
    for reading in readings() {
        for step in steps(&schedule(), &[3, 4, 11, 20]) {
            let bits = |mean: &[f64], variance: &[f64]| step.term(&reading, &x_0, &eps, Said { mean, variance }).bits;
            let (_, slopes) = step.term_and_slopes(&reading, &x_0, &eps, Said { mean: &mean, variance: &variance });
            for i in 0..N {
                let nudged = |x: &[f64], by: f64| {
                    let mut x = x.to_vec();
                    x[i] += by;
                    x
                };
                let of_mean = (bits(&nudged(&mean, h), &variance) - bits(&nudged(&mean, -h), &variance)) / (2.0 * h);
                let of_variance =
                    (bits(&mean, &nudged(&variance, h)) - bits(&mean, &nudged(&variance, -h))) / (2.0 * h);
                // h² times a third derivative, which grows as the slope itself, and rounding of 1e-15/h.
                for (found, difference) in [(slopes.mean[i], of_mean), (slopes.variance[i], of_variance)] {
                    let close = (found - difference).abs() < 1e-7 * (1.0 + found.abs());
                    assert!(close, "{reading:?} t = {}: {found} {difference}", step.from.t());
                }
            }
        }
    }
}

#[test]
fn clipped_estimate_passes_no_gradient_to_the_mean() {
    let (x_0, eps) = (image(), normals("eps", 1.0));
    let reading =
        Reading { prediction: Prediction::Sample, variance: Variance::FixedSmall, clip: Some(1.0), cdf: Cdf::Erf };
    let said = [0.5, 1.5, -0.2, -3.0, 0.1, 0.9, 1.1];
    let step = steps(&schedule(), &[4, 11])[1];
    let (term, slopes) = step.term_and_slopes(&reading, &x_0, &eps, Said { mean: &said, variance: &[] });
    let held: Vec<bool> = slopes.mean.iter().map(|&slope| slope == 0.0).collect();
    assert_eq!(held, said.map(|x| x.abs() > 1.0));
    let mse: f64 = said.iter().zip(&x_0).map(|(x, x_0)| x.clamp(-1.0, 1.0) - x_0).map(|e| e * e / N as f64).sum();
    assert!((term.x_0_mse - mse).abs() < 1e-15);
}

#[test]
fn hybrid_teaches_the_mean_by_the_simple_loss_alone_and_vlb_by_the_bound() {
    let (x_0, eps) = (image(), normals("eps", 1.0));
    let (mean, variance) = (normals("mean", 1.0), normals("variance", 0.5));
    let said = Said { mean: &mean, variance: &variance };
    for reading in readings().into_iter().filter(|reading| reading.variance.is_learned()) {
        for step in steps(&schedule(), &[3, 4, 11, 20]) {
            let (term, slopes) = step.term_and_slopes(&reading, &x_0, &eps, said);
            let target = reading.prediction.target(step.from.marginal(), &x_0, &eps);
            let (squares, simple) = crate::diffusion::loss::l_simple(&mean, &target, N);
            let loss = hybrid(&step, 4, &reading, &x_0, &eps, said);
            assert_eq!(loss.gradient.mean, simple);
            assert!((loss.loss - (squares / N as f64 + 0.004 * term.bits)).abs() < 1e-14);
            assert!(loss.gradient.variance.iter().zip(&slopes.variance).all(|(a, b)| (a - 0.004 * b).abs() < 1e-16));
            let bound = vlb(&step, 4, &reading, &x_0, &eps, said);
            assert_eq!((bound.loss, bound.bits), (4.0 * term.bits, term.bits));
            assert!(bound.gradient.mean.iter().zip(&slopes.mean).all(|(a, b)| *a == 4.0 * b));
        }
    }
}

#[test]
fn halves_are_channels_of_each_pixel_and_are_joined_again() {
    let output: Vec<f64> = (0..12).map(f64::from).collect();
    let (mean, variance) = halves(&output, 2);
    assert_eq!(
        (&mean[..], &variance[..]),
        (&[0.0, 1.0, 4.0, 5.0, 8.0, 9.0][..], &[2.0, 3.0, 6.0, 7.0, 10.0, 11.0][..])
    );
    assert_eq!(joined(&Slopes { mean, variance }, 2), output);
}
