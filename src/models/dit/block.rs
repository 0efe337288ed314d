//! The block of the transformer, diffusers' `BasicTransformerBlock` with `ada_norm_zero` (Peebles & Xie 2023, figure 3).
//!
//! ```text
//! [shift_1, scale_1, gate_1, shift_2, scale_2, gate_2] = u = linear(silu(c))      c: time and class
//! x₁ = x + gate_1 self_attention(norm(x) (1 + scale_1) + shift_1)
//! y = x₁ + gate_2 mlp(norm(x₁) (1 + scale_2) + shift_2)                          mlp: linear, gelu, linear
//! ```
//!
//! # Derivation
//!
//! Each line is made of layers with their own rules; the block adds two things. x and x₁ go two ways each, past the gate and
//! through the branch, so the gradient of each is dy plus what comes out of the branch. u is read in six places, each
//! of which writes its own part of du. The second norm adds the configuration's norm_eps, the first always 1e-6.
//!
//! Source: diffusers' forward; the gradient is derived here. Proven by central differences of a whole network and PyTorch's
//! gradients of every parameter.

use ndarray::{Array2, Array3, Array4, Ix2};

use super::DitConfig;
use super::config::MLP_RATIO;
use crate::layers::activation::{gelu_tanh, gelu_tanh_backward, silu, silu_backward};
use crate::layers::affine::Affine;
use crate::layers::dropout::{Key, dropout, dropout_backward};
use crate::layers::layer_norm::{self, layer_norm_backward, normalise};
use crate::layers::linear::{self, Linear};
use crate::layers::modulate::{add_gated, add_gated_backward, modulate, modulate_backward};
use crate::layers::{Kept, Layout, ParameterVector, Weights, add_to};
use crate::models::Trace;
use crate::models::self_attention::{self, SelfAttention};
use crate::numerics::Real;
use crate::numerics::buffer_pool;

/// What a norm without parameters adds to the variance: diffusers has no field for it.
pub(super) const NORM_EPS: f64 = 1e-6;

/// The parts of u.
const PARTS: usize = 6;
const ATTENTION: [usize; 2] = [0, 1];
const ATTENTION_GATE: usize = 2;
const MLP: [usize; 2] = [3, 4];
const MLP_GATE: usize = 5;

/// A modulation, an attention and an MLP.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    name: String,
    modulation: Linear,
    attention: SelfAttention,
    norm: Option<Affine>,
    norm_eps: f64,
    mlp: [Linear; 2],
    dropout: f64,
    index: u64,
}

/// What the backward pass needs, in the order of the forward pass.
#[derive(Debug)]
pub(crate) struct Cache<F: Real> {
    modulation: linear::Cache<F>,
    u: Kept<F, Ix2>,
    first_norm: layer_norm::Cache<F>,
    attention: self_attention::Cache<F>,
    attended: Branch<F>,
    second_norm: layer_norm::Cache<F>,
    normed: Kept<F, Ix2>,
    inner: linear::Cache<F>,
    before_gelu: Kept<F, Ix2>,
    dropped: Dropped<F>,
    outer: linear::Cache<F>,
    of_mlp: Kept<F, Ix2>,
}

/// What a gate was given, and what was dropped before.
#[derive(Debug)]
struct Branch<F: Real> {
    value: Kept<F, Ix2>,
    dropped: Dropped<F>,
}

/// The factors of a dropout.
type Dropped<F> = Option<Array4<F>>;

impl Block {
    /// The block with this number, of this name.
    pub fn new(layout: &mut Layout, name: String, index: u64, config: &DitConfig) -> Self {
        let c = config.channels_of_token();
        let heads = (config.num_attention_heads, config.attention_head_dim);
        let of = |part: &str| format!("{name}.{part}");
        Block {
            modulation: Linear::new(layout, &of("norm1.linear"), c, PARTS * c),
            attention: SelfAttention::new(layout, &of("attn1"), c, heads, config.attention_bias),
            norm: config.norm_elementwise_affine.then(|| Affine::new(layout, &of("norm3"), c)),
            norm_eps: config.norm_eps,
            mlp: [
                Linear::new(layout, &of("ff.net.0.proj"), c, MLP_RATIO * c),
                Linear::new(layout, &of("ff.net.2"), MLP_RATIO * c, c),
            ],
            dropout: config.dropout,
            index,
            name,
        }
    }

