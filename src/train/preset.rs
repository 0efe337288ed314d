//! Complete configs under a name.

use std::path::PathBuf;

use super::config::{Config, EdmConfig, FlowConfig, OptimizerConfig, PredictionType, ScheduleConfig};
use super::goal::ObjectiveConfig;
use super::learning_rate::Decay;
use super::timesteps::TimestepSampler;
use crate::diffusion::BetaSchedule;
use crate::models::unet::SampleSize;
use crate::models::{DitConfig, NetworkConfig, UNetConfig};
use crate::sample::Sampler;

/// A named config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// 16 x 16 shapes, seconds: for tests and first looks.
    Tiny,
    /// Handwritten digits by class, in minutes on two cores.
    Digits,
    /// The same digits by the literal recipe of Ho et al. 2020: epsilon, linear, L_simple, ancestral sampling.
    Ddpm,
    /// Coloured shapes by class, in minutes on two cores, without a file.
    Shapes,
    /// Handwritten digits, 1.11 million parameters.
    Mnist,
    /// The CIFAR-10 network of Ho et al. 2020, 35.7 million parameters.
    Cifar10,
    /// Handwritten digits by class with a transformer, in minutes on two cores.
    Dit,
    /// The transformer S/2 of Peebles & Xie 2023 for 32 x 32 colour pictures, 39.8 million parameters with those of 1000 classes.
    DitS2,
}

impl Preset {
    /// All of them.
    pub const ALL: [Preset; 8] = [
        Preset::Tiny,
        Preset::Digits,
        Preset::Ddpm,
        Preset::Shapes,
        Preset::Mnist,
        Preset::Cifar10,
        Preset::Dit,
        Preset::DitS2,
    ];

    /// Its name: `digits`.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Tiny => "tiny",
            Preset::Digits => "digits",
            Preset::Ddpm => "ddpm",
            Preset::Shapes => "shapes",
            Preset::Mnist => "mnist",
            Preset::Cifar10 => "cifar10",
            Preset::Dit => "dit",
            Preset::DitS2 => "dit-s-2",
        }
    }

    /// What it is, in one line.
    pub fn about(self) -> &'static str {
        match self {
            Preset::Tiny => "16 x 16 shapes, seconds: for tests and first looks",
            Preset::Digits => "Handwritten digits by class, in minutes on two cores",
            Preset::Ddpm => "The same digits by the literal recipe of Ho et al. 2020: epsilon, linear, L_simple",
            Preset::Shapes => "32 x 32 coloured shapes by class, in minutes on two cores, without a file",
            Preset::Mnist => "Handwritten digits, 1.11 million parameters",
            Preset::Cifar10 => "The CIFAR-10 network of Ho et al. 2020, 35.7 million parameters",
            Preset::Dit => "Handwritten digits by class with a transformer, in minutes on two cores",
            Preset::DitS2 => {
                "The transformer S/2 of Peebles & Xie 2023 for 32 x 32 colour pictures, 39.8 million parameters"
            }
        }
    }

    /// The preset of this name.
    pub fn named(name: &str) -> Option<Preset> {
        Preset::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// The config of that name.
    pub fn config(self) -> Config {
        match self {
            Preset::Tiny => Config {
                steps: 50,
                batch_size: 16,
                data: PathBuf::from("shapes"),
                model: NetworkConfig::UNet(UNetConfig {
                    sample_size: Some(SampleSize::Square(16)),
                    norm_num_groups: 4,
                    ..grey(&[8, 16])
                }),
                optimizer: OptimizerConfig { warm_up_steps: 10, ..adamw(2e-3) },
                checkpoint_every: 25,
                sample_count: 16,
                sample_steps: 10,
                evaluation_images: 32,
                ..grey_digits()
            },
            // What each line is for, and what else was tried: docs/quality.md.
            Preset::Digits => Config {
                model: UNetConfig {
                    num_class_embeds: Some(11),
                    resnet_time_scale_shift: "scale_shift".into(),
                    ..grey(&[16, 32, 64])
                }
                .into(),
                schedule: ScheduleConfig { prediction_type: PredictionType::V, ..grey_digits().schedule },
                objective: ObjectiveConfig {
                    timesteps: TimestepSampler::LogNormal,
                    log_normal_mean: 0.4,
                    log_normal_deviation: 1.3,
                    ..ObjectiveConfig::default()
                },
                sampler: Some(Sampler::DpmMultistep),
                sample_steps: 20,
                sample_guidance: 2.1,
                sample_guidance_interval: Some((0.9, 20.0)),
                ..Preset::Ddpm.config()
            },
            Preset::Ddpm => Config {
                model: UNetConfig { num_class_embeds: Some(11), ..grey(&[16, 32, 64]) }.into(),
                label_dropout: 0.1,
                sample_count: 60,
                ..grey_digits()
            },
            Preset::Shapes => Config {
                data: PathBuf::from("shapes"),
                model: UNetConfig {
                    sample_size: Some(SampleSize::Square(32)),
                    in_channels: 3,
                    out_channels: 3,
                    num_class_embeds: Some(5),
                    resnet_time_scale_shift: "scale_shift".into(),
                    ..grey(&[16, 32, 64])
                }
                .into(),
                sample_count: 40,
                sample_guidance: 2.0,
                sample_guidance_interval: None,
                ..Preset::Digits.config()
            },
            Preset::Mnist => Config {
                sample_steps: 200,
                steps: 20_000,
                batch_size: 64,
                model: grey(&[32, 64, 64]).into(),
                optimizer: adamw(1e-3),
                sample_every: 2000,
                ..grey_digits()
            },
            Preset::Cifar10 => Config {
                steps: 800_000,
                batch_size: 128,
                data: PathBuf::from("data/cifar-10-batches-bin"),
                flip: true, // appendix B
                model: cifar10().into(),
                optimizer: OptimizerConfig { warm_up_steps: 5000, decay: Decay::Constant, ..adamw(2e-4) },
                ema_decay: 0.9999,
                checkpoint_every: 1000,
                sample_every: 10_000,
                sample_steps: 250,
                evaluation_images: 1000,
                ..grey_digits()
            },
            // With v, tokens of 4 x 4 pixels join to strokes after far fewer steps than with epsilon.
            Preset::Dit => Config {
                steps: 8000,
                model: DitConfig { patch_size: 4, ..transformer((2, 32), 6, 28, 1, 10) }.into(),
                schedule: ScheduleConfig { prediction_type: PredictionType::V, ..grey_digits().schedule },
                label_dropout: 0.1,
                sample_every: 4000,
                sample_count: 60,
                ..grey_digits()
            },
            Preset::DitS2 => Config {
                model: transformer((6, 64), 12, 32, 3, 1000).into(),
                optimizer: OptimizerConfig { warm_up_steps: 0, decay: Decay::Constant, clip_norm: 0.0, ..adamw(1e-4) },
                label_dropout: 0.1,
                ..Preset::Cifar10.config()
            },
        }
    }
}

