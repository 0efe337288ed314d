//! The reverse process, from noise to a picture, one step at a time.
//!
//! A sampler is one file, one type and one arm of [`Sampler::step`]. It sees one image: what an image becomes depends on
//! its own noise alone, whatever the batch.

pub mod ddim;
pub mod ddpm;
pub mod draw;
pub mod pipeline;
pub mod timesteps;

use crate::diffusion::{Marginal, Prediction, Schedule};
use crate::numerics::Real;
use crate::{Error, Result};

pub use ddim::Ddim;
pub use ddpm::Ddpm;
pub use pipeline::{Pipeline, Scheduler};
pub use timesteps::{Spacing, timesteps, transitions};

/// The rule by which x_{t−1} follows from x_t.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampler {
    /// Ancestral sampling (Ho et al. 2020, Algorithm 2).
    Ddpm(Ddpm),
    /// From deterministic (η = 0) to ancestral (η = 1) (Song et al. 2021, Eq. 12).
    Ddim(Ddim),
}

impl Sampler {
    /// One reverse step of one image.
    ///
    /// # Panics
    /// As [`Ddpm::step`] and [`Ddim::step`].
    pub fn step<F: Real>(&self, reverse: &ReverseProcess, step: &Step<F>) -> Stepped<F> {
        match self {
            Sampler::Ddpm(ddpm) => ddpm.step(reverse, step),
            Sampler::Ddim(ddim) => ddim.step(reverse, step),
        }
    }
}

/// What every sampler needs to know of a trained model.
#[derive(Clone, Debug, PartialEq)]
pub struct ReverseProcess {
    /// The noise schedule of the model's training.
    pub schedule: Schedule,
    /// What the model's output means.
    pub prediction: Prediction,
    /// x̂₀ is clipped to [−clip, clip]: 1 for pixels in [−1, 1], `None` for data without bounds.
    pub clip: Option<f64>,
}

/// One reverse step of one image, from time `t` to the earlier time `t_prev`.
///
/// # Shapes
/// `x_t`, `output`, `noise`: all elements of one image, in the same order.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a, F> {
    /// The time of `x_t`, in 1..=T.
    pub t: usize,
    /// The time to step to, in 0..t; 0 at the last step, whatever the spacing.
    pub t_prev: usize,
    /// The noisy image.
    pub x_t: &'a [F],
    /// The model's output for `x_t` and `t`.
    pub output: &'a [F],
    /// Standard normals drawn for this image and step. They have no effect where σ = 0, but have to be finite.
    pub noise: &'a [F],
}

/// What a reverse step makes, all elements of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Stepped<F> {
    /// The image at time `t_prev`; after the last step, the picture.
    pub x_prev: Vec<F>,
    /// The clipped x̂₀, the picture as the model saw it through the noise at time `t`.
    pub x_0_hat: Vec<F>,
}

impl ReverseProcess {
    /// A model's schedule, the meaning of its output, and the range to which x̂₀ is clipped.
    ///
    /// # Errors
    /// If the prediction is impossible under the schedule ([`Prediction::check`]), or `clip` is not positive and finite.
    pub fn new(schedule: Schedule, prediction: Prediction, clip: Option<f64>) -> Result<Self> {
        prediction.check(&schedule)?;
        if let Some(range) = clip.filter(|range| !(*range > 0.0 && range.is_finite())) {
            return Err(Error::value("clip_sample_range", "a positive number", range));
        }
        Ok(ReverseProcess { schedule, prediction, clip })
    }

    /// x̂₀ at the step's `x_t`, clipped.
    ///
    /// # Panics
    /// If the step's three slices differ in length or its `t` > T.
    fn x_0_hat<F: Real>(&self, step: &Step<F>) -> Vec<F> {
        assert_eq!(step.x_t.len(), step.noise.len(), "reverse step: x_t and noise differ in length");
        let x_0_hat = self.prediction.x_0_hat(Marginal::at(&self.schedule, step.t), step.x_t, step.output);
        match self.clip {
            Some(range) => x_0_hat.into_iter().map(|x| clip(x, F::from_f64(range))).collect(),
            None => x_0_hat,
        }
    }
}

