//! `scheduler_config.json` of `diffusers`: how a model was noised, what it predicts, how it is sampled.
//!
//! Read and written is the class of every [`Sampler`], in the fields of diffusers 0.42.1 (`classes.json` has them with
//! their defaults). A field that is absent has the default of `diffusers`; a field that changes the result in a way we do not
//! compute is refused, and so is one that is unknown. Keys that start with `_` are notes. `diffusers` leaves the fields of one
//! class there when it makes another scheduler from it, so each class accepts, unread, those of the others. Of a class with
//! the same noise and another sampler (`foreign`), [`read`] takes the noise.

mod class;
mod fields;
mod foreign;
mod options;

use std::path::Path;

use serde_json::{Value, json};

use self::class::Class;
use self::fields::{Fields, in_file, refuse};
use self::foreign::Foreign;
use super::python_json;
use crate::denoise::Threshold;
use crate::diffusion::{BetaSchedule, Prediction, Process, Schedule};
use crate::pipeline::Scheduler;
use crate::sample::Sampler;
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
    let mut map = python_json::object(text, path)?;
    let class = match map.remove("_class_name") {
        Some(Value::String(class)) => class,
        other => return Err(refuse(path, "_class_name", "the name of a class", &other.unwrap_or(Value::Null))),
    };
    let foreign = Foreign::of_class(&class);
    let Some(sampler) = Sampler::of_class(&class).or(foreign.map(|_| STAND_IN)) else {
        return Err(no_sampler(path, &class));
    };
    let mut class = Class::of(sampler);
    if let Some(foreign) = foreign {
        foreign.change(&mut class);
    }
    let mut fields = Fields { path, map, class };

    let schedule = schedule(&mut fields, sampler)?;
    let prediction = prediction(&mut fields, sampler)?;
    let (clips, range): (bool, f64) = (fields.take("clip_sample", false)?, fields.take("clip_sample_range", 1.0)?);
    let mut scheduler =
        Scheduler::new(schedule, prediction, clips.then_some(range)).map_err(|error| in_file(path, error))?;
    scheduler.threshold = threshold(&mut fields)?;
    scheduler.sampler = sampler;
    scheduler.options = options::read(&mut fields, sampler)?;
    scheduler.spacing = fields.take("timestep_spacing", scheduler.spacing)?;
    scheduler.steps_offset = fields.take("steps_offset", 0)?;
    fields.end()?;
    Ok((scheduler, foreign))
}

/// The noise.
fn schedule(fields: &mut Fields, sampler: Sampler) -> Result<Schedule> {
    let t_max = fields.take("num_train_timesteps", 1000)?;
    let schedule = match sampler {
        Sampler::FlowEuler => Schedule::of_process(Process::Flow { shift: fields.take("shift", 1.0)? }, t_max),
        Sampler::EdmEuler | Sampler::EdmDpm => {
            let (sigma_min, sigma_max) = (fields.take("sigma_min", 0.002)?, fields.take("sigma_max", 80.0)?);
            let (spread, rho): (String, f64) =
                (fields.take("sigma_schedule", String::new())?, fields.take("rho", 7.0)?);
            let rho = match spread.as_str() {
                "karras" => Some(rho),
                "exponential" => None,
                other => return Err(fields.refuse("sigma_schedule", "\"karras\" or \"exponential\"", &json!(other))),
            };
            Schedule::of_process(Process::Edm { sigma_min, sigma_max, rho }, t_max)
        }
        _ => {
            let curve = fields.take("beta_schedule", BetaSchedule::Linear)?;
            let (beta_start, beta_end) = (fields.take("beta_start", 1e-4)?, fields.take("beta_end", 0.02)?);
            let trained_betas: Option<Vec<f64>> = fields.take("trained_betas", None)?;
            let zero_terminal_snr = fields.take("rescale_betas_zero_snr", false)?;
            let table = |schedule: Schedule| match trained_betas {
                Some(betas) => schedule.with_betas(betas),
                None => Ok(schedule),
            };
            let end = |schedule: Schedule| match zero_terminal_snr {
                true => schedule.with_zero_terminal_snr(),
                false => Ok(schedule),
            };
            Schedule::new(curve, t_max, beta_start, beta_end).and_then(table).and_then(end)
        }
    };
    schedule.map_err(|error| in_file(fields.path, error))
}

