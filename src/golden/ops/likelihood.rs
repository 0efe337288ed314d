//! What a model pays in bits: the variational bound, and the loss that teaches its variances.
//!
//! Tables are float64, rounded once; everything that is done with images is in the precision at hand.

use ndarray::{Array4, ArrayD, Axis, IxDyn};
use serde_json::{Map, Value, json};

use super::diffusion::{row, scheduler_of, tables};
use super::request::{channels_first, channels_last};
use super::{Request, Results, named};
use crate::Result;
use crate::diffusion::likelihood::losses::{halves, hybrid, joined};
use crate::diffusion::likelihood::{Cdf, Reading, Said, Step, prior, steps};
use crate::diffusion::{Variance, Weighting};
use crate::golden::precision::Precision;
use crate::layers::{flat, shaped};

/// Images, and what a model said of each at every step of a chain.
pub(in crate::golden) struct Chain<F> {
    /// Its steps.
    pub steps: Vec<Step>,
    /// What the outputs mean.
    pub reading: Reading,
    /// (n, h, w, c).
    pub x_0: Array4<F>,
    /// One a step, of the same shape.
    noise: Vec<Array4<F>>,
    /// One a step; with twice the channels where the variance is learned.
    outputs: Vec<Array4<F>>,
}

impl<F: Precision> Chain<F> {
    pub fn read(request: &Request, clip_sample: bool) -> Result<Self> {
        let schedule: Map<String, Value> = request.required("schedule")?;
        let schedule = scheduler_of(request, None, &schedule)?.schedule;
        let variance: Variance = request.required("variance_type")?;
        let reading = Reading {
            prediction: request.required("prediction_type")?,
            variance,
            clip: clip_sample.then_some(1.0),
            cdf: request.attribute("cdf", Cdf::Erf)?,
        };
        let times = request.integers("timesteps", 0..schedule.t_max() as i64)?;
        if times.ndim() != 1 || times.iter().zip(times.iter().skip(1)).any(|(before, after)| before >= after) {
            return Err(request.refuse("input.timesteps", "a row of times that ascend", format!("{times}")));
        }
        let times: Vec<usize> = times.iter().map(|&t| t as usize + 1).collect();
        let x_0: Array4<F> = request.images("x_0")?;
        let (n, h, w, c) = x_0.dim();
        let of_steps = |name: &str, channels: usize| -> Result<Vec<Array4<F>>> {
            let all = request.array::<F>(name)?;
            request.check_shape(&format!("input.{name}"), &[times.len(), n, channels, h, w], all.shape())?;
            let of_step = |x: ndarray::ArrayViewD<F>| {
                channels_last(x.to_owned().into_dimensionality().expect("the shape that was checked"))
            };
            Ok(all.axis_iter(Axis(0)).map(of_step).collect())
        };
        let said = if variance.is_learned() { 2 * c } else { c };
        let (noise, outputs) = (of_steps("noise", c)?, of_steps("model_output", said)?);
        Ok(Chain { steps: steps(&schedule, &times), reading, x_0, noise, outputs })
    }

    /// What is computed of image i at a step.
    pub fn at<T>(&self, step: usize, i: usize, of: impl Fn(&Step, &[F], &[F], Said<F>) -> T) -> T {
        let image = |x: &Array4<F>| x.index_axis(Axis(0), i).iter().copied().collect::<Vec<F>>();
        let output = image(&self.outputs[step]);
        let (mean, variance) = match self.reading.variance.is_learned() {
            true => halves(&output, self.x_0.dim().3),
            false => (output, Vec::new()),
        };
        let said = Said { mean: &mean, variance: &variance };
        of(&self.steps[step], &image(&self.x_0), &image(&self.noise[step]), said)
    }

    /// (steps, images).
    fn dim(&self) -> (usize, usize) {
        (self.steps.len(), self.x_0.dim().0)
    }

