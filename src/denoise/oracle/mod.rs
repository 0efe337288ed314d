//! Denoisers that need no network: what is known of x₀ exactly, where the distribution of images is.
//!
//! # Derivation
//! At a level x = a·x₀ + b·ε, a for signal and b for sigma. Of all guesses of x₀ the one with the least expected squared
//! error is the mean of the posterior, which a network is trained towards:
//!
//! ```text
//! D(x) = E[x₀ | x] = ∫ x₀·p(x₀)·N(x; a·x₀, b²·I) dx₀ / p(x)
//! ```
//!
//! A finite set y_1 … y_N, each as likely as another, has sums for the integrals (Karras et al. 2022, Eq. 57, there with a = 1):
//!
//! ```text
//! D(x) = Σ_k r_k·y_k,   r = softmax_k(−‖x − a·y_k‖²/(2b²)) = softmax_k(a/b²·(x·y_k − ½·a·|y_k|²))
//! ```
//!
//! since |x|² is the same for all k. So it is attention with the set as keys and values, and two products of matrices:
//! [`Empirical`].
//!
//! A mixture Σ_k w_k·N(μ_k, Σ_k) is at each level a mixture again, p(x) = Σ_k w_k·N(x; a·μ_k, C_k) with
//! C_k = a²·Σ_k + b²·I. The posterior of a component is that of two Gaussians (Bishop 2006, Eq. 2.116):
//!
//! ```text
//! r_k   ∝ w_k·N(x; a·μ_k, C_k)
//! D(x)  = Σ_k r_k·(μ_k + a·Σ_k·C_k⁻¹·(x − a·μ_k))
//! ∇ln p = −Σ_k r_k·C_k⁻¹·(x − a·μ_k)
//! ```
//!
//! C_k has the eigenvectors of Σ_k, and a²·v + b² for its eigenvalue v, at every level: they are found once. [`GaussianMixture`].
//!
//! Both meet Tweedie's formula (Efron 2011), a·D(x) = x + b²·∇ln p(x).
//!
//! # Hazards
//! Exponentials are of differences from the greatest, so that none overflows and one is 1. The greatest is taken before the
//! factor a/b², which is without bounds where there is little noise. In float32, x·y_k is off by some 2⁻²⁴·|x|·|y_k|: two
//! images that are nearer to each other than b/√a, and both to x, may get shares that are off by that over b². Other images get
//! 0 or 1 there in any precision.
//!
//! # Tests
//! Direct sums; Tweedie's formula by central differences of ln p; the extremes a = 0 and b → 0; the same bits in any batch.

mod empirical;
mod mixture;

pub use empirical::Empirical;
pub use mixture::{Component, GaussianMixture, Known};

use ndarray::Array4;

use crate::diffusion::Level;
use crate::numerics::Real;
use crate::{Error, Result};

/// Refuses images of another size than `size`, with gaps in memory, or that hold a NaN or an infinity.
fn check_images<F: Real>(x: &Array4<F>, levels: &[Level], size: usize) -> Result<()> {
    let (n, h, w, c) = x.dim();
    if h * w * c != size || levels.len() != n {
        let expected = format!("{} images of {size} numbers each", levels.len());
        return Err(Error::value("x", expected, format!("{:?}", x.dim())));
    }
    check_numbers("x", x)
}

/// Refuses an array with gaps in memory, or that holds a NaN or an infinity.
fn check_numbers<F: Real>(name: &str, x: &Array4<F>) -> Result<()> {
    let Some(numbers) = x.as_slice() else {
        return Err(Error::value(name, "an array in its standard layout", "another: copy it"));
    };
    match numbers.iter().find(|x| !x.is_finite()) {
        Some(x) => Err(Error::value(name, "finite numbers", x)),
        None => Ok(()),
    }
}
