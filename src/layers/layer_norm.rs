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
//! The cache keeps x̂ and r. Sums are the 16 lanes of [`sum_of`], in f64; the variance is two-pass. Proven by central
//! differences and PyTorch's numbers.
//!
//! Next in the [course](super#the-course): [`attention`](super::attention).

use ndarray::{Array2, Ix2};

use super::stopwatch::timed;
use super::{Kept, flat, flat_mut};
use crate::numerics::buffer_pool::{self, Aligned};
use crate::numerics::instruction_set::every_instruction_set;
use crate::numerics::sum::{sum_of, sum_of_products};
use crate::numerics::{Real, parallel};

/// What the backward pass needs: x̂, and r of each row.
#[derive(Debug)]
pub struct Cache<F: Real> {
    x_hat: Kept<F, Ix2>,
    r: Aligned<F>,
}

impl<F: Real> Cache<F> {
    /// What the norm gave.
    pub(crate) fn x_hat(&self) -> Kept<F, Ix2> {
        self.x_hat.clone()
    }
}

/// x̂ of every row.
///
/// # Shapes
/// x (rows, features) to the same shape.
pub fn layer_norm<F: Real>(x: impl Into<Kept<F, Ix2>>, norm_eps: f64) -> (Array2<F>, Cache<F>) {
    let cache = normalise(x, norm_eps);
    (buffer_pool::clone(&cache.x_hat), cache)
}

/// The same where the cache is all that is wanted.
pub(crate) fn normalise<F: Real>(x: impl Into<Kept<F, Ix2>>, norm_eps: f64) -> Cache<F> {
    let x = x.into();
    let (rows, n) = x.dim();
    let (mut x_hat, mut r) = (buffer_pool::take(x.len()), buffer_pool::take(rows));
    timed(None, "norm", 0, || {
        let at_once = parallel::at_once(rows, n);
        let parts = flat(&x).chunks(at_once * n).zip(x_hat.chunks_mut(at_once * n)).zip(r.chunks_mut(at_once));
        parallel::deal(parts.collect(), |((x, x_hat), r)| normalise_rows(x, x_hat, r, norm_eps));
    });
    Cache { x_hat: x_hat.into_array((rows, n)).into(), r }
}

/// dx = r (dy − m₁ − x̂ m₂).
///
/// # Panics
/// If dy has another shape than x.
pub fn layer_norm_backward<F: Real>(Cache { x_hat, r }: Cache<F>, dy: impl Into<Kept<F, Ix2>>) -> Array2<F> {
    let mut dy = dy.into().into_owned();
    assert_eq!(x_hat.dim(), dy.dim(), "layer_norm: dy has the shape of x");
    let n = dy.ncols();
    timed(None, "norm, gradient", 0, || {
        parallel::in_parts(flat_mut(&mut dy), x_hat.len(), n, |at, dy| {
            input_gradient(&flat(&x_hat)[at..][..dy.len()], &r[at / n..][..dy.len() / n], dy);
        });
    });
    dy
}

every_instruction_set! {
    /// x̂ and r of some rows.
    fn normalise_rows<F>(x: &[F], x_hat: &mut [F], r: &mut [F], norm_eps: f64) {
        let n = x.len() / r.len();
        for ((x, x_hat), r) in x.chunks_exact(n).zip(x_hat.chunks_exact_mut(n)).zip(r) {
            let mean = F::from_f64(sum_of(x, F::to_f64) / n as f64);
            for (d, &x) in x_hat.iter_mut().zip(x) {
                *d = x - mean;
            }
            let variance = sum_of(x_hat, |d| d.to_f64() * d.to_f64()) / n as f64;
            *r = F::from_f64(1.0 / (variance + norm_eps).sqrt());
            for x in x_hat {
                *x *= *r;
            }
        }
    }
}

every_instruction_set! {
    /// dy of some rows becomes dx.
    fn input_gradient<F>(x_hat: &[F], r: &[F], dy: &mut [F]) {
        let n = x_hat.len() / r.len();
        for ((x_hat, dy), &r) in x_hat.chunks_exact(n).zip(dy.chunks_exact_mut(n)).zip(r) {
            let m1 = F::from_f64(sum_of(dy, F::to_f64) / n as f64);
            let m2 = F::from_f64(sum_of_products(dy, x_hat) / n as f64);
            for (dy, &x_hat) in dy.iter_mut().zip(x_hat) {
                *dy = r * (*dy - m1 - x_hat * m2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradient_check::check;
    use crate::layers::group_norm::GroupNorm;
    use crate::layers::{Layout, ParameterVector, shaped};
    use crate::numerics::rng::normal;
    use crate::numerics::sum::{sum, sum_of_squares};

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

    /// One element at a time.
    fn by_definition<F: Real>(x: &Array2<F>, dy: &Array2<F>, norm_eps: f64) -> [Vec<F>; 2] {
        let n = x.ncols() as f64;
        let [mut y, mut dx] = [vec![], vec![]];
        for (x, dy) in x.rows().into_iter().zip(dy.rows()) {
            let (x, dy) = (x.to_vec(), dy.to_vec());
            let mean = F::from_f64(sum(&x) / n);
            let d: Vec<F> = x.iter().map(|&x| x - mean).collect();
            let r = F::from_f64(1.0 / (sum_of_squares(&d) / n + norm_eps).sqrt());
            let x_hat: Vec<F> = d.iter().map(|&d| d * r).collect();
            let products: Vec<f64> = dy.iter().zip(&x_hat).map(|(dy, x)| dy.to_f64() * x.to_f64()).collect();
            let (m1, m2) = (F::from_f64(sum(&dy) / n), F::from_f64(sum(&products) / n));
            dx.extend(dy.iter().zip(&x_hat).map(|(&dy, &x)| r * (dy - m1 - x * m2)));
            y.extend(x_hat);
        }
        [y, dx]
    }

    #[test]
    fn layer_norm_has_the_bits_of_its_definition() {
        fn in_precision<F: Real>() {
            for (rows, features) in [(1, 1), (3, 37), (700, 48)] {
                let [x, dy] = [1, 2].map(|key| normal((rows, features), key).mapv(|x| F::from_f64(3.0 * x + 0.5)));
                let [y, dx] = by_definition(&x, &dy, 1e-6);
                let (found, cache) = layer_norm(x, 1e-6);
                assert_eq!(flat(&found), y, "{rows} rows of {features} {}", F::NAME);
                assert_eq!(flat(&layer_norm_backward(cache, dy)), dx, "{rows} rows of {features} {}", F::NAME);
            }
        }
        in_precision::<f32>();
        in_precision::<f64>();
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
