//! Chapters 5 and 11: errors by t, of the network and of what needs no network.

use ndarray::{Array4, Axis};
use serde::Serialize;

use super::numbers::Numbers;
use super::subject::Subject;
use crate::Result;
use crate::data::Dataset;
use crate::denoise::{Denoiser, Empirical};
use crate::diffusion::{Level, q_sample};
use crate::evaluate::noise::{Errors, evaluate_denoiser};
use crate::layers::{flat, shaped};
use crate::numerics::sum::{sum, sum_by};

/// Pictures that errors are measured on at each t.
const PICTURES: usize = 16;

/// Pictures of the evaluation by bins of t.
const EVALUATED: usize = 32;

/// The most numbers of the training pictures that the exact mean is taken over.
const MOST_NUMBERS: usize = 60_000 * 784;

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
    /// The least of these t from which on the exact mean is nearer to the picture than the network, at all greater t.
    pub exact_from: Option<usize>,
    /// The least of these t from which on the network's picture is hardly better than the mean picture.
    pub mean_from: Option<usize>,
    /// Whether the network is worse than the mean picture at the greatest t.
    pub worse_at_end: bool,
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
    /// That of the best multiple of x_t.
    pub last_linear_r2: f64,
}

/// Errors at one t.
#[derive(Clone, Debug, Serialize)]
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
    /// Of the mean of all training pictures, whatever x_t is.
    pub mean_rmse: Option<f64>,
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

/// The exact posterior mean of training pictures.
struct Exact {
    oracle: Empirical<f32>,
    images: usize,
    of_class: bool,
}

impl Exact {
    fn of(subject: &Subject, training: &Dataset) -> Result<Self> {
        let images = training.len().min((MOST_NUMBERS / subject.size()).max(1));
        let indices: Vec<usize> = (0..images).collect();
        let mut oracle = Empirical::new(&training.batch(&indices))?;
        let labels =
            training.labels_of(&indices).map(|labels| labels.into_iter().map(|l| l as usize).collect::<Vec<_>>());
        let known = subject.model.classes();
        let mut of_class = false;
        if let (Some(labels), Some(classes)) = (labels, training.classes())
            && known == Some(classes)
            && (0..classes).all(|class| labels.contains(&class))
        {
            oracle = oracle.with_classes(labels, classes)?;
            of_class = true;
        }
        Ok(Exact { oracle, images, of_class })
    }

    fn see(&self, x: &Array4<f32>, level: Level, labels: Option<&[usize]>) -> Result<Array4<f32>> {
        let labels = labels.filter(|_| self.of_class);
        Ok(self.oracle.predict(x, &vec![level; x.dim().0], labels)?.value)
    }
}

/// Errors by t, with the exact mean of `training` where it is given.
///
/// # Errors
/// Whatever the network refuses.
pub fn judged(subject: &Subject, training: Option<&Dataset>) -> Result<Judged> {
    let exact = training.map(|training| Exact::of(subject, training)).transpose()?;
    let n = PICTURES.min(subject.data.len());
    let x_0: Array4<f32> = subject.data.batch(&(0..n).collect::<Vec<_>>());
    let mut eps = x_0.clone();
    for (i, mut eps) in eps.outer_iter_mut().enumerate() {
        eps.assign(&subject.noise("judged", i as u64).index_axis(Axis(0), 0));
    }
    let labels: Option<Vec<usize>> = (0..n).map(|i| subject.label(i)).collect();
    let mean =
        exact.as_ref().map(|exact| exact.see(&eps, Level::of_alpha_bar(-1.0, 0.0), labels.as_deref())).transpose()?;
    let (mut at, mut network, mut exact_pictures) = (Vec::new(), Vec::new(), Vec::new());
    for t in times(subject.schedule().t_max()) {
        let level = subject.schedule().level(t);
        let x_t = shaped(x_0.dim(), q_sample(level, flat(&x_0), flat(&eps)));
        let output = subject.network().predict(&x_t, &vec![level; n], labels.as_deref())?;
        let hat = output.prediction.eps_hat(level.marginal(), flat(&x_t), flat(&output.value));
        let estimate = subject.estimate(&x_t, level, &output);
        let seen = exact.as_ref().map(|exact| exact.see(&x_t, level, labels.as_deref())).transpose()?;
        at.push(AtTime {
            t,
            noise_r2: 1.0 - squares(flat(&eps), &hat) / squares(flat(&eps), &vec![0.0; hat.len()]),
            linear_r2: correlation_squared(flat(&eps), flat(&x_t)),
            x_0_rmse: rmse(&x_0, &estimate.x_0_hat),
            exact_rmse: seen.as_ref().map(|seen| rmse(&x_0, seen)),
            mean_rmse: mean.as_ref().map(|mean| rmse(&x_0, mean)),
        });
        network.push(estimate.x_0_hat.slice_axis(Axis(0), (0..1).into()).to_owned());
        exact_pictures.extend(seen.map(|seen| seen.slice_axis(Axis(0), (0..1).into()).to_owned()));
    }
    let from = |holds: &dyn Fn(&AtTime) -> bool| {
        let last_not = at.iter().rposition(|at| !holds(at)).map_or(0, |i| i + 1);
        at.get(last_not).map(|at| at.t)
    };
    let exact_from = from(&|at| at.exact_rmse.is_some_and(|exact| exact < at.x_0_rmse));
    let mean_from = from(&|at| at.mean_rmse.is_some_and(|mean| at.x_0_rmse > 0.95 * mean));
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
        worse_at_end: at.last().is_some_and(|at| at.mean_rmse.is_some_and(|mean| at.x_0_rmse > mean)),
        exact_from,
        mean_from,
        network: joined(&network),
        exact: exact.map(|_| joined(&exact_pictures)),
        bins: evaluation.bins.iter().map(bin).collect(),
        evaluated: evaluation.images,
        total: evaluation.total,
        last_r2: evaluation.bins.last().expect("a bin").1.r2,
        last_linear_r2: 1.0 - evaluation.bins.last().expect("a bin").1.linear_mse,
        at,
    })
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

fn rmse(a: &Array4<f32>, b: &Array4<f32>) -> f64 {
    (squares(flat(a), flat(b)) / a.len() as f64).sqrt()
}

/// 1 − min_k Σ(a − k b)²/Σa² = (Σab)²/(Σa² Σb²).
fn correlation_squared(a: &[f32], b: &[f32]) -> f64 {
    let of =
        |x: &[f32], y: &[f32]| sum(&x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).collect::<Vec<_>>());
    of(a, b) * of(a, b) / (of(a, a) * of(b, b))
}
