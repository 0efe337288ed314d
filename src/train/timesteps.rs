//! Which times a training step looks at.
//!
//! | sampler | t of image i in step n, of B images | source |
//! |---|---|---|
//! | uniform | each of 1..=T alike, from the stream ("train.t", [n, i]) | Ho et al. 2020, Algorithm 1 |
//! | stratified | 1 + ⌊T·frac(u + i/B)⌋ with one u of a step, from `("train.t", [n])` | Kingma et al. 2021 |
//! | loss-aware | by p_t ∝ √(mean of the last ten squared losses at t), one in a thousand uniform | Nichol and Dhariwal 2021, § 3.3 |
//! | log-normal | the t whose ln(sigma/signal) is nearest to a normal number | Karras et al. 2022, Table 1 |
//!
//! Stratified times are uniform, each by itself, but spread over a batch, so that its loss varies less. A loss-aware time has a
//! weight of 1/(T·p_t), which makes the expectation that of uniform ones. Until ten losses of every t are known it is uniform.
//! Log-normal times have no such weight: the choice is part of the objective.

use serde::{Deserialize, Serialize};

use crate::diffusion::Schedule;
use crate::numerics::elementary::ln;
use crate::numerics::rng::Stream;
use crate::numerics::sum::{sum, sum_by};

/// A way to choose times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSampler {
    /// All alike.
    #[default]
    Uniform,
    /// All alike, spread over the batch.
    Stratified,
    /// Where the loss is large, more often.
    LossAware,
    /// Noise of a middling size, more often.
    LogNormal,
}

/// The losses that a loss-aware choice goes by: the last of every t.
#[derive(Clone, Debug, PartialEq)]
pub struct LossHistory {
    /// (T, 10): of each t the oldest first, and then [`NONE`].
    losses: Vec<f32>,
}

/// Losses that are kept of a time.
pub const KEPT: usize = 10;

/// Stands where there is no loss yet; losses are 0 or above.
pub const NONE: f32 = -1.0;

/// The share of uniform times among loss-aware ones.
const UNIFORM: f64 = 0.001;

impl LossHistory {
    /// Of 1..=`t_max`, without losses.
    pub fn new(t_max: usize) -> Self {
        LossHistory { losses: vec![NONE; t_max * KEPT] }
    }

    /// From the numbers that [`numbers`](LossHistory::numbers) gave; `None` if they are none of those.
    pub fn from_numbers(losses: Vec<f32>) -> Option<Self> {
        let in_order = |of_t: &[f32]| {
            let known = of_t.iter().take_while(|loss| **loss >= 0.0).count();
            of_t[known..].iter().all(|&loss| loss == NONE)
        };
        let whole = losses.len().is_multiple_of(KEPT) && losses.chunks(KEPT).all(in_order);
        (whole && losses.iter().all(|loss| loss.is_finite())).then_some(LossHistory { losses })
    }

    /// (T, 10): of each t the oldest first, and [`NONE`] where there is no loss yet.
    pub fn numbers(&self) -> &[f32] {
        &self.losses
    }

    /// Notes a loss at time t of 1..=T; below 0, where rounding may bring a bound, it counts as 0.
    pub fn record(&mut self, t: usize, loss: f64) {
        let of_t = &mut self.losses[(t - 1) * KEPT..][..KEPT];
        let known = of_t.iter().take_while(|loss| **loss >= 0.0).count();
        if known == KEPT {
            of_t.rotate_left(1);
        }
        let loss = loss as f32;
        of_t[known.min(KEPT - 1)] = if loss > 0.0 { loss } else { 0.0 };
    }

