//! Files of diffusers, read and written back, and what is refused in them.

use super::*;
use crate::diffusion::Variance;
use crate::sample::Spacing;
use proptest::prelude::*;
use serde_json::Map;

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
fn config_of_another_noise_and_variance_is_written_back() {
    for (name, value) in [
        ("beta_schedule", json!("sigmoid")),
        ("trained_betas", json!(vec![0.01; 1000])),
        ("variance_type", json!("fixed_small_log")),
        ("variance_type", json!("fixed_large_log")),
    ] {
        let text = with(name, value);
        let written: Value = serde_json::from_str(&to_json(&parse(&text).unwrap())).unwrap();
        assert_eq!(written, serde_json::from_str::<Value>(&text).unwrap());
    }
    let text = DDIM.replace("\"rescale_betas_zero_snr\": false", "\"rescale_betas_zero_snr\": true");
    assert_eq!(to_json(&parse(&text).unwrap()), text);
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
        ("_class_name", json!("KDPM2DiscreteScheduler"), "expected \"DDPMScheduler\" or \"DDIMScheduler\""),
        ("beta_schedule", json!("laplace"), "`squaredcos_cap_v2`"),
        ("variance_type", json!("learnt"), "`learned_range`"),
        ("prediction_type", json!("flow"), "`v_prediction`"),
        ("timestep_spacing", json!("even"), "`linspace`"),
        ("num_train_timesteps", json!(0), "1 to 100000 steps"),
        ("num_train_timesteps", json!(1e300), "usize"),
        ("beta_start", json!("0.1"), "f64"),
        ("beta_end", json!(1.5), "at most 1"),
        ("clip_sample_range", json!(-1.5), "a positive number"),
        ("steps_offset", json!(-1), "usize"),
        ("trained_betas", json!("0.1"), "sequence"),
        ("thresholding", json!("yes"), "boolean"),
        ("rescale_betas_zero_snr", json!(1), "boolean"),
        ("sample_max_value", json!("big"), "f64"),
        ("snr_shift_scale", json!(3.0), "unknown"),
    ];
    for (name, value, expected) in cases {
        let refusal = parse(&with(name, value.clone())).unwrap_err().to_string();
        assert!(refusal.starts_with(&format!("model/scheduler_config.json: {name}: ")), "{refusal}");
        assert!(refusal.contains(expected), "{refusal}");
        assert!(refusal.ends_with(&format!("found {value}")), "{refusal}");
    }
    let betas = parse(&with("trained_betas", json!(vec!["0.01"; 1000]))).unwrap_err().to_string();
    assert!(betas.len() < 250, "{betas}");
    let few = parse(&with("trained_betas", json!([0.1, 0.2]))).unwrap_err().to_string();
    assert!(few.contains("trained_betas: expected 1000 variances"), "{few}");
    let epsilon = parse(&with("rescale_betas_zero_snr", json!(true))).unwrap_err().to_string();
    assert!(epsilon.contains("prediction_type: expected \"v_prediction\""), "{epsilon}");
    assert!(parse("[]").unwrap_err().to_string().contains("expected a JSON object"));
    assert!(parse(&"[".repeat(100_000)).is_err());
}

#[test]
fn config_file_is_written_and_read_back_and_named_if_absent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scheduler_config.json");
    write(&parse(DDIM).unwrap(), &path).unwrap();
    assert_eq!(read(&path).unwrap(), (parse(DDIM).unwrap(), None));
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

#[test]
fn fields_of_other_classes_and_times_are_left_unread() {
    let others = r#"{"tensor_format": "pt", "timestep_values": null, "skip_prk_steps": true, "solver_order": 2,
        "algorithm_type": "dpmsolver++", "lambda_min_clipped": -Infinity, "use_karras_sigmas": true, "sigma_min": null,
        "timestep_type": "discrete", "use_flow_sigmas": false, "_name_or_path": "x", "solver_p": null}"#;
    let others = python_json::object(others, Path::new("c")).unwrap();
    for text in [DDPM, DDIM] {
        let mut config: Map<String, Value> = serde_json::from_str(text).unwrap();
        config.extend(others.clone());
        assert_eq!(to_json(&parse(&Value::Object(config).to_string()).unwrap()), text);
    }
}

