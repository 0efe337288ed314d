//! Training, Algorithm 1 of Ho et al. 2020.
//!
//! ```text
//! repeat
//!   x_0 ~ q(x_0)                                     the next images of the epoch's order
//!   t ~ Uniform({1, ..., T})
//!   ε ~ N(0, I)
//!   take a gradient step on ∇ ‖ε − ε_θ(√ᾱ_t x_0 + √(1 − ᾱ_t) ε, t)‖²
//! until converged
//! ```
//!
//! Image i of step n has its own streams, keyed (seed, purpose, [n, i]): "train.t", "train.noise", "train.label_dropout".

use ndarray::Array4;

use super::adamw::Moments;
use super::clip::{clip_factor, first_non_finite, global_norm};
use super::config::Config;
use super::ema;
use super::gradient::{Batch, Zeros, loss_and_gradient};
use super::learning_rate::learning_rate;
use crate::data::{Dataset, Order};
use crate::diffusion::{Marginal, Prediction, Schedule, network_timestep, q_sample};
use crate::layers::dropout::Key;
use crate::layers::{ParameterVector, flat};
use crate::models::UNet;
use crate::numerics::Real;
use crate::numerics::rng::Stream;
use crate::{Error, Result};

/// What a run has learned after `step` steps: with the config, all that a resumed run needs.
#[derive(Clone, Debug)]
pub struct State {
    /// Steps taken.
    pub step: u64,
    /// The weights.
    pub weights: ParameterVector<f32>,
    /// AdamW's memory.
    pub moments: Moments<f32>,
    /// The averaged weights, where the config averages.
    pub ema: Option<ParameterVector<f32>>,
}

impl State {
    /// The weights that are sampled from: the average where there is one.
    pub fn best(&self) -> &ParameterVector<f32> {
        self.ema.as_ref().unwrap_or(&self.weights)
    }
}

/// A run: a network, its data, and how far it has come.
#[derive(Debug)]
pub struct Trainer {
    /// What was asked for.
    pub config: Config,
    /// The network.
    pub unet: UNet,
    /// What it has learned.
    pub state: State,
    schedule: Schedule,
    data: Dataset,
    order: Order,
    zeros: Zeros<f32>,
}

/// What one step was like.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct StepReport {
    /// The step, from 1.
    pub step: u64,
    /// L_simple of its batch.
    pub loss: f64,
    /// The norm of its gradient, before clipping.
    pub grad_norm: f64,
    /// Its learning rate.
    pub lr: f64,
}

impl Trainer {
    /// A run from the start, or from a state of the same config.
    ///
    /// # Errors
    /// A config that does not hold, images of another shape than the model's, a conditional model without labels, a
    /// state of another size.
    pub fn new(config: Config, data: Dataset, state: Option<State>) -> Result<Self> {
        config.validate()?;
        let unet = UNet::new(config.model.clone())?;
        if let Some(embeds) = config.model.num_class_embeds {
            let classes = data.classes().ok_or_else(|| {
                Error::value("model.num_class_embeds", format!("null, because {} has no labels", data.name()), embeds)
            })?;
            let wanted = classes + usize::from(config.label_dropout > 0.0);
            if embeds != wanted {
                let expected = format!(
                    "{wanted}: the {classes} classes of {}, and one for none if label_dropout is not 0",
                    data.name()
                );
                return Err(Error::value("model.num_class_embeds", expected, embeds));
            }
        }
        let state = state.unwrap_or_else(|| {
            let weights: ParameterVector<f32> = unet.layout.initial(config.seed);
            let ema = (config.ema_decay > 0.0).then(|| weights.clone());
            State { step: 0, moments: Moments::zeros(unet.layout.count()), weights, ema }
        });
        let schedule = config.scheduler()?.reverse.schedule;
        let order = Order::new(config.seed, data.len());
        Ok(Trainer { config, unet, state, schedule, data, order, zeros: Zeros::default() })
    }

