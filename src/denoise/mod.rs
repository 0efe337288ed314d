//! What is seen in a noisy image: the network, what wraps it, and what stands in for it.
//!
//! A [`Denoiser`] looks at x at some [`Level`] and says what is noise in it. Denoisers wrap one another: [`Guided`] asks the
//! [`NetworkDenoiser`] twice. A sampler is handed the [`Estimate`] that follows, in which the image is clipped.

mod estimate;
mod guided;
mod network;

use ndarray::Array4;

use crate::diffusion::{Level, Prediction};
use crate::numerics::Real;
use crate::{Error, Result};

pub use estimate::{Estimate, Sight};
pub use guided::{Guidance, Guided};
pub use network::NetworkDenoiser;

/// What a denoiser says of some images, in its own words: ε̂, x̂₀ or v̂.
#[derive(Clone, Debug, PartialEq)]
pub struct Output<F> {
    /// What it is.
    pub prediction: Prediction,
    /// Its numbers, shape (n, h, w, c).
    pub value: Array4<F>,
}

/// Something that makes out an image in noise.
///
/// A closure `Fn(&Array4<F>, &[Level], Option<&[usize]>) -> Result<Output<F>>` is one, too.
pub trait Denoiser<F: Real>: Sync {
    /// What is seen in `x`.
    ///
    /// # Shapes
    /// `x` (n, h, w, c), `levels` and `labels` (n), and an output of x's shape.
    ///
    /// # Errors
    /// Images or labels that the denoiser does not take.
    fn predict(&self, x: &Array4<F>, levels: &[Level], labels: Option<&[usize]>) -> Result<Output<F>>;
}

impl<F: Real, D> Denoiser<F> for D
where
    D: Fn(&Array4<F>, &[Level], Option<&[usize]>) -> Result<Output<F>> + Sync,
{
    fn predict(&self, x: &Array4<F>, levels: &[Level], labels: Option<&[usize]>) -> Result<Output<F>> {
        self(x, levels, labels)
    }
}

/// Refuses numbers that no picture can be drawn from.
///
/// # Errors
/// A number that is infinite or not a number, with the level at which it appeared.
pub(crate) fn check_finite<F: Real>(numbers: &[F], level: Level) -> Result<()> {
    if numbers.iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    Err(Error::NonFinite {
        step: level.t() as u64,
        tensor: "the network's output while sampling".into(),
        remedy: "the weights are damaged or the guidance is too strong".into(),
    })
}
