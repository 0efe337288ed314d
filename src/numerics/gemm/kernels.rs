//! The faster ways through a product that some processors have, for each precision.
//!
//! The trait is public only in name: no other crate can write its path. So no other crate implements
//! [`Real`](crate::numerics::Real), and none calls a kernel but through [`product`](super::product), which checks first.

use std::ops::Range;

use super::{Epilogue, Gather, Rectangle, Right};

/// A way through the tiles of a product: some columns of C (+)= A · B (+ bias), given that part of C.
pub type Tiles<F> = fn(Gather<F>, Right<F>, Range<usize>, Rectangle<F>, Epilogue<F>);

/// A way to transpose squares: `squares[i][k][j] = columns[j][i][k]`. So sixteen columns, each with its numbers side by
/// side, become rows of [`Panels`](super::Panels). Every column has at least as many sixteens of numbers as there are squares.
pub type Transpose<F> = fn(columns: [&[[F; 16]]; 16], squares: &mut [[[F; 16]; 16]]);

/// A way to turn scores times a scale into probabilities, in place, of rows of so many numbers that begin so far apart:
/// `(scores, width, stride, scale)`.
pub type Softmax<F> = fn(&mut [F], usize, usize, F);

/// A way to turn dP into dS, in place, given P: `(p, dp, width, stride, scale)`.
pub type SoftmaxGradient<F> = fn(&[F], &mut [F], usize, usize, F);

/// What the processor offers beyond that which every processor of the target has.
pub trait Kernels: Sized {
    /// A faster way through products, where this processor has it: the same bits.
    fn tiles() -> Option<Tiles<Self>> {
        None
    }
    /// A faster way to transpose sixteen columns of sixteen numbers than one by one, where this processor has it.
    fn transpose() -> Option<Transpose<Self>> {
        None
    }
    /// A faster softmax over rows, where this processor has it: the same bits.
    fn softmax() -> Option<Softmax<Self>> {
        None
    }
    /// Likewise its gradient.
    fn softmax_gradient() -> Option<SoftmaxGradient<Self>> {
        None
    }
}
