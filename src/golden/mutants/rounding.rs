//! Mistakes that are precisions: products of inputs with fewer bits.

use super::{Case, Format, Result, Results, Tensor, evaluate};

/// With everything that is multiplied rounded to so many bits behind the point, ties to even; biases are added and stay.
pub(super) fn rounded_inputs(case: &Case, bits: u32) -> Result<Results<f64>> {
    multiplied(case, |x| round_to_bits(x, bits))
}

/// The same as float16 has it, subnormals and all.
pub(super) fn half_inputs(case: &Case) -> Result<Results<f64>> {
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
