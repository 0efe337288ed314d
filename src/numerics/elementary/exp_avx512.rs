//! e^x of sixteen f32 in a register of AVX-512, operation by operation that of [`exp_of_nonpositive_f32`](super::exp_of_nonpositive_f32).

use std::arch::x86_64::*;

use super::exp::{LN2_HI, LN2_LO, Q, ROUNDER, power_of_two as power_of_two_of};

/// e^x for x ≤ 0, or NaN.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in crate::numerics) fn exp_of_nonpositive(x: __m512) -> __m512 {
    let (m, shifted) = mantissa_and_exponent(_mm512_max_ps(_mm512_set1_ps(-104.0), x)); // of a NaN it gives x
    _mm512_mul_ps(_mm512_mul_ps(m, power_of_two::<{ 127 + 64 }>(shifted)), _mm512_set1_ps(power_of_two_of(-64)))
}

/// The same for −87 ≤ x ≤ 0, or NaN: m·2ⁿ is no subnormal, so one product gives it.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in crate::numerics) fn exp_of_near(x: __m512) -> __m512 {
    let (m, shifted) = mantissa_and_exponent(x);
    _mm512_mul_ps(m, power_of_two::<127>(shifted))
}

/// e^x = m·2ⁿ, and the number whose lowest bits are n.
#[inline]
#[target_feature(enable = "avx512f")]
fn mantissa_and_exponent(x: __m512) -> (__m512, __m512) {
    let number = |x: f32| _mm512_set1_ps(x);
    let shifted = _mm512_fmadd_ps(x, number(std::f32::consts::LOG2_E), number(ROUNDER));
    let n = _mm512_sub_ps(shifted, number(ROUNDER));

    let r_hi = _mm512_fmadd_ps(n, number(-LN2_HI), x);
    let r_lo = _mm512_mul_ps(n, number(-LN2_LO));
    let r = _mm512_add_ps(r_hi, r_lo);

    let mut q = number(Q[4]);
    for i in (0..4).rev() {
        q = _mm512_fmadd_ps(q, r, number(Q[i]));
    }
    let t = _mm512_add_ps(r_hi, _mm512_fmadd_ps(_mm512_mul_ps(r, r), q, r_lo));
    (_mm512_add_ps(number(1.0), t), shifted)
}

/// The number with the exponent n + BIAS. The bits of `ROUNDER` are shifted out: only its highest are set.
#[inline]
#[target_feature(enable = "avx512f")]
fn power_of_two<const BIAS: i32>(shifted: __m512) -> __m512 {
    let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
    _mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_set1_epi32(BIAS << 23)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::Native;
    use crate::numerics::elementary::exp_of_nonpositive_f32;
    use crate::numerics::instruction_set::{InstructionSet, current, skipped};

    /// Every 1021st number from −0 to the least, the infinity, and NaNs of either sign.
    #[test]
    fn exp_in_registers_has_the_bits_of_its_definition() {
        if current() != InstructionSet::Avx512 {
            return skipped("the exponentials in registers", "they are made of AVX-512");
        }
        let of = |x: f32, f: unsafe fn(__m512) -> __m512| {
            // SAFETY: the processor has AVX-512; sixteen numbers are written to an array of sixteen.
            #[allow(unsafe_code)]
            unsafe {
                let mut y = [0.0; 16];
                _mm512_storeu_ps(y.as_mut_ptr(), f(_mm512_set1_ps(x)));
                y
            }
        };
        let same = |x: f32, y: [f32; 16]| {
            let expected = exp_of_nonpositive_f32::<Native>(x);
            assert!(y.iter().all(|y| y.to_bits() == expected.to_bits() || y.is_nan() && expected.is_nan()), "{x}");
        };
        for x in (0x8000_0000..=0xff80_0000u32).step_by(1021).chain([0xff80_0000, 0x7fc0_0001, 0xffc0_01ff]) {
            let x = f32::from_bits(x);
            same(x, of(x, exp_of_nonpositive));
            if x >= -87.0 || x.is_nan() {
                same(x, of(x, exp_of_near));
            }
        }
    }
}
