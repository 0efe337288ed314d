//! The residual block of the U-Net, diffusers' `ResnetBlock2D`.
//!
//! ```text
//! h = conv1(silu(norm1(x)))
//! u = time_emb_proj(silu(emb))
//! default:      h = norm2(h + u)                    u: (n, c), added to every pixel
//! scale_shift:  h = norm2(h) (1 + scale) + shift    u = [scale, shift]: (n, 2c)
//! h = conv2(dropout(silu(h)))
//! y = (shortcut(x) + h) / scale_factor              shortcut: a 1x1 convolution where the channels change
//! ```
//!
//! A block that changes the resolution does so to what conv1 reads, and to x where it goes past.
//!
//! # Derivation
//!
//! Each line is a layer with its own rule; the block adds three things. The input goes two ways, so dx is the sum of both.
//! u meets all pixels of its image, so du = Σ over pixels of dh (default). With h' = n (1 + scale) + shift: dn = dh' (1 + scale),
//! dscale = Σ over pixels of dh' n, dshift = Σ over pixels of dh'. silu(emb) is the same for all blocks: the network computes
//! it once and adds up their gradients of it.
//!
//! Sums over pixels are [`column_sums`](crate::numerics::sum::column_sums). Source: diffusers' forward; the gradient is
//! derived here. Proven by central differences of the whole network and PyTorch's gradients of every parameter.

use ndarray::{Array2, Array4, Ix2, Ix4};

use crate::layers::activation::{silu, silu_backward};
use crate::layers::conv2d::{self, Conv2d};
use crate::layers::dropout::{self, dropout, dropout_backward};
use crate::layers::group_norm::{self, GroupNorm};
use crate::layers::im2col::Window;
use crate::layers::linear::{self, Linear};
use crate::layers::parameters::Init;
use crate::layers::per_image::{add_to_every_pixel, each_image, sum_over_pixels};
use crate::layers::resample::{
    average_pool_2x, average_pool_2x_backward, upsample_nearest_2x, upsample_nearest_2x_backward,
};
use crate::layers::{Kept, Layout, ParameterVector, Weights, add_to};
use crate::models::Trace;
use crate::numerics::buffer_pool;
use crate::numerics::{Native, Real};

/// What all residual blocks of a network share.
#[derive(Clone, Debug)]
pub struct ResBlockSettings {
    /// Length of the time vector.
    pub time_channels: usize,
    /// Groups of both norms.
    pub groups: usize,
    /// Added to the variance under the root.
    pub norm_eps: f64,
    /// The probability to drop an activation while training.
    pub dropout: f64,
    /// Time scales and shifts the second norm, instead of being added before it.
    pub scale_shift: bool,
    /// The sum with the input is divided by this.
    pub scale_factor: f64,
}

/// A change of the resolution inside of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resample {
    /// The mean of each square of four pixels.
    Half,
    /// Each pixel four times.
    Double,
}

impl Resample {
    fn forward<F: Real>(self, x: impl Into<Kept<F, Ix4>>) -> Array4<F> {
        match self {
            Resample::Half => average_pool_2x(x),
            Resample::Double => upsample_nearest_2x(x),
        }
    }

    fn backward<F: Real>(self, dy: impl Into<Kept<F, Ix4>>) -> Array4<F> {
        match self {
            Resample::Half => average_pool_2x_backward(dy),
            Resample::Double => upsample_nearest_2x_backward(dy),
        }
    }
}

/// Two norms, two convolutions, a projection of time, perhaps a shortcut.
#[derive(Clone, Debug)]
pub struct ResBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    resample: Option<Resample>,
    settings: ResBlockSettings,
    index: u64,
}

/// What the backward pass needs, in the order of the forward pass.
#[derive(Debug)]
pub struct Cache<F: Real> {
    norm1: group_norm::Cache<F>,
    conv1: conv2d::Cache<F>,
    time: linear::Cache<F>,
    norm2: group_norm::Cache<F>,
    modulated: Option<Modulated<F>>,
    dropped: Option<Array4<F>>,
    conv2: conv2d::Cache<F>,
    shortcut: Option<conv2d::Cache<F>>,
}

/// What becomes of the second norm where time scales and shifts it.
#[derive(Debug)]
struct Modulated<F: Real> {
    normed: Array4<F>,
    u: Array2<F>,
    before_silu: Kept<F, Ix4>,
}

