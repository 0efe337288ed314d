//! Convolution over pixels (cross-correlation, as every framework calls convolution).
//!
//! # Derivation
//!
//! Forward, with s the stride, for image n, output pixel (oh, ow), output channel o:
//!
//! ```text
//! y[n, oh, ow, o] = b[o] + Σ_kh Σ_kw Σ_i x[n, oh·s + kh − top, ow·s + kw − left, i] · W[kh, kw, i, o]
//! ```
//!
//! As a matrix product, with col = im2col(x) ([`im2col`](super::im2col)): y = col · W + b. Given dy = ∂L/∂y:
//!
//! 1. W[k, o] meets every output pixel p: dW[k, o] = Σ_p col[p, k] dy[p, o], that is dW = colᵀ dy.
//! 2. b_o is added to every output pixel: db_o = Σ_p dy_po.
//! 3. x reaches y through every copy that im2col made of it: dx = col2im(dy · Wᵀ). Written for one pixel, with the
//!    substitution h = oh·s + kh − top, it is a sum over the taps through which (h, w) was seen:
//!
//! ```text
//! dx[n, h, w, i] = Σ_kh Σ_kw Σ_o dy[n, (h + top − kh)/s, (w + left − kw)/s, o] · W[kh, kw, i, o]
//! ```
//!
//! over the kh, kw for which the divisions leave no remainder and the output pixel exists.
//!
//! # Orders of addition
//!
//! y: k over (kh, kw, i), padding taps counted. dW: k over the output pixels of the microbatch. dx: the pixels with the same
//! remainders of (h + top, w + left) modulo s see the same taps, kh = remainder + m·s; for them the sum is itself a
//! convolution at stride 1, of dy with those taps, and k runs over (kh descending, kw descending, o ascending), taps
//! outside of dy counted as zeros. At stride 1 there is one such phase: dx is the convolution of dy with the flipped
//! and transposed weight.
//!
//! A convolution to very few channels gets the same sums from loops of its own, `narrow`. The cache keeps x
//! with its padding written out, for step 1. Source: the formulas are derived here. Proven by
//! central differences, by the definitions with [`im2col`](super::im2col::im2col) to the bit, and by PyTorch's numbers.
//!
//! Next in the [course](super#the-course): [`resample`](super::resample).

use ndarray::{Array4, Ix4};

use super::im2col::{Window, region};
use super::linear::add_bias_gradient;
use super::narrow;
use super::parameters::{Axes, Init};
use super::stopwatch::timed;
use super::weights::Use;
use super::{Kept, Layout, ParameterVector, Span, Weights, flat};
use crate::numerics::Real;
use crate::numerics::buffer_pool;
use crate::numerics::gemm::{Epilogue, Gather, Matrix, Panels, Right, product};

/// A kernel, a bias and a geometry.
#[derive(Clone, Debug)]
pub struct Conv2d {
    pub(crate) weight: Span,
    bias: Span,
    c_in: usize,
    c_out: usize,
    pub(crate) window: Window,
}

/// What the backward pass needs: x with its padding written out.
#[derive(Debug)]
pub struct Cache<F: Real>(Kept<F, Ix4>);

impl Conv2d {
    /// Parameters `NAME.weight` (kh, kw, c_in, c_out) and `NAME.bias`, with PyTorch's first values.
    pub fn new(layout: &mut Layout, name: &str, c_in: usize, c_out: usize, window: Window) -> Self {
        let (kh, kw) = window.kernel();
        let fan_in = kh * kw * c_in;
        Self::with_init(layout, name, c_in, c_out, window, Init::Uniform(1.0 / (fan_in as f64).sqrt()))
    }

    /// The same, with other first values.
    pub fn with_init(layout: &mut Layout, name: &str, c_in: usize, c_out: usize, window: Window, init: Init) -> Self {
        let weight = layout.add(format!("{name}.weight"), Axes::Conv { kernel: window.kernel(), c_in, c_out }, init);
        let bias = layout.add(format!("{name}.bias"), Axes::Same(vec![c_out]), init);
        Conv2d { weight, bias, c_in, c_out, window }
    }

    /// y = im2col(x) · W + b.
    ///
    /// # Shapes
    /// x (n, h, w, c_in) to y (n, oh, ow, c_out), oh and ow as [`Window::output`] says.
    ///
    /// # Panics
    /// If x has other channels than the weight, or is smaller than the kernel with its padding.
    pub fn forward<F: Real>(&self, w: &dyn Weights<F>, x: impl Into<Kept<F, Ix4>>) -> (Array4<F>, Cache<F>) {
        let x = x.into();
        self.forward_padded(w, timed(Some(self.weight), "padding", 0, || self.window.pad(x)))
    }

