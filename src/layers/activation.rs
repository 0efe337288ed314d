//! Activations: SiLU and the tanh form of GELU.
//!
//! # Derivation
//!
//! SiLU (Ramachandran et al. 2017, "swish"): y = x σ(x), σ(x) = 1/(1 + e⁻ˣ). With σ' = σ (1 − σ):
//!
//! ```text
//! dx = dy (σ + x σ (1 − σ)) = dy σ (1 + x (1 − σ))
//! ```
//!
//! GELU, tanh form (Hendrycks & Gimpel 2016): y = x/2 (1 + tanh u), u = a (x + b x³), a = √(2/π), b = 0.044715. With
//! tanh' = 1 − tanh² and u' = a (1 + 3 b x²):
//!
//! ```text
//! dx = dy (½ (1 + tanh u) + x/2 (1 − tanh² u) a (1 + 3 b x²))
//! ```
//!
//! The cache is x itself. Hazard: the exact GELU, with the normal distribution function, differs by up to 4.7e-4.
//! Proven by central differences and PyTorch's numbers.
//!
//! Next in the [course](super#the-course): [`softmax`](super::softmax).

use ndarray::{Array, Dimension};

use super::stopwatch::timed;
use super::{Kept, flat, flat_mut};
use crate::numerics::instruction_set::every_instruction_set;
use crate::numerics::{Fused, Real, parallel};

/// y = x σ(x), element by element.
pub fn silu<F: Real, D: Dimension>(x: impl Into<Kept<F, D>>) -> Array<F, D> {
    let mut y = x.into().into_owned();
    timed(None, "silu", 0, || silu_each(flat_mut(&mut y)));
    y
}

/// dx = dy σ(x) (1 + x (1 − σ(x))).
///
/// # Panics
/// If dy has another shape than x.
pub fn silu_backward<F: Real, D: Dimension>(x: impl Into<Kept<F, D>>, dy: impl Into<Kept<F, D>>) -> Array<F, D> {
    let (x, mut dy) = (x.into(), dy.into().into_owned());
    assert_eq!(x.raw_dim(), dy.raw_dim(), "silu: dy has the shape of x");
    timed(None, "silu, gradient", 0, || times_silu_gradient(flat(&x), flat_mut(&mut dy)));
    dy
}

/// y = x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))), element by element.
pub fn gelu_tanh<F: Real, D: Dimension>(x: impl Into<Kept<F, D>>) -> Array<F, D> {
    let mut x = x.into().into_owned();
    let size = x.len().max(1);
    timed(None, "gelu", 0, || parallel::in_parts(flat_mut(&mut x), size, 1, |_, x| gelu_each(x)));
    x
}

/// dx of [`gelu_tanh`].
///
/// # Panics
/// If dy has another shape than x.
pub fn gelu_tanh_backward<F: Real, D: Dimension>(x: impl Into<Kept<F, D>>, dy: impl Into<Kept<F, D>>) -> Array<F, D> {
    let (x, mut dy) = (x.into(), dy.into().into_owned());
    assert_eq!(x.raw_dim(), dy.raw_dim(), "gelu: dy has the shape of x");
    let (size, x) = (x.len().max(1), flat(&x));
    timed(None, "gelu, gradient", 0, || {
        parallel::in_parts(flat_mut(&mut dy), size, 1, |at, dy| times_gelu_gradient(&x[at..][..dy.len()], dy));
    });
    dy
}

const GELU_A: f64 = 0.797_884_560_802_865_4; // √(2/π)
const GELU_B: f64 = 0.044_715;

/// tanh(a (x + b x³)).
#[inline(always)]
fn gelu_tanh_of<P: Fused, F: Real>(x: F) -> F {
    (F::from_f64(GELU_A) * (x + F::from_f64(GELU_B) * x * x * x)).tanh::<P>()
}

/// x σ(x).
#[inline(always)]
pub(super) fn silu_of<P: Fused, F: Real>(x: F) -> F {
    x * x.sigmoid::<P>()
}