    /// y of the equations above; `follows` if a backward pass does.
    ///
    /// # Shapes
    /// x (n · tokens, channels), c (n, channels) to y of x's shape.
    pub fn forward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        x: impl Into<Kept<F, Ix2>>,
        c: Kept<F, Ix2>,
        key: Option<Key>,
        follows: bool,
        trace: &mut Trace<F>,
    ) -> (Array2<F>, Cache<F>) {
        let (x, n) = (x.into(), c.nrows());
        let (u, modulation) = self.modulation.forward(w, silu(c));
        let u = Kept::from(u);
        trace.layer(self.modulation.weight, &u);
        let mut tap = |part: &str, y: &Array2<F>| trace.module(|| (format!("{}{part}", self.name), tokens(y, n)));

        let first_norm = normalise(x.clone(), NORM_EPS);
        let h = modulate(first_norm.x_hat(), u.clone(), ATTENTION);
        tap(".norm1", &h);
        let (a, attention) = self.attention.forward(w, h, n, follows, trace);
        trace.layer_of(self.attention.to_out.weight, || tokens(&a, n));
        let (a, dropped) = self.drop(a, n, 0, key);
        let attended = Branch { value: a.into(), dropped };
        let x = Kept::from(add_gated(x, attended.value.clone(), u.clone(), ATTENTION_GATE));
        let mut tap = |part: &str, y: &Array2<F>| trace.module(|| (format!("{}{part}", self.name), tokens(y, n)));
        tap(".attn1", &attended.value);

        let second_norm = normalise(x.clone(), self.norm_eps);
        let normed = match &self.norm {
            Some(norm) => norm.forward(w, second_norm.x_hat()).into(),
            None => second_norm.x_hat(),
        };
        tap(".norm3", &normed);
        let h = modulate(normed.clone(), u.clone(), MLP);
        let (before_gelu, inner) = self.mlp[0].forward(w, h);
        let before_gelu = Kept::from(before_gelu);
        let g = gelu_tanh(before_gelu.clone());
        tap(".ff.net.0", &g);
        let (g, dropped) = self.drop(g, n, 1, key);
        let (m, outer) = self.mlp[1].forward(w, g);
        let m = Kept::from(m);
        tap(".ff", &m);
        let y = add_gated(x, m.clone(), u.clone(), MLP_GATE);
        tap("", &y);
        let cache = Cache {
            modulation,
            u,
            first_norm,
            attention,
            attended,
            second_norm,
            normed,
            inner,
            before_gelu,
            dropped,
            outer,
            of_mlp: m,
        };
        (y, cache)
    }

    /// dx and dc, with the gradients of the parameters added into `grads`.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        cache: Cache<F>,
        c: Kept<F, Ix2>,
        dy: impl Into<Kept<F, Ix2>>,
        grads: &mut ParameterVector<F>,
    ) -> (Array2<F>, Array2<F>) {
        let dy = dy.into();
        let (u, mut du) = (cache.u, Array2::zeros((c.nrows(), PARTS * c.ncols())));

        let dm = add_gated_backward(cache.of_mlp, u.clone(), MLP_GATE, dy.clone(), &mut du);
        let dg = undrop(cache.dropped, self.mlp[1].backward(w, cache.outer, dm, grads));
        let dz = gelu_tanh_backward(cache.before_gelu, dg);
        let dh = self.mlp[0].backward(w, cache.inner, dz, grads);
        let mut dn = modulate_backward(cache.normed, u.clone(), MLP, dh, &mut du);
        if let Some(norm) = &self.norm {
            dn = norm.backward(w, cache.second_norm.x_hat(), dn, grads);
        }
        let mut dx_1 = layer_norm_backward(cache.second_norm, dn);
        add_to(&mut dx_1, &dy);

        let dx_1 = Kept::from(dx_1);
        let da = add_gated_backward(cache.attended.value, u.clone(), ATTENTION_GATE, dx_1.clone(), &mut du);
        let dh = self.attention.backward(w, cache.attention, undrop(cache.attended.dropped, da), grads);
        let dn = modulate_backward(cache.first_norm.x_hat(), u, ATTENTION, dh, &mut du);
        let mut dx = layer_norm_backward(cache.first_norm, dn);
        add_to(&mut dx, &dx_1);

        let d_silu = self.modulation.backward(w, cache.modulation, du, grads);
        (dx, silu_backward(c, d_silu))
    }

    /// Drops some of x while training; a block has two such `places`.
    fn drop<F: Real>(&self, x: Array2<F>, n: usize, place: u64, key: Option<Key>) -> (Array2<F>, Dropped<F>) {
        let (rows, c) = x.dim();
        let x = x.into_shape_with_order((n, rows / n, 1, c)).expect("rows as tokens");
        let (x, dropped) = dropout(x, self.dropout, 2 * self.index + place, key);
        (x.into_shape_with_order((rows, c)).expect("tokens as rows"), dropped)
    }
}

/// The gradient of what [`Block::drop`] was given.
fn undrop<F: Real>(dropped: Dropped<F>, dy: Array2<F>) -> Array2<F> {
    let Some(factors) = dropped else { return dy };
    let shape = dy.dim();
    let dy = dy.into_shape_with_order(factors.dim()).expect("rows as tokens");
    dropout_backward(Some(factors), dy).into_shape_with_order(shape).expect("tokens as rows")
}

/// A copy of the rows of n images as (n, tokens, channels).
pub(super) fn tokens<F: Real>(x: &Array2<F>, n: usize) -> Array3<F> {
    let (rows, c) = x.dim();
    buffer_pool::clone(x).into_shape_with_order((n, rows / n, c)).expect("rows as tokens")
}
