//! `scheduler_config.json` of `diffusers`: how a model was noised, what it predicts, how it is sampled.
//!
//! Read and written are `DDPMScheduler` and `DDIMScheduler`, in the fields of diffusers 0.42.1. A field that is absent
//! has the default of `diffusers`; a field that changes the result in a way we do not compute is refused, and so is one
//! that is unknown. Keys that start with `_` are notes. Each class accepts, unread, the field that only the other has
//! (`variance_type`, `set_alpha_to_one`): `diffusers` leaves it there when it makes one scheduler from the other.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::diffusion::{BetaSchedule, Prediction, Schedule, Variance};
use crate::models::DIFFUSERS_VERSION;
use crate::pipeline::Scheduler;
use crate::sample::{Choice, Sampler, SamplerOptions, Spacing};
use crate::{Error, Result, atomic};

/// Reads a `scheduler_config.json`.
///
/// # Errors
/// If the file cannot be read, or as [`from_json`].
pub fn read(path: &Path) -> Result<Scheduler> {
    from_json(&atomic::read_text(path)?, path)
}

/// Understands the text of a `scheduler_config.json`; `path` is for messages.
///
/// # Errors
/// If it is no JSON object, its class is neither of the two, or a field is unknown, of another type, out of range,
/// or asks for what is not implemented.
pub fn from_json(text: &str, path: &Path) -> Result<Scheduler> {
    let map = serde_json::from_str(text).map_err(|cause| {
        Error::file(path, format!("expected a JSON object: {cause}"), "save the scheduler again with diffusers")
    })?;
    let mut fields = Fields { path, map };

    let class = fields.take("_class_name", String::new())?;
    let Some(sampler) = Sampler::of_class(&class) else {
        let known: Vec<String> = Sampler::ALL.iter().map(|sampler| format!("{:?}", sampler.entry().class)).collect();
        return Err(fields.refuse("_class_name", &known.join(" or "), &json!(class)));
    };
    let mut options = SamplerOptions::default();
    for choice in FILE_CHOICES {
        let Some(value) = fields.map.remove(field_of(choice)).filter(|_| sampler.takes(choice)) else { continue };
        fields.map.insert(field_of(choice).into(), value);
        match choice {
            Choice::Variance => options.variance = fields.take(field_of(choice), Variance::FixedSmall)?,
            Choice::SetAlphaToOne => options.set_alpha_to_one = fields.take(field_of(choice), true)?,
            Choice::Eta => {}
        }
    }
    let schedule = Schedule::new(
        fields.take("beta_schedule", BetaSchedule::Linear)?,
        fields.take("num_train_timesteps", 1000)?,
        fields.take("beta_start", 1e-4)?,
        fields.take("beta_end", 0.02)?,
    );
    let prediction = fields.take("prediction_type", Prediction::Epsilon)?;
    let clip_sample = fields.take("clip_sample", true)?;
    let clip_sample_range: f64 = fields.take("clip_sample_range", 1.0)?;
    let clip = clip_sample.then_some(clip_sample_range);
    let mut scheduler = schedule
        .and_then(|schedule| Scheduler::new(schedule, prediction, clip))
        .map_err(|error| in_file(path, error))?;
    (scheduler.sampler, scheduler.options) = (sampler, options);
    scheduler.spacing = fields.take("timestep_spacing", Spacing::Leading)?;
    scheduler.steps_offset = fields.take("steps_offset", 0)?;

    fields.only("trained_betas", Value::Null)?;
    fields.only("rescale_betas_zero_snr", json!(false))?;
    fields.only("thresholding", json!(false))?;
    // These two say how to threshold, and so nothing here.
    fields.take("dynamic_thresholding_ratio", 0.995)?;
    fields.take("sample_max_value", 1.0)?;
    fields.end()?;
    Ok(scheduler)
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
        "rescale_betas_zero_snr": false,
        "sample_max_value": 1.0,
        "steps_offset": scheduler.steps_offset,
        "thresholding": false,
        "timestep_spacing": scheduler.spacing,
        "trained_betas": null,
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

    /// Takes out a field of which one value alone is implemented.
    fn only(&mut self, name: &str, implemented: Value) -> Result<()> {
        match self.map.remove(name) {
            Some(value) if value != implemented => {
                Err(self.refuse(name, &format!("{implemented}, all that is implemented"), &value))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what is left, but for notes.
    fn end(self) -> Result<()> {
        match self.map.iter().find(|(name, _)| !name.starts_with('_')) {
            Some((name, value)) => Err(self.refuse(name, "no field of this name: it is unknown", value)),
            None => Ok(()),
        }
    }

    fn refuse(&self, name: &str, expected: &str, found: &Value) -> Error {
        in_file(self.path, Error::value(excerpt(name), expected, excerpt(&found.to_string())))
    }
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

/// At most 80 characters of something from a file.
fn excerpt(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `DDPMScheduler().save_pretrained` of diffusers 0.42.1 writes.
    const DDPM: &str = r#"{
  "_class_name": "DDPMScheduler",
  "_diffusers_version": "0.42.1",
  "beta_end": 0.02,
  "beta_schedule": "linear",
  "beta_start": 0.0001,
  "clip_sample": true,
  "clip_sample_range": 1.0,
  "dynamic_thresholding_ratio": 0.995,
  "num_train_timesteps": 1000,
  "prediction_type": "epsilon",
  "rescale_betas_zero_snr": false,
  "sample_max_value": 1.0,
  "steps_offset": 0,
  "thresholding": false,
  "timestep_spacing": "leading",
  "trained_betas": null,
  "variance_type": "fixed_small"
}
"#;

    /// What `DDIMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False, num_train_timesteps=50,
    /// prediction_type="v_prediction", set_alpha_to_one=False, steps_offset=1, timestep_spacing="trailing")
    /// .save_pretrained` of diffusers 0.42.1 writes.
    const DDIM: &str = r#"{
  "_class_name": "DDIMScheduler",
  "_diffusers_version": "0.42.1",
  "beta_end": 0.02,
  "beta_schedule": "squaredcos_cap_v2",
  "beta_start": 0.0001,
  "clip_sample": false,
  "clip_sample_range": 1.0,
  "dynamic_thresholding_ratio": 0.995,
  "num_train_timesteps": 50,
  "prediction_type": "v_prediction",
  "rescale_betas_zero_snr": false,
  "sample_max_value": 1.0,
  "set_alpha_to_one": false,
  "steps_offset": 1,
  "thresholding": false,
  "timestep_spacing": "trailing",
  "trained_betas": null
}
"#;

    fn parse(text: &str) -> Result<Scheduler> {
        from_json(text, Path::new("model/scheduler_config.json"))
    }

    /// `DDPM` with one field set.
    fn with(name: &str, value: Value) -> String {
        let mut config: Value = serde_json::from_str(DDPM).unwrap();
        config[name] = value;
        config.to_string()
    }

    #[test]
    fn configs_of_diffusers_are_read_and_written_back_to_the_byte() {
        let ddpm = parse(DDPM).unwrap();
        assert_eq!((ddpm.sampler, ddpm.options.variance), (Sampler::Ddpm, Variance::FixedSmall));
        assert_eq!((ddpm.schedule.t_max(), ddpm.clip), (1000, Some(1.0)));
        assert_eq!(to_json(&ddpm), DDPM);

        let ddim = parse(DDIM).unwrap();
        assert_eq!((ddim.sampler, ddim.options.set_alpha_to_one), (Sampler::Ddim, false));
        assert_eq!(ddim.schedule.curve(), BetaSchedule::Cosine);
        assert_eq!((ddim.prediction, ddim.clip), (Prediction::V, None));
        assert_eq!((ddim.spacing, ddim.steps_offset), (Spacing::Trailing, 1));
        assert_eq!(to_json(&ddim), DDIM);
    }

    #[test]
    fn config_with_absent_fields_has_the_defaults_of_diffusers() {
        assert_eq!(to_json(&parse(r#"{"_class_name": "DDPMScheduler"}"#).unwrap()), DDPM);
    }

    #[test]
    fn config_left_with_the_other_classs_field_is_read() {
        assert_eq!(to_json(&parse(&with("set_alpha_to_one", json!(true))).unwrap()), DDPM);
        let text = DDIM.replace("\"thresholding\"", "\"variance_type\": \"learned_range\", \"thresholding\"");
        assert_eq!(to_json(&parse(&text).unwrap()), DDIM);
    }

    #[test]
    fn config_that_asks_for_something_else_is_refused_by_file_field_and_value() {
        let cases = [
            ("_class_name", json!("PNDMScheduler"), "expected \"DDPMScheduler\" or \"DDIMScheduler\""),
            ("beta_schedule", json!("sigmoid"), "`squaredcos_cap_v2`"),
            ("variance_type", json!("learned_range"), "`fixed_large`"),
            ("prediction_type", json!("flow"), "`v_prediction`"),
            ("timestep_spacing", json!("even"), "`linspace`"),
            ("num_train_timesteps", json!(0), "1 to 100000 steps"),
            ("num_train_timesteps", json!(1e300), "usize"),
            ("beta_start", json!("0.1"), "f64"),
            ("beta_end", json!(1.5), "at most 1"),
            ("clip_sample_range", json!(-1.5), "a positive number"),
            ("steps_offset", json!(-1), "usize"),
            ("trained_betas", json!([0.1, 0.2]), "expected null"),
            ("thresholding", json!(true), "expected false"),
            ("rescale_betas_zero_snr", json!(true), "expected false"),
            ("sample_max_value", json!("big"), "f64"),
            ("lambda_min_clipped", json!(-5.1), "unknown"),
        ];
        for (name, value, expected) in cases {
            let refusal = parse(&with(name, value.clone())).unwrap_err().to_string();
            assert!(refusal.starts_with(&format!("model/scheduler_config.json: {name}: ")), "{refusal}");
            assert!(refusal.contains(expected), "{refusal}");
            assert!(refusal.ends_with(&format!("found {value}")), "{refusal}");
        }
        let betas = parse(&with("trained_betas", json!(vec![0.01; 1000]))).unwrap_err().to_string();
        assert!(betas.len() < 250, "{betas}");
        assert!(parse("[]").unwrap_err().to_string().contains("expected a JSON object"));
        assert!(parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn config_file_is_written_and_read_back_and_named_if_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scheduler_config.json");
        write(&parse(DDIM).unwrap(), &path).unwrap();
        assert_eq!(read(&path).unwrap(), parse(DDIM).unwrap());
        let refusal = read(Path::new("nowhere/scheduler_config.json")).unwrap_err().to_string();
        assert!(refusal.starts_with("nowhere/scheduler_config.json: cannot read"), "{refusal}");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (0.0..1.0).prop_map(Value::from),
            (0usize..40).prop_map(Value::from),
            "\\PC{0,90}".prop_map(Value::from),
            prop::sample::select(vec!["linear", "scaled_linear", "sample", "trailing", "fixed_large", "DDIMScheduler"])
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::from))
    }

    fn field_name() -> impl Strategy<Value = String> {
        let object: Map<String, Value> = serde_json::from_str(DDPM).unwrap();
        prop_oneof![prop::sample::select(object.into_iter().map(|(name, _)| name).collect::<Vec<_>>()), "\\PC{0,90}"]
    }

    proptest! {
        #[test]
        fn config_with_any_fields_is_read_and_round_trips_or_is_refused(
            fields in prop::collection::vec((field_name(), any_json()), 0..4)
        ) {
            let mut config: Value = serde_json::from_str(DDPM).unwrap();
            for (name, value) in fields {
                config[name] = value;
            }
            if let Ok(read) = parse(&config.to_string()) {
                prop_assert_eq!(parse(&to_json(&read)).unwrap(), read);
            }
        }

        #[test]
        fn config_with_a_broken_byte_is_read_or_refused(at in 0..DDIM.len(), byte in 0u8..128, cut in 0..DDIM.len()) {
            let mut bytes = DDIM.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = parse(std::str::from_utf8(&bytes).unwrap());
            let _ = parse(&DDIM[..cut]);
        }
    }
}
