//! Mistakes in transformers. Those of a block are made by other parameters that compute the same as the mistake.

use ndarray::{Array2, ArrayD, Axis, Ix1, Ix2, Ix3, s};
use serde_json::Value;

use super::layers::{self, cdf};
use super::norms::interleaved_places;
use super::{Mutant, input, mutant, with_input};
use crate::Result;
use crate::golden::case::{Case, Tensor};
use crate::golden::ops::{Results, evaluate};

/// The mistakes, in words.
pub(super) const MUTANTS: &[Mutant] = &[
    mutant("exact_gelu", "the GELU of the normal distribution for its tanh form", |case| match case.op.as_str() {
        "gelu_tanh" => layers::exact_gelu(case),
        _ => exact_gelu_of_a_block(case),
    }),
    mutant("scale_without_one", "a modulation by scale for 1 + scale", scale_without_one),
    mutant("shift_and_scale_swapped", "a modulation's scale for its shift, and the reverse", shift_for_scale),
    mutant("gate_forgotten", "a branch added without its gate", gate_forgotten),
    mutant("heads_interleaved", "channel c belongs to head c mod heads for c / (channels of a head)", interleaved),
    mutant("positions_transposed", "the row before the column in a token's position", positions_transposed),
    mutant("patch_channels_first", "the numbers of a patch channel by channel for pixel by pixel", channels_first),
    mutant("label_dropout_at_inference", "classes are hidden outside of training, too", labels_hidden),
];

/// The parts of a block's modulation, in the order of its rows.
const SHIFTS: [usize; 2] = [0, 3];
const SCALES: [usize; 2] = [1, 4];
const GATES: [usize; 2] = [2, 5];

/// The modulation's parameters of a block.
const MODULATION: [&str; 2] = ["norm1.linear.weight", "norm1.linear.bias"];

/// A part of the rows of one of them.
fn part_of(x: &mut ArrayD<f32>, part: usize) -> ndarray::ArrayViewMutD<'_, f32> {
    let c = x.shape()[0] / 6;
    x.slice_axis_mut(Axis(0), (part * c..(part + 1) * c).into())
}

/// x (1 + scale) + shift less x; dy (1 + scale) less dy.
fn scale_without_one(case: &Case) -> Result<Results<f64>> {
    if case.op == "dit_block" {
        return with_input(case, MODULATION[1], |bias| {
            SCALES.iter().for_each(|&part| part_of(bias, part).mapv_inplace(|x| x - 1.0));
        });
    }
    let mut results = evaluate::<f64>(case)?;
    for (name, values) in &mut results {
        match name.as_str() {
            "output" => *values -= &case.numbers("input.x"),
            "grad.x" => *values -= &case.numbers("grad_output"),
            _ => {}
        }
    }
    Ok(results)
}

/// Both exchanged on the way in, and their gradients on the way out.
fn shift_for_scale(case: &Case) -> Result<Results<f64>> {
    let mut wrong = case.clone();
    if case.op == "dit_block" {
        for name in MODULATION {
            let x = input(&mut wrong, name);
            for (shift, scale) in SHIFTS.into_iter().zip(SCALES) {
                let (a, b) = (part_of(x, shift).to_owned(), part_of(x, scale).to_owned());
                part_of(x, shift).assign(&b);
                part_of(x, scale).assign(&a);
            }
        }
        return evaluate(&wrong);
    }
    let (shift, scale) = (input(&mut wrong, "shift").clone(), input(&mut wrong, "scale").clone());
    (*input(&mut wrong, "shift"), *input(&mut wrong, "scale")) = (scale, shift);
    let mut results = evaluate::<f64>(&wrong)?;
    for (name, _) in &mut results {
        *name = match name.as_str() {
            "grad.shift" => "grad.scale".into(),
            "grad.scale" => "grad.shift".into(),
            _ => continue,
        };
    }
    Ok(results)
}

/// Gates of 1.
fn gate_forgotten(case: &Case) -> Result<Results<f64>> {
    if case.op == "gate" {
        return with_input(case, "gate", |gate| gate.fill(1.0));
    }
    let mut wrong = case.clone();
    for (name, value) in MODULATION.into_iter().zip([0.0, 1.0]) {
        GATES.iter().for_each(|&part| part_of(input(&mut wrong, name), part).fill(value));
    }
    evaluate(&wrong)
}

