//! A place on the noise axis: what x is made of there.
//!
//! ```text
//! x = signal·x₀ + sigma·ε,   ε ~ N(0, I)
//! ```
//!
//! In the variance-preserving process of Ho et al. 2020, signal = √ᾱ_t and sigma = √(1−ᾱ_t). A sampler is told of levels,
//! never of an integer t, so that it can walk between any two places.

use super::{Marginal, Schedule};
use crate::numerics::Real;

/// How noisy x is, and the time that the network is fed there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// What the network is fed: t − 1 for paper-time t = 1..=T, because published checkpoints count from 0. The clean
    /// image has −1, which is never fed.
    pub time: f64,
    /// The share of x's variance that is the image's, ᾱ in [0, 1]; 1 for the clean image. It is what tables hold and what is
    /// rounded: signal and sigma follow from it.
    pub alpha_bar: f64,
}

impl Level {
    /// The image itself, without noise.
    pub const CLEAN: Level = Level { time: -1.0, alpha_bar: 1.0 };

    /// √ᾱ, what x₀ is multiplied by, in [0, 1].
    pub fn signal(self) -> f64 {
        self.alpha_bar.sqrt()
    }

    /// √(1−ᾱ), the standard deviation of the noise, in [0, 1].
    pub fn sigma(self) -> f64 {
        (1.0 - self.alpha_bar).sqrt()
    }

    /// Both, each rounded once to `F`.
    pub fn marginal<F: Real>(self) -> Marginal<F> {
        Marginal { signal: F::from_f64(self.signal()), sigma: F::from_f64(self.sigma()) }
    }

    /// Paper-time t, which counts from 1; 0 for the clean image.
    pub fn t(self) -> f64 {
        self.time + 1.0
    }

    /// Whether there is no noise.
    pub fn is_clean(self) -> bool {
        self.alpha_bar == 1.0
    }
}

impl Schedule {
    /// The level at time `t` in 0..=T.
    ///
    /// # Panics
    /// If `t` > T.
    pub fn level(&self, t: usize) -> Level {
        Level { time: t as f64 - 1.0, alpha_bar: self.alpha_bar(t) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::BetaSchedule;

    #[test]
    fn level_of_a_time_has_its_signal_its_noise_and_what_the_network_is_fed() {
        let schedule = Schedule::new(BetaSchedule::Linear, 50, 1e-3, 0.2).unwrap();
        let level = schedule.level(31);
        assert_eq!((level.time, level.t(), level.alpha_bar), (30.0, 31.0, schedule.alpha_bar(31)));
        let Marginal { signal, sigma } = level.marginal::<f64>();
        assert!((signal * signal + sigma * sigma - 1.0).abs() < 1e-15);
        assert_eq!(level.marginal::<f32>().signal, level.signal() as f32);
        assert_eq!(schedule.level(0), Level::CLEAN);
        assert!(Level::CLEAN.is_clean() && !level.is_clean() && Level::CLEAN.sigma() == 0.0);
    }
}
