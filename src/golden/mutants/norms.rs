//! Mistakes in norms, attention and softmax that are another grouping of the same numbers, or another spread.

use ndarray::{ArrayD, Axis};
use serde_json::json;

use super::{Case, Mutant, Result, Results, Tensor, evaluate, mutant, with_attribute, with_input};

/// The mistakes, in words.
pub(super) const MUTANTS: &[Mutant] = &[
    mutant("norm_eps_1e-5", "eps = 1e-5 for 1e-6", |case| with_attribute(case, "eps", json!(1e-5))),
    mutant("norm_eps_1e-6", "eps = 1e-6 for 1e-5", |case| with_attribute(case, "eps", json!(1e-6))),
    mutant("unbiased_variance", "the variance divides by N - 1", unbiased_variance),
    mutant("eps_outside_the_root", "x / (sigma + eps) for x / sqrt(sigma^2 + eps)", eps_outside),
    mutant("one_pass_variance", "the variance as E[x^2] - E[x]^2 in float32", one_pass),
    mutant("groups_interleaved", "channel c belongs to group c mod groups for c / (channels of a group)", |case| {
        match case.op.as_str() {
            "conv2d" => input_channels_interleaved(case),
            _ => groups_interleaved(case),
        }
    }),
    mutant("softmax_of_columns", "softmax over the other axis", softmax_of_columns),
    mutant("heads_reversed", "the heads' results joined from the last to the first", heads_reversed),
    mutant("one_group_a_channel", "every channel is a group of its own", |case| {
        with_attribute(case, "groups", json!(case.tensors["input.x"].shape()[1]))
    }),
];

/// Where channel i of the right order is in the interleaved one: groups that take every so manyth channel.
pub(super) fn interleaved_places(channels: usize, groups: usize) -> Vec<usize> {
    let of_group = channels / groups;
    (0..channels).map(|i| i % of_group * groups + i / of_group).collect()
}

fn number(case: &Case, name: &str) -> usize {
    case.attributes[name].as_u64().expect("a number") as usize
}

/// The float32 tensors of these names with an axis in another order.
fn select(case: &mut Case, names: &[(&str, usize)], places: &[usize]) {
    for (name, axis) in names {
        if let Some(Tensor::F32(x)) = case.tensors.get_mut(*name) {
            *x = x.select(Axis(*axis), places);
        }
    }
}

/// A group of every so manyth channel: the right ones of channels in another order.
fn groups_interleaved(case: &Case) -> Result<Results<f64>> {
    let places = interleaved_places(case.tensors["input.x"].shape()[1], number(case, "groups"));
    let mut wrong = case.clone();
    select(&mut wrong, &[("input.x", 1), ("grad_output", 1), ("input.weight", 0), ("input.bias", 0)], &places);
    let mut results = evaluate::<f64>(&wrong)?;
    for (_, values) in &mut results {
        let (found, axis) = (values.clone(), Axis(usize::from(values.ndim() > 1)));
        for (i, &place) in places.iter().enumerate() {
            values.index_axis_mut(axis, place).assign(&found.index_axis(axis, i));
        }
    }
    Ok(results)
}

