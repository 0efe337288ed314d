//! Time and class as one vector, diffusers' `CombinedTimestepLabelEmbeddings`: each block has its own.
//!
//! ```text
//! c = linear_2(silu(linear_1(sinusoids of t))) + table[label]
//! ```
//!
//! The gradient of c is that of both terms; everything else is the layers' own rule.

use ndarray::{Array2, Ix2};

use crate::layers::activation::{silu, silu_backward};
use crate::layers::embedding::{ClassEmbedding, TimeEmbedding};
use crate::layers::linear::{self, Linear};
use crate::layers::{Kept, Layout, ParameterVector, Weights, add_to};
use crate::models::Trace;
use crate::numerics::Real;

/// The sinusoids that every block is fed: cosines first, frequencies down to 1/10000, as diffusers has them for this network.
/// (Peebles & Xie's own code ends one step before: freq_shift 0.)
pub(crate) const SINUSOIDS: TimeEmbedding = TimeEmbedding { dim: 256, flip_sin_to_cos: true, freq_shift: 1.0 };

/// Two linear layers and a table.
#[derive(Clone, Debug)]
pub(crate) struct Embedder {
    linears: [Linear; 2],
    classes: ClassEmbedding,
}

/// What the backward pass needs.
#[derive(Debug)]
pub(crate) struct Cache<F: Real> {
    linears: [linear::Cache<F>; 2],
    before_silu: Kept<F, Ix2>,
}

impl Embedder {
    /// From this many sinusoids to vectors of `channels`, for this many labels.
    pub fn new(layout: &mut Layout, name: &str, sinusoids: usize, channels: usize, labels: usize) -> Self {
        let time = format!("{name}.timestep_embedder");
        Embedder {
            linears: [
                Linear::new(layout, &format!("{time}.linear_1"), sinusoids, channels),
                Linear::new(layout, &format!("{time}.linear_2"), channels, channels),
            ],
            classes: ClassEmbedding::new(layout, &format!("{name}.class_embedder.embedding_table"), labels, channels),
        }
    }

    /// Where its parameters begin.
    pub fn place(&self) -> usize {
        self.linears[0].weight.start
    }

    /// c of the equation above.
    ///
    /// # Shapes
    /// sinusoids (n, sinusoids), labels (n) to (n, channels).
    pub fn forward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        sinusoids: impl Into<Kept<F, Ix2>>,
        labels: &[usize],
        trace: &mut Trace<F>,
    ) -> (Array2<F>, Cache<F>) {
        let [first, second] = &self.linears;
        let (before_silu, first_cache) = first.forward(w, sinusoids);
        let before_silu = Kept::from(before_silu);
        trace.layer(first.weight, &before_silu);
        let (mut c, second_cache) = second.forward(w, silu(before_silu.clone()));
        trace.block(second.weight, &c);
        let of_class = self.classes.forward(w, labels);
        trace.block(self.classes.weight, &of_class);
        add_to(&mut c, &of_class);
        (c, Cache { linears: [first_cache, second_cache], before_silu })
    }

    /// The gradients of the parameters from dc, added into `grads`: what they are fed has none.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        Cache { linears: [first_cache, second_cache], before_silu }: Cache<F>,
        labels: &[usize],
        dc: impl Into<Kept<F, Ix2>>,
        grads: &mut ParameterVector<F>,
    ) {
        let dc = dc.into();
        let [first, second] = &self.linears;
        self.classes.backward(labels, dc.clone(), grads);
        let dh = second.backward(w, second_cache, dc, grads);
        first.parameter_gradients(first_cache, silu_backward(before_silu, dh), grads);
    }
}
