//! The U-Net of Ho et al. 2020 (appendix B) as diffusers' `UNet2DModel` defines it, with the same parameter names.
//!
//! ```text
//! emb of time and class ([`embedder`]) to every residual block
//! conv_in ── level 0 ────────────────────── skips ──────────────────── level 0 ── norm, silu, conv_out
//!               └─ half ── level 1 ──────── skips ──────── level 1 ── double ─┘
//!                             └─ half ─ ... ─ middle ─ ... ─ double ─┘
//! ```
//!
//! On the way down every block's result is kept; on the way up each block first takes the last kept one beside its
//! input, along the channels. So in the backward pass a kept result has two gradients, from its two readers, which add.
//!
//! The caches of a forward pass are a stack, [`Tape`]: forward pushes in order, backward pops in reverse. A pass
//! without gradients drops each cache where it would be pushed.

pub mod attention_block;
mod build;
pub mod config;
mod cost;
mod embedder;
pub mod res_block;
mod tape;

use ndarray::{Array2, Array4, Ix2, Ix4};

use super::passes::{Pass, passes};
use super::{Conditions, Taps, Trace};
use crate::Result;
use crate::layers::conv2d::Conv2d;
use crate::layers::dropout::Key;
use crate::layers::embedding::TimeEmbedding;
use crate::layers::group_norm::GroupNorm;
use crate::layers::resample::{
    concat_channels, split_channels, upsample_nearest_2x_backward, upsample_nearest_2x_padded,
};
use crate::layers::{GradientSink, Layout, ParameterVector, Weights, add_to};
use crate::numerics::Real;
use crate::numerics::buffer_pool::{self, Kept};
use attention_block::AttentionBlock;
pub use config::{SampleSize, UNetConfig};
use embedder::Embedder;
use res_block::ResBlock;
pub use tape::Tape;

/// The architecture: which layers there are and where their parameters lie. It holds no numbers.
#[derive(Clone, Debug)]
pub struct UNet {
    /// What it was built from.
    pub config: UNetConfig,
    /// Its parameters' names, shapes and places.
    pub layout: Layout,
    conv_in: Conv2d,
    embedder: Embedder,
    down: Vec<Level>,
    middle: Option<Level>,
    up: Vec<Level>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

/// The blocks at one resolution, and what changes it.
#[derive(Clone, Debug)]
struct Level {
    blocks: Vec<(ResBlock, Option<AttentionBlock>)>,
    resample: Option<Change>,
}

/// What changes the resolution.
#[derive(Clone, Debug)]
enum Change {
    /// A convolution with a stride of 2 on the way down; on the way up each pixel four times, and a convolution.
    Conv(Conv2d),
    /// A residual block.
    Block(Box<ResBlock>),
}

passes!(UNet, layout);

impl UNet {
    /// The sinusoids of time that it is fed.
    pub(super) fn sinusoids(&self) -> &TimeEmbedding {
        &self.embedder.sinusoids
    }

    /// x as layers take it, without gaps, if it and its conditions are what the network takes.
    pub(super) fn checked<F: Real>(&self, x: Array4<F>, conditions: Conditions) -> Result<Array4<F>> {
        let (_, h, w, _) = x.dim();
        self.config.check_image((h, w), "image size")?;
        conditions.checked(x, self.config.in_channels, self.config.num_class_embeds)
    }

    pub(super) fn run<F: Real>(
        &self,
        w: &dyn Weights<F>,
        x: Array4<F>,
        conditions: Conditions,
        pass: Pass,
    ) -> (Array4<F>, Tape<F>, Trace<F>) {
        let mut tape = Tape::new(pass);
        let y = self.through(w, x, conditions, pass.key, &mut tape);
        let trace = std::mem::replace(&mut tape.trace, Trace::off());
        (y, tape, trace)
    }

