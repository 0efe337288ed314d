//! A classifier: a small residual network that reads what class an image is of.
//!
//! ```text
//! emb = linear_2(silu(linear_1(sinusoids(1000·φ/(π/2)))))       where noisy images are read
//! h = conv_in(x)
//! h = block(h, silu(emb))           for each level, which halves height and width
//! features = mean over pixels of silu(norm_out(h))
//! logits = linear(features)
//! ```
//!
//! Its vector of features, the last before the logits, is what pictures are compared by
//! ([`quality`](crate::evaluate::quality)). Source: pre-activation residual networks (He et al. 2016), with group norms,
//! so that an image is read alike whatever is beside it. Proven by central differences and by PyTorch's gradients.
//!
//! One that reads noisy images is told the [`angle`](crate::diffusion::Level::angle) φ of each, 0 for a clean one and π/2 for
//! noise alone, whatever schedule made it noisy; it is shown them at their variance-preserving level. Its gradient guides
//! ([`steered`](crate::denoise::steered)).

pub mod block;
mod config;

use std::f64::consts::FRAC_PI_2;

use ndarray::{Array2, Array4, Ix2};

use crate::Result;
use crate::layers::activation::{silu, silu_backward};
use crate::layers::conv2d::{self, Conv2d};
use crate::layers::embedding::TimeEmbedding;
use crate::layers::group_norm::{self, GroupNorm};
use crate::layers::im2col::Window;
use crate::layers::linear::{self, Linear};
use crate::layers::mean_pool::{mean_pool, mean_pool_backward};
use crate::layers::{Kept, Layout, ParameterVector, Weights};
use crate::models::config_file;
use crate::numerics::{Real, parallel};
use block::{Block, BlockSettings};
pub use config::ClassifierConfig;

/// Images that one task takes through the network together; fewer or more give the same bits.
const MICROBATCH: usize = 16;

/// The architecture: which layers there are and where their parameters lie. It holds no numbers.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// What it was built from.
    pub config: ClassifierConfig,
    /// Its parameters' names, shapes and places.
    pub layout: Layout,
    conv_in: Conv2d,
    blocks: Vec<Block>,
    norm_out: GroupNorm,
    linear: Linear,
    level: Option<LevelEmbedding>,
}

/// How noisy an image is, as a vector.
#[derive(Clone, Debug)]
struct LevelEmbedding {
    sinusoids: TimeEmbedding,
    linears: [Linear; 2],
}

/// The caches of a [`LevelEmbedding`], and what its two activations were of.
#[derive(Debug)]
struct LevelCache<F: Real> {
    caches: [linear::Cache<F>; 2],
    before_silu: [Kept<F, Ix2>; 2],
}

/// The caches of one forward pass.
#[derive(Debug)]
pub struct Tape<F: Real> {
    conv_in: conv2d::Cache<F>,
    blocks: Vec<block::Cache<F>>,
    norm_out: group_norm::Cache<F>,
    size: (usize, usize),
    linear: linear::Cache<F>,
    level: Option<LevelCache<F>>,
}

/// What is read in images.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading<F> {
    /// (n, features).
    pub features: Array2<F>,
    /// (n, classes): their softmax is the probability of each class.
    pub logits: Array2<F>,
}

impl Classifier {
    /// Builds the network that the configuration describes.
    ///
    /// # Errors
    /// A configuration that is not supported, by field and value.
    pub fn new(config: ClassifierConfig) -> Result<Self> {
        config.validate("config")?;
        let (mut layout, channels) = (Layout::default(), &config.block_out_channels);
        let (groups, norm_eps, last) = (config.norm_num_groups, config.norm_eps, channels[channels.len() - 1]);
        let conv_in = Conv2d::new(&mut layout, "conv_in", config.in_channels, channels[0], Window::square(3, 1, 1));
        let pairs = channels.windows(2).enumerate();
        let settings = BlockSettings { groups, norm_eps, level_channels: config.level_embedding_dim };
        let blocks = pairs
            .map(|(i, pair)| Block::new(&mut layout, &format!("blocks.{i}"), (pair[0], pair[1]), 2, settings))
            .collect();
        let norm_out = GroupNorm::new(&mut layout, "norm_out", last, groups, norm_eps);
        let linear = Linear::new(&mut layout, "linear", last, config.num_classes);
        let level = config.level_embedding_dim.map(|dim| LevelEmbedding {
            sinusoids: TimeEmbedding { dim, flip_sin_to_cos: false, freq_shift: 0.0 },
            linears: ["linear_1", "linear_2"]
                .map(|name| Linear::new(&mut layout, &format!("level_embedding.{name}"), dim, dim)),
        });
        config_file::check_parameters(&layout, "block_out_channels, num_classes, level_embedding_dim")?;
        Ok(Classifier { config, layout, conv_in, blocks, norm_out, linear, level })
    }

