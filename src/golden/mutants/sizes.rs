//! Mistakes that small shapes hide: beyond a block, or beyond its last whole part. They are those of forward passes.

use ndarray::{Axis, Slice};

use super::{Case, Mutant, Result, Results, evaluate, input, mutant};
use crate::layers::flat_mut;

/// The mistakes, in words.
pub(super) const MUTANTS: &[Mutant] = &[
    mutant("rest_of_the_terms_dropped", "the terms of a sum beyond the last whole 16 are left out", without_rest),
    mutant("columns_beyond_32_zero", "columns after the 32nd are never written", |case| zero_beyond(case, 1)),
    mutant("channels_beyond_32_zero", "channels after the 32nd are never written", |case| zero_beyond(case, 1)),
    mutant("pixels_beyond_32_zero", "rows of pixels after the 32nd are never written", |case| zero_beyond(case, 2)),
    mutant(
        "group_statistics_of_a_part",
        "mean and variance of the first 4096 numbers of a group",
        statistics_of_a_part,
    ),
];

/// The output alone.
fn output(mut case: Case) -> Result<Results<f64>> {
    case.tensors.remove("grad_output");
    evaluate(&case)
}

/// Zeros after the first 32 along an axis of the output.
fn zero_beyond(case: &Case, axis: usize) -> Result<Results<f64>> {
    let mut results = output(case.clone())?;
    results[0].1.slice_axis_mut(Axis(axis), Slice::from(32..)).fill(0.0);
    Ok(results)
}

/// Terms after the last whole 16.
fn without_rest(case: &Case) -> Result<Results<f64>> {
    let mut wrong = case.clone();
    let x = input(&mut wrong, "x");
    let whole = x.shape()[1] / 16 * 16;
    x.slice_axis_mut(Axis(1), Slice::from(whole..)).fill(0.0);
    output(wrong)
}

/// Normalised by the mean and the variance of the first 4096 numbers of each group, whose numbers follow one another.
fn statistics_of_a_part(case: &Case) -> Result<Results<f64>> {
    let number = |name: &str| case.attributes[name].as_f64().expect("a number");
    let (x, gamma, beta) = (case.numbers("input.x"), case.numbers("input.weight"), case.numbers("input.bias"));
    let of_channel: usize = x.shape()[2..].iter().product();
    let of_group = x.shape()[1] / number("groups") as usize * of_channel;
    let mut y = x.clone();
    for group in flat_mut(&mut y).chunks_mut(of_group) {
        let part = &group[..4096.min(of_group)];
        let mean = part.iter().sum::<f64>() / part.len() as f64;
        let variance = part.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / part.len() as f64;
        let r = 1.0 / (variance + number("eps")).sqrt();
        group.iter_mut().for_each(|x| *x = (*x - mean) * r);
    }
    for mut image in y.outer_iter_mut() {
        let channels = image.outer_iter_mut().zip(gamma.iter().zip(&beta));
        channels.for_each(|(mut channel, (gamma, beta))| channel.mapv_inplace(|y| y * gamma + beta));
    }
    Ok(vec![("output".to_string(), y)])
}
