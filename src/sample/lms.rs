//! Linear multistep in sigma, of order 4 (k-diffusion's `sample_lms`).
//!
//! dx/dσ = ε̂, so a step adds the integral of ε̂ from σ_t to σ_s. ε̂ is replaced by the polynomial through its last values, as
//! many as there are and four at most (Adams and Bashforth's idea on uneven steps):
//!
//! ```text
//! x_s = x_t + Σ_j c_j·ε̂_j,   c_j = ∫ Π_{k≠j} (σ − σ_k)/(σ_j − σ_k) dσ from σ_t to σ_s
//! ```
//!
//! A cubic is integrated exactly by two points of Gauss and Legendre.

use std::collections::VecDeque;

use ndarray::Array4;

use super::{SamplerOptions, Step, Term, Transition, Walk};
use crate::Result;
use crate::numerics::Real;

/// The most values that a step looks back on.
const ORDER: usize = 4;

const NAMES: [&str; ORDER] = ["eps_hat", "eps_hat 1 before", "eps_hat 2 before", "eps_hat 3 before"];

/// Walks down a chain of variance-exploding levels.
///
/// # Shapes
/// x (n, h, w, c) at the first level of the chain, to the images at its last.
///
/// # Errors
/// Whatever the walk refuses.
pub fn lms<F: Real>(
    chain: &[Transition],
    mut x: Array4<F>,
    _: &SamplerOptions,
    walk: &mut dyn Walk<F>,
) -> Result<Array4<F>> {
    // The newest first.
    let mut seen: VecDeque<(f64, Array4<F>)> = VecDeque::new();
    for &transition in chain {
        let estimate = walk.see(&x, transition.from)?;
        seen.truncate(ORDER - 1);
        seen.push_front((transition.from.sigma(), estimate.eps_hat.clone()));
        let sigmas: Vec<f64> = seen.iter().map(|(sigma, _)| *sigma).collect();
        let mut terms = vec![Term::new("x_t", 1.0, &x)];
        for (j, (name, (_, eps_hat))) in NAMES.into_iter().zip(&seen).enumerate() {
            terms.push(Term::new(name, weight(&sigmas, j, transition.to.sigma()), eps_hat));
        }
        x = walk.step(Step { transition, x_t: &x, estimate: &estimate, terms: &terms })?;
    }
    Ok(x)
}

/// The integral, from the first of the sigmas to `to`, of the polynomial that is 1 at number j and 0 at all others.
fn weight(sigmas: &[f64], j: usize, to: f64) -> f64 {
    let basis = |sigma: f64| {
        let others = sigmas.iter().enumerate().filter(|&(k, _)| k != j);
        others.map(|(_, other)| (sigma - other) / (sigmas[j] - other)).product::<f64>()
    };
    let (middle, half) = (0.5 * (sigmas[0] + to), 0.5 * (to - sigmas[0]));
    let at = half / 3f64.sqrt();
    half * (basis(middle - at) + basis(middle + at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_on_even_steps_are_those_of_adams_and_bashforth() {
        let found = [0, 1, 2, 3].map(|j| weight(&[3.0, 4.0, 5.0, 6.0], j, 2.0));
        let classical = [55.0, -59.0, 37.0, -9.0].map(|numerator| -numerator / 24.0);
        for (found, classical) in found.iter().zip(classical) {
            assert!((found - classical).abs() < 1e-14, "{found} {classical}");
        }
        assert_eq!(weight(&[3.0], 0, 0.5), -2.5);
    }
}
