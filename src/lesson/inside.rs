//! Chapter 10: inside of the network: a convolution as its sums, what each level holds, attention, skips.

use ndarray::{Array3, Array4, Ix3, Ix4};
use serde::Serialize;

use super::numbers::Numbers;
use super::subject::Subject;
use crate::Result;
use crate::denoise::{Denoiser, NetworkDenoiser};
use crate::diffusion::q_sample;
use crate::layers::parameters::Axes;
use crate::layers::softmax::softmax;
use crate::layers::{ParameterVector, flat, shaped};
use crate::models::{Conditions, Dit, DitConfig, Network, Taps, Time, UNetConfig};
use crate::numerics::gemm::{Epilogue, Matrix, matrix_product};

/// Channels that are shown of each level.
const SHOWN: usize = 4;

/// The most output channels of the first convolution that a page carries.
const CONVOLVED: usize = 16;

/// The most tokens of an attention that a page carries.
const TOKENS: usize = 64;

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

/// The first convolution at the shown t, and what it makes of x_t.
#[derive(Clone, Debug, Serialize)]
pub struct Convolution {
    /// Channels that it makes.
    pub channels: usize,
    /// How many of them are here.
    pub shown: usize,
    /// Its weights (3, 3, in, shown).
    pub weight: Numbers,
    /// Its biases.
    pub bias: Numbers,
    /// What comes out (h, w, shown).
    pub output: Numbers,
}

/// What some blocks hold at one t.
#[derive(Clone, Debug, Serialize)]
pub struct Maps {
    /// The time.
    pub t: usize,
    /// Of each block: its name, and channels from its least number (black) to its greatest (white), as bytes (channels, h, w, 1).
    pub blocks: Vec<(String, Numbers)>,
}

/// Who attends to whom, for the first head.
#[derive(Clone, Debug, Serialize)]
pub struct Attention {
    /// The module.
    pub name: String,
    /// Rows and columns of tokens.
    pub grid: [usize; 2],
    /// Channels of the head.
    pub channels: usize,
    /// Heads.
    pub heads: usize,
    /// Queries (tokens, channels).
    pub q: Numbers,
    /// Keys.
    pub k: Numbers,
    /// softmax(q kᵀ/√d), (tokens, tokens).
    pub p: Numbers,
    /// The largest of them.
    pub most: f64,
}

/// The picture that is made out, with the skips and without.
#[derive(Clone, Debug, Serialize)]
pub struct Skips {
    /// The time.
    pub t: usize,
    /// x̂₀ as bytes: with the skips, without.
    pub pictures: Numbers,
    /// The error of ε̂ with the skips.
    pub mse: f64,
    /// Without.
    pub mse_without: f64,
}

/// A small transformer that nobody trained.
#[derive(Clone, Debug, Serialize)]
pub struct Transformer {
    /// Side of a patch.
    pub patch: usize,
    /// Tokens of a picture.
    pub tokens: usize,
    /// Blocks.
    pub blocks: usize,
    /// Channels of a token.
    pub channels: usize,
    /// Heads.
    pub heads: usize,
    /// Parameters.
    pub parameters: usize,
    /// The largest number of its output before training.
    pub largest_output: f64,
}

