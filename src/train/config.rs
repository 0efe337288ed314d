//! All that decides what a training run computes. Stored with the run; two runs of one config give the same bits.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::adamw::AdamW;
use super::learning_rate::Decay;
use crate::data::Dataset;
use crate::diffusion::{BetaSchedule, Prediction, Schedule};
use crate::models::{CLASS_NAME, NetworkConfig};
use crate::pipeline::Scheduler;
use crate::{Error, Result, atomic};

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
    /// The network.
    pub model: NetworkConfig,
    /// The noise.
    pub schedule: ScheduleConfig,
    /// The steps downhill.
    pub optimizer: OptimizerConfig,
    /// The longest memory of the averaged weights, in 0..1; 0 for no average.
    pub ema_decay: f64,
    /// For a conditional model (`model.num_class_embeds` or `model.num_embeds_ada_norm`), the probability to hide an image's
    /// class, in 0..1. If it is not 0, the last class embedding stands for "no class", which guidance needs.
    pub label_dropout: f64,
    /// Steps from one checkpoint to the next.
    pub checkpoint_every: u64,
    /// Steps from one grid of samples to the next; 0 for none but the last.
    pub sample_every: u64,
    /// Pictures in a grid.
    pub sample_count: usize,
    /// Steps of ancestral sampling for a grid, spread over all T with the trailing spacing.
    pub sample_steps: usize,
    /// The guidance weight of a grid, for a conditional model trained with hidden labels; 1 is none.
    pub sample_guidance: f64,
    /// Validation images that the final evaluation looks at.
    pub evaluation_images: usize,
}

/// The forward process and what the network says of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// `linear`, `scaled_linear`, `squaredcos_cap_v2` (cosine) or `sigmoid`.
    pub beta_schedule: BetaSchedule,
    /// T.
    pub num_train_timesteps: usize,
    /// β₁.
    pub beta_start: f64,
    /// β_T.
    pub beta_end: f64,
    /// `epsilon`, `sample` or `v_prediction`.
    pub prediction_type: Prediction,
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

/// The most steps: images are counted in 64 bits, with at most 65536 images in a step.
const MAX_STEPS: u64 = 1 << 40;

/// The most numbers in the images of a step: 4 GiB of float32.
const MAX_BATCH: usize = 1 << 30;

impl OptimizerConfig {
    /// The optimizer's constants.
    pub fn adamw(&self) -> AdamW {
        AdamW { beta1: self.beta1, beta2: self.beta2, eps: self.eps, weight_decay: self.weight_decay }
    }
}

impl Config {
    /// This config with the fields that `file` has.
    ///
    /// # Errors
    /// A file that is neither TOML nor JSON, a field that is unknown or of another type.
    pub fn with_file(&self, file: &Path) -> Result<Self> {
        let changes = read_changes(file)?;
        let bad = |problem: String| bad_file(file, problem);
        let base = self.with_class(&changes["model"][CLASS_NAME]).map_err(|e| bad(e.to_string()))?;
        let base = serde_json::to_value(base).expect("numbers and strings are JSON");
        let mut fields = Vec::new();
        leaves("", &changes, &|change| change, &mut fields);
        for (name, change) in fields {
            // One at a time, because serde does not say which field had the wrong type.
            read_over(&base, change).map_err(|e| bad(format!("{name}: {e}")))?;
        }
        let config = read_over(&base, changes).map_err(|e| bad(e.to_string()))?;
        config.validate().map_err(|e| bad(e.to_string()))?;
        Ok(config)
    }

    /// This config with a network of another class, where `class` names one: diffusers' defaults of that class for the images
    /// and the classes that this one has.
    fn with_class(&self, class: &Value) -> Result<Self> {
        let mut config = self.clone();
        if let Some(class) = class.as_str().filter(|class| *class != self.model.class_name()) {
            config.model = NetworkConfig::of_class(class, &format!("model.{CLASS_NAME}"))?;
            let size = self.model.image_size().unwrap_or_default();
            config.model.set_images(size, self.model.channels().0)?;
            config.model.set_classes(self.model.classes(self.null_class()), self.label_dropout > 0.0);
        }
        Ok(config)
    }

    /// The full names of the fields that a config file sets: `steps`, `model.num_class_embeds`.
    ///
    /// # Errors
    /// A file that is neither TOML nor JSON.
    pub fn fields_of(file: &Path) -> Result<Vec<String>> {
        let mut fields = Vec::new();
        leaves("", &read_changes(file)?, &|change| change, &mut fields);
        Ok(fields.into_iter().map(|(name, _)| name).collect())
    }

