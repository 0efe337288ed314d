//! How much each time counts in the loss.
//!
//! Every loss here is a weight times ‖x₀ − x̂₀‖², whatever the network is asked: x̂₀ is linear in the output y, so the error of the
//! output is that of x̂₀ divided by the slope ∂x̂₀/∂y, and
//!
//! ```text
//! w_y·‖y* − y‖² = w_x₀·‖x₀ − x̂₀‖²,     w_y = w_x₀·(∂x̂₀/∂y)²
//! ```
//!
//! With SNR = signal²/sigma², the squared slope is 1/SNR for ε, 1 for x₀ and, where signal² + sigma² = 1, 1/(SNR+1) for v. The
//! weightings, by what the error of x̂₀ is multiplied with:
//!
//! | weighting | w_x₀ | source |
//! |---|---|---|
//! | simple | 1/(∂x̂₀/∂y)²: the output's own error counts 1 | Ho et al. 2020, Eq. 14 |
//! | min-SNR-γ | min(SNR, γ) | Hang et al. 2023 |
//! | P2 | SNR/(k + SNR)^γ | Choi et al. 2022, Eq. 8 |
//! | VLB | T·w₀²/(2·β̃·ln 2), with the w₀ of the posterior's mean | Ho et al. 2020, Eq. 8 |
//!
//! The last is T times the term of the bound, in bits per dimension, where the variance is β̃: all times have the same chance to be
//! drawn, and the mean over them is the whole bound but for the prior and the decoder. On the step to the image a squared error
//! with the β̃ of the step before stands in the decoder's place.

use super::likelihood::BITS;
use super::{LogRange, Posterior, Prediction, Schedule};
use crate::numerics::elementary;

/// A weighting with its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weighting {
    /// The output's own squared error.
    Simple,
    /// Times of little noise count no more than γ.
    MinSnr {
        /// γ, above 0; 5 in the paper.
        gamma: f64,
    },
    /// Times of little noise count less, those of much noise as in the simple loss of ε.
    P2 {
        /// k, above 0; 1 in the paper.
        k: f64,
        /// γ, 0 or above; 0.5 or 1 in the paper, and 0 is the simple loss of ε.
        gamma: f64,
    },
    /// The bound with the variance β̃.
    Vlb,
}

