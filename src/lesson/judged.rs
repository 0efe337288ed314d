//! Chapters 5 and 11: errors by t, of the network and of what needs no network.

use ndarray::{Array4, Axis};
use serde::Serialize;

use super::exact::Exact;
use super::numbers::Numbers;
use super::subject::Subject;
use crate::Result;
use crate::data::Dataset;
use crate::denoise::Denoiser;
use crate::diffusion::{Level, q_sample};
use crate::evaluate::bits::Mean;
use crate::evaluate::noise::{Errors, evaluate_denoiser};
use crate::layers::{flat, shaped};
use crate::numerics::parallel;
use crate::numerics::sum::{sum, sum_by};

/// Pictures that errors are measured on at each t: so many that where the network and the exact mean cross is no chance.
const PICTURES: usize = 200;

/// Pictures that the network looks at at once.
const AT_ONCE: usize = 20;

/// Pictures of the evaluation by bins of t.
const EVALUATED: usize = 32;

/// Errors by t.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// Pictures at each t.
    pub pictures: usize,
    /// Some t, ascending.
    pub at: Vec<AtTime>,
    /// Training pictures of the exact mean; none where there are no training pictures.
    pub exact_of: Option<usize>,
    /// Whether the exact mean is that of the class that the network is told.
    pub of_class: bool,
    /// The least of these t from which on the exact mean is nearer to the picture than the network, at all greater t and by more
    /// than the margin of the difference.
    pub exact_from: Option<usize>,
    /// The least of these t from which on the network's picture is hardly better than the mean picture.
    pub mean_from: Option<usize>,
    /// Whether the network is worse than the mean picture at the greatest t, by more than the margin of the difference.
    pub worse_at_end: bool,
    /// The errors at the greatest t.
    pub end: AtTime,
    /// What the network makes of the first picture at each t, as bytes (n, h, w, c).
    pub network: Numbers,
    /// The exact mean there.
    pub exact: Option<Numbers>,
    /// The evaluation by bins of t.
    pub bins: Vec<Bin>,
    /// Pictures of that.
    pub evaluated: usize,
    /// Over all t.
    pub total: Errors,
    /// R² of the network in the last bin.
    pub last_r2: f64,
    /// The mean squared error of the best multiple of x_t there.
    pub last_linear_mse: f64,
    /// One less that: its R².
    pub last_linear_r2: f64,
}

/// Errors at one t.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AtTime {
    /// The time.
    pub t: usize,
    /// 1 − Σ(ε − ε̂)²/Σε².
    pub noise_r2: f64,
    /// The same of the best multiple of x_t.
    pub linear_r2: f64,
    /// √mean (x₀ − x̂₀)² of the network, clipped as in sampling.
    pub x_0_rmse: f64,
    /// Of the exact mean of the training pictures that fit x_t.
    pub exact_rmse: Option<f64>,
    /// Of the mean picture: that of all training pictures, of the class that is told where one is, whatever x_t is.
    pub mean_rmse: Option<f64>,
    /// The mean squared error of the network less that of the exact mean, over the pictures.
    pub above_exact: Option<Mean>,
    /// Less that of the mean picture.
    pub above_mean: Option<Mean>,
}

/// One bin of the evaluation.
#[derive(Clone, Debug, Serialize)]
pub struct Bin {
    /// Its first t.
    pub from: usize,
    /// Its last.
    pub to: usize,
    /// The network's errors in it.
    pub errors: Errors,
}

