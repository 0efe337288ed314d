//! Convolutions to very few channels: the last one of a network, which makes a picture.
//!
//! A tile of a product has sixteen columns or more, and here all but one to three of them would be empty. So other numbers
//! stand side by side in the registers: pixels, where y is computed, and taps, where dW is. The sums are those of
//! [`product`](crate::numerics::gemm::product), term for term: k in blocks of 256, the bias last.

use super::im2col::Window;
use crate::numerics::gemm::BLOCK;
use crate::numerics::instruction_set::every_instruction_set;
use crate::numerics::{Fused, Real, buffer_pool, parallel};

/// Channels up to which this is the faster way: grey pictures and colours. Its time grows with them; the time of a tile does not.
const FEW: usize = 3;

/// Pixels side by side: four registers of the widest kind, as many sums under way as a processor begins before the first ends.
const PIXELS: usize = 64;

/// Taps side by side.
const TAPS: usize = 32;

/// Whether a convolution to this many channels is done here.
pub(super) fn suits(window: &Window, c_out: usize) -> bool {
    c_out <= FEW && window.stride() == 1
}

/// y = im2col(x) · W + b of images that have their padding written out.
///
/// # Shapes
/// x (n, h, w, c), weight (kh·kw·c, c_out), bias (c_out) to y (n, oh, ow, c_out).
pub(super) fn forward<F: Real>(
    window: &Window,
    x: &[F],
    [h, w, c]: [usize; 3],
    [weight, bias]: [&[F]; 2],
    y: &mut [F],
) {
    let (oh, ow) = window.without_padding().output((h, w));
    let (size, c_out) = (h * w, bias.len());
    let starts = || window.taps(w, 1).into_iter().flat_map(|tap| (0..c).map(move |channel| channel * size + tap));
    let terms_of = |o: usize| -> Vec<(usize, F)> { starts().zip(weight[o..].iter().step_by(c_out).copied()).collect() };
    let terms: Vec<_> = (0..c_out).map(terms_of).collect();
    let images = x.chunks(size * c).zip(y.chunks_mut(oh * ow * c_out)).collect();
    parallel::deal(images, |(x, y): (&[F], &mut [F])| {
        // The last pixels have others beside them whose sums nobody reads, and these have windows.
        let mut planes = buffer_pool::take(size * c + PIXELS + window.kernel().1);
        planes[size * c..].fill(F::zero());
        transpose(x, c, &mut planes[..size * c]);
        let mut sums = buffer_pool::take((oh * w).next_multiple_of(PIXELS)); // oh rows of the padded width
        for (o, (terms, &bias)) in terms.iter().zip(bias).enumerate() {
            sums_of_pixels(&planes, terms, bias, &mut sums);
            for (sums, y) in sums.chunks(w).zip(y.chunks_mut(ow * c_out)) {
                y[o..].iter_mut().step_by(c_out).zip(sums).for_each(|(y, &sum)| *y = sum);
            }
        }
    });
}

/// dW += im2col(x)ᵀ · dy of images that have their padding written out.
///
/// # Shapes
/// x (n, h, w, c), dy (n, oh, ow, c_out) to dW (kh·kw·c, c_out).
pub(super) fn weight_gradient<F: Real>(
    window: &Window,
    x: &[F],
    dim: (usize, usize, usize, usize),
    dy: &[F],
    dw: &mut [F],
) {
    let (_, _, w, c) = dim;
    let (pixels, run) = (window.pixels(dim), window.kernel().1 * c);
    let c_out = dw.len() / (window.kernel().0 * run);
    let rows = dw.chunks_mut(run * c_out).enumerate().collect();
    parallel::deal(rows, |(kh, dw): (usize, &mut [F])| {
        for o in 0..c_out {
            sums_of_taps(&x[kh * w * c..], &pixels, &dy[o..], &mut dw[o..], [run, c_out]);
        }
    });
}

every_instruction_set! {
    /// planes[c, p] = x[p, c].
    fn transpose<F>(x: &[F], c: usize, planes: &mut [F]) {
        const SIDE: usize = 16;
        let size = x.len() / c;
        for first in (0..size).step_by(SIDE) {
            for channel in 0..c {
                let to = &mut planes[channel * size + first..channel * size + size.min(first + SIDE)];
                to.iter_mut().enumerate().for_each(|(i, to)| *to = x[(first + i) * c + channel]);
            }
        }
    }
}

every_instruction_set! {
    /// sums[p] = Σ over the terms (start, weight) of planes[start + p] · weight, block by block, + bias.
    fn sums_of_pixels<F>(planes: &[F], terms: &[(usize, F)], bias: F, sums: &mut [F]) {
        for (first, sums) in (0..).step_by(PIXELS).zip(sums.as_chunks_mut::<PIXELS>().0) {
            for (i, block) in terms.chunks(BLOCK).enumerate() {
                let mut acc = [F::zero(); PIXELS];
                for &(start, weight) in block {
                    let beside: &[F] = &planes[first + start..][..PIXELS];
                    for j in 0..PIXELS {
                        acc[j] = beside[j].fma::<P>(weight, acc[j]);
                    }
                }
                *sums = if i == 0 { acc } else { std::array::from_fn(|j| sums[j] + acc[j]) };
            }
            sums.iter_mut().for_each(|sum| *sum += bias);
        }
    }
}

every_instruction_set! {
    /// dw[k] += Σ over pixels p of x[pixels[p] + k] · dy[p], block by block, for `run` taps k; dw and dy of every c_out-th number.
    fn sums_of_taps<F>(x: &[F], pixels: &[usize], dy: &[F], dw: &mut [F], run_and_c_out: [usize; 2]) {
        let [run, c_out] = run_and_c_out;
        let wide = run - run % TAPS;
        for (pixels, dy) in pixels.chunks(BLOCK).zip(dy.chunks(BLOCK * c_out)) {
            for at in (0..wide).step_by(TAPS) {
                taps_beside::<P, F, TAPS>(&x[at..], pixels, dy, &mut dw[at * c_out..], c_out);
            }
            for at in wide..run {
                taps_beside::<P, F, 1>(&x[at..], pixels, dy, &mut dw[at * c_out..], c_out);
            }
        }
    }
}

/// N taps and one block of pixels.
#[inline(always)]
fn taps_beside<P: Fused, F: Real, const N: usize>(x: &[F], pixels: &[usize], dy: &[F], dw: &mut [F], c_out: usize) {
    let mut acc = [F::zero(); N];
    for (&pixel, &dy) in pixels.iter().zip(dy.iter().step_by(c_out)) {
        let beside = &x[pixel..][..N];
        for j in 0..N {
            acc[j] = beside[j].fma::<P>(dy, acc[j]);
        }
    }
    dw.iter_mut().step_by(c_out).zip(acc).for_each(|(dw, acc)| *dw += acc);
}
