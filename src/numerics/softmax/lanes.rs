//! Numbers in and out of registers of AVX-512.

use std::arch::x86_64::*;

/// Numbers of a register, and lanes of a sum (contract N1, rule 4).
pub(super) const LANES: usize = 16;

/// The sum of 16 lanes, in the order of [`sum`](crate::numerics::sum): 8 to 15 are added to 0 to 7, 4 to 7 to 0 to 3,
/// 2 and 3 to 0 and 1, and 1 to 0.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn tree([low, high]: [__m512d; 2]) -> f64 {
    let eight = _mm512_add_pd(low, high);
    let four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd::<1>(eight));
    let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
    _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two))
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(x: &[f32; LANES]) -> __m512 {
    // SAFETY: 16 numbers are read from an array of 16.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_loadu_ps(x.as_ptr())
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(x: &mut [f32; LANES], numbers: __m512) {
    // SAFETY: 16 numbers are written to an array of 16.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_storeu_ps(x.as_mut_ptr(), numbers)
    }
}

/// The numbers in f64, from memory.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn widened(x: &[f32; LANES]) -> [__m512d; 2] {
    // SAFETY: 8 numbers are read from an array of 16 at 0 and at 8.
    #[allow(unsafe_code)]
    unsafe {
        let [low, high] = [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))];
        [_mm512_cvtps_pd(low), _mm512_cvtps_pd(high)]
    }
}

/// The lanes that so many numbers have, at most all.
#[inline]
fn mask(numbers: usize) -> __mmask16 {
    (1u32 << numbers.min(LANES)).wrapping_sub(1) as __mmask16
}

/// At most 16 numbers, and in the lanes behind them those of `others`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_some(x: &[f32], others: __m512) -> __m512 {
    // SAFETY: the lanes of the mask are those of the numbers, and no other is read.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_mask_loadu_ps(others, mask(x.len()), x.as_ptr())
    }
}

/// As many numbers as there are, at most 16.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_some(x: &mut [f32], numbers: __m512) {
    // SAFETY: the lanes of the mask are those of the numbers, and no other is written.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_mask_storeu_ps(x.as_mut_ptr(), mask(x.len()), numbers)
    }
}

/// At most 16 numbers in f64, and zeros behind them.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn widened_some(x: &[f32]) -> [__m512d; 2] {
    let x = load_some(x, _mm512_setzero_ps());
    let high = _mm512_castpd_ps(_mm512_castpd256_pd512(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x))));
    [_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_castps512_ps256(high))]
}