/// What is predicted. Files of 2022 have `predict_epsilon` for it; EDM's classes call its mixture "epsilon".
fn prediction(fields: &mut Fields, sampler: Sampler) -> Result<Prediction> {
    match sampler {
        Sampler::FlowEuler => return Ok(Prediction::Flow),
        Sampler::EdmEuler | Sampler::EdmDpm => {
            fields.only("prediction_type", json!("epsilon"))?;
            let sigma_data: f64 = fields.take("sigma_data", 0.5)?;
            if !(sigma_data > 0.0 && sigma_data.is_finite()) {
                return Err(fields.refuse("sigma_data", "a number above 0", &json!(sigma_data)));
            }
            return Ok(Prediction::Edm(sigma_data));
        }
        _ => {}
    }
    let Some(epsilon) = fields.given::<Option<bool>>("predict_epsilon")?.flatten() else {
        return fields.take("prediction_type", Prediction::Epsilon);
    };
    let implied = if epsilon { Prediction::Epsilon } else { Prediction::Sample };
    let said: Option<Prediction> = fields.given("prediction_type")?;
    match said {
        Some(said) if said != implied => {
            let expected = format!("what prediction_type says, {}", json!(said));
            Err(fields.refuse("predict_epsilon", &expected, &json!(epsilon)))
        }
        _ => Ok(implied),
    }
}

/// Dynamic thresholding, where it is on.
fn threshold(fields: &mut Fields) -> Result<Option<Threshold>> {
    let on = fields.take("thresholding", false)?;
    let threshold = Threshold {
        ratio: fields.take("dynamic_thresholding_ratio", 0.995)?,
        most: fields.take("sample_max_value", 1.0)?,
    };
    if on && !(threshold.ratio > 0.0 && threshold.ratio <= 1.0) {
        return Err(fields.refuse("dynamic_thresholding_ratio", "above 0, at most 1", &json!(threshold.ratio)));
    }
    if on && !(threshold.most >= 1.0 && threshold.most.is_finite()) {
        return Err(fields.refuse("sample_max_value", "1 or above", &json!(threshold.most)));
    }
    Ok(on.then_some(threshold))
}

/// A class with which nothing is sampled.
fn no_sampler(path: &Path, class: &str) -> Error {
    let known: Vec<String> = Sampler::ALL.iter().map(|sampler| format!("{:?}", sampler.entry().class)).collect();
    refuse(path, "_class_name", &known.join(" or "), &json!(class))
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
    let mut config = Class::of(scheduler.sampler).0;
    for (name, value) in config.iter_mut() {
        if let Some(ours) = noise_field(name, scheduler).or_else(|| options::field(name, &scheduler.options)) {
            *value = ours;
        }
    }
    config.insert("_class_name".into(), json!(scheduler.sampler.entry().class));
    config.insert("_diffusers_version".into(), json!(crate::models::DIFFUSERS_VERSION));
    // Python's json knows the infinite, and diffusers writes it.
    format!("{:#}\n", Value::Object(config)).replace("\"-Infinity\"", "-Infinity")
}

/// What a field of the noise, the prediction or the times says here.
fn noise_field(name: &str, scheduler: &Scheduler) -> Option<Value> {
    let Scheduler { schedule, prediction, clip, threshold, .. } = scheduler;
    let edm = matches!(prediction, Prediction::Edm(_));
    Some(match (name, schedule.process(), prediction) {
        ("beta_end", ..) => json!(schedule.beta_end()),
        ("beta_schedule", ..) => json!(schedule.curve()),
        ("beta_start", ..) => json!(schedule.beta_start()),
        ("clip_sample", ..) => json!(clip.is_some()),
        ("clip_sample_range", ..) => json!(clip.unwrap_or(1.0)),
        ("num_train_timesteps", ..) => json!(schedule.t_max()),
        ("prediction_type", ..) if !edm => json!(prediction),
        ("rescale_betas_zero_snr", ..) => json!(schedule.zero_terminal_snr()),
        ("steps_offset", ..) => json!(scheduler.steps_offset),
        ("thresholding", ..) => json!(threshold.is_some()),
        ("dynamic_thresholding_ratio", ..) => json!(threshold.map_or(0.995, |threshold| threshold.ratio)),
        ("sample_max_value", ..) => json!(threshold.map_or(1.0, |threshold| threshold.most)),
        ("timestep_spacing", ..) => json!(scheduler.spacing),
        ("trained_betas", ..) => json!(schedule.trained_betas()),
        ("shift", Process::Flow { shift }, _) => json!(shift),
        ("sigma_min", Process::Edm { sigma_min, .. }, _) => json!(sigma_min),
        ("sigma_max", Process::Edm { sigma_max, .. }, _) => json!(sigma_max),
        ("rho", Process::Edm { rho: Some(rho), .. }, _) => json!(rho),
        ("sigma_schedule", Process::Edm { rho, .. }, _) => json!(if rho.is_some() { "karras" } else { "exponential" }),
        ("sigma_data", _, Prediction::Edm(sigma_data)) => json!(sigma_data),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
