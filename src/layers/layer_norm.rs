//! Layer normalisation without parameters (Ba et al. 2016), over the last axis.
//!
//! # Derivation
//!
//! For each row of N features: x̂ = (x − mean) r, r = 1/√(var + norm_eps). It is group norm's x̂ with one group, one pixel
//! and γ = 1, and the chain rule is the same (steps 3 and 4 of [`group_norm`](super::group_norm)):
//!
//! ```text
//! dx = r (dy − m₁ − x̂ m₂),   m₁ = 1/N Σ dy,   m₂ = 1/N Σ dy x̂
//! ```
//!
//! The cache keeps x̂ and r. Sums are the 16 lanes of [`sum_by`], in f64; the variance is two-pass. Proven by central
//! differences and PyTorch's numbers.

use ndarray::{Array2, Ix2};

use super::{Kept, flat, flat_mut};
use crate::numerics::Real;
use crate::numerics::sum::{sum, sum_by};

/// What the backward pass needs: x̂, and r of each row.
#[derive(Debug)]
pub struct Cache<F> {
    x_hat: Array2<F>,
    r: Vec<F>,
}

/// x̂ of every row.
///
/// # Shapes
/// x (rows, features) to the same shape.
pub fn layer_norm<F: Real>(x: impl Into<Kept<F, Ix2>>, norm_eps: f64) -> (Array2<F>, Cache<F>) {
    let mut x = x.into().into_owned();
    let n = x.ncols();
    let mut r = Vec::with_capacity(x.nrows());
    for row in flat_mut(&mut x).chunks_mut(n) {
        let mean = F::from_f64(sum(row) / n as f64);
        row.iter_mut().for_each(|x| *x -= mean);
        let variance = sum_by(row, |d| d.to_f64() * d.to_f64()) / n as f64;
        let r_of_row = F::from_f64(1.0 / (variance + norm_eps).sqrt());
        row.iter_mut().for_each(|x| *x *= r_of_row);
        r.push(r_of_row);
    }
    (x.clone(), Cache { x_hat: x, r })
}

/// dx = r (dy − m₁ − x̂ m₂).
///
/// # Panics
/// If dy has another shape than x.
pub fn layer_norm_backward<F: Real>(Cache { x_hat, r }: Cache<F>, dy: impl Into<Kept<F, Ix2>>) -> Array2<F> {
    let mut dy = dy.into().into_owned();
    assert_eq!(x_hat.dim(), dy.dim(), "layer_norm: dy has the shape of x");
    let n = dy.ncols();
    for ((dy, x_hat), r) in flat_mut(&mut dy).chunks_mut(n).zip(flat(&x_hat).chunks(n)).zip(r) {
        let products: Vec<f64> = dy.iter().zip(x_hat).map(|(dy, x)| dy.to_f64() * x.to_f64()).collect();
        let (m1, m2) = (F::from_f64(sum(dy) / n as f64), F::from_f64(sum(&products) / n as f64));
        dy.iter_mut().zip(x_hat).for_each(|(dy, &x)| *dy = r * (*dy - m1 - x * m2));
    }
    dy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradient_check::check;
    use crate::layers::group_norm::GroupNorm;
    use crate::layers::{Layout, ParameterVector, shaped};
    use crate::numerics::rng::normal;

    #[test]
    fn layer_norm_gradient_equals_central_differences() {
        check(
            &ParameterVector(vec![]),
            &normal((3, 19), 1),
            2,
            |_, x| layer_norm(x, 1e-6),
            |_, cache, dy, _| layer_norm_backward(cache, dy),
        )
        .expect("the gradient is right");
    }

    #[test]
    fn group_norm_with_one_group_and_one_pixel_equals_layer_norm() {
        let mut layout = Layout::default();
        let norm = GroupNorm::new(&mut layout, "norm", 8, 1, 1e-6);
        let x = normal((5, 8), 1);
        let grouped = norm.forward(&layout.initial(0), shaped((5, 1, 1, 8), flat(&x).to_vec())).0;
        let difference =
            flat(&layer_norm(x, 1e-6).0).iter().zip(flat(&grouped)).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
        assert!(difference < 1e-14, "{difference:e}"); // a few roundings of values below 3
    }
}
