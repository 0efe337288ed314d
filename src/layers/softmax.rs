//! Softmax over rows.
//!
//! # Derivation
//!
//! p_j = e^(s_j − m) / Σ_k e^(s_k − m), with m = max s: the same number for any m, and no exponential overflows.
//! ∂p_k/∂s_j = p_k (δ_jk − p_j), so, given dp:
//!
//! ```text
//! ds_j = Σ_k dp_k p_k (δ_jk − p_j) = p_j (dp_j − Σ_k dp_k p_k)
//! ```
//!
//! The cache is p itself. Both sums are the 16 lanes of [`sum_by`](crate::numerics::sum::sum_by), in f64; the exponentials are
//! those of F. Hazard: Σ_j ds_j = 0, so a constant dp has no gradient, and a check with a constant dp proves nothing. Proven by
//! central differences, and by PyTorch's numbers through attention.
//!
//! Next in the [course](super#the-course): [`cross_entropy`](super::cross_entropy).

use crate::numerics::Real;
use crate::numerics::instruction_set::every_instruction_set;
use crate::numerics::real::NEAR;
use crate::numerics::sum::{sum, sum_of_products};

/// Each row of `width` scores becomes probabilities, in place.
///
/// # Panics
/// If `width` is 0.
pub fn softmax<F: Real>(scores: &mut [F], width: usize) {
    scaled_softmax(scores, width, width, None);
}

/// ds = p (dp − Σ dp p), each row of `width`; dp becomes ds in place.
///
/// # Panics
/// If `width` is 0.
pub fn softmax_backward<F: Real>(p: &[F], dp: &mut [F], width: usize) {
    scaled_softmax_backward(p, dp, width, width, None);
}

/// Softmax of the scores times a positive scale, if there is one, of rows of `width` numbers that begin `stride` apart; each
/// product is rounded.
pub(crate) fn scaled_softmax<F: Real>(scores: &mut [F], width: usize, stride: usize, scale: Option<F>) {
    match F::softmax() {
        Some(kernel) => kernel(scores, width, stride, scale.unwrap_or(F::one())), // to multiply by 1 changes nothing
        None => softmax_by_definition(scores, width, stride, scale),
    }
}

every_instruction_set! {
    fn softmax_by_definition<F>(scores: &mut [F], width: usize, stride: usize, scale: Option<F>) {
        let scaled = |s: F| scale.map_or(s, |scale| s * scale);
        for row in scores.chunks_mut(stride) {
            let row = &mut row[..width];
            // A product with a positive number keeps the order, so the greatest product is that of the greatest.
            let [least, greatest] = extremes(row);
            let max = scaled(greatest);
            let near = scaled(least) - max > F::from_f64(-NEAR);
            for s in row.iter_mut() {
                *s = (scaled(*s) - max).exp_of_nonpositive::<P>();
            }
            let total = F::from_f64(sum(row));
            if P::HARDWARE && near {
                let reciprocal = F::one() / total;
                for s in row.iter_mut() {
                    *s = s.quotient::<P>(total, reciprocal);
                }
            } else {
                for s in row.iter_mut() {
                    *s /= total;
                }
            }
        }
    }
}

/// The greatest of a row, as 16 lanes go through it side by side: no order changes which it is. Of two zeros it may be either,
/// and a NaN may be passed over; but the exponentials are the same, and a row with a NaN is all NaN.
#[inline(always)]
pub(crate) fn greatest<F: Real>(row: &[F]) -> F {
    extremes(row)[1]
}

/// The least and the greatest, likewise.
#[inline(always)]
fn extremes<F: Real>(row: &[F]) -> [F; 2] {
    let less = |m: F, s: F| if s < m { s } else { m };
    let greater = |m: F, s: F| if s > m { s } else { m };
    let (chunks, rest) = row.as_chunks::<16>();
    let (mut low, mut high) = ([row[0]; 16], [row[0]; 16]);
    for chunk in chunks {
        for i in 0..16 {
            low[i] = less(low[i], chunk[i]);
            high[i] = greater(high[i], chunk[i]);
        }
    }
    let (mut least, mut greatest) = (row[0], row[0]);
    for (&low, &high) in low.iter().chain(rest).zip(high.iter().chain(rest)) {
        (least, greatest) = (less(least, low), greater(greatest, high));
    }
    [least, greatest]
}

/// The gradient of [`scaled_softmax`]: ds = p (dp − Σ dp p) scale, of rows as there; dp becomes ds in place.
pub(crate) fn scaled_softmax_backward<F: Real>(p: &[F], dp: &mut [F], width: usize, stride: usize, scale: Option<F>) {
    match F::softmax_gradient() {
        Some(kernel) => kernel(p, dp, width, stride, scale.unwrap_or(F::one())),
        None => gradient_by_definition(p, dp, width, stride, scale),
    }
}

