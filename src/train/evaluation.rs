//! How well a network predicts noise in images that it was never trained on.
//!
//! The grid is fixed: for validation image i and bin b of ten equal bins of 1..=T, t is drawn once from the bin and ε
//! once, from the streams (seed, "eval.t", [i, b]) and (seed, "eval.noise", [i, b]) of a seed that does not depend on the
//! run. Whatever the network predicts is turned into ε̂ first. All elements weigh alike:
//!
//! ```text
//! MSE = mean (ε − ε̂)²     RMSE = √MSE     MAE = mean |ε − ε̂|     R² = 1 − Σ (ε − ε̂)² / Σ ε²
//! ```
//!
//! The baseline of R² is a network that always says 0, the mean of the noise. R² is near 1 at high noise for a trivial
//! reason: there x_t is nearly ε itself. So each bin is also compared with the best multiple of x_t, which needs no
//! network: `linear_mse` is the MSE of ε̂ = k x_t with the k that suits the bin best.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::gradient::MICROBATCH;
use super::trainer::noised;
use crate::data::Dataset;
use crate::diffusion::Marginal;
use crate::layers::{ParameterVector, Prepared, flat, flat_mut};
use crate::models::unet::{Conditions, Time};
use crate::numerics::parallel;
use crate::numerics::rng::Stream;
use crate::numerics::sum::sum_by;
use crate::sample::Pipeline;
use crate::{Error, Result};

/// Bins of t.
pub const BINS: usize = 10;

/// The seed of the grid.
const SEED: u64 = 0;

/// The errors of one network over some part of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Errors {
    /// Mean squared error.
    pub mse: f64,
    /// Its root.
    pub rmse: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// 1 − MSE over that of always saying 0.
    pub r2: f64,
    /// MSE of the best multiple of x_t.
    pub linear_mse: f64,
}

/// The errors of one network, in total and by bins of t.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// Validation images looked at, each once in every bin.
    pub images: usize,
    /// Over the whole grid; its `linear_mse` is the mean of the bins'.
    pub total: Errors,
    /// First and last t of each bin, and the errors in it.
    pub bins: Vec<(RangeInclusive<usize>, Errors)>,
}

/// Sums over elements, from which all errors follow.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: f64,
    squared: f64,
    absolute: f64,
    eps_squared: f64,
    x_squared: f64,
    x_eps: f64,
}

impl Sums {
    fn add(&mut self, other: Sums) {
        self.count += other.count;
        self.squared += other.squared;
        self.absolute += other.absolute;
        self.eps_squared += other.eps_squared;
        self.x_squared += other.x_squared;
        self.x_eps += other.x_eps;
    }

    fn errors(self, linear_mse: Option<f64>) -> Errors {
        let mse = self.squared / self.count;
        // min over k of Σ (ε − k x)² is Σ ε² − (Σ x ε)²/Σ x².
        let linear = (self.eps_squared - self.x_eps * self.x_eps / self.x_squared) / self.count;
        Errors {
            mse,
            rmse: mse.sqrt(),
            mae: self.absolute / self.count,
            r2: 1.0 - self.squared / self.eps_squared,
            linear_mse: linear_mse.unwrap_or(linear),
        }
    }
}

/// The timesteps of each bin.
pub fn bins(t_max: usize) -> Vec<RangeInclusive<usize>> {
    let bins = BINS.min(t_max);
    (0..bins).map(|b| b * t_max / bins + 1..=(b + 1) * t_max / bins).collect()
}

/// Evaluates `weights` of the model's network on the first `images` validation images; `progress` hears of each image done.
///
/// # Errors
/// Images of another shape than the model's, a conditional model without labels, a prediction that is not finite.
pub fn evaluate(
    model: &Pipeline,
    weights: &ParameterVector<f32>,
    data: &Dataset,
    images: usize,
    mut progress: impl FnMut(usize),
) -> Result<Evaluation> {
    let images = images.min(data.len());
    if model.unet.config.num_class_embeds.is_some() && data.classes().is_none() {
        return Err(Error::value("--data", "images with labels, for a conditional model", data.name()));
    }
    let bins = bins(model.scheduler.reverse.schedule.t_max());
    let mut sums = vec![Sums::default(); bins.len()];
    let weights = Prepared::new(weights);
    for chunk in parallel::ranges(images, 4 * MICROBATCH) {
        let parts = parallel::map(chunk.len(), |i| of_image(model, &weights, data, chunk.start + i, &bins));
        for part in parts {
            sums.iter_mut().zip(part?).for_each(|(sums, part)| sums.add(part));
        }
        progress(chunk.end);
    }
    let mut total = Sums::default();
    sums.iter().for_each(|part| total.add(*part));
    let by_bin: Vec<_> = bins.into_iter().zip(sums.iter().map(|sums| sums.errors(None))).collect();
    let linear =
        by_bin.iter().map(|(_, errors)| errors.linear_mse).fold(0.0, |sum, mse| sum + mse) / by_bin.len() as f64;
    Ok(Evaluation { images, total: total.errors(Some(linear)), bins: by_bin })
}

