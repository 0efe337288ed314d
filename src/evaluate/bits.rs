//! What an image costs: the variational bound in bits per dimension, term by term ([`likelihood`](crate::diffusion::likelihood)).
//!
//! Every validation image is looked at at every time of the chain, once, with a noise of its own: the stream
//! (seed, "eval.bits.noise", [image, t]) of a seed that does not depend on the run. The mean over the images has an interval of
//! 95 %, ±1.96 standard errors: they are the images that happened to be held out, and the noise.
//!
//! The network computes in f32. What follows from its output is computed in f64.

use ndarray::Array4;
use serde::Serialize;

use super::noise::check_subject;
use super::shared::of_images;
use crate::data::Dataset;
use crate::denoise::{Denoiser, Output};
use crate::diffusion::likelihood::{Cdf, Reading, Said, Step, Term, prior, steps};
use crate::diffusion::{Process, Schedule, Variance, q_sample};
use crate::layers::{ParameterVector, Prepared, flat, flat_mut};
use crate::numerics::rng::Stream;
use crate::numerics::sum::{sum, sum_by};
use crate::pipeline::Pipeline;
use crate::{Error, Result};

/// Images between two calls of `progress`.
const AT_ONCE: usize = 4;

/// Times at which the network looks at once.
const BATCH: usize = 16;

/// The seed of the noise.
pub(super) const SEED: u64 = 0;

/// Of what the bound is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct BitsSettings {
    /// How many validation images.
    pub images: usize,
    /// The times of the chain in 1..=T, ascending.
    pub times: Vec<usize>,
    /// The variance of its steps.
    pub variance: Variance,
    /// The decoder's distribution.
    pub cdf: Cdf,
}

/// A mean over images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Half of its interval of 95 %; of one image there is none.
    pub margin: Option<f64>,
}

/// The bound, in bits per dimension.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bits {
    /// Images looked at.
    pub images: usize,
    /// All of it: prior, KL terms, decoder.
    pub total: Mean,
    /// What x_T still says of the image.
    pub prior: Mean,
    /// The sum of the KL terms.
    pub kl: Mean,
    /// The step to the image.
    pub decoder: Mean,
    /// The times of the chain, ascending.
    pub times: Vec<usize>,
    /// The term of each time, that of the first being the decoder's.
    pub terms: Vec<Mean>,
    /// The mean squared error of x̂₀ at each time, clipped where the model is sampled so
    /// ([`clip_range`](crate::pipeline::Scheduler::clip_range)).
    pub x_0_mse: Vec<f64>,
}

impl Mean {
    /// Of some numbers, at least one.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = sum(values) / count;
        let squares = sum_by(values, |x| (x - mean) * (x - mean));
        let margin = (values.len() > 1).then(|| 1.96 * (squares / (count - 1.0) / count).sqrt());
        Mean { mean, margin }
    }
}

/// The bound of `weights` of the model's network on validation images; `progress` hears of each image done.
///
/// # Errors
/// As [`evaluate`](super::evaluate); a variance that the network does not learn, or times that are no chain.
pub fn bits_per_dim(
    model: &Pipeline,
    weights: &ParameterVector<f32>,
    data: &Dataset,
    settings: &BitsSettings,
    progress: impl FnMut(usize),
) -> Result<Bits> {
    check_subject(model, weights, data)?;
    check_process(model)?;
    let prepared = Prepared::new(weights);
    let (denoiser, scheduler) = (model.denoiser(&prepared), model.scheduler());
    let reading = Reading {
        prediction: scheduler.prediction,
        variance: settings.variance,
        clip: scheduler.clip_range(),
        cdf: settings.cdf,
    };
    bits_of_denoiser(&denoiser, &scheduler.schedule, data, &|class| model.label(class), (settings, reading), progress)
}

/// Refuses a model whose noise is not that of a variance-preserving chain, of which the bound is.
///
/// # Errors
/// Flow matching or EDM.
pub(super) fn check_process(model: &Pipeline) -> Result<()> {
    match model.scheduler().schedule.process() {
        Process::Betas => Ok(()),
        other => {
            let expected = "a model of the variance-preserving process (beta_schedule), of which the bound is";
            Err(Error::value("model", expected, format!("{other:?}")))
        }
    }
}

