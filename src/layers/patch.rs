//! Images cut into patches, and put together again.
//!
//! ```text
//! patches[n, i · w/p + j, (a, b, c)] = image[n, i·p + a, j·p + b, c]
//! ```
//!
//! A patch is a token: its p² pixels one after the other, each with its channels. Nothing is added, so each way is a
//! permutation, and its adjoint is its inverse: the gradient of [`unpatchify`] is [`patchify`] of dy, and the other way round.
//! diffusers' output has the same order, `nhwpqc`.
//!
//! Next in the [course](super#the-course): [`position`](super::position).

use ndarray::{Array3, Array4, Ix3, Ix4};

use super::{Kept, flat, flat_mut};
use crate::numerics::{Real, buffer_pool, parallel};

/// The patches of each image, row after row.
///
/// # Shapes
/// x (n, h, w, c) to (n, h/p · w/p, p·p·c).
///
/// # Panics
/// If `patch` does not divide h and w.
pub fn patchify<F: Real>(x: impl Into<Kept<F, Ix4>>, patch: usize) -> Array3<F> {
    let x = x.into();
    let (n, h, w, c) = x.dim();
    assert!(h.is_multiple_of(patch) && w.is_multiple_of(patch), "patchify: patches of {patch} of {:?}", x.dim());
    let (size, run) = (h * w * c, patch * c);
    let mut tokens = buffer_pool::take(x.len()).into_array((n, h / patch * (w / patch), patch * run));
    let x = flat(&x);
    // A band is the patches side by side, or the rows of pixels that they cover: as many numbers.
    parallel::in_parts(flat_mut(&mut tokens), size, patch * w * c, |at, bands| {
        let x = &x[at..][..bands.len()];
        for (band, x) in bands.chunks_mut(patch * w * c).zip(x.chunks(patch * w * c)) {
            for_each_run(w, [patch, run], |in_token, in_image| {
                band[in_token..][..run].copy_from_slice(&x[in_image..][..run]);
            });
        }
    });
    tokens
}

/// The images of which `tokens` are the patches.
///
/// # Shapes
/// tokens (n, h/p · w/p, p·p·c) to (n, h, w, c), where `size` is (h, w).
///
/// # Panics
/// If `patch` does not divide h and w, or the tokens are not as many.
pub fn unpatchify<F: Real>(tokens: impl Into<Kept<F, Ix3>>, patch: usize, (h, w): (usize, usize)) -> Array4<F> {
    let tokens = tokens.into();
    let (n, count, length) = tokens.dim();
    let (run, c) = (length / patch, length / (patch * patch));
    let whole = h.is_multiple_of(patch) && w.is_multiple_of(patch) && length.is_multiple_of(patch * patch);
    assert!(whole && count == h / patch * (w / patch), "unpatchify: {:?} to images of {h} x {w}", tokens.dim());
    let mut x = buffer_pool::take(tokens.len()).into_array((n, h, w, c));
    let tokens = flat(&tokens);
    parallel::in_parts(flat_mut(&mut x), h * w * c, patch * w * c, |at, bands| {
        let tokens = &tokens[at..][..bands.len()];
        for (band, tokens) in bands.chunks_mut(patch * w * c).zip(tokens.chunks(patch * w * c)) {
            for_each_run(w, [patch, run], |in_token, in_image| {
                band[in_image..][..run].copy_from_slice(&tokens[in_token..][..run]);
            });
        }
    });
    x
}

/// Where each row of pixels of each patch of a band begins: among the tokens, and in the image.
fn for_each_run(w: usize, [patch, run]: [usize; 2], mut copy: impl FnMut(usize, usize)) {
    let side_by_side = w / patch;
    for j in 0..side_by_side {
        for a in 0..patch {
            copy((j * patch + a) * run, (a * side_by_side + j) * run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::ParameterVector;
    use crate::layers::gradient_check::check;
    use crate::numerics::rng::normal;

    #[test]
    fn patch_has_its_pixels_in_the_order_of_the_image() {
        let (h, w, c, p) = (6, 4, 3, 2);
        let x = ndarray::Array::from_shape_fn((2, h, w, c), |(n, h, w, c)| (1000 * n + 100 * h + 10 * w + c) as f32);
        let tokens = patchify(&x, p);
        assert_eq!(tokens.dim(), (2, 6, 12));
        for ((n, token, k), &found) in tokens.indexed_iter() {
            let (i, j, a, b) = (token / 2, token % 2, k / (2 * c), k / c % 2);
            assert_eq!(found, x[[n, i * p + a, j * p + b, k % c]], "image {n}, token {token}, element {k}");
        }
        assert_eq!(unpatchify(&tokens, p, (h, w)), x);
    }

    #[test]
    fn patch_of_one_pixel_is_the_pixel() {
        let x = normal((2, 3, 5, 4), 1);
        assert_eq!(flat(&patchify(&x, 1)), flat(&x));
    }

    #[test]
    fn patch_gradients_equal_central_differences() {
        let none = ParameterVector(vec![]);
        let size = (6, 3);
        let x = normal((2, 6, 3, 2), 1);
        check(&none, &x, 2, |_, x| (patchify(x, 3), ()), |_, (), dy, _| unpatchify(dy, 3, size))
            .expect("the gradient is right");
        let tokens = normal((2, 2, 18), 1);
        check(&none, &tokens, 2, |_, x| (unpatchify(x, 3, size), ()), |_, (), dy, _| patchify(dy, 3))
            .expect("the gradient is right");
    }
}