    /// p_t of every t, or `None` until ten losses of each are known.
    pub fn probabilities(&self) -> Option<Vec<f64>> {
        if self.losses.contains(&NONE) {
            return None;
        }
        let root = |of_t: &[f32]| (sum_by(of_t, |loss| loss as f64 * loss as f64) / KEPT as f64).sqrt();
        let sizes: Vec<f64> = self.losses.chunks(KEPT).map(root).collect();
        let (total, even) = (sum(&sizes), 1.0 / sizes.len() as f64);
        let share = |size: f64| if total > 0.0 { size / total } else { even };
        Some(sizes.into_iter().map(|size| (1.0 - UNIFORM) * share(size) + UNIFORM * even).collect())
    }
}

/// The times of one step, and what each counts where they are not alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Times {
    /// In 1..=T, one for each image.
    pub t: Vec<usize>,
    /// 1/(T·p_t), where p is not uniform and the objective is not to change by it.
    pub importance: Option<Vec<f64>>,
}

impl Times {
    /// Those of some of the images.
    pub fn part(self, images: std::ops::Range<usize>) -> Times {
        let importance = self.importance.map(|all| all[images.clone()].to_vec());
        Times { t: self.t[images].to_vec(), importance }
    }
}

/// What a sampler is told beside.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The sampler.
    pub sampler: TimestepSampler,
    /// The noise.
    pub schedule: &'a Schedule,
    /// Mean and deviation of a log-normal choice.
    pub log_normal: (f64, f64),
    /// The losses of a loss-aware choice.
    pub history: Option<&'a LossHistory>,
}

impl Choice<'_> {
    /// The times of step n for so many images.
    pub fn times(&self, seed: u64, n: u64, images: usize) -> Times {
        let t_max = self.schedule.t_max();
        let of_image = |i: usize| Stream::keyed(seed, "train.t", &[n, i as u64]);
        let alike = |i: usize| 1 + of_image(i).below(t_max as u64) as usize;
        let t = |of: &dyn Fn(usize) -> usize| (0..images).map(of).collect::<Vec<_>>();
        let plain = |t: Vec<usize>| Times { t, importance: None };
        match (self.sampler, self.history.and_then(LossHistory::probabilities)) {
            (TimestepSampler::Uniform, _) => plain(t(&alike)),
            (TimestepSampler::Stratified, _) => {
                let first = Stream::keyed(seed, "train.t", &[n]).uniform();
                let place = |i: usize| {
                    let place = first + i as f64 / images as f64;
                    if place < 1.0 { place } else { place - 1.0 }
                };
                plain(t(&|i| 1 + ((t_max as f64 * place(i)) as usize).min(t_max - 1)))
            }
            (TimestepSampler::LossAware, None) => Times { t: t(&alike), importance: Some(vec![1.0; images]) },
            (TimestepSampler::LossAware, Some(p)) => {
                let chosen = |i: usize| {
                    let mut rest = of_image(i).uniform();
                    let found = p.iter().position(|&p| {
                        rest -= p;
                        rest < 0.0
                    });
                    1 + found.unwrap_or(t_max - 1)
                };
                let t = t(&chosen);
                let importance = t.iter().map(|&t| 1.0 / (t_max as f64 * p[t - 1])).collect();
                Times { t, importance: Some(importance) }
            }
            (TimestepSampler::LogNormal, _) => {
                let (mean, deviation) = self.log_normal;
                plain(t(&|i| {
                    let mut z = [0.0f64];
                    of_image(i).fill_normal(&mut z);
                    nearest(self.schedule, mean + deviation * z[0])
                }))
            }
        }
    }
}

/// The t whose ln(sigma/signal), which rises in t, is nearest to this.
fn nearest(schedule: &Schedule, log_ratio: f64) -> usize {
    let of = |t: usize| {
        let level = schedule.level(t);
        ln(level.sigma()) - ln(level.signal())
    };
    let (mut below, mut above) = (1, schedule.t_max());
    while below + 1 < above {
        let middle = (below + above) / 2;
        if of(middle) <= log_ratio { below = middle } else { above = middle }
    }
    if log_ratio - of(below) <= of(above) - log_ratio { below } else { above }
}

#[cfg(test)]
mod tests;
