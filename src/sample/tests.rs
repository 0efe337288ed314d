//! What holds for every sampler.

use ndarray::Array4;

use super::*;
use crate::Result;
use crate::denoise::{Estimate, Output, Sight};
use crate::diffusion::{BetaSchedule, Level, Prediction, Schedule, Variance, q_sample};
use crate::layers::{flat, shaped};
use crate::numerics::rng::normal;

/// Any images, model output and noise.
pub(super) struct Numbers {
    pub x_t: Array4<f64>,
    pub output: Array4<f64>,
    pub noise: Array4<f64>,
}

pub(super) fn numbers() -> Numbers {
    let [x_t, output, noise] = [1, 2, 3].map(|key| normal((1, 3, 5, 1), key));
    Numbers { x_t, output, noise }
}

pub(super) fn schedule() -> Schedule {
    Schedule::new(BetaSchedule::Linear, 40, 1e-3, 0.2).unwrap()
}

pub(super) fn assert_near(a: &Array4<f64>, b: &Array4<f64>, tolerance: f64) {
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance, "element {i}: {a} {b}");
    }
}

/// A walk in which the same output and the same noise are given at every step.
struct Fixed<'a> {
    sight: Sight,
    prediction: Prediction,
    output: &'a Array4<f64>,
    noise: &'a Array4<f64>,
}

impl Walk<f64> for Fixed<'_> {
    fn see(&mut self, x: &Array4<f64>, level: Level) -> Result<Estimate<f64>> {
        let output = Output::new(self.prediction, self.output.clone());
        Ok(self.sight.estimate(x, level, &output))
    }

    fn noise(&mut self, _: Level) -> Array4<f64> {
        self.noise.clone()
    }
}

/// One step of a sampler from t to t_prev on [`numbers`].
pub(super) fn step_of(
    sampler: Sampler,
    options: &SamplerOptions,
    prediction: Prediction,
    clip: Option<f64>,
    (t, t_prev): (usize, usize),
) -> Array4<f64> {
    let transition = Transition { from: schedule().level(t), to: schedule().level(t_prev) };
    step_between(sampler, options, prediction, clip, transition, numbers().x_t)
}

/// One step of a sampler from these images, with the output and the noise of [`numbers`].
pub(super) fn step_between(
    sampler: Sampler,
    options: &SamplerOptions,
    prediction: Prediction,
    clip: Option<f64>,
    transition: Transition,
    x_t: Array4<f64>,
) -> Array4<f64> {
    let Numbers { output, noise, .. } = numbers();
    let sight = Sight { clip, ..Sight::default() };
    let mut walk = Fixed { sight, prediction, output: &output, noise: &noise };
    sampler.run(&[transition], x_t, options, &mut walk).unwrap()
}

fn samplers() -> [(Sampler, SamplerOptions); 4] {
    let options = SamplerOptions::default();
    [
        (Sampler::Ddpm, options),
        (Sampler::Ddpm, SamplerOptions { variance: Variance::FixedLarge, ..options }),
        (Sampler::Ddim, options),
        (Sampler::Ddim, SamplerOptions { eta: 0.7, ..options }),
    ]
}

#[test]
fn chain_of_one_step_returns_the_image_the_model_sees() {
    let sight = Sight { clip: Some(1.0), ..Sight::default() };
    let Numbers { x_t, output, .. } = numbers();
    let seen = sight.estimate(&x_t, schedule().level(40), &Output::new(Prediction::Epsilon, output));
    for (sampler, options) in samplers() {
        let x = step_of(sampler, &options, Prediction::Epsilon, Some(1.0), (40, 0));
        assert_eq!(x, seen.x_0_hat);
        assert!(x.iter().any(|x| x.abs() == 1.0));
    }
}

#[test]
fn every_prediction_of_the_same_truth_steps_to_the_same_place() {
    let Numbers { x_t: x_0, output: eps, noise } = numbers();
    let (from, to) = (schedule().level(30), schedule().level(21));
    let x_t = shaped(x_0.dim(), q_sample(from, flat(&x_0), flat(&eps)));
    for (sampler, options) in samplers() {
        let [from_eps, from_x_0, from_v] = [Prediction::Epsilon, Prediction::Sample, Prediction::V].map(|prediction| {
            let output = prediction.target(from.marginal(), flat(&x_0), flat(&eps));
            let sight = Sight::default();
            let output = shaped(x_0.dim(), output);
            let mut walk = Fixed { sight, prediction, output: &output, noise: &noise };
            sampler.run(&[Transition { from, to }], x_t.clone(), &options, &mut walk).unwrap()
        });
        assert_near(&from_eps, &from_x_0, 1e-13);
        assert_near(&from_eps, &from_v, 1e-13);
    }
}

#[test]
fn chain_with_a_perfect_model_ends_at_the_image() {
    let Numbers { x_t: x_0, noise, .. } = numbers();
    for (sampler, options) in samplers() {
        let sight = Sight::default();
        let mut walk = Fixed { sight, prediction: Prediction::Sample, output: &x_0, noise: &noise };
        let list = timesteps(Spacing::Trailing, 40, 7, 0).unwrap();
        let chain = chain(&schedule(), &list, sampler, &options).unwrap();
        assert_eq!(sampler.run(&chain, noise.clone(), &options, &mut walk).unwrap(), x_0);
    }
}

#[test]
fn eta_out_of_range_is_refused() {
    let Numbers { x_t, output, noise } = numbers();
    for eta in [-0.1, 1.5, f64::NAN] {
        let options = SamplerOptions { eta, ..SamplerOptions::default() };
        let sight = Sight::default();
        let mut walk = Fixed { sight, prediction: Prediction::V, output: &output, noise: &noise };
        let refusal = Sampler::Ddim.run(&[], x_t.clone(), &options, &mut walk).unwrap_err().to_string();
        assert!(refusal.starts_with("eta: expected 0 to 1"), "{refusal}");
    }
}

#[test]
fn names_and_classes_of_samplers_are_found_and_each_its_own() {
    for &sampler in Sampler::ALL {
        let entry = sampler.entry();
        assert_eq!((Sampler::named(entry.name), Sampler::of_class(entry.class)), (Some(sampler), Some(sampler)));
    }
    assert_eq!((Sampler::named("Euler"), Sampler::of_class("")), (None, None));
}
