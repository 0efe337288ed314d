//! What is seen in a noisy image: the network, what wraps it, and what stands in for it.
//!
//! A [`Denoiser`] looks at x at some [`Level`] and says what is noise in it. Denoisers wrap one another: [`Guided`] asks the
//! [`NetworkDenoiser`] twice, and a classifier pulls at a [`Steered`] one. Where the distribution of images is known, [`Empirical`] and [`GaussianMixture`] say exactly what is to be
//! seen. A sampler is handed the [`Estimate`] that follows, in which the image is clipped.

mod estimate;
mod guided;
mod network;
mod oracle;
pub mod steered;

use ndarray::{Array4, ArrayView4, Axis};

use crate::diffusion::{Level, Prediction};
use crate::numerics::Real;
use crate::{Error, Result};

pub use estimate::{Estimate, Sight, Threshold};
pub use guided::{Guidance, Guided};
pub use network::NetworkDenoiser;
pub use oracle::{Component, Empirical, GaussianMixture, Known};
pub use steered::{Steered, Steering};

/// What a denoiser says of some images, in its own words: ε̂, x̂₀ or v̂.
#[derive(Clone, Debug, PartialEq)]
pub struct Output<F> {
    /// What it is.
    pub prediction: Prediction,
    /// Its numbers, shape (n, h, w, c).
    pub value: Array4<F>,
    /// The logarithm of a step's variance, or v where it lies between two bounds (Nichol and Dhariwal 2021, Eq. 15), from a
    /// network that learned it; of the same shape.
    pub log_variance: Option<Array4<F>>,
}

impl<F> Output<F> {
    /// An output of a denoiser that says nothing of variances.
    pub fn new(prediction: Prediction, value: Array4<F>) -> Self {
        Output { prediction, value, log_variance: None }
    }

    /// What a network said of images of this many channels: with twice the channels out, the second half is of the variance.
    pub fn of_network(prediction: Prediction, said: Array4<F>, channels: usize) -> Self
    where
        F: Clone,
    {
        if said.dim().3 != 2 * channels {
            return Output::new(prediction, said);
        }
        let (value, log_variance) = said.view().split_at(Axis(3), channels);
        let own = |half: ArrayView4<F>| half.as_standard_layout().into_owned();
        Output { prediction, value: own(value), log_variance: Some(own(log_variance)) }
    }
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
