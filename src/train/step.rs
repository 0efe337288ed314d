//! One training step: the gradient of a batch, and what is done with it.
//!
//! ```text
//! g ← ∂L/∂w of the batch                          gradient.rs
//! g ← g · min(1, clip_norm/|g|)                   clip.rs
//! w ← AdamW(w, g)                                 adamw.rs
//! average ← average + (1 − d)(w − average)        ema.rs
//! ```
//!
//! Training, its measurement and the golden values all take this step.

use super::adamw::{AdamW, Moments};
use super::clip::{clip_factor, first_non_finite, global_norm};
use super::ema;
use super::gradient::{Gradient, Zeros, loss_and_gradient};
use super::objective::Batch;
use super::power_ema::PowerAverages;
use super::timesteps::LossHistory;
use crate::layers::dropout::Key;
use crate::layers::{Layout, ParameterVector};
use crate::models::Network;
use crate::numerics::Real;
use crate::{Error, Result};

/// What is learned after `step` steps.
#[derive(Clone, Debug)]
pub struct State<F = f32> {
    /// Steps taken.
    pub step: u64,
    /// The weights.
    pub weights: ParameterVector<F>,
    /// AdamW's memory.
    pub moments: Moments<F>,
    /// The averaged weights, where there is an average.
    pub ema: Option<ParameterVector<F>>,
    /// The averages whose width is chosen afterwards, where they are kept.
    pub power: Option<PowerAverages<F>>,
    /// The last losses of every t, where times are chosen by them.
    pub history: Option<LossHistory>,
}

/// How a step goes downhill, but for its learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descent {
    /// The optimizer's constants.
    pub adamw: AdamW,
    /// The longest gradient; 0 for any length.
    pub clip_norm: f64,
    /// The longest memory of the average, in 0..1.
    pub ema_decay: f64,
}

/// What one step was like.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct StepReport {
    /// The step, from 1.
    pub step: u64,
    /// The loss of its batch.
    pub loss: f64,
    /// The norm of its gradient, before clipping.
    pub grad_norm: f64,
    /// Its learning rate.
    pub lr: f64,
    /// The loss on validation images after it, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
}

impl<F: Real> State<F> {
    /// Before the first step, from these weights; `averages` says whether an average is kept.
    pub fn new(weights: ParameterVector<F>, averages: bool) -> Self {
        let (moments, ema) = (Moments::zeros(weights.0.len()), averages.then(|| weights.clone()));
        State { step: 0, weights, moments, ema, power: None, history: None }
    }

    /// The weights that are sampled from: the average where there is one.
    pub fn best(&self) -> &ParameterVector<F> {
        self.ema.as_ref().unwrap_or(&self.weights)
    }

    /// One step. With a key, activations are dropped.
    ///
    /// # Errors
    /// Images or labels that the network does not take; a loss or gradient that is not finite, by step and tensor: the
    /// state is then that before the step.
    pub fn step(
        &mut self,
        network: &Network,
        batch: &Batch<F>,
        lr: f64,
        descent: &Descent,
        key: Option<Key>,
        zeros: &Zeros<F>,
    ) -> Result<StepReport> {
        let Gradient { loss, by_image, grads } = loss_and_gradient(network, &self.weights, batch, key, zeros)?;
        let report = self.descend(network.layout(), loss, grads, lr, descent, zeros)?;
        if let Some(history) = &mut self.history {
            by_image.into_iter().for_each(|(time, loss)| history.record(time as usize + 1, loss));
        }
        Ok(report)
    }

    /// What is done with the loss and the gradient of a step.
    ///
    /// # Errors
    /// A loss or gradient that is not finite, by step and tensor: the state is then that before the step.
    pub(super) fn descend(
        &mut self,
        layout: &Layout,
        loss: f64,
        mut grads: ParameterVector<F>,
        lr: f64,
        descent: &Descent,
        zeros: &Zeros<F>,
    ) -> Result<StepReport> {
        let n = self.step + 1;
        let grad_norm = global_norm(layout, &grads);
        if !loss.is_finite() || !grad_norm.is_finite() {
            let gradient = first_non_finite(layout, &grads).map(|name| format!("the gradient of {name}"));
            let tensor =
                if loss.is_finite() { gradient.unwrap_or("the gradient's norm".into()) } else { "the loss".into() };
            let remedy =
                "train with a lower learning rate or clip_norm; a checkpoint from before this step is whole".into();
            return Err(Error::NonFinite { step: n, tensor, remedy });
        }
        let clip = if descent.clip_norm > 0.0 { clip_factor(grad_norm, descent.clip_norm) } else { 1.0 };
        descent.adamw.step(n, lr, clip, &mut self.weights, &mut grads, &mut self.moments);
        zeros.give(grads);
        if let Some(average) = &mut self.ema {
            ema::update(average, &self.weights, n - 1, descent.ema_decay);
        }
        if let Some(averages) = &mut self.power {
            averages.update(&self.weights, n);
        }
        self.step = n;
        Ok(StepReport { step: n, loss, grad_norm, lr, validation_loss: None })
    }
}
