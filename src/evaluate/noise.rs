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
//!
//! `x_0_mse` is the error of x̂₀ (not clipped) in the same images: that of ε̂ times (sigma/signal)², which at high noise says what
//! R² hides. Models of flow matching and of EDM, whose times are of another kind, look at the same images in the same noise: at
//! the levels of [`yardstick`], fed the time that they have there.

use std::ops::RangeInclusive;

use ndarray::Array4;
use serde::Serialize;

use super::shared::of_images;
use crate::data::Dataset;
use crate::denoise::Denoiser;
use crate::diffusion::{BetaSchedule, Level, Process, Schedule};
use crate::layers::{ParameterVector, Prepared, flat, flat_mut};
use crate::numerics::environment;
use crate::numerics::rng::Stream;
use crate::numerics::sum::sum_by;
use crate::pipeline::{Pipeline, check_weights};
use crate::train::objective::noised;
use crate::{Error, Result};

/// Images between two calls of `progress`.
const AT_ONCE: usize = 16;

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
    /// MSE of x̂₀.
    pub x_0_mse: f64,
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
    x_0_squared: f64,
}

impl Sums {
    fn numbers(self) -> [f64; 7] {
        let Sums { count, squared, absolute, eps_squared, x_squared, x_eps, x_0_squared } = self;
        [count, squared, absolute, eps_squared, x_squared, x_eps, x_0_squared]
    }

    fn of_numbers([count, squared, absolute, eps_squared, x_squared, x_eps, x_0_squared]: [f64; 7]) -> Self {
        Sums { count, squared, absolute, eps_squared, x_squared, x_eps, x_0_squared }
    }

