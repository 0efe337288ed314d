//! From sinusoids to a vector, diffusers' `TimestepEmbedding`:
//!
//! ```text
//! y = linear_2(silu(linear_1(s)))
//! ```
//!
//! dy goes through linear_2, then is multiplied by silu′ of what came out of linear_1, and ends in the parameters of linear_1:
//! sinusoids are data, without a gradient. Proven by central differences of whole networks and PyTorch's gradients of every
//! parameter.

use ndarray::{Array2, Ix2};

use crate::layers::activation::{silu, silu_backward};
use crate::layers::linear::{self, Linear};
use crate::layers::{Kept, Layout, ParameterVector, Weights};
use crate::numerics::Real;

/// Two linear layers.
#[derive(Clone, Debug)]
pub(crate) struct TimestepEmbedding {
    pub(crate) linears: [Linear; 2],
}

/// What the backward pass needs.
#[derive(Debug)]
pub(crate) struct Cache<F: Real> {
    linears: [linear::Cache<F>; 2],
    /// What came out of linear_1.
    pub(crate) before_silu: Kept<F, Ix2>,
}

impl TimestepEmbedding {
    /// Parameters `NAME.linear_1` and `NAME.linear_2`, from this many sinusoids to vectors of `channels`.
    pub fn new(layout: &mut Layout, name: &str, sinusoids: usize, channels: usize) -> Self {
        let linears = [("linear_1", sinusoids), ("linear_2", channels)];
        TimestepEmbedding {
            linears: linears.map(|(part, inputs)| Linear::new(layout, &format!("{name}.{part}"), inputs, channels)),
        }
    }

    /// y of the equation above.
    ///
    /// # Shapes
    /// s (n, sinusoids) to (n, channels).
    pub fn forward<F: Real>(&self, w: &dyn Weights<F>, s: impl Into<Kept<F, Ix2>>) -> (Array2<F>, Cache<F>) {
        let [first, second] = &self.linears;
        let (before_silu, first_cache) = first.forward(w, s);
        let before_silu = Kept::from(before_silu);
        let (y, second_cache) = second.forward(w, silu(before_silu.clone()));
        (y, Cache { linears: [first_cache, second_cache], before_silu })
    }

    /// The gradients of the parameters from dy, added into `grads`.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        Cache { linears: [first_cache, second_cache], before_silu }: Cache<F>,
        dy: impl Into<Kept<F, Ix2>>,
        grads: &mut ParameterVector<F>,
    ) {
        let [first, second] = &self.linears;
        let dh = second.backward(w, second_cache, dy, grads);
        first.parameter_gradients(first_cache, silu_backward(before_silu, dh), grads);
    }
}
