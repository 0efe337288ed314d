//! The density of an image under the probability-flow ODE (Song et al. 2021, § 4.3 and Appendix D.2).
//!
//! Noise that is added step by step moves the density of x as this deterministic flow does, in s = ln(sigma/signal):
//!
//! ```text
//! dx/ds = σ·(ε̂(x) − σ·x)                     signal² + sigma² = 1, σ = sigma
//! ```
//!
//! since d ln(signal)/ds = −σ², and x/signal changes by ε̂·d(sigma/signal). Along it
//!
//! ```text
//! d ln p(x)/ds = −div = D·σ² − σ·tr(∂ε̂/∂x)
//! ```
//!
//! D being the numbers of an image. At the end x is noise: ln p(x_T) = −½·(|x_T|² + D·ln 2π), so
//! ln p(x) = ln p(x_T) + ∫ div ds from its level to the end.
//!
//! # The trace
//! tr J = E vᵀJv for a v of independent signs (Hutchinson 1990), and vᵀJ is what a backward pass computes. One v is kept for a
//! whole walk, so that the right-hand side is smooth. The estimate has no bias; its variance is 2·Σ of the squares of J's symmetric
//! part off the diagonal, none where J is diagonal.
//!
//! # Error
//! The integrator's tolerance is for the root mean square of x's numbers together with ln p's change per dimension.

use std::f64::consts::TAU;

use crate::diffusion::{Level, Schedule};
use crate::numerics::elementary::{exp, ln};
use crate::numerics::ode::{Statistics, Tolerance, dormand_prince};
use crate::numerics::sum::{sum_of_products, sum_of_squares};
use crate::{Error, Result};

/// ε̂ at x, and vᵀ·∂ε̂/∂x for a v: each as many numbers as x.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    /// The noise that is seen.
    pub eps_hat: Vec<f64>,
    /// The product of v and the Jacobian.
    pub product: Vec<f64>,
}

/// The levels between those of a schedule, by s = ln(sigma/signal).
#[derive(Clone, Debug)]
pub struct Levels {
    /// Of t = 1, 2, ...; rising.
    s: Vec<f64>,
}

impl Levels {
    /// Those from t = 1 to the last t that has some signal.
    ///
    /// # Errors
    /// A schedule of a single such time.
    pub fn new(schedule: &Schedule) -> Result<Self> {
        let times = (1..=schedule.t_max()).map(|t| schedule.level(t)).take_while(|level| level.signal() > 0.0);
        let s: Vec<f64> = times.map(|level| ln(level.sigma()) - ln(level.signal())).collect();
        if s.len() < 2 {
            return Err(Error::value("num_train_timesteps", "at least two times with some signal", s.len()));
        }
        Ok(Levels { s })
    }

    /// From the least noise to the most.
    pub fn ends(&self) -> (f64, f64) {
        (self.s[0], self.s[self.s.len() - 1])
    }

    /// The level at s; the time that a network is fed lies on the line between those of its neighbours.
    pub fn at(&self, s: f64) -> Level {
        let above = self.s.partition_point(|&of_t| of_t < s).clamp(1, self.s.len() - 1);
        let (from, to) = (self.s[above - 1], self.s[above]);
        let share = (s - from) / (to - from);
        Level::of_alpha_bar((above - 1) as f64 + share, 1.0 / (1.0 + exp(2.0 * s)))
    }
}