every_instruction_set! {
    fn gradient_by_definition<F>(p: &[F], dp: &mut [F], width: usize, stride: usize, scale: Option<F>) {
        let scaled = |s: F| scale.map_or(s, |scale| s * scale);
        for (p, dp) in p.chunks(stride).zip(dp.chunks_mut(stride)) {
            let (p, dp) = (&p[..width], &mut dp[..width]);
            let mean = F::from_f64(sum_of_products(dp, p));
            for (dp, &p) in dp.iter_mut().zip(p) {
                *dp = scaled(p * (*dp - mean));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradient_check::check;
    use crate::layers::{ParameterVector, flat, flat_mut};
    use crate::numerics::Native;
    use crate::numerics::elementary::exp;
    use crate::numerics::rng::normal;

    /// 37 scores are two rows of lanes and five. An exponential of 400 overflows, so the greatest must be found.
    #[test]
    fn softmax_finds_the_greatest_score_in_any_place() {
        for place in 0..37 {
            let mut p = [0.0f32; 37];
            p[place] = 400.0;
            softmax(&mut p, 37);
            assert!(p.iter().enumerate().all(|(i, &p)| p == f32::from(i == place)), "{place}: {p:?}");
        }
    }

    #[test]
    fn softmax_gradient_equals_central_differences() {
        let forward = |_: &ParameterVector<f64>, s: &ndarray::Array2<f64>| {
            let mut p = s.clone();
            softmax(flat_mut(&mut p), 19);
            (p.clone(), p)
        };
        let backward = |_: &ParameterVector<f64>,
                        p: ndarray::Array2<f64>,
                        dy: &ndarray::Array2<f64>,
                        _: &mut ParameterVector<f64>| {
            let mut ds = dy.clone();
            softmax_backward(flat(&p), flat_mut(&mut ds), 19);
            ds
        };
        check(&ParameterVector(vec![]), &(normal((3, 19), 1) * 2.0), 2, forward, backward)
            .expect("the gradient is right");
    }

    #[test]
    fn softmax_of_scores_of_400_is_finite_and_sums_to_one() {
        let mut p = [400.0f32, -400.0, 399.0, 400.0, 0.0];
        softmax(&mut p, 5);
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 2e-7 && p[0] == p[3] && p[1] == 0.0, "{p:?}");
    }

    /// Numbers a in 1/2..1 and b in 1..2 of so many bits whose quotient lies as near as it can to the middle of two numbers:
    /// a 2^(bits + 1) = M b + r with an odd M and the least r, so M = -r / b modulo 2^(bits + 1).
    fn near_ties(bits: u32) -> impl Iterator<Item = (f64, f64)> {
        let modulus = 1i128 << (bits + 1);
        (1..5000u64).flat_map(move |i| {
            let low = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (65 - bits);
            let b = 1i128 << (bits - 1) | low as i128 | 1;
            // Newton's steps double the low bits that are right, from three on.
            let inverse = (0..6).fold(b, |x, _| x * (2 - b * x % modulus) % modulus);
            [1, -1, 3, -3].into_iter().filter_map(move |r| {
                let m = (-r * inverse).rem_euclid(modulus);
                let a = (m * b + r) / modulus;
                let halves = (1u64 << (bits - 1)) as f64;
                (a >= 1 << (bits - 1)).then_some((a as f64 / (2.0 * halves), b as f64 / halves))
            })
        })
    }

    #[test]
    fn quotient_by_a_reciprocal_has_the_bits_of_the_division() {
        fn in_precision<F: Real>(bits: u32) {
            let of = |a: F, b: F| {
                assert_eq!(a.quotient::<Native>(b, F::one() / b), a / b, "{a:?} / {b:?} in {}", F::NAME);
            };
            let ties = near_ties(bits).inspect(|&(a, b)| of(F::from_f64(a), F::from_f64(b))).count();
            assert!(ties > 1000, "{ties}");
            let spread = normal(500, 1).mapv(|x| exp(4.0 * x - 20.0).min(1.0));
            for b in normal(500, 2).mapv(|x| 1.0 + exp(6.0 * x.abs())) {
                spread.iter().for_each(|&a| of(F::from_f64(a), F::from_f64(b)));
            }
        }
        in_precision::<f32>(24);
        in_precision::<f64>(53);
    }

    /// Rows that are divided by the reciprocal, rows that are not (a score further than [`NEAR`] from the greatest), and what
    /// is beside them. Nine rows are twice four side by side, and one.
    #[test]
    fn softmax_with_a_scale_has_the_bits_of_its_definition() {
        fn in_precision<F: Real>() {
            let spreads = [(1.0, 0.125), (60.0, 0.3), (400.0, 1.0)];
            for ((spread, scale), width) in spreads.into_iter().flat_map(|s| [1, 16, 37, 256].map(|width| (s, width))) {
                let stride = width + 4;
                let scores = normal(9 * stride, 1).mapv(|x| F::from_f64(spread * x)).to_vec();
                let dp = normal(9 * stride, 2).mapv(F::from_f64).to_vec();
                let scale = F::from_f64(scale);
                let (mut p, mut ds) = (scores.clone(), dp.clone());
                scaled_softmax(&mut p, width, stride, Some(scale));
                scaled_softmax_backward(&p, &mut ds, width, stride, Some(scale));
                for row in 0..9 {
                    let row = row * stride..(row + 1) * stride;
                    let (scores, dp) = (&scores[row.clone()], &dp[row.clone()]);
                    let s: Vec<F> = scores[..width].iter().map(|&s| s * scale).collect();
                    let max = s.iter().copied().fold(s[0], |m, s| if s > m { s } else { m });
                    let e: Vec<F> = s.iter().map(|&s| (s - max).exp::<Native>()).collect();
                    let total = F::from_f64(sum(&e));
                    let mut expected: Vec<F> = e.iter().map(|&e| e / total).collect();
                    let mean = F::from_f64(sum_of_products(&dp[..width], &expected));
                    let d: Vec<F> = expected.iter().zip(dp).map(|(&p, &dp)| p * (dp - mean) * scale).collect();
                    expected.extend(&scores[width..]);
                    assert_eq!(p[row.clone()], expected, "{} spread by {spread}", F::NAME);
                    assert_eq!(ds[row], [&d, &dp[width..]].concat(), "{} spread by {spread}", F::NAME);
                }
            }
        }
        in_precision::<f32>();
        in_precision::<f64>();
    }
}
