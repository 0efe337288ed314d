//! What is measured: one step of training, one prediction, or one whole chain of sampling.

use clap::ValueEnum;

use crate::Result;
use crate::layers::{ParameterVector, Prepared};
use crate::models::{Conditions, Network, Time};
use crate::numerics::parallel;
use crate::numerics::rng::normal;
use crate::pipeline::Pipeline;
use crate::sample::{Settings, draw};
use crate::train::gradient::{MICROBATCH, Zeros};
use crate::train::{Batch, Config, Descent, State};

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
    network: &Network,
    measure: impl FnOnce(&mut dyn FnMut() -> Result<()>) -> Result<T>,
) -> Result<T> {
    let batch_size = config.batch_size;
    let (h, w) = config.model.image_size().expect("validated");
    let images = normal((batch_size, h, w, config.model.channels().0), 1).mapv(|x| x as f32);
    let labels = config.model.labels().map(|_| vec![0; batch_size]);
    let batch = Batch {
        target: images.clone(),
        x_t: images,
        time: vec![500.0; batch_size],
        labels,
        weight: None,
        bound: None,
        share: None,
    };
    let weights: ParameterVector<f32> = network.layout().initial(config.seed);
    match mode {
        Mode::Train => {
            let descent = Descent { adamw: config.optimizer.adamw(), clip_norm: 1.0, ema_decay: 0.0 };
            let (mut state, zeros) = (State::new(weights, false), Zeros::default());
            measure(&mut || state.step(network, &batch, config.optimizer.lr, &descent, None, &zeros).map(|_| ()))
        }
        Mode::Forward => {
            let weights = Prepared::new(&weights);
            measure(&mut || prediction(network, &weights, &batch))
        }
        Mode::Sample => {
            let model = Pipeline::new(network.clone(), weights, config.scheduler()?, config.null_class())?;
            let chain = model.scheduler().chain(config.schedule.num_train_timesteps)?;
            let settings = Settings { seed: config.seed, chain, guidance: 1.0, ..Settings::new(&model)? };
            measure(&mut || draw(&model, &settings, 0..batch_size as u64, |_| Ok(())).map(|_| ()))
        }
    }
}

/// The network's output for the batch, in microbatches as sampling has them.
fn prediction(network: &Network, w: &Prepared<f32>, batch: &Batch<f32>) -> Result<()> {
    let parts = parallel::ranges(batch.time.len(), MICROBATCH);
    let outputs = parallel::map(parts.len(), |i| {
        let x = batch.x_t.slice_axis(ndarray::Axis(0), parts[i].clone().into()).to_owned();
        let labels = batch.labels.as_ref().map(|labels| &labels[parts[i].clone()]);
        network.predict(w, x, Conditions { time: Time::Steps(&batch.time[parts[i].clone()]), labels })
    });
    outputs.into_iter().try_for_each(|output| output.map(|_| ()))
}
