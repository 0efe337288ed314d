//! The cases of the samplers' whole family: their levels, a step of each with what it remembers, short chains, edges; and what
//! is known of images exactly.

use serde_json::{Value, json};

use super::draft::Draft;

/// The attributes of a class: 1000 times of the usual noise, but for these fields of its config.
fn of(class: &str, fields: Value, steps: usize) -> Value {
    let has_betas = !class.starts_with("EDM") && !class.starts_with("Flow");
    let betas = json!({"num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02});
    let config = if has_betas { merged(betas, fields) } else { fields };
    json!({"class": class, "config": config, "steps": steps})
}

const DDPM: &str = "DDPMScheduler";
const DDIM: &str = "DDIMScheduler";
const INVERSE: &str = "DDIMInverseScheduler";
const EULER: &str = "EulerDiscreteScheduler";
const ANCESTRAL: &str = "EulerAncestralDiscreteScheduler";
const HEUN: &str = "HeunDiscreteScheduler";
const LMS: &str = "LMSDiscreteScheduler";
const PNDM: &str = "PNDMScheduler";
const DPM: &str = "DPMSolverMultistepScheduler";
const SINGLE: &str = "DPMSolverSinglestepScheduler";
const UNIPC: &str = "UniPCMultistepScheduler";
const DEIS: &str = "DEISMultistepScheduler";
const FLOW: &str = "FlowMatchEulerDiscreteScheduler";
const EDM: &str = "EDMEulerScheduler";
const EDM_DPM: &str = "EDMDPMSolverMultistepScheduler";

/// Both objects in one, the second's fields before the first's.
fn merged(mut all: Value, fields: Value) -> Value {
    all.as_object_mut().expect("an object").extend(fields.as_object().cloned().expect("fields"));
    all
}

/// Schedules that are no plain curve, and the levels of chains in sigma and λ.
pub fn schedules() -> Vec<Draft> {
    let tables = |name: &str, fields: Value| {
        let usual = json!({"num_train_timesteps": 20, "beta_start": 1e-3, "beta_end": 0.2});
        Draft::new("schedule", name, "schedule", merged(usual, fields))
    };
    let levels = |name: &str, class: &str, fields: Value, steps: usize| {
        Draft::new("schedule", &format!("levels_{name}"), "levels", of(class, fields, steps))
    };
    let zero = json!({"rescale_betas_zero_snr": true, "prediction_type": "v_prediction"});
    let karras = json!({"use_karras_sigmas": true});
    let exponential = json!({"use_exponential_sigmas": true});
    let small = |n: usize| json!({"num_train_timesteps": n, "beta_start": 1e-2, "beta_end": 0.3});
    vec![
        tables("sigmoid_20", json!({"beta_schedule": "sigmoid"})),
        tables("trained_betas", json!({"num_train_timesteps": 5, "trained_betas": [0.1, 0.05, 0.2, 0.4, 0.3]})),
        tables("zero_terminal_snr", zero).mutants(&["terminal_snr_not_zero"]),
        tables("one_time", json!({"num_train_timesteps": 1})),
        levels("euler", EULER, json!({}), 7),
        levels("euler_karras", EULER, karras.clone(), 7).mutants(&["spread_in_time"]),
        levels("euler_trailing", EULER, json!({"timestep_spacing": "trailing"}), 7),
        levels("euler_sigma_min", EULER, json!({"final_sigmas_type": "sigma_min"}), 3).mutants(&["other_end"]),
        levels("heun_exponential", HEUN, exponential.clone(), 4),
        levels("lms_leading", LMS, json!({"timestep_spacing": "leading", "steps_offset": 1}), 6),
        levels("dpm_leading", DPM, json!({"timestep_spacing": "leading", "steps_offset": 1}), 6),
        levels("dpm_karras", DPM, karras.clone(), 6).mutants(&["spread_in_time"]),
        levels("dpm_exponential", DPM, exponential.clone(), 6),
        levels("dpm_lambdas", DPM, json!({"use_lu_lambdas": true}), 6).mutants(&["spread_in_time"]),
        levels("dpm_sigma_min", DPM, json!({"final_sigmas_type": "sigma_min"}), 4).mutants(&["other_end"]),
        levels(
            "dpm_lambda_min",
            DPM,
            json!({"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1, "num_train_timesteps": 100}),
            5,
        ),
        levels("singlestep", SINGLE, json!({"solver_order": 3}), 6),
        levels("unipc_karras", UNIPC, karras.clone(), 5),
        levels("deis", DEIS, json!({}), 5),
        levels("flow_shift_3", FLOW, json!({"shift": 3.0}), 6).mutants(&["flow_not_shifted"]),
        levels("flow_karras", FLOW, karras.clone(), 5),
        levels("edm_of_other_ends", EDM, json!({"sigma_min": 0.05, "sigma_max": 20.0, "rho": 5.0}), 5),
        // Edges: one step; as many as there are times; a number that does not divide them; ties.
        levels("euler_1_step", EULER, json!({}), 1),
        levels("euler_karras_1_step", EULER, karras.clone(), 1),
        levels("dpm_karras_1_step", DPM, karras, 1),
        levels("edm_1_step", EDM, json!({}), 1),
        levels("euler_all_times", EULER, small(5), 5),
        levels("heun_all_but_one", HEUN, small(5), 4),
        levels("dpm_3_of_10", DPM, small(10), 3),
        levels("unipc_ties", UNIPC, json!({}), 6),
    ]
}

/// One step of every sampler, with what it remembers.
pub fn steps() -> Vec<Draft> {
    // The images in the scale of the sampler's levels, history in that of what it integrates.
    let step = |name: &str, class: &str, fields: Value, steps: usize, [t, t_prev]: [i64; 2], past: &[i64]| {
        let learned = fields["variance_type"].as_str().is_some_and(|kind| kind.starts_with("learned"));
        let mut attributes = of(class, fields, steps);
        (attributes["t"], attributes["t_prev"]) = (json!(t), json!(t_prev));
        if !past.is_empty() {
            attributes["t_history"] = json!(past);
        }
        let (shape, said) = ([2, 1, 2, 2], [2, if learned { 2 } else { 1 }, 2, 2]);
        let draft = Draft::new("reverse_step", name, "reverse_step", attributes);
        let draft = draft.normal("x_t", &shape).normal("model_output", &said).normal("noise", &shape);
        let draft = if past.is_empty() { draft } else { draft.normal("history", &[past.len(), 2, 1, 2, 2]) };
        if class == UNIPC && !past.is_empty() { draft.normal("x_before", &shape) } else { draft }
    };
    // What 9 steps of a class in λ visit: 999, 888, ..., 111; and 10 of one in sigma, with 0.
    let order = |order: usize| json!({"solver_order": order});
    let with = |order: usize, fields: Value| merged(json!({"solver_order": order}), fields);
    let zero = json!({"rescale_betas_zero_snr": true, "prediction_type": "v_prediction", "clip_sample": false});
    let noise = json!({"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"});
    let sde = json!({"algorithm_type": "sde-dpmsolver++"});
    let sde_of_noise = json!({"algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"});
    let thresholding =
        |most: f64| json!({"thresholding": true, "sample_max_value": most, "dynamic_thresholding_ratio": 0.7});
    let wide = [2, 1, 2, 4];
    vec![
        step("ddpm_thresholding", DDPM, thresholding(1.5), 50, [500, 480], &[]).mutants(&["threshold_that_only_clips"]),
        // Two images whose quantiles, between two pixels each, are far below the bound.
        ["x_t", "model_output", "noise"].into_iter().fold(
            step("ddpm_thresholding_by_a_quantile", DDPM, thresholding(50.0), 50, [500, 480], &[]),
            |draft, name| draft.normal(name, &wide),
        ),
        step("ddpm_learned_range", DDPM, json!({"variance_type": "learned_range"}), 50, [500, 480], &[]),
        step("ddpm_noise_at_1", DDPM, json!({"variance_type": "fixed_small"}), 1000, [1, 0], &[]),
        step("ddpm_zero_snr_noise_alone", DDPM, zero.clone(), 1000, [999, 998], &[]),
        step("ddim_zero_snr_noise_alone", DDIM, zero, 1000, [999, 998], &[]),
        step("euler", EULER, json!({}), 10, [555, 444], &[]),
        step("euler_v", EULER, json!({"prediction_type": "v_prediction"}), 10, [555, 444], &[]),
        step("euler_last", EULER, json!({}), 10, [0, -1], &[]),
        step("euler_ancestral", ANCESTRAL, json!({}), 10, [555, 444], &[]).mutants(&["up_and_down_swapped"]),
        step("euler_ancestral_last", ANCESTRAL, json!({}), 10, [0, -1], &[]),
        step("lms_of_2", LMS, json!({}), 10, [888, 777], &[999]),
        step("lms_of_4", LMS, json!({}), 10, [666, 555], &[777, 888, 999]).mutants(&[
            "history_reversed",
            "history_shifted_by_one",
            "history_forgotten",
        ]),
        step("pndm", PNDM, json!({"skip_prk_steps": true}), 10, [500, 400], &[]),
        step("dpmpp_1", DPM, order(1), 9, [555, 444], &[]).mutants(&["sigma_for_lambda", "no_expm1"]),
        step("dpmpp_2m", DPM, order(2), 9, [888, 777], &[999]).mutants(&["history_forgotten", "other_solver"]),
        step("dpmpp_2m_heun", DPM, with(2, json!({"solver_type": "heun"})), 9, [888, 777], &[999])
            .mutants(&["other_solver"]),
        step("dpmpp_2m_last", DPM, order(2), 9, [111, -1], &[222]),
        step("dpmpp_3m", DPM, order(3), 9, [777, 666], &[888, 999]).mutants(&[
            "whole_d2",
            "history_reversed",
            "order_2_for_3",
        ]),
        step("dpmsolver_1", DPM, with(1, noise.clone()), 9, [555, 444], &[]).mutants(&["no_expm1"]),
        step("dpmsolver_2m", DPM, with(2, noise.clone()), 9, [888, 777], &[999]).mutants(&["x_0_for_noise"]),
        step("dpmsolver_3m", DPM, with(3, noise), 9, [777, 666], &[888, 999]).mutants(&["whole_d2"]),
        step("sde_dpmpp_1", DPM, with(1, sde.clone()), 9, [555, 444], &[]).mutants(&["noise_of_one_h"]),
        step("sde_dpmpp_2m", DPM, with(2, sde.clone()), 9, [888, 777], &[999]),
        step("sde_dpmpp_3m", DPM, with(3, sde), 9, [777, 666], &[888, 999]),
        step("sde_dpmsolver_2m", DPM, with(2, sde_of_noise), 9, [888, 777], &[999]),
        step("unipc_1", UNIPC, order(1), 9, [888, 777], &[999]).mutants(&["corrector_skipped"]),
        step("unipc_2", UNIPC, order(2), 9, [777, 666], &[888, 999]).mutants(&["corrector_skipped", "other_b"]),
        step("unipc_3_bh1", UNIPC, with(3, json!({"solver_type": "bh1"})), 9, [666, 555], &[777, 888, 999]),
        step("unipc_2_bh1", UNIPC, with(2, json!({"solver_type": "bh1"})), 9, [777, 666], &[888, 999]),
        step("unipc_2_of_noise", UNIPC, with(2, json!({"predict_x0": false})), 9, [777, 666], &[888, 999])
            .mutants(&["corrector_skipped"]),
        step("deis_1", DEIS, order(1), 9, [888, 777], &[]),
        step("deis_2", DEIS, order(2), 9, [888, 777], &[999]).mutants(&["history_forgotten"]),
        step("deis_3", DEIS, order(3), 9, [777, 666], &[888, 999]).mutants(&["history_reversed"]),
        step("edm_euler", EDM, json!({"num_train_timesteps": 8}), 8, [5, 4], &[]).mutants(&["output_for_noise"]),
        step("edm_euler_of_unit_data", EDM, json!({"num_train_timesteps": 8, "sigma_data": 1.0}), 8, [5, 4], &[]),
    ]
}

/// Short chains of every sampler, and edges.
pub fn trajectories() -> Vec<Draft> {
    let chain = |name: &str, class: &str, fields: Value, steps: usize, evaluations: usize| {
        let shape = [1, 1, 2, 2];
        let of_all = [evaluations, 1, 1, 2, 2];
        let draft = Draft::new("trajectory", name, "trajectory", of(class, fields, steps));
        draft.normal("x_T", &shape).normal("model_output", &of_all).normal("noise", &of_all)
    };
    let small = |n: usize, fields: Value| {
        merged(json!({"num_train_timesteps": n, "beta_start": 1e-2, "beta_end": 0.3}), fields)
    };
    let open = json!({"clip_sample": false});
    let zero =
        json!({"rescale_betas_zero_snr": true, "prediction_type": "v_prediction", "timestep_spacing": "trailing"});
    let karras = json!({"use_karras_sigmas": true});
    let order = |order: usize| json!({"solver_order": order});
    let full_order = json!({"lower_order_final": false, "final_sigmas_type": "sigma_min"});
    let euler_at_final = merged(json!({"euler_at_final": true}), full_order.clone());
    vec![
        chain("ddim_inverse", INVERSE, open.clone(), 4, 4),
        chain("euler", EULER, json!({}), 4, 4),
        chain("euler_karras", EULER, karras.clone(), 4, 4).mutants(&["spread_in_time"]),
        chain("euler_ancestral", ANCESTRAL, json!({}), 4, 4),
        chain("heun", HEUN, json!({}), 4, 7).mutants(&["second_slope_of_the_start"]),
        chain("heun_clipped", HEUN, json!({"clip_sample": true}), 4, 7),
        chain("lms", LMS, json!({}), 5, 5),
        chain("pndm", PNDM, json!({}), 4, 13),
        chain("plms", PNDM, json!({"skip_prk_steps": true}), 5, 6),
        chain("dpmpp_2m", DPM, json!({}), 5, 5),
        chain("dpmpp_2m_full_order", DPM, full_order, 4, 4).mutants(&["order_lowered_at_the_end"]),
        chain("dpmpp_3m_karras", DPM, json!({"solver_order": 3, "use_karras_sigmas": true}), 5, 5)
            .mutants(&["order_kept_to_the_end"]),
        chain("dpmpp_2m_sigma_min", DPM, json!({"final_sigmas_type": "sigma_min"}), 4, 4).mutants(&["other_end"]),
        chain("dpmpp_2m_euler_at_final", DPM, euler_at_final, 4, 4),
        // From 15 steps on the order is not lowered at the end.
        chain("dpmpp_2m_15_steps", DPM, json!({"final_sigmas_type": "sigma_min"}), 15, 15),
        chain("dpmpp_single_2", SINGLE, order(2), 4, 4),
        chain("dpmpp_single_2_heun", SINGLE, json!({"solver_type": "heun"}), 4, 4),
        chain("dpmpp_single_3", SINGLE, json!({"solver_order": 3, "lower_order_final": true}), 6, 6),
        chain("sde_dpmpp_2m", DPM, json!({"algorithm_type": "sde-dpmsolver++"}), 4, 4),
        chain("unipc_2", UNIPC, json!({}), 5, 5),
        chain("unipc_3_sigma_min", UNIPC, json!({"solver_order": 3, "final_sigmas_type": "sigma_min"}), 5, 5),
        chain("deis_2", DEIS, json!({}), 4, 4),
        chain("flow_euler_shift_3", FLOW, json!({"shift": 3.0}), 4, 4).mutants(&["flow_not_shifted"]),
        chain("edm_euler", EDM, json!({}), 4, 4),
        chain("edm_dpmpp_2m", EDM_DPM, json!({}), 5, 5),
        // Edges. One time in all; one step; as many as there are times; a number that does not divide them.
        chain("edge_ddpm_1_of_1", DDPM, small(1, open.clone()), 1, 1),
        chain("edge_ddim_1_of_1", DDIM, small(1, open.clone()), 1, 1),
        chain("edge_ddpm_1_step", DDPM, json!({"clip_sample": false, "timestep_spacing": "trailing"}), 1, 1),
        chain("edge_ddim_1_step", DDIM, open.clone(), 1, 1),
        chain("edge_euler_1_step", EULER, json!({}), 1, 1),
        chain("edge_euler_karras_1_step", EULER, karras, 1, 1),
        chain("edge_euler_ancestral_1_step", ANCESTRAL, json!({}), 1, 1),
        chain("edge_heun_1_step", HEUN, json!({}), 1, 1),
        chain("edge_lms_1_step", LMS, json!({}), 1, 1),
        chain("edge_dpmpp_1_step", DPM, json!({}), 1, 1),
        chain("edge_unipc_1_step", UNIPC, json!({}), 1, 1),
        chain("edge_deis_1_step", DEIS, json!({}), 1, 1),
        chain("edge_flow_1_step", FLOW, json!({}), 1, 1),
        chain("edge_edm_1_step", EDM, json!({}), 1, 1),
        chain("edge_ddpm_all_times", DDPM, small(4, open.clone()), 4, 4),
        chain("edge_euler_all_times", EULER, small(4, json!({})), 4, 4),
        chain("edge_ddim_3_of_10", DDIM, small(10, open.clone()), 3, 3),
        chain(
            "edge_ddim_3_of_10_linspace",
            DDIM,
            small(10, json!({"clip_sample": false, "timestep_spacing": "linspace"})),
            3,
            3,
        ),
        chain("edge_dpmpp_3_of_10", DPM, small(10, json!({})), 3, 3),
        chain("edge_ddim_ties", DDIM, json!({"clip_sample": false, "timestep_spacing": "linspace"}), 7, 7),
        chain("edge_ddim_noise_alone", DDIM, small(10, zero), 3, 3),
    ]
}

/// What is known of noisy images exactly.
pub fn oracles() -> Vec<Draft> {
    let oracle = |name: &str, form: &str, sigma: f64| {
        let draft = Draft::new("oracle", name, "oracle", json!({"form": form, "sigma": sigma}));
        draft.normal("x_t", &[3, 1, 2, 2])
    };
    let set =
        |name: &str, form: &str, sigma: f64| oracle(&format!("set_{name}"), form, sigma).normal("data", &[7, 1, 2, 2]);
    let mixture = |name: &str, form: &str, sigma: f64| {
        let draft = oracle(&format!("mixture_{name}"), form, sigma).normal("means", &[3, 1, 2, 2]);
        draft.values("weights", [0.5, 0.3, 0.2])
    };
    let (vp, ve, flow) = ("variance_preserving", "variance_exploding", "flow");
    let axes = |draft: Draft| draft.spread("variances", &[3, 4], 0.05, 0.6);
    vec![
        set("vp", vp, 0.6),
        set("ve", ve, 2.0).mutants(&["exponent_without_half"]),
        set("flow", flow, 0.4),
        set("noise_alone", vp, 1.0),
        set("little_noise", ve, 0.1),
        set("of_a_class", vp, 0.7)
            .integers("data_labels", &[7], &[0, 2, 1, 0, 2, 1, 0])
            .integers("labels", &[3], &[2, 0, 3])
            .mutants(&["class_ignored"]),
        mixture("round", vp, 0.5).values("variances", [0.2, 0.05, 0.4]).mutants(&["weights_ignored"]),
        axes(mixture("along_the_axes", ve, 0.3)),
        axes(mixture("noise_alone", flow, 1.0)),
        mixture("aslant", flow, 0.2).covariances("variances", 3, 4),
    ]
}
