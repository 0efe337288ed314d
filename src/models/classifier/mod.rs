//! A classifier: a small residual network that reads what class an image is of.
//!
//! ```text
//! h = conv_in(x)
//! h = block(h)                      for each level, which halves height and width
//! features = mean over pixels of silu(norm_out(h))
//! logits = linear(features)
//! ```
//!
//! Its vector of features, the last before the logits, is what pictures are compared by
//! ([`quality`](crate::evaluate::quality)). Source: pre-activation residual networks (He et al. 2016), with group norms,
//! so that an image is read alike whatever is beside it. Proven by central differences and by PyTorch's gradients.

pub mod block;
mod config;

use ndarray::{Array2, Array4, Ix2};

use crate::Result;
use crate::layers::conv2d::{self, Conv2d};
use crate::layers::group_norm::{self, GroupNorm};
use crate::layers::im2col::Window;
use crate::layers::linear::{self, Linear};
use crate::layers::mean_pool::{mean_pool, mean_pool_backward};
use crate::layers::{GradientSink, Kept, Layout, ParameterVector, Weights};
use crate::models::config_file;
use crate::numerics::{Real, parallel};
use block::Block;
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
}

/// The caches of one forward pass.
#[derive(Debug)]
pub struct Tape<F: Real> {
    conv_in: conv2d::Cache<F>,
    blocks: Vec<block::Cache<F>>,
    norm_out: group_norm::Cache<F>,
    size: (usize, usize),
    linear: linear::Cache<F>,
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
        let blocks = pairs
            .map(|(i, pair)| Block::new(&mut layout, &format!("blocks.{i}"), (pair[0], pair[1]), 2, groups, norm_eps))
            .collect();
        let norm_out = GroupNorm::new(&mut layout, "norm_out", last, groups, norm_eps);
        let linear = Linear::new(&mut layout, "linear", last, config.num_classes);
        config_file::check_parameters(&layout, "block_out_channels, num_classes")?;
        Ok(Classifier { config, layout, conv_in, blocks, norm_out, linear })
    }

    /// What it reads, and the caches of the backward pass.
    ///
    /// # Shapes
    /// x (n, h, w, in_channels) to features (n, last of block_out_channels) and logits (n, num_classes).
    ///
    /// # Panics
    /// If x has other channels than the network.
    pub fn forward<F: Real>(&self, w: &dyn Weights<F>, x: Array4<F>) -> (Reading<F>, Tape<F>) {
        let (mut h, conv_in) = self.conv_in.forward(w, x);
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, cache) = block.forward(w, h);
            blocks.push(cache);
            h = y;
        }
        let (h, norm_out) = self.norm_out.forward_silu(w, h);
        let size = (h.dim().1, h.dim().2);
        let features = Kept::from(mean_pool(h));
        let (logits, linear) = self.linear.forward(w, features.clone());
        let tape = Tape { conv_in, blocks, norm_out, size, linear };
        (Reading { features: features.into_owned(), logits }, tape)
    }

    /// Gradients of all parameters from dz = ∂L/∂(logits), added into `grads`, which hears which are final, block by block.
    ///
    /// # Panics
    /// If the tape is not that of a [`forward`](Classifier::forward) pass of this network, or dz has another shape than its logits.
    pub fn parameter_gradients<F: Real>(
        &self,
        w: &dyn Weights<F>,
        tape: Tape<F>,
        dz: impl Into<Kept<F, Ix2>>,
        grads: &mut dyn GradientSink<F>,
    ) {
        let (dh, conv_in) = self.backward_to_conv_in(w, tape, dz.into(), grads);
        self.conv_in.parameter_gradients(conv_in, dh, grads.grads());
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
        grads: &mut dyn GradientSink<F>,
    ) -> (Array4<F>, conv2d::Cache<F>) {
        let d_features = self.linear.backward(w, tape.linear, dz, grads.grads());
        let dh = mean_pool_backward(tape.size, d_features);
        let mut dh = self.norm_out.backward_silu(w, tape.norm_out, dh, grads.grads());
        grads.finished(self.norm_out.weight.start);
        for (block, cache) in self.blocks.iter().zip(tape.blocks).rev() {
            dh = block.backward(w, cache, dh, grads.grads());
            grads.finished(block.place());
        }
        (dh, tape.conv_in)
    }

    /// What it reads in images, of any number; the same bits for an image alone and among others.
    ///
    /// # Shapes
    /// As [`forward`](Classifier::forward).
    ///
    /// # Panics
    /// If x has other channels than the network, or there is no image.
    pub fn read<F: Real>(&self, w: &dyn Weights<F>, x: &Array4<F>) -> Reading<F> {
        let ranges = parallel::ranges(x.dim().0, MICROBATCH);
        let parts = parallel::map(ranges.len(), |i| {
            self.forward(w, x.slice(ndarray::s![ranges[i].clone(), .., .., ..]).to_owned()).0
        });
        let join = |of: fn(&Reading<F>) -> &Array2<F>| {
            let views: Vec<_> = parts.iter().map(|part| of(part).view()).collect();
            ndarray::concatenate(ndarray::Axis(0), &views).expect("rows of equal length")
        };
        Reading { features: join(|part| &part.features), logits: join(|part| &part.logits) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradient_check::check;
    use crate::numerics::rng::normal;

    fn small() -> Classifier {
        let config = ClassifierConfig {
            sample_size: (6, 5),
            in_channels: 2,
            num_classes: 3,
            block_out_channels: vec![4, 4, 8],
            norm_num_groups: 2,
            norm_eps: 1e-5,
        };
        Classifier::new(config).expect("valid")
    }

    #[test]
    fn classifier_gradients_equal_central_differences() {
        let classifier = small();
        let w = ParameterVector(normal(classifier.layout.count(), 1).mapv(|x| 0.5 * x).to_vec());
        check(
            &w,
            &normal((2, 6, 5, 2), 2),
            3,
            |w, x| {
                let (reading, tape) = classifier.forward(w, x.clone());
                (reading.logits, tape)
            },
            |w, tape, dz, grads| classifier.backward(w, tape, dz.clone(), grads),
        )
        .expect("the gradients are right");
    }

    #[test]
    fn an_image_is_read_alike_alone_and_among_others() {
        let classifier = small();
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
