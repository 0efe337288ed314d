//! The diffusion transformer of Peebles & Xie 2023 as diffusers' `DiTTransformer2DModel` defines it, with the same parameter
//! names.
//!
//! ```text
//! tokens = patches of x · W + b + positions
//! tokens = block_i(tokens, c_i)                         c_i: time and class, as block i embeds them
//! [shift, scale] = proj_out_1(silu(c_0))
//! output = the image whose patches are proj_out_2(norm(tokens) (1 + scale) + shift)
//! ```
//!
//! Tokens are the rows of one matrix, those of an image one after the other. A patch is embedded by a convolution whose
//! stride is its kernel. Positions are added and have no gradient, so the gradient of the tokens goes past them. c_0 is
//! read twice, by block 0 and by the last modulation, so its gradient is the sum of both.
//!
//! The labels are those of the classes and, last, "no class". Which images are told that instead of their class while training
//! (Ho & Salimans 2021) is the caller's to decide; diffusers drops labels block by block.

mod block;
mod build;
pub mod config;
mod cost;
mod embedder;

use ndarray::{Array2, Array4, Ix2, Ix4};

use crate::Result;
use crate::layers::activation::{silu, silu_backward};
use crate::layers::conv2d::{self, Conv2d};
use crate::layers::dropout::Key;
use crate::layers::layer_norm::{self, layer_norm_backward, normalise};
use crate::layers::linear::{self, Linear};
use crate::layers::modulate::{modulate, modulate_backward};
use crate::layers::patch::{patchify, unpatchify};
use crate::layers::position::positions;
use crate::layers::{GradientSink, Kept, Layout, ParameterVector, Weights, add_to, flat, flat_mut};
use crate::models::passes::{Pass, passes};
use crate::models::{Conditions, Taps, Time, Trace};
use crate::numerics::{Real, parallel};
pub(crate) use block::Block;
use block::{NORM_EPS, tokens};
pub use config::DitConfig;
pub(crate) use embedder::{Embedder, SINUSOIDS};

/// The architecture: which layers there are and where their parameters lie. It holds no numbers.
#[derive(Clone, Debug)]
pub struct Dit {
    /// What it was built from.
    pub config: DitConfig,
    /// Its parameters' names, shapes and places.
    pub layout: Layout,
    patch_proj: Conv2d,
    blocks: Vec<(Embedder, Block)>,
    out_modulation: Linear,
    out: Linear,
}

/// The caches of a forward pass.
#[derive(Debug)]
pub struct Tape<F: Real> {
    patch_proj: conv2d::Cache<F>,
    blocks: Vec<BlockCache<F>>,
    last: LastCache<F>,
}

/// Of each block: c, and the caches of what made it and of what read it.
#[derive(Debug)]
struct BlockCache<F: Real> {
    c: Kept<F, Ix2>,
    embedder: embedder::Cache<F>,
    block: block::Cache<F>,
}

/// Of what follows the blocks.
#[derive(Debug)]
struct LastCache<F: Real> {
    c: Kept<F, Ix2>,
    modulation: linear::Cache<F>,
    u: Kept<F, Ix2>,
    norm: layer_norm::Cache<F>,
    out: linear::Cache<F>,
}

/// The parts of u after the blocks: shift, scale.
const LAST: [usize; 2] = [0, 1];

passes!(Dit, layout);

impl Dit {
    pub(super) fn checked<F: Real>(&self, x: Array4<F>, conditions: Conditions) -> Result<Array4<F>> {
        let (_, h, w, _) = x.dim();
        self.config.check_image((h, w), "image size")?;
        conditions.checked(x, self.config.in_channels, Some(self.config.labels()))
    }