/// What the presets have in common: the default run, without classes.
fn grey_digits() -> Config {
    Config {
        seed: 42,
        steps: 3600,
        batch_size: 16,
        data: PathBuf::from("data/mnist"),
        flip: false,
        model: grey(&[16, 32, 64]).into(),
        schedule: ScheduleConfig {
            beta_schedule: BetaSchedule::Linear,
            num_train_timesteps: 1000,
            beta_start: 1e-4,
            beta_end: 0.02,
            prediction_type: PredictionType::Epsilon,
        },
        flow: FlowConfig::default(),
        edm: EdmConfig::default(),
        objective: ObjectiveConfig::default(),
        optimizer: adamw(2e-3),
        ema_decay: 0.999,
        post_hoc_every: 0,
        label_dropout: 0.0,
        checkpoint_every: 500,
        sample_every: 1800,
        sample_count: 64,
        sampler: None,
        sample_steps: 100,
        sample_guidance: 2.0,
        sample_guidance_interval: None,
        validate_every: 100,
        evaluation_images: 256,
    }
}

/// AdamW as the field uses it, with a warm-up and a cosine.
fn adamw(lr: f64) -> OptimizerConfig {
    OptimizerConfig {
        lr,
        warm_up_steps: 100,
        decay: Decay::Cosine,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        clip_norm: 1.0,
    }
}

/// A network for 28 x 28 grey images: one layer a block, attention at the lowest resolution and in the middle.
fn grey(channels: &[usize]) -> UNetConfig {
    let low = channels.len() - 1;
    let names = |plain: &str, attends: &str, at: usize| -> Vec<String> {
        (0..=low).map(|i| if i == at { attends.to_string() } else { plain.to_string() }).collect()
    };
    UNetConfig {
        sample_size: Some(SampleSize::Square(28)),
        in_channels: 1,
        out_channels: 1,
        down_block_types: names("DownBlock2D", "AttnDownBlock2D", low),
        up_block_types: names("UpBlock2D", "AttnUpBlock2D", 0),
        block_out_channels: channels.to_vec(),
        layers_per_block: 1,
        attention_head_dim: None,
        norm_num_groups: 8,
        ..UNetConfig::default()
    }
}

/// Ho et al. 2020, appendix B, as google/ddpm-cifar10-32 has it.
fn cifar10() -> UNetConfig {
    let names = |plain: &str, attends: &str, at: usize| -> Vec<String> {
        (0..4).map(|i| if i == at { attends.to_string() } else { plain.to_string() }).collect()
    };
    UNetConfig {
        sample_size: Some(SampleSize::Square(32)),
        down_block_types: names("DownBlock2D", "AttnDownBlock2D", 1),
        up_block_types: names("UpBlock2D", "AttnUpBlock2D", 2),
        block_out_channels: vec![128, 256, 256, 256],
        attention_head_dim: None,
        downsample_padding: 0,
        dropout: 0.1,
        flip_sin_to_cos: false,
        freq_shift: 1.0,
        norm_eps: 1e-6,
        ..UNetConfig::default()
    }
}

/// A transformer of (heads, channels of a head) and so many blocks, with patches of two by two pixels.
fn transformer(heads: (usize, usize), layers: usize, side: usize, channels: usize, classes: usize) -> DitConfig {
    DitConfig {
        num_attention_heads: heads.0,
        attention_head_dim: heads.1,
        in_channels: channels,
        num_layers: layers,
        sample_size: side,
        num_embeds_ada_norm: classes,
        ..DitConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Network;

    #[test]
    fn presets_have_the_parameters_they_promise() {
        let count = |preset: Preset| Network::new(preset.config().model).expect("supported").layout().count();
        assert_eq!(count(Preset::Mnist), 1_112_801); // what diffusers counts for the same config
        assert_eq!(count(Preset::Cifar10), 35_746_307); // "35.7 million" in the paper
        assert_eq!(count(Preset::DitS2), 39795852); // 39.8 million, of which 4.6 are the vectors of 1000 classes
        Preset::ALL.iter().for_each(|preset| preset.config().validate().expect("a preset holds"));
    }
}
