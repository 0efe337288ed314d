//! Time and class as vectors.
//!
//! # Sinusoidal time embedding
//!
//! Vaswani et al. 2017, section 3.5, as Ho et al. 2020 feed the timestep. With half = dim/2 frequencies
//!
//! ```text
//! ω_i = 10000^(−i / (half − freq_shift))       i = 0..half
//! ```
//!
//! the embedding of t is [sin ω_i t, cos ω_i t], or cosines first with `flip_sin_to_cos`; an odd dim ends with a zero. Two
//! conventions live in published models: sines first with freq_shift 1 (Ho et al.), cosines first with 0 (OpenAI's).
//! Computed in f64 and rounded once: in f32 the argument alone is off by 3.6e-5 at large t. t is data: no gradient.
//!
//! # Class embedding
//!
//! y_n = E_label(n), a row of a table. Each row is read by the images of its class: dE_k = Σ over n with label k of dy_n,
//! in ascending n. Proven by central differences and PyTorch's numbers through a conditional U-Net.
//!
//! Next in the [course](super#the-course): [`im2col`](mod@super::im2col).

use ndarray::{Array2, Ix2};

use super::parameters::{Axes, Init};
use super::{Kept, Layout, ParameterVector, Span, Weights, flat, shaped};
use crate::numerics::{Real, elementary};

/// Which of the conventions of a sinusoidal embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeEmbedding {
    /// The length of the embedding; at least 2.
    pub dim: usize,
    /// Cosines before sines.
    pub flip_sin_to_cos: bool,
    /// Subtracted from half the length in the exponent's denominator.
    pub freq_shift: f64,
}

impl TimeEmbedding {
    /// The embedding of each t, as the network is fed it: t − 1 of the paper's t = 1..=T.
    ///
    /// # Shapes
    /// t (n) to (n, dim).
    pub fn embed<F: Real>(&self, t: &[f64]) -> Array2<F> {
        let half = self.dim / 2;
        let log_period = elementary::ln(10_000.0);
        let frequency = |i: usize| elementary::exp(-log_period * i as f64 / (half as f64 - self.freq_shift));
        let mut rows = Vec::with_capacity(t.len() * self.dim);
        for &t in t {
            let sines = (0..half).map(|i| elementary::sin(t * frequency(i)));
            let cosines = (0..half).map(|i| elementary::cos(t * frequency(i)));
            if self.flip_sin_to_cos {
                rows.extend(cosines.chain(sines).map(F::from_f64));
            } else {
                rows.extend(sines.chain(cosines).map(F::from_f64));
            }
            rows.resize(rows.len() + self.dim % 2, F::zero());
        }
        shaped((t.len(), self.dim), rows)
    }
}

/// A table with one vector per class.
#[derive(Clone, Debug)]
pub struct ClassEmbedding {
    pub(crate) weight: Span,
    classes: usize,
    dim: usize,
}

impl ClassEmbedding {
    /// Parameter `NAME.weight` (classes, dim), standard normal at first.
    pub fn new(layout: &mut Layout, name: &str, classes: usize, dim: usize) -> Self {
        let weight = layout.add(format!("{name}.weight"), Axes::Same(vec![classes, dim]), Init::Normal);
        ClassEmbedding { weight, classes, dim }
    }

    /// The rows of the labels.
    ///
    /// # Shapes
    /// labels (n) to (n, dim).
    ///
    /// # Panics
    /// If a label is not below the number of classes.
    pub fn forward<F: Real>(&self, w: &dyn Weights<F>, labels: &[usize]) -> Array2<F> {
        let table = &w[self.weight];
        let row = |&label: &usize| {
            assert!(label < self.classes, "class embedding: label {label} of {} classes", self.classes);
            &table[label * self.dim..][..self.dim]
        };
        shaped((labels.len(), self.dim), labels.iter().flat_map(row).copied().collect())
    }

    /// dE added into `grads`; labels have no gradient.
    ///
    /// # Shapes
    /// dy (n, dim), a row for each label.
    ///
    /// # Panics
    /// If a label is not below the number of classes, or dy has not the shape of the rows.
    pub fn backward<F: Real>(&self, labels: &[usize], dy: impl Into<Kept<F, Ix2>>, grads: &mut ParameterVector<F>) {
        let dy = dy.into();
        assert_eq!(dy.dim(), (labels.len(), self.dim), "class embedding: dy has the shape of the rows");
        for (label, dy) in labels.iter().zip(flat(&dy).chunks(self.dim)) {
            let row = &mut grads[self.weight][label * self.dim..][..self.dim];
            row.iter_mut().zip(dy).for_each(|(g, &dy)| *g += dy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradient_check::check;
    use crate::numerics::rng::normal;

    #[test]
    fn time_embedding_has_sines_of_falling_frequency_first() {
        let embedding = TimeEmbedding { dim: 7, flip_sin_to_cos: false, freq_shift: 1.0 };
        let e = embedding.embed::<f64>(&[3.0]);
        // half = 3, shift 1: frequencies 1, 10000^(−1/2) = 0.01, 10000^(−1) = 0.0001; the last element is padding.
        let expected =
            [3.0f64, 0.03, 0.0003].map(libm::sin).into_iter().chain([3.0f64, 0.03, 0.0003].map(libm::cos)).chain([0.0]);
        for (found, expected) in e.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15, "{found} {expected}");
        }
    }

    #[test]
    fn time_embedding_flipped_without_shift_ends_before_the_longest_period() {
        let embedding = TimeEmbedding { dim: 4, flip_sin_to_cos: true, freq_shift: 0.0 };
        let e = embedding.embed::<f64>(&[5.0, 999.0]);
        let expected = [libm::cos(999.0), libm::cos(9.99), libm::sin(999.0), libm::sin(9.99)];
        for (found, expected) in e.row(1).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-14, "{found} {expected}");
        }
    }

    #[test]
    fn class_embedding_gradient_equals_central_differences() {
        let mut layout = Layout::default();
        let table = ClassEmbedding::new(&mut layout, "class", 4, 3);
        let labels = [2, 0, 2];
        let forward = |w: &ParameterVector<f64>, x: &Array2<f64>| (x + &table.forward(w, &labels), ());
        let backward = |_: &ParameterVector<f64>, (): (), dy: &Array2<f64>, grads: &mut ParameterVector<f64>| {
            table.backward(&labels, dy, grads);
            dy.clone()
        };
        check(&layout.initial(1), &normal((3, 3), 1), 2, forward, backward).expect("the gradient is right");
    }
}
