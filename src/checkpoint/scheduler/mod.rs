//! `scheduler_config.json` of `diffusers`: how a model was noised, what it predicts, how it is sampled.
//!
//! Read and written are `DDPMScheduler` and `DDIMScheduler`, in the fields of diffusers 0.42.1. A field that is absent
//! has the default of `diffusers`; a field that changes the result in a way we do not compute is refused, and so is one
//! that is unknown. Keys that start with `_` are notes. `diffusers` leaves the fields of one class there when it makes
//! another scheduler from it, so each class accepts, unread, those of the others. Of a class with the same noise and
//! another sampler (`foreign`), [`read`] takes the noise.

mod foreign;

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use self::foreign::Foreign;
use super::python_json::{self, excerpt};
use crate::diffusion::{BetaSchedule, Prediction, Schedule};
use crate::models::DIFFUSERS_VERSION;
use crate::pipeline::Scheduler;
use crate::sample::{Choice, Sampler, SamplerOptions, Spacing};
use crate::{Error, Result, atomic};

/// The sampler of a model whose own sampler is not here.
const STAND_IN: Sampler = Sampler::Ddpm;

/// Reads a `scheduler_config.json`, and says which sampler stands in for the model's own, if one does.
///
/// # Errors
/// If the file cannot be read; as [`from_json`], but for classes with the same noise.
pub fn read(path: &Path) -> Result<(Scheduler, Option<String>)> {
    let (scheduler, foreign) = understand(&atomic::read_text(path)?, path)?;
    let note = |foreign: &Foreign| {
        let (path, class, stand_in) = (path.display(), foreign.class, STAND_IN.entry().name);
        format!(
            "{path}: {class} is not a sampler here; its noise is read, and {stand_in} draws unless another is chosen"
        )
    };
    Ok((scheduler, foreign.map(note)))
}

/// Understands the text of a `scheduler_config.json`; `path` is for messages.
///
/// # Errors
/// If it is no JSON object, its class is no sampler here, or a field is unknown, of another type, out of range, or asks
/// for what is not implemented.
pub fn from_json(text: &str, path: &Path) -> Result<Scheduler> {
    match understand(text, path)? {
        (scheduler, None) => Ok(scheduler),
        (_, Some(foreign)) => Err(no_sampler(path, foreign.class)),
    }
}

/// The scheduler, and its class if that is no sampler here.
fn understand(text: &str, path: &Path) -> Result<(Scheduler, Option<&'static Foreign>)> {
    let mut fields = Fields { path, map: python_json::object(text, path)? };

    let class = fields.take("_class_name", String::new())?;
    let foreign = Foreign::of_class(&class);
    let Some(sampler) = Sampler::of_class(&class).or(foreign.map(|_| STAND_IN)) else {
        return Err(no_sampler(path, &class));
    };
    let options = fields.options(sampler)?;
    let (beta_start, beta_end) = foreign.map_or(foreign::USUAL_BETAS, |foreign| foreign.betas);
    let schedule = Schedule::new(
        fields.take("beta_schedule", BetaSchedule::Linear)?,
        fields.take("num_train_timesteps", 1000)?,
        fields.take("beta_start", beta_start)?,
        fields.take("beta_end", beta_end)?,
    );
    let trained_betas: Option<Vec<f64>> = fields.take("trained_betas", None)?;
    let zero_terminal_snr = fields.take("rescale_betas_zero_snr", false)?;
    let schedule = schedule
        .and_then(|schedule| match trained_betas {
            Some(betas) => schedule.with_betas(betas),
            None => Ok(schedule),
        })
        .and_then(|schedule| if zero_terminal_snr { schedule.with_zero_terminal_snr() } else { Ok(schedule) });
    let prediction = fields.prediction()?;
    let clip_sample = fields.take("clip_sample", true)?;
    let clip_sample_range: f64 = fields.take("clip_sample_range", 1.0)?;
    let clip = clip_sample.then_some(clip_sample_range);
    let mut scheduler = schedule
        .and_then(|schedule| Scheduler::new(schedule, prediction, clip))
        .map_err(|error| in_file(path, error))?;
    (scheduler.sampler, scheduler.options) = (sampler, options);
    scheduler.spacing = fields.take("timestep_spacing", foreign.map_or(Spacing::Leading, |foreign| foreign.spacing))?;
    scheduler.steps_offset = fields.take("steps_offset", 0)?;

    fields.only("thresholding", json!(false))?;
    // These two say how to threshold, and so nothing here.
    fields.take("dynamic_thresholding_ratio", 0.995)?;
    fields.take("sample_max_value", 1.0)?;
    foreign::without_effect().into_iter().try_for_each(|(name, value)| fields.only(name, value))?;
    fields.end()?;
    Ok((scheduler, foreign))
}

/// A class with which nothing is sampled.
fn no_sampler(path: &Path, class: &str) -> Error {
    let known: Vec<String> = Sampler::ALL.iter().map(|sampler| format!("{:?}", sampler.entry().class)).collect();
    refuse(path, "_class_name", &known.join(" or "), &json!(class))
}

/// The options that a file holds.
const FILE_CHOICES: [Choice; 2] = [Choice::Variance, Choice::SetAlphaToOne];