    /// Reads a config that [`to_json`](Config::to_json) wrote.
    ///
    /// # Errors
    /// A field that is missing, unknown, of another type or out of range.
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        let config: Config = serde_json::from_str(text)
            .map_err(|e| Error::file(path, format!("not the config of a run: {e}"), "start the run again"))?;
        config.validate()?;
        Ok(config)
    }

    /// The whole config as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings are JSON") + "\n"
    }

    /// Refuses values with which no run is possible.
    ///
    /// # Errors
    /// The first field that does not hold.
    pub fn validate(&self) -> Result<()> {
        let check = |holds: bool, field: &str, expected: &str, found: &dyn std::fmt::Display| {
            if holds { Ok(()) } else { Err(Error::value(field, expected, found)) }
        };
        let o = &self.optimizer;
        let fraction = |x: f64| (0.0..1.0).contains(&x);
        check((1..=MAX_STEPS).contains(&self.steps), "steps", "1 to 2^40", &self.steps)?;
        check(
            self.data.to_str().is_some(),
            "data",
            "a path of UTF-8, which train.json can hold",
            &self.data.display(),
        )?;
        check((1..=1 << 16).contains(&self.batch_size), "batch_size", "1 to 65536 images", &self.batch_size)?;
        check(fraction(self.ema_decay), "ema_decay", "0 (off) or a number below 1", &self.ema_decay)?;
        check(fraction(self.label_dropout), "label_dropout", "a probability in 0..1", &self.label_dropout)?;
        check(self.checkpoint_every > 0, "checkpoint_every", "at least 1 step", &self.checkpoint_every)?;
        check((1..=4096).contains(&self.sample_count), "sample_count", "1 to 4096 pictures", &self.sample_count)?;
        check(self.sample_guidance.is_finite(), "sample_guidance", "a finite number", &self.sample_guidance)?;
        check(self.evaluation_images > 0, "evaluation_images", "at least 1", &self.evaluation_images)?;
        check(o.lr.is_finite() && o.lr > 0.0, "optimizer.lr", "a positive number", &o.lr)?;
        check(fraction(o.beta1), "optimizer.beta1", "a number in 0..1", &o.beta1)?;
        check(fraction(o.beta2), "optimizer.beta2", "a number in 0..1", &o.beta2)?;
        check(o.eps.is_finite() && o.eps > 0.0, "optimizer.eps", "a positive number", &o.eps)?;
        check(
            o.weight_decay.is_finite() && o.weight_decay >= 0.0,
            "optimizer.weight_decay",
            "0 or more",
            &o.weight_decay,
        )?;
        check(o.clip_norm.is_finite() && o.clip_norm >= 0.0, "optimizer.clip_norm", "0 (off) or more", &o.clip_norm)?;
        self.model.validate("model")?;
        let Some((height, width)) = self.model.image_size() else {
            return Err(Error::value("model.sample_size", "height and width", "null"));
        };
        let numbers = self.batch_size.saturating_mul(height * width * self.model.channels().0);
        check(
            numbers <= MAX_BATCH,
            "batch_size",
            "fewer images: at most 2^30 numbers in the images of a step",
            &format!("{}, with {numbers} numbers", self.batch_size),
        )?;
        let (channels_in, channels_out) = self.model.channels();
        check(channels_in == channels_out, "model.out_channels", "as many as in_channels", &channels_out)?;
        let steps = 1..=self.schedule.num_train_timesteps;
        check(steps.contains(&self.sample_steps), "sample_steps", "1 to num_train_timesteps", &self.sample_steps)?;
        self.scheduler().map(|_| ())
    }

    /// The scheduler that the trained model is saved with: DDPM with fixed small variance, pixels clipped to [−1, 1], and a
    /// shorter chain starting at T.
    ///
    /// # Errors
    /// A schedule that is out of range.
    pub fn scheduler(&self) -> Result<Scheduler> {
        let s = &self.schedule;
        let schedule = Schedule::new(s.beta_schedule, s.num_train_timesteps, s.beta_start, s.beta_end)?;
        Scheduler::new(schedule, s.prediction_type, Some(1.0))
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
        self.validate()?;
        Ok(self)
    }

    /// As many labels as the images have classes, and one more for "no class" where labels are hidden.
    pub(crate) fn adapt_classes(&mut self, data: &Dataset) {
        self.model.set_classes(data.classes(), self.label_dropout > 0.0);
    }

    /// The label that stands for "no class": the last, if labels are hidden in training.
    pub fn null_class(&self) -> Option<usize> {
        self.model.null_class(self.label_dropout > 0.0)
    }
}

fn bad_file(file: &Path, problem: String) -> Error {
    Error::file(file, problem, "`ancestral train --print-config` prints every field with its meaning")
}

/// What a config file says, as JSON. TOML has no null: there the text "none" stands for it.
fn read_changes(file: &Path) -> Result<Value> {
    let text = atomic::read_text(file)?;
    let text = text.trim_start_matches('\u{feff}'); // a byte order mark, as some editors write it
    if file.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        return serde_json::from_str(text).map_err(|e| bad_file(file, format!("not JSON: {e}")));
    }
    let mut changes = toml::from_str(text).map_err(|e: toml::de::Error| {
        // Its own Display repeats the line, however long.
        let line = e.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.split('\n').count());
        bad_file(file, format!("not TOML: line {line}: {}", e.message()))
    })?;
    none_to_null(&mut changes);
    Ok(changes)
}

