//! The forward process in one stride: x_t drawn from x₀ (Ho et al. 2020, Eq. 4).
//!
//! q(x_t | x₀) = N(√ᾱ_t·x₀, (1−ᾱ_t)·I), so with ε ~ N(0, I)
//!
//! ```text
//! x_t = √ᾱ_t·x₀ + √(1−ᾱ_t)·ε
//! ```
//!
//! # Rounding
//! √ᾱ_t and √(1−ᾱ_t) are computed in f64 and rounded once to `F`. Then, in `F`, two products and their sum, each
//! rounded: no fused multiply-add, so that an array library reproduces the bits.

use super::Level;
use crate::numerics::Real;

/// The two scalars of q(x_t | x₀) at one [`Level`], rounded: x_t = signal·x₀ + sigma·ε.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Marginal<F> {
    /// √ᾱ_t, in [0, 1].
    pub signal: F,
    /// √(1−ᾱ_t), the standard deviation of the noise, in [0, 1].
    pub sigma: F,
}

/// One image with the noise of a level: x_t = √ᾱ_t·x₀ + √(1−ᾱ_t)·ε.
///
/// # Shapes
/// `x_0`, `eps` and the result: all elements of one image, in the same order. Pixels in [−1, 1], ε standard normal.
///
/// # Panics
/// If the lengths differ.
pub fn q_sample<F: Real>(level: Level, x_0: &[F], eps: &[F]) -> Vec<F> {
    assert_eq!(x_0.len(), eps.len(), "q_sample: x_0 and eps differ in length");
    let Marginal { signal, sigma } = level.marginal::<F>();
    x_0.iter().zip(eps).map(|(&x_0, &eps)| signal * x_0 + sigma * eps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::{BetaSchedule, Schedule};
    use crate::numerics::rng::Stream;

    fn normals<F: Real>(n: usize) -> Vec<F> {
        let mut eps = vec![F::from_f64(f64::NAN); n];
        Stream::keyed(5, "test", &[]).fill_normal(&mut eps);
        eps
    }

    #[test]
    fn q_sample_has_the_mean_and_the_variance_of_the_marginal() {
        let schedule = Schedule::new(BetaSchedule::Linear, 100, 1e-4, 0.02).unwrap();
        let n = 50_000;
        let eps = normals::<f64>(n);
        for t in [1, 40, 100] {
            let x_t = q_sample(schedule.level(t), &vec![0.7; n], &eps);
            let mean = x_t.iter().sum::<f64>() / n as f64;
            let variance = x_t.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
            let sigma_squared = 1.0 - schedule.alpha_bar(t);
            // Six standard errors: of a mean √(σ²/n), of a variance σ²·√(2/n).
            assert!((mean - 0.7 * schedule.alpha_bar(t).sqrt()).abs() < 6.0 * (sigma_squared / n as f64).sqrt());
            assert!((variance - sigma_squared).abs() < 6.0 * sigma_squared * (2.0 / n as f64).sqrt());
        }
    }

    #[test]
    fn q_sample_at_time_zero_returns_the_image() {
        let schedule = Schedule::new(BetaSchedule::Cosine, 10, 1e-4, 0.02).unwrap();
        let x_0 = normals::<f32>(6);
        assert_eq!(q_sample(schedule.level(0), &x_0, &[1.0; 6]), x_0);
    }

    #[test]
    fn q_sample_of_noised_noise_equals_noising_once() {
        // Gaussians compose: from s to t the signal is √(ᾱ_t/ᾱ_s) and the variance 1 − ᾱ_t/ᾱ_s.
        let schedule = Schedule::new(BetaSchedule::Linear, 20, 1e-3, 0.3).unwrap();
        let (s, t) = (7, 15);
        let alpha = schedule.alpha_bar(t) / schedule.alpha_bar(s);
        let (at_s, at_t) = (schedule.level(s).marginal::<f64>(), schedule.level(t).marginal::<f64>());
        assert!((alpha.sqrt() * at_s.signal - at_t.signal).abs() < 1e-15);
        assert!((alpha * at_s.sigma * at_s.sigma + (1.0 - alpha) - at_t.sigma * at_t.sigma).abs() < 1e-15);
    }

    #[test]
    fn q_sample_rounds_its_scalars_once_and_each_operation_once() {
        let schedule = Schedule::new(BetaSchedule::Linear, 1000, 1e-4, 0.02).unwrap();
        let (x_0, eps) = (0.3f32, -1.7f32);
        let alpha_bar = schedule.alpha_bar(500);
        let signal_part = alpha_bar.sqrt() as f32 * x_0;
        let noise_part = (1.0 - alpha_bar).sqrt() as f32 * eps;
        assert_eq!(q_sample(schedule.level(500), &[x_0], &[eps]), [signal_part + noise_part]);
    }
}