/// The sums of one image, once in every bin.
fn of_image(
    model: &Pipeline,
    weights: &Prepared<f32>,
    data: &Dataset,
    image: usize,
    bins: &[RangeInclusive<usize>],
) -> Result<Vec<Sums>> {
    let reverse = &model.scheduler.reverse;
    let draw = |(b, bin): (usize, &RangeInclusive<usize>)| {
        let mut stream = Stream::keyed(SEED, "eval.t", &[image as u64, b as u64]);
        bin.start() + stream.below((bin.end() - bin.start() + 1) as u64) as usize
    };
    let t: Vec<usize> = bins.iter().enumerate().map(draw).collect();
    let x_0 = data.batch::<f32>(&vec![image; bins.len()]);
    let mut eps = x_0.clone();
    let size = x_0.len() / bins.len();
    for (b, eps) in flat_mut(&mut eps).chunks_mut(size).enumerate() {
        Stream::keyed(SEED, "eval.noise", &[image as u64, b as u64]).fill_normal(eps);
    }
    let labels = model.unet.config.num_class_embeds.and_then(|_| data.label(image));
    let labels = labels.map(|label| vec![label as usize; bins.len()]);
    let batch = noised(&reverse.schedule, reverse.prediction, &x_0, &t, &eps, labels);
    let conditions = Conditions { time: Time::Steps(&batch.t), labels: batch.labels.as_deref() };
    let output = model.unet.predict(weights, batch.x_t.clone(), conditions)?;
    let rows = flat(&batch.x_t).chunks(size).zip(flat(&output).chunks(size)).zip(flat(&eps).chunks(size)).zip(&t);
    rows.map(|(((x_t, output), eps), &t)| {
        let eps_hat = reverse.prediction.eps_hat(Marginal::at(&reverse.schedule, t), x_t, output);
        let triples: Vec<[f64; 3]> = (0..size).map(|i| [x_t[i] as f64, eps[i] as f64, eps_hat[i] as f64]).collect();
        let squared = sum_by(&triples, |[_, eps, eps_hat]| (eps - eps_hat) * (eps - eps_hat));
        if !squared.is_finite() {
            let remedy = "the weights are damaged or the model does not fit the images".into();
            return Err(Error::NonFinite {
                step: t as u64,
                tensor: "the network's output in the evaluation".into(),
                remedy,
            });
        }
        Ok(Sums {
            count: size as f64,
            squared,
            absolute: sum_by(&triples, |[_, eps, eps_hat]| (eps - eps_hat).abs()),
            eps_squared: sum_by(&triples, |[_, eps, _]| eps * eps),
            x_squared: sum_by(&triples, |[x, _, _]| x * x),
            x_eps: sum_by(&triples, |[x, eps, _]| x * eps),
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_cover_every_timestep_once() {
        for t_max in [3, 10, 1000, 1003] {
            let all: Vec<usize> = bins(t_max).into_iter().flatten().collect();
            assert_eq!(all, (1..=t_max).collect::<Vec<_>>());
        }
    }

    #[test]
    fn errors_of_saying_zero_have_an_r2_of_zero() {
        let sums = Sums { count: 4.0, squared: 10.0, absolute: 5.0, eps_squared: 10.0, x_squared: 2.0, x_eps: 3.0 };
        let errors = sums.errors(None);
        assert_eq!((errors.mse, errors.mae, errors.r2, errors.linear_mse), (2.5, 1.25, 0.0, (10.0 - 4.5) / 4.0));
    }
}