    /// The same for an image that has its padding written out already.
    ///
    /// # Shapes
    /// padded (n, h + top + bottom, w + left + right, c_in) to y (n, oh, ow, c_out).
    ///
    /// # Panics
    /// If the image has other channels than the weight, or is smaller than the kernel.
    pub fn forward_padded<F: Real>(
        &self,
        w: &dyn Weights<F>,
        padded: impl Into<Kept<F, Ix4>>,
    ) -> (Array4<F>, Cache<F>) {
        let padded = padded.into();
        let (n, height, width, c) = padded.dim();
        assert_eq!(c, self.c_in, "conv2d: x has {c} channels, the weight takes {}", self.c_in);
        let (oh, ow) = self.window.without_padding().output((height, width));
        let (pixels, taps) = (self.window.pixels(padded.dim()), self.window.taps(padded.dim().2, c));
        let mut y = buffer_pool::take(pixels.len() * self.c_out);
        timed(Some(self.weight), "forward", y.len() * taps.len(), || {
            if narrow::suits(&self.window, self.c_out) {
                let weights = [&w[self.weight], &w[self.bias]];
                return narrow::forward(&self.window, flat(&padded), [height, width, c], weights, &mut y);
            }
            let copy = |weight: &[F]| Panels::new(weight, taps.len(), self.c_out, self.c_out, 1);
            let weight = w.panels(self.weight, Use::Forward, &copy);
            let columns = Gather { data: flat(&padded), rows: &pixels, steps: &taps };
            product(columns, weight.as_right(), &mut y, self.c_out, Epilogue::OverwriteWithBias(&w[self.bias]));
        });
        (y.into_array((n, oh, ow, self.c_out)), Cache(padded))
    }

