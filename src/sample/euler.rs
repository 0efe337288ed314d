//! Euler's method for the probability-flow ordinary differential equation (Song et al. 2021, Score-Based, Eq. 13).
//!
//! Along a path of constant x₀ and ε, x = signal·x₀ + sigma·ε changes by d signal·x₀ + d sigma·ε. Euler's step takes for both
//! what is seen at its start:
//!
//! ```text
//! x_s = x_t + (signal_s − signal_t)·x̂₀ + (sigma_s − sigma_t)·ε̂
//! ```
//!
//! | levels | what is left of it | source |
//! |---|---|---|
//! | variance-exploding | x_t + (σ_s − σ_t)·ε̂ | Karras et al. 2022, Algorithm 1 without its correction |
//! | flow | x_t + (σ_s − σ_t)·(ε̂ − x̂₀) | Lipman et al. 2023, Eq. 20 |
//! | variance-preserving | signal_s·x̂₀ + sigma_s·ε̂, since x_t = signal_t·x̂₀ + sigma_t·ε̂ | Song et al. 2021, Eq. 12: DDIM |
//!
//! All three are the same step: x̂₀ and ε̂ do not depend on the scale of x.

use ndarray::Array4;

use super::{SamplerOptions, Step, Term, Transition, Walk};
use crate::Result;
use crate::denoise::Estimate;
use crate::numerics::Real;

/// Walks down the chain, whatever the form of its levels.
///
/// # Shapes
/// x (n, h, w, c) at the first level of the chain, to the images at its last.
///
/// # Errors
/// Whatever the walk refuses.
pub fn euler<F: Real>(
    chain: &[Transition],
    mut x: Array4<F>,
    _: &SamplerOptions,
    walk: &mut dyn Walk<F>,
) -> Result<Array4<F>> {
    for &transition in chain {
        let estimate = walk.see(&x, transition.from)?;
        let terms = terms(transition, &x, &estimate);
        x = walk.step(Step { transition, x_t: &x, estimate: &estimate, terms: &terms })?;
    }
    Ok(x)
}

/// The terms of a step; x̂₀'s is left out where the signal stays as it is.
pub(super) fn terms<'a, F: Real>(
    Transition { from, to }: Transition,
    x_t: &'a Array4<F>,
    estimate: &'a Estimate<F>,
) -> Vec<Term<'a, F>> {
    let mut terms = vec![Term::new("x_t", 1.0, x_t)];
    if to.signal() != from.signal() {
        terms.push(Term::new("x_0_hat", to.signal() - from.signal(), &estimate.x_0_hat));
    }
    terms.push(Term::new("eps_hat", to.sigma() - from.sigma(), &estimate.eps_hat));
    terms
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_near, numbers, schedule, step_between};
    use super::*;
    use crate::diffusion::{Form, Prediction};
    use crate::sample::Sampler;

    #[test]
    fn euler_in_sigma_and_on_the_straight_line_equals_ddim_at_the_same_levels() {
        let options = SamplerOptions::default();
        for (t, t_prev) in [(40, 31), (22, 21), (5, 0)] {
            let levels = [t, t_prev].map(|t| schedule().level(t));
            let [from, to] = levels;
            let ddim =
                step_between(Sampler::Ddim, &options, Prediction::Flow, None, Transition { from, to }, numbers().x_t);
            for form in [Form::VarianceExploding, Form::Flow] {
                let [from, to] = levels.map(|level| level.in_form(form));
                let x = numbers().x_t * from.scale();
                let euler = step_between(Sampler::Euler, &options, Prediction::Flow, None, Transition { from, to }, x);
                assert_near(&(euler / to.scale()), &ddim, 1e-13);
            }
        }
    }
}
