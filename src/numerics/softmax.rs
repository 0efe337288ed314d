//! Softmax over rows in the registers of AVX-512, in f32: the numbers of [`layers::softmax`](crate::layers::softmax), which is
//! its definition, with less to do and nothing to wait for.
//!
//! A sum of a row waits four cycles for its last addition before it begins the next, and a greatest number for its last
//! comparison. So four rows are gone through side by side: they lie in the first cache, from which each of the four passes
//! (greatest, exponentials, sum, division) reads them.

mod lanes;

use std::arch::x86_64::*;

use lanes::{LANES, load, load_some, store, store_some, tree, widened, widened_some};

use super::elementary::exp_avx512::{exp_of_near, exp_of_nonpositive};
use super::gemm::{Softmax, SoftmaxGradient};
use super::instruction_set::{InstructionSet, current};
use super::real::NEAR;

/// Rows side by side.
const TOGETHER: usize = 4;

/// [`softmax`], where the processor has what it needs.
pub(super) fn softmax_of_f32() -> Option<Softmax<f32>> {
    (current() == InstructionSet::Avx512).then_some(softmax)
}

/// [`gradient`], likewise.
pub(super) fn gradient_of_f32() -> Option<SoftmaxGradient<f32>> {
    (current() == InstructionSet::Avx512).then_some(gradient)
}

fn softmax(scores: &mut [f32], width: usize, stride: usize, scale: f32) {
    for rows in scores.chunks_mut(TOGETHER * stride) {
        // SAFETY: `softmax_of_f32` gives this function to processors with AVX-512 alone.
        #[allow(unsafe_code)]
        unsafe {
            match rows.len().div_ceil(stride) {
                TOGETHER => softmax_of_rows(split::<TOGETHER>(rows, width, stride), scale),
                _ => rows.chunks_mut(stride).for_each(|row| softmax_of_rows([&mut row[..width]], scale)),
            }
        }
    }
}

fn gradient(p: &[f32], dp: &mut [f32], width: usize, stride: usize, scale: f32) {
    // Row after row: P may come from memory, which is fetched ahead where it is read in order.
    for (p, dp) in p.chunks(stride).zip(dp.chunks_mut(stride)) {
        // SAFETY: `gradient_of_f32` gives this function to processors with AVX-512 alone.
        #[allow(unsafe_code)]
        unsafe {
            gradient_of_row(&p[..width], &mut dp[..width], scale);
        }
    }
}

/// The first `width` numbers of each row.
fn split<const R: usize>(rows: &mut [f32], width: usize, stride: usize) -> [&mut [f32]; R] {
    let mut rows = rows.chunks_mut(stride);
    std::array::from_fn(|_| &mut rows.next().expect("as many rows")[..width])
}

#[target_feature(enable = "avx512f")]
fn softmax_of_rows<const R: usize>(rows: [&mut [f32]; R], scale: f32) {
    let extremes = extremes(rows.each_ref().map(|row| &**row));
    let mut near = [false; R];
    for r in 0..R {
        let (least, greatest) = (extremes[r][0] * scale, extremes[r][1] * scale);
        near[r] = least - greatest > -NEAR as f32;
        let (scale, greatest) = (_mm512_set1_ps(scale), _mm512_set1_ps(greatest));
        let less = |s| _mm512_sub_ps(_mm512_mul_ps(s, scale), greatest);
        if near[r] {
            map(rows[r], |s| exp_of_near(less(s)));
        } else {
            map(rows[r], |s| exp_of_nonpositive(less(s)));
        }
    }
    let totals = sums(rows.each_ref().map(|row| &**row));
    for r in 0..R {
        let (total, reciprocal) = (_mm512_set1_ps(totals[r] as f32), _mm512_set1_ps(1.0 / totals[r] as f32));
        if near[r] {
            map(rows[r], |e| quotient(e, total, reciprocal));
        } else {
            map(rows[r], |e| _mm512_div_ps(e, total));
        }
    }
}

#[target_feature(enable = "avx512f")]
fn gradient_of_row(p: &[f32], dp: &mut [f32], scale: f32) {
    let (mean, scale) = (_mm512_set1_ps(sum_of_products(dp, p) as f32), _mm512_set1_ps(scale));
    zip(dp, p, |dp, p| _mm512_mul_ps(_mm512_mul_ps(p, _mm512_sub_ps(dp, mean)), scale));
}

