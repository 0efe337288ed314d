//! im2col and its adjoint: a convolution as a matrix product.
//!
//! im2col lays under each output pixel the window that it sees: row p of the matrix is the window of output pixel
//! p = (n, oh, ow), column k = (kh, kw, c_in) one tap of it,
//!
//! ```text
//! col[p, k] = x[n, oh·s + kh − top, ow·s + kw − left, c_in]      (0 outside of the image)
//! ```
//!
//! Then convolution is col · W, its weight gradient colᵀ · dy, and its input gradient col2im(dy · Wᵀ), where col2im, the
//! adjoint, adds every element of the matrix back to the pixel that it was copied from:
//! ⟨im2col(x), m⟩ = ⟨x, col2im(m)⟩ for all x and m.
//!
//! [`im2col`] and [`col2im`] are the definition. What runs never makes the matrix: in an image with its padding written
//! out, the address of col[p, k] is `pixels[p] + taps[k]` ([`Window::pixels`], [`Window::taps`]), and
//! [`product`](crate::numerics::gemm::product) reads it from there.
//!
//! Next in the [course](super#the-course): [`conv2d`](super::conv2d).

use ndarray::{Array4, Ix4};

use super::{Kept, flat, shaped};
use crate::numerics::{Real, buffer_pool, parallel};
use crate::{Error, Result};

/// The geometry of a convolution: what an output pixel sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    kernel: (usize, usize),
    stride: usize,
    padding: [usize; 4],
}

impl Window {
    /// The largest side of a kernel, stride and padding.
    pub const MAX: usize = 1 << 24;

    /// A kernel of this height and width, that moves by `stride` pixels from one output pixel to the next, over an image with
    /// so many zeros around it: left, right, top, bottom.
    ///
    /// # Errors
    /// If the kernel has no pixel, the stride is 0, or one of the numbers is above [`Window::MAX`].
    pub fn new(kernel: (usize, usize), stride: usize, padding: [usize; 4]) -> Result<Self> {
        let (kh, kw) = kernel;
        for (field, expected, smallest, found) in [
            ("convolution: kernel height", "1 or more pixels", 1, kh),
            ("convolution: kernel width", "1 or more pixels", 1, kw),
            ("convolution: stride", "1 or more pixels", 1, stride),
            ("convolution: padding", "0 or more pixels", 0, padding.into_iter().fold(0, usize::max)),
        ] {
            if !(smallest..=Self::MAX).contains(&found) {
                return Err(Error::value(field, format!("{expected}, at most {}", Self::MAX), found));
            }
        }
        Ok(Window { kernel, stride, padding })
    }

    /// A kernel k x k with the same padding on all sides, for sizes that a program says itself.
    ///
    /// # Panics
    /// Where [`Window::new`] returns an error: if the kernel or the stride is 0.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self::new((kernel, kernel), stride, [padding; 4]).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Kernel height and width.
    pub fn kernel(&self) -> (usize, usize) {
        self.kernel
    }

    /// Input pixels from one output pixel to the next, both ways.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Zeros around the image: left, right, top, bottom.
    pub fn padding(&self) -> [usize; 4] {
        self.padding
    }

    /// The same over an image that has its padding written out.
    pub fn without_padding(self) -> Self {
        Window { padding: [0; 4], ..self }
    }

    /// Output height and width for an image (h, w).
    ///
    /// # Panics
    /// If the padded image is smaller than the kernel.
    pub fn output(&self, (h, w): (usize, usize)) -> (usize, usize) {
        let [left, right, top, bottom] = self.padding;
        let along = |padded: usize, kernel: usize| {
            assert!(padded >= kernel, "convolution: a kernel of {kernel} does not fit into {padded} padded pixels");
            (padded - kernel) / self.stride + 1
        };
        (along(h + top + bottom, self.kernel.0), along(w + left + right, self.kernel.1))
    }

    /// The image with its padding written out, shape (n, h + top + bottom, w + left + right, c).
    pub fn pad<F: Real>(&self, x: impl Into<Kept<F, Ix4>>) -> Kept<F, Ix4> {
        let x = x.into();
        let [left, right, top, bottom] = self.padding;
        let (_, h, w, _) = x.dim();
        if self.padding == [0; 4] {
            x
        } else {
            region(x, top as isize, left as isize, (h + top + bottom, w + left + right)).into()
        }
    }

    /// Where the window of each output pixel starts in a padded image (n, h, w, c): n·oh·ow addresses.
    ///
    /// # Panics
    /// If the image is smaller than the kernel.
    pub fn pixels(&self, (n, h, w, c): (usize, usize, usize, usize)) -> Vec<usize> {
        let (oh, ow) = self.without_padding().output((h, w));
        let mut starts = Vec::with_capacity(n * oh * ow);
        for (image, y) in (0..n).flat_map(|image| (0..oh).map(move |y| (image, y))) {
            let row = (image * h + y * self.stride) * w * c;
            starts.extend((0..ow).map(|x| row + x * self.stride * c));
        }
        starts
    }

    /// How far from a window's start each of its taps lies in a padded image of width w and c channels: kh·kw·c offsets.
    pub fn taps(&self, w: usize, c: usize) -> Vec<usize> {
        let (kh, kw) = self.kernel;
        let mut offsets = Vec::with_capacity(kh * kw * c);
        (0..kh).for_each(|y| offsets.extend(y * w * c..y * w * c + kw * c));
        offsets
    }
}