impl ResBlock {
    /// A block from `c_in` to `c_out` channels; `index` tells its dropout from that of the other blocks.
    pub fn new(
        layout: &mut Layout,
        name: &str,
        c_in: usize,
        c_out: usize,
        index: u64,
        settings: &ResBlockSettings,
    ) -> Self {
        let s = settings;
        let three = Window::square(3, 1, 1);
        let of_time = if s.scale_shift { 2 * c_out } else { c_out };
        ResBlock {
            norm1: GroupNorm::new(layout, &format!("{name}.norm1"), c_in, s.groups, s.norm_eps),
            conv1: Conv2d::new(layout, &format!("{name}.conv1"), c_in, c_out, three),
            time_emb_proj: Linear::new(layout, &format!("{name}.time_emb_proj"), s.time_channels, of_time),
            norm2: GroupNorm::new(layout, &format!("{name}.norm2"), c_out, s.groups, s.norm_eps),
            conv2: Conv2d::with_init(layout, &format!("{name}.conv2"), c_out, c_out, three, Init::Zeros),
            conv_shortcut: (c_in != c_out)
                .then(|| Conv2d::new(layout, &format!("{name}.conv_shortcut"), c_in, c_out, Window::square(1, 1, 0))),
            resample: None,
            settings: settings.clone(),
            index,
        }
    }

    /// Where its parameters begin.
    pub(super) fn place(&self) -> usize {
        self.norm1.weight.start
    }

    /// The same block with a change of the resolution.
    ///
    /// # Panics
    /// If it changes the channels as well.
    pub(super) fn resampling(self, resample: Resample) -> Self {
        assert!(self.conv_shortcut.is_none(), "res block: a block that changes the resolution keeps the channels");
        ResBlock { resample: Some(resample), ..self }
    }

