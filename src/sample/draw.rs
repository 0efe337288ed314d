//! Sampling, Algorithm 2 of Ho et al. 2020, with any sampler.
//!
//! ```text
//! x_T ~ N(0, I)
//! for t = T, ..., 1 (or the steps of a shorter chain)
//!   z ~ N(0, I)
//!   x_{t−1} = the sampler's step from x_t, the network's output at t, and z
//! return x_0
//! ```
//!
//! Picture i of a seed has its own streams: x_T is `(seed, "sample.x_T", [i])` and z is `(seed, "sample.noise", [i, t])`. So
//! it is the same alone or among others, whatever the batch and the threads.

use ndarray::{Array4, Axis};

use super::Pipeline;
use super::{Sampler, Step, transitions};
use crate::diffusion::network_timestep;
use crate::layers::{Prepared, Weights, flat, flat_mut, shaped};
use crate::models::unet::{Conditions, Time};
use crate::numerics::parallel;
use crate::numerics::rng::Stream;
use crate::{Error, Result};

/// Pictures that one task takes through the network together; fewer or more give the same bits.
const MICROBATCH: usize = 4;

/// What pictures to draw, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The seed.
    pub seed: u64,
    /// The rule of a step.
    pub sampler: Sampler,
    /// The times visited, descending, each in 1..=T.
    pub timesteps: Vec<usize>,
    /// The class of every picture; `None` takes the classes in turn, picture i getting class i mod classes.
    pub class: Option<usize>,
    /// w of ε̂ = ε̂(no class) + w (ε̂(class) − ε̂(no class)); 1 is no guidance (Ho & Salimans 2022, w of their Eq. 6 plus 1).
    pub guidance: f64,
}

/// The pictures of a batch while noise leaves them.
#[derive(Debug)]
pub struct Moment<'a> {
    /// Steps taken, from 1.
    pub step: usize,
    /// The time that x_t was at before the step.
    pub t: usize,
    /// The pictures before the step, shape (n, h, w, c).
    pub x_t: &'a Array4<f32>,
    /// What the network took them for.
    pub x_0_hat: &'a Array4<f32>,
}

/// Draws the pictures with these indices, at most 4096 at a time, calling `watch` at each step of the chain.
///
/// # Shapes
/// Returns (indices, h, w, c), in [−1, 1] where the model's scheduler clips.
///
/// # Errors
/// Settings that the model cannot follow; a prediction that is not finite.
pub fn draw(
    model: &Pipeline,
    settings: &Settings,
    indices: std::ops::Range<u64>,
    mut watch: impl FnMut(&Moment) -> Result<()>,
) -> Result<Array4<f32>> {
    let (h, w, c) = model.image_shape()?;
    check(model, settings)?;
    let indices: Vec<u64> = indices.collect();
    let size = h * w * c;
    let mut x = Array4::zeros((indices.len(), h, w, c));
    for (&i, image) in indices.iter().zip(flat_mut(&mut x).chunks_mut(size)) {
        Stream::keyed(settings.seed, "sample.x_T", &[i]).fill_normal(image);
    }
    let weights = Prepared::new(&model.weights);
    for (step, (t, t_prev)) in transitions(&settings.timesteps).enumerate() {
        let parts = parallel::ranges(indices.len(), MICROBATCH);
        let stepped: Vec<Result<(Vec<f32>, Vec<f32>)>> = parallel::map(parts.len(), |part| {
            let range = parts[part].clone();
            let x_t = x.slice_axis(Axis(0), range.clone().into()).to_owned();
            let output = predict(model, &weights, settings, &indices[range.clone()], &x_t, t)?;
            let images = flat(&x_t).chunks(size).zip(flat(&output).chunks(size)).zip(&indices[range.clone()]);
            let mut next = (Vec::with_capacity(x_t.len()), Vec::with_capacity(x_t.len()));
            for ((x_t, output), &i) in images {
                let mut noise = vec![0.0f32; size];
                Stream::keyed(settings.seed, "sample.noise", &[i, t as u64]).fill_normal(&mut noise);
                let stepped =
                    settings.sampler.step(&model.scheduler.reverse, &Step { t, t_prev, x_t, output, noise: &noise });
                check_finite(&stepped.x_prev, t)?;
                check_finite(&stepped.x_0_hat, t)?;
                next.0.extend(stepped.x_prev);
                next.1.extend(stepped.x_0_hat);
            }
            Ok(next)
        });
        let (mut x_prev, mut x_0_hat) = (Vec::with_capacity(x.len()), Vec::with_capacity(x.len()));
        for part in stepped {
            let (prev, hat) = part?;
            x_prev.extend(prev);
            x_0_hat.extend(hat);
        }
        let (x_prev, x_0_hat) = (shaped(x.dim(), x_prev), shaped(x.dim(), x_0_hat));
        watch(&Moment { step: step + 1, t, x_t: &x, x_0_hat: &x_0_hat })?;
        x = x_prev;
    }
    Ok(x)
}

/// The network's output for pictures at time t, guided where asked.
fn predict(
    model: &Pipeline,
    weights: &dyn Weights<f32>,
    settings: &Settings,
    indices: &[u64],
    x_t: &Array4<f32>,
    t: usize,
) -> Result<Array4<f32>> {
    let time = vec![network_timestep(t) as f64; indices.len()];
    let output = |labels: Option<Vec<usize>>| {
        let conditions = Conditions { time: Time::Steps(&time), labels: labels.as_deref() };
        model.unet.predict(weights, x_t.clone(), conditions)
    };
    let label = |classes: usize| move |&i: &u64| settings.class.unwrap_or((i % classes as u64) as usize);
    let labels = model.classes().map(|classes| indices.iter().map(label(classes)).collect());
    let mut predicted = output(labels)?;
    if let Some(null) = model.null_class.filter(|_| settings.guidance != 1.0) {
        let without = output(Some(vec![null; indices.len()]))?;
        let w = settings.guidance as f32;
        predicted.zip_mut_with(&without, |with, &without| *with = without + w * (*with - without));
    }
    check_finite(flat(&predicted), t)?;
    Ok(predicted)
}

/// Refuses an output, or what a step made of it, that no picture can be drawn from.
fn check_finite(numbers: &[f32], t: usize) -> Result<()> {
    if numbers.iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    Err(Error::NonFinite {
        step: t as u64,
        tensor: "the network's output while sampling".into(),
        remedy: "the weights are damaged or the guidance is too strong".into(),
    })
}

fn check(model: &Pipeline, settings: &Settings) -> Result<()> {
    match (model.classes(), settings.class) {
        (None, Some(class)) => Err(Error::value("--class", "none: the model is not conditional", class)),
        (Some(0), _) => Err(Error::value("num_class_embeds", "at least one class beside the one for none", 1)),
        (Some(real), Some(class)) if class >= real => Err(Error::value("--class", format!("0 to {}", real - 1), class)),
        _ if !settings.guidance.is_finite() => Err(Error::value("--guidance", "a finite number", settings.guidance)),
        _ if settings.guidance != 1.0 && model.null_class.is_none() => Err(Error::value(
            "--guidance",
            "1: the model was not trained with hidden labels (label_dropout)",
            settings.guidance,
        )),
        _ => Ok(()),
    }
}
