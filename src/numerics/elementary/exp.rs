//! e^x in f32.
//!
//! # Reduction
//!
//! x = n·ln 2 + r with n = round(x / ln 2), so that |r| ≤ ½ ln 2 and e^x = 2ⁿ·e^r. ln 2 is split into a number `LN2_HI` of
//! 24 bits and the rest `LN2_LO`. x − n·`LN2_HI` is a multiple of 2⁻²⁵ below 0.35, so one fused multiply-add gives it
//! exactly; n·`LN2_LO` then corrects it.
//!
//! # Polynomial
//!
//! e^r = 1 + r + r²·q(r). The degree-4 q minimises the largest relative error of e^r on |r| ≤ ½ ln 2 (Remez' exchange);
//! its coefficients were rounded to f32 one after another from the lowest, the rest fitted again each time. The relative
//! error that remains is 2⁻²⁸·¹⁸, 0.03 to 0.06 ulp.
//!
//! # Reconstruction
//!
//! 2ⁿ can lie outside f32 where e^x does not, so it is multiplied in as 2^⌊n/2⌋ and 2^⌈n/2⌉. The first product is
//! exact; the second rounds only where the result is subnormal.
//!
//! # Error
//!
//! Half an ulp for 1 + t below, a quarter for t itself (its magnitude is below 0.415, a binade or more under the sum), and
//! the polynomial: see the table in [the module above](super). A subnormal result is rounded a second time.

use crate::numerics::{Fused, Real};

/// Added and taken away again, it rounds |x| < 2²² to an integer, ties to even: at 1.5·2²³ the spacing of f32 is 1. The
/// integer stands in the low bits of the sum.
pub(super) const ROUNDER: f32 = 12_582_912.0;
/// ln 2 rounded to f32.
pub(super) const LN2_HI: f32 = f32::from_bits(0x3f31_7218);
/// ln 2 − `LN2_HI` rounded to f32: −1.9046542e-9.
pub(super) const LN2_LO: f32 = f32::from_bits(0xb102_e308);
/// q₀ ... q₄, lowest first.
pub(super) const Q: [f32; 5] = [0.499_999_94, 0.166_665_18, 0.041_668_244, 0.008_368_945, 0.001_382_276_2];

/// e^x in f32. Overflows to +∞ above 88.72283, and to 0 through the subnormals below −87.33655.
#[inline(always)]
pub fn exp_f32<P: Fused>(x: f32) -> f32 {
    // Beyond these the result is +∞ or 0 whatever x is; a NaN fails both comparisons and stays.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let (m, n) = mantissa_and_exponent::<P>(x);
    let half = n >> 1;
    m * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// e^x for x ≤ 0: the bits of [`exp_f32`] with less to do, as 2ⁿ⁺⁶⁴ stays in range for every n from −150 to 0.
#[inline(always)]
pub fn exp_of_nonpositive_f32<P: Fused>(x: f32) -> f32 {
    let x = if x < -104.0 { -104.0 } else { x };
    let (m, n) = mantissa_and_exponent::<P>(x);
    m * power_of_two(n.wrapping_add(64)) * power_of_two(-64)
}

/// e^x = m·2ⁿ with m in [0.70, 1.42], for |x| ≤ 10⁵.
#[inline(always)]
pub(super) fn mantissa_and_exponent<P: Fused>(x: f32) -> (f32, i32) {
    let shifted = x.fma::<P>(std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let integer = (shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32);

    let r_hi = n.fma::<P>(-LN2_HI, x);
    let r_lo = n * -LN2_LO;
    let r = r_hi + r_lo;

    let q = Q[4].fma::<P>(r, Q[3]).fma::<P>(r, Q[2]).fma::<P>(r, Q[1]).fma::<P>(r, Q[0]);
    // t = r + r²·q, the rounding of r left out of its leading term.
    let t = r_hi + (r * r).fma::<P>(q, r_lo);
    (1.0 + t, integer)
}

/// 2ⁿ for −126 ≤ n ≤ 127, by its bits.
#[inline(always)]
pub(super) fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}
