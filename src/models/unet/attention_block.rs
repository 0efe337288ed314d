//! Self-attention over the pixels of an image, diffusers' `Attention` with a residual connection.
//!
//! ```text
//! h = group_norm(x)                              pixels as tokens: (n, h·w, c)
//! y = (x + self_attention(h)) / scale_factor
//! ```
//!
//! # Derivation
//!
//! x goes two ways: dx is the norm's dx plus dy. Everything else is `SelfAttention`'s rule and the norm's. Proven by central
//! differences of the whole network and PyTorch's gradients of every parameter.

use ndarray::{Array4, Ix4};

use super::res_block::divide;
use crate::layers::group_norm::{self, GroupNorm};
use crate::layers::{Kept, Layout, ParameterVector, Weights, add_to};
use crate::models::Trace;
use crate::models::self_attention::{self, SelfAttention};
use crate::numerics::Real;
use crate::numerics::buffer_pool;

/// A norm, four projections and the number of heads.
#[derive(Clone, Debug)]
pub struct AttentionBlock {
    group_norm: Option<GroupNorm>,
    attention: SelfAttention,
    scale_factor: f64,
}

/// What the backward pass needs.
#[derive(Debug)]
pub struct Cache<F: Real> {
    group_norm: Option<group_norm::Cache<F>>,
    attention: self_attention::Cache<F>,
}

impl AttentionBlock {
    /// Attention of c/head_dim heads over `channels` channels; without `groups` there is no norm.
    pub fn new(
        layout: &mut Layout,
        name: &str,
        channels: usize,
        head_dim: usize,
        groups: Option<usize>,
        norm_eps: f64,
        scale_factor: f64,
    ) -> Self {
        AttentionBlock {
            group_norm: groups.map(|g| GroupNorm::new(layout, &format!("{name}.group_norm"), channels, g, norm_eps)),
            attention: SelfAttention::new(layout, name, channels, (channels / head_dim, head_dim), true),
            scale_factor,
        }
    }

    /// y of the equations above; `follows` if a backward pass does.
    ///
    /// # Shapes
    /// x (n, h, w, c) to y of the same shape.
    pub fn forward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        x: impl Into<Kept<F, Ix4>>,
        follows: bool,
        trace: &mut Trace<F>,
    ) -> (Array4<F>, Cache<F>) {
        let x = x.into();
        let (n, height, width, c) = x.dim();
        let pixels = n * height * width;
        let (h, group_norm) = match &self.group_norm {
            Some(norm) => {
                let (h, cache) = norm.forward(w, x.clone());
                trace.layer(norm.weight, &h);
                (h, Some(cache))
            }
            None => (buffer_pool::clone(&x), None),
        };
        let h = h.into_shape_with_order((pixels, c)).expect("pixels as rows");
        let (y, attention) = self.attention.forward(w, h, n, follows, trace);
        let mut y = y.into_shape_with_order((n, height, width, c)).expect("rows as pixels");
        trace.layer(self.attention.to_out.weight, &y);
        add_to(&mut y, &x);
        divide(&mut y, self.scale_factor);
        trace.block(self.attention.to_qkv[0].weight, &y);
        (y, Cache { group_norm, attention })
    }

    /// dx, with the gradients of the parameters added into `grads`.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        cache: Cache<F>,
        dy: impl Into<Kept<F, Ix4>>,
        grads: &mut ParameterVector<F>,
    ) -> Array4<F> {
        let mut dy = dy.into().into_owned();
        divide(&mut dy, self.scale_factor);
        let (n, height, width, c) = dy.dim();
        let pixels = n * height * width;
        let dy = Kept::from(dy.into_shape_with_order((pixels, c)).expect("pixels as rows"));
        let dh = self.attention.backward(w, cache.attention, dy.clone(), grads);
        let mut dx = dh.into_shape_with_order((n, height, width, c)).expect("rows as pixels");
        if let (Some(norm), Some(cache)) = (&self.group_norm, cache.group_norm) {
            dx = norm.backward(w, cache, dx, grads);
        }
        let dy = dy.into_owned().into_shape_with_order((n, height, width, c)).expect("rows as pixels");
        add_to(&mut dx, &dy);
        buffer_pool::give(dy);
        dx
    }
}
