//! What surrounds a sampler: how it sees, where its noise is from, and who looks on.
//!
//! A sampler is one function that reads like its paper. It is handed the transitions of its chain, x at the first level, and a
//! [`Walk`]: drawing pictures is one, a list of recorded outputs another. Batches, classes, seeds and progress live there.

use ndarray::Array4;

use super::term::{Term, weighted_sum};
use crate::Result;
use crate::denoise::Estimate;
use crate::diffusion::Level;
use crate::numerics::Real;

/// From one level of a chain to the next, which is less noisy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    /// Where x is.
    pub from: Level,
    /// Where it goes.
    pub to: Level,
}

/// One step of a sampler, before its terms are added up.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a, F> {
    /// From where to where.
    pub transition: Transition,
    /// The images at the level it comes from, shape (n, h, w, c).
    pub x_t: &'a Array4<F>,
    /// What was seen in them.
    pub estimate: &'a Estimate<F>,
    /// What adds up to the images at the next level.
    pub terms: &'a [Term<'a, F>],
}

/// What a sampler asks for while it walks down its chain.
pub trait Walk<F: Real> {
    /// What is seen in `x` at this level.
    ///
    /// # Errors
    /// A denoiser that does not take the images, or says something that is not finite.
    fn see(&mut self, x: &Array4<F>, level: Level) -> Result<Estimate<F>>;

    /// Standard normal noise for the step that leaves this level; another visit of a level has noise of its own.
    ///
    /// # Shapes
    /// (n, h, w, c), as x.
    fn noise(&mut self, level: Level) -> Array4<F>;

    /// Standard normal noise that takes a known image, or one that was less noisy, to this level; another visit has noise of its
    /// own, and so have the steps that leave the level.
    ///
    /// # Shapes
    /// (n, h, w, c), as x.
    fn renoise(&mut self, level: Level) -> Array4<F> {
        self.noise(level)
    }

    /// Adds up the terms of a step.
    ///
    /// # Errors
    /// A sum that is not finite; whatever an onlooker refuses.
    fn step(&mut self, step: Step<F>) -> Result<Array4<F>> {
        Ok(weighted_sum(step.terms))
    }

    /// Adds up the terms of the last step again, with what has been seen at its end.
    ///
    /// # Errors
    /// As for a step.
    fn correct(&mut self, step: Step<F>) -> Result<Array4<F>> {
        Ok(weighted_sum(step.terms))
    }
}
