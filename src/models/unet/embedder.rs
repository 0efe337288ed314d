//! What every residual block of the U-Net is told: the time, and of some networks a class.
//!
//! ```text
//! emb = mlp(sinusoids of t) (+ c)           what is told is silu(emb)
//! c = table[label]                          where there are classes
//! c = another mlp(sinusoids of the label)   with `class_embed_type` timestep
//! ```
//!
//! The gradient of each term of the sum is that of emb.

use ndarray::{Array2, Ix2};

use super::UNetConfig;
use crate::layers::activation::{silu, silu_backward};
use crate::layers::embedding::{ClassEmbedding, TimeEmbedding};
use crate::layers::{Kept, Layout, ParameterVector, Weights};
use crate::models::timestep_embedding::{self, TimestepEmbedding};
use crate::models::{Conditions, Time, Trace};
use crate::numerics::Real;

/// The sinusoids, and what makes vectors of them and of labels.
#[derive(Clone, Debug)]
pub(super) struct Embedder {
    pub(super) sinusoids: TimeEmbedding,
    time: TimestepEmbedding,
    class: Option<Class>,
}

/// How a label becomes a vector.
#[derive(Clone, Debug)]
enum Class {
    Table(ClassEmbedding),
    AsATime(TimestepEmbedding),
}

/// What the backward pass needs.
#[derive(Debug)]
pub(super) struct Cache<F: Real> {
    time: timestep_embedding::Cache<F>,
    class: Option<timestep_embedding::Cache<F>>,
    emb: Kept<F, Ix2>,
}

impl Embedder {
    /// Parameters `time_embedding` and, where there are classes, `class_embedding`.
    pub fn new(layout: &mut Layout, config: &UNetConfig) -> Self {
        let (dim, channels) = (config.block_out_channels[0], config.time_channels());
        let name = "class_embedding";
        Embedder {
            sinusoids: TimeEmbedding { dim, flip_sin_to_cos: config.flip_sin_to_cos, freq_shift: config.freq_shift },
            time: TimestepEmbedding::new(layout, "time_embedding", dim, channels),
            class: config.num_class_embeds.map(|labels| match config.class_embed_type {
                None => Class::Table(ClassEmbedding::new(layout, name, labels, channels)),
                Some(_) => Class::AsATime(TimestepEmbedding::new(layout, name, dim, channels)),
            }),
        }
    }

    /// silu(emb), shape (n, channels).
    pub fn forward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        conditions: Conditions,
        trace: &mut Trace<F>,
    ) -> (Kept<F, Ix2>, Cache<F>) {
        let sinusoids = match conditions.time {
            Time::Steps(t) => self.sinusoids.embed(t),
            Time::Embedded(embedding) => embedding.mapv(F::from_f64),
        };
        let (mut emb, time) = self.time.forward(w, sinusoids);
        trace.block(self.time.linears[1].weight, &emb);
        let mut class = None;
        if let (Some(of), Some(labels)) = (&self.class, conditions.labels) {
            let c = match of {
                Class::Table(table) => {
                    let c = table.forward(w, labels);
                    trace.layer(table.weight, &c);
                    c
                }
                Class::AsATime(mlp) => {
                    let labels: Vec<f64> = labels.iter().map(|&label| label as f64).collect();
                    let (c, cache) = mlp.forward(w, self.sinusoids.embed(&labels));
                    trace.block(mlp.linears[1].weight, &c);
                    class = Some(cache);
                    c
                }
            };
            emb += &c;
        }
        let emb = Kept::from(emb);
        (silu(emb.clone()).into(), Cache { time, class, emb })
    }

    /// The gradients of the parameters from that of silu(emb), added into `grads`.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        cache: Cache<F>,
        labels: Option<&[usize]>,
        d_silu_emb: Array2<F>,
        grads: &mut ParameterVector<F>,
    ) {
        let d_emb = Kept::from(silu_backward(cache.emb, d_silu_emb));
        match (&self.class, labels, cache.class) {
            (Some(Class::Table(table)), Some(labels), _) => table.backward(labels, d_emb.clone(), grads),
            (Some(Class::AsATime(mlp)), _, Some(cache)) => mlp.backward(w, cache, d_emb.clone(), grads),
            _ => {}
        }
        self.time.backward(w, cache.time, d_emb, grads);
    }
}
