//! What diffusers calls a scheduler: the noise a model was trained with, and the sampler it was published with.

use crate::denoise::{Sight, Threshold};
use crate::diffusion::{Prediction, Schedule};
use crate::sample::{Sampler, SamplerOptions, Spacing, Transition, spread_last};
use crate::{Error, Result};

/// The noise, the meaning of the network's output, and how it is sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduler {
    /// The noise schedule of the model's training.
    pub schedule: Schedule,
    /// What the network's output means.
    pub prediction: Prediction,
    /// x̂₀ is clipped to [−clip, clip]: 1 for pixels in [−1, 1], `None` for data without bounds.
    pub clip: Option<f64>,
    /// Dynamic thresholding in the place of clipping.
    pub threshold: Option<Threshold>,
    /// How fewer than T sampling steps are spread.
    pub spacing: Spacing,
    /// By how many steps the leading spacing is shifted towards T.
    pub steps_offset: usize,
    /// The rule of a reverse step.
    pub sampler: Sampler,
    /// What the sampler is told beside.
    pub options: SamplerOptions,
}

impl Scheduler {
    /// Ancestral sampling with the variance β̃ and the trailing spacing, which starts at T.
    ///
    /// # Errors
    /// If the prediction is impossible under the schedule ([`Prediction::check`]), or `clip` is not positive and finite.
    pub fn new(schedule: Schedule, prediction: Prediction, clip: Option<f64>) -> Result<Self> {
        prediction.check(&schedule)?;
        if let Some(range) = clip.filter(|range| !(*range > 0.0 && range.is_finite())) {
            return Err(Error::value("clip_sample_range", "a positive number", range));
        }
        let (spacing, sampler, options) = (Spacing::Trailing, Sampler::Ddpm, SamplerOptions::default());
        Ok(Scheduler { schedule, prediction, clip, threshold: None, spacing, steps_offset: 0, sampler, options })
    }

    /// The transitions of a chain of this many steps of its sampler.
    ///
    /// # Errors
    /// As [`spread`](fn@crate::sample::spread).
    pub fn chain(&self, steps: usize) -> Result<Vec<Transition>> {
        self.last_of_chain(steps, steps)
    }

    /// The transitions of the last `kept` steps of that chain.
    ///
    /// # Errors
    /// As [`spread_last`](fn@spread_last).
    pub fn last_of_chain(&self, steps: usize, kept: usize) -> Result<Vec<Transition>> {
        // All T times leave no room for an offset.
        let offset = if steps == self.schedule.t_max() { 0 } else { self.steps_offset };
        spread_last(&self.schedule, (steps, self.spacing, offset), kept, self.sampler, &self.options)
    }

    /// Steps of a chain whose length nobody chose.
    pub fn usual_steps(&self) -> usize {
        self.sampler.entry().steps.min(self.schedule.t_max())
    }

    /// Whether diffusers' class of a sampler in sigma begins with noise of the deviation σ, not √(σ² + 1): where the spacing
    /// starts at T.
    pub(crate) fn first_noise_is_alone(&self, sampler: Sampler) -> bool {
        self.spacing != Spacing::Leading && !matches!(sampler, Sampler::EdmEuler | Sampler::EdmDpm)
    }

    /// The range that x̂₀ is clipped to, number by number: [−r, r]. Thresholding whose quantile may be no more than 1 clips to
    /// [−1, 1] and divides by 1. None where x̂₀ is not clipped, or divided by a quantile of its own.
    pub fn clip_range(&self) -> Option<f64> {
        self.threshold.map_or(self.clip, |threshold| Some(1.0).filter(|_| threshold.most == 1.0))
    }

    /// How an output of the network is read.
    pub fn sight(&self) -> Sight {
        let eps_from_clipped_x_0 = self.options.conventions.eps_from_clipped_x_0;
        Sight { clip: self.clip, threshold: self.threshold, eps_from_clipped_x_0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::BetaSchedule;

    #[test]
    fn thresholding_by_at_most_one_is_clipping_to_one_and_by_more_is_none() {
        let schedule = Schedule::new(BetaSchedule::Linear, 4, 1e-3, 0.2).unwrap();
        let clipping = Scheduler::new(schedule, Prediction::V, Some(1.5)).unwrap();
        let by = |most| Scheduler { threshold: Some(Threshold { ratio: 0.9, most }), ..clipping.clone() };
        let found = [clipping.clone(), by(1.0), by(2.0)].map(|scheduler| scheduler.clip_range());
        assert_eq!(found, [Some(1.5), Some(1.0), None]);
        // What it says is what is done: of sizes 0.2 to 3 a quantile is above 1.
        let (x, level) = (ndarray::arr1(&[0.2, -0.8, 3.0, -1.5]).into_shape_with_order((1, 2, 2, 1)).unwrap(), 0.4);
        let output = crate::denoise::Output::new(Prediction::Sample, x.clone());
        let seen = by(1.0).sight().estimate(&x, crate::diffusion::Level::of_alpha_bar(2.0, level), &output).x_0_hat;
        assert_eq!(seen.iter().copied().collect::<Vec<f64>>(), [0.2, -0.8, 1.0, -1.0]);
    }

    #[test]
    fn clip_range_that_is_no_range_is_refused() {
        let schedule = || Schedule::new(BetaSchedule::Linear, 4, 1e-3, 0.2).unwrap();
        for range in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let refusal = Scheduler::new(schedule(), Prediction::V, Some(range)).unwrap_err().to_string();
            assert!(refusal.starts_with("clip_sample_range"), "{refusal}");
        }
    }
}
