//! Half and double resolution, and the concatenation of skip connections.
//!
//! # Derivations
//!
//! - Nearest, 2x: y[2h + a, 2w + b] = x[h, w] for a, b in {0, 1}. Each x is read four times: dx[h, w] is the sum of the four
//!   dy, added as (dy₀₀ + dy₀₁) + (dy₁₀ + dy₁₁).
//! - Average pool, 2x2: y[h, w] = ¼ ((x₀₀ + x₀₁) + (x₁₀ + x₁₁)), the adjoint of the above but for the factor; each x goes into one y: dx = ¼ dy, copied.
//! - Concatenation along channels: y = [a, b]; da and db are the two parts of dy.
//!
//! All are linear: no cache. Strided downsampling is a [`Conv2d`](super::conv2d::Conv2d). Proven by central differences
//! and PyTorch's numbers.
//!
//! Next in the [course](super#the-course): [`mean_pool`](super::mean_pool).

use std::ops::Range;

use ndarray::{Array4, Ix4};

use super::{Kept, flat};
use crate::numerics::{Real, buffer_pool, parallel};

/// Each pixel as a square of four.
///
/// # Shapes
/// x (n, h, w, c) to y (n, 2h, 2w, c).
pub fn upsample_nearest_2x<F: Real>(x: impl Into<Kept<F, Ix4>>) -> Array4<F> {
    upsample_nearest_2x_padded(x, [0; 4])
}

/// The same with zeros around each image, for the convolution that reads it: left, right, top, bottom.
///
/// # Shapes
/// x (n, h, w, c) to y (n, 2h + top + bottom, 2w + left + right, c).
pub fn upsample_nearest_2x_padded<F: Real>(
    x: impl Into<Kept<F, Ix4>>,
    [left, right, top, bottom]: [usize; 4],
) -> Array4<F> {
    let x = x.into();
    let (n, h, w, c) = x.dim();
    let (height, width) = (2 * h + top + bottom, 2 * w + left + right);
    let mut y = buffer_pool::take(n * height * width * c);
    let x = flat(&x);
    parallel::in_parts(&mut y, height * width * c, width * c, |at, rows| {
        for (row, y) in (at / (width * c)..).zip(rows.chunks_mut(width * c)) {
            let (image, row) = (row / height, row % height);
            if !(top..top + 2 * h).contains(&row) {
                y.fill(F::zero());
                continue;
            }
            let (before, y) = y.split_at_mut(left * c);
            let (pixels, after) = y.split_at_mut(2 * w * c);
            let x = x[(image * h + (row - top) / 2) * w * c..].chunks(c);
            for (two, x) in pixels.chunks_mut(2 * c).zip(x) {
                two[..c].copy_from_slice(x);
                two[c..].copy_from_slice(x);
            }
            before.fill(F::zero());
            after.fill(F::zero());
        }
    });
    y.into_array((n, height, width, c))
}

/// dx of [`upsample_nearest_2x`]: the sum of each square of four.
///
/// # Panics
/// If the height or width of dy is odd.
pub fn upsample_nearest_2x_backward<F: Real>(dy: impl Into<Kept<F, Ix4>>) -> Array4<F> {
    sum_of_squares_of_four(dy.into())
}

/// The mean of each square of four pixels.
///
/// # Shapes
/// x (n, 2h, 2w, c) to y (n, h, w, c).
///
/// # Panics
/// If the height or width is odd.
pub fn average_pool_2x<F: Real>(x: impl Into<Kept<F, Ix4>>) -> Array4<F> {
    let quarter = F::from_f64(0.25);
    sum_of_squares_of_four(x.into()).mapv_into(|sum| sum * quarter)
}

/// dx of [`average_pool_2x`]: a quarter of dy, four times.
pub fn average_pool_2x_backward<F: Real>(dy: impl Into<Kept<F, Ix4>>) -> Array4<F> {
    let quarter = F::from_f64(0.25);
    upsample_nearest_2x(dy).mapv_into(|dy| dy * quarter)
}

/// (x₀₀ + x₀₁) + (x₁₀ + x₁₁) of each square of four pixels.
fn sum_of_squares_of_four<F: Real>(x: Kept<F, Ix4>) -> Array4<F> {
    let (n, h, w, c) = x.dim();
    assert!(h % 2 == 0 && w % 2 == 0, "resample: {h} x {w} pixels are not whole squares of four");
    let mut sums = buffer_pool::take(x.len() / 4);
    let x = flat(&x);
    parallel::in_parts(&mut sums, h / 2 * (w / 2) * c, w / 2 * c, |at, sums| {
        for (rows, sums) in x[4 * at..].chunks(2 * w * c).zip(sums.chunks_mut(w / 2 * c)) {
            let (upper, lower) = rows.split_at(w * c);
            let squares = upper.chunks(2 * c).zip(lower.chunks(2 * c));
            for ((upper, lower), sums) in squares.zip(sums.chunks_mut(c)) {
                let ((a, b), (d, e)) = (upper.split_at(c), lower.split_at(c));
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = (a[i] + b[i]) + (d[i] + e[i]);
                }
            }
        }
    });
    sums.into_array((n, h / 2, w / 2, c))
}