/// The nearest number in [−range, range], as comparisons (contract N1, rule 1); NaN stays NaN.
fn clip<F: Real>(x: F, range: F) -> F {
    if x > range {
        range
    } else if x < -range {
        -range
    } else {
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::{BetaSchedule, Variance, q_sample};
    use crate::numerics::rng::Stream;

    /// Any image, model output and noise.
    pub(super) struct Numbers {
        pub x_t: Vec<f64>,
        pub output: Vec<f64>,
        pub noise: Vec<f64>,
    }

    pub(super) fn numbers() -> Numbers {
        let normals = |purpose| {
            let mut z = vec![f64::NAN; 15];
            Stream::keyed(31, purpose, &[]).fill_normal(&mut z);
            z
        };
        Numbers { x_t: normals("x_t"), output: normals("output"), noise: normals("noise") }
    }

    impl Numbers {
        pub fn step(&self, t: usize, t_prev: usize) -> Step<'_, f64> {
            Step { t, t_prev, x_t: &self.x_t, output: &self.output, noise: &self.noise }
        }
    }

    pub(super) fn reverse(prediction: Prediction, clip: Option<f64>) -> ReverseProcess {
        let schedule = Schedule::new(BetaSchedule::Linear, 40, 1e-3, 0.2).unwrap();
        ReverseProcess::new(schedule, prediction, clip).unwrap()
    }

    pub(super) fn assert_near(a: &[f64], b: &[f64], tolerance: f64) {
        assert_eq!(a.len(), b.len());
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            assert!((a - b).abs() <= tolerance, "element {i}: {a} {b}");
        }
    }

    const SAMPLERS: [Sampler; 4] = [
        Sampler::Ddpm(Ddpm { variance: Variance::FixedSmall }),
        Sampler::Ddpm(Ddpm { variance: Variance::FixedLarge }),
        Sampler::Ddim(Ddim { eta: 0.0, ..Ddim::DETERMINISTIC }),
        Sampler::Ddim(Ddim { eta: 0.7, ..Ddim::DETERMINISTIC }),
    ];

    #[test]
    fn chain_of_one_step_returns_the_image_the_model_sees() {
        let reverse = reverse(Prediction::Epsilon, Some(1.0));
        for sampler in SAMPLERS {
            let Stepped { x_prev, x_0_hat } = sampler.step(&reverse, &numbers().step(40, 0));
            assert_eq!(x_prev, x_0_hat);
            assert!(x_prev.iter().all(|x| x.abs() <= 1.0) && x_prev.iter().any(|x| x.abs() == 1.0));
        }
    }

    #[test]
    fn every_prediction_of_the_same_truth_steps_to_the_same_place() {
        let Numbers { x_t: x_0, output: eps, noise } = numbers();
        let (t, t_prev) = (30, 21);
        for sampler in SAMPLERS {
            let [from_eps, from_x_0, from_v] =
                [Prediction::Epsilon, Prediction::Sample, Prediction::V].map(|prediction| {
                    let reverse = reverse(prediction, None);
                    let x_t = q_sample(&reverse.schedule, t, &x_0, &eps);
                    let output = prediction.target(Marginal::at(&reverse.schedule, t), &x_0, &eps);
                    sampler.step(&reverse, &Step { t, t_prev, x_t: &x_t, output: &output, noise: &noise }).x_prev
                });
            assert_near(&from_eps, &from_x_0, 1e-13);
            assert_near(&from_eps, &from_v, 1e-13);
        }
    }

    #[test]
    fn chain_with_a_perfect_model_ends_at_the_image() {
        let Numbers { x_t: x_0, noise, .. } = numbers();
        for sampler in SAMPLERS {
            let reverse = reverse(Prediction::Sample, None);
            let mut x = noise.clone();
            for (t, t_prev) in transitions(&timesteps(Spacing::Trailing, 40, 7, 0).unwrap()) {
                x = sampler.step(&reverse, &Step { t, t_prev, x_t: &x, output: &x_0, noise: &noise }).x_prev;
            }
            assert_near(&x, &x_0, 0.0);
        }
    }

    #[test]
    fn clip_range_that_is_no_range_is_refused() {
        let schedule = || Schedule::new(BetaSchedule::Linear, 4, 1e-3, 0.2).unwrap();
        for range in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let refusal = ReverseProcess::new(schedule(), Prediction::V, Some(range)).unwrap_err().to_string();
            assert!(refusal.starts_with("clip_sample_range"), "{refusal}");
        }
    }
}
