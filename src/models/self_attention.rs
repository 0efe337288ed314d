//! Attention of an image's tokens to each other, diffusers' `Attention`: four projections around the
//! [attention](crate::layers::attention) of queries, keys and values.
//!
//! ```text
//! q, k, v = h W_q + b_q, h W_k + b_k, h W_v + b_v
//! y = attention(q, k, v) W_o + b_o
//! ```
//!
//! # Derivation
//!
//! h goes three ways: dh = dq W_qᵀ + dk W_kᵀ + dv W_vᵀ, added as (q + k) + v. Everything else is the layers' own rule. Proven by
//! PyTorch's gradients of every parameter of the networks that have it.

use ndarray::{Array2, Ix2};

use super::Trace;
use crate::layers::attention::{self, attention, attention_backward};
use crate::layers::linear::{self, Linear};
use crate::layers::parameters::Init;
use crate::layers::stopwatch::timed;
use crate::layers::{Layout, ParameterVector, Weights, add_to};
use crate::numerics::Real;
use crate::numerics::buffer_pool::{self, Kept};

/// Four projections and the number of heads.
#[derive(Clone, Debug)]
pub struct SelfAttention {
    pub(super) to_qkv: [Linear; 3],
    pub(super) to_out: Linear,
    heads: usize,
    inner: usize,
}

/// What the backward pass needs.
#[derive(Debug)]
pub struct Cache<F: Real> {
    to_qkv: [linear::Cache<F>; 3],
    attention: attention::Cache<F>,
    to_out: linear::Cache<F>,
    images: usize,
}

impl SelfAttention {
    /// Attention of (heads, channels of a head) over tokens of `channels`; queries, keys and values may go without a bias.
    pub fn new(
        layout: &mut Layout,
        name: &str,
        channels: usize,
        (heads, of_head): (usize, usize),
        qkv_bias: bool,
    ) -> Self {
        let inner = heads * of_head;
        let linear = if qkv_bias { Linear::new } else { Linear::without_bias };
        SelfAttention {
            to_qkv: ["to_q", "to_k", "to_v"].map(|part| linear(layout, &format!("{name}.{part}"), channels, inner)),
            to_out: Linear::with_init(layout, &format!("{name}.to_out.0"), inner, channels, Init::Zeros),
            heads,
            inner,
        }
    }

    /// y of the equations above; whether a backward pass follows is what [`attention`] is told.
    ///
    /// # Shapes
    /// h (n · tokens, c) to y of the same shape.
    pub fn forward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        h: impl Into<Kept<F, Ix2>>,
        n: usize,
        follows: bool,
        trace: &mut Trace<F>,
    ) -> (Array2<F>, Cache<F>) {
        let h = h.into();
        let rows = h.nrows();
        let tokens = rows / n;
        let mut project = |linear: &Linear| {
            let (y, cache) = linear.forward(w, h.clone());
            let y = y.into_shape_with_order((n, tokens, self.inner)).expect("rows as tokens");
            trace.layer(linear.weight, &y);
            (y, cache)
        };
        let [(q, q_cache), (k, k_cache), (v, v_cache)] = self.to_qkv.each_ref().map(&mut project);
        let multiply_adds = 2 * rows * tokens * self.inner;
        let attend = || attention(q, k, v, self.heads, follows);
        let (o, attention) = timed(Some(self.to_qkv[0].weight), "attention", multiply_adds, attend);
        let o = o.into_shape_with_order((rows, self.inner)).expect("tokens as rows");
        let (y, to_out) = self.to_out.forward(w, o);
        (y, Cache { to_qkv: [q_cache, k_cache, v_cache], attention, to_out, images: n })
    }

    /// dh, with the gradients of the parameters added into `grads`.
    ///
    /// # Shapes
    /// dy (n · tokens, c) to dh of the same shape.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        cache: Cache<F>,
        dy: impl Into<Kept<F, Ix2>>,
        grads: &mut ParameterVector<F>,
    ) -> Array2<F> {
        let dy = dy.into();
        let rows = dy.nrows();
        let tokens = rows / cache.images;
        let d_o = self.to_out.backward(w, cache.to_out, dy, grads);
        let d_o = d_o.into_shape_with_order((cache.images, tokens, self.inner)).expect("rows as tokens");
        let multiply_adds = 4 * rows * tokens * self.inner;
        let attend = || attention_backward(cache.attention, d_o);
        let d_qkv = timed(Some(self.to_qkv[0].weight), "attention, gradient", multiply_adds, attend);
        let mut projections = self.to_qkv.iter().zip(cache.to_qkv).zip(d_qkv).map(|((linear, cache), d)| {
            let d = d.into_shape_with_order((rows, self.inner)).expect("tokens as rows");
            linear.backward(w, cache, d, grads)
        });
        let mut dh = projections.next().expect("q, k and v");
        projections.for_each(|d| {
            add_to(&mut dh, &d);
            buffer_pool::give(d);
        });
        dh
    }
}
