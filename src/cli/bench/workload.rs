//! What is measured: one step of training, one prediction, or one whole chain of sampling.

use clap::ValueEnum;

use crate::Result;
use crate::layers::{ParameterVector, Prepared};
use crate::models::UNet;
use crate::models::unet::{Conditions, Time};
use crate::numerics::parallel;
use crate::numerics::rng::normal;
use crate::sample::draw::{Settings, draw};
use crate::sample::{Pipeline, timesteps};
use crate::train::Config;
use crate::train::adamw::Moments;
use crate::train::clip::{clip_factor, global_norm};
use crate::train::gradient::{Batch, MICROBATCH, Zeros, loss_and_gradient};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Forward, MSE, backward, clip, Adam
    Train,
    /// One prediction of the network
    Forward,
    /// A whole chain, from noise to pictures, in all steps of the schedule
    Sample,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::Train => "training step",
            Mode::Forward => "prediction",
            Mode::Sample => "chain",
        }
    }

    /// Predictions that cost as much as one step: a backward pass has two products for each one of the forward pass.
    pub(super) fn predictions(self, config: &Config) -> u64 {
        match self {
            Mode::Train => 3,
            Mode::Forward => 1,
            Mode::Sample => config.schedule.num_train_timesteps as u64,
        }
    }
}

/// Calls `measure` with a function that takes one step, of a network with its first weights on images of noise.
pub(super) fn with_step<T>(
    mode: Mode,
    config: &Config,
    unet: &UNet,
    measure: impl FnOnce(&mut dyn FnMut() -> Result<()>) -> Result<T>,
) -> Result<T> {
    let batch_size = config.batch_size;
    let (h, w) = config.model.image_size().expect("validated");
    let images = normal((batch_size, h, w, config.model.in_channels), 1).mapv(|x| x as f32);
    let labels = config.model.num_class_embeds.map(|_| vec![0; batch_size]);
    let batch = Batch { target: images.clone(), x_t: images, t: vec![500.0; batch_size], labels };
    let weights: ParameterVector<f32> = unet.layout.initial(config.seed);
    match mode {
        Mode::Train => measure(&mut training_step(unet, weights, config, &batch)),
        Mode::Forward => {
            let weights = Prepared::new(&weights);
            measure(&mut || prediction(unet, &weights, &batch))
        }
        Mode::Sample => {
            let scheduler = config.scheduler()?;
            let steps = config.schedule.num_train_timesteps;
            let timesteps = timesteps(scheduler.spacing, steps, steps, scheduler.steps_offset)?;
            let (sampler, seed) = (scheduler.sampler, config.seed);
            let settings = Settings { seed, sampler, timesteps, class: None, guidance: 1.0 };
            let unet = UNet::new(config.model.clone())?;
            let model = Pipeline { unet, weights, scheduler, null_class: config.null_class() };
            measure(&mut || draw(&model, &settings, 0..batch_size as u64, |_| Ok(())).map(|_| ()))
        }
    }
}

/// Forward, MSE, backward, clip, Adam.
fn training_step(
    unet: &UNet,
    mut w: ParameterVector<f32>,
    config: &Config,
    batch: &Batch<f32>,
) -> impl FnMut() -> Result<()> {
    let mut moments = Moments::zeros(w.0.len());
    let (mut n, zeros) = (0, Zeros::default());
    move || {
        n += 1;
        let (_, mut grads) = loss_and_gradient(unet, &w, batch, None, &zeros)?;
        let clip = clip_factor(global_norm(&unet.layout, &grads), 1.0);
        config.optimizer.adamw().step(n, config.optimizer.lr, clip, &mut w, &mut grads, &mut moments);
        zeros.give(grads);
        Ok(())
    }
}

/// The network's output for the batch, in microbatches as sampling has them.
fn prediction(unet: &UNet, w: &Prepared<f32>, batch: &Batch<f32>) -> Result<()> {
    let parts = parallel::ranges(batch.t.len(), MICROBATCH);
    let outputs = parallel::map(parts.len(), |i| {
        let x = batch.x_t.slice_axis(ndarray::Axis(0), parts[i].clone().into()).to_owned();
        let labels = batch.labels.as_ref().map(|labels| &labels[parts[i].clone()]);
        unet.predict(w, x, Conditions { time: Time::Steps(&batch.t[parts[i].clone()]), labels })
    });
    outputs.into_iter().try_for_each(|output| output.map(|_| ()))
}
