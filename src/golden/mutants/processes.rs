//! Mistakes in schedules, steps and optimizers.

use serde_json::{Value, json};

use super::{Case, Result, Results, Tensor, evaluate, steps};
use crate::numerics::elementary;

/// All timesteps one later, where there is a later one.
pub(super) fn later_by_one(case: &Case) -> Result<Results<f64>> {
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

/// σ z with σ² = β of the first timestep.
pub(super) fn noise_at_the_last_step(case: &Case) -> Result<Results<f64>> {
    let beta = case.attributes["config"]["beta_start"].as_f64().expect("a number");
    let mut results = evaluate::<f64>(case)?;
    results[0].1.scaled_add(beta.sqrt(), &case.numbers("input.noise"));
    Ok(results)
}

/// β = 1 − ᾱ(t)/ᾱ(t − 1) of ᾱ ∝ cos²((t/T + 0.008)/1.008 · π/2) to the end, and the tables that follow from it.
pub(super) fn cosine_without_cap(case: &Case) -> Result<Results<f64>> {
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

/// Adam with the decay in the gradient, of a single step.
pub(super) fn l2(case: &Case) -> Result<Results<f64>> {
    let decay = case.attributes["weight_decay"].as_f64().expect("a number");
    let w = case.numbers("input.w");
    let mut wrong = case.clone();
    wrong.attributes.insert("weight_decay".into(), json!(0.0));
    if let Some(Tensor::F32(grad)) = wrong.tensors.get_mut("input.grad") {
        grad.zip_mut_with(&w, |g, w| *g = (*g as f64 + decay * w) as f32);
    }
    evaluate(&wrong)
}

/// Adam with eps under the root, in the first step: its corrected moments are the gradient and its square.
pub(super) fn eps_inside_the_root(case: &Case) -> Result<Results<f64>> {
    let number = |name: &str, default: f64| case.attributes.get(name).and_then(Value::as_f64).unwrap_or(default);
    let (lr, eps) = (number("lr", 0.0), number("eps", 1e-8));
    let (w, grad, mut results) = (case.numbers("input.w"), case.numbers("input.grad"), evaluate::<f64>(case)?);
    results[0].1 = w - grad.mapv(|g| lr * g / (g * g + eps).sqrt());
    Ok(results)
}
