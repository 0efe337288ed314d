//! The variational bound on −log p(x₀), term by term, in bits per dimension (Ho et al. 2020, Eq. 5).
//!
//! ```text
//! −ln p(x₀) ≤ KL(q(x_T|x₀) ‖ N(0, I)) + Σ_{t>1} KL(q(x_s|x_t, x₀) ‖ p(x_s|x_t)) − ln p(x₀|x₁)
//!                    prior                             terms                       decoder
//! ```
//!
//! each an expectation over x_t ~ q(x_t|x₀), of which one draw gives an estimate without bias. A bit per dimension is the mean
//! over the numbers of an image, divided by ln 2: 8 for an image of which nothing is known.
//!
//! A model that gives a step a mean by way of x̂₀ and a variance has p(x_s|x_t) = N(w₀·x̂₀ + w_t·x_t, σ²), with the weights of the
//! posterior ([`Posterior`]). The KL of two Gaussians is, with l and s the logarithms of their variances and d the difference of
//! their means,
//!
//! ```text
//! KL = ½·(s − l − 1 + e^(l−s) + d²·e^(−s))
//! ```
//!
//! A chain that skips times has steps of its own, so all of it is derived from ᾱ at the times that it has.

pub mod decoder;
pub mod exact;
pub mod losses;

use super::log_variance::LogRange;
use super::{Level, Posterior, Prediction, Schedule, Variance, q_sample};
use crate::numerics::sum::{sum, sum_of_squares};
use crate::numerics::{Native, Real};
use decoder::surprise;

pub use decoder::Cdf;

/// Bits in a nat: 1/ln 2.
pub const BITS: f64 = std::f64::consts::LOG2_E;

/// KL(N(`mean_q`, e^`log_variance_q`) ‖ N(`mean_p`, e^`log_variance_p`)) of one number, in nats.
pub fn kl<F: Real>(mean_q: F, log_variance_q: F, mean_p: F, log_variance_p: F) -> F {
    let difference = mean_q - mean_p;
    let spread = (log_variance_q - log_variance_p).exp::<Native>() - F::one();
    let distance = difference * difference * (-log_variance_p).exp::<Native>();
    F::from_f64(0.5) * (log_variance_p - log_variance_q + spread + distance)
}

/// KL(q(x_T|x₀) ‖ N(0, I)) of one image, in bits per dimension; `last` is the noisiest level of the chain.
pub fn prior<F: Real>(last: Level, x_0: &[F]) -> F {
    let signal = F::from_f64(last.signal());
    let log_variance = F::from_f64(crate::numerics::elementary::ln(1.0 - last.alpha_bar));
    let terms: Vec<F> = x_0.iter().map(|&x| kl(signal * x, log_variance, F::zero(), F::zero())).collect();
    bits(&terms)
}

/// The mean of some nats, in bits.
fn bits<F: Real>(nats: &[F]) -> F {
    F::from_f64(sum(nats) / nats.len() as f64 * BITS)
}

/// How a model's output for an image is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// What its mean half is.
    pub prediction: Prediction,
    /// What the variance is, and so whether there is another half.
    pub variance: Variance,
    /// x̂₀ is clipped to [−clip, clip].
    pub clip: Option<f64>,
    /// The decoder's distribution.
    pub cdf: Cdf,
}

/// A model's output for one image: its numbers are in the order of the image's.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a, F> {
    /// Of the mean: ε̂, x̂₀ or v̂.
    pub mean: &'a [F],
    /// Of the variance; empty where it is fixed.
    pub variance: &'a [F],
}

/// One step of a chain, from x_t to x_s.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Where x_t is.
    pub from: Level,
    /// q(x_s|x_t, x₀).
    pub posterior: Posterior,
    /// The logarithms of its variances.
    pub range: LogRange,
}

/// One term of the bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term<F> {
    /// The term in bits per dimension: the decoder's on the step to the image, else a KL divergence.
    pub bits: F,
    /// The mean of (x̂₀ − x₀)², x̂₀ clipped where the reading says so.
    pub x_0_mse: F,
}

/// A term's derivatives, one for each number of the image.
#[derive(Clone, Debug, PartialEq)]
pub struct Slopes<F> {
    /// By the mean half of the output, in bits per dimension.
    pub mean: Vec<F>,
    /// By the variance half.
    pub variance: Vec<F>,
}

/// The steps of the chain that visits these times of 1..=T, ascending, and then the image.
///
/// # Panics
/// If there are none, or they do not ascend within 1..=T.
pub fn steps(schedule: &Schedule, times: &[usize]) -> Vec<Step> {
    assert!(!times.is_empty(), "steps: a chain without times");
    let before = |i: usize| if i == 0 { 0 } else { times[i - 1] };
    let posteriors: Vec<_> = times.iter().enumerate().map(|(i, &t)| Posterior::at(schedule, t, before(i))).collect();
    let step = |i: usize| Step {
        from: schedule.level(times[i]),
        posterior: posteriors[i],
        range: LogRange::of(&posteriors[i], posteriors.get(i + 1)),
    };
    (0..times.len()).map(step).collect()
}

