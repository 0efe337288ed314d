//! Chapter 10: inside of the network: a convolution as its sums, what each level holds, attention, skips.

mod attention;
mod layers;
mod skips;
mod transformer;

use ndarray::Array4;
use serde::Serialize;

use super::subject::Subject;
use crate::Result;
use crate::diffusion::q_sample;
use crate::layers::{flat, shaped};
use crate::models::{Conditions, NetworkConfig, Taps, Time, UNetConfig};

pub use attention::Attention;
pub use layers::{Convolution, Maps};
pub use skips::Skips;
pub use transformer::Transformer;

/// Inside of the network.
#[derive(Clone, Debug, Serialize)]
pub struct Inside {
    /// Of a U-Net; none of another network.
    pub unet: Option<Insight>,
    /// The transformer beside it, untrained.
    pub transformer: Transformer,
}

/// Inside of a U-Net, looking at the first picture.
#[derive(Clone, Debug, Serialize)]
pub struct Insight {
    /// From the highest resolution down.
    pub levels: Vec<Level>,
    /// How many levels have attention.
    pub attending: usize,
    /// The height of the lowest of them, in pixels; 0 if none has.
    pub attending_height: usize,
    /// Rows of the lowest level.
    pub lowest: usize,
    /// The first convolution.
    pub convolution: Convolution,
    /// Some channels of each level at some t.
    pub maps: Vec<Maps>,
    /// The attention in the middle.
    pub attention: Option<Attention>,
    /// With the skips and without.
    pub skips: Vec<Skips>,
}

/// One resolution.
#[derive(Clone, Debug, Serialize)]
pub struct Level {
    /// Height in pixels.
    pub height: usize,
    /// Width.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Whether its blocks attend.
    pub attends: bool,
}

/// What is inside.
///
/// # Errors
/// Whatever the network refuses.
pub fn inside(subject: &Subject) -> Result<Inside> {
    let unet = match subject.model.network().config() {
        NetworkConfig::UNet(config) => Some(insight(subject, &config)?),
        NetworkConfig::Dit(_) => None,
    };
    Ok(Inside { unet, transformer: transformer::transformer()? })
}

/// The first picture at one t.
fn noised(subject: &Subject, t: usize) -> Array4<f32> {
    let (x_0, eps) = (subject.picture(0), subject.noise("eps", 0));
    shaped(x_0.dim(), q_sample(subject.schedule().level(t), flat(&x_0), flat(&eps)))
}

fn insight(subject: &Subject, config: &UNetConfig) -> Result<Insight> {
    let (network, label) = (subject.model.network(), subject.label(0));
    let traced = |t: usize| -> Result<Taps<f32>> {
        let (time, labels) = ([subject.schedule().level(t).time], label.map(|label| [label]));
        let conditions = Conditions { time: Time::Steps(&time), labels: labels.as_ref().map(|labels| &labels[..]) };
        Ok(network.forward_traced(subject.model.weights(), noised(subject, t), conditions)?.2)
    };
    let shown = traced(subject.shown_t())?;
    let levels = levels(config, &shown);
    let maps = subject.some_times().into_iter().map(|t| Ok(Maps { t, blocks: layers::maps(&traced(t)?) }));
    let attending = levels.iter().filter(|level| level.attends).count();
    Ok(Insight {
        attending,
        attending_height: levels.iter().rev().find(|level| level.attends).map_or(0, |level| level.height),
        lowest: levels.last().map_or(0, |level| level.height),
        levels,
        convolution: layers::convolution(subject, &shown),
        maps: maps.collect::<Result<_>>()?,
        attention: attention::attention(config, &shown),
        skips: [subject.some_times()[0], subject.shown_t()]
            .into_iter()
            .map(|t| skips::skips(subject, t))
            .collect::<Result<_>>()?,
    })
}

fn levels(config: &UNetConfig, taps: &Taps<f32>) -> Vec<Level> {
    let of = |i: usize| {
        let name = format!("down_blocks.{i}.resnets.0");
        let shape = taps.iter().find(|(tap, _)| *tap == name).expect("a block of this level").1.shape().to_vec();
        let attends = config.down_block_types[i].starts_with("Attn");
        Level { height: shape[1], width: shape[2], channels: config.block_out_channels[i], attends }
    };
    (0..config.block_out_channels.len()).map(of).collect()
}
