//! Fused multiply-add: a·b + c, rounded once, with the instruction or without it (contract N1, rule 1).
//!
//! Where the processor has the instruction it is used. Where it may not have it, the compiler would call the platform's
//! `fmaf` and `fma`, and those are not all right: the one of Rust 1.95 (`compiler_builtins`, the crate `libm`) rounds twice in
//! f32 where the result is subnormal, and in f64 misses what lies just beside a tie. So they are never called.
//!
//! # In f32, by way of f64
//!
//! a·b has 48 bits: exact in f64, and far from either end of its range. The sum with c is not, but Knuth's TwoSum gives
//! its rounding error exactly. If there is one, the sum is made odd: of the two f64 around the true value, the one with
//! an odd last bit. Rounding to odd never lands on a tie of f32 nor hides that one was passed, so the second rounding gives
//! what one alone would have given, subnormal results included (Boldo & Melquiond 2008, "Emulation of FMA and correctly
//! rounded sums"; 53 bits are two more than it takes). Nothing branches, so a loop becomes SIMD.
//!
//! # In f64, in integers
//!
//! a·b has 106 bits and c is laid beside it in 126; what does not fit into them is one sticky bit. Proven, as f32 is, by
//! exact sums and by the instruction, on cases made to be hard (`selftest/arithmetic.rs`).

/// What multiplies and adds.
pub trait Fused: Copy {
    /// The processor, by one instruction; else the code of this module.
    const HARDWARE: bool;
}

/// The processor's instruction: only where it is known to be there.
#[derive(Clone, Copy, Debug)]
pub struct Hardware;

/// The code of this module.
#[derive(Clone, Copy, Debug)]
pub struct Software;

impl Fused for Hardware {
    const HARDWARE: bool = true;
}

impl Fused for Software {
    const HARDWARE: bool = false;
}

/// What every processor of this build's target can do.
#[cfg(any(target_feature = "fma", target_arch = "aarch64"))]
pub type Native = Hardware;
/// What every processor of this build's target can do.
#[cfg(not(any(target_feature = "fma", target_arch = "aarch64")))]
pub type Native = Software;

