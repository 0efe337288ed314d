//! The way back when the image is known: q(x_s | x_t, x₀) for s < t (Ho et al. 2020, Eq. 6 and Eq. 7).
//!
//! The chain may be strided: s = `t_prev` is t − 1 in the full chain and any earlier time in a respaced one, whose step
//! from s to t keeps α = ᾱ_t/ᾱ_s and adds β = 1 − α (Nichol and Dhariwal 2021, § 4). By Bayes' rule
//!
//! ```text
//! q(x_s | x_t, x₀) ∝ q(x_t | x_s)·q(x_s | x₀) = N(x_t; √α·x_s, β)·N(x_s; √ᾱ_s·x₀, 1−ᾱ_s)
//! ```
//!
//! and completing the square in x_s, the precisions α/β and 1/(1−ᾱ_s) add up to (1−ᾱ_t)/(β·(1−ᾱ_s)):
//!
//! ```text
//! β̃ = β·(1−ᾱ_s)/(1−ᾱ_t)
//! μ̃ = √ᾱ_s·β/(1−ᾱ_t)·x₀ + √α·(1−ᾱ_s)/(1−ᾱ_t)·x_t
//! ```
//!
//! # Hazard
//! At the last step s = 0 and ᾱ_s = 1, so β̃ = 0 and μ̃ = x₀, exactly. Nothing is drawn there; a likelihood that needs
//! ln β̃ has to say what it puts instead.

use serde::{Deserialize, Serialize};

use super::{Level, Schedule};
use crate::numerics::elementary;

/// The Gaussian q(x_s | x_t, x₀) = N(`weight_x_0`·x₀ + `weight_x_t`·x_t, `beta_tilde`·I), its scalars in f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Posterior {
    /// What x₀ is multiplied by in the posterior_mean: √ᾱ_s·β/(1−ᾱ_t), in (0, 1].
    pub weight_x_0: f64,
    /// What x_t is multiplied by in the posterior_mean: √α·(1−ᾱ_s)/(1−ᾱ_t), in [0, 1).
    pub weight_x_t: f64,
    /// β of the strided chain, 1 − ᾱ_t/ᾱ_s, in (0, 1].
    pub beta: f64,
    /// β̃ = β·(1−ᾱ_s)/(1−ᾱ_t), in [0, β].
    pub beta_tilde: f64,
}

/// The variance of p(x_s | x_t), under the names that `diffusers` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variance {
    /// β̃, right if the image is one fixed point (Ho et al. 2020, § 3.2).
    FixedSmall,
    /// β, right if the images are standard normal noise (Ho et al. 2020, § 3.2).
    FixedLarge,
    /// β̃ by way of its logarithm, which others floor at 1e-20: the same number where noise is added.
    FixedSmallLog,
    /// β by way of its logarithm: the same number. diffusers 0.42.1's `DDPMScheduler` takes the root of the logarithm itself and
    /// gives NaN.
    FixedLargeLog,
    /// What the network says: the logarithm of the variance of each number.
    Learned,
    /// Between β̃ and β, on the line between their logarithms, where the network says (Nichol and Dhariwal 2021, Eq. 15).
    LearnedRange,
}

impl Variance {
    /// Whether the network says it.
    pub fn is_learned(self) -> bool {
        matches!(self, Variance::Learned | Variance::LearnedRange)
    }
}

impl Posterior {
    /// The posterior of x at time `t_prev` given x at time `t`.
    ///
    /// # Panics
    /// If not 0 ≤ `t_prev` < `t` ≤ T.
    pub fn at(schedule: &Schedule, t: usize, t_prev: usize) -> Self {
        assert!(t_prev < t, "posterior: t_prev = {t_prev} is not before t = {t}");
        Posterior::between(schedule.alpha_bar(t), schedule.alpha_bar(t_prev))
    }

    /// The posterior of x at the less noisy level `to` given x at level `from`.
    pub fn of(from: Level, to: Level) -> Self {
        Posterior::between(from.alpha_bar, to.alpha_bar)
    }

    /// The posterior between the times where ᾱ is `alpha_bar` and, nearer the image, `alpha_bar_prev`:
    /// 0 ≤ `alpha_bar` ≤ `alpha_bar_prev` ≤ 1, the first below 1 and the second above 0.
    pub fn between(alpha_bar: f64, alpha_bar_prev: f64) -> Self {
        let alpha = alpha_bar / alpha_bar_prev;
        let beta = 1.0 - alpha;
        // β/(1−ᾱ_t) is at most 1 also after rounding, so β̃ is at most 1−ᾱ_s.
        let share = beta / (1.0 - alpha_bar);
        Posterior {
            weight_x_0: alpha_bar_prev.sqrt() * share,
            weight_x_t: alpha.sqrt() * ((1.0 - alpha_bar_prev) / (1.0 - alpha_bar)),
            beta,
            beta_tilde: (1.0 - alpha_bar_prev) * share,
        }
    }

