//! Layers with their gradients derived by hand: one file a layer, the derivation first, forward and backward under it.
//!
//! # The course
//!
//! All derivations use one rule. The loss L is a number, dy_j = ∂L/∂y_j is known for every result y_j of a layer, and dx_i is
//! asked for. L changes with x_i through every y_j that x_i goes into, so by the chain rule
//!
//! ```text
//! dx_i = Σ_j dy_j · ∂y_j/∂x_i          over all j that x_i goes into
//! ```
//!
//! "x meets every y" in these pages means that sum. To derive a layer is to say where each number goes, and to differentiate
//! one formula. A letter means the same on every page: x is what goes in, y what comes out, W and b (or γ and β) are learned,
//! n counts images, r rows, p pixels, c channels. Read in this order, each page needs those before it alone:
//!
//! | | page | what is new in it |
//! |--:|---|---|
//! | 1 | [`linear`] | a product of matrices: dW = xᵀ dy, dx = dy Wᵀ |
//! | 2 | [`affine`] | one number that meets many rows: its gradient is a sum |
//! | 3 | [`activation`] | a function of each number: dx = dy y′(x) |
//! | 4 | [`softmax`] | every result depends on every input: a Jacobian matrix, and what is left of it |
//! | 5 | [`cross_entropy`] | a loss, and why p − 1 at the label is its gradient |
//! | 6 | [`dropout`] | a random layer is a fixed one once its numbers are drawn |
//! | 7 | [`embedding`] | rows of a table; time as sines |
//! | 8 | [`im2col`](mod@im2col) | the adjoint of a copy is a sum |
//! | 9 | [`conv2d`] | a convolution as a product of matrices: page 1 and page 8 together |
//! | 10 | [`resample`] | half and double resolution, each the adjoint of the other |
//! | 11 | [`mean_pool`] | a mean hands out its gradient in equal parts |
//! | 12 | [`group_norm`] | a number that acts directly, through a mean and through a variance |
//! | 13 | [`layer_norm`] | the same with one group |
//! | 14 | [`attention`] | pages 1 and 4 three times |
//! | 15 | [`patch`] | a permutation: its adjoint is its inverse |
//! | 16 | [`position`] | where a token stands |
//! | 17 | [`modulate`] | a scale, a shift and a gate that time and class say |
//! | 18 | [`gradient_check`] | how all of it is proven |
//!
//! Then: how layers make a block ([`res_block`](crate::models::unet), [`dit`](crate::models::dit)), and where dy is from at first
//! ([`loss`](crate::diffusion::loss)).
//!
//! # Conventions
//!
//! - An activation is `Array4<F>` of shape (n, h, w, c): image, row, column, channel; channels last. A sequence is `Array3<F>`
//!   (n, tokens, c), a batch of vectors `Array2<F>` (rows, c).
//! - Layers take every array by value, as `impl Into<`[`Kept`]`>`, forward and backward alike, and return plain arrays. Give
//!   the array itself if you need it no more: its memory becomes the result, or goes back to the pool for the next array. Make
//!   it `Kept` and give a clone, which is the same array, if you read it again. A reference is copied. So is an
//!   array with gaps, such as one with permuted axes: inside of a layer all are contiguous.
//! - `dx` is ∂L/∂x and has the shape of x. Input gradients are returned, parameter gradients are added into `grads`,
//!   which has the type of the parameters themselves: [`ParameterVector`].
//! - A layer holds no numbers, only [`Span`]s: where its parameters lie in the flat vector of the model. So one
//!   architecture serves f32 and f64, and gradients, moments and averages are vectors of the same layout.
//! - `forward` returns the result and a cache, which `backward` takes by move. Without a backward pass the cache is
//!   dropped at once.
//! - A wrong shape, an axis of length 0 among them, is a bug of whoever puts layers together: it panics with the layer and
//!   both shapes. [`UNet`](crate::models::unet::UNet) checks what it is given and returns an error instead.

pub mod activation;
pub mod affine;
pub mod attention;
pub mod conv2d;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod gradient_check;
pub mod group_norm;
pub mod im2col;
pub mod layer_norm;
pub mod linear;
pub mod mean_pool;
pub mod modulate;
mod narrow;
pub mod parameters;
pub mod patch;
pub mod per_image;
pub mod position;
pub mod resample;
pub mod softmax;
pub mod stopwatch;
pub mod weights;

use ndarray::{Array, Dimension};

pub use crate::numerics::buffer_pool::Kept;
pub use parameters::{GradientSink, Layout, ParameterVector, Span};
pub use weights::{Prepared, Weights};

use crate::numerics::instruction_set::every_instruction_set;
use crate::numerics::{Real, parallel};

/// The numbers of an array in order; it has no gaps, as [`Kept`] and the results of layers have none.
pub(crate) fn flat<F, D: Dimension>(x: &Array<F, D>) -> &[F] {
    x.as_slice().expect("activations are contiguous")
}

/// The same, to be written.
pub(crate) fn flat_mut<F, D: Dimension>(x: &mut Array<F, D>) -> &mut [F] {
    x.as_slice_mut().expect("activations are contiguous")
}

/// `data` as an activation of shape `dim`.
pub(crate) fn shaped<F, D: Dimension>(dim: impl ndarray::IntoDimension<Dim = D>, data: Vec<F>) -> Array<F, D> {
    Array::from_shape_vec(dim.into_dimension(), data).expect("as many numbers as the shape says")
}

/// y + x, in place.
pub(crate) fn add_to<F: Real, D: Dimension>(y: &mut Array<F, D>, x: &Array<F, D>) {
    assert_eq!(y.raw_dim(), x.raw_dim(), "a sum has one shape");
    let (size, x) = (y.len().max(1), flat(x));
    parallel::in_parts(flat_mut(y), size, 1, |at, y| add(y, &x[at..][..y.len()]));
}

every_instruction_set! {
    /// y + x.
    fn add<F>(y: &mut [F], x: &[F]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}
