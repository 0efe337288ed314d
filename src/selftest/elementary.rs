//! Elementary functions at inputs spread over all bit patterns, and over the range where they do their work.

use super::Chain;
use crate::Result;
use crate::numerics::elementary;
use crate::numerics::instruction_set::every_instruction_set;

/// A prime near 2²⁰: some 4100 of the 2³² patterns of f32, no two with the same low bits in a row.
const STRIDE_F32: usize = 1_048_573;

/// An odd number near 2⁵²: as many of the patterns of f64.
const STRIDE_F64: u64 = 4_503_599_627_370_449;

/// A function and its name.
type Named<F> = (&'static str, fn(F) -> F);

pub(super) fn links(chain: &mut Chain) -> Result<()> {
    let patterns = (0..=u32::MAX).step_by(STRIDE_F32).map(f32::from_bits);
    // Dense enough that the last bit of a leading coefficient shows.
    let at_work = (-8192..8192).map(|i| i as f32 / 650.0);
    let x: Vec<f32> = patterns.chain(at_work).collect();
    let mut y = vec![[0.0f32; 3]; x.len()];
    by_path(&x, &mut y);
    for (i, name) in ["exp", "sigmoid", "tanh"].into_iter().enumerate() {
        chain.numbers(format!("elementary.{name}_f32"), &y.iter().map(|y| y[i]).collect::<Vec<_>>());
    }
    let functions: [Named<f32>; 3] =
        [("ln", elementary::ln_f32), ("sin", elementary::sin_f32), ("cos", elementary::cos_f32)];
    for (name, f) in functions {
        chain.numbers(format!("elementary.{name}_f32"), &x.iter().map(|&x| f(x)).collect::<Vec<_>>());
    }

    let patterns = (0..4096).map(|i| f64::from_bits(STRIDE_F64.wrapping_mul(i)));
    let at_work = (-2048..2048).map(|i| f64::from(i) / 97.0);
    let x: Vec<f64> = patterns.chain(at_work).collect();
    let functions: [Named<f64>; 6] = [
        ("exp", elementary::exp),
        ("sigmoid", elementary::sigmoid),
        ("tanh", elementary::tanh),
        ("ln", elementary::ln),
        ("sin", elementary::sin),
        ("cos", elementary::cos),
    ];
    for (name, f) in functions {
        chain.numbers(format!("elementary.{name}_f64"), &x.iter().map(|&x| f(x)).collect::<Vec<_>>());
    }
    Ok(())
}

every_instruction_set! {
    /// (e^x, σ(x), tanh x), as the hot loops have them.
    fn by_path<F>(x: &[F], y: &mut [[F; 3]]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = [x.exp::<P>(), x.sigmoid::<P>(), x.tanh::<P>()];
        }
    }
}
