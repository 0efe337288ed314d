//! The cases of what surrounds a network: optimizers, schedules, reverse steps, trajectories.

use serde_json::{Value, json};

use super::draft::Draft;

/// AdamW, clipping, the moving average.
pub fn optimizer() -> Vec<Draft> {
    let adamw = |name: &str, attributes: Value, w: &[usize], grad: &[usize], deviation: f32| {
        let draft = Draft::new("optimizer", &format!("adamw_{name}"), "adamw", attributes);
        draft.normal("w", w).normal_around("grad", grad, 0.0, deviation)
    };
    let clip = |name: &str, max_norm: f64| {
        Draft::new("optimizer", name, "clip_grad_norm", json!({"max_norm": max_norm})).normal("grad", &[6, 7])
    };
    let ema = |name: &str, step: u64| {
        let draft = Draft::new("optimizer", name, "ema", json!({"decay": 0.999, "step": step}));
        draft.normal("ema", &[5, 8]).normal("w", &[5, 8])
    };
    vec![
        adamw("first_step", json!({"lr": 1e-3}), &[6, 5], &[6, 5], 1.0),
        adamw("small_gradients", json!({"lr": 1e-3, "eps": 1e-8}), &[40], &[40], 1e-7)
            .mutants(&["adam_eps_before_bias_correction", "adam_eps_inside_the_root"]),
        // The update is not hidden by the last places of a weight.
        Draft::new("optimizer", "adamw_of_weights_of_0", "adamw", json!({"lr": 1e-3, "step": 5}))
            .values("w", [0.0; 24])
            .normal_around("grad", &[24], 0.0, 0.1)
            .normal_around("m", &[24], 0.0, 0.1)
            .values("v", (0..24).map(|i| 0.01 + 0.001 * i as f32)),
        adamw("third_step", json!({"lr": 1e-2, "step": 3, "weight_decay": 0.1}), &[30], &[30], 0.1)
            .normal_around("m", &[30], 0.0, 0.1)
            .values("v", (0..30).map(|i| 0.01 + 0.001 * i as f32))
            .mutants(&["adam_without_bias_correction", "l2_for_decoupled_decay", "decay_without_lr"]),
        // Whether the decay comes before the step or after it is lr times the decay times the step.
        adamw("large_decay", json!({"lr": 0.1, "weight_decay": 0.5}), &[8], &[8], 1.0),
        adamw("update_alone_of_small_gradients", json!({"lr": 1e-3}), &[40], &[40], 1e-7).values("w", [0.0; 40]),
        adamw(
            "twelve_steps",
            json!({"lr": 2e-3, "beta1": 0.8, "beta2": 0.99, "weight_decay": 0.01}),
            &[3, 4],
            &[12, 3, 4],
            1.0,
        ),
        clip("clip_long", 1.0),
        // Shorter than the bound by less than the 1e-6 that is added to the norm.
        Draft::new("optimizer", "clip_at_the_bound", "clip_grad_norm", json!({"max_norm": 1.0000001}))
            .values("grad", [0.6, 0.8])
            .mutants(&["clipped_beyond_the_bound_alone"]),
        clip("clip_short", 100.0).mutants(&["no_1e-6_when_clipping"]),
        ema("ema_first", 0).mutants(&["ema_without_warm_up"]),
        ema("ema_hundredth", 99),
        ema("ema_late", 1_000_000),
    ]
}

fn config(curve: &str, steps: usize) -> Value {
    json!({"beta_schedule": curve, "num_train_timesteps": steps, "beta_start": 1e-4, "beta_end": 0.02})
}

/// Tables, and the forward process by them.
pub fn schedule() -> Vec<Draft> {
    let tables = |name: &str, attributes: Value| Draft::new("schedule", name, "schedule", attributes);
    let q_sample = |name: &str, attributes: Value, t: &[i64]| {
        let draft = Draft::new("schedule", name, "q_sample", attributes).integers("t", &[4], t);
        draft.normal("x_0", &[4, 1, 5, 5]).normal("eps", &[4, 1, 5, 5])
    };
    vec![
        tables("linear_1000", config("linear", 1000)),
        tables("linear_100", config("linear", 100)).mutants(&["betas_scaled_by_1000_over_t"]),
        tables("scaled_linear_50", config("scaled_linear", 50)),
        tables("cosine_100", config("squaredcos_cap_v2", 100)).mutants(&["cosine_without_cap"]),
        q_sample("q_sample_linear", config("linear", 1000), &[0, 1, 500, 998])
            .mutants(&["alpha_bar_off_by_one", "alpha_bar_of_the_step_before"]),
        q_sample("q_sample_cosine", config("squaredcos_cap_v2", 100), &[0, 3, 50, 99]),
    ]
}

