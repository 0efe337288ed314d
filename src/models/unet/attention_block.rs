//! Self-attention over the pixels of an image, diffusers' `Attention` with a residual connection.
//!
//! ```text
//! h = group_norm(x)                              pixels as tokens: (n, h·w, c)
//! q, k, v = h W_q + b_q, h W_k + b_k, h W_v + b_v
//! y = (x + attention(q, k, v) W_o + b_o) / scale_factor
//! ```
//!
//! # Derivation
//!
//! h goes three ways: dh = dq W_qᵀ + dk W_kᵀ + dv W_vᵀ, added as (q + k) + v. x goes two ways: dx is the norm's dx plus dy. Everything
//! else is the layers' own rule. Proven by central differences of the whole network and PyTorch's gradients of every
//! parameter.

use ndarray::{Array4, Ix4};

use super::res_block::divide;
use crate::layers::attention::{self, attention, attention_backward};
use crate::layers::group_norm::{self, GroupNorm};
use crate::layers::linear::{self, Linear};
use crate::layers::parameters::Init;
use crate::layers::stopwatch::timed;
use crate::layers::{Kept, Layout, ParameterVector, Weights, add_to};
use crate::models::Trace;
use crate::numerics::Real;
use crate::numerics::buffer_pool;

/// A norm, four projections and the number of heads.
#[derive(Clone, Debug)]
pub struct AttentionBlock {
    group_norm: Option<GroupNorm>,
    to_qkv: [Linear; 3],
    to_out: Linear,
    heads: usize,
    inner: usize,
    scale_factor: f64,
}

/// What the backward pass needs.
#[derive(Debug)]
pub struct Cache<F: Real> {
    group_norm: Option<group_norm::Cache<F>>,
    to_qkv: [linear::Cache<F>; 3],
    attention: attention::Cache<F>,
    to_out: linear::Cache<F>,
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
        let heads = channels / head_dim;
        let inner = heads * head_dim;
        AttentionBlock {
            group_norm: groups.map(|g| GroupNorm::new(layout, &format!("{name}.group_norm"), channels, g, norm_eps)),
            to_qkv: ["to_q", "to_k", "to_v"]
                .map(|part| Linear::new(layout, &format!("{name}.{part}"), channels, inner)),
            to_out: Linear::with_init(layout, &format!("{name}.to_out.0"), inner, channels, Init::Zeros),
            heads,
            inner,
            scale_factor,
        }
    }

    /// y of the equations above.
    ///
    /// # Shapes
    /// x (n, h, w, c) to y of the same shape.
    pub fn forward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        x: impl Into<Kept<F, Ix4>>,
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
        let h = Kept::from(h.into_shape_with_order((pixels, c)).expect("pixels as rows"));
        let mut project = |linear: &Linear| {
            let (y, cache) = linear.forward(w, h.clone());
            let y = y.into_shape_with_order((n, height * width, self.inner)).expect("rows as tokens");
            trace.layer(linear.weight, &y);
            (y, cache)
        };
        let [(q, q_cache), (k, k_cache), (v, v_cache)] = self.to_qkv.each_ref().map(&mut project);
        let multiply_adds = 2 * pixels * height * width * self.inner;
        let attend = || attention(q, k, v, self.heads);
        let (o, attention) = timed(Some(self.to_qkv[0].weight), "attention", multiply_adds, attend);
        let o = o.into_shape_with_order((pixels, self.inner)).expect("tokens as rows");
        let (y, to_out) = self.to_out.forward(w, o);
        let mut y = y.into_shape_with_order((n, height, width, c)).expect("rows as pixels");
        trace.layer(self.to_out.weight, &y);
        add_to(&mut y, &x);
        divide(&mut y, self.scale_factor);
        trace.block(self.to_qkv[0].weight, &y);
        (y, Cache { group_norm, to_qkv: [q_cache, k_cache, v_cache], attention, to_out })
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
        let d_o = self.to_out.backward(w, cache.to_out, dy.clone(), grads);
        let d_o = d_o.into_shape_with_order((n, height * width, self.inner)).expect("rows as tokens");
        let multiply_adds = 4 * pixels * height * width * self.inner;
        let attend = || attention_backward(cache.attention, d_o);
        let d_qkv = timed(Some(self.to_qkv[0].weight), "attention, gradient", multiply_adds, attend);
        let mut projections = self.to_qkv.iter().zip(cache.to_qkv).zip(d_qkv).map(|((linear, cache), d)| {
            let d = d.into_shape_with_order((pixels, self.inner)).expect("tokens as rows");
            linear.backward(w, cache, d, grads)
        });
        let mut dh = projections.next().expect("q, k and v");
        projections.for_each(|d| {
            add_to(&mut dh, &d);
            buffer_pool::give(d);
        });
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