    fn through<F: Real>(
        &self,
        w: &dyn Weights<F>,
        x: Array4<F>,
        conditions: Conditions,
        key: Option<Key>,
        tape: &mut Tape<F>,
    ) -> Array4<F> {
        let (silu_emb, cache) = self.embedder.forward(w, conditions, &mut tape.trace);
        tape.embedding(cache);
        let (two, one) = (F::from_f64(2.0), F::one());
        let x = if self.config.center_input_sample { x.mapv_into(|x| two * x - one) } else { x };

        let (y, cache) = self.conv_in.forward(w, x);
        tape.trace.layer(self.conv_in.weight, &y);
        tape.conv(cache);
        let mut h = Kept::from(y);
        let mut kept = vec![h.clone()];
        for level in &self.down {
            for blocks in &level.blocks {
                h = run_blocks(blocks, w, h, &silu_emb, key, tape);
                kept.push(h.clone());
            }
            if let Some(half) = &level.resample {
                h = match half {
                    Change::Conv(half) => {
                        let (y, cache) = half.forward(w, h);
                        tape.trace.layer(half.weight, &y);
                        tape.conv(cache);
                        y.into()
                    }
                    Change::Block(block) => run_res(block, w, h, &silu_emb, key, tape).into(),
                };
                kept.push(h.clone());
            }
        }
        for blocks in self.middle.iter().flat_map(|middle| &middle.blocks) {
            h = run_blocks(blocks, w, h, &silu_emb, key, tape);
        }
        for level in &self.up {
            for blocks in &level.blocks {
                let skip = kept.pop().expect("as many results kept as blocks on the way up");
                tape.concat(h.dim().3);
                h = run_blocks(blocks, w, concat_channels(h, skip).into(), &silu_emb, key, tape);
            }
            if let Some(double) = &level.resample {
                h = match double {
                    Change::Conv(double) => {
                        let doubled = upsample_nearest_2x_padded(h, double.window.padding());
                        let (y, cache) = double.forward_padded(w, doubled);
                        tape.trace.layer(double.weight, &y);
                        tape.conv(cache);
                        y.into()
                    }
                    Change::Block(block) => run_res(block, w, h, &silu_emb, key, tape).into(),
                };
            }
        }
        tape.trace.layer_of(self.conv_norm_out.weight, || self.conv_norm_out.forward(w, h.clone()).0);
        let (padded, cache) = self.conv_norm_out.forward_silu_padded(w, h, self.conv_out.window.padding());
        tape.norm(cache);
        let (y, cache) = self.conv_out.forward_padded(w, padded);
        tape.conv(cache);
        y
    }

    /// Gradients of all parameters, added into `grads`; and that of x, where it is wanted.
    pub(super) fn back<F: Real>(
        &self,
        w: &dyn Weights<F>,
        mut tape: Tape<F>,
        labels: Option<&[usize]>,
        dy: Kept<F, Ix4>,
        grads: &mut dyn GradientSink<F>,
        wants_dx: bool,
    ) -> Option<Array4<F>> {
        let (dh, d_silu_emb) = self.backward_to_conv_in(w, &mut tape, dy, grads);
        let mut dx = None;
        if wants_dx {
            dx = Some(self.conv_in.backward(w, tape.pop_conv(), dh, grads.grads()));
        } else {
            self.conv_in.parameter_gradients(tape.pop_conv(), dh, grads.grads());
        }
        if self.config.center_input_sample {
            dx.iter_mut().for_each(|dx| dx.mapv_inplace(|dx| dx + dx));
        }
        self.embedder.backward(w, tape.pop_embedding(), labels, d_silu_emb, grads.grads());
        dx
    }

