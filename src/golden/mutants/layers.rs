//! Mistakes in convolutions, norms, activations and scores.

use ndarray::Axis;
use serde_json::{Value, json};

use super::norms::interleaved_places;
use super::{Case, Result, Results, evaluate, with_input};

/// The kernel mirrored, and its gradient mirrored back.
pub(super) fn flipped_kernel(case: &Case) -> Result<Results<f64>> {
    let mut results = with_input(case, "weight", |w| {
        w.invert_axis(Axis(2));
        w.invert_axis(Axis(3));
    })?;
    for (_, values) in results.iter_mut().filter(|(name, _)| name == "grad.weight") {
        values.invert_axis(Axis(2));
        values.invert_axis(Axis(3));
        *values = values.as_standard_layout().into_owned();
    }
    Ok(results)
}

/// A group of every so manyth input channel: the right ones of channels in another order.
pub(super) fn groups_interleaved(case: &Case) -> Result<Results<f64>> {
    let (c, groups) =
        (case.tensors["input.x"].shape()[1], case.attributes["groups"].as_u64().expect("groups") as usize);
    let places = interleaved_places(c, groups);
    let mut results = with_input(case, "x", |x| *x = x.select(Axis(1), &places))?;
    for (_, dx) in results.iter_mut().filter(|(name, _)| name == "grad.x") {
        let found = dx.clone();
        places.iter().enumerate().for_each(|(i, &at)| {
            dx.index_axis_mut(Axis(1), at).assign(&found.index_axis(Axis(1), i));
        });
    }
    Ok(results)
}

/// √(var N/(N−1) + eps) = √(N/(N−1)) √(var + eps (N−1)/N): another eps, and a smaller scale.
pub(super) fn unbiased_variance(case: &Case) -> Result<Results<f64>> {
    let shape = case.tensors["input.x"].shape();
    let groups = case.attributes["groups"].as_u64().expect("a number of groups") as usize;
    let n = (shape[1..].iter().product::<usize>() / groups) as f64;
    let (share, eps) = ((n - 1.0) / n, case.attributes["eps"].as_f64().expect("a number"));
    let mut wrong = case.clone();
    wrong.attributes.insert("eps".into(), json!(eps * share));
    let mut results = evaluate::<f64>(&wrong)?;
    let bias = case.numbers("input.bias");
    for (name, values) in &mut results {
        match name.as_str() {
            "grad.bias" => {}
            "output" => {
                for (c, mut channel) in values.axis_iter_mut(Axis(1)).enumerate() {
                    channel.mapv_inplace(|y| (y - bias[c]) * share.sqrt() + bias[c]);
                }
            }
            _ => *values *= share.sqrt(),
        }
    }
    Ok(results)
}

/// Φ, of the normal distribution.
pub(super) fn cdf(x: f64) -> f64 {
    0.5 * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

/// y = x Φ(x), dx = dy (Φ(x) + x φ(x)).
pub(super) fn exact_gelu(case: &Case) -> Result<Results<f64>> {
    let x = case.numbers("input.x");
    let density = |x: f64| libm::exp(-0.5 * x * x) / (2.0 * std::f64::consts::PI).sqrt();
    let mut results = vec![("output".to_string(), x.mapv(|x| x * cdf(x)))];
    if case.tensors.contains_key("grad_output") {
        let slope = x.mapv(|x| cdf(x) + x * density(x));
        results.push(("grad.x".to_string(), slope * case.numbers("grad_output")));
    }
    Ok(results)
}

/// Scores times a function of the channels of a head: the same as queries times it, and their gradient times it.
pub(super) fn scores_times(case: &Case, factor: fn(f64) -> f64) -> Result<Results<f64>> {
    let heads = case.attributes.get("heads").and_then(Value::as_u64).unwrap_or(1);
    let factor = factor(case.tensors["input.q"].shape()[2] as f64 / heads as f64);
    let mut results = with_input(case, "q", |q| *q *= factor as f32)?;
    results.iter_mut().filter(|(name, _)| name == "grad.q").for_each(|(_, dq)| *dq *= factor);
    Ok(results)
}
