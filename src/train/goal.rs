//! What a run asks of its network: the loss, the variance, what each time counts, and which times are looked at.

use serde::{Deserialize, Serialize};

use super::timesteps::{Choice, LossHistory, Times, TimestepSampler};
use crate::diffusion::likelihood::{Cdf, Reading};
use crate::diffusion::{Prediction, Schedule, Variance, Weighting};
use crate::{Error, Result};

/// The objective of a run. The default is that of Ho et al. 2020, Algorithm 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// `simple`, `hybrid` or `vlb`.
    pub loss: LossName,
    /// `fixed_small`, `fixed_large`, `learned` or `learned_range`.
    pub variance: Variance,
    /// `simple`, `min_snr`, `p2` or `vlb`.
    pub weighting: WeightingName,
    /// γ of `min_snr`.
    pub min_snr_gamma: f64,
    /// k of `p2`.
    pub p2_k: f64,
    /// γ of `p2`.
    pub p2_gamma: f64,
    /// `uniform`, `stratified`, `loss_aware` or `log_normal`.
    pub timesteps: TimestepSampler,
    /// The mean of ln(sigma/signal) where they are `log_normal`.
    pub log_normal_mean: f64,
    /// Its standard deviation.
    pub log_normal_deviation: f64,
}

/// What is made small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossName {
    /// The squared error of the output (Ho et al. 2020, Eq. 14), weighted.
    #[default]
    Simple,
    /// And a thousandth of the bound, which teaches the variance (Nichol and Dhariwal 2021, Eq. 16).
    Hybrid,
    /// The bound itself (Ho et al. 2020, Eq. 5).
    Vlb,
}

/// [`Weighting`] without its constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightingName {
    /// [`Weighting::Simple`].
    #[default]
    Simple,
    /// [`Weighting::MinSnr`].
    MinSnr,
    /// [`Weighting::P2`].
    P2,
    /// [`Weighting::Vlb`].
    Vlb,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        ObjectiveConfig {
            loss: LossName::Simple,
            variance: Variance::FixedSmall,
            weighting: WeightingName::Simple,
            min_snr_gamma: 5.0,
            p2_k: 1.0,
            p2_gamma: 1.0,
            timesteps: TimestepSampler::Uniform,
            log_normal_mean: -1.2,
            log_normal_deviation: 1.2,
        }
    }
}