    fn add(&mut self, other: Sums) {
        self.count += other.count;
        self.squared += other.squared;
        self.absolute += other.absolute;
        self.eps_squared += other.eps_squared;
        self.x_squared += other.x_squared;
        self.x_eps += other.x_eps;
        self.x_0_squared += other.x_0_squared;
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
            x_0_mse: self.x_0_squared / self.count,
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
/// Weights of another network, images of another shape than the model's, no images, images without labels for a conditional
/// model that knows no label for "no class", more classes than the model knows, a prediction that is not finite, a thread whose
/// arithmetic is not the contract's.
pub fn evaluate(
    model: &Pipeline,
    weights: &ParameterVector<f32>,
    data: &Dataset,
    images: usize,
    progress: impl FnMut(usize),
) -> Result<Evaluation> {
    check_subject(model, weights, data)?;
    let prepared = Prepared::new(weights);
    let (denoiser, schedule) = (model.denoiser(&prepared), &model.scheduler().schedule);
    let (process, t_max, yardstick) = (schedule.process(), schedule.t_max(), yardstick(schedule)?);
    let told = |x: &Array4<f32>, levels: &[Level], labels: Option<&[usize]>| {
        let fed = |level: &Level| level.fed(process.fed(t_max, level.time, level.ratio()));
        denoiser.predict(x, &levels.iter().map(fed).collect::<Vec<_>>(), labels)
    };
    evaluate_denoiser(&told, &yardstick, data, &|class| model.label(class), images, progress)
}

/// The levels at which a model of this schedule is looked at: its own, or those of Ho et al. 2020 where it has no table of β.
///
/// # Errors
/// None.
pub fn yardstick(schedule: &Schedule) -> Result<Schedule> {
    match schedule.process() {
        Process::Betas => Ok(schedule.clone()),
        _ => Schedule::new(BetaSchedule::Linear, 1000, 1e-4, 0.02),
    }
}

/// Refuses weights and images that are none of the model's.
///
/// # Errors
/// As [`evaluate`].
pub(super) fn check_subject(model: &Pipeline, weights: &ParameterVector<f32>, data: &Dataset) -> Result<()> {
    environment::check_current()?;
    check_weights(model.network(), weights, "weights")?;
    let shape = data.shape();
    let (height, width, channels) = model.image_shape()?;
    if (shape.height, shape.width, shape.channels) != (height, width, channels) {
        let expected = format!("images of {height}x{width}x{channels}, which the model takes");
        return Err(Error::value("data", expected, format!("{shape} in {}", data.name())));
    }
    match (model.classes(), data.classes()) {
        (Some(_), None) if model.null_class().is_none() => {
            Err(Error::value("data", "images with labels, for a conditional model", data.name()))
        }
        (Some(known), Some(found)) if found > known => {
            let expected = format!("images of at most {known} classes, which the model knows");
            Err(Error::value("data", expected, format!("{found} in {}", data.name())))
        }
        _ => Ok(()),
    }
}

/// [`evaluate`] for any denoiser of images of the data's shape; `label` says what it is told of an image of a class, or of one
/// without.
///
/// # Errors
/// No images; whatever the denoiser refuses; a prediction that is not finite.
pub fn evaluate_denoiser(
    denoiser: &dyn Denoiser<f32>,
    schedule: &Schedule,
    data: &Dataset,
    label: &(dyn Fn(Option<usize>) -> Option<usize> + Sync),
    images: usize,
    progress: impl FnMut(usize),
) -> Result<Evaluation> {
    let images = images.min(data.len());
    if images == 0 {
        return Err(Error::value("images", "at least one image to look at", format!("0 of {}", data.name())));
    }
    let bins = bins(schedule.t_max());
    let mut sums = vec![Sums::default(); bins.len()];
    let of_image = |image: usize| of_image(denoiser, schedule, data, label, image, &bins);
    let numbers = |image: usize| Ok(of_image(image)?.into_iter().flat_map(Sums::numbers).collect());
    for image in of_images(images, AT_ONCE, progress, numbers)? {
        let (of_bins, _) = image.as_chunks();
        sums.iter_mut().zip(of_bins).for_each(|(sums, &numbers)| sums.add(Sums::of_numbers(numbers)));
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
    denoiser: &dyn Denoiser<f32>,
    schedule: &Schedule,
    data: &Dataset,
    label: &dyn Fn(Option<usize>) -> Option<usize>,
    image: usize,
    bins: &[RangeInclusive<usize>],
) -> Result<Vec<Sums>> {
    let draw = |(b, bin): (usize, &RangeInclusive<usize>)| {
        let mut stream = Stream::keyed(SEED, "eval.t", &[image as u64, b as u64]);
        bin.start() + stream.below((bin.end() - bin.start() + 1) as u64) as usize
    };
    let t: Vec<usize> = bins.iter().enumerate().map(draw).collect();
    let levels: Vec<_> = t.iter().map(|&t| schedule.level(t)).collect();
    let x_0 = data.batch::<f32>(&vec![image; bins.len()]);
    let mut eps = x_0.clone();
    let size = x_0.len() / bins.len();
    for (b, eps) in flat_mut(&mut eps).chunks_mut(size).enumerate() {
        Stream::keyed(SEED, "eval.noise", &[image as u64, b as u64]).fill_normal(eps);
    }
    let labels = label(data.label(image).map(|class| class as usize)).map(|label| vec![label; bins.len()]);
    let x_t = noised(schedule, &x_0, &t, &eps);
    let output = denoiser.predict(&x_t, &levels, labels.as_deref())?;
    let image = |x: &Array4<f32>, b: usize| flat(x)[b * size..][..size].to_vec();
    let sums_of = |(b, level): (usize, Level)| {
        let [x_0, x_t, eps, said] = [&x_0, &x_t, &eps, &output.value].map(|x| image(x, b));
        let eps_hat = output.prediction.eps_hat(level.marginal(), &x_t, &said);
        let x_0_hat = output.prediction.x_0_hat(level.marginal(), &x_t, &said);
        let pairs: Vec<[f64; 2]> = x_0.iter().zip(&x_0_hat).map(|(&x_0, &hat)| [x_0 as f64, hat as f64]).collect();
        let triples: Vec<[f64; 3]> = (0..size).map(|i| [x_t[i] as f64, eps[i] as f64, eps_hat[i] as f64]).collect();
        let squared = sum_by(&triples, |[_, eps, eps_hat]| (eps - eps_hat) * (eps - eps_hat));
        if !squared.is_finite() {
            let remedy = "the weights are damaged or the model does not fit the images".into();
            let tensor = "the network's output in the evaluation".into();
            return Err(Error::NonFinite { step: level.t() as u64, tensor, remedy });
        }
        Ok(Sums {
            count: size as f64,
            squared,
            absolute: sum_by(&triples, |[_, eps, eps_hat]| (eps - eps_hat).abs()),
            eps_squared: sum_by(&triples, |[_, eps, _]| eps * eps),
            x_squared: sum_by(&triples, |[x, _, _]| x * x),
            x_eps: sum_by(&triples, |[x, eps, _]| x * eps),
            x_0_squared: sum_by(&pairs, |[x_0, hat]| (x_0 - hat) * (x_0 - hat)),
        })
    };
    levels.into_iter().enumerate().map(sums_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Shape;
    use crate::denoise::Output;
    use crate::diffusion::Prediction;

    #[test]
    fn bins_cover_every_timestep_once() {
        for t_max in [3, 10, 1000, 1003] {
            let all: Vec<usize> = bins(t_max).into_iter().flatten().collect();
            assert_eq!(all, (1..=t_max).collect::<Vec<_>>());
        }
    }

    #[test]
    fn errors_of_saying_zero_have_an_r2_of_zero() {
        let mut sums = Sums { count: 4.0, squared: 10.0, absolute: 5.0, eps_squared: 10.0, ..Sums::default() };
        (sums.x_squared, sums.x_eps) = (2.0, 3.0);
        let errors = sums.errors(None);
        assert_eq!((errors.mse, errors.mae, errors.r2, errors.linear_mse), (2.5, 1.25, 0.0, (10.0 - 4.5) / 4.0));
    }

    /// ε̂ = 0.3 sigma·x_t + label/10: another label, another level, or ε and ε̂ exchanged would give other errors.
    #[test]
    fn evaluation_of_a_known_denoiser_is_that_of_a_few_lines_of_arithmetic() {
        let shape = Shape { height: 3, width: 2, channels: 1 };
        let pixels = (0..4 * 6).map(|i| (i * 41 % 256) as u8).collect();
        let data = labelled(shape, pixels, vec![0, 2, 1, 2], 3);
        let schedule = Schedule::new(BetaSchedule::Linear, 30, 1e-3, 0.2).unwrap();
        let labels_seen = std::sync::Mutex::new(Vec::new());
        let denoiser = |x: &Array4<f32>, levels: &[Level], labels: Option<&[usize]>| {
            let labels = labels.expect("a conditional denoiser is told labels");
            labels_seen.lock().unwrap().push(labels[0]);
            let mut value = x.clone();
            for ((mut image, level), &label) in value.outer_iter_mut().zip(levels).zip(labels) {
                image.mapv_inplace(|x| (0.3 * level.sigma() as f32) * x + 0.1 * label as f32);
            }
            Ok(Output::new(Prediction::Epsilon, value))
        };
        let found = evaluate_denoiser(&denoiser, &schedule, &data, &|class| class, 9, |_| {}).unwrap();
        labels_seen.lock().unwrap().sort();
        assert_eq!((found.images, labels_seen.into_inner().unwrap()), (4, vec![0, 1, 2, 2]));

        let (mut errors, mut squares) = (Vec::new(), Vec::new()); // of every element of bin 7: 22..=24
        for (image, label) in [0, 2, 1, 2].into_iter().enumerate() {
            let t = 22 + Stream::keyed(0, "eval.t", &[image as u64, 7]).below(3) as usize;
            let mut eps = vec![0.0f64; 6];
            Stream::keyed(0, "eval.noise", &[image as u64, 7]).fill_normal(&mut eps);
            let (a, b) = (schedule.alpha_bar(t).sqrt(), (1.0 - schedule.alpha_bar(t)).sqrt());
            for (&pixel, eps) in data.batch::<f64>(&[image]).iter().zip(eps) {
                errors.push(eps - (0.3 * b * (a * pixel + b * eps) + 0.1 * label as f64));
                squares.push(eps * eps);
            }
        }
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / 24.0;
        let (range, bin) = &found.bins[7];
        assert_eq!((*range.start(), *range.end()), (22, 24));
        let mse = mean(&mut errors.iter().map(|e| e * e));
        let expected =
            [mse, mse.sqrt(), mean(&mut errors.iter().map(|e| e.abs())), 1.0 - mse / mean(&mut squares.into_iter())];
        for (found, expected) in [bin.mse, bin.rmse, bin.mae, bin.r2].into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}"); // float32 in the denoiser
        }
        assert!((found.total.mse - found.bins.iter().map(|(_, e)| e.mse).sum::<f64>() / 10.0).abs() < 1e-12);
    }

    #[test]
    fn evaluation_of_no_image_is_refused() {
        let shape = Shape { height: 3, width: 2, channels: 1 };
        let data = labelled(shape, vec![0; 6], vec![0], 1);
        let schedule = Schedule::new(BetaSchedule::Linear, 30, 1e-3, 0.2).unwrap();
        let denoiser = |_: &Array4<f32>, _: &[Level], _: Option<&[usize]>| unreachable!();
        let refusal =
            evaluate_denoiser(&denoiser, &schedule, &data, &|class| class, 0, |_| {}).unwrap_err().to_string();
        assert!(refusal.starts_with("images: expected at least one"), "{refusal}");
    }

    fn labelled(shape: Shape, pixels: Vec<u8>, labels: Vec<u32>, classes: usize) -> Dataset {
        Dataset::new("made", shape, pixels).and_then(|data| data.with_labels(labels, classes)).unwrap()
    }
}