    /// dx, with dW and db added into `grads`.
    ///
    /// # Shapes
    /// dy (n, oh, ow, c_out) to dx (n, h, w, c_in).
    ///
    /// # Panics
    /// If dy has another size than y.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        cache: Cache<F>,
        dy: impl Into<Kept<F, Ix4>>,
        grads: &mut ParameterVector<F>,
    ) -> Array4<F> {
        let dy = dy.into();
        let (n, height, width, _) = cache.0.dim();
        let [left, right, top, bottom] = self.window.padding();
        self.parameter_gradients(cache, dy.clone(), grads);
        self.input_gradient(w, dy, (n, height - top - bottom, width - left - right))
    }

    /// dW and db alone, for a first layer whose dx nobody reads.
    ///
    /// # Panics
    /// If dy has another size than y.
    pub fn parameter_gradients<F: Real>(
        &self,
        Cache(padded): Cache<F>,
        dy: impl Into<Kept<F, Ix4>>,
        grads: &mut ParameterVector<F>,
    ) {
        let dy = dy.into();
        let (pixels, taps) = (self.window.pixels(padded.dim()), self.window.taps(padded.dim().2, self.c_in));
        assert_eq!(dy.len(), pixels.len() * self.c_out, "conv2d: dy {:?} has the shape of y", dy.dim());
        timed(Some(self.weight), "weight gradient", dy.len() * taps.len(), || {
            if narrow::suits(&self.window, self.c_out) {
                let dw = &mut grads[self.weight];
                return narrow::weight_gradient(&self.window, flat(&padded), padded.dim(), flat(&dy), dw);
            }
            let columns_transposed = Gather { data: flat(&padded), rows: &taps, steps: &pixels };
            let mut product =
                |dy| product(columns_transposed, dy, &mut grads[self.weight], self.c_out, Epilogue::Accumulate);
            let dy = Matrix::new(flat(&dy), pixels.len(), self.c_out);
            match Right::in_place(dy) {
                Some(dy) => product(dy),
                None => product(dy.panels().as_right()),
            }
        });
        add_bias_gradient(flat(&dy), &mut grads[self.bias]);
    }

    /// dx = col2im(dy · Wᵀ), phase by phase: see the orders of addition above.
    fn input_gradient<F: Real>(
        &self,
        w: &dyn Weights<F>,
        dy: Kept<F, Ix4>,
        (n, h, width): (usize, usize, usize),
    ) -> Array4<F> {
        let (stride, kernel, [left, _, top, _]) = (self.window.stride(), self.window.kernel(), self.window.padding());
        if stride == 1 {
            return self.phase(w, dy, n, Phase::new(0, 1, top, kernel.0, h), Phase::new(0, 1, left, kernel.1, width));
        }
        let mut dx = Array4::zeros((n, h, width, self.c_in));
        for remainder in (0..stride * stride).map(|i| (i / stride, i % stride)) {
            let rows = Phase::new(remainder.0, stride, top, kernel.0, h);
            let columns = Phase::new(remainder.1, stride, left, kernel.1, width);
            if rows.taps > 0 && columns.taps > 0 && rows.pixels > 0 && columns.pixels > 0 {
                let part = self.phase(w, dy.clone(), n, rows, columns);
                let (first_row, first_column) = (rows.first(top), columns.first(left));
                let every = |first: usize| ndarray::Slice::new(first as isize, None, stride as isize);
                let mut pixels = dx.slice_axis_mut(ndarray::Axis(1), every(first_row));
                pixels.slice_axis_mut(ndarray::Axis(2), every(first_column)).assign(&part);
                buffer_pool::give(part);
            }
        }
        dx
    }

    /// The gradient of the pixels of one phase: a convolution at stride 1 of dy with the taps that they see, flipped.
    fn phase<F: Real>(&self, w: &dyn Weights<F>, dy: Kept<F, Ix4>, n: usize, rows: Phase, columns: Phase) -> Array4<F> {
        let (size, kernel) = ((rows.pixels, columns.pixels), (rows.taps, columns.taps));
        let with_margins = (size.0 + kernel.0 - 1, size.1 + kernel.1 - 1);
        let margins = || region(dy, rows.margin(), columns.margin(), with_margins);
        let padded = timed(Some(self.weight), "padding", 0, margins);
        let window = Window::new(kernel, 1, [0; 4]).expect("a phase without taps has no pixels to compute");
        let (pixels, taps) = (window.pixels(padded.dim()), window.taps(padded.dim().2, self.c_out));

        // Row (tap, o) of the flipped and transposed weight: the taps that this phase sees, in descending order.
        let row = |k: usize| {
            let (tap, o) = (kernel.0 * kernel.1 - 1 - k / self.c_out, k % self.c_out);
            let kh = rows.remainder + tap / kernel.1 * rows.stride;
            let kw = columns.remainder + tap % kernel.1 * columns.stride;
            (kh * self.window.kernel().1 + kw) * self.c_in * self.c_out + o
        };
        let copy = |weight: &[F]| Panels::from_rows(weight, taps.len(), self.c_in, self.c_out, row);
        let phase = rows.remainder * rows.stride + columns.remainder;
        let mut dx = buffer_pool::take(pixels.len() * self.c_in);
        timed(Some(self.weight), "input gradient", dx.len() * taps.len(), || {
            let flipped = w.panels(self.weight, Use::Backward { phase }, &copy);
            let windows = Gather { data: flat(&padded), rows: &pixels, steps: &taps };
            product(windows, flipped.as_right(), &mut dx, self.c_in, Epilogue::Overwrite);
        });
        buffer_pool::give(padded);
        dx.into_array((n, size.0, size.1, self.c_in))
    }
}

/// Along one axis: the pixels h with (h + padding) mod stride = remainder, and the taps kh with kh mod stride = remainder.
#[derive(Clone, Copy)]
struct Phase {
    remainder: usize,
    stride: usize,
    /// How many taps: kh = remainder + m·stride for m in 0..taps.
    taps: usize,
    /// How many pixels: h + padding = remainder + q·stride for q in first_q..first_q + pixels.
    pixels: usize,
    first_q: usize,
}

impl Phase {
    fn new(remainder: usize, stride: usize, padding: usize, kernel: usize, size: usize) -> Self {
        let below = |end: usize| end.saturating_sub(remainder).div_ceil(stride); // how many r + q·s lie below `end`
        let first_q = below(padding);
        Phase { remainder, stride, taps: below(kernel), pixels: below(padding + size) - first_q, first_q }
    }

    /// The first pixel of the phase.
    fn first(&self, padding: usize) -> usize {
        self.remainder + self.first_q * self.stride - padding
    }

    /// Zeros before dy: pixel q sees dy at q − m for m in 0..taps, so the first needs dy from first_q − (taps − 1).
    fn margin(&self) -> isize {
        self.taps as isize - 1 - self.first_q as isize
    }
}

#[cfg(test)]
mod tests;