    /// Whether noisy images are read, and their gradient can guide.
    pub fn reads_noise(&self) -> bool {
        self.level.is_some()
    }

    /// What it reads, and the caches of the backward pass; `angles` say how noisy the images are, and clean they are without.
    ///
    /// # Shapes
    /// x (n, h, w, in_channels) and angles (n) to features (n, last of block_out_channels) and logits (n, num_classes).
    ///
    /// # Panics
    /// If x has other channels than the network, or there is not an angle for each image.
    pub fn forward<F: Real>(&self, w: &dyn Weights<F>, x: Array4<F>, angles: Option<&[f64]>) -> (Reading<F>, Tape<F>) {
        let clean = vec![0.0; x.dim().0];
        let embedded = self.level.as_ref().map(|level| level.forward(w, angles.unwrap_or(&clean)));
        let (silu_emb, level) = embedded.unzip();
        let (mut h, conv_in) = self.conv_in.forward(w, x);
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, cache) = block.forward(w, h, silu_emb.as_ref());
            blocks.push(cache);
            h = y;
        }
        let (h, norm_out) = self.norm_out.forward_silu(w, h);
        let size = (h.dim().1, h.dim().2);
        let features = Kept::from(mean_pool(h));
        let (logits, linear) = self.linear.forward(w, features.clone());
        let tape = Tape { conv_in, blocks, norm_out, size, linear, level };
        (Reading { features: features.into_owned(), logits }, tape)
    }

    /// Gradients of all parameters from dz = ∂L/∂(logits), added into `grads`.
    ///
    /// # Panics
    /// If the tape is not that of a [`forward`](Classifier::forward) pass of this network, or dz has another shape than its logits.
    pub fn parameter_gradients<F: Real>(
        &self,
        w: &dyn Weights<F>,
        tape: Tape<F>,
        dz: impl Into<Kept<F, Ix2>>,
        grads: &mut ParameterVector<F>,
    ) {
        let (dh, conv_in) = self.backward_to_conv_in(w, tape, dz.into(), grads);
        self.conv_in.parameter_gradients(conv_in, dh, grads);
    }

    /// Gradients of all parameters from dz = ∂L/∂(logits), added into `grads`; returns ∂L/∂x.
    ///
    /// # Panics
    /// As [`parameter_gradients`](Classifier::parameter_gradients).
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        tape: Tape<F>,
        dz: impl Into<Kept<F, Ix2>>,
        grads: &mut ParameterVector<F>,
    ) -> Array4<F> {
        let (dh, conv_in) = self.backward_to_conv_in(w, tape, dz.into(), grads);
        self.conv_in.backward(w, conv_in, dh, grads)
    }

    /// The gradient of what came out of `conv_in`, and the cache of that layer.
    fn backward_to_conv_in<F: Real>(
        &self,
        w: &dyn Weights<F>,
        tape: Tape<F>,
        dz: Kept<F, Ix2>,
        grads: &mut ParameterVector<F>,
    ) -> (Array4<F>, conv2d::Cache<F>) {
        let d_features = self.linear.backward(w, tape.linear, dz, grads);
        let dh = mean_pool_backward(tape.size, d_features);
        let mut dh = self.norm_out.backward_silu(w, tape.norm_out, dh, grads);
        let mut d_silu_emb = self.config.level_embedding_dim.map(|dim| Array2::zeros((dh.dim().0, dim)));
        for (block, cache) in self.blocks.iter().zip(tape.blocks).rev() {
            dh = block.backward(w, cache, dh, d_silu_emb.as_mut(), grads);
        }
        if let (Some(level), Some(cache), Some(d_silu_emb)) = (&self.level, tape.level, d_silu_emb) {
            level.backward(w, cache, d_silu_emb, grads);
        }
        (dh, tape.conv_in)
    }

    /// What it reads in clean images, of any number; the same bits for an image alone and among others.
    ///
    /// # Shapes
    /// As [`forward`](Classifier::forward).
    ///
    /// # Panics
    /// If x has other channels than the network, or there is no image.
    pub fn read<F: Real>(&self, w: &dyn Weights<F>, x: &Array4<F>) -> Reading<F> {
        let ranges = parallel::ranges(x.dim().0, MICROBATCH);
        let parts = parallel::map(ranges.len(), |i| {
            self.forward(w, x.slice(ndarray::s![ranges[i].clone(), .., .., ..]).to_owned(), None).0
        });
        let join = |of: fn(&Reading<F>) -> &Array2<F>| {
            let views: Vec<_> = parts.iter().map(|part| of(part).view()).collect();
            ndarray::concatenate(ndarray::Axis(0), &views).expect("rows of equal length")
        };
        Reading { features: join(|part| &part.features), logits: join(|part| &part.logits) }
    }
}