fn none_to_null(value: &mut Value) {
    match value {
        Value::String(text) if text == "none" => *value = Value::Null,
        Value::Object(fields) => fields.values_mut().for_each(none_to_null),
        _ => {}
    }
}

/// The config that is `base` with `changes`.
fn read_over(base: &Value, changes: Value) -> std::result::Result<Config, serde_json::Error> {
    let mut merged = base.clone();
    merge(&mut merged, changes);
    serde_json::from_value(merged)
}

/// Each value of `changes` that is no table: its full name, and the changes that it alone makes, which `within` puts
/// into their tables.
fn leaves(table: &str, changes: &Value, within: &dyn Fn(Value) -> Value, found: &mut Vec<(String, Value)>) {
    for (key, value) in changes.as_object().into_iter().flatten() {
        let (name, alone) = (format!("{table}{key}"), |value| within(json!({ key: value })));
        match value {
            Value::Object(_) => leaves(&format!("{name}."), value, &alone, found),
            _ => found.push((name, alone(value.clone()))),
        }
    }
}

/// Puts the fields of `changes` over those of `base`, table by table.
fn merge(base: &mut Value, changes: Value) {
    match (base, changes) {
        (Value::Object(base), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(base.entry(key).or_insert(Value::Null), change);
            }
        }
        (base, change) => *base = change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::DitConfig;
    use crate::train::preset::Preset;

    fn with_text(name: &str, text: &str) -> Result<Config> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("a file");
        Preset::Tiny.config().with_file(&file)
    }

    #[test]
    fn config_file_changes_only_the_fields_it_has() {
        let toml = with_text("c.toml", "steps = 7\n[optimizer]\nlr = 0.5\n").expect("two known fields");
        let json = with_text("c.json", "{\"steps\": 7, \"optimizer\": {\"lr\": 0.5}}").expect("the same");
        let mut expected = Preset::Tiny.config();
        expected.steps = 7;
        expected.optimizer.lr = 0.5;
        assert_eq!((&toml, &json), (&expected, &expected));
    }

    #[test]
    fn config_file_with_an_unknown_field_or_value_is_refused_by_name() {
        for (text, name) in [
            ("stepz = 7", "stepz"),
            ("[optimizer]\nlearning_rate = 1.0", "learning_rate"),
            ("[model]\nact_fn = \"mish\"", "act_fn"),
            ("[schedule]\nbeta_schedule = \"cubic\"", "cubic"),
            ("batch_size = 0", "batch_size"),
            ("[optimizer]\nlr = nan", "lr"),
            ("[optimizer]\nlr = \"high\"", "optimizer.lr"),
            ("[model]\nsample_size = \"big\"", "model.sample_size"),
            ("[model]\nlayers_per_block = -1", "model.layers_per_block"),
            ("optimizer = 1", "optimizer"),
            ("steps = 9000000000000000000", "steps"),
            ("batch_size = 65536\n[model]\nsample_size = 256", "batch_size"),
        ] {
            let error = with_text("c.toml", text).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("c.toml"), "{error}");
        }
    }

    #[test]
    fn config_file_with_another_class_of_network_has_its_defaults_for_the_same_images_and_classes() {
        let text = "[model]\n_class_name = \"DiTTransformer2DModel\"\nnum_layers = 3\npatch_size = 4\n";
        let model = with_text("c.toml", text).expect("another network").model;
        let expected = DitConfig {
            sample_size: 16,
            in_channels: 1,
            num_layers: 3,
            patch_size: 4,
            num_embeds_ada_norm: 0,
            ..DitConfig::default()
        };
        assert_eq!(model, expected.into());
        for (text, name) in [
            ("[model]\n_class_name = \"VQModel\"", "VQModel"),
            ("[model]\n_class_name = \"DiTTransformer2DModel\"\nlayers_per_block = 3", "model.layers_per_block"),
            ("[model]\n_class_name = \"DiTTransformer2DModel\"\nnum_layers = \"many\"", "model.num_layers"),
            ("[model]\n_class_name = \"DiTTransformer2DModel\"\npatch_size = 3", "sample_size"),
            ("[model]\n_class_name = \"DiTTransformer2DModel\"\nout_channels = 2", "model.out_channels"),
            ("[model]\nnum_layers = 3", "model.num_layers"),
        ] {
            let error = with_text("c.toml", text).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("c.toml"), "{error}");
        }
    }

    #[test]
    fn config_written_and_read_is_the_same() {
        for preset in Preset::ALL {
            let config = preset.config();
            assert_eq!(Config::from_json(&config.to_json(), Path::new("train.json")).expect("our own file"), config);
        }
    }
}