/// ln p(x) of x at the first level, in nats, and what it cost; `see(x, level, v)` is what is seen in x.
///
/// # Errors
/// Whatever `see` refuses; a tolerance that cannot be kept.
///
/// # Panics
/// If v has another length than x.
pub fn log_density(
    mut see: impl FnMut(&[f64], Level, &[f64]) -> Result<Sight>,
    levels: &Levels,
    x: &[f64],
    v: &[f64],
    tolerance: Tolerance,
) -> Result<(f64, Statistics)> {
    assert_eq!(x.len(), v.len(), "log_density: v is of another length than x");
    let (size, count) = (x.len(), x.len() as f64);
    let start: Vec<f64> = x.iter().copied().chain([0.0]).collect();
    let flow = |s: f64, state: &[f64], slope: &mut [f64]| {
        let level = levels.at(s);
        let (x, sigma) = (&state[..size], level.sigma());
        let Sight { eps_hat, product } = see(x, level, v)?;
        slope.iter_mut().zip(x).zip(&eps_hat).for_each(|((slope, x), eps)| *slope = sigma * (eps - sigma * x));
        slope[size] = sigma * (sum_of_products(&product, v) / count - sigma);
        Ok(())
    };
    let (end, statistics) = dormand_prince(flow, levels.ends(), &start, tolerance)?;
    let of_noise = -0.5 * (sum_of_squares(&end[..size]) + count * ln(TAU));
    Ok((of_noise + count * end[size], statistics))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::BetaSchedule;
    use crate::numerics::rng::Stream;

    /// Three Gaussians in two dimensions: weight, mean, standard deviation.
    const MIXTURE: [(f64, [f64; 2], f64); 3] =
        [(0.5, [-0.6, 0.2], 0.1), (0.3, [0.5, 0.5], 0.25), (0.2, [0.1, -0.7], 0.05)];

    /// Of each: ln(weight·density) at x, and its variance.
    fn parts(x: &[f64], level: Level) -> Vec<(f64, f64)> {
        let (a, sigma) = (level.signal(), level.sigma());
        let part = |&(weight, mean, deviation): &(f64, [f64; 2], f64)| {
            let variance = a * a * deviation * deviation + sigma * sigma;
            let square: f64 = (0..2).map(|i| (x[i] - a * mean[i]) * (x[i] - a * mean[i])).sum();
            (ln(weight) - 0.5 * square / variance - ln(TAU * variance), variance)
        };
        MIXTURE.iter().map(part).collect()
    }

    fn true_log_density(x: &[f64], level: Level) -> f64 {
        let parts = parts(x, level);
        let most = parts.iter().map(|part| part.0).fold(f64::NEG_INFINITY, f64::max);
        most + ln(parts.iter().map(|part| exp(part.0 - most)).sum())
    }

    /// ε̂ = −σ·∇ ln p, exactly, and its Jacobian.
    fn see(x: &[f64], level: Level, v: &[f64]) -> Result<Sight> {
        let (a, sigma, parts, whole) = (level.signal(), level.sigma(), parts(x, level), true_log_density(x, level));
        // ∇ ln p = Σ r_k g_k with g_k = −(x − a μ_k)/s_k; its Jacobian is Σ r_k (g_k g_kᵀ − I/s_k) − (Σ r_k g_k)(Σ r_k g_k)ᵀ.
        let (mut score, mut matrix) = ([0.0; 2], [[0.0; 2]; 2]);
        for ((log_part, variance), (_, mean, _)) in parts.iter().zip(&MIXTURE) {
            let (r, g) = (exp(log_part - whole), [0, 1].map(|i| -(x[i] - a * mean[i]) / variance));
            for i in 0..2 {
                score[i] += r * g[i];
                for j in 0..2 {
                    matrix[i][j] += r * (g[i] * g[j] - if i == j { 1.0 / variance } else { 0.0 });
                }
            }
        }
        let jacobian = |i: usize, j: usize| -sigma * (matrix[i][j] - score[i] * score[j]);
        let product = (0..2).map(|j| v[0] * jacobian(0, j) + v[1] * jacobian(1, j)).collect();
        Ok(Sight { eps_hat: score.iter().map(|g| -sigma * g).collect(), product })
    }

    #[test]
    fn log_density_of_a_mixture_of_gaussians_is_the_true_one() {
        let schedule = Schedule::new(BetaSchedule::Linear, 1000, 1e-4, 0.02).unwrap();
        let levels = Levels::new(&schedule).unwrap();
        for (k, x) in [[-0.6, 0.2], [-0.4, 0.1], [0.5, 0.9], [0.12, -0.66], [0.0, 0.0]].into_iter().enumerate() {
            // In two dimensions the four sign vectors have the trace as their mean, exactly; (1, 1) and (1, −1) are enough.
            let mut mean = 0.0;
            let tolerance = Tolerance { relative: 1e-8, absolute: 1e-8 };
            for v in [[1.0, 1.0], [1.0, -1.0]] {
                let (log_density, statistics) = log_density(see, &levels, &x, &v, tolerance).unwrap();
                mean += 0.5 * log_density;
                assert!(statistics.accepted < 2000, "{statistics:?}");
            }
            let truth = true_log_density(&x, schedule.level(1));
            // x_T is not quite standard noise: ᾱ_T = 4e-5 moves ln p by up to √ᾱ_T·|μ|·|x_T| = 0.006 per unit of x_T.
            assert!((mean - truth).abs() < 0.02, "{x:?}: {mean} {truth}");
            // Started from the true density at the end, the integrator's error is all that is left.
            let mut end = 0.0;
            let flow = |s: f64, state: &[f64], slope: &mut [f64]| {
                let (level, x) = (levels.at(s), &state[..2]);
                let ([first, second], sigma) =
                    ([[1.0, 0.0], [0.0, 1.0]].map(|v| see(x, level, &v).unwrap()), level.sigma());
                (0..2).for_each(|i| slope[i] = sigma * (first.eps_hat[i] - sigma * x[i]));
                slope[2] = sigma * (first.product[0] + second.product[1]) - 2.0 * sigma * sigma;
                Ok(())
            };
            let (state, _) = dormand_prince(flow, levels.ends(), &[x[0], x[1], 0.0], tolerance).unwrap();
            end += true_log_density(&state[..2], levels.at(levels.ends().1)) + state[2];
            assert!((end - truth).abs() < 1e-5, "point {k}: {end} {truth}");
        }
    }

    #[test]
    fn signs_have_the_trace_as_their_mean() {
        let jacobian = [[1.0, 0.4, -0.2], [0.1, -2.0, 0.3], [0.5, 0.0, 0.7]];
        let mut mean = 0.0;
        for n in 0..4000 {
            let mut stream = Stream::keyed(3, "signs", &[n]);
            let v: [f64; 3] = std::array::from_fn(|_| if stream.below(2) == 0 { 1.0 } else { -1.0 });
            mean += (0..3).map(|i| (0..3).map(|j| v[i] * jacobian[i][j] * v[j]).sum::<f64>()).sum::<f64>() / 4000.0;
        }
        // Six standard errors of √(2·Σ_{i≠j} s_ij²) = 0.70, s the symmetric part, each pair once more.
        assert!((mean + 0.3).abs() < 6.0 * 0.85 / 4000.0f64.sqrt(), "{mean}");
    }

    #[test]
    fn levels_between_two_times_lie_between_them_and_meet_them() {
        let schedule = Schedule::new(BetaSchedule::Linear, 50, 1e-3, 0.2).unwrap();
        let levels = Levels::new(&schedule).unwrap();
        for t in 1..=50 {
            let level = levels.at(levels.s[t - 1]);
            assert!(
                (level.time - (t - 1) as f64).abs() < 1e-9 && (level.alpha_bar - schedule.alpha_bar(t)).abs() < 1e-12
            );
        }
        let middle = levels.at(0.5 * (levels.s[9] + levels.s[10]));
        assert!((middle.time - 9.5).abs() < 1e-9);
        let zero = Schedule::new(BetaSchedule::Linear, 50, 1e-3, 0.2).unwrap().with_zero_terminal_snr().unwrap();
        assert!(Levels::new(&zero).unwrap().ends().1.is_finite());
    }
}
