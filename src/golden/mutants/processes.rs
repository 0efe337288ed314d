//! Mistakes in schedules, steps and optimizers.

use serde_json::json;

use super::{Case, Mutant, Result, Results, evaluate, mutant, steps, with_attribute, with_attributes, with_config};
use crate::numerics::elementary;

/// The mistakes, in words.
pub(super) const MUTANTS: &[Mutant] = &[
    mutant("cosine_without_cap", "the cosine schedule's last betas above 0.999", cosine_without_cap),
    mutant("clip_range_ignored", "the predicted x_0 clipped to [-1, 1], whatever range was asked for", |case| {
        with_config(case, "clip_sample_range", json!(1.0))
    }),
    mutant("betas_scaled_by_1000_over_t", "beta_start and beta_end times 1000/T", |case| {
        let scaled = |name: &str| json!(case.attributes[name].as_f64().expect("a number") * 1000.0 / steps(case));
        with_attributes(case, &[("beta_start", scaled("beta_start")), ("beta_end", scaled("beta_end"))])
    }),
    mutant("other_variance", "the posterior variance for beta, or the reverse", |case| {
        let other =
            if case.attributes["config"]["variance_type"] == "fixed_large" { "fixed_small" } else { "fixed_large" };
        with_config(case, "variance_type", json!(other))
    }),
    mutant("noise_at_the_last_step", "the last step adds noise", noise_at_the_last_step),
    mutant("sample_not_clipped", "the predicted x_0 is not clipped", |case| {
        with_config(case, "clip_sample", json!(false))
    }),
    mutant("epsilon_for_v", "the network's output is taken for the noise", |case| {
        with_config(case, "prediction_type", json!("epsilon"))
    }),
    mutant("eta_1_for_0", "DDIM draws noise that was not asked for", |case| with_attribute(case, "eta", json!(1.0))),
    mutant("terminal_snr_not_zero", "betas that are to be rescaled to end in noise alone, and are not", |case| {
        with_attribute(case, "rescale_betas_zero_snr", json!(false))
    }),
];

/// σ z with σ² = β of the first timestep.
fn noise_at_the_last_step(case: &Case) -> Result<Results<f64>> {
    let beta = case.attributes["config"]["beta_start"].as_f64().expect("a number");
    let mut results = evaluate::<f64>(case)?;
    results[0].1.scaled_add(beta.sqrt(), &case.numbers("input.noise"));
    Ok(results)
}

/// β = 1 − ᾱ(t)/ᾱ(t − 1) of ᾱ ∝ cos²((t/T + 0.008)/1.008 · π/2) to the end, and the tables that follow from it.
fn cosine_without_cap(case: &Case) -> Result<Results<f64>> {
    let steps = steps(case);
    let cosine = |t: f64| elementary::cos((t / steps + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2);
    let curve = |t: f64| cosine(t) * cosine(t);
    let mut alpha_bar = 1.0;
    let mut results = evaluate::<f64>(case)?;
    for t in 0..steps as usize {
        let beta = 1.0 - curve(t as f64 + 1.0) / curve(t as f64);
        let before = alpha_bar;
        alpha_bar *= 1.0 - beta;
        let row = [
            beta,
            alpha_bar,
            alpha_bar.sqrt(),
            (1.0 - alpha_bar).sqrt(),
            beta * (1.0 - before) / (1.0 - alpha_bar),
            beta * before.sqrt() / (1.0 - alpha_bar),
            (1.0 - before) * (1.0 - beta).sqrt() / (1.0 - alpha_bar),
        ];
        results.iter_mut().zip(row).for_each(|((_, table), value)| table[t] = value);
    }
    Ok(results)
}