/// a·b + c in f32, rounded once.
#[inline(always)]
pub(super) fn fma_f32(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (a as f64 * b as f64, c as f64);
    let sum = product + c;
    let of_c = sum - product;
    let error = (product - (sum - of_c)) + (c - of_c); // what the sum lacks; NaN where it is infinite

    let inexact = error.abs() > 0.0;
    let bits = sum.to_bits();
    let outwards = (error > 0.0) == (sum > 0.0);
    let other = if outwards { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    f64::from_bits(if inexact && bits & 1 == 0 { other } else { bits }) as f32
}

/// a·b + c in f64, rounded once.
pub(super) fn fma_f64(a: f64, b: f64, c: f64) -> f64 {
    if !a.is_finite() || !b.is_finite() || a == 0.0 || b == 0.0 {
        return a * b + c;
    }
    if !c.is_finite() {
        return c;
    }
    if c == 0.0 {
        return a * b;
    }
    let ((a_odd, a_exponent), (b_odd, b_exponent), (c_int, c_exponent)) = (parts(a), parts(b), parts(c));
    let (product, exponent) = (a_odd * b_odd, a_exponent + b_exponent);
    // The unit of the sum: such that both fit below 2¹²⁶, a significand of 106 bits moved up by 20, one of 53 by 73.
    let unit = (exponent - 20).max(c_exponent - 73);
    let in_units =
        |x: u128, exponent: i32| if exponent >= unit { x << (exponent - unit) } else { sticky(x, unit - exponent) };
    let (product, c_units) = (in_units(product, exponent) as i128, in_units(c_int, c_exponent) as i128);
    let signed = |x: i128, negative: bool| if negative { -x } else { x };
    let sum = signed(product, (a < 0.0) != (b < 0.0)) + signed(c_units, c < 0.0);

    let magnitude = sum.unsigned_abs();
    let top = 128 - magnitude.leading_zeros() as i32;
    let dropped = (top - 53).max(-1074 - unit).max(0); // at least to the smallest subnormal number
    let kept = sticky(magnitude, (dropped - 2).max(0)); // the last bit, a half and a sticky one
    let (rounded, exponent) = match dropped {
        0 => (kept, unit),
        1 => (half_to_even(kept << 1), unit + 1),
        _ => (half_to_even(kept), unit + dropped),
    };
    let value = times_power_of_two(rounded as u64 as f64, exponent);
    if sum < 0 { -value } else { value }
}

/// |x| as an integer of 53 bits and an exponent.
fn parts(x: f64) -> (u128, i32) {
    let (exponent, fraction) = ((x.to_bits() >> 52 & 2047) as i32, x.to_bits() & ((1 << 52) - 1));
    let significand = if exponent == 0 { fraction } else { fraction | 1 << 52 };
    let shift = significand.leading_zeros() as i32 - 11;
    ((significand << shift) as u128, exponent.max(1) - 1075 - shift)
}

/// x / 2ⁿ, whose last bit is set if any of those that were lost is.
fn sticky(x: u128, n: i32) -> u128 {
    match n {
        0 => x,
        1..128 => x >> n | (x << (128 - n) != 0) as u128,
        _ => (x != 0) as u128,
    }
}

/// x / 4, rounded to the nearest integer, ties to even.
fn half_to_even(x: u128) -> u128 {
    let up = x & 2 != 0 && x & 5 != 0;
    (x >> 2) + up as u128
}

/// x · 2ⁿ for x = 0 or x ≥ 1, exactly where there is such a number, and ∞ where it is too large.
fn times_power_of_two(x: f64, n: i32) -> f64 {
    let power = |n: i32| f64::from_bits(((n + 1023) as u64) << 52);
    let n = n.min(1024); // and from there on, as x is at least 1, it is too large
    let first = n.clamp(-900, 900);
    x * power(first) * power(n - first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::Real;
    use crate::numerics::instruction_set::{self, InstructionSet, every_instruction_set, skipped};
    use crate::numerics::rng::Stream;

    every_instruction_set! {
        fn by_path<F>(cases: &[[F; 3]], results: &mut [F]) {
            for (y, &[a, b, c]) in results.iter_mut().zip(cases) {
                *y = a.fma::<P>(b, c);
            }
        }
    }

    fn equal<F: Real>(cases: &[[F; 3]]) {
        let mut results = vec![F::zero(); cases.len()];
        by_path(cases, &mut results);
        for (&[a, b, c], hardware) in cases.iter().zip(results) {
            let software = a.fma::<Software>(b, c);
            let same = software.to_f64().to_bits() == hardware.to_f64().to_bits();
            assert!(
                same || software.to_f64().is_nan() && hardware.to_f64().is_nan(),
                "fma({a}, {b}, {c}): {software} {hardware}"
            );
        }
    }

    /// Numbers of all magnitudes, and sums in which the addends meet: c has the product's exponent, give or take 2ᵖ.
    #[test]
    fn fma_in_software_has_the_bits_of_the_instruction() {
        if instruction_set::current() == InstructionSet::Portable && !Native::HARDWARE {
            return skipped("software's fused multiply-add against hardware's", "this path has no instruction for it");
        }
        let mut stream = Stream::keyed(1, "test", &[]);
        let single = |word: u64| f32::from_bits((word >> 32) as u32);
        for _ in 0..64 {
            let words: [[u64; 3]; 4096] = std::array::from_fn(|_| std::array::from_fn(|_| stream.next_u64()));
            equal(&words.map(|case| case.map(f64::from_bits)));
            equal(&words.map(|case| case.map(single)));
            equal(&words.map(|[a, b, c]| {
                let (a, b) = (f64::from_bits(a), f64::from_bits(b));
                [a, b, a * b * (1.0 + ((c >> 1) as i64 - (1 << 62)) as f64 / (1u64 << (c % 63)) as f64)]
            }));
            equal(&words.map(|[a, b, c]| {
                let (a, b) = (single(a), single(b));
                [a, b, a * b * (1.0 + ((c >> 33) as i32 - (1 << 30)) as f32 / (1u64 << (c % 31)) as f32)]
            }));
        }
    }
}