/// diffusers' name of an option.
fn field_of(choice: Choice) -> &'static str {
    match choice {
        Choice::Eta => "eta",
        Choice::Variance => "variance_type",
        Choice::SetAlphaToOne => "set_alpha_to_one",
    }
}

/// Writes a `scheduler_config.json`, whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn write(scheduler: &Scheduler, path: &Path) -> Result<()> {
    atomic::write(path, to_json(scheduler).as_bytes())
}

/// The text of the `scheduler_config.json`, every field that diffusers 0.42.1 writes for the class, in its order.
pub fn to_json(scheduler: &Scheduler) -> String {
    let Scheduler { schedule, prediction, clip, sampler, options, .. } = scheduler;
    let mut config = json!({
        "_class_name": sampler.entry().class,
        "_diffusers_version": DIFFUSERS_VERSION,
        "beta_end": schedule.beta_end(),
        "beta_schedule": schedule.curve(),
        "beta_start": schedule.beta_start(),
        "clip_sample": clip.is_some(),
        "clip_sample_range": clip.unwrap_or(1.0),
        "dynamic_thresholding_ratio": 0.995,
        "num_train_timesteps": schedule.t_max(),
        "prediction_type": prediction,
        "rescale_betas_zero_snr": schedule.zero_terminal_snr(),
        "sample_max_value": 1.0,
        "steps_offset": scheduler.steps_offset,
        "thresholding": false,
        "timestep_spacing": scheduler.spacing,
        "trained_betas": schedule.trained_betas(),
    });
    for choice in FILE_CHOICES.into_iter().filter(|&choice| sampler.takes(choice)) {
        config[field_of(choice)] = match choice {
            Choice::Variance => json!(options.variance),
            Choice::SetAlphaToOne => json!(options.set_alpha_to_one),
            Choice::Eta => json!(options.eta),
        };
    }
    format!("{config:#}\n")
}

/// The fields of the file that were not understood yet.
struct Fields<'a> {
    path: &'a Path,
    map: Map<String, Value>,
}

impl Fields<'_> {
    /// Takes out a field of type `T`, or the default if it is absent.
    fn take<T: DeserializeOwned>(&mut self, name: &str, default: T) -> Result<T> {
        let Some(value) = self.map.remove(name) else { return Ok(default) };
        T::deserialize(&value).map_err(|cause| {
            // Serde ends its messages with ", expected f64" or ", expected one of `linear`, ...".
            let cause = cause.to_string();
            let expected = cause.rsplit_once("expected ").map_or(cause.as_str(), |(_, expected)| expected);
            self.refuse(name, expected, &value)
        })
    }

    /// What the sampler is told; what only others are told is left aside.
    fn options(&mut self, sampler: Sampler) -> Result<SamplerOptions> {
        let mut options = SamplerOptions::default();
        for choice in FILE_CHOICES {
            let name = field_of(choice);
            let Some(value) = self.map.remove(name).filter(|value| sampler.takes(choice) && !value.is_null()) else {
                continue;
            };
            self.map.insert(name.into(), value);
            match choice {
                Choice::Variance => options.variance = self.take(name, options.variance)?,
                Choice::SetAlphaToOne => options.set_alpha_to_one = self.take(name, options.set_alpha_to_one)?,
                Choice::Eta => {}
            }
        }
        Ok(options)
    }

    /// What is predicted. Files of 2022 have `predict_epsilon` for it.
    fn prediction(&mut self) -> Result<Prediction> {
        let Some(epsilon) = self.take::<Option<bool>>("predict_epsilon", None)? else {
            return self.take("prediction_type", Prediction::Epsilon);
        };
        let implied = if epsilon { Prediction::Epsilon } else { Prediction::Sample };
        let prediction = self.take("prediction_type", implied)?;
        if prediction != implied {
            let expected = format!("what prediction_type says, {}", json!(prediction));
            return Err(self.refuse("predict_epsilon", &expected, &json!(epsilon)));
        }
        Ok(prediction)
    }

    /// Takes out a field of which one value alone is implemented.
    fn only(&mut self, name: &str, implemented: Value) -> Result<()> {
        match self.map.remove(name) {
            Some(value) if value != implemented => {
                Err(self.refuse(name, &format!("{implemented}, all that is implemented"), &value))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what is left, but for notes and what nothing here reads.
    fn end(self) -> Result<()> {
        let idle = |name: &str| name.starts_with('_') || foreign::UNREAD.contains(&name);
        match self.map.iter().find(|(name, _)| !idle(name)) {
            Some((name, value)) => Err(self.refuse(name, "no field of this name: it is unknown", value)),
            None => Ok(()),
        }
    }

    fn refuse(&self, name: &str, expected: &str, found: &Value) -> Error {
        refuse(self.path, name, expected, found)
    }
}

fn refuse(path: &Path, name: &str, expected: &str, found: &Value) -> Error {
    in_file(path, Error::value(excerpt(name), expected, excerpt(&found.to_string())))
}

/// The same error with the file before its field.
fn in_file(path: &Path, error: Error) -> Error {
    match error {
        Error::Value { field, expected, found } => {
            Error::Value { field: format!("{}: {field}", path.display()), expected, found }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
