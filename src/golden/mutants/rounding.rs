//! Mistakes that are precisions: products of inputs with fewer bits.

use super::{Case, Mutant, Result, Results, Tensor, evaluate, mutant};
use crate::golden::format::Format;

/// The mistakes, in words.
pub(super) const MUTANTS: &[Mutant] = &[
    mutant("tf32_inputs", "products of inputs rounded to TF32's 10 bits", |case| rounded_inputs(case, 10)),
    mutant("f16_inputs", "products of inputs rounded to float16's 10 bits, subnormals and all", |case| {
        half_inputs(case)
    }),
    mutant("bf16_inputs", "products of inputs rounded to bfloat16's 7 bits", |case| rounded_inputs(case, 7)),
];

/// With everything that is multiplied rounded to so many bits behind the point, ties to even; biases are added and stay.
fn rounded_inputs(case: &Case, bits: u32) -> Result<Results<f64>> {
    multiplied(case, |x| round_to_bits(x, bits))
}

/// The same as float16 has it, subnormals and all.
fn half_inputs(case: &Case) -> Result<Results<f64>> {
    multiplied(case, |x| Format::F16.nearest(x))
}

fn round_to_bits(x: f32, bits: u32) -> f32 {
    let dropped = 23 - bits;
    let (half, odd) = (1u32 << (dropped - 1), x.to_bits() >> dropped & 1);
    f32::from_bits((x.to_bits() + half - 1 + odd) & (u32::MAX << dropped))
}

fn multiplied(case: &Case, round: impl Fn(f32) -> f32) -> Result<Results<f64>> {
    let mut wrong = case.clone();
    for (name, tensor) in &mut wrong.tensors {
        if let Tensor::F32(x) = tensor
            && name != "input.bias"
        {
            x.mapv_inplace(&round);
        }
    }
    let mut results = evaluate(&wrong)?;
    // The gradient of a bias is no product: it is summed in float32.
    let right = evaluate::<f64>(case)?;
    for ((name, values), (_, right)) in results.iter_mut().zip(right) {
        if name == "grad.bias" {
            *values = right;
        }
    }
    Ok(results)
}
