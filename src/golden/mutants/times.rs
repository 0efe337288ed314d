//! Mistakes in how times are told, and in which of them is meant.

use serde_json::json;

use super::{Case, Mutant, Result, Results, Tensor, evaluate, mutant, steps, with_attribute};

/// The mistakes, in words.
pub(super) const MUTANTS: &[Mutant] = &[
    mutant("sin_and_cos_swapped", "cosines first where sines belong, or the reverse", |case| {
        let flip = case.attributes["flip_sin_to_cos"] == json!(true);
        with_attribute(case, "flip_sin_to_cos", json!(!flip))
    }),
    mutant(
        "half_for_half_minus_1",
        "half in the denominator of the frequencies for half - 1, or the reverse",
        |case| {
            let shift = case.attributes["freq_shift"].as_f64().expect("a number");
            with_attribute(case, "freq_shift", json!(1.0 - shift))
        },
    ),
    mutant("frequencies_over_dim", "dim in the denominator of the frequencies for dim/2", |case| {
        let half = (case.attributes["dim"].as_u64().expect("a number") / 2) as f64;
        let shift = case.attributes["freq_shift"].as_f64().expect("a number");
        with_attribute(case, "freq_shift", json!(shift - half))
    }),
    mutant("timestep_over_1000", "t / 1000 for t", times_over_1000),
    mutant("timestep_off_by_one", "the network is fed t = 1..=T for 0..T", later_by_one),
    mutant("alpha_bar_off_by_one", "alpha_bar of the next timestep", later_by_one),
    mutant("alpha_bar_of_the_step_before", "alpha_bar of t - 1", |case| {
        let mut wrong = case.clone();
        if let Some(Tensor::I64(t)) = wrong.tensors.get_mut("input.t") {
            t.mapv_inplace(|t| (t - 1).max(0));
        }
        evaluate(&wrong)
    }),
];

/// All timesteps one later, where there is a later one.
fn later_by_one(case: &Case) -> Result<Results<f64>> {
    let mut wrong = case.clone();
    if let Some(Tensor::I64(t)) = wrong.tensors.get_mut("input.t") {
        let last = if ["unet", "dit"].contains(&case.op.as_str()) { i64::MAX } else { steps(case) as i64 - 1 };
        t.mapv_inplace(|t| (t + 1).min(last));
    } else {
        let t = case.attributes["t"].as_i64().expect("a timestep");
        wrong.attributes.insert("t".into(), json!(t + 1));
        let t_prev = case.attributes["t_prev"].as_i64().expect("a timestep");
        wrong.attributes.insert("t_prev".into(), json!(t_prev + 1));
    }
    evaluate(&wrong)
}

/// Times as a fraction of 1000.
fn times_over_1000(case: &Case) -> Result<Results<f64>> {
    let mut wrong = case.clone();
    let t = Tensor::F32(case.numbers("input.t").mapv(|t| (t / 1000.0) as f32));
    wrong.tensors.insert("input.t".into(), t);
    evaluate(&wrong)
}