    /// The gradients of what came out of `conv_in`, and of silu(emb).
    fn backward_to_conv_in<F: Real>(
        &self,
        w: &dyn Weights<F>,
        tape: &mut Tape<F>,
        dy: Kept<F, Ix4>,
        grads: &mut dyn GradientSink<F>,
    ) -> (Array4<F>, Array2<F>) {
        let mut d_silu_emb = Array2::zeros((dy.dim().0, self.config.time_channels()));
        let dh = self.conv_out.backward(w, tape.pop_conv(), dy, grads.grads());
        let mut dh = self.conv_norm_out.backward_silu(w, tape.pop_norm(), dh, grads.grads());
        grads.finished(self.conv_norm_out.weight.start);

        let mut d_kept = Vec::new();
        for level in self.up.iter().rev() {
            if let Some(double) = &level.resample {
                dh = match double {
                    Change::Conv(double) => {
                        upsample_nearest_2x_backward(double.backward(w, tape.pop_conv(), dh, grads.grads()))
                    }
                    Change::Block(block) => block.backward(w, tape.pop_res(), dh, &mut d_silu_emb, grads.grads()),
                };
            }
            for blocks in level.blocks.iter().rev() {
                let d_both = run_blocks_backward(blocks, w, tape, dh, &mut d_silu_emb, grads);
                let (d, d_skip) = split_channels(d_both, tape.pop_concat());
                dh = d;
                d_kept.push(d_skip);
            }
        }
        for blocks in self.middle.iter().flat_map(|middle| middle.blocks.iter().rev()) {
            dh = run_blocks_backward(blocks, w, tape, dh, &mut d_silu_emb, grads);
        }
        // The last block on the way up took the first result kept: its gradient was pushed first and is taken last.
        let mut take = || d_kept.pop().expect("a gradient for each result kept");
        for level in self.down.iter().rev() {
            if let Some(half) = &level.resample {
                add_gradient(&mut dh, take());
                dh = match half {
                    Change::Conv(half) => half.backward(w, tape.pop_conv(), dh, grads.grads()),
                    Change::Block(block) => block.backward(w, tape.pop_res(), dh, &mut d_silu_emb, grads.grads()),
                };
            }
            for blocks in level.blocks.iter().rev() {
                add_gradient(&mut dh, take());
                dh = run_blocks_backward(blocks, w, tape, dh, &mut d_silu_emb, grads);
            }
        }
        add_gradient(&mut dh, take());
        (dh, d_silu_emb)
    }
}

/// dh + d, whose memory is then free.
fn add_gradient<F: Real>(dh: &mut Array4<F>, d: Array4<F>) {
    add_to(dh, &d);
    buffer_pool::give(d);
}

fn run_blocks<F: Real>(
    (res, attention): &(ResBlock, Option<AttentionBlock>),
    w: &dyn Weights<F>,
    h: Kept<F, Ix4>,
    silu_emb: &Kept<F, Ix2>,
    key: Option<Key>,
    tape: &mut Tape<F>,
) -> Kept<F, Ix4> {
    let mut y = run_res(res, w, h, silu_emb, key, tape);
    if let Some(attention) = attention {
        let (attended, cache) = attention.forward(w, y, tape.keeps, &mut tape.trace);
        tape.attention(cache);
        y = attended;
    }
    y.into()
}

fn run_res<F: Real>(
    res: &ResBlock,
    w: &dyn Weights<F>,
    h: Kept<F, Ix4>,
    silu_emb: &Kept<F, Ix2>,
    key: Option<Key>,
    tape: &mut Tape<F>,
) -> Array4<F> {
    let (y, cache) = res.forward(w, h, silu_emb.clone(), key, &mut tape.trace);
    tape.res(cache);
    y
}

fn run_blocks_backward<F: Real>(
    (res, attention): &(ResBlock, Option<AttentionBlock>),
    w: &dyn Weights<F>,
    tape: &mut Tape<F>,
    mut dh: Array4<F>,
    d_silu_emb: &mut Array2<F>,
    grads: &mut dyn GradientSink<F>,
) -> Array4<F> {
    if let Some(attention) = attention {
        dh = attention.backward(w, tape.pop_attention(), dh, grads.grads());
    }
    let dx = res.backward(w, tape.pop_res(), dh, d_silu_emb, grads.grads());
    grads.finished(res.place());
    dx
}
