//! AdamW (Loshchilov & Hutter 2019, Algorithm 2), as PyTorch computes it.
//!
//! ```text
//! g ← clip · gradient
//! w ← w (1 − lr · weight_decay)
//! m ← m + (1 − β₁) (g − m)          v ← β₂ v + (1 − β₂) g²
//! w ← w − lr/(1 − β₁ⁿ) · m / (√v / √(1 − β₂ⁿ) + ε)             n = 1, 2, ...
//! ```
//!
//! ε is added after the bias correction. Scalars are f64, rounded once; an element sees only itself, so threads may
//! split the vector anywhere.

use rayon::prelude::*;

use crate::layers::ParameterVector;
use crate::numerics::Real;
use crate::numerics::instruction_set::every_instruction_set;

/// The constants of AdamW but for the learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the mean of gradients, in 0..1.
    pub beta1: f64,
    /// Decay of the mean of squared gradients, in 0..1.
    pub beta2: f64,
    /// Added to the root; positive.
    pub eps: f64,
    /// Fraction of a weight removed a step, times the learning rate.
    pub weight_decay: f64,
}

/// What AdamW remembers between steps.
#[derive(Clone, Debug)]
pub struct Moments<F> {
    /// The mean of gradients.
    pub m: ParameterVector<F>,
    /// The mean of squared gradients.
    pub v: ParameterVector<F>,
}

impl<F: Real> Moments<F> {
    /// Both zero.
    pub fn zeros(count: usize) -> Self {
        Moments { m: ParameterVector::zeros(count), v: ParameterVector::zeros(count) }
    }
}

/// Elements that one task updates.
const TASK: usize = 1 << 15;

impl AdamW {
    /// Step n = 1, 2, ... with a learning rate and a factor on all gradients, 1 or what clipping says. The gradients are
    /// zeros then.
    pub fn step<F: Real>(
        &self,
        n: u64,
        lr: f64,
        clip: f64,
        w: &mut ParameterVector<F>,
        grads: &mut ParameterVector<F>,
        state: &mut Moments<F>,
    ) {
        let root_of_correction2 = (1.0 - power(self.beta2, n)).sqrt();
        let scalars = [
            clip,
            1.0 - lr * self.weight_decay,
            1.0 - self.beta1,
            self.beta2,
            1.0 - self.beta2,
            1.0 / root_of_correction2,
            self.eps,
            -lr / (1.0 - power(self.beta1, n)),
        ]
        .map(F::from_f64);
        let moments = state.m.0.par_chunks_mut(TASK).zip(state.v.0.par_chunks_mut(TASK));
        let parts = w.0.par_chunks_mut(TASK).zip(grads.0.par_chunks_mut(TASK)).zip(moments);
        parts.for_each(|((w, grads), (m, v))| update(w, grads, m, v, &scalars));
    }
}

every_instruction_set! {
    fn update<F>(w: &mut [F], grads: &mut [F], m: &mut [F], v: &mut [F], scalars: &[F; 8]) {
        let [clip, decay, one_minus_beta1, beta2, one_minus_beta2, inverse_root, eps, minus_step] = *scalars;
        for (((w, grad), m), v) in w.iter_mut().zip(grads).zip(m).zip(v) {
            let g = clip * std::mem::replace(grad, F::zero());
            *m = one_minus_beta1.fma::<P>(g - *m, *m);
            *v = (one_minus_beta2 * g).fma::<P>(g, beta2 * *v);
            let direction = *m / v.sqrt().fma::<P>(inverse_root, eps);
            *w = minus_step.fma::<P>(direction, *w * decay);
        }
    }
}

/// xⁿ by squaring, from the highest bit of n down.
fn power(x: f64, n: u64) -> f64 {
    (0..u64::BITS - n.leading_zeros()).rev().fold(1.0, |p, bit| if n >> bit & 1 == 1 { p * p * x } else { p * p })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_equals_repeated_products() {
        let product = (0..1000).fold(1.0, |p, _| p * 0.999);
        assert!((power(0.999, 1000) / product - 1.0).abs() < 1e-12); // a thousand roundings of 2⁻⁵³
        assert_eq!((power(0.9, 0), power(0.9, 1), power(3.0, 5)), (1.0, 0.9, 243.0));
    }

    #[test]
    fn adamw_first_step_moves_each_weight_by_the_learning_rate() {
        let adamw = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
        let (mut w, mut grads) = (ParameterVector(vec![1.0f64; 3]), ParameterVector(vec![1e-3, -5.0, 0.0]));
        adamw.step(1, 0.01, 1.0, &mut w, &mut grads, &mut Moments::zeros(3));
        assert_eq!(grads, ParameterVector::zeros(3));
        // m/√v = ±1 up to ε/|g| = 1e-5, and 0 without a gradient.
        for (w, expected) in w.0.iter().zip([0.99, 1.01, 1.0]) {
            assert!((w - expected).abs() < 0.01 * 1.1e-5, "{w}");
        }
    }
}