    /// One step of Algorithm 1.
    ///
    /// # Errors
    /// A loss or gradient that is not finite, by step and tensor; the state is then that before the step.
    pub fn step(&mut self) -> Result<StepReport> {
        let (n, config) = (self.state.step + 1, &self.config);
        let first = (n - 1) * config.batch_size as u64;
        let indices: Vec<usize> = (0..config.batch_size as u64).map(|i| self.order.index_at(first + i)).collect();
        let x_0 = self.data.batch::<f32>(&indices);
        let labels = config.model.num_class_embeds.and_then(|_| self.data.labels_of(&indices));
        let labels = labels.map(|labels| self.hide_labels(n, &labels));

        let (t, eps) = draw_t_and_noise(config.seed, n, self.schedule.t_max(), &x_0);
        let batch = noised(&self.schedule, config.schedule.prediction_type, &x_0, &t, &eps, labels);
        let key = Key { seed: config.seed, step: n, first_image: 0 };
        let (loss, mut grads) = loss_and_gradient(&self.unet, &self.state.weights, &batch, Some(key), &self.zeros)?;
        let report = self.descend(n, loss, &mut grads)?;
        self.zeros.give(grads);
        Ok(report)
    }

    /// The gradient step: clip, AdamW, average.
    fn descend(&mut self, n: u64, loss: f64, grads: &mut ParameterVector<f32>) -> Result<StepReport> {
        let (config, layout) = (&self.config, &self.unet.layout);
        let grad_norm = global_norm(layout, grads);
        if !loss.is_finite() || !grad_norm.is_finite() {
            let gradient = first_non_finite(layout, grads).map(|name| format!("the gradient of {name}"));
            let tensor =
                if loss.is_finite() { gradient.unwrap_or("the gradient's norm".into()) } else { "the loss".into() };
            let remedy = "the last checkpoint is whole; go on from it with a lower optimizer.lr or clip_norm".into();
            return Err(Error::NonFinite { step: n, tensor, remedy });
        }
        let o = &config.optimizer;
        let lr = learning_rate(n, config.steps, o.lr, o.warm_up_steps, o.decay);
        let clip = if o.clip_norm > 0.0 { clip_factor(grad_norm, o.clip_norm) } else { 1.0 };
        let state = &mut self.state;
        o.adamw().step(n, lr, clip, &mut state.weights, grads, &mut state.moments);
        if let Some(average) = &mut state.ema {
            ema::update(average, &state.weights, n - 1, config.ema_decay);
        }
        state.step = n;
        Ok(StepReport { step: n, loss, grad_norm, lr })
    }

    /// Each label, or with probability `label_dropout` the one for "no class".
    fn hide_labels(&self, n: u64, labels: &[u32]) -> Vec<usize> {
        let hidden = |i: usize| {
            let mut stream = Stream::keyed(self.config.seed, "train.label_dropout", &[n, i as u64]);
            stream.uniform() < self.config.label_dropout
        };
        let label =
            |(i, &label): (usize, &u32)| self.config.null_class().filter(|_| hidden(i)).unwrap_or(label as usize);
        labels.iter().enumerate().map(label).collect()
    }
}

/// t in 1..=T and ε for each image of step n.
fn draw_t_and_noise(seed: u64, n: u64, t_max: usize, x_0: &Array4<f32>) -> (Vec<usize>, Array4<f32>) {
    let t = |i: usize| 1 + Stream::keyed(seed, "train.t", &[n, i as u64]).below(t_max as u64) as usize;
    let mut eps = Array4::zeros(x_0.dim());
    for (i, mut eps) in eps.outer_iter_mut().enumerate() {
        let image = eps.as_slice_mut().expect("one image is contiguous");
        Stream::keyed(seed, "train.noise", &[n, i as u64]).fill_normal(image);
    }
    ((0..x_0.dim().0).map(t).collect(), eps)
}

/// x_t and the target of each image: what the network is shown and what it shall say.
///
/// # Shapes
/// `x_0` and `eps` (n, h, w, c); `t` (n), in 1..=T.
pub fn noised<F: Real>(
    schedule: &Schedule,
    prediction: Prediction,
    x_0: &Array4<F>,
    t: &[usize],
    eps: &Array4<F>,
    labels: Option<Vec<usize>>,
) -> Batch<F> {
    let size = x_0.len() / t.len();
    let images = || flat(x_0).chunks(size).zip(flat(eps).chunks(size)).zip(t);
    let x_t = images().flat_map(|((x_0, eps), &t)| q_sample(schedule, t, x_0, eps)).collect();
    let target = images().flat_map(|((x_0, eps), &t)| prediction.target(Marginal::at(schedule, t), x_0, eps)).collect();
    Batch {
        x_t: crate::layers::shaped(x_0.dim(), x_t),
        target: crate::layers::shaped(x_0.dim(), target),
        t: t.iter().map(|&t| network_timestep(t) as f64).collect(),
        labels,
    }
}
