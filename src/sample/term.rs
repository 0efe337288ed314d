//! A reverse step as data: a sum of weights times tensors.
//!
//! ```text
//! x_s = Σ_k weight_k · value_k
//! ```
//!
//! The step that is computed is the one that is shown, traced and published: there is no second source of coefficients.

use ndarray::Array4;

use crate::layers::flat;
use crate::numerics::instruction_set::every_instruction_set;
use crate::numerics::{Real, buffer_pool, parallel};

/// One term of a step.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a, F> {
    /// What the value is, in the paper's letters: `x_0_hat`, `eps_hat`, `x_t`, `z`.
    pub name: &'static str,
    /// What it is multiplied by, in f64, rounded once to `F` where the two meet.
    pub weight: f64,
    /// The tensor, shape (n, h, w, c).
    pub value: &'a Array4<F>,
}

impl<'a, F> Term<'a, F> {
    /// `weight` times `value`, which `name` names.
    pub fn new(name: &'static str, weight: f64, value: &'a Array4<F>) -> Self {
        Term { name, weight, value }
    }
}

/// ((w₀·v₀ + w₁·v₁) + w₂·v₂) + …: products and sums from left to right, each rounded (no fused multiply-add).
///
/// # Panics
/// If there is no term or the shapes differ.
pub fn weighted_sum<F: Real>(terms: &[Term<F>]) -> Array4<F> {
    let (first, others) = terms.split_first().expect("weighted_sum: no terms");
    let dim = first.value.dim();
    assert!(others.iter().all(|term| term.value.dim() == dim), "weighted_sum: the terms differ in shape");
    let mut sum = buffer_pool::take(first.value.len());
    let size = sum.len() / dim.0.max(1);
    parallel::in_parts(&mut sum, size.max(1), 1, |at, part| {
        scale(part, &flat(first.value)[at..][..part.len()], F::from_f64(first.weight));
        for term in others {
            add_scaled(part, &flat(term.value)[at..][..part.len()], F::from_f64(term.weight));
        }
    });
    sum.into_array(dim)
}

every_instruction_set! {
    /// w·v.
    fn scale<F>(sum: &mut [F], value: &[F], weight: F) {
        for (sum, &value) in sum.iter_mut().zip(value) {
            *sum = weight * value;
        }
    }
}

every_instruction_set! {
    /// sum + w·v.
    fn add_scaled<F>(sum: &mut [F], value: &[F], weight: F) {
        for (sum, &value) in sum.iter_mut().zip(value) {
            *sum += weight * value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::rng::normal;

    #[test]
    fn weighted_sum_multiplies_and_adds_from_left_to_right_and_rounds_each() {
        let values = [1, 2, 3].map(|key| normal((3, 5, 7, 2), key).mapv(|x| x as f32));
        let weights = [0.3, -1.7, 1e-3];
        let terms: Vec<Term<f32>> = weights.iter().zip(&values).map(|(&w, v)| Term::new("v", w, v)).collect();
        let sum = weighted_sum(&terms);
        let [w0, w1, w2] = weights.map(|w| w as f32);
        for (i, &found) in flat(&sum).iter().enumerate() {
            let [v0, v1, v2] = values.each_ref().map(|v| flat(v)[i]);
            assert_eq!(found, (w0 * v0 + w1 * v1) + w2 * v2);
        }
        assert_eq!(flat(&weighted_sum(&terms[..1]))[7], w0 * flat(&values[0])[7]);
    }
}
