//! Mistakes in optimizers and averages.

use serde_json::{Value, json};

use super::{Case, Mutant, Result, Results, Tensor, evaluate, mutant, scaled, with_attribute};

/// The mistakes, in words.
pub(super) const MUTANTS: &[Mutant] = &[
    mutant("adam_eps_before_bias_correction", "Adam adds eps to the root of the uncorrected moment", |case| {
        let number = |name: &str, default: f64| case.attributes.get(name).and_then(Value::as_f64).unwrap_or(default);
        let correction = 1.0 - (0..number("step", 1.0) as usize).fold(1.0, |p, _| p * number("beta2", 0.999));
        with_attribute(case, "eps", json!(number("eps", 1e-8) / correction.sqrt()))
    }),
    mutant("adam_without_bias_correction", "Adam with the moments as they are", |case| {
        with_attribute(case, "step", json!(1_000_000))
    }),
    mutant(
        "l2_for_decoupled_decay",
        "the decay is added to the gradient (Adam) and not taken from the weight (AdamW)",
        l2,
    ),
    mutant("decay_without_lr", "the weight decay is not multiplied by the learning rate", |case| {
        let number = |name: &str| case.attributes[name].as_f64().expect("a number");
        with_attribute(case, "weight_decay", json!(number("weight_decay") / number("lr")))
    }),
    mutant("ema_without_warm_up", "the average has its final decay from the first step on", |case| {
        with_attribute(case, "step", json!(100_000_000))
    }),
    mutant("adam_eps_inside_the_root", "Adam with eps under the root of the second moment", eps_inside_the_root),
    mutant(
        "clipped_beyond_the_bound_alone",
        "gradients shorter than the bound by less than 1e-6 are left as they are",
        |case| {
            let mut results = evaluate::<f64>(case)?;
            results[1].1 = case.numbers("input.grad");
            Ok(results)
        },
    ),
    mutant("no_1e-6_when_clipping", "gradients shorter than the bound are made as long as it", |case| {
        let norm = evaluate::<f64>(case)?[0].1.sum();
        scaled(case, "output.grad", case.attributes["max_norm"].as_f64().expect("a number") / norm)
    }),
];

/// Adam with the decay in the gradient, of a single step.
fn l2(case: &Case) -> Result<Results<f64>> {
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
fn eps_inside_the_root(case: &Case) -> Result<Results<f64>> {
    let number = |name: &str, default: f64| case.attributes.get(name).and_then(Value::as_f64).unwrap_or(default);
    let (lr, eps) = (number("lr", 0.0), number("eps", 1e-8));
    let (w, grad, mut results) = (case.numbers("input.w"), case.numbers("input.grad"), evaluate::<f64>(case)?);
    results[0].1 = w - grad.mapv(|g| lr * g / (g * g + eps).sqrt());
    Ok(results)
}
