//! A residual block of a classifier (He et al. 2016, "Identity Mappings in Deep Residual Networks").
//!
//! ```text
//! h = conv1(silu(norm1(x)))                     every second pixel, where the block halves
//! h = h + level_proj(silu(emb))                 at every pixel, where noisy images are read
//! y = shortcut(x) + conv2(silu(norm2(h)))       shortcut: a 1x1 convolution where size or channels change
//! ```
//!
//! # Derivation
//!
//! Each line is a layer with its own rule. x goes two ways, so dx is the sum of both: dy through the shortcut, and dy back
//! through conv2, norm2, conv1, norm1. What is added at every pixel of an image has the sum over its pixels for a gradient
//! ([`per_image`](crate::layers::per_image)). Proven by central differences and by PyTorch's gradients.

use ndarray::{Array2, Array4, Ix2, Ix4};

use crate::layers::conv2d::{self, Conv2d};
use crate::layers::group_norm::{self, GroupNorm};
use crate::layers::im2col::Window;
use crate::layers::linear::{self, Linear};
use crate::layers::parameters::Init;
use crate::layers::per_image::{add_to_every_pixel, sum_over_pixels};
use crate::layers::{Kept, Layout, ParameterVector, Weights, add_to};
use crate::numerics::Real;

/// What all blocks of a classifier share.
#[derive(Clone, Copy, Debug)]
pub struct BlockSettings {
    /// Groups of both norms.
    pub groups: usize,
    /// Added to the variance under the root.
    pub norm_eps: f64,
    /// The length of the vector that says how noisy an image is, where noisy images are read.
    pub level_channels: Option<usize>,
}

/// Two norms, two convolutions, perhaps a projection of the noise level, perhaps a shortcut.
#[derive(Clone, Debug)]
pub struct Block {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    level_proj: Option<Linear>,
    conv_shortcut: Option<Conv2d>,
}

/// What the backward pass needs, in the order of the forward pass.
#[derive(Debug)]
pub struct Cache<F: Real> {
    shortcut: Option<conv2d::Cache<F>>,
    norm1: group_norm::Cache<F>,
    conv1: conv2d::Cache<F>,
    level: Option<linear::Cache<F>>,
    norm2: group_norm::Cache<F>,
    conv2: conv2d::Cache<F>,
}

impl Block {
    /// A block from `c_in` to `c_out` channels; `stride` 2 halves height and width, rounded up.
    ///
    /// # Panics
    /// If the groups divide not both numbers of channels, or `stride` is 0.
    pub fn new(
        layout: &mut Layout,
        name: &str,
        (c_in, c_out): (usize, usize),
        stride: usize,
        BlockSettings { groups, norm_eps, level_channels }: BlockSettings,
    ) -> Self {
        let mut conv = |part: &str, c_in, window| Conv2d::new(layout, &format!("{name}.{part}"), c_in, c_out, window);
        let conv_shortcut =
            (stride > 1 || c_in != c_out).then(|| conv("conv_shortcut", c_in, Window::square(1, stride, 0)));
        let conv1 = conv("conv1", c_in, Window::square(3, stride, 1));
        Block {
            conv_shortcut,
            conv1,
            norm1: GroupNorm::new(layout, &format!("{name}.norm1"), c_in, groups, norm_eps),
            norm2: GroupNorm::new(layout, &format!("{name}.norm2"), c_out, groups, norm_eps),
            conv2: Conv2d::with_init(
                layout,
                &format!("{name}.conv2"),
                c_out,
                c_out,
                Window::square(3, 1, 1),
                Init::Zeros,
            ),
            level_proj: level_channels.map(|c| Linear::new(layout, &format!("{name}.level_proj"), c, c_out)),
        }
    }

    /// y; `silu_emb` is silu(emb), where the block is told how noisy the images are.
    ///
    /// # Shapes
    /// x (n, h, w, c_in), silu_emb (n, level_channels), to y (n, ⌈h/stride⌉, ⌈w/stride⌉, c_out).
    ///
    /// # Panics
    /// If x has other channels than the block, or it lacks an emb that it is told.
    pub fn forward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        x: impl Into<Kept<F, Ix4>>,
        silu_emb: Option<&Kept<F, Ix2>>,
    ) -> (Array4<F>, Cache<F>) {
        let x = x.into();
        let (shortcut, of_shortcut) = match &self.conv_shortcut {
            Some(conv) => {
                let (y, cache) = conv.forward(w, x.clone());
                (Kept::from(y), Some(cache))
            }
            None => (x.clone(), None),
        };
        let (h, norm1) = self.norm1.forward_silu_padded(w, x, self.conv1.window.padding());
        let (mut h, conv1) = self.conv1.forward_padded(w, h);
        let level = self.level_proj.as_ref().map(|proj| {
            let (u, cache) = proj.forward(w, silu_emb.expect("an emb for a block that is told one").clone());
            add_to_every_pixel(&mut h, &u);
            cache
        });
        let (h, norm2) = self.norm2.forward_silu_padded(w, h, self.conv2.window.padding());
        let (mut y, conv2) = self.conv2.forward_padded(w, h);
        add_to(&mut y, &shortcut);
        (y, Cache { shortcut: of_shortcut, norm1, conv1, level, norm2, conv2 })
    }

    /// dx; the gradient of silu(emb) is added into `d_silu_emb`, those of the parameters into `grads`.
    ///
    /// # Panics
    /// If dy has another shape than y, or `d_silu_emb` is missing where the block is told an emb.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        cache: Cache<F>,
        dy: impl Into<Kept<F, Ix4>>,
        d_silu_emb: Option<&mut Array2<F>>,
        grads: &mut ParameterVector<F>,
    ) -> Array4<F> {
        let dy = dy.into();
        let dh = self.conv2.backward(w, cache.conv2, dy.clone(), grads);
        let dh = self.norm2.backward_silu(w, cache.norm2, dh, grads);
        if let (Some(proj), Some(cache)) = (&self.level_proj, cache.level) {
            let d_emb = d_silu_emb.expect("a gradient for the emb that the block is told");
            *d_emb += &proj.backward(w, cache, sum_over_pixels(&dh), grads);
        }
        let dh = self.conv1.backward(w, cache.conv1, dh, grads);
        let mut dx = self.norm1.backward_silu(w, cache.norm1, dh, grads);
        let direct = match (&self.conv_shortcut, cache.shortcut) {
            (Some(conv), Some(cache)) => conv.backward(w, cache, dy, grads).into(),
            _ => dy,
        };
        add_to(&mut dx, &direct);
        dx
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradient_check::check;
    use crate::numerics::rng::normal;

    #[test]
    fn block_gradients_equal_central_differences_with_and_without_a_shortcut() {
        for (channels, stride) in [((4, 4), 1), ((4, 6), 1), ((4, 4), 2)] {
            let mut layout = Layout::default();
            let settings = BlockSettings { groups: 2, norm_eps: 1e-5, level_channels: None };
            let block = Block::new(&mut layout, "block", channels, stride, settings);
            // conv2 begins with zeros, behind which nothing could be seen.
            let w = ParameterVector(normal(layout.count(), 1).mapv(|x| 0.5 * x).to_vec());
            check(
                &w,
                &normal((2, 5, 4, channels.0), 2),
                3,
                |w, x| block.forward(w, x, None),
                |w, cache, dy, grads| block.backward(w, cache, dy, None, grads),
            )
            .unwrap_or_else(|problem| panic!("{channels:?} by {stride}: {problem}"));
        }
    }
}
