//! Euler's step to a lower level than the next, and noise up to it (k-diffusion's `sample_euler_ancestral`).
//!
//! In variance-exploding levels q(x_s | x_t, x₀) of Ho et al. 2020, Eq. 7, is a Gaussian whose variance and mean are
//!
//! ```text
//! σ_up²  = σ_s²·(σ_t² − σ_s²)/σ_t²
//! μ      = x₀ + σ_s²/σ_t²·(x_t − x₀)
//! ```
//!
//! With σ_down² = σ_s² − σ_up² = σ_s⁴/σ_t², the mean is Euler's step from σ_t to σ_down = σ_s²/σ_t:
//!
//! ```text
//! x_s = x_t + (σ_down − σ_t)·ε̂ + σ_up·z
//! ```
//!
//! So it is ancestral sampling with the variance β̃, in sigma.

use ndarray::Array4;

use super::{SamplerOptions, Step, Term, Transition, Walk};
use crate::Result;
use crate::numerics::Real;

/// Walks down a chain of variance-exploding levels.
///
/// # Shapes
/// x (n, h, w, c) at the first level of the chain, to the images at its last.
///
/// # Errors
/// Whatever the walk refuses.
pub fn euler_ancestral<F: Real>(
    chain: &[Transition],
    mut x: Array4<F>,
    _: &SamplerOptions,
    walk: &mut dyn Walk<F>,
) -> Result<Array4<F>> {
    for &transition in chain {
        let (from, to) = (transition.from.sigma(), transition.to.sigma());
        let estimate = walk.see(&x, transition.from)?;
        let share = to / from;
        let (down, up) = (to * share, to * ((1.0 - share) * (1.0 + share)).sqrt());
        let z = walk.noise(transition.from);
        let terms =
            [Term::new("x_t", 1.0, &x), Term::new("eps_hat", down - from, &estimate.eps_hat), Term::new("z", up, &z)];
        x = walk.step(Step { transition, x_t: &x, estimate: &estimate, terms: &terms })?;
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_near, numbers, schedule, step_between};
    use super::*;
    use crate::diffusion::{Form, Prediction};
    use crate::sample::Sampler;

    #[test]
    fn euler_ancestral_step_is_the_ancestral_step_with_beta_tilde() {
        let options = SamplerOptions::default();
        for (t, t_prev) in [(40, 39), (40, 11), (5, 0)] {
            let [from, to] = [t, t_prev].map(|t| schedule().level(t));
            let step = |sampler, from, to, x| {
                step_between(sampler, &options, Prediction::Flow, Some(1.0), Transition { from, to }, x)
            };
            let ddpm = step(Sampler::Ddpm, from, to, numbers().x_t);
            let [from, to] = [from, to].map(|level| level.in_form(Form::VarianceExploding));
            let ours = step(Sampler::EulerAncestral, from, to, numbers().x_t * from.scale());
            assert_near(&(ours / to.scale()), &ddpm, 1e-13);
        }
    }
}
