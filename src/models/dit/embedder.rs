//! Time and class as one vector, diffusers' `CombinedTimestepLabelEmbeddings`: each block has its own.
//!
//! ```text
//! c = linear_2(silu(linear_1(sinusoids of t))) + table[label]
//! ```
//!
//! The gradient of c is that of both terms; everything else is the layers' own rule.

use ndarray::{Array2, Ix2};

use crate::layers::embedding::{ClassEmbedding, TimeEmbedding};
use crate::layers::{Kept, Layout, ParameterVector, Weights, add_to};
use crate::models::Trace;
use crate::models::timestep_embedding::{self, TimestepEmbedding};
use crate::numerics::Real;

/// The sinusoids that every block is fed: cosines first, frequencies down to 1/10000, as diffusers has them for this network.
/// (Peebles & Xie's own code ends one step before: freq_shift 0.)
pub(crate) const SINUSOIDS: TimeEmbedding = TimeEmbedding { dim: 256, flip_sin_to_cos: true, freq_shift: 1.0 };

/// Two linear layers and a table.
#[derive(Clone, Debug)]
pub(crate) struct Embedder {
    time: TimestepEmbedding,
    classes: ClassEmbedding,
}

/// What the backward pass needs.
pub(crate) type Cache<F> = timestep_embedding::Cache<F>;

impl Embedder {
    /// From this many sinusoids to vectors of `channels`, for this many labels.
    pub fn new(layout: &mut Layout, name: &str, sinusoids: usize, channels: usize, labels: usize) -> Self {
        Embedder {
            time: TimestepEmbedding::new(layout, &format!("{name}.timestep_embedder"), sinusoids, channels),
            classes: ClassEmbedding::new(layout, &format!("{name}.class_embedder.embedding_table"), labels, channels),
        }
    }

    /// Where its parameters begin.
    pub fn place(&self) -> usize {
        self.time.linears[0].weight.start
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
        let (mut c, cache) = self.time.forward(w, sinusoids);
        let [first, second] = &self.time.linears;
        trace.layer(first.weight, &cache.before_silu);
        trace.block(second.weight, &c);
        let of_class = self.classes.forward(w, labels);
        trace.block(self.classes.weight, &of_class);
        add_to(&mut c, &of_class);
        (c, cache)
    }

    /// The gradients of the parameters from dc, added into `grads`: what they are fed has none.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        cache: Cache<F>,
        labels: &[usize],
        dc: impl Into<Kept<F, Ix2>>,
        grads: &mut ParameterVector<F>,
    ) {
        let dc = dc.into();
        self.classes.backward(labels, dc.clone(), grads);
        self.time.backward(w, cache, dc, grads);
    }
}