/// [a, b] along the channels.
///
/// # Shapes
/// a (n, h, w, c₁) and b (n, h, w, c₂) to (n, h, w, c₁ + c₂).
///
/// # Panics
/// If they differ in more than their channels.
pub fn concat_channels<F: Real>(a: impl Into<Kept<F, Ix4>>, b: impl Into<Kept<F, Ix4>>) -> Array4<F> {
    let (a, b) = (a.into(), b.into());
    assert!(a.shape()[..3] == b.shape()[..3], "skip concatenation: {:?} and {:?}", a.dim(), b.dim());
    let (n, h, w, c1) = a.dim();
    let c2 = b.dim().3;
    let (c, a, b) = (c1 + c2, flat(&a), flat(&b));
    let mut y = buffer_pool::take(a.len() + b.len());
    parallel::in_parts(&mut y, h * w * c, c, |at, pixels| {
        let (a, b) = (a[at / c * c1..].chunks(c1), b[at / c * c2..].chunks(c2));
        for ((y, a), b) in pixels.chunks_mut(c).zip(a).zip(b) {
            y[..c1].copy_from_slice(a);
            y[c1..].copy_from_slice(b);
        }
    });
    y.into_array((n, h, w, c1 + c2))
}

/// (da, db) of [`concat_channels`], with the c₁ channels of a first.
///
/// # Panics
/// If dy has fewer channels than c₁.
pub fn split_channels<F: Real>(dy: impl Into<Kept<F, Ix4>>, c1: usize) -> (Array4<F>, Array4<F>) {
    let dy = dy.into();
    let (n, h, w, c) = dy.dim();
    let part = |channels: Range<usize>| {
        let (dy, width) = (flat(&dy), channels.len());
        let mut part = buffer_pool::take(n * h * w * width);
        parallel::in_parts(&mut part, h * w * width, width, |at, pixels| {
            let dy = dy[at / width * c..].chunks(c);
            pixels.chunks_mut(width).zip(dy).for_each(|(part, dy)| part.copy_from_slice(&dy[channels.clone()]));
        });
        part.into_array((n, h, w, width))
    };
    (part(0..c1), part(c1..c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::ParameterVector;
    use crate::layers::gradient_check::check;
    use crate::layers::im2col::Window;
    use crate::numerics::rng::normal;

    #[test]
    fn upsample_gradient_equals_central_differences() {
        check(
            &ParameterVector(vec![]),
            &normal((2, 3, 4, 5), 1),
            2,
            |_, x| (upsample_nearest_2x(x), ()),
            |_, (), dy, _| upsample_nearest_2x_backward(dy),
        )
        .expect("the gradient is right");
    }

    #[test]
    fn upsampled_and_padded_at_once_has_the_bits_of_one_after_the_other() {
        let (x, window) = (normal((2, 3, 4, 5), 1), Window::new((1, 1), 1, [1, 2, 3, 4]).expect("a window"));
        let padded = window.pad(upsample_nearest_2x(&x));
        assert_eq!(upsample_nearest_2x_padded(&x, window.padding()), *padded);
        assert_eq!((padded.dim(), padded[[1, 8, 8, 4]]), ((2, 13, 11, 5), x[[1, 2, 3, 4]]));
    }

    #[test]
    fn average_pool_gradient_equals_central_differences() {
        check(
            &ParameterVector(vec![]),
            &normal((2, 6, 4, 5), 1),
            2,
            |_, x| (average_pool_2x(x), ()),
            |_, (), dy, _| average_pool_2x_backward(dy),
        )
        .expect("the gradient is right");
    }

    #[test]
    fn average_pool_of_an_upsampled_image_is_the_image() {
        let x = normal((2, 3, 4, 5), 1);
        assert_eq!(average_pool_2x(upsample_nearest_2x(&x)), x); // sums of four equal numbers and a quarter are exact
    }

    #[test]
    fn split_channels_undoes_concat_channels() {
        let (a, b) = (normal((2, 3, 4, 5), 1), normal((2, 3, 4, 2), 2));
        let y = concat_channels(&a, &b);
        assert_eq!((y[[1, 2, 3, 4]], y[[1, 2, 3, 5]]), (a[[1, 2, 3, 4]], b[[1, 2, 3, 0]]));
        assert_eq!(split_channels(&y, 5), (a, b));
    }
}
