//! A place on the noise axis: what x is made of there.
//!
//! ```text
//! x = signal·x₀ + sigma·ε,   ε ~ N(0, I)
//! ```
//!
//! Processes differ in the two factors alone:
//!
//! | form | signal | sigma | source |
//! |---|---|---|---|
//! | [`Form::VariancePreserving`] | √ᾱ | √(1−ᾱ) | Ho et al. 2020, Eq. 4 |
//! | [`Form::VarianceExploding`] | 1 | σ | Karras et al. 2022, Eq. 1 |
//! | [`Form::Flow`] | 1 − σ | σ | Lipman et al. 2023, Eq. 20 |
//!
//! What matters is their ratio σ/signal: two levels of the same ratio hold the same picture in the same noise, and x differs
//! by a factor alone, [`Level::scale`]. λ = ln(signal/sigma) is half the logarithm of the signal-to-noise ratio. A sampler is
//! told of levels, never of an integer t, so that it can walk between any two places.

use super::Marginal;
use crate::numerics::{Real, elementary};

/// The factors of a process, by what they keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// signal² + sigma² = 1: the variance of x stays 1 where the images' is 1.
    VariancePreserving,
    /// signal = 1: the noise grows over the image.
    VarianceExploding,
    /// signal + sigma = 1: x goes from the image to the noise on a straight line.
    Flow,
}

/// How noisy x is, and the time that the network is fed there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// What the network is fed: t − 1 for paper-time t = 1..=T, because published checkpoints count from 0. The clean
    /// image has −1, which is never fed.
    pub time: f64,
    /// The share of x's variance that is the image's, signal²/(signal² + sigma²) in [0, 1]; 1 for the clean image. In a
    /// variance-preserving process it is what tables hold and what is rounded: signal and sigma follow from it.
    pub alpha_bar: f64,
    signal: f64,
    sigma: f64,
    scale: f64,
}

impl Level {
    /// The image itself, without noise.
    pub const CLEAN: Level = Level { time: -1.0, alpha_bar: 1.0, signal: 1.0, sigma: 0.0, scale: 1.0 };

    /// A level of a variance-preserving process, by ᾱ in [0, 1].
    pub fn of_alpha_bar(time: f64, alpha_bar: f64) -> Self {
        Level { time, alpha_bar, signal: alpha_bar.sqrt(), sigma: (1.0 - alpha_bar).sqrt(), scale: 1.0 }
    }

    /// The level of a form at which x₀ and ε stand in the ratio of these two factors: `signal` and `sigma` are 0 or above, not
    /// both 0, and `signal` above 0 where the form is variance-exploding.
    pub fn new(form: Form, time: f64, signal: f64, sigma: f64) -> Self {
        let divisor = match form {
            Form::VariancePreserving => (signal * signal + sigma * sigma).sqrt(),
            Form::VarianceExploding => signal,
            Form::Flow => signal + sigma,
        };
        let (signal, sigma) = (signal / divisor, sigma / divisor);
        let square = signal * signal + sigma * sigma;
        let scale = if form == Form::VariancePreserving { 1.0 } else { square.sqrt() };
        Level { time, alpha_bar: signal * signal / square, signal, sigma, scale }
    }

    /// The level of another form at which the same picture is in the same noise. Noise alone has none that is
    /// variance-exploding.
    pub fn in_form(self, form: Form) -> Self {
        match form {
            Form::VariancePreserving if self.scale == 1.0 => self,
            _ => Level::new(form, self.time, self.signal, self.sigma),
        }
    }

    /// The same level where the network is fed another time.
    pub fn fed(self, time: f64) -> Self {
        Level { time, ..self }
    }

    /// What x₀ is multiplied by, above 0 but for noise alone.
    pub fn signal(self) -> f64 {
        self.signal
    }

    /// What the noise is multiplied by: its standard deviation.
    pub fn sigma(self) -> f64 {
        self.sigma
    }

    /// √(signal² + sigma²), the standard deviation of x where the images' is 1: x is `scale` times what it is at the
    /// variance-preserving level of the same ratio, where this is 1.
    pub fn scale(self) -> f64 {
        self.scale
    }

    /// sigma/signal, 0 for the clean image and infinite for noise alone.
    pub fn ratio(self) -> f64 {
        self.sigma / self.signal
    }

    /// λ = ln(signal/sigma), half the logarithm of the signal-to-noise ratio; infinite for the clean image.
    pub fn lambda(self) -> f64 {
        elementary::ln(self.signal) - elementary::ln(self.sigma)
    }

    /// φ in 0..=π/2 with signal = scale·cos φ and sigma = scale·sin φ: the angle by which (x, v) is turned against (x₀, ε) (Salimans
    /// and Ho 2022, Appendix D). It is the same in every form.
    pub fn angle(self) -> f64 {
        elementary::acos(self.signal / self.scale)
    }

    /// The variance-preserving level of an angle in 0..=π/2, at which the network is fed `time`.
    pub fn of_angle(time: f64, angle: f64) -> Self {
        Level::new(Form::VariancePreserving, time, elementary::cos(angle), elementary::sin(angle))
    }

    /// Both factors, each rounded once to `F`.
    pub fn marginal<F: Real>(self) -> Marginal<F> {
        Marginal { signal: F::from_f64(self.signal), sigma: F::from_f64(self.sigma) }
    }

    /// Paper-time t, which counts from 1; 0 for the clean image.
    pub fn t(self) -> f64 {
        self.time + 1.0
    }

    /// Whether there is no noise.
    pub fn is_clean(self) -> bool {
        self.sigma == 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::{BetaSchedule, Schedule};

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

    #[test]
    fn levels_of_one_ratio_share_all_but_their_scale() {
        let forms = [Form::VariancePreserving, Form::VarianceExploding, Form::Flow];
        let near = |a: f64, b: f64| assert!((a - b).abs() <= 1e-15 * b.abs(), "{a} {b}");
        for ratio in [1e-9, 2e-3, 0.4, 1.0, 157.0] {
            for level in forms.map(|form| Level::new(form, 7.0, 1.0, ratio)) {
                near(level.ratio(), ratio);
                near(level.scale(), level.signal().hypot(level.sigma()));
                near(level.alpha_bar, 1.0 / (1.0 + ratio * ratio));
                forms.iter().for_each(|&form| near(level.in_form(form).ratio(), ratio));
                assert!((level.lambda() + crate::numerics::elementary::ln(ratio)).abs() < 1e-14 && !level.is_clean());
            }
        }
        let flow = Level::new(Form::Flow, 300.0, 0.7, 0.3);
        assert_eq!((flow.signal(), flow.sigma()), (0.7, 0.3));
        let noise = Level::new(Form::Flow, 1000.0, 0.0, 1.0);
        assert_eq!((noise.alpha_bar, noise.in_form(Form::VariancePreserving).sigma()), (0.0, 1.0));
        assert!(forms.iter().all(|&form| Level::new(form, 0.0, 1.0, 0.0).is_clean()));
    }
}
