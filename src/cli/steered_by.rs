//! The flags of classifier guidance, for the subcommands that draw.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::flag;
use crate::Result;
use crate::checkpoint::classifier::{self, Saved};
use crate::denoise::Steering;
use crate::pipeline::Pipeline;

/// A classifier that pulls.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SteeredBy {
    /// Also pull each picture towards what this classifier of noisy images reads as its class: the folder of `classify train
    /// --noisy`
    #[arg(long, value_name = "DIR")]
    classifier: Option<PathBuf>,
    /// How strongly it pulls: 0 not at all, 1 as Bayes' rule says
    #[arg(long, value_name = "S", default_value_t = 1.0, allow_negative_numbers = true, requires = "classifier")]
    classifier_scale: f64,
}

impl SteeredBy {
    /// The model with the classifier, where one is named.
    ///
    /// # Errors
    /// A folder without one, or one that does not fit the model.
    pub fn attach(&self, model: Pipeline) -> Result<Pipeline> {
        let Some(folder) = &self.classifier else { return Ok(model) };
        let Saved { classifier, weights, .. } = classifier::read(folder)?;
        Steering::new(classifier, weights, self.classifier_scale)
            .and_then(|steering| model.with_classifier(steering))
            .map_err(|error| flag(error, &["classifier", "classifier_scale"]))
    }

    /// What pulled, by the flags' names.
    pub fn to_json(&self) -> Value {
        let scale = self.classifier.as_ref().map(|_| self.classifier_scale);
        json!({"classifier": self.classifier.as_ref().map(|folder| folder.to_string_lossy()), "classifier_scale": scale})
    }
}