/// Heads that take every so manyth channel: the right ones of channels in another order.
fn interleaved(case: &Case) -> Result<Results<f64>> {
    let heads = case.attributes["heads"].as_u64().expect("a number of heads") as usize;
    let mut wrong = case.clone();
    if case.op == "dit_block" {
        let places = interleaved_places(case.tensors["input.emb"].shape()[1], heads);
        for part in ["to_q", "to_k", "to_v"] {
            for end in ["weight", "bias"] {
                let x = input(&mut wrong, &format!("attn1.{part}.{end}"));
                *x = x.select(Axis(0), &places);
            }
        }
        let x = input(&mut wrong, "attn1.to_out.0.weight");
        *x = x.select(Axis(1), &places);
        return evaluate(&wrong);
    }
    let places = interleaved_places(case.tensors["input.q"].shape()[2], heads);
    for name in ["q", "k", "v"] {
        let x = input(&mut wrong, name);
        *x = x.select(Axis(2), &places);
    }
    if let Some(Tensor::F32(dy)) = wrong.tensors.get_mut("grad_output") {
        *dy = dy.select(Axis(2), &places);
    }
    let mut results = evaluate::<f64>(&wrong)?;
    for (_, values) in &mut results {
        let found = values.clone();
        places.iter().enumerate().for_each(|(i, &place)| {
            values.index_axis_mut(Axis(2), place).assign(&found.index_axis(Axis(2), i));
        });
    }
    Ok(results)
}

/// The halves of each vector exchanged.
fn positions_transposed(case: &Case) -> Result<Results<f64>> {
    let mut results = evaluate::<f64>(case)?;
    for (_, values) in &mut results {
        let dim = values.shape()[1];
        let places: Vec<usize> = (0..dim).map(|i| (i + dim / 2) % dim).collect();
        *values = values.select(Axis(1), &places);
    }
    Ok(results)
}

/// Patches in the order (channel, row, column): the tokens of the right order, in another.
fn channels_first(case: &Case) -> Result<Results<f64>> {
    let patch = case.attributes["patch"].as_u64().expect("a side") as usize;
    let (tokens, of_tokens) = if case.op == "patchify" { ("grad_output", "output") } else { ("input.x", "grad.x") };
    let length = case.tensors[tokens].shape()[2];
    let channels = length / (patch * patch);
    // Number i of (row, column, channel) is there in (channel, row, column).
    let there: Vec<usize> = (0..length).map(|i| i % channels * patch * patch + i / channels).collect();
    let mut back = vec![0; length];
    there.iter().enumerate().for_each(|(here, &there)| back[there] = here);
    let mut wrong = case.clone();
    if let Some(Tensor::F32(x)) = wrong.tensors.get_mut(tokens) {
        *x = x.select(Axis(2), &there);
    }
    let mut results = evaluate::<f64>(&wrong)?;
    for (_, values) in results.iter_mut().filter(|(name, _)| name == of_tokens) {
        *values = values.select(Axis(2), &back);
    }
    Ok(results)
}

/// Every image is told the largest label of the case, the one for no class.
fn labels_hidden(case: &Case) -> Result<Results<f64>> {
    let mut wrong = case.clone();
    if let Some(Tensor::I64(labels)) = wrong.tensors.get_mut("input.class_labels") {
        let none = labels.iter().copied().max().unwrap_or(0);
        labels.fill(none);
    }
    evaluate(&wrong)
}

/// The block up to its MLP, whose gate is closed for that, and the MLP by hand.
fn exact_gelu_of_a_block(case: &Case) -> Result<Results<f64>> {
    let mut before = case.clone();
    MODULATION.iter().for_each(|name| part_of(input(&mut before, name), GATES[1]).fill(0.0));
    let mut results = evaluate::<f64>(&before)?;
    let x = results[0].1.clone().into_dimensionality::<Ix3>().expect("tokens");
    let c = x.dim().2;
    let matrix = |name: &str| case.numbers(&format!("input.{name}")).into_dimensionality::<Ix2>().expect("a matrix");
    let linear = |x: &Array2<f64>, name: &str| {
        let bias = case.numbers(&format!("input.{name}.bias")).into_dimensionality::<Ix1>().expect("a vector");
        x.dot(&matrix(&format!("{name}.weight")).t()) + bias
    };
    let u = linear(&matrix("emb").mapv(|x| x / (1.0 + libm::exp(-x))), "norm1.linear");
    let eps = case.attributes.get("eps").and_then(Value::as_f64).unwrap_or(1e-5);
    let mut y = x;
    for (image, mut y) in y.outer_iter_mut().enumerate() {
        let part = |part: usize| u.slice(s![image, part * c..(part + 1) * c]);
        let mut h = y.to_owned();
        for mut row in h.outer_iter_mut() {
            let mean = row.sum() / c as f64;
            let variance = row.mapv(|x| (x - mean) * (x - mean)).sum() / c as f64;
            row.mapv_inplace(|x| (x - mean) / (variance + eps).sqrt());
            row *= &(&part(SCALES[1]) + 1.0);
            row += &part(SHIFTS[1]);
        }
        let m = linear(&linear(&h, "ff.net.0.proj").mapv(|x| x * cdf(x)), "ff.net.2");
        y += &(&m * &part(GATES[1]));
    }
    results[0].1 = y.into_dyn();
    Ok(results)
}
