//! What is one vector for each image, met by all its pixels.
//!
//! # Derivation
//!
//! y = h + u at every pixel, u one row for each image: dh = dy, and u met all pixels of its image, so du = Σ over pixels of dy.
//! The sum is [`column_sums`](crate::numerics::sum::column_sums). Proven by central differences of the blocks that use it.

use ndarray::{Array2, Array4};

use super::{flat, flat_mut, shaped};
use crate::numerics::instruction_set::every_instruction_set;
use crate::numerics::sum::plain_column_sums;
use crate::numerics::{Real, parallel};

/// Calls `change` with pixels of each image of h, perhaps not all at once, and the image's row of u.
///
/// # Shapes
/// h (n, h, w, c), u (n, any).
pub fn each_image<F: Real>(h: &mut Array4<F>, u: &Array2<F>, change: impl Fn(&mut [F], &[F]) + Sync) {
    let (size, channels) = (h.len() / u.nrows(), h.dim().3);
    let rows = flat(u);
    parallel::in_parts(flat_mut(h), size, channels, |at, h| change(h, &rows[at / size * u.ncols()..][..u.ncols()]));
}

/// h + u at every pixel.
///
/// # Shapes
/// h (n, h, w, c), u (n, c).
pub fn add_to_every_pixel<F: Real>(h: &mut Array4<F>, u: &Array2<F>) {
    each_image(h, u, |h, u| add_to_pixels(h, u));
}

every_instruction_set! {
    /// h + u at every pixel.
    fn add_to_pixels<F>(h: &mut [F], u: &[F]) {
        for pixel in h.chunks_exact_mut(u.len()) {
            for (h, &u) in pixel.iter_mut().zip(u) {
                *h += u;
            }
        }
    }
}

/// Σ over the pixels of each image, shape (n, c).
pub fn sum_over_pixels<F: Real>(x: &Array4<F>) -> Array2<F> {
    let (n, h, w, c) = x.dim();
    let sums_of = |image: &[F]| {
        let mut totals = vec![0.0; c];
        plain_column_sums(image, &mut totals);
        totals
    };
    let x = flat(x);
    let sums = parallel::map(n, |i| sums_of(&x[i * h * w * c..(i + 1) * h * w * c]));
    shaped((n, c), sums.into_iter().flatten().map(F::from_f64).collect())
}
