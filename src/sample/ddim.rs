//! Denoising diffusion implicit models (Song et al. 2021, Eq. 12 and 16).
//!
//! With s the time before t in the chain,
//!
//! ```text
//! σ   = η·√((1−ᾱ_s)/(1−ᾱ_t))·√(1 − ᾱ_t/ᾱ_s)
//! x_s = √ᾱ_s·x̂₀ + √(1−ᾱ_s−σ²)·ε̂ + σ·z
//! ```
//!
//! (their α is Ho's ᾱ). x̂₀ is what the model sees, and ε̂ points from it to x_t. σ² = η²·β̃: at η = 0 the step is
//! deterministic, at η = 1 it is the ancestral step with the variance β̃.

use super::{ReverseProcess, Step, Stepped};
use crate::diffusion::{Marginal, Posterior, Prediction};
use crate::numerics::Real;

/// DDIM, its stochasticity and its two conventions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ddim {
    /// η, the share of β̃'s standard deviation that is drawn anew, in [0, 1].
    pub eta: f64,
    /// Where x̂₀ is clipped: whether ε̂ is derived again from it, so that x_t = √ᾱ_t·x̂₀ + √(1−ᾱ_t)·ε̂ still holds.
    /// `diffusers` calls this so, and by default keeps the ε̂ of the model.
    pub use_clipped_model_output: bool,
    /// Whether ᾱ after the last step is 1, a clean image, or ᾱ₁, one step short of it. In the second case x̂₀ is not
    /// reached, and σ at the last step is what the formula says: 0 only if η = 0 or the last `t` is 1.
    pub set_alpha_to_one: bool,
}

impl Ddim {
    /// η = 0, ε̂ derived again from the clipped x̂₀, ending at a clean image.
    pub const DETERMINISTIC: Ddim = Ddim { eta: 0.0, use_clipped_model_output: true, set_alpha_to_one: true };

    /// x_s = √ᾱ_s·x̂₀ + √(1−ᾱ_s−σ²)·ε̂ + σ·z.
    ///
    /// # Rounding
    /// The three factors are f64 rounded once to `F`; products and sums from left to right, each rounded.
    ///
    /// # Panics
    /// If the step's slices differ in length, not 0 ≤ `t_prev` < `t` ≤ T, or η is not in [0, 1].
    pub fn step<F: Real>(&self, reverse: &ReverseProcess, step: &Step<F>) -> Stepped<F> {
        let &Step { t, t_prev, x_t, output, noise } = step;
        assert!(t_prev < t, "ddim: t_prev = {t_prev} is not before t = {t}");
        assert!((0.0..=1.0).contains(&self.eta), "ddim: eta = {} is not in [0, 1]", self.eta);
        let last_t = if self.set_alpha_to_one { 0 } else { 1 };
        let alpha_bar_prev = reverse.schedule.alpha_bar(if t_prev == 0 { last_t } else { t_prev });
        let posterior = Posterior::between(reverse.schedule.alpha_bar(t), alpha_bar_prev);
        // At most β̃ ≤ 1−ᾱ_s, so the root of what is left for ε̂ is real.
        let sigma_squared = self.eta * self.eta * posterior.beta_tilde;
        let weight_x_0 = F::from_f64(alpha_bar_prev.sqrt());
        let weight_eps = F::from_f64((1.0 - alpha_bar_prev - sigma_squared).sqrt());
        let sigma = F::from_f64(sigma_squared.sqrt());

        let at = Marginal::at(&reverse.schedule, t);
        let x_0_hat = reverse.x_0_hat(step);
        let eps_hat = if reverse.clip.is_some() && self.use_clipped_model_output {
            Prediction::Sample.eps_hat(at, x_t, &x_0_hat)
        } else {
            reverse.prediction.eps_hat(at, x_t, output)
        };
        let x_prev =
            (0..x_0_hat.len()).map(|i| weight_x_0 * x_0_hat[i] + weight_eps * eps_hat[i] + sigma * noise[i]).collect();
        Stepped { x_prev, x_0_hat }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_near, numbers, reverse};
    use super::*;
    use crate::diffusion::Variance;
    use crate::sample::Ddpm;

    #[test]
    fn ddim_with_eta_one_equals_the_ancestral_step_with_beta_tilde() {
        let numbers = numbers();
        for clip in [None, Some(1.0)] {
            let reverse = reverse(Prediction::Epsilon, clip);
            for (t, t_prev) in [(40, 39), (40, 11), (8, 2), (5, 0)] {
                let ddim = Ddim { eta: 1.0, ..Ddim::DETERMINISTIC }.step(&reverse, &numbers.step(t, t_prev));
                let ddpm = Ddpm { variance: Variance::FixedSmall }.step(&reverse, &numbers.step(t, t_prev));
                assert_near(&ddim.x_prev, &ddpm.x_prev, 1e-13);
            }
        }
    }

    #[test]
    fn ddim_with_eta_zero_ignores_the_noise() {
        let reverse = reverse(Prediction::V, None);
        let numbers = numbers();
        let other = vec![3.0; numbers.noise.len()];
        let step = numbers.step(25, 13);
        assert_eq!(
            Ddim::DETERMINISTIC.step(&reverse, &step),
            Ddim::DETERMINISTIC.step(&reverse, &Step { noise: &other, ..step })
        );
    }

    #[test]
    fn ddim_without_noise_keeps_x_0_hat_and_eps_hat_and_moves_the_time() {
        let reverse = reverse(Prediction::Epsilon, None);
        let numbers = numbers();
        let Stepped { x_prev, x_0_hat } = Ddim::DETERMINISTIC.step(&reverse, &numbers.step(38, 9));
        let renoised = crate::diffusion::q_sample(&reverse.schedule, 9, &x_0_hat, &numbers.output);
        assert_near(&x_prev, &renoised, 1e-14);
    }

    #[test]
    fn ddim_that_derives_eps_again_differs_only_where_x_0_hat_was_clipped() {
        let reverse = reverse(Prediction::Epsilon, Some(1.0));
        let numbers = numbers();
        let again = Ddim::DETERMINISTIC.step(&reverse, &numbers.step(20, 10));
        let kept =
            Ddim { use_clipped_model_output: false, ..Ddim::DETERMINISTIC }.step(&reverse, &numbers.step(20, 10));
        let clipped: Vec<bool> = again.x_0_hat.iter().map(|x| x.abs() == 1.0).collect();
        let differs: Vec<bool> = again.x_prev.iter().zip(&kept.x_prev).map(|(a, b)| (a - b).abs() > 1e-9).collect();
        assert_eq!(clipped, differs);
        assert!(clipped.contains(&true) && clipped.contains(&false));
    }

    #[test]
    fn ddim_that_stops_short_of_one_ends_at_the_first_noisy_time() {
        let reverse = reverse(Prediction::Epsilon, None);
        let numbers = numbers();
        for eta in [0.0, 0.5] {
            let ddim = Ddim { eta, set_alpha_to_one: false, ..Ddim::DETERMINISTIC };
            let to_zero = ddim.step(&reverse, &numbers.step(12, 0));
            assert_eq!(to_zero, ddim.step(&reverse, &numbers.step(12, 1)));
            assert_ne!(to_zero.x_prev, to_zero.x_0_hat);
        }
    }

    #[test]
    #[should_panic(expected = "eta = 1.5 is not in [0, 1]")]
    fn ddim_with_more_noise_than_beta_tilde_panics() {
        Ddim { eta: 1.5, ..Ddim::DETERMINISTIC }.step(&reverse(Prediction::V, None), &numbers().step(2, 1));
    }
}
