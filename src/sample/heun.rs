//! Heun's method: a trial step of Euler's, and the mean of the two slopes (Karras et al. 2022, Algorithm 1).
//!
//! ```text
//! x̃   = x_t + (σ_s − σ_t)·ε̂(x_t, t)
//! x_s = x_t + (σ_s − σ_t)·½·(ε̂(x_t, t) + ε̂(x̃, s))
//! ```
//!
//! Second order, for two evaluations a step. The step to the clean image is Euler's: nothing is seen at σ = 0.
//!
//! The chain has a transition for each evaluation: t to s, then s to s, which corrects the first.

use ndarray::Array4;

use super::{SamplerOptions, Step, Term, Transition, Walk, euler};
use crate::Result;
use crate::numerics::Real;

/// Walks down a chain of variance-exploding levels.
///
/// # Shapes
/// x (n, h, w, c) at the first level of the chain, to the images at its last.
///
/// # Errors
/// Whatever the walk refuses.
pub fn heun<F: Real>(
    chain: &[Transition],
    mut x: Array4<F>,
    _: &SamplerOptions,
    walk: &mut dyn Walk<F>,
) -> Result<Array4<F>> {
    let mut rest = chain.iter().peekable();
    while let Some(&transition) = rest.next() {
        let first = walk.see(&x, transition.from)?;
        let terms = euler::terms(transition, &x, &first);
        let trial = walk.step(Step { transition, x_t: &x, estimate: &first, terms: &terms })?;
        let Some(&&correction) = rest.peek().filter(|next| next.from == next.to) else {
            x = trial;
            continue;
        };
        rest.next();
        let second = walk.see(&trial, correction.from)?;
        let half = 0.5 * (transition.to.sigma() - transition.from.sigma());
        let terms = [
            Term::new("x_t", 1.0, &x),
            Term::new("eps_hat", half, &first.eps_hat),
            Term::new("eps_hat at s", half, &second.eps_hat),
        ];
        x = walk.step(Step { transition: correction, x_t: &x, estimate: &second, terms: &terms })?;
    }
    Ok(x)
}