/// A group of every so manyth input channel: the right ones of channels in another order.
fn input_channels_interleaved(case: &Case) -> Result<Results<f64>> {
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

/// The heads' results joined from the last to the first.
fn heads_reversed(case: &Case) -> Result<Results<f64>> {
    let (c, heads) = (case.tensors["input.q"].shape()[2], number(case, "heads"));
    let places: Vec<usize> = (0..c).map(|i| (heads - 1 - i / (c / heads)) * (c / heads) + i % (c / heads)).collect();
    let mut wrong = case.clone();
    select(&mut wrong, &[("grad_output", 2)], &places);
    let mut results = evaluate::<f64>(&wrong)?;
    results[0].1 = results[0].1.select(Axis(2), &places);
    Ok(results)
}

/// Softmax down the columns of a matrix.
fn softmax_of_columns(case: &Case) -> Result<Results<f64>> {
    let turned = |x: &ArrayD<f32>| x.t().as_standard_layout().into_owned();
    let mut wrong = case.clone();
    for name in ["input.x", "grad_output"] {
        if let Some(Tensor::F32(x)) = wrong.tensors.get_mut(name) {
            *x = turned(x);
        }
    }
    let mut results = evaluate::<f64>(&wrong)?;
    results.iter_mut().for_each(|(_, y)| *y = y.t().as_standard_layout().into_owned());
    Ok(results)
}

/// x / (σ + eps) for x / √(σ² + eps).
fn eps_outside(case: &Case) -> Result<Results<f64>> {
    let eps = case.attributes["eps"].as_f64().expect("a number");
    with_scales(case, |x| {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let sigma = (x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt();
        let r = 1.0 / (sigma + eps);
        (r, r * r / sigma)
    })
}

/// The variance as E[x²] − E[x]², in float32.
fn one_pass(case: &Case) -> Result<Results<f64>> {
    let eps = case.attributes["eps"].as_f64().expect("a number");
    with_scales(case, |x| {
        let (mut sum, mut squares) = (0.0f32, 0.0f32);
        for &x in x {
            (sum, squares) = (sum + x as f32, squares + x as f32 * x as f32);
        }
        let mean = sum / x.len() as f32;
        let variance = squares / x.len() as f32 - mean * mean;
        let r = 1.0 / (variance as f64 + eps).sqrt();
        (r, r * r * r)
    })
}

/// A group norm y = γ (x − mean) r + β whose r is given for the numbers of a group, with −N ∂r/∂x / (x − mean).
fn with_scales(case: &Case, of: impl Fn(&[f64]) -> (f64, f64)) -> Result<Results<f64>> {
    let (x, dy) = (case.numbers("input.x"), case.numbers("grad_output"));
    let (gamma, beta) = (case.numbers("input.weight"), case.numbers("input.bias"));
    let (c, groups) = (x.shape()[1], number(case, "groups"));
    let pixels: usize = x.shape()[2..].iter().product();
    let size = c / groups * pixels;
    let (mut y, mut dx) = (x.clone(), x.clone());
    let (mut d_gamma, mut d_beta) = (ArrayD::zeros(gamma.raw_dim()), ArrayD::zeros(beta.raw_dim()));
    let flat = crate::layers::flat::<f64, ndarray::IxDyn>;
    for (g, x) in flat(&x).chunks(size).enumerate() {
        let (n, dy) = (size as f64, &flat(&dy)[g * size..][..size]);
        let (mean, (r, slope)) = (x.iter().sum::<f64>() / n, of(x));
        let channel = |i: usize| g % groups * (c / groups) + i / pixels;
        let (mut m1, mut m2) = (0.0, 0.0);
        for (i, (x, dy)) in x.iter().zip(dy).enumerate() {
            let (d, k) = (x - mean, channel(i));
            (m1, m2) = (m1 + gamma[k] * dy / n, m2 + gamma[k] * dy * d / n);
            d_gamma[k] += dy * d * r;
            d_beta[k] += dy;
            crate::layers::flat_mut(&mut y)[g * size + i] = gamma[k] * d * r + beta[k];
        }
        for (i, (x, dy)) in x.iter().zip(dy).enumerate() {
            let through = r * (gamma[channel(i)] * dy - m1) - slope * (x - mean) * m2;
            crate::layers::flat_mut(&mut dx)[g * size + i] = through;
        }
    }
    let named = [("output", y), ("grad.x", dx), ("grad.weight", d_gamma), ("grad.bias", d_beta)];
    Ok(named.map(|(name, values)| (name.to_string(), values)).into())
}

/// √(var N/(N−1) + eps) = √(N/(N−1)) √(var + eps (N−1)/N): another eps, and a smaller scale.
fn unbiased_variance(case: &Case) -> Result<Results<f64>> {
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
