//! tanh x in f32.
//!
//! With a = |x|, both of these are computed and one is chosen, and the sign of x is put back:
//!
//! - a < 0.625: tanh a = a + a³·p(a²). The degree-4 p minimises the largest relative error of tanh a there (Remez' exchange,
//!   coefficients rounded to f32 as in `exp`): 2⁻²⁷·⁷.
//! - a ≥ 0.625: tanh a = 1 − 2 / (e^2a + 1). The error of the fraction counts at most 0.8 of what it is in its own right,
//!   as tanh a ≥ 0.55. From a = 9.02 on the result is 1, so a is cut at 10 and e^2a needs no care for overflow.

use super::exp::{mantissa_and_exponent, power_of_two};
use crate::numerics::{Fused, Real};

/// Where the polynomial ends.
const POLYNOMIAL_BELOW: f32 = 0.625;
/// p₀ ... p₄, lowest first.
const P: [f32; 5] = [-0.333_332_8, 0.133_314_12, -0.053_737_402, 0.020_632_116, -0.005_697_722_5];

/// tanh x in f32. −0 and every |x| below 10⁻⁴ come back as they are.
#[inline(always)]
pub fn tanh_f32<P: Fused>(x: f32) -> f32 {
    let a = x.abs();

    let u = a * a;
    let p = P[4].fma::<P>(u, P[3]).fma::<P>(u, P[2]).fma::<P>(u, P[1]).fma::<P>(u, P[0]);
    let near = (a * u).fma::<P>(p, a);

    let cut = if a > 10.0 { 10.0 } else { a };
    let (m, n) = mantissa_and_exponent::<P>(cut + cut);
    let far = 1.0 - 2.0 / (m * power_of_two(n) + 1.0);

    let y = if a < POLYNOMIAL_BELOW { near } else { far };
    y.copysign(x)
}
