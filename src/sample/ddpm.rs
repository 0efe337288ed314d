//! Ancestral sampling, full or strided chain (Ho et al. 2020, Algorithm 2).
//!
//! ```text
//! for t = T, …, 1
//!     z ~ N(0, I) if t > 1, else z = 0
//!     x_{t−1} = 1/√α_t · (x_t − β_t/√(1−ᾱ_t) · ε̂(x_t, t)) + σ_t·z
//! ```
//!
//! The mean is Eq. 7's μ̃(x_t, x̂₀) with x̂₀ = (x_t − √(1−ᾱ_t)·ε̂)/√ᾱ_t put in (Eq. 9, Eq. 10 and Eq. 11). It is computed in
//! that form, because there x̂₀ can be clipped to the range of the pixels, as Ho's own code does, and any prediction serves:
//!
//! ```text
//! x_s = w₀·x̂₀ + w_t·x_t + σ·z
//! ```
//!
//! σ² is β̃ or β, or what the network says of each number (Nichol and Dhariwal 2021, Eq. 15).

use ndarray::{Array4, Zip};

use super::{SamplerOptions, Step, Term, Transition, Walk};
use crate::diffusion::{LogRange, Posterior, Variance};
use crate::numerics::{Real, elementary};
use crate::{Error, Result};

/// Walks down the chain: each x_s ~ p(x_s | x_t) = N(μ̃(x_t, x̂₀), σ²·I), with σ² as `options.variance` says and no noise on
/// the last step to the clean image.
///
/// # Shapes
/// x (n, h, w, c) at the first level of the chain, to the images at its last.
///
/// # Errors
/// Whatever the walk refuses; a learned variance of a network that learned none.
pub fn ddpm<F: Real>(
    chain: &[Transition],
    mut x: Array4<F>,
    options: &SamplerOptions,
    walk: &mut dyn Walk<F>,
) -> Result<Array4<F>> {
    for &transition in chain {
        let Transition { from, to } = transition;
        let estimate = walk.see(&x, from)?;
        let posterior = Posterior::of(from, to);
        let adds_noise = !to.is_clean() || options.conventions.noise_after_last_step && from.time > 0.0;
        let noise = Noise { posterior, options, said: estimate.log_variance.as_ref() };
        let z = walk.noise(from);
        let drawn = if adds_noise { noise.scaled(&z)? } else { (0.0, None) };
        let terms = [
            Term::new("x_0_hat", posterior.weight_x_0, &estimate.x_0_hat),
            Term::new("x_t", posterior.weight_x_t, &x),
            Term::new("z", drawn.0, drawn.1.as_ref().unwrap_or(&z)),
        ];
        x = walk.step(Step { transition, x_t: &x, estimate: &estimate, terms: &terms })?;
    }
    Ok(x)
}

/// The noise of a step.
struct Noise<'a, F> {
    posterior: Posterior,
    options: &'a SamplerOptions,
    said: Option<&'a Array4<F>>,
}

impl<F: Real> Noise<'_, F> {
    /// σ and z; where each number has a σ of its own, 1 and σ·z.
    fn scaled(&self, z: &Array4<F>) -> Result<(f64, Option<Array4<F>>)> {
        let SamplerOptions { variance: kind, conventions, .. } = *self.options;
        let least = conventions.least_variance;
        if !kind.is_learned() {
            let variance = self.posterior.variance(kind);
            return Ok((if variance < least { least } else { variance }.sqrt(), None));
        }
        let Some(said) = self.said else {
            let expected = "fixed_small or fixed_large: the network says nothing of variances";
            return Err(Error::value("variance_type", expected, format!("{kind:?}")));
        };
        let small = if self.posterior.beta_tilde < least { least } else { self.posterior.beta_tilde };
        let [small, large] = [small, self.posterior.beta].map(elementary::ln);
        let range = LogRange { small, large, to_image: false };
        let by_logarithm = kind == Variance::LearnedRange || conventions.learned_is_logarithm;
        let sigma = |said: f64| match by_logarithm {
            true => elementary::exp(0.5 * range.log_variance(kind, said)),
            false => said.sqrt(),
        };
        let scaled = Zip::from(z).and(said).map_collect(|&z, said| F::from_f64(sigma(said.to_f64())) * z);
        Ok((1.0, Some(scaled)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_near, numbers, schedule, step_of};
    use super::*;
    use crate::diffusion::Prediction;
    use crate::sample::Sampler;

    fn options(variance: Variance) -> SamplerOptions {
        SamplerOptions { variance, ..SamplerOptions::default() }
    }

    #[test]
    fn ddpm_step_equals_algorithm_2_as_printed() {
        let (schedule, numbers) = (schedule(), numbers());
        for t in [2, 17, 40] {
            let (alpha, beta) = (schedule.alpha(t), schedule.beta(t));
            let sigma_t = (1.0 - schedule.alpha_bar(t)).sqrt();
            let mean = (&numbers.x_t - &numbers.output * (beta / sigma_t)) / alpha.sqrt();
            let printed = mean + &numbers.noise * beta.sqrt();
            let ours = step_of(Sampler::Ddpm, &options(Variance::FixedLarge), Prediction::Epsilon, None, (t, t - 1));
            assert_near(&ours, &printed, 1e-12);
        }
    }

    #[test]
    fn ddpm_variances_scale_the_noise_by_beta_tilde_and_beta() {
        let (schedule, numbers) = (schedule(), numbers());
        let (t, t_prev) = (33, 20);
        let (alpha_bar, alpha_bar_prev) = (schedule.alpha_bar(t), schedule.alpha_bar(t_prev));
        let beta = 1.0 - alpha_bar / alpha_bar_prev;
        let beta_tilde = beta * (1.0 - alpha_bar_prev) / (1.0 - alpha_bar);
        let of = |variance| step_of(Sampler::Ddpm, &options(variance), Prediction::Epsilon, None, (t, t_prev));
        let difference = of(Variance::FixedLarge) - of(Variance::FixedSmall);
        assert_near(&difference, &(&numbers.noise * (beta.sqrt() - beta_tilde.sqrt())), 1e-13);
    }

    #[test]
    fn ddpm_step_to_the_image_adds_noise_in_diffusers_dialect_alone() {
        let with = |conventions| {
            let options = SamplerOptions { conventions, ..options(Variance::FixedLarge) };
            step_of(Sampler::Ddpm, &options, Prediction::Epsilon, Some(1.0), (9, 0))
        };
        let (paper, diffusers) = (with(super::super::Conventions::PAPER), with(super::super::Conventions::DIFFUSERS));
        let sigma = (1.0 - schedule().alpha_bar(9)).sqrt();
        assert_near(&(diffusers - paper), &(numbers().noise * sigma), 1e-14);
    }
}