/// The attributes of a sampler: clipped, with leading spacing, but for these fields of its config.
fn sampler(class: &str, fields: Value, steps: usize, eta: f64) -> Value {
    let mut config = config("linear", 1000);
    config["clip_sample"] = json!(true);
    config["timestep_spacing"] = json!("leading");
    for (key, value) in fields.as_object().expect("fields") {
        config[key] = value.clone();
    }
    let mut attributes = json!({"class": class, "config": config, "steps": steps});
    if class == "DDIMScheduler" {
        attributes["eta"] = json!(eta);
    }
    attributes
}

/// One step of every sampler, prediction and variance.
pub fn reverse_steps() -> Vec<Draft> {
    let step = |name: &str, class: &str, fields: Value, t: [i64; 2], eta: f64| {
        let mut attributes = sampler(class, fields, 50, eta);
        (attributes["t"], attributes["t_prev"]) = (json!(t[0]), json!(t[1]));
        let draft = Draft::new("reverse_step", name, "reverse_step", attributes);
        draft.normal("x_t", &[2, 1, 4, 4]).normal("model_output", &[2, 1, 4, 4]).normal("noise", &[2, 1, 4, 4])
    };
    let (ddpm, ddim) = ("DDPMScheduler", "DDIMScheduler");
    let v = json!({"prediction_type": "v_prediction"});
    vec![
        step("ddpm_small", ddpm, json!({"variance_type": "fixed_small"}), [500, 480], 0.0).mutants(&["other_variance"]),
        step("ddpm_large", ddpm, json!({"variance_type": "fixed_large"}), [500, 480], 0.0)
            .mutants(&["other_variance", "alpha_bar_off_by_one"]),
        step("ddpm_first", ddpm, json!({}), [980, 960], 0.0).mutants(&["sample_not_clipped"]),
        step("ddpm_last", ddpm, json!({"variance_type": "fixed_large"}), [0, -1], 0.0)
            .mutants(&["noise_at_the_last_step"]),
        step("ddpm_sample", ddpm, json!({"prediction_type": "sample", "clip_sample": false}), [300, 280], 0.0),
        step("ddpm_v", ddpm, v.clone(), [300, 280], 0.0).mutants(&["epsilon_for_v"]),
        step("ddim_eta_0", ddim, json!({}), [500, 480], 0.0).mutants(&["eta_1_for_0"]),
        step("ddim_eta_half", ddim, json!({}), [500, 480], 0.5),
        step("ddim_eta_1_v", ddim, v, [500, 480], 1.0),
        step("ddim_last", ddim, json!({"clip_sample": false}), [0, -1], 0.0),
        step("ddim_last_short_of_one", ddim, json!({"set_alpha_to_one": false}), [0, -1], 0.0),
        step("ddim_range_2", ddim, json!({"clip_sample_range": 2.0}), [760, 740], 0.0).mutants(&["clip_range_ignored"]),
        step("ddim_sample", ddim, json!({"prediction_type": "sample", "clip_sample": false}), [300, 280], 0.0),
    ]
}

/// Whole chains of ten steps.
pub fn trajectories() -> Vec<Draft> {
    let chain = |name: &str, class: &str, fields: Value, eta: f64| {
        let draft = Draft::new("trajectory", name, "trajectory", sampler(class, fields, 10, eta));
        draft.normal("x_T", &[2, 1, 3, 3]).normal("model_output", &[10, 2, 1, 3, 3]).normal("noise", &[10, 2, 1, 3, 3])
    };
    vec![
        chain("ddpm", "DDPMScheduler", json!({"variance_type": "fixed_small"}), 0.0).mutants(&["sample_not_clipped"]),
        chain(
            "ddpm_cosine_large",
            "DDPMScheduler",
            json!({"beta_schedule": "squaredcos_cap_v2", "variance_type": "fixed_large"}),
            0.0,
        ),
        chain("ddim_eta_0", "DDIMScheduler", json!({}), 0.0).mutants(&["eta_1_for_0"]),
        chain("ddim_eta_1_v", "DDIMScheduler", json!({"prediction_type": "v_prediction", "clip_sample": false}), 1.0),
    ]
}