/// The rows and columns of x moved down by `top` and right by `left` into an image of another size, zeros where x has none.
pub fn region<F: Real>(
    x: impl Into<Kept<F, Ix4>>,
    top: isize,
    left: isize,
    (height, width): (usize, usize),
) -> Array4<F> {
    let x = x.into();
    let (n, h, w, c) = x.dim();
    let mut out = buffer_pool::take(n * height * width * c);
    let (first, last) = (left.max(0) as usize, (w as isize + left).clamp(0, width as isize) as usize); // columns of out
    let x = flat(&x);
    parallel::in_parts(&mut out, height * width * c, width * c, |at, rows| {
        for (i, out) in rows.chunks_mut(width * c).enumerate() {
            let row = at / (width * c) + i;
            let y = (row % height) as isize - top;
            if first < last && (0..h as isize).contains(&y) {
                let from = ((row / height * h + y as usize) * w + (first as isize - left) as usize) * c;
                out[..first * c].fill(F::zero());
                out[first * c..last * c].copy_from_slice(&x[from..from + (last - first) * c]);
                out[last * c..].fill(F::zero());
            } else {
                out.fill(F::zero());
            }
        }
    });
    out.into_array((n, height, width, c))
}

/// The matrix (n·oh·ow, kh·kw·c) of all windows.
///
/// # Panics
/// If the padded image is smaller than the kernel.
pub fn im2col<F: Real>(x: impl Into<Kept<F, Ix4>>, window: Window) -> Vec<F> {
    let padded = window.pad(x);
    let (_, _, w, c) = padded.dim();
    let taps = window.taps(w, c);
    let padded_data = flat(&padded);
    window.pixels(padded.dim()).iter().flat_map(|pixel| taps.iter().map(move |tap| padded_data[pixel + tap])).collect()
}

/// The adjoint of [`im2col`]: each pixel of an image of shape `dim` is the sum of the elements copied from it, in the
/// order of the matrix.
pub fn col2im<F: Real>(matrix: &[F], dim: (usize, usize, usize, usize), window: Window) -> Array4<F> {
    let (n, h, w, c) = dim;
    let [left, right, top, bottom] = window.padding;
    let (height, width) = (h + top + bottom, w + left + right);
    let mut padded = vec![F::zero(); n * height * width * c];
    let taps = window.taps(width, c);
    for (pixel, row) in window.pixels((n, height, width, c)).iter().zip(matrix.chunks(taps.len())) {
        for (tap, &value) in taps.iter().zip(row) {
            padded[pixel + tap] += value;
        }
    }
    region(shaped((n, height, width, c), padded), -(top as isize), -(left as isize), (h, w))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::rng::normal;

    const WINDOWS: [Window; 4] = [
        Window { kernel: (3, 3), stride: 1, padding: [1, 1, 1, 1] },
        Window { kernel: (3, 3), stride: 2, padding: [0, 1, 0, 1] },
        Window { kernel: (2, 5), stride: 3, padding: [4, 0, 1, 2] },
        Window { kernel: (1, 1), stride: 2, padding: [0, 0, 0, 0] },
    ];

    #[test]
    fn window_that_sees_nothing_or_does_not_move_is_refused_by_what_is_wrong() {
        for (kernel, stride, padding, said) in [
            ((0, 3), 1, [1; 4], "kernel height: expected 1 or more pixels"),
            ((3, 0), 1, [1; 4], "kernel width"),
            ((3, 3), 0, [1; 4], "stride: expected 1 or more pixels, at most 16777216, found 0"),
            ((3, 3), 1, [0, usize::MAX, 0, 0], "padding: expected 0 or more pixels, at most"),
        ] {
            let refusal = Window::new(kernel, stride, padding).unwrap_err().to_string();
            assert!(refusal.contains(said), "{refusal}");
        }
    }

    #[test]
    #[should_panic(expected = "stride: expected 1 or more pixels")]
    fn square_window_without_a_stride_panics_with_what_is_wrong() {
        Window::square(3, 0, 1);
    }

    #[test]
    #[should_panic(expected = "does not fit into 2 padded pixels")]
    fn pixels_of_an_image_smaller_than_the_kernel_panic() {
        Window::square(3, 1, 0).pixels((1, 2, 5, 1));
    }

    #[test]
    fn im2col_element_is_the_pixel_under_the_tap() {
        let x = normal((2, 6, 7, 3), 1);
        for window in WINDOWS {
            let (oh, ow) = window.output((6, 7));
            let [left, _, top, _] = window.padding;
            let columns = window.kernel.0 * window.kernel.1 * 3;
            let matrix = im2col(&x, window);
            assert_eq!(matrix.len(), 2 * oh * ow * columns);
            for (i, &found) in matrix.iter().enumerate() {
                let (p, k) = (i / columns, i % columns);
                let (n, y, xx) = (p / (oh * ow), p / ow % oh, p % ow);
                let (kh, kw, c) = (k / (3 * window.kernel.1), k / 3 % window.kernel.1, k % 3);
                let (row, column) = (y * window.stride + kh, xx * window.stride + kw);
                let inside = row >= top && column >= left && row - top < 6 && column - left < 7;
                assert_eq!(found, if inside { x[[n, row - top, column - left, c]] } else { 0.0 }, "{window:?}");
            }
        }
    }

    #[test]
    fn col2im_is_the_adjoint_of_im2col() {
        let x = normal((2, 6, 7, 3), 1);
        for window in WINDOWS {
            let columns = im2col(&x, window);
            let matrix = normal(columns.len(), 2);
            let left: f64 = columns.iter().zip(&matrix).map(|(a, b)| a * b).sum();
            let right: f64 = (&x * &col2im(flat(&matrix), x.dim(), window)).sum();
            assert!((left - right).abs() < 1e-11, "{window:?}: {left} and {right}"); // sums of ~1000 terms of order 1
        }
    }
}