    /// The variance of p(x_s | x_t) where it is fixed; of a learned one its upper end, β.
    pub fn variance(&self, kind: Variance) -> f64 {
        match kind {
            Variance::FixedSmall | Variance::FixedSmallLog => self.beta_tilde,
            _ => self.beta,
        }
    }

    /// The logarithm of the learned variance of one number: `said` itself, or (1+v)/2·ln β + (1−v)/2·ln β̃ with v = `said`
    /// (Nichol and Dhariwal 2021, Eq. 15). β̃ counts as `least` where it is smaller: it is 0 on the step to the image.
    pub fn log_variance(&self, kind: Variance, said: f64, least: f64) -> f64 {
        if kind != Variance::LearnedRange {
            return said;
        }
        let share = (said + 1.0) / 2.0;
        let least = if self.beta_tilde < least { least } else { self.beta_tilde };
        share * elementary::ln(self.beta) + (1.0 - share) * elementary::ln(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::BetaSchedule;
    use crate::numerics::elementary::exp;

    fn schedule() -> Schedule {
        Schedule::new(BetaSchedule::Linear, 20, 0.01, 0.4).unwrap()
    }

    /// Mean and variance of a density known at evenly spaced points up to a factor.
    fn moments(grid: &[f64], density: &[f64]) -> (f64, f64) {
        let total: f64 = density.iter().sum();
        let mean = grid.iter().zip(density).map(|(x, p)| x * p).sum::<f64>() / total;
        let variance = grid.iter().zip(density).map(|(x, p)| (x - mean) * (x - mean) * p).sum::<f64>() / total;
        (mean, variance)
    }

    #[test]
    fn posterior_equals_bayes_rule_on_a_grid() {
        let schedule = schedule();
        let (x_0, x_t) = (0.6, -1.1);
        let normal = |x: f64, mean: f64, variance: f64| exp(-(x - mean) * (x - mean) / (2.0 * variance));
        // The sum over a grid is exact to rounding for a Gaussian many grid steps wide that ends far outside it.
        let grid: Vec<f64> = (-40_000..=40_000).map(|i| i as f64 * 2e-4).collect();
        for (t, t_prev) in [(2, 1), (9, 8), (20, 19), (15, 6), (20, 3)] {
            let alpha_bar_prev = schedule.alpha_bar(t_prev);
            // α of the stride as the product over its steps, not as the quotient under test.
            let alpha: f64 = (t_prev + 1..=t).map(|s| schedule.alpha(s)).product();
            let density: Vec<f64> = grid
                .iter()
                .map(|&x_s| {
                    normal(x_t, alpha.sqrt() * x_s, 1.0 - alpha)
                        * normal(x_s, alpha_bar_prev.sqrt() * x_0, 1.0 - alpha_bar_prev)
                })
                .collect();
            let (mean, variance) = moments(&grid, &density);
            let posterior = Posterior::at(&schedule, t, t_prev);
            let posterior_mean = posterior.weight_x_0 * x_0 + posterior.weight_x_t * x_t;
            assert!((posterior_mean - mean).abs() < 1e-11, "t = {t}, t_prev = {t_prev}: {posterior_mean} {mean}");
            assert!((posterior.beta_tilde - variance).abs() < 1e-11, "t = {t}, t_prev = {t_prev}");
        }
    }

    #[test]
    fn posterior_of_the_last_step_is_the_image_without_noise() {
        for t in [1, 7, 20] {
            let posterior = Posterior::at(&schedule(), t, 0);
            assert_eq!((posterior.weight_x_0, posterior.weight_x_t, posterior.beta_tilde), (1.0, 0.0, 0.0));
            assert_eq!(posterior.variance(Variance::FixedLarge), 1.0 - schedule().alpha_bar(t));
        }
    }

    #[test]
    fn posterior_of_neighbouring_steps_has_the_schedules_beta() {
        let schedule = schedule();
        for t in 2..=20 {
            let posterior = Posterior::at(&schedule, t, t - 1);
            assert!((posterior.variance(Variance::FixedLarge) - schedule.beta(t)).abs() < 1e-15);
            assert!(posterior.variance(Variance::FixedSmall) < posterior.variance(Variance::FixedLarge));
        }
    }

    #[test]
    fn posterior_from_pure_noise_forgets_x_t() {
        let schedule = Schedule::new(BetaSchedule::Linear, 5, 0.1, 1.0).unwrap();
        let posterior = Posterior::at(&schedule, 5, 4);
        assert_eq!(posterior.weight_x_t, 0.0);
        assert_eq!(posterior.weight_x_0, schedule.alpha_bar(4).sqrt());
        assert_eq!(posterior.beta_tilde, 1.0 - schedule.alpha_bar(4));
    }

    #[test]
    #[should_panic(expected = "t_prev = 3 is not before t = 3")]
    fn posterior_of_a_step_that_stands_still_panics() {
        Posterior::at(&schedule(), 3, 3);
    }
}
