//! Losses that teach a variance: the bound itself and the hybrid of Nichol and Dhariwal 2021 (Eq. 16).
//!
//! ```text
//! L_vlb    = T·L_t                         L_t one term of the bound, in bits per dimension
//! L_hybrid = L_simple + T/1000·L_t         in L_t the mean is held fixed: it teaches the variance alone
//! ```
//!
//! T is the number of steps of the chain. T·L_t is an estimate of all terms from one. The paper's λ = 0.001 before it makes
//! T/1000, as improved-diffusion's "rescaled" loss has it.
//!
//! # Gradient
//! Held fixed means that ∂L_t/∂(mean half) does not count, and ∂L_simple/∂(variance half) is 0. So the mean half has the gradient of
//! L_simple, 2/N·(y − y*), N numbers being in an image, and the variance half T/1000 times that of L_t
//! ([`Step::term_and_slopes`]).

use super::{Reading, Said, Slopes, Step};
use crate::numerics::Real;
use crate::numerics::sum::sum_of_squares;

/// A loss of one image, and its gradient by the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss<F> {
    /// The loss.
    pub loss: F,
    /// Its part that is a term of the bound, in bits per dimension and before T/1000 or T.
    pub bits: F,
    /// By both halves of the output.
    pub gradient: Slopes<F>,
}

/// L_hybrid of one image at a step of a chain of `t_max` steps.
///
/// # Shapes
/// All numbers of one image, in the same order.
///
/// # Panics
/// As [`Step::term`].
pub fn hybrid<F: Real>(step: &Step, t_max: usize, reading: &Reading, x_0: &[F], eps: &[F], said: Said<F>) -> Loss<F> {
    let (term, mut gradient) = step.term_and_slopes(reading, x_0, eps, said);
    let (target, count) = (reading.prediction.target(step.from.marginal(), x_0, eps), x_0.len() as f64);
    let difference: Vec<F> = said.mean.iter().zip(&target).map(|(&y, &target)| y - target).collect();
    let scale = F::from_f64(t_max as f64 / 1000.0);
    let simple = F::from_f64(sum_of_squares(&difference) / count);
    let factor = F::from_f64(2.0 / count);
    gradient.mean = difference.into_iter().map(|difference| factor * difference).collect();
    gradient.variance.iter_mut().for_each(|slope| *slope *= scale);
    Loss { loss: simple + scale * term.bits, bits: term.bits, gradient }
}

/// L_vlb of one image at a step of a chain of `t_max` steps: both halves learn from the bound.
///
/// # Shapes
/// All numbers of one image, in the same order.
///
/// # Panics
/// As [`Step::term`].
pub fn vlb<F: Real>(step: &Step, t_max: usize, reading: &Reading, x_0: &[F], eps: &[F], said: Said<F>) -> Loss<F> {
    let (term, mut gradient) = step.term_and_slopes(reading, x_0, eps, said);
    let scale = F::from_f64(t_max as f64);
    gradient.mean.iter_mut().chain(&mut gradient.variance).for_each(|slope| *slope *= scale);
    Loss { loss: scale * term.bits, bits: term.bits, gradient }
}

/// An output with both halves of its channels apart, pixel by pixel: the first `channels` of each pixel are the mean's.
///
/// # Panics
/// If the output is no whole number of pixels.
pub fn halves<F: Real>(output: &[F], channels: usize) -> (Vec<F>, Vec<F>) {
    assert!(
        output.len().is_multiple_of(2 * channels),
        "halves: {} numbers in pixels of {}",
        output.len(),
        2 * channels
    );
    let pixels = || output.chunks_exact(2 * channels);
    (
        pixels().flat_map(|pixel| &pixel[..channels]).copied().collect(),
        pixels().flat_map(|pixel| &pixel[channels..]).copied().collect(),
    )
}

/// The inverse of [`halves`].
pub fn joined<F: Real>(gradient: &Slopes<F>, channels: usize) -> Vec<F> {
    let pixels = gradient.mean.chunks_exact(channels).zip(gradient.variance.chunks_exact(channels));
    pixels.flat_map(|(mean, variance)| mean.iter().chain(variance)).copied().collect()
}
