//! What layers hold: the first convolution, number by number, and some channels of each level.

use ndarray::{Array4, Ix4};
use serde::Serialize;

use crate::layers::flat;
use crate::layers::parameters::Axes;
use crate::lesson::numbers::Numbers;
use crate::lesson::subject::Subject;
use crate::models::Taps;

/// Channels that are shown of each level.
const SHOWN: usize = 4;

/// The most output channels of the first convolution that a page carries.
const CONVOLVED: usize = 16;

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

/// The first convolution, in what a look at the shown t left.
pub(super) fn convolution(subject: &Subject, taps: &Taps<f32>) -> Convolution {
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
pub(super) fn maps(taps: &Taps<f32>) -> Vec<(String, Numbers)> {
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
