//! A small network whole: forward, gradient, ten steps of training, and pictures from the trained weights.
//!
//! The network has what a U-Net has here: two resolutions, attention, dropout, classes and a class for none. A batch of 9
//! is two microbatches of 4 and one of 1, and ten batches go three times through 31 images, so that epochs change in mid-batch.

use std::path::{Path, PathBuf};

use super::Chain;
use crate::Result;
use crate::data::{self, Dataset, Shape, Split};
use crate::diffusion::BetaSchedule;
use crate::layers::dropout::Key;
use crate::layers::{ParameterVector, flat};
use crate::models::unet::SampleSize;
use crate::models::{Conditions, Network, NetworkConfig, Time, UNetConfig};
use crate::numerics::rng::normal;
use crate::sample::{Sampler, SamplerOptions, Settings, Spacing, draw, spread};
use crate::train::config::{OptimizerConfig, PredictionType, ScheduleConfig};
use crate::train::gradient::{Gradient, Zeros, loss_and_gradient};
use crate::train::learning_rate::Decay;
use crate::train::{Batch, Config, Preset, Trainer};

const IMAGES: usize = 31;
const BATCH: usize = 9;
const STEPS: u64 = 10;
/// Of an image.
pub(super) const SIDE: usize = 8;

pub(super) fn links(chain: &mut Chain) -> Result<()> {
    links_of(chain, "network", config())
}

/// The links of any network for these images and five labels, whose names start with `area`.
pub(super) fn links_of(chain: &mut Chain, area: &str, config: Config) -> Result<()> {
    forward_and_gradient(chain, area, &config)?;
    let trainer = train(chain, area, config)?;
    sample(chain, area, &trainer)
}

fn forward_and_gradient(chain: &mut Chain, area: &str, config: &Config) -> Result<()> {
    let network = Network::new(config.model.clone())?;
    let w = ParameterVector(normal(network.layout().count(), 1).mapv(|x| 0.3 * x as f32).to_vec());
    let images = |key: u64| normal((BATCH, SIDE, SIDE, 1), key).mapv(|x| x as f32);
    let labels: Vec<usize> = (0..BATCH).map(|i| i % 5).collect();
    let t: Vec<f64> = (0..BATCH).map(|i| 111.0 * i as f64).collect();
    let conditions = Conditions { time: Time::Steps(&t), labels: Some(&labels) };
    chain.numbers(format!("{area}.forward"), flat(&network.predict(&w, images(2), conditions)?));

    let batch = Batch {
        x_t: images(2),
        target: images(3),
        time: t,
        labels: Some(labels),
        weight: None,
        bound: None,
        share: None,
    };
    let key = Key { seed: 1, step: 1, first_image: 0 };
    let Gradient { loss, grads, .. } = loss_and_gradient(&network, &w, &batch, Some(key), &Zeros::default())?;
    chain.numbers(format!("{area}.loss"), &[loss]);
    chain.numbers(format!("{area}.gradient"), &grads.0);
    Ok(())
}

/// A link a step: the weights after it.
fn train(chain: &mut Chain, area: &str, config: Config) -> Result<Trainer> {
    let mut trainer = Trainer::new(config, images()?, None)?;
    for step in 1..=STEPS {
        let report = trainer.step()?;
        chain.numbers(format!("{area}.loss_of_step_{step}"), &[report.loss, report.grad_norm, report.lr]);
        chain.numbers(format!("{area}.weights_after_step_{step}"), &trainer.state().weights.0);
    }
    chain.numbers(format!("{area}.moments"), &[&*trainer.state().moments.m.0, &trainer.state().moments.v.0].concat());
    chain.numbers(format!("{area}.average"), &trainer.state().best().0);
    Ok(trainer)
}

/// A link a step of each sampler: the pictures before it; and the pictures at last.
fn sample(chain: &mut Chain, area: &str, trainer: &Trainer) -> Result<()> {
    let model = trainer.pipeline()?;
    for (name, sampler, guidance) in [("ddim", Sampler::Ddim, 1.0), ("ddpm", Sampler::Ddpm, 2.0)] {
        let options = SamplerOptions::default();
        let steps = spread(&model.scheduler().schedule, (4, Spacing::Trailing, 0), sampler, &options)?;
        let settings =
            Settings { seed: 42, sampler, options, chain: steps, class: None, guidance, guidance_interval: None };
        let pictures = draw(&model, &settings, 3..8, |moment| {
            chain.numbers(format!("{area}.{name}_before_step_{}", moment.number), flat(moment.step.x_t));
            Ok(())
        })?;
        chain.numbers(format!("{area}.{name}_pictures"), flat(&pictures));
    }
    Ok(())
}

/// The first of the synthetic shapes.
fn images() -> Result<Dataset> {
    let shape = Shape { height: SIDE, width: SIDE, channels: 1 };
    let all = data::load(Path::new("shapes"), Split::Train, shape)?;
    let pixels = (0..IMAGES).flat_map(|i| all.bytes(i).expect("shapes are bytes").to_vec()).collect();
    let labels = all.labels_of(&(0..IMAGES).collect::<Vec<_>>()).expect("shapes have labels");
    Dataset::new("selftest", shape, pixels)?.with_labels(labels, all.classes().expect("shapes have labels"))
}

/// Everything that decides a bit is written out: a preset may change, this may not.
pub(super) fn config() -> Config {
    let names = |names: [&str; 2]| names.map(String::from).to_vec();
    Config {
        seed: 42,
        steps: STEPS,
        batch_size: BATCH,
        data: PathBuf::from("shapes"),
        model: NetworkConfig::UNet(UNetConfig {
            sample_size: Some(SampleSize::Square(SIDE)),
            in_channels: 1,
            out_channels: 1,
            down_block_types: names(["DownBlock2D", "AttnDownBlock2D"]),
            up_block_types: names(["AttnUpBlock2D", "UpBlock2D"]),
            block_out_channels: vec![4, 8],
            layers_per_block: 1,
            dropout: 0.1,
            attention_head_dim: Some(4),
            norm_num_groups: 2,
            num_class_embeds: Some(5),
            ..UNetConfig::default()
        }),
        schedule: ScheduleConfig {
            beta_schedule: BetaSchedule::Linear,
            num_train_timesteps: 1000,
            beta_start: 1e-4,
            beta_end: 0.02,
            prediction_type: PredictionType::Epsilon,
        },
        optimizer: OptimizerConfig {
            lr: 2e-3,
            warm_up_steps: 3,
            decay: Decay::Cosine,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            clip_norm: 1.0,
        },
        ema_decay: 0.9,
        label_dropout: 0.2,
        ..Preset::Tiny.config()
    }
}
