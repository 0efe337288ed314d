//! The variance of a reverse step as a logarithm, fixed or learned (Nichol and Dhariwal 2021, § 3.1).
//!
//! β̃ and β are the extremes: the right variance lies between them. A network that learns it says one number v for each number
//! of the image, beside the mean, and
//!
//! ```text
//! ln σ² = f·ln β + (1−f)·ln β̃,   f = (v+1)/2                         (Eq. 15)
//! ```
//!
//! v is not bounded: f may leave [0, 1]. Both ends are those of the chain at hand, so a strided one has its own.
//!
//! # Hazard
//! On the step to the image β̃ is 0. Its logarithm is there that of the β̃ one step before, as improved-diffusion has it; and so
//! is the logarithm of a fixed β there, or the decoder would be far too wide (Ho et al. 2020, § 3.3 leaves it open).

use super::{Posterior, Variance};
use crate::numerics::{Real, elementary};

/// ln β̃ and ln β of one step of a chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogRange {
    /// ln β̃; on the step to the image, that of the step before it.
    pub small: f64,
    /// ln β.
    pub large: f64,
    /// Whether the step leads to the image.
    pub to_image: bool,
}

impl LogRange {
    /// Of a step; `noisier` is the step that the chain takes before it, whose β̃ stands in where this one's is 0. Where there is
    /// none either, β does.
    pub fn of(step: &Posterior, noisier: Option<&Posterior>) -> Self {
        let to_image = step.beta_tilde == 0.0;
        let small = if to_image { noisier.map_or(step.beta, |noisier| noisier.beta_tilde) } else { step.beta_tilde };
        LogRange { small: elementary::ln(small), large: elementary::ln(step.beta), to_image }
    }

    /// ln σ² of one number of which the network said `said`; a fixed variance ignores it.
    ///
    /// # Rounding
    /// Both logarithms are rounded once to `F`. Then f·ln β + (1−f)·ln β̃, each operation rounded.
    pub fn log_variance<F: Real>(&self, kind: Variance, said: F) -> F {
        match kind {
            Variance::FixedSmall | Variance::FixedSmallLog => F::from_f64(self.small),
            Variance::FixedLarge | Variance::FixedLargeLog => {
                F::from_f64(if self.to_image { self.small } else { self.large })
            }
            Variance::Learned => said,
            Variance::LearnedRange => {
                let share = (said + F::one()) / F::from_f64(2.0);
                share * F::from_f64(self.large) + (F::one() - share) * F::from_f64(self.small)
            }
        }
    }

    /// ∂ ln σ² / ∂ said: 0 where it is fixed, 1 where it is learned, and ½·(ln β − ln β̃) on the range.
    pub fn slope<F: Real>(&self, kind: Variance) -> F {
        match kind {
            Variance::Learned => F::one(),
            Variance::LearnedRange => F::from_f64(0.5) * (F::from_f64(self.large) - F::from_f64(self.small)),
            _ => F::zero(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::{BetaSchedule, Schedule};

    fn step(t: usize, t_prev: usize) -> Posterior {
        Posterior::at(&Schedule::new(BetaSchedule::Linear, 20, 0.01, 0.4).unwrap(), t, t_prev)
    }

    #[test]
    fn learned_range_goes_from_beta_tilde_at_minus_one_to_beta_at_one() {
        let range = LogRange::of(&step(9, 6), None);
        let of = |said: f64| elementary::exp(range.log_variance(Variance::LearnedRange, said));
        assert!((of(-1.0) - step(9, 6).beta_tilde).abs() < 1e-15);
        assert!((of(1.0) - step(9, 6).beta).abs() < 1e-15);
        assert!((of(0.0) - (step(9, 6).beta * step(9, 6).beta_tilde).sqrt()).abs() < 1e-15);
        let difference =
            range.log_variance(Variance::LearnedRange, 0.3 + 1e-3) - range.log_variance(Variance::LearnedRange, 0.3);
        assert!((difference / 1e-3 - range.slope::<f64>(Variance::LearnedRange)).abs() < 1e-10);
    }

    #[test]
    fn step_to_the_image_takes_the_beta_tilde_of_the_step_before_it() {
        let range = LogRange::of(&step(4, 0), Some(&step(11, 4)));
        let fixed = [Variance::FixedSmall, Variance::FixedLarge].map(|kind| range.log_variance(kind, f64::NAN));
        assert_eq!(fixed, [elementary::ln(step(11, 4).beta_tilde); 2]);
        assert_eq!(range.large, elementary::ln(step(4, 0).beta));
        assert_eq!(LogRange::of(&step(4, 0), None).small, elementary::ln(step(4, 0).beta));
        let middle = LogRange::of(&step(11, 4), Some(&step(20, 11)));
        assert_eq!(middle.log_variance(Variance::FixedLarge, 0.0), elementary::ln(step(11, 4).beta));
    }
}
