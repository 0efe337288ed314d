//! 1 / (1 + e^−x) in f64 and f32.
//!
//! Only e^−|x| is taken, which never overflows: with z = e^−|x|,
//!
//! ```text
//! σ(x) = 1 / (1 + z)   for x ≥ 0,      σ(x) = z / (1 + z)   for x < 0.
//! ```
//!
//! In f32 both are c·(1 − q) with q = z / (1 + z) and c = 1 or z, by one fused multiply-add: where z is small, the
//! roundings of 1 + z and of the quotient enter with the factor z and all but vanish. The division would keep them whole,
//! and lose about 2 ulp.

use super::exp;
use super::exp::exp_of_nonpositive_f32;
use crate::numerics::{Fused, Real};

/// 1 / (1 + e^−x) in f64, within 3 ulp.
pub fn sigmoid(x: f64) -> f64 {
    let z = exp(-x.abs());
    let numerator = if x < 0.0 { z } else { 1.0 };
    numerator / (1.0 + z)
}

/// 1 / (1 + e^−x) in f32, accurate down to the subnormals: σ(−100) = e^−100.
#[inline(always)]
pub fn sigmoid_f32<P: Fused>(x: f32) -> f32 {
    let z = exp_of_nonpositive_f32::<P>(-x.abs());
    let q = z / (1.0 + z);
    let c = if x < 0.0 { z } else { 1.0 };
    (-c).fma::<P>(q, c)
}