    /// What is computed of every image at every step, step by step.
    pub fn table<T>(&self, of: impl Fn(&Step, &[F], &[F], Said<F>) -> T) -> Vec<T> {
        let (steps, images) = self.dim();
        (0..steps).flat_map(|step| (0..images).map(move |i| (step, i))).map(|(step, i)| self.at(step, i, &of)).collect()
    }
}

fn by_step<F: Precision>(chain: &Chain<F>, values: Vec<F>) -> ArrayD<F> {
    let (steps, images) = chain.dim();
    shaped(IxDyn(&[steps, images]), values)
}

/// The terms of the bound in bits per dimension, the prior's, and how far x̂₀ is off.
pub fn variational_bound<F: Precision>(request: &Request) -> Result<Results<F>> {
    let chain = Chain::<F>::read(request, request.attribute("clip_sample", true)?)?;
    let terms = chain.table(|step, x_0, eps, said| step.term(&chain.reading, x_0, eps, said));
    let last = chain.steps.last().expect("at least one step").from;
    let size = chain.x_0.len() / chain.x_0.dim().0;
    let of_prior = flat(&chain.x_0).chunks(size).map(|x_0| prior(last, x_0)).collect();
    Ok(vec![
        named("output.terms", by_step(&chain, terms.iter().map(|term| term.bits).collect())),
        named("output.prior", shaped(IxDyn(&[chain.x_0.dim().0]), of_prior)),
        named("output.x_0_mse", by_step(&chain, terms.iter().map(|term| term.x_0_mse).collect())),
    ])
}

/// L_hybrid of every step and image, and the gradient of their sum. x̂₀ is not clipped.
pub fn hybrid_loss<F: Precision>(request: &Request) -> Result<Results<F>> {
    let chain = Chain::<F>::read(request, false)?;
    if !chain.reading.variance.is_learned() {
        let expected = "\"learned\" or \"learned_range\", because a fixed variance learns nothing";
        return Err(request.refuse("attribute variance_type", expected, json!(chain.reading.variance)));
    }
    let count = chain.steps.len();
    let losses = chain.table(|step, x_0, eps, said| hybrid(step, count, &chain.reading, x_0, eps, said));
    let (n, h, w, c) = chain.x_0.dim();
    let gradient: Vec<F> = losses
        .chunks(n)
        .flat_map(|of_step| {
            let of_step = of_step.iter().flat_map(|loss| joined(&loss.gradient, c)).collect();
            channels_first(shaped((n, h, w, 2 * c), of_step)).into_iter()
        })
        .collect();
    Ok(vec![
        named("output.loss", by_step(&chain, losses.iter().map(|loss| loss.loss).collect())),
        named("grad.model_output", shaped(IxDyn(&[count, n, 2 * c, h, w]), gradient)),
    ])
}

/// What the squared error of the output is multiplied by at each time.
pub fn loss_weight<F: Precision>(request: &Request) -> Result<Results<F>> {
    let schedule: Map<String, Value> = request.required("schedule")?;
    let schedule = tables::<F>(&scheduler_of(request, None, &schedule)?.schedule);
    let prediction = request.required("prediction_type")?;
    let positive = |name: &str, default: f64| match request.attribute(name, default)? {
        number if number > 0.0 && number.is_finite() => Ok(number),
        other => Err(request.refuse(&format!("attribute {name}"), "a positive number", other)),
    };
    let weighting = match request.required::<String>("weighting")?.as_str() {
        "simple" => Weighting::Simple,
        "min_snr" => Weighting::MinSnr { gamma: positive("gamma", 5.0)? },
        "p2" => Weighting::P2 { k: positive("k", 1.0)?, gamma: positive("gamma", 1.0)? },
        "vlb" => Weighting::Vlb,
        other => return Err(request.refuse("attribute weighting", "simple, min_snr, p2 or vlb", other)),
    };
    let weight = |t: usize| F::from_f64(weighting.weight(&schedule, prediction, t));
    Ok(vec![named("output.weight", row((1..=schedule.t_max()).map(weight).collect()))])
}