/// Errors by t, with the exact mean of `training` where it is given.
///
/// # Errors
/// Whatever the network refuses.
pub fn judged(subject: &Subject, training: Option<&Dataset>) -> Result<Judged> {
    let n = PICTURES.min(subject.data.len());
    let x_0: Array4<f32> = subject.data.batch(&(0..n).collect::<Vec<_>>());
    let mut eps = x_0.clone();
    for (i, mut eps) in eps.outer_iter_mut().enumerate() {
        eps.assign(&subject.noise("judged", i as u64).index_axis(Axis(0), 0));
    }
    let labels: Option<Vec<usize>> = (0..n).map(|i| subject.label(i)).collect();
    let labels = labels.as_deref();
    let exact = training.map(|training| Exact::of(subject, training, labels)).transpose()?;
    let mean = exact.as_ref().map(|exact| exact.see(&eps, Level::of_alpha_bar(-1.0, 0.0), labels)).transpose()?;
    let (mut at, mut network, mut exact_pictures) = (Vec::new(), Vec::new(), Vec::new());
    for t in times(subject.schedule().t_max()) {
        let level = subject.schedule().level(t);
        let x_t = shaped(x_0.dim(), q_sample(level, flat(&x_0), flat(&eps)));
        let (hat, x_0_hat) = look(subject, &x_t, level, labels)?;
        let seen = exact.as_ref().map(|exact| exact.see(&x_t, level, labels)).transpose()?;
        let above = |other: &Array4<f32>| {
            let differences: Vec<f64> =
                by_picture(&x_0, &x_0_hat).zip(by_picture(&x_0, other)).map(|(own, other)| own - other).collect();
            Mean::of(&differences)
        };
        at.push(AtTime {
            t,
            noise_r2: 1.0 - squares(flat(&eps), flat(&hat)) / squares(flat(&eps), &vec![0.0; hat.len()]),
            linear_r2: correlation_squared(flat(&eps), flat(&x_t)),
            x_0_rmse: rmse(&x_0, &x_0_hat),
            exact_rmse: seen.as_ref().map(|seen| rmse(&x_0, seen)),
            mean_rmse: mean.as_ref().map(|mean| rmse(&x_0, mean)),
            above_exact: seen.as_ref().map(above),
            above_mean: mean.as_ref().map(above),
        });
        network.push(x_0_hat.slice_axis(Axis(0), (0..1).into()).to_owned());
        exact_pictures.extend(seen.map(|seen| seen.slice_axis(Axis(0), (0..1).into()).to_owned()));
    }
    let from = |holds: &dyn Fn(&AtTime) -> bool| {
        let last_not = at.iter().rposition(|at| !holds(at)).map_or(0, |i| i + 1);
        at.get(last_not).map(|at| at.t)
    };
    let surely = |difference: Option<Mean>| {
        difference.is_some_and(|Mean { mean, margin }| margin.is_some_and(|margin| mean > margin))
    };
    let exact_from = from(&|at| surely(at.above_exact));
    let mean_from = from(&|at| at.mean_rmse.is_some_and(|mean| at.x_0_rmse > 0.95 * mean));
    let end = *at.last().expect("a schedule has a step");
    let label = |class: Option<usize>| subject.label_of(class);
    let evaluation =
        evaluate_denoiser(&subject.network(), subject.schedule(), subject.data, &label, EVALUATED, |_| {})?;
    let bin = |(range, errors): &(std::ops::RangeInclusive<usize>, Errors)| Bin {
        from: *range.start(),
        to: *range.end(),
        errors: *errors,
    };
    let joined = |list: &[Array4<f32>]| {
        let views: Vec<_> = list.iter().map(|image| image.view()).collect();
        Numbers::picture(ndarray::concatenate(Axis(0), &views).expect("images of one shape").view())
    };
    Ok(Judged {
        pictures: n,
        exact_of: exact.as_ref().map(|exact| exact.images),
        of_class: exact.as_ref().is_some_and(|exact| exact.of_class),
        worse_at_end: surely(end.above_mean),
        end,
        exact_from,
        mean_from,
        network: joined(&network),
        exact: exact.map(|_| joined(&exact_pictures)),
        bins: evaluation.bins.iter().map(bin).collect(),
        evaluated: evaluation.images,
        total: evaluation.total,
        last_r2: evaluation.bins.last().expect("a bin").1.r2,
        last_linear_mse: evaluation.bins.last().expect("a bin").1.linear_mse,
        last_linear_r2: 1.0 - evaluation.bins.last().expect("a bin").1.linear_mse,
        at,
    })
}

/// ε̂ and x̂₀ of many pictures at one level.
fn look(
    subject: &Subject,
    x_t: &Array4<f32>,
    level: Level,
    labels: Option<&[usize]>,
) -> Result<(Array4<f32>, Array4<f32>)> {
    let (mut eps_hat, mut x_0_hat) = (x_t.clone(), x_t.clone());
    let parts = parallel::ranges(x_t.dim().0, AT_ONCE);
    let seen = parallel::map(parts.len(), |part| -> Result<_> {
        let range = parts[part].clone();
        let x = x_t.slice_axis(Axis(0), range.clone().into()).to_owned();
        let labels = labels.map(|labels| &labels[range.clone()]);
        let output = subject.network().predict(&x, &vec![level; range.len()], labels)?;
        let hat = output.prediction.eps_hat(level.marginal(), flat(&x), flat(&output.value));
        Ok((shaped(x.dim(), hat), subject.estimate(&x, level, &output).x_0_hat))
    });
    for (range, seen) in parts.iter().zip(seen) {
        let (hat, image) = seen?;
        eps_hat.slice_axis_mut(Axis(0), range.clone().into()).assign(&hat);
        x_0_hat.slice_axis_mut(Axis(0), range.clone().into()).assign(&image);
    }
    Ok((eps_hat, x_0_hat))
}

/// Some t, closer together where little noise is, ascending.
fn times(t_max: usize) -> Vec<usize> {
    let shares = [0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
    let mut times: Vec<usize> = shares.map(|share| (share * t_max as f64).ceil() as usize).to_vec();
    times.dedup();
    times
}

fn squares(a: &[f32], b: &[f32]) -> f64 {
    let differences: Vec<f64> = a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect();
    sum_by(&differences, |d| d * d)
}

/// The mean squared difference of each picture.
fn by_picture(a: &Array4<f32>, b: &Array4<f32>) -> impl Iterator<Item = f64> {
    let size = a.len() / a.dim().0;
    flat(a).chunks(size).zip(flat(b).chunks(size)).map(move |(a, b)| squares(a, b) / size as f64)
}

fn rmse(a: &Array4<f32>, b: &Array4<f32>) -> f64 {
    (squares(flat(a), flat(b)) / a.len() as f64).sqrt()
}

/// 1 − min_k Σ(a − k b)²/Σa² = (Σab)²/(Σa² Σb²).
fn correlation_squared(a: &[f32], b: &[f32]) -> f64 {
    let of =
        |x: &[f32], y: &[f32]| sum(&x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).collect::<Vec<_>>());
    of(a, b) * of(a, b) / (of(a, a) * of(b, b))
}