impl LevelEmbedding {
    /// silu(emb), shape (n, dim), of angles (n).
    fn forward<F: Real>(&self, w: &dyn Weights<F>, angles: &[f64]) -> (Kept<F, Ix2>, LevelCache<F>) {
        let times: Vec<f64> = angles.iter().map(|angle| 1000.0 * (angle / FRAC_PI_2)).collect();
        let (h, first) = self.linears[0].forward(w, self.sinusoids.embed(&times));
        let h = Kept::from(h);
        let (emb, second) = self.linears[1].forward(w, silu(h.clone()));
        let emb = Kept::from(emb);
        (silu(emb.clone()).into(), LevelCache { caches: [first, second], before_silu: [h, emb] })
    }

    fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        cache: LevelCache<F>,
        d_silu_emb: Array2<F>,
        grads: &mut ParameterVector<F>,
    ) {
        let LevelCache { caches: [first, second], before_silu: [h, emb] } = cache;
        let dh = self.linears[1].backward(w, second, silu_backward(emb, d_silu_emb), grads);
        self.linears[0].backward(w, first, silu_backward(h, dh), grads);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradient_check::check;
    use crate::numerics::rng::normal;

    fn small(level_embedding_dim: Option<usize>) -> Classifier {
        let config = ClassifierConfig {
            sample_size: (6, 5),
            in_channels: 2,
            num_classes: 3,
            block_out_channels: vec![4, 4, 8],
            norm_num_groups: 2,
            norm_eps: 1e-5,
            level_embedding_dim,
        };
        Classifier::new(config).expect("valid")
    }

    #[test]
    fn classifier_gradients_equal_central_differences() {
        for level_embedding_dim in [None, Some(6)] {
            let classifier = small(level_embedding_dim);
            let w = ParameterVector(normal(classifier.layout.count(), 1).mapv(|x| 0.5 * x).to_vec());
            check(
                &w,
                &normal((2, 6, 5, 2), 2),
                3,
                |w, x| {
                    let (reading, tape) = classifier.forward(w, x.clone(), Some(&[0.01, 1.2]));
                    (reading.logits, tape)
                },
                |w, tape, dz, grads| classifier.backward(w, tape, dz.clone(), grads),
            )
            .expect("the gradients are right");
        }
    }

    #[test]
    fn a_classifier_that_is_told_nothing_reads_images_as_clean_ones() {
        let classifier = small(Some(6));
        let w = ParameterVector(normal(classifier.layout.count(), 1).mapv(|x| 0.5 * x).to_vec());
        let x: Array4<f64> = normal((2, 6, 5, 2), 2);
        let clean = classifier.read(&w, &x);
        assert_eq!(classifier.forward(&w, x.clone(), Some(&[0.0; 2])).0, clean);
        assert_ne!(classifier.forward(&w, x, Some(&[0.3; 2])).0, clean);
    }

    #[test]
    fn an_image_is_read_alike_alone_and_among_others() {
        let classifier = small(None);
        let w = classifier.layout.initial::<f32>(1);
        let x = normal((37, 6, 5, 2), 4).mapv(|x| x as f32);
        let all = classifier.read(&w, &x);
        for i in [0, 16, 36] {
            let alone = classifier.read(&w, &x.slice(ndarray::s![i..i + 1, .., .., ..]).to_owned());
            assert_eq!(alone.features.row(0), all.features.row(i));
            assert_eq!(alone.logits.row(0), all.logits.row(i));
        }
    }
}