impl Weighting {
    /// What the squared error of the output is multiplied by at time `t` of 1..=T, 0 or above.
    ///
    /// # Panics
    /// If `t` is not in 1..=T.
    pub fn weight(self, schedule: &Schedule, prediction: Prediction, t: usize) -> f64 {
        let level = schedule.level(t);
        let slope = prediction.x_0_hat(level.marginal(), &[0.0], &[1.0])[0];
        let ratio = level.signal() / level.sigma();
        let snr = ratio * ratio;
        let of_x_0 = match self {
            Weighting::Simple => return 1.0,
            Weighting::MinSnr { gamma } if snr < gamma => snr,
            Weighting::MinSnr { gamma } => gamma,
            Weighting::P2 { k, gamma } => snr * elementary::exp(-gamma * elementary::ln(k + snr)),
            Weighting::Vlb => {
                let posterior = Posterior::at(schedule, t, t - 1);
                let noisier = (t < schedule.t_max()).then(|| Posterior::at(schedule, t + 1, t));
                let precision = elementary::exp(-LogRange::of(&posterior, noisier.as_ref()).small);
                schedule.t_max() as f64 * posterior.weight_x_0 * posterior.weight_x_0 * 0.5 * precision * BITS
            }
        };
        of_x_0 * slope * slope
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::likelihood::{Cdf, Reading, Said, steps};
    use crate::diffusion::{BetaSchedule, Variance};

    const ALL: [Prediction; 3] = [Prediction::Epsilon, Prediction::Sample, Prediction::V];

    fn schedule() -> Schedule {
        Schedule::new(BetaSchedule::Linear, 40, 1e-3, 0.3).unwrap()
    }

    fn assert_near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-11, "{found} {expected}"); // 1 − ᾱ₁ has lost three digits
    }

    #[test]
    fn weights_are_those_that_the_papers_print() {
        let schedule = schedule();
        for t in [1, 7, 20, 40] {
            let snr = schedule.snr(t);
            let min = snr.min(5.0);
            let of = |weighting: Weighting, prediction| weighting.weight(&schedule, prediction, t);
            let min_snr = Weighting::MinSnr { gamma: 5.0 };
            assert_near(of(min_snr, Prediction::Epsilon), min / snr);
            assert_near(of(min_snr, Prediction::Sample), min);
            assert_near(of(min_snr, Prediction::V), min / (snr + 1.0));
            assert_near(of(Weighting::P2 { k: 1.0, gamma: 1.0 }, Prediction::Epsilon), 1.0 / (1.0 + snr));
            assert_near(of(Weighting::P2 { k: 1.0, gamma: 0.0 }, Prediction::Epsilon), 1.0);
            if t > 1 {
                // Ho et al. 2020, Eq. 12: β²/(2σ²α(1−ᾱ)), in bits and times T.
                let (beta, variance) = (schedule.beta(t), Posterior::at(&schedule, t, t - 1).beta_tilde);
                let expected = beta * beta / (2.0 * variance * schedule.alpha(t) * (1.0 - schedule.alpha_bar(t)));
                assert_near(of(Weighting::Vlb, Prediction::Epsilon), 40.0 * BITS * expected);
                // Kingma et al. 2021, § 4: half the loss of SNR.
                assert_near(of(Weighting::Vlb, Prediction::Sample), 20.0 * BITS * (schedule.snr(t - 1) - snr));
            }
        }
    }

    #[test]
    fn weighted_losses_of_all_predictions_are_the_same_number() {
        let schedule = schedule();
        let (x_0, eps, x_0_hat) = ([0.3, -0.9], [1.2, -0.1], [0.1, -0.5]);
        for weighting in [Weighting::MinSnr { gamma: 5.0 }, Weighting::P2 { k: 1.0, gamma: 0.5 }, Weighting::Vlb] {
            for t in [1, 7, 20, 40] {
                let at = schedule.level(t).marginal();
                let x_t = crate::diffusion::q_sample(schedule.level(t), &x_0, &eps);
                let losses = ALL.map(|prediction| {
                    // What a network says that sees x_0_hat.
                    let eps_hat = Prediction::Sample.eps_hat(at, &x_t, &x_0_hat);
                    let (said, target) = (prediction.target(at, &x_0_hat, &eps_hat), prediction.target(at, &x_0, &eps));
                    let squares: f64 = said.iter().zip(&target).map(|(a, b)| (a - b) * (a - b)).sum();
                    weighting.weight(&schedule, prediction, t) * squares
                });
                losses.iter().for_each(|&loss| assert_near(loss, losses[0]));
            }
        }
    }

    #[test]
    fn vlb_weight_times_the_mean_squared_error_is_the_term_of_the_bound_times_t() {
        let schedule = schedule();
        let steps = steps(&schedule, &(1..=40).collect::<Vec<_>>());
        let (x_0, eps, said) = ([0.2, -0.6], [0.4, -1.1], [0.1, -1.3]);
        let reading =
            Reading { prediction: Prediction::Epsilon, variance: Variance::FixedSmall, clip: None, cdf: Cdf::Erf };
        let mse = said.iter().zip(&eps).map(|(a, b)| (a - b) * (a - b) / 2.0).sum::<f64>();
        for t in [2, 9, 40] {
            let bits = steps[t - 1].term(&reading, &x_0, &eps, Said { mean: &said, variance: &[] }).bits;
            // The KL's rounding is absolute: its two variances cancel.
            let weighted = Weighting::Vlb.weight(&schedule, Prediction::Epsilon, t) * mse;
            assert!((weighted - 40.0 * bits).abs() < 1e-10 * weighted.max(1.0), "t = {t}: {weighted} {}", 40.0 * bits);
        }
    }
}