    /// The tape has no blocks where it is not to keep them.
    pub(super) fn run<F: Real>(
        &self,
        w: &dyn Weights<F>,
        x: Array4<F>,
        conditions: Conditions,
        pass: Pass,
    ) -> (Array4<F>, Tape<F>, Trace<F>) {
        let mut trace = if pass.traced { Trace::on() } else { Trace::off() };
        let (n, height, width, _) = x.dim();
        let labels = conditions.labels.expect("checked");
        let sinusoids = Kept::from(match conditions.time {
            Time::Steps(t) => SINUSOIDS.embed(t),
            Time::Embedded(embedding) => embedding.mapv(F::from_f64),
        });
        let (y, patch_proj) = self.patch_proj.forward(w, x);
        trace.layer(self.patch_proj.weight, &y);
        let (_, rows, columns, channels) = y.dim();
        let mut x = y.into_shape_with_order((n * rows * columns, channels)).expect("patches as rows");
        self.add_positions(&mut x, (rows, columns));
        trace.module(|| ("pos_embed".into(), tokens(&x, n)));

        let (mut first_c, mut blocks) = (None, Vec::new());
        for (embedder, block) in &self.blocks {
            let (c, embedder) = embedder.forward(w, sinusoids.clone(), labels, &mut trace);
            let c = Kept::from(c);
            first_c.get_or_insert_with(|| c.clone());
            let (y, block) = block.forward(w, x, c.clone(), pass.key, pass.keeps, &mut trace);
            x = y;
            if pass.keeps {
                blocks.push(BlockCache { c, embedder, block });
            }
        }
        let c = first_c.expect("a block");
        let (u, modulation) = self.out_modulation.forward(w, silu(c.clone()));
        let u = Kept::from(u);
        trace.layer(self.out_modulation.weight, &u);
        let norm = normalise(x, NORM_EPS);
        trace.module(|| ("norm_out".into(), tokens(&norm.x_hat(), n)));
        let (y, out) = self.out.forward(w, modulate(norm.x_hat(), u.clone(), LAST));
        let y = y.into_shape_with_order((n, rows * columns, self.length_of_patch())).expect("rows as tokens");
        trace.layer(self.out.weight, &y);
        let image = unpatchify(y, self.config.patch_size, (height, width));
        (image, Tape { patch_proj, blocks, last: LastCache { c, modulation, u, norm, out } }, trace)
    }

    /// Numbers of a patch of the output.
    fn length_of_patch(&self) -> usize {
        self.config.patch_size * self.config.patch_size * self.config.channels_out()
    }

    /// x + the positions, in every image.
    fn add_positions<F: Real>(&self, x: &mut Array2<F>, grid: (usize, usize)) {
        let channels = x.ncols();
        let table = positions::<F>(grid, self.config.sample_size / self.config.patch_size, channels);
        let size = table.len();
        parallel::in_parts(flat_mut(x), size, channels, |at, x| {
            x.iter_mut().zip(&flat(&table)[at % size..]).for_each(|(x, &position)| *x += position);
        });
    }

    /// Gradients of all parameters, added into `grads`; and that of x, where it is wanted.
    pub(super) fn back<F: Real>(
        &self,
        w: &dyn Weights<F>,
        tape: Tape<F>,
        labels: Option<&[usize]>,
        dy: Kept<F, Ix4>,
        grads: &mut dyn GradientSink<F>,
        wants_dx: bool,
    ) -> Option<Array4<F>> {
        let (patch_proj, d_patches) = self.backward_to_patches(w, tape, labels, dy, grads);
        if wants_dx {
            return Some(self.patch_proj.backward(w, patch_proj, d_patches, grads.grads()));
        }
        self.patch_proj.parameter_gradients(patch_proj, d_patches, grads.grads());
        None
    }

    /// The gradient of what came out of the patches' projection, and the cache of that.
    fn backward_to_patches<F: Real>(
        &self,
        w: &dyn Weights<F>,
        Tape { patch_proj, blocks, last }: Tape<F>,
        labels: Option<&[usize]>,
        dy: Kept<F, Ix4>,
        grads: &mut dyn GradientSink<F>,
    ) -> (conv2d::Cache<F>, Array4<F>) {
        assert_eq!(blocks.len(), self.blocks.len(), "tape: a cache for each block");
        let labels = labels.expect("the labels of the forward pass");
        let (n, height, width, _) = dy.dim();
        let (rows, columns) = (height / self.config.patch_size, width / self.config.patch_size);

        let d_tokens = patchify(dy, self.config.patch_size);
        let d_rows = d_tokens.into_shape_with_order((n * rows * columns, self.length_of_patch())).expect("rows");
        let dh = self.out.backward(w, last.out, d_rows, grads.grads());
        let mut du = Array2::zeros(last.u.dim());
        let dn = modulate_backward(last.norm.x_hat(), last.u, LAST, dh, &mut du);
        let mut dx = layer_norm_backward(last.norm, dn);
        let d_silu = self.out_modulation.backward(w, last.modulation, du, grads.grads());
        grads.finished(self.out_modulation.weight.start);
        let d_first_c = silu_backward(last.c, d_silu);

        for (i, ((embedder, block), cache)) in self.blocks.iter().zip(blocks).enumerate().rev() {
            let (d_before, mut dc) = block.backward(w, cache.block, cache.c, dx, grads.grads());
            dx = d_before;
            if i == 0 {
                add_to(&mut dc, &d_first_c);
            }
            embedder.backward(w, cache.embedder, labels, dc, grads.grads());
            grads.finished(embedder.place());
        }
        let channels = dx.ncols();
        (patch_proj, dx.into_shape_with_order((n, rows, columns, channels)).expect("rows as patches"))
    }
}
