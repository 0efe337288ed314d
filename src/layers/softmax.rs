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
//! The cache is p itself. Both sums are the 16 lanes of [`sum_by`], in f64; the exponentials are those of F. Hazard: Σ_j ds_j = 0, so a constant dp has no
//! gradient, and a check with a constant dp proves nothing. Proven by central differences, and by PyTorch's numbers
//! through attention.
//!
//! Next in the [course](super#the-course): [`cross_entropy`](super::cross_entropy).

use crate::numerics::Real;
use crate::numerics::instruction_set::every_instruction_set;
use crate::numerics::sum::{sum, sum_by};

every_instruction_set! {
    /// Each row of `width` scores becomes probabilities, in place.
    pub fn softmax<F>(scores: &mut [F], width: usize) {
        for row in scores.chunks_mut(width) {
            let max = greatest(row);
            for s in row.iter_mut() {
                *s = (*s - max).exp::<P>();
            }
            let total = F::from_f64(sum(row));
            for s in row.iter_mut() {
                *s /= total;
            }
        }
    }
}

/// The greatest of a row, as 16 lanes go through it side by side: no order changes which it is. Of two zeros it may be either,
/// and a NaN may be passed over; but the exponentials are the same, and a row with a NaN is all NaN.
#[inline(always)]
pub(crate) fn greatest<F: Real>(row: &[F]) -> F {
    let greater = |m: F, s: F| if s > m { s } else { m };
    let (chunks, rest) = row.as_chunks::<16>();
    let mut lanes = [row[0]; 16];
    for chunk in chunks {
        for i in 0..16 {
            lanes[i] = greater(lanes[i], chunk[i]);
        }
    }
    let mut max = row[0];
    for &s in lanes.iter().chain(rest) {
        max = greater(max, s);
    }
    max
}

every_instruction_set! {
    /// ds = p (dp − Σ dp p), each row of `width`; dp becomes ds in place.
    pub fn softmax_backward<F>(p: &[F], dp: &mut [F], width: usize) {
        let mut products = vec![0.0; width];
        for (p, dp) in p.chunks(width).zip(dp.chunks_mut(width)) {
            for ((product, &p), &dp) in products.iter_mut().zip(p).zip(dp.iter()) {
                *product = dp.to_f64() * p.to_f64();
            }
            let mean = F::from_f64(sum_by(&products, |p| p));
            for (dp, &p) in dp.iter_mut().zip(p) {
                *dp = p * (*dp - mean);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradient_check::check;
    use crate::layers::{ParameterVector, flat, flat_mut};
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
}