/// [`bits_per_dim`] for any denoiser of images of the data's shape; `label` says what it is told of an image of a class, or of one
/// without.
///
/// # Errors
/// No images, times that are no chain; whatever the denoiser refuses; an output that is not finite, or without a variance where
/// one is to be learned.
pub fn bits_of_denoiser(
    denoiser: &dyn Denoiser<f32>,
    schedule: &Schedule,
    data: &Dataset,
    label: &(dyn Fn(Option<usize>) -> Option<usize> + Sync),
    (settings, reading): (&BitsSettings, Reading),
    progress: impl FnMut(usize),
) -> Result<Bits> {
    let (images, times) = (settings.images.min(data.len()), &settings.times);
    if images == 0 {
        return Err(Error::value("images", "at least one image to look at", format!("0 of {}", data.name())));
    }
    let ascend = times.windows(2).all(|pair| pair[0] < pair[1]);
    if times.is_empty() || times[0] < 1 || *times.last().expect("one") > schedule.t_max() || !ascend {
        let expected = format!("times in 1..={}, ascending", schedule.t_max());
        return Err(Error::value("times", expected, format!("{times:?}")));
    }
    let asked = Asked { denoiser, data, label, reading, steps: steps(schedule, times) };
    let numbers = |(prior, terms): OfImage| {
        let of_terms = terms.into_iter().flat_map(|term| [term.bits, term.x_0_mse]);
        std::iter::once(prior).chain(of_terms).collect::<Vec<f64>>()
    };
    let by_image = of_images(images, AT_ONCE, progress, |image| asked.terms(image).map(numbers))?;
    let of_numbers = |numbers: Vec<f64>| -> OfImage {
        let terms = numbers[1..].chunks_exact(2).map(|pair| Term { bits: pair[0], x_0_mse: pair[1] });
        (numbers[0], terms.collect())
    };
    let by_image: Vec<OfImage> = by_image.into_iter().map(of_numbers).collect();
    let mean = |of: &dyn Fn(&OfImage) -> f64| Mean::of(&by_image.iter().map(of).collect::<Vec<_>>());
    let kl = |terms: &[Term<f64>]| sum_by(&terms[1..], |term: Term<f64>| term.bits);
    let of_times = 0..times.len();
    Ok(Bits {
        images,
        total: mean(&|(prior, terms)| prior + kl(terms) + terms[0].bits),
        prior: mean(&|(prior, _)| *prior),
        kl: mean(&|(_, terms)| kl(terms)),
        decoder: mean(&|(_, terms)| terms[0].bits),
        times: times.clone(),
        terms: of_times.clone().map(|i| mean(&|(_, terms)| terms[i].bits)).collect(),
        x_0_mse: of_times.map(|i| mean(&|(_, terms)| terms[i].x_0_mse).mean).collect(),
    })
}

/// The prior of an image, and its terms.
type OfImage = (f64, Vec<Term<f64>>);

/// What is looked at, and by whom.
struct Asked<'a> {
    denoiser: &'a dyn Denoiser<f32>,
    data: &'a Dataset,
    label: &'a (dyn Fn(Option<usize>) -> Option<usize> + Sync),
    reading: Reading,
    steps: Vec<Step>,
}

impl Asked<'_> {
    /// The prior of one image, and its terms.
    fn terms(&self, image: usize) -> Result<OfImage> {
        let exact = self.data.batch::<f64>(&[image]);
        let mut terms = Vec::with_capacity(self.steps.len());
        for steps in self.steps.chunks(BATCH) {
            let x_0 = self.data.batch::<f32>(&vec![image; steps.len()]);
            let (mut eps, mut x_t) = (x_0.clone(), x_0.clone());
            let size = exact.len();
            for (step, eps) in steps.iter().zip(flat_mut(&mut eps).chunks_mut(size)) {
                let t = step.from.t() as u64;
                Stream::keyed(SEED, "eval.bits.noise", &[image as u64, t]).fill_normal(eps);
            }
            let rows = flat_mut(&mut x_t).chunks_mut(size).zip(flat(&x_0).chunks(size)).zip(flat(&eps).chunks(size));
            for (((x_t, x_0), eps), step) in rows.zip(steps) {
                x_t.copy_from_slice(&q_sample(step.from, x_0, eps));
            }
            let levels: Vec<_> = steps.iter().map(|step| step.from).collect();
            let class = self.data.label(image).map(|class| class as usize);
            let labels = (self.label)(class).map(|label| vec![label; steps.len()]);
            let output = self.denoiser.predict(&x_t, &levels, labels.as_deref())?;
            let (mean, variance) = self.parts(&output)?;
            for (i, step) in steps.iter().enumerate() {
                let of = |x: &[f64]| if x.is_empty() { Vec::new() } else { x[i * size..][..size].to_vec() };
                let eps: Vec<f64> = flat(&eps)[i * size..][..size].iter().map(|&eps| eps.into()).collect();
                let said = Said { mean: &of(&mean), variance: &of(&variance) };
                let reading = Reading { prediction: output.prediction, ..self.reading };
                let term = step.term(&reading, flat(&exact), &eps, said);
                if !term.bits.is_finite() {
                    let remedy = "the weights are damaged or the model does not fit the images".into();
                    let tensor = "the network's output in the evaluation".into();
                    return Err(Error::NonFinite { step: step.from.t() as u64, tensor, remedy });
                }
                terms.push(term);
            }
        }
        let last = self.steps.last().expect("a chain").from;
        Ok((prior(last, flat(&exact)), terms))
    }

    /// What an output says of the mean, and of the variance where that is learned.
    fn parts(&self, output: &Output<f32>) -> Result<(Vec<f64>, Vec<f64>)> {
        let wide = |x: &Array4<f32>| -> Vec<f64> { flat(x).iter().map(|&said| said.into()).collect() };
        let variance = match (&output.log_variance, self.reading.variance.is_learned()) {
            (Some(said), true) => wide(said),
            (None, true) => {
                let expected = "fixed_small or fixed_large: the network says nothing of variances";
                return Err(Error::value("variance", expected, format!("{:?}", self.reading.variance)));
            }
            (_, false) => Vec::new(),
        };
        Ok((wide(&output.value), variance))
    }
}

#[cfg(test)]
mod tests;
