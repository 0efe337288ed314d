//! All that decides what a training run computes. Stored with the run; two runs of one config give the same bits.

mod check;
mod file;
mod noise;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::adamw::AdamW;
use super::goal::ObjectiveConfig;
use super::learning_rate::Decay;
use crate::Result;
use crate::data::Dataset;
use crate::models::NetworkConfig;
use crate::pipeline::UsualGuidance;
use crate::sample::Sampler;

pub use noise::{EdmConfig, FlowConfig, PredictionType, ScheduleConfig};

/// A training run. Every field can stand in a config file under its name, TOML or JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The seed of everything random.
    pub seed: u64,
    /// Training steps.
    pub steps: u64,
    /// Images in a step.
    pub batch_size: usize,
    /// A folder of images, or `shapes`.
    pub data: PathBuf,
    /// Whether every other image is shown mirrored, left for right: for photographs, not for digits or letters.
    #[serde(default, skip_serializing_if = "is_default")]
    pub flip: bool,
    /// The network.
    pub model: NetworkConfig,
    /// The noise.
    pub schedule: ScheduleConfig,
    /// That of flow matching.
    #[serde(default, skip_serializing_if = "is_default")]
    pub flow: FlowConfig,
    /// That of EDM.
    #[serde(default, skip_serializing_if = "is_default")]
    pub edm: EdmConfig,
    /// What is learned, and from which times.
    #[serde(default, skip_serializing_if = "is_default")]
    pub objective: ObjectiveConfig,
    /// The steps downhill.
    pub optimizer: OptimizerConfig,
    /// The longest memory of the averaged weights, in 0..1; 0 for no average.
    pub ema_decay: f64,
    /// Steps from one snapshot of the averages whose width is chosen afterwards to the next; 0 keeps none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub post_hoc_every: u64,
    /// For a conditional model (`model.num_class_embeds` or `model.num_embeds_ada_norm`), the probability to hide an image's
    /// class, in 0..1. If it is not 0, the last class embedding stands for "no class", which guidance needs.
    pub label_dropout: f64,
    /// Steps from one checkpoint to the next.
    pub checkpoint_every: u64,
    /// Steps from one grid of samples to the next; 0 for none but the last.
    pub sample_every: u64,
    /// Pictures in a grid.
    pub sample_count: usize,
    /// The sampler that the model is saved with and grids are drawn by, by its name; `None` is `ddpm`, or `flow-euler` and
    /// `edm-dpm` for their noise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sampler: Option<Sampler>,
    /// Steps of sampling for a grid, spread over all T with the trailing spacing.
    pub sample_steps: usize,
    /// The guidance weight of a grid and of the saved model, for a conditional model trained with hidden labels; 1 is none.
    pub sample_guidance: f64,
    /// The least and the largest sigma/signal at which there is guidance; `None` is everywhere.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sample_guidance_interval: Option<(f64, f64)>,
    /// Steps from one look at the loss on validation images to the next; 0 for none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub validate_every: u64,
    /// Validation images that the final evaluation looks at, and of which at most 128 make the loss in between.
    pub evaluation_images: usize,
}

/// AdamW and what surrounds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The highest learning rate.
    pub lr: f64,
    /// Steps from lr/warm_up_steps to lr.
    pub warm_up_steps: u64,
    /// `constant` or `cosine`, after the warm-up.
    pub decay: Decay,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root.
    pub eps: f64,
    /// Fraction of a weight removed a step, times the learning rate.
    pub weight_decay: f64,
    /// The longest gradient; 0 for any length.
    pub clip_norm: f64,
}

impl OptimizerConfig {
    /// The optimizer's constants.
    pub fn adamw(&self) -> AdamW {
        AdamW { beta1: self.beta1, beta2: self.beta2, eps: self.eps, weight_decay: self.weight_decay }
    }
}

impl Config {
    /// How the trained model is guided.
    pub fn guidance(&self) -> UsualGuidance {
        UsualGuidance { weight: self.sample_guidance, interval: self.sample_guidance_interval }
    }

    /// This config for the images at hand: their size, their channels, and their classes with one label more for "no class"
    /// where labels are hidden in training; no classes where the images have none.
    ///
    /// # Errors
    /// Images that the network cannot be run on.
    pub fn for_images(mut self, data: &Dataset) -> Result<Self> {
        let shape = data.shape();
        self.model.set_images((shape.height, shape.width), shape.channels)?;
        self.adapt_classes(data);
        self.adapt_channels();
        self.validate()?;
        Ok(self)
    }

    /// As many labels as the images have classes, and one more for "no class" where labels are hidden.
    pub(crate) fn adapt_classes(&mut self, data: &Dataset) {
        self.model.set_classes(data.classes(), self.label_dropout > 0.0);
    }

    /// As many channels of the output as the objective asks for.
    fn adapt_channels(&mut self) {
        let (channels, _) = self.model.channels();
        self.model.set_channels_out(self.objective.halves() * channels);
    }

    /// The label that stands for "no class": the last, if labels are hidden in training.
    pub fn null_class(&self) -> Option<usize> {
        self.model.null_class(self.label_dropout > 0.0)
    }
}

/// Such a field is left out, so that a run is written as it was before there was a choice.
fn is_default<T: Default + PartialEq>(field: &T) -> bool {
    *field == T::default()
}

#[cfg(test)]
mod tests;
