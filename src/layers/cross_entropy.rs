//! Softmax cross-entropy: how surprised a classifier is by the labels.
//!
//! # Derivation
//!
//! With p = softmax(z) of the logits z and the label y of each of N images,
//!
//! ```text
//! L = −1/N Σ_i ln p_i[y_i]
//! ln p_k = z_k − m − ln Σ_j e^(z_j − m),   m = max z
//! ```
//!
//! the second line being the same number for any m; with the greatest, no exponential overflows and the sum is at least 1,
//! so its logarithm is finite however far the logits lie apart. ∂(−ln p_y)/∂z_k = ∂/∂z_k ln Σ e^z − [k = y] = p_k − [k = y]:
//!
//! ```text
//! dz_ik = (p_ik − [k = y_i]) / N
//! ```
//!
//! The exponentials are those of F; their sum is the 16 lanes of [`sum`] in f64, of which the logarithm is rounded once to
//! F. Hazard: N is the number of images of the whole batch, not of the microbatch, nor of the logits. Proven by central
//! differences and by PyTorch's numbers.
//!
//! Next in the [course](super#the-course): [`dropout`](super::dropout).

use ndarray::Array2;

use super::{flat, shaped};
use crate::numerics::sum::sum;
use crate::numerics::{Native, Real, elementary};

/// `Σ_i −ln p_i[y_i]` of these images, and their dz for a batch of `count` images.
///
/// # Shapes
/// logits (n, classes), labels (n) to dz (n, classes).
///
/// # Panics
/// If there is not one label for each row, or a label is not below the number of classes.
pub fn cross_entropy<F: Real>(logits: &Array2<F>, labels: &[usize], count: usize) -> (f64, Array2<F>) {
    let (n, classes) = logits.dim();
    assert_eq!(n, labels.len(), "cross_entropy: one label for each row of logits");
    let share = F::from_f64(1.0 / count as f64);
    let (mut loss, mut gradient) = (0.0, Vec::with_capacity(n * classes));
    for (row, &label) in flat(logits).chunks_exact(classes).zip(labels) {
        let log_p = log_softmax(row);
        loss -= log_p[label].to_f64();
        let hit = |k: usize| if k == label { F::one() } else { F::zero() };
        gradient.extend((0..classes).map(|k| (log_p[k].exp::<Native>() - hit(k)) * share));
    }
    (loss, shaped((n, classes), gradient))
}

/// ln softmax(z) of one row.
///
/// # Panics
/// If the row is empty.
pub fn log_softmax<F: Real>(row: &[F]) -> Vec<F> {
    let greatest = row.iter().fold(row[0], |m, &z| if z > m { z } else { m });
    let exponentials: Vec<F> = row.iter().map(|&z| (z - greatest).exp::<Native>()).collect();
    let log_total = F::from_f64(elementary::ln(sum(&exponentials)));
    row.iter().map(|&z| z - greatest - log_total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::ParameterVector;
    use crate::layers::gradient_check::check;
    use crate::numerics::rng::normal;

    #[test]
    fn cross_entropy_gradient_equals_central_differences() {
        let labels = [2, 0, 1, 2, 2];
        check(
            &ParameterVector(vec![]),
            &(normal((5, 3), 1) * 2.0),
            2,
            |_, z| {
                let (loss, dz) = cross_entropy(z, &labels, 5);
                (ndarray::arr1(&[loss / 5.0]), dz)
            },
            |_, dz, dy, _| dz * dy[0],
        )
        .expect("the gradient is right");
    }

    #[test]
    fn logits_a_thousand_apart_give_finite_losses() {
        let z = ndarray::arr2(&[[1000.0f32, 0.0], [-1000.0, 0.0]]);
        let (right, dz) = cross_entropy(&z, &[0, 1], 2);
        assert!(right == 0.0 && dz.iter().all(|&d| d == 0.0), "{right} {dz}");
        let (wrong, dz) = cross_entropy(&z, &[1, 0], 2);
        assert_eq!((wrong, dz[[0, 0]], dz[[0, 1]]), (2000.0, 0.5, -0.5));
    }

    #[test]
    fn even_logits_cost_the_logarithm_of_the_classes() {
        let (loss, _) = cross_entropy(&Array2::<f64>::from_elem((3, 10), 7.5), &[0, 4, 9], 3);
        assert!((loss / 3.0 - std::f64::consts::LN_10).abs() < 1e-14); // a few roundings of 2⁻⁵³ · 2.3
    }
}