    /// y of the equations above; `silu_emb` is silu(emb).
    ///
    /// # Shapes
    /// x (n, h, w, c_in), silu_emb (n, time_channels), to y (n, h, w, c_out), or half or twice as high and wide.
    pub fn forward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        x: impl Into<Kept<F, Ix4>>,
        silu_emb: impl Into<Kept<F, Ix2>>,
        key: Option<dropout::Key>,
        trace: &mut Trace<F>,
    ) -> (Array4<F>, Cache<F>) {
        let x = x.into();
        let shortcut = self.conv_shortcut.as_ref().map(|conv| {
            let (y, cache) = conv.forward(w, x.clone());
            trace.layer(conv.weight, &y);
            (y, cache)
        });
        trace.layer_of(self.norm1.weight, || self.norm1.forward(w, x.clone()).0);
        let direct = self.resample.map(|resample| resample.forward(x.clone()));
        let (h, norm1): (Kept<F, Ix4>, _) = match self.resample {
            None => {
                let (h, cache) = self.norm1.forward_silu_padded(w, x, self.conv1.window.padding());
                (h.into(), cache)
            }
            Some(resample) => {
                let (h, cache) = self.norm1.forward_silu(w, x);
                (self.conv1.window.pad(resample.forward(h)), cache)
            }
        };
        let (mut h, conv1) = self.conv1.forward_padded(w, h);
        trace.layer(self.conv1.weight, &h);
        let (u, time) = self.time_emb_proj.forward(w, silu_emb);
        trace.layer(self.time_emb_proj.weight, &u);
        if !self.settings.scale_shift {
            add_to_every_pixel(&mut h, &u);
        }
        trace.layer_of(self.norm2.weight, || self.norm2.forward(w, h.clone()).0);
        let padding = self.conv2.window.padding();
        let drop_and_pad = |h| {
            let (h, dropped) = dropout(h, self.settings.dropout, self.index, key);
            (self.conv2.window.pad(h), dropped)
        };
        let (padded, norm2, modulated, dropped) = if self.settings.scale_shift {
            let (normed, norm2) = self.norm2.forward(w, h);
            let mut before_silu = buffer_pool::clone(&normed);
            each_image(&mut before_silu, &u, |h, u| scale_and_shift(h, u));
            let before_silu = Kept::from(before_silu);
            let (padded, dropped) = drop_and_pad(silu(before_silu.clone()));
            (padded, norm2, Some(Modulated { normed, u, before_silu }), dropped)
        } else if key.is_some() && self.settings.dropout > 0.0 {
            let (h, norm2) = self.norm2.forward_silu(w, h);
            let (padded, dropped) = drop_and_pad(h);
            (padded, norm2, None, dropped)
        } else {
            let (padded, norm2) = self.norm2.forward_silu_padded(w, h, padding);
            (padded.into(), norm2, None, None)
        };
        let (mut y, conv2) = self.conv2.forward_padded(w, padded);
        trace.layer(self.conv2.weight, &y);
        let shortcut = shortcut.map(|(of_x, cache)| {
            add_to(&mut y, &of_x);
            buffer_pool::give(of_x);
            cache
        });
        if shortcut.is_none() {
            add_to(&mut y, direct.as_ref().unwrap_or(norm1.x()));
        }
        divide(&mut y, self.settings.scale_factor);
        trace.block(self.norm1.weight, &y);
        let cache = Cache { norm1, conv1, time, norm2, modulated, dropped, conv2, shortcut };
        (y, cache)
    }

    /// dx; the gradient of silu(emb) is added into `d_silu_emb`, those of the parameters into `grads`.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        cache: Cache<F>,
        dy: impl Into<Kept<F, Ix4>>,
        d_silu_emb: &mut Array2<F>,
        grads: &mut ParameterVector<F>,
    ) -> Array4<F> {
        let mut dy = dy.into().into_owned();
        divide(&mut dy, self.settings.scale_factor);
        let dy = Kept::from(dy);
        let dh = self.conv2.backward(w, cache.conv2, dy.clone(), grads);
        let dh = dropout_backward(cache.dropped, dh);
        let (dh, du) = match cache.modulated {
            Some(Modulated { normed, u, before_silu }) => {
                let mut dh = silu_backward(before_silu, dh);
                let du = scale_shift_gradient(&normed, &u, &mut dh);
                (self.norm2.backward(w, cache.norm2, dh, grads), du)
            }
            None => {
                let dh = self.norm2.backward_silu(w, cache.norm2, dh, grads);
                let du = sum_over_pixels(&dh);
                (dh, du)
            }
        };
        *d_silu_emb += &self.time_emb_proj.backward(w, cache.time, du, grads);
        let mut d_silu1 = self.conv1.backward(w, cache.conv1, dh, grads);
        if let Some(resample) = self.resample {
            d_silu1 = resample.backward(d_silu1);
        }
        let mut dx = self.norm1.backward_silu(w, cache.norm1, d_silu1, grads);
        let d_direct = match (&self.conv_shortcut, cache.shortcut) {
            (Some(conv), Some(cache)) => conv.backward(w, cache, dy, grads).into(),
            _ => self.resample.map_or(dy.clone(), |resample| resample.backward(dy).into()),
        };
        add_to(&mut dx, &d_direct);
        dx
    }
}

/// h (1 + scale) + shift at every pixel, u = [scale, shift].
fn scale_and_shift<F: Real>(h: &mut [F], u: &[F]) {
    let (scale, shift) = u.split_at(u.len() / 2);
    for pixel in h.chunks_exact_mut(scale.len()) {
        pixel
            .iter_mut()
            .zip(scale)
            .zip(shift)
            .for_each(|((h, &scale), &shift)| *h = h.fma::<Native>(F::one() + scale, shift));
    }
}

/// du = [Σ dh n, Σ dh] of each image, and dh becomes dn = dh (1 + scale).
fn scale_shift_gradient<F: Real>(normed: &Array4<F>, u: &Array2<F>, dh: &mut Array4<F>) -> Array2<F> {
    let dscale = sum_over_pixels(&(&*dh * normed));
    let dshift = sum_over_pixels(dh);
    each_image(dh, u, |dh, u| {
        let scale = &u[..u.len() / 2];
        dh.chunks_exact_mut(scale.len())
            .for_each(|pixel| pixel.iter_mut().zip(scale).for_each(|(d, &s)| *d *= F::one() + s));
    });
    ndarray::concatenate(ndarray::Axis(1), &[dscale.view(), dshift.view()])
        .expect("equal rows")
        .as_standard_layout()
        .into_owned()
}

/// x / factor, where the factor is not 1.
pub(super) fn divide<F: Real>(x: &mut Array4<F>, factor: f64) {
    if factor != 1.0 {
        let factor = F::from_f64(factor);
        x.mapv_inplace(|x| x / factor);
    }
}