impl ObjectiveConfig {
    /// What the loss is, in words.
    pub fn words(&self) -> &'static str {
        match (self.loss, self.weighting) {
            (LossName::Simple, WeightingName::Simple) => "mean squared error of the prediction",
            (LossName::Simple, _) => "weighted squared error of the prediction",
            (LossName::Hybrid, _) => "squared error, and the bound for the variance",
            (LossName::Vlb, _) => "variational bound in bits per dimension",
        }
    }

    /// The weighting with its constants.
    pub fn weighting(&self) -> Weighting {
        match self.weighting {
            WeightingName::Simple => Weighting::Simple,
            WeightingName::MinSnr => Weighting::MinSnr { gamma: self.min_snr_gamma },
            WeightingName::P2 => Weighting::P2 { k: self.p2_k, gamma: self.p2_gamma },
            WeightingName::Vlb => Weighting::Vlb,
        }
    }

    /// What each image counts: by its time, and by how often that is chosen; `None` if all count alike.
    pub fn weights(&self, schedule: &Schedule, prediction: Prediction, times: Times) -> Option<Vec<f64>> {
        let weighting = self.weighting();
        if weighting == Weighting::Simple {
            return times.importance;
        }
        let of_time = times.t.iter().map(|&t| weighting.weight(schedule, prediction, t));
        let importance = times.importance.unwrap_or_else(|| vec![1.0; times.t.len()]);
        Some(of_time.zip(importance).map(|(weight, importance)| weight * importance).collect())
    }

    /// How times are chosen, with the losses so far where they are chosen by those.
    pub fn choice<'a>(&self, schedule: &'a Schedule, history: Option<&'a LossHistory>) -> Choice<'a> {
        let log_normal = (self.log_normal_mean, self.log_normal_deviation);
        Choice { sampler: self.timesteps, schedule, log_normal, history }
    }

    /// How an output is read where the loss is of the bound: not clipped, so that every output has a gradient.
    pub fn reading(&self, prediction: Prediction) -> Reading {
        Reading { prediction, variance: self.variance, clip: None, cdf: Cdf::Erf }
    }

    /// Channels of the output for each of the image.
    pub fn halves(&self) -> usize {
        if self.variance.is_learned() { 2 } else { 1 }
    }

    /// Refuses values with which nothing, or not what was asked, would be learned.
    ///
    /// # Errors
    /// The first field that does not hold.
    pub fn validate(&self, prediction: Prediction) -> Result<()> {
        let refuse = |field: &str, expected: &str, found: String| {
            Err(Error::value(format!("objective.{field}"), expected, found))
        };
        match (self.loss, self.variance.is_learned()) {
            (LossName::Simple, true) => {
                return refuse("loss", "hybrid or vlb: the simple loss teaches no variance", "simple".into());
            }
            (LossName::Hybrid, false) => {
                let found = serde_json::json!(self.variance).to_string();
                return refuse("variance", "learned or learned_range, which the hybrid loss teaches", found);
            }
            _ => {}
        }
        if matches!(prediction, Prediction::Flow | Prediction::Edm(_)) {
            let of_betas = "which is of a table of betas alone";
            if self.loss != LossName::Simple {
                return refuse("loss", &format!("simple: not the bound, {of_betas}"), format!("{:?}", self.loss));
            }
            if self.weighting == WeightingName::Vlb {
                return refuse("weighting", &format!("not that of the bound, {of_betas}"), "vlb".into());
            }
            if self.timesteps == TimestepSampler::LossAware {
                let expected = "uniform, stratified or log_normal with this prediction";
                return refuse("timesteps", expected, "loss_aware".into());
            }
        }
        if self.loss != LossName::Simple && self.weighting != WeightingName::Simple {
            return refuse("weighting", "simple: the bound has weights of its own", format!("{:?}", self.weighting));
        }
        for (field, number) in [("min_snr_gamma", self.min_snr_gamma), ("p2_k", self.p2_k)] {
            if !(number > 0.0 && number.is_finite()) {
                return refuse(field, "a positive number", number.to_string());
            }
        }
        if !(self.p2_gamma >= 0.0 && self.p2_gamma.is_finite()) {
            return refuse("p2_gamma", "0 or more", self.p2_gamma.to_string());
        }
        if !self.log_normal_mean.is_finite() {
            return refuse("log_normal_mean", "a finite number", self.log_normal_mean.to_string());
        }
        if !(self.log_normal_deviation > 0.0 && self.log_normal_deviation.is_finite()) {
            return refuse("log_normal_deviation", "a positive number", self.log_normal_deviation.to_string());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objective_that_would_teach_nothing_is_refused_by_its_field() {
        let default = ObjectiveConfig::default;
        let refused = |objective: ObjectiveConfig| objective.validate(Prediction::Epsilon).unwrap_err().to_string();
        let learned = Variance::LearnedRange;
        assert!(refused(ObjectiveConfig { variance: learned, ..default() }).starts_with("objective.loss"));
        assert!(refused(ObjectiveConfig { loss: LossName::Hybrid, ..default() }).starts_with("objective.variance"));
        let both = ObjectiveConfig { loss: LossName::Vlb, weighting: WeightingName::P2, ..default() };
        assert!(refused(both).starts_with("objective.weighting"));
        assert!(refused(ObjectiveConfig { min_snr_gamma: 0.0, ..default() }).starts_with("objective.min_snr_gamma"));
        assert!(refused(ObjectiveConfig { p2_gamma: f64::NAN, ..default() }).starts_with("objective.p2_gamma"));
        ObjectiveConfig { loss: LossName::Hybrid, variance: learned, ..default() }
            .validate(Prediction::Epsilon)
            .unwrap();
        ObjectiveConfig { loss: LossName::Vlb, ..default() }.validate(Prediction::Epsilon).unwrap();
    }
}