/// σ(x) (1 + x (1 − σ(x))).
#[inline(always)]
pub(super) fn silu_gradient_of<P: Fused, F: Real>(x: F) -> F {
    let s = x.sigmoid::<P>();
    s * x.fma::<P>(F::one() - s, F::one())
}

every_instruction_set! {
    fn silu_each<F>(x: &mut [F]) {
        for x in x {
            *x = silu_of::<P, F>(*x);
        }
    }
}

every_instruction_set! {
    fn times_silu_gradient<F>(x: &[F], dy: &mut [F]) {
        for (dy, &x) in dy.iter_mut().zip(x) {
            *dy *= silu_gradient_of::<P, F>(x);
        }
    }
}

every_instruction_set! {
    /// x/2 (1 + tanh u).
    fn gelu_each<F>(x: &mut [F]) {
        let half = F::from_f64(0.5);
        for x in x {
            *x = half * *x * (F::one() + gelu_tanh_of::<P, F>(*x));
        }
    }
}

every_instruction_set! {
    /// dy (½ (1 + tanh u) + x/2 (1 − tanh² u) a (1 + 3 b x²)).
    fn times_gelu_gradient<F>(x: &[F], dy: &mut [F]) {
        let (half, three_b) = (F::from_f64(0.5), F::from_f64(3.0 * GELU_B));
        for (dy, &x) in dy.iter_mut().zip(x) {
            let tanh = gelu_tanh_of::<P, F>(x);
            let slope = F::from_f64(GELU_A) * (F::one() + three_b * x * x);
            *dy *= half * (F::one() + tanh) + half * x * (F::one() - tanh * tanh) * slope;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::ParameterVector;
    use crate::layers::gradient_check::check;
    use crate::numerics::Native;
    use crate::numerics::rng::normal;

    #[test]
    fn silu_gradient_equals_central_differences() {
        check(
            &ParameterVector(vec![]),
            &(normal(40, 1) * 3.0),
            2,
            |_, x| (silu(x), x.clone()),
            |_, x, dy, _| silu_backward(x, dy),
        )
        .expect("the gradient is right");
    }

    #[test]
    fn gelu_gradient_equals_central_differences() {
        check(
            &ParameterVector(vec![]),
            &(normal(40, 1) * 2.0),
            2,
            |_, x| (gelu_tanh(x), x.clone()),
            |_, x, dy, _| gelu_tanh_backward(x, dy),
        )
        .expect("the gradient is right");
    }

    #[test]
    fn gelu_has_the_bits_of_its_definition() {
        fn in_precision<F: Real>() {
            let [x, dy] = [1, 2].map(|key| normal(50_000, key).mapv(|x| F::from_f64(4.0 * x)));
            let (half, three_b) = (F::from_f64(0.5), F::from_f64(3.0 * GELU_B));
            let tanh_of = |x: F| (F::from_f64(GELU_A) * (x + F::from_f64(GELU_B) * x * x * x)).tanh::<Native>();
            let (y, dx) = (gelu_tanh(x.clone()), gelu_tanh_backward(&x, dy.clone()));
            for (i, (&x, &dy)) in x.iter().zip(&dy).enumerate() {
                let (tanh, slope) = (tanh_of(x), F::from_f64(GELU_A) * (F::one() + three_b * x * x));
                assert_eq!(y[i], half * x * (F::one() + tanh), "y of {x}");
                let gradient = half * (F::one() + tanh) + half * x * (F::one() - tanh * tanh) * slope;
                assert_eq!(dx[i], dy * gradient, "dx of {x}");
            }
        }
        in_precision::<f32>();
        in_precision::<f64>();
    }

    #[test]
    fn silu_far_from_zero_is_zero_or_the_identity() {
        let y = silu(ndarray::arr1(&[-120.0f32, 0.0, 120.0]));
        assert!(y[0].abs() < 1e-45 * 1e3 && y[1] == 0.0 && y[2] == 120.0, "{y}");
    }
}