/// The least and the greatest of each row: no order of comparisons changes which they are. A NaN may be passed over; its
/// exponential is one, and so is the sum of its row.
#[inline]
#[target_feature(enable = "avx512f")]
fn extremes<const R: usize>(rows: [&[f32]; R]) -> [[f32; 2]; R] {
    let parts = rows.map(|row| row.as_chunks::<LANES>());
    let (mut low, mut high) = ([_mm512_setzero_ps(); R], [_mm512_setzero_ps(); R]);
    for r in 0..R {
        let first = _mm512_set1_ps(rows[r][0]);
        let rest = load_some(parts[r].1, first);
        (low[r], high[r]) = (_mm512_min_ps(rest, first), _mm512_max_ps(rest, first));
    }
    for i in 0..parts[0].0.len() {
        for r in 0..R {
            let s = load(&parts[r].0[i]);
            (low[r], high[r]) = (_mm512_min_ps(s, low[r]), _mm512_max_ps(s, high[r]));
        }
    }
    let mut extremes = [[0.0; 2]; R];
    for r in 0..R {
        extremes[r] = [_mm512_reduce_min_ps(low[r]), _mm512_reduce_max_ps(high[r])];
    }
    extremes
}

/// Σ x of each row, in f64.
#[inline]
#[target_feature(enable = "avx512f")]
fn sums<const R: usize>(rows: [&[f32]; R]) -> [f64; R] {
    let (parts, mut lanes) = (rows.map(|row| row.as_chunks::<LANES>()), [[_mm512_setzero_pd(); 2]; R]);
    for i in 0..parts[0].0.len() {
        for r in 0..R {
            let [low, high] = widened(&parts[r].0[i]);
            lanes[r] = [_mm512_add_pd(lanes[r][0], low), _mm512_add_pd(lanes[r][1], high)];
        }
    }
    let mut sums = [0.0; R];
    for r in 0..R {
        if !parts[r].1.is_empty() {
            let [low, high] = widened_some(parts[r].1);
            lanes[r] = [_mm512_add_pd(lanes[r][0], low), _mm512_add_pd(lanes[r][1], high)];
        }
        sums[r] = tree(lanes[r]);
    }
    sums
}

/// Σ x y, in f64: the product of two f32 is a number of f64, so that a fused multiply-add rounds the sum alone.
#[inline]
#[target_feature(enable = "avx512f")]
fn sum_of_products(x: &[f32], y: &[f32]) -> f64 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks(), y.as_chunks());
    let mut lanes = [_mm512_setzero_pd(); 2];
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (widened(x), widened(y));
        lanes = [_mm512_fmadd_pd(x[0], y[0], lanes[0]), _mm512_fmadd_pd(x[1], y[1], lanes[1])];
    }
    if !x_rest.is_empty() {
        let (x, y) = (widened_some(x_rest), widened_some(y_rest));
        lanes = [_mm512_fmadd_pd(x[0], y[0], lanes[0]), _mm512_fmadd_pd(x[1], y[1], lanes[1])];
    }
    tree(lanes)
}

/// e / total, given 1 / total: [`Real::quotient`](super::Real::quotient).
#[inline]
#[target_feature(enable = "avx512f")]
fn quotient(e: __m512, total: __m512, reciprocal: __m512) -> __m512 {
    let q = _mm512_mul_ps(e, reciprocal);
    let q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, total, e), reciprocal, q);
    _mm512_fmadd_ps(_mm512_fnmadd_ps(q, total, e), reciprocal, q)
}

/// x ← f(x, y), element by element.
#[inline]
#[target_feature(enable = "avx512f")]
fn zip(x: &mut [f32], y: &[f32], f: impl Fn(__m512, __m512) -> __m512) {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks_mut::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter_mut().zip(y) {
        store(x, f(load(x), load(y)));
    }
    if !x_rest.is_empty() {
        let result = f(load_some(x_rest, _mm512_setzero_ps()), load_some(y_rest, _mm512_setzero_ps()));
        store_some(x_rest, result);
    }
}

/// x ← f(x), element by element.
#[inline]
#[target_feature(enable = "avx512f")]
fn map(x: &mut [f32], f: impl Fn(__m512) -> __m512) {
    let (x, rest) = x.as_chunks_mut::<LANES>();
    for x in x {
        store(x, f(load(x)));
    }
    if !rest.is_empty() {
        let result = f(load_some(rest, _mm512_setzero_ps()));
        store_some(rest, result);
    }
}
