//! Denoising diffusion implicit models (Song et al. 2021, Eq. 12 and Eq. 16).
//!
//! With s the level after t in the chain,
//!
//! ```text
//! σ   = η·√((1−ᾱ_s)/(1−ᾱ_t))·√(1 − ᾱ_t/ᾱ_s)
//! x_s = √ᾱ_s·x̂₀ + √(1−ᾱ_s−σ²)·ε̂ + σ·z
//! ```
//!
//! (their α is Ho's ᾱ). x̂₀ is what the model sees, and ε̂ points from it to x_t. σ² = η²·β̃: at η = 0 the step is
//! deterministic, at η = 1 it is the ancestral step with the variance β̃.

use ndarray::Array4;

use super::{SamplerOptions, Step, Term, Transition, Walk};
use crate::Result;
use crate::diffusion::Posterior;
use crate::numerics::Real;

/// Walks down the chain; `options.eta` is η, the share of β̃'s standard deviation that is drawn anew, in [0, 1].
///
/// # Shapes
/// x (n, h, w, c) at the first level of the chain, to the images at its last.
///
/// # Errors
/// Whatever the walk refuses.
pub fn ddim<F: Real>(
    chain: &[Transition],
    mut x: Array4<F>,
    options: &SamplerOptions,
    walk: &mut dyn Walk<F>,
) -> Result<Array4<F>> {
    for &transition in chain {
        let Transition { from, to } = transition;
        let estimate = walk.see(&x, from)?;
        let beta_tilde = Posterior::of(from, to).beta_tilde;
        // At most β̃ ≤ 1−ᾱ_s, so the root of what is left for ε̂ is real.
        let sigma_squared = options.eta * options.eta * beta_tilde;
        let z = walk.noise(from);
        let terms = [
            Term::new("x_0_hat", to.signal(), &estimate.x_0_hat),
            Term::new("eps_hat", (1.0 - to.alpha_bar - sigma_squared).sqrt(), &estimate.eps_hat),
            Term::new("z", sigma_squared.sqrt(), &z),
        ];
        x = walk.step(Step { transition, x_t: &x, estimate: &estimate, terms: &terms })?;
    }
    Ok(x)
}

/// Walks up the chain, from the image to its noise: the deterministic step the other way round, from level t to the noisier
/// level s (Song et al. 2021, § 4.3),
///
/// ```text
/// x_s = √ᾱ_s·x̂₀ + √(1−ᾱ_s)·ε̂
/// ```
///
/// which takes for x̂₀ and ε̂ what is seen at t, as Euler's method does. Sampling from its end returns to the image but for an
/// error of first order in the length of a step.
///
/// # Shapes
/// x (n, h, w, c) at the first level of the chain, to the noise at its last.
///
/// # Errors
/// Whatever the walk refuses.
pub fn ddim_inverse<F: Real>(
    chain: &[Transition],
    mut x: Array4<F>,
    _: &SamplerOptions,
    walk: &mut dyn Walk<F>,
) -> Result<Array4<F>> {
    for &transition in chain {
        let Transition { from, to } = transition;
        let estimate = walk.see(&x, from)?;
        let terms =
            [Term::new("x_0_hat", to.signal(), &estimate.x_0_hat), Term::new("eps_hat", to.sigma(), &estimate.eps_hat)];
        x = walk.step(Step { transition, x_t: &x, estimate: &estimate, terms: &terms })?;
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_near, numbers, schedule, step_of};
    use super::*;
    use crate::diffusion::{Prediction, Variance};
    use crate::sample::Sampler;

    fn eta(eta: f64) -> SamplerOptions {
        SamplerOptions { eta, ..SamplerOptions::default() }
    }

    #[test]
    fn ddim_with_eta_one_equals_the_ancestral_step_with_beta_tilde() {
        let ancestral = SamplerOptions { variance: Variance::FixedSmall, ..SamplerOptions::default() };
        for clip in [None, Some(1.0)] {
            for step in [(40, 39), (40, 11), (8, 2), (5, 0)] {
                let ddim = step_of(Sampler::Ddim, &eta(1.0), Prediction::Epsilon, clip, step);
                let ddpm = step_of(Sampler::Ddpm, &ancestral, Prediction::Epsilon, clip, step);
                assert_near(&ddim, &ddpm, 1e-13);
            }
        }
    }

    #[test]
    fn ddim_without_noise_keeps_x_0_hat_and_eps_hat_and_moves_the_level() {
        let (numbers, from, to) = (numbers(), schedule().level(38), schedule().level(9));
        let x_0_hat = (&numbers.x_t - &numbers.output * from.sigma()) / from.signal();
        let renoised = x_0_hat * to.signal() + numbers.output * to.sigma();
        assert_near(&step_of(Sampler::Ddim, &eta(0.0), Prediction::Epsilon, None, (38, 9)), &renoised, 1e-14);
    }

    #[test]
    fn ddim_with_half_of_the_noise_adds_half_of_the_deviation() {
        let (numbers, from, to) = (numbers(), schedule().level(25), schedule().level(13));
        let sigma =
            0.5 * ((1.0 - to.alpha_bar) / (1.0 - from.alpha_bar) * (1.0 - from.alpha_bar / to.alpha_bar)).sqrt();
        let x_0_hat = (&numbers.x_t - &numbers.output * from.sigma()) / from.signal();
        let rest = (1.0 - to.alpha_bar - sigma * sigma).sqrt();
        let expected = x_0_hat * to.signal() + &numbers.output * rest + &numbers.noise * sigma;
        assert_near(&step_of(Sampler::Ddim, &eta(0.5), Prediction::Epsilon, None, (25, 13)), &expected, 1e-14);
    }
}