/// What is inside.
///
/// # Errors
/// Whatever the network refuses.
pub fn inside(subject: &Subject) -> Result<Inside> {
    let unet = match subject.model.network().config() {
        crate::models::NetworkConfig::UNet(config) => Some(insight(subject, &config)?),
        crate::models::NetworkConfig::Dit(_) => None,
    };
    Ok(Inside { unet, transformer: transformer()? })
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
    let maps = subject.some_times().into_iter().map(|t| Ok(Maps { t, blocks: maps(&traced(t)?) }));
    let attending = levels.iter().filter(|level| level.attends).count();
    Ok(Insight {
        attending,
        attending_height: levels.iter().rev().find(|level| level.attends).map_or(0, |level| level.height),
        lowest: levels.last().map_or(0, |level| level.height),
        levels,
        convolution: convolution(subject, &shown),
        maps: maps.collect::<Result<_>>()?,
        attention: attention(config, &shown),
        skips: [subject.some_times()[0], subject.shown_t()]
            .into_iter()
            .map(|t| skips(subject, t))
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

fn convolution(subject: &Subject, taps: &Taps<f32>) -> Convolution {
    let (network, w) = (subject.model.network(), subject.model.weights());
    let find = |name: &str| network.layout().entries.iter().find(|entry| entry.name == name).expect("a U-Net's layer");
    let (weight, bias) = (find("conv_in.weight"), find("conv_in.bias"));
    let Axes::Conv { kernel: (kh, kw), c_in, c_out } = weight.axes else { unreachable!("a convolution's weight") };
    let shown = c_out.min(CONVOLVED);
    let first = |numbers: &[f32]| -> Vec<f32> { numbers.chunks(c_out).flat_map(|row| row[..shown].to_vec()).collect() };
    let output = taps.iter().find(|(name, _)| name == "conv_in").expect("the first layer").1.clone();
    let output: Array4<f32> = output.into_dimensionality::<Ix4>().expect("an image");
    let (_, h, width, _) = output.dim();
    Convolution {
        channels: c_out,
        shown,
        weight: Numbers::f32(&[kh, kw, c_in, shown], &first(&w[weight.span])),
        bias: Numbers::f32(&[shown], &first(&w[bias.span])),
        output: Numbers::f32(&[h, width, shown], &first(flat(&output))),
    }
}

/// Some channels of the last block of each part.
fn maps(taps: &Taps<f32>) -> Vec<(String, Numbers)> {
    let part = |name: &str| name.split(".resnets").next().and_then(|n| n.split(".attentions").next()).map(String::from);
    let blocks: Vec<(String, Array4<f32>)> = taps
        .iter()
        .filter(|(name, _)| {
            let tail = name.rsplit('.').nth(1);
            matches!(tail, Some("resnets" | "attentions"))
        })
        .filter_map(|(name, y)| Some((part(name)?, y.clone().into_dimensionality::<Ix4>().ok()?)))
        .collect();
    let is_last = |i: &usize| blocks.get(i + 1).is_none_or(|next| next.0 != blocks[*i].0);
    let shown = |i: usize| {
        let (name, y) = &blocks[i];
        let (_, h, w, c) = y.dim();
        let mut bytes = Vec::new();
        for channel in 0..SHOWN.min(c) {
            let map: Vec<f32> = flat(y).iter().skip(channel).step_by(c).copied().collect();
            let (low, high) =
                map.iter().fold((map[0], map[0]), |(l, g), &x| (if x < l { x } else { l }, if x > g { x } else { g }));
            let spread = if high > low { high - low } else { 1.0 };
            bytes.extend(map.iter().map(|&x| crate::report::pixels::level(2.0 * (x - low) / spread - 1.0)));
        }
        (name.clone(), Numbers::bytes(&[SHOWN.min(c), h, w, 1], bytes))
    };
    (0..blocks.len()).filter(is_last).map(shown).collect()
}

fn attention(config: &UNetConfig, taps: &Taps<f32>) -> Option<Attention> {
    let (name, q) = taps.iter().find(|(name, _)| name.starts_with("mid_block") && name.ends_with(".to_q"))?;
    let module = name.strip_suffix(".to_q")?;
    let k = &taps.iter().find(|(tap, _)| *tap == format!("{module}.to_k"))?.1;
    let three = |x: &ndarray::ArrayD<f32>| x.clone().into_dimensionality::<Ix3>().ok();
    let (q, k): (Array3<f32>, Array3<f32>) = (three(q)?, three(k)?);
    let (_, tokens, inner) = q.dim();
    if tokens > TOKENS {
        return None;
    }
    let shape = taps.iter().find(|(tap, _)| tap == "mid_block.resnets.0")?.1.shape().to_vec();
    let channels = config.attention_head_dim.unwrap_or(inner);
    let head =
        |x: &Array3<f32>| -> Vec<f32> { flat(x).chunks(inner).flat_map(|row| row[..channels].to_vec()).collect() };
    let (q, k) = (head(&q), head(&k));
    let mut p = vec![0.0f32; tokens * tokens];
    let matrix = |x| Matrix::new(x, tokens, channels);
    matrix_product(matrix(&q), matrix(&k).t(), &mut p, tokens, Epilogue::Overwrite);
    let scale = (1.0 / (channels as f64).sqrt()) as f32;
    p.iter_mut().for_each(|s| *s *= scale);
    softmax(&mut p, tokens);
    Some(Attention {
        name: module.to_string(),
        grid: [shape[1], shape[2]],
        channels,
        heads: inner / channels,
        q: Numbers::f32(&[tokens, channels], &q),
        k: Numbers::f32(&[tokens, channels], &k),
        most: p.iter().copied().fold(0.0, |most, p| if f64::from(p) > most { f64::from(p) } else { most }),
        p: Numbers::f32(&[tokens, tokens], &p),
    })
}

/// x̂₀ with the skips, and with the numbers that read them set to zero.
fn skips(subject: &Subject, t: usize) -> Result<Skips> {
    let model = subject.model;
    let (x_t, level, labels) = (noised(subject, t), subject.schedule().level(t), subject.label(0).map(|label| [label]));
    let labels = labels.as_ref().map(|labels| &labels[..]);
    let eps = subject.noise("eps", 0);
    let cut = without_skips(model.network(), model.weights());
    let see = |weights: &ParameterVector<f32>| -> Result<(Array4<f32>, f64)> {
        let denoiser = NetworkDenoiser { network: model.network(), weights, prediction: model.scheduler().prediction };
        let output = denoiser.predict(&x_t, &[level], labels)?;
        let hat = output.prediction.eps_hat(level.marginal(), flat(&x_t), flat(&output.value));
        let squares: Vec<f64> = hat.iter().zip(flat(&eps)).map(|(a, b)| f64::from(a - b)).collect();
        let mse = crate::numerics::sum::sum_of_squares(&squares) / squares.len() as f64;
        Ok((subject.estimate(&x_t, level, &output).x_0_hat, mse))
    };
    let ((with, mse), (without, mse_without)) = (see(model.weights())?, see(&cut)?);
    let both = ndarray::concatenate(ndarray::Axis(0), &[with.view(), without.view()]).expect("two of one shape");
    Ok(Skips { t, pictures: Numbers::picture(both.view()), mse, mse_without })
}

/// The weights with zeros for all that reads a skip: on the way up, the input channels that are taken from the way down.
fn without_skips(network: &Network, weights: &ParameterVector<f32>) -> ParameterVector<f32> {
    let mut cut = weights.clone();
    let mut before = None; // channels that come from below
    for entry in &network.layout().entries {
        let Axes::Conv { c_in, c_out, .. } = entry.axes else { continue };
        if entry.name == "mid_block.resnets.1.conv2.weight" || entry.name == "mid_block.resnets.0.conv2.weight" {
            before = Some(c_out);
        }
        let parts: Vec<&str> = entry.name.split('.').collect();
        if parts[0] != "up_blocks" {
            continue;
        }
        if let (["conv1" | "conv_shortcut", "weight"], Some(own)) = (&parts[parts.len() - 2..], before)
            && c_in > own
        {
            for (row, numbers) in cut[entry.span].chunks_mut(c_out).enumerate() {
                if row % c_in >= own {
                    numbers.fill(0.0);
                }
            }
        }
        // What a block makes goes on to the next; its shortcut still reads what came to it.
        if parts[parts.len() - 2] == "conv2" && !has_shortcut(network, &entry.name)
            || parts[parts.len() - 2] == "conv_shortcut"
        {
            before = Some(c_out);
        }
    }
    cut
}

/// Whether the block of this second convolution has a shortcut with weights.
fn has_shortcut(network: &Network, conv2: &str) -> bool {
    let name = conv2.replace("conv2", "conv_shortcut");
    network.layout().entries.iter().any(|entry| entry.name == name)
}

/// A transformer for pictures of 28 x 28, as it is before training.
fn transformer() -> Result<Transformer> {
    let config = DitConfig {
        num_attention_heads: 4,
        attention_head_dim: 16,
        in_channels: 1,
        num_layers: 4,
        sample_size: 28,
        patch_size: 4,
        num_embeds_ada_norm: 10,
        ..DitConfig::default()
    };
    let dit = Dit::new(config.clone())?;
    let weights: ParameterVector<f32> = dit.layout.initial(super::subject::SEED);
    let x = Array4::from_elem((1, 28, 28, 1), 0.5f32);
    let conditions = Conditions { time: Time::Steps(&[599.0]), labels: Some(&[3]) };
    let output = dit.predict(&weights, x, conditions)?;
    Ok(Transformer {
        patch: config.patch_size,
        tokens: (config.sample_size / config.patch_size) * (config.sample_size / config.patch_size),
        blocks: config.num_layers,
        channels: config.num_attention_heads * config.attention_head_dim,
        heads: config.num_attention_heads,
        parameters: dit.layout.count(),
        largest_output: output
            .iter()
            .fold(0.0, |most, y| if f64::from(y.abs()) > most { f64::from(y.abs()) } else { most }),
    })
}