impl Step {
    /// The term of one image with the noise `eps`, and the model's output for its x_t.
    ///
    /// # Shapes
    /// All numbers of one image, in the same order.
    ///
    /// # Panics
    /// If the lengths differ, or there is no variance where it is learned.
    pub fn term<F: Real>(&self, reading: &Reading, x_0: &[F], eps: &[F], said: Said<F>) -> Term<F> {
        self.each(reading, x_0, eps, said, |_| ())
    }

    /// [`term`](Step::term), with its derivatives by the output.
    ///
    /// # Derivation
    /// ∂KL/∂s = ½·(1 − e^(l−s) − d²·e^(−s)) and ∂KL/∂μ = −d·e^(−s), d = μ̃ − μ; the decoder's are in [`decoder`]. The chain goes
    /// on by ∂s/∂v ([`LogRange::slope`]) and ∂μ/∂(output) = w₀·∂x̂₀/∂(output). x̂₀ is linear in the output, so that factor is its
    /// value at an output of 1 where x_t = 0; where x̂₀ is clipped it is 0. Last comes 1/(N·ln 2), N numbers being in an image.
    ///
    /// # Panics
    /// As [`term`](Step::term).
    pub fn term_and_slopes<F: Real>(
        &self,
        reading: &Reading,
        x_0: &[F],
        eps: &[F],
        said: Said<F>,
    ) -> (Term<F>, Slopes<F>) {
        let share = BITS / x_0.len() as f64;
        let of_output = reading.prediction.x_0_hat(self.from.marginal(), &[F::zero()], &[F::one()])[0];
        let by_output = F::from_f64(share * self.posterior.weight_x_0) * of_output;
        let by_said = F::from_f64(share) * self.range.slope(reading.variance);
        let (mut mean, mut variance) = (Vec::with_capacity(x_0.len()), Vec::with_capacity(x_0.len()));
        let term = self.each(reading, x_0, eps, said, |number| {
            let (by_mean, by_log_variance) = number.slopes(self, reading.cdf);
            mean.push(if number.clipped { F::zero() } else { by_mean * by_output });
            variance.push(by_log_variance * by_said);
        });
        (term, Slopes { mean, variance })
    }

    fn each<F: Real>(
        &self,
        reading: &Reading,
        x_0: &[F],
        eps: &[F],
        said: Said<F>,
        mut see: impl FnMut(&Number<F>),
    ) -> Term<F> {
        assert!(x_0.len() == said.mean.len(), "the bound: an output of another length than the image");
        assert!(
            !reading.variance.is_learned() || said.variance.len() == x_0.len(),
            "the bound: a learned variance for each number"
        );
        let x_t = q_sample(self.from, x_0, eps);
        let x_0_hat = reading.prediction.x_0_hat(self.from.marginal(), &x_t, said.mean);
        let weights = [self.posterior.weight_x_0, self.posterior.weight_x_t].map(F::from_f64);
        let mix = |x_0: F, x_t: F| weights[0] * x_0 + weights[1] * x_t;
        let (mut nats, mut errors) = (Vec::with_capacity(x_0.len()), Vec::with_capacity(x_0.len()));
        for i in 0..x_0.len() {
            let (x_0_hat, clipped) = clip(x_0_hat[i], reading.clip);
            let of_variance = said.variance.get(i).copied().unwrap_or(F::zero());
            let number = Number {
                x_0: x_0[i],
                mean_q: mix(x_0[i], x_t[i]),
                mean_p: mix(x_0_hat, x_t[i]),
                log_variance: self.range.log_variance(reading.variance, of_variance),
                clipped,
            };
            nats.push(number.nats(self, reading.cdf));
            errors.push(x_0_hat - x_0[i]);
            see(&number);
        }
        let x_0_mse = F::from_f64(sum_of_squares(&errors) / errors.len() as f64);
        Term { bits: bits(&nats), x_0_mse }
    }
}

/// What a term is made of, at one number of the image.
struct Number<F> {
    x_0: F,
    mean_q: F,
    mean_p: F,
    log_variance: F,
    clipped: bool,
}

impl<F: Real> Number<F> {
    fn nats(&self, step: &Step, cdf: Cdf) -> F {
        if step.range.to_image {
            return surprise(cdf, self.x_0, self.mean_p, self.log_variance).nats;
        }
        kl(self.mean_q, F::from_f64(step.range.small), self.mean_p, self.log_variance)
    }

    /// By the mean of p and by the logarithm of its variance.
    fn slopes(&self, step: &Step, cdf: Cdf) -> (F, F) {
        if step.range.to_image {
            let surprise = surprise(cdf, self.x_0, self.mean_p, self.log_variance);
            return (surprise.by_mean, surprise.by_log_variance);
        }
        let precision = (-self.log_variance).exp::<Native>();
        let difference = self.mean_q - self.mean_p;
        let ratio = (F::from_f64(step.range.small) - self.log_variance).exp::<Native>();
        let by_log_variance = F::from_f64(0.5) * (F::one() - ratio - difference * difference * precision);
        (-(difference * precision), by_log_variance)
    }
}

/// The nearest number in [−range, range], and whether it is another one.
fn clip<F: Real>(x: F, range: Option<f64>) -> (F, bool) {
    match range.map(F::from_f64) {
        Some(range) if x > range => (range, true),
        Some(range) if x < -range => (-range, true),
        _ => (x, false),
    }
}

#[cfg(test)]
mod tests;
