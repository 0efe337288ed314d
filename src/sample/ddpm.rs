//! Ancestral sampling, full or strided chain (Ho et al. 2020, Algorithm 2).
//!
//! ```text
//! for t = T, …, 1
//!     z ~ N(0, I) if t > 1, else z = 0
//!     x_{t−1} = 1/√α_t · (x_t − β_t/√(1−ᾱ_t) · ε̂(x_t, t)) + σ_t·z
//! ```
//!
//! The mean is Eq. 7's μ̃(x_t, x̂₀) with x̂₀ = (x_t − √(1−ᾱ_t)·ε̂)/√ᾱ_t put in (Eq. 9 to 11). It is computed in that
//! form, because there x̂₀ can be clipped to the range of the pixels, as Ho's own code does, and any prediction serves.

use super::{ReverseProcess, Step, Stepped};
use crate::diffusion::{Posterior, Variance};
use crate::numerics::Real;

/// Ancestral sampling with a fixed variance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ddpm {
    /// σ_t².
    pub variance: Variance,
}

impl Ddpm {
    /// x_{t_prev} ~ p(x_{t_prev} | x_t) = N(μ̃(x_t, x̂₀), σ²·I), with σ = 0 at the last step.
    ///
    /// # Rounding
    /// The three factors are f64 rounded once to `F`; then (w₀·x̂₀ + w_t·x_t) + σ·z, each operation rounded.
    ///
    /// # Panics
    /// If the step's slices differ in length, or not 0 ≤ `t_prev` < `t` ≤ T.
    pub fn step<F: Real>(&self, reverse: &ReverseProcess, step: &Step<F>) -> Stepped<F> {
        let posterior = Posterior::at(&reverse.schedule, step.t, step.t_prev);
        let weight_x_0 = F::from_f64(posterior.weight_x_0);
        let weight_x_t = F::from_f64(posterior.weight_x_t);
        let sigma = if step.t_prev == 0 { 0.0 } else { posterior.variance(self.variance).sqrt() };
        let sigma = F::from_f64(sigma);

        let x_0_hat = reverse.x_0_hat(step);
        let x_prev = (0..x_0_hat.len())
            .map(|i| {
                let posterior_mean = weight_x_0 * x_0_hat[i] + weight_x_t * step.x_t[i];
                posterior_mean + sigma * step.noise[i]
            })
            .collect();
        Stepped { x_prev, x_0_hat }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_near, numbers, reverse};
    use super::*;
    use crate::diffusion::Prediction;

    #[test]
    fn ddpm_step_equals_algorithm_2_as_printed() {
        let reverse = reverse(Prediction::Epsilon, None);
        let numbers = numbers();
        for t in [2, 17, 40] {
            let (alpha, beta) = (reverse.schedule.alpha(t), reverse.schedule.beta(t));
            let sigma_t = (1.0 - reverse.schedule.alpha_bar(t)).sqrt();
            let printed: Vec<f64> = (0..numbers.x_t.len())
                .map(|i| {
                    let mean = (numbers.x_t[i] - beta / sigma_t * numbers.output[i]) / alpha.sqrt();
                    mean + beta.sqrt() * numbers.noise[i]
                })
                .collect();
            let ddpm = Ddpm { variance: Variance::FixedLarge };
            assert_near(&ddpm.step(&reverse, &numbers.step(t, t - 1)).x_prev, &printed, 1e-12);
        }
    }

    #[test]
    fn ddpm_variances_scale_the_noise_by_beta_tilde_and_beta() {
        let reverse = reverse(Prediction::Epsilon, None);
        let numbers = numbers();
        let (t, t_prev) = (33, 20);
        let quiet = vec![0.0; numbers.noise.len()];
        let noise_added = |variance| {
            let ddpm = Ddpm { variance };
            let x_prev = ddpm.step(&reverse, &numbers.step(t, t_prev)).x_prev;
            let mean = ddpm.step(&reverse, &Step { noise: &quiet, ..numbers.step(t, t_prev) }).x_prev;
            (x_prev[4] - mean[4]) / numbers.noise[4]
        };
        let (alpha_bar, alpha_bar_prev) = (reverse.schedule.alpha_bar(t), reverse.schedule.alpha_bar(t_prev));
        let beta = 1.0 - alpha_bar / alpha_bar_prev;
        let beta_tilde = beta * (1.0 - alpha_bar_prev) / (1.0 - alpha_bar);
        assert!((noise_added(Variance::FixedLarge) - beta.sqrt()).abs() < 1e-13);
        assert!((noise_added(Variance::FixedSmall) - beta_tilde.sqrt()).abs() < 1e-13);
    }

    #[test]
    fn ddpm_step_in_f32_is_the_f64_step_to_rounding() {
        let reverse = reverse(Prediction::V, Some(1.0));
        let numbers = numbers();
        let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<_>>();
        let (x_t, output, noise) = (narrow(&numbers.x_t), narrow(&numbers.output), narrow(&numbers.noise));
        let ddpm = Ddpm { variance: Variance::FixedSmall };
        let single = ddpm.step(&reverse, &Step { t: 9, t_prev: 5, x_t: &x_t, output: &output, noise: &noise });
        let widened: Vec<f64> = single.x_prev.iter().map(|&x| x as f64).collect();
        assert_near(&widened, &ddpm.step(&reverse, &numbers.step(9, 5)).x_prev, 1e-6);
    }
}
