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
//!
//! # The quotient without dividing
//!
//! A processor divides sixteen floats in the time of thirty of their multiply-adds, so with fused multiply-add in hardware
//! q is computed by it. d = 1 + z lies in [1, 2]. The line 24/17 − 8/17 d is within 1/17 of 1/d there, relatively; each of Newton's steps
//! r ← r + r (1 − d r) squares that: 2⁻⁸, 2⁻¹⁶, then what f32 holds. q₀ = z r is then off by an ulp at most, its remainder
//! z − q₀ d is exact in one fma, and q₀ + (z − q₀ d) r is rounded once, from a value so near to z/d that it rounds to
//! the same float (Markstein 1990, "Computation of elementary functions on the IBM RISC System/6000"). That it does, for every z, is
//! tested: there are 1,065,353,217 of them.

use super::exp;
use super::exp::exp_of_nonpositive;
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
    let z = exp_of_nonpositive::<P>(-x.abs());
    let q = if P::HARDWARE { quotient::<P>(z) } else { z / (1.0 + z) };
    let c = if x < 0.0 { z } else { 1.0 };
    (-c).fma::<P>(q, c)
}

/// z / (1 + z) for 0 ≤ z ≤ 1: the bits of the division.
#[inline(always)]
fn quotient<P: Fused>(z: f32) -> f32 {
    let d = 1.0 + z;
    let mut r = d.fma::<P>(-8.0 / 17.0, 24.0 / 17.0);
    for _ in 0..3 {
        r = r.fma::<P>((-d).fma::<P>(r, 1.0), r);
    }
    let q = z * r;
    (-q).fma::<P>(d, z).fma::<P>(r, q)
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;
    use crate::numerics::path::every_path;

    every_path! {
        /// The first of the bits from..to whose quotient differs, or `to`.
        fn first_difference<F>(from: u32, to: u32) -> u32 {
            let differs = |bits: u32| {
                let z = f32::from_bits(bits);
                quotient::<P>(z).to_bits() != (z / (1.0 + z)).to_bits()
            };
            let mut any = false;
            for bits in from..to {
                any |= differs(bits);
            }
            if any { (from..to).find(|&bits| differs(bits)).unwrap_or(to) } else { to }
        }
    }

    #[test]
    fn quotient_of_every_float_from_zero_to_one_has_the_bits_of_the_division() {
        const BLOCK: u32 = 1 << 16;
        let thinned = if cfg!(debug_assertions) { 97 } else { 1 }; // slow without optimisation
        (0..1.0f32.to_bits() / BLOCK + 1).into_par_iter().step_by(thinned).for_each(|block| {
            let (from, to) = (block * BLOCK, ((block + 1) * BLOCK).min(1.0f32.to_bits() + 1));
            let found = first_difference::<f32>(from, to);
            assert_eq!(found, to, "z = {:e}", f32::from_bits(found));
        });
    }
}