#[test]
fn predict_epsilon_is_the_prediction_unless_another_is_said() {
    let of = |fields: &str| parse(&format!("{{\"_class_name\": \"DDPMScheduler\", {fields}}}"));
    assert_eq!(of("\"predict_epsilon\": true").unwrap().prediction, Prediction::Epsilon);
    assert_eq!(of("\"predict_epsilon\": false").unwrap().prediction, Prediction::Sample);
    let both = "\"predict_epsilon\": false, \"prediction_type\": ";
    assert_eq!(of(&format!("{both}\"sample\"")).unwrap().prediction, Prediction::Sample);
    let refusal = of(&format!("{both}\"epsilon\"")).unwrap_err().to_string();
    assert!(refusal.contains("predict_epsilon: expected"), "{refusal}");
}

#[test]
fn class_with_the_same_noise_is_read_from_a_file_and_no_sampler_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scheduler_config.json");
    let of = |class: &str| {
        let config = json!({"_class_name": class, "num_train_timesteps": 60});
        assert!(parse(&config.to_string()).unwrap_err().to_string().contains(class), "{class}");
        std::fs::write(&path, config.to_string()).unwrap();
        read(&path)
    };
    let (parallel, note) = of("DDPMParallelScheduler").unwrap();
    let noise = &parallel.schedule;
    assert_eq!((noise.t_max(), noise.beta_start(), noise.beta_end()), (60, 1e-4, 0.02));
    assert!(note.unwrap().contains("DDPMParallelScheduler is not a sampler here"));
    let (kdpm2, _) = of("KDPM2DiscreteScheduler").unwrap();
    assert_eq!((kdpm2.schedule.beta_start(), kdpm2.schedule.beta_end()), (0.00085, 0.012));
    assert_eq!(kdpm2.spacing, Spacing::Linspace);
    for class in ["FlowMatchHeunDiscreteScheduler", "ScoreSdeVeScheduler", ""] {
        assert!(of(class).unwrap_err().to_string().contains("_class_name"), "{class}");
    }
}

#[test]
fn every_class_with_its_defaults_is_read_and_written_back() {
    for sampler in Sampler::ALL {
        let text = json!({"_class_name": sampler.entry().class}).to_string();
        let scheduler = parse(&text).unwrap();
        assert_eq!(scheduler.sampler, *sampler);
        let written = to_json(&scheduler);
        assert_eq!(parse(&written).unwrap(), scheduler, "{written}");
        for (name, default) in Class::of(*sampler).0 {
            let ours = python_json::object(&written, Path::new("c")).unwrap()[&name].clone();
            assert_eq!(ours, default, "{sampler:?}: {name}");
        }
    }
}

#[test]
fn options_of_samplers_are_written_back_and_words_of_other_classes_mean_the_default() {
    for (class, name, value) in [
        ("DPMSolverMultistepScheduler", "lambda_min_clipped", json!(-5.1)),
        ("DPMSolverMultistepScheduler", "algorithm_type", json!("sde-dpmsolver++")),
        ("DPMSolverMultistepScheduler", "use_lu_lambdas", json!(true)),
        ("DPMSolverSinglestepScheduler", "solver_order", json!(3)),
        ("UniPCMultistepScheduler", "predict_x0", json!(false)),
        ("EulerDiscreteScheduler", "use_karras_sigmas", json!(true)),
        ("PNDMScheduler", "skip_prk_steps", json!(true)),
        ("DDPMScheduler", "thresholding", json!(true)),
        ("FlowMatchEulerDiscreteScheduler", "shift", json!(3.0)),
        ("EDMEulerScheduler", "sigma_schedule", json!("exponential")),
    ] {
        let text = json!({"_class_name": class, name: value}).to_string();
        let written = python_json::object(&to_json(&parse(&text).unwrap()), Path::new("c")).unwrap();
        assert_eq!(written[name], value, "{class}");
    }
    let foreign = r#"{"_class_name": "UniPCMultistepScheduler", "solver_type": "midpoint"}"#;
    assert!(to_json(&parse(foreign).unwrap()).contains("\"bh2\""));
}
