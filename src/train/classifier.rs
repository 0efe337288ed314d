//! Training of a classifier: softmax cross-entropy of images that are moved about a little.
//!
//! ```text
//! x, y         the next images of the epoch's order, and their labels
//! x'           x moved by up to `max_shift` pixels each way, its edge repeated
//! x''          cos φ x' + sin φ ε, φ uniform in 0..π/2, where noisy images are read; else x'
//! L            cross-entropy of the logits of x'' with y
//! w            a step of AdamW, and the average that follows it
//! ```
//!
//! Image i of step n is moved by the stream (seed, "classifier.shift", [n, i]), its φ is of "classifier.angle" and its ε of
//! "classifier.noise".

use std::f64::consts::FRAC_PI_2;

use ndarray::Array4;

use super::adamw::AdamW;
use super::gradient::{Zeros, over_microbatches, own_images};
use super::learning_rate::{Decay, learning_rate};
use super::step::{Descent, State, StepReport};
use crate::data::{Dataset, Order};
use crate::diffusion::{Level, q_sample};
use crate::layers::cross_entropy::cross_entropy;
use crate::layers::{ParameterVector, flat, flat_mut, shaped};
use crate::models::{Classifier, ClassifierConfig};
use crate::numerics::rng::Stream;
use crate::numerics::{Real, environment};
use crate::{Error, Result};

/// How a classifier is trained.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ClassifierRecipe {
    /// Steps.
    pub steps: u64,
    /// Images in a step.
    pub batch_size: usize,
    /// The highest learning rate; it rises for a twentieth of the steps, then falls as half a cosine.
    pub lr: f64,
    /// The most pixels that an image is moved, each way.
    pub max_shift: usize,
    /// Whether images are made noisy, so that the classifier can guide.
    pub noisy: bool,
    /// The seed of everything random.
    pub seed: u64,
}

impl Default for ClassifierRecipe {
    fn default() -> Self {
        ClassifierRecipe { steps: 6000, batch_size: 64, lr: 4e-3, max_shift: 2, noisy: false, seed: 0 }
    }
}

/// The length of the vector that says how noisy an image is.
const LEVEL_EMBEDDING_DIM: usize = 64;

impl ClassifierRecipe {
    fn check(&self) -> Result<()> {
        if self.steps == 0 {
            return Err(Error::value("steps", "at least 1", 0));
        }
        if !(1..=65_536).contains(&self.batch_size) {
            return Err(Error::value("batch_size", "1 to 65536 images", self.batch_size));
        }
        if !(self.lr > 0.0 && self.lr <= 1.0) {
            return Err(Error::value("lr", "a number in (0, 1]", self.lr));
        }
        Ok(())
    }
}

/// A classifier in training.
#[derive(Debug)]
pub struct ClassifierTrainer {
    recipe: ClassifierRecipe,
    classifier: Classifier,
    state: State,
    data: Dataset,
    order: Order,
    zeros: Zeros<f32>,
}

impl ClassifierTrainer {
    /// A classifier for these images, before its first step.
    ///
    /// # Errors
    /// A recipe that does not hold; images without labels, or of one class; a size that cannot be computed; a thread whose
    /// arithmetic is not the contract's.
    pub fn new(recipe: ClassifierRecipe, data: Dataset) -> Result<Self> {
        recipe.check()?;
        environment::check_current()?;
        let shape = data.shape();
        let Some(num_classes) = data.classes() else {
            return Err(Error::value("data", "images with labels, which a classifier learns", data.name()));
        };
        let (sample_size, in_channels) = ((shape.height, shape.width), shape.channels);
        let level_embedding_dim = recipe.noisy.then_some(LEVEL_EMBEDDING_DIM);
        let usual = ClassifierConfig::default();
        let config = ClassifierConfig { sample_size, in_channels, num_classes, level_embedding_dim, ..usual };
        let classifier = Classifier::new(config)?;
        let state = State::new(classifier.layout.initial(recipe.seed), true);
        let order = Order::new(recipe.seed, data.len());
        Ok(ClassifierTrainer { recipe, classifier, state, data, order, zeros: Zeros::default() })
    }

    /// The network.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// What it has learned: the averaged weights.
    pub fn weights(&self) -> &ParameterVector<f32> {
        self.state.best()
    }

    /// One step.
    ///
    /// # Errors
    /// A loss or gradient that is not finite, by step and tensor.
    pub fn step(&mut self) -> Result<StepReport> {
        let (n, recipe) = (self.state.step + 1, &self.recipe);
        let first = (n - 1) * recipe.batch_size as u64;
        let indices: Vec<usize> = (0..recipe.batch_size as u64).map(|i| self.order.index_at(first + i)).collect();
        let labels: Vec<usize> =
            self.data.labels_of(&indices).expect("checked").into_iter().map(|label| label as usize).collect();
        let own = own_images(indices.len());
        let mut x = moved(&self.data.batch(&indices[own.clone()]), recipe, (n, own.start));
        let angles = recipe.noisy.then(|| noised(&mut x, recipe.seed, (n, own.start)));
        let shown = Shown { x: &x, angles: angles.as_deref(), labels: &labels };
        let (sum, grads) = loss_and_gradient(&self.classifier, &self.state.weights, &shown, &self.zeros);
        let lr = learning_rate(n, recipe.steps, recipe.lr, recipe.steps / 20, Decay::Cosine);
        let adamw = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 };
        let descent = Descent { adamw, clip_norm: 1.0, ema_decay: 0.998 };
        self.state.descend(&self.classifier.layout, sum, grads, lr, &descent, &self.zeros)
    }
}

/// A batch; among several ranks each has its [`own_images`] of it, and all labels.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a, F> {
    /// (n, h, w, c).
    pub x: &'a Array4<F>,
    /// How noisy these images are, (n); `None` where they are clean.
    pub angles: Option<&'a [f64]>,
    /// Of the whole batch.
    pub labels: &'a [usize],
}

/// The mean cross-entropy of a batch and its gradient.
///
/// # Panics
/// If there is not one label for each image, or x has other channels than the network.
pub fn loss_and_gradient<F: Real>(
    classifier: &Classifier,
    w: &ParameterVector<F>,
    &Shown { x, angles, labels }: &Shown<F>,
    zeros: &Zeros<F>,
) -> (f64, ParameterVector<F>) {
    let (count, first) = (labels.len(), own_images(labels.len()).start);
    let outcome = over_microbatches(count, w, zeros, |w, images, grads| {
        let range = images.start - first..images.end - first;
        let x = x.slice(ndarray::s![range.clone(), .., .., ..]).to_owned();
        let (reading, tape) = classifier.forward(w, x, angles.map(|angles| &angles[range]));
        let (loss, dz) = cross_entropy(&reading.logits, &labels[images], labels.len());
        classifier.parameter_gradients(w, tape, dz, grads.grads());
        Ok((loss, Vec::new()))
    });
    let sum = outcome.expect("no microbatch has an error");
    (sum.loss / count as f64, sum.grads)
}

/// Images of step n from the `first` on, each moved by up to `max_shift` pixels each way; what comes in at an edge repeats it.
fn moved(x: &Array4<f32>, recipe: &ClassifierRecipe, (n, first): (u64, usize)) -> Array4<f32> {
    let (count, height, width, channels) = x.dim();
    let size = height * width * channels;
    let mut images = Vec::with_capacity(x.len());
    for (i, image) in (first..).zip(flat(x).chunks_exact(size)) {
        let mut stream = Stream::keyed(recipe.seed, "classifier.shift", &[n, i as u64]);
        let mut shift = || stream.below(2 * recipe.max_shift as u64 + 1) as isize - recipe.max_shift as isize;
        let (down, right) = (shift(), shift());
        let from = |to: usize, shift: isize, size: usize| (to as isize - shift).clamp(0, size as isize - 1) as usize;
        for y in 0..height {
            let row = &image[from(y, down, height) * width * channels..][..width * channels];
            images.extend((0..width).flat_map(|x| &row[from(x, right, width) * channels..][..channels]));
        }
    }
    shaped((count, height, width, channels), images)
}

/// Makes images of step n from the `first` on noisy, and returns the angle of each.
fn noised(x: &mut Array4<f32>, seed: u64, (n, first): (u64, usize)) -> Vec<f64> {
    let size = x.len() / x.dim().0.max(1);
    let of_image = |(i, image): (usize, &mut [f32])| {
        let stream = |purpose| Stream::keyed(seed, purpose, &[n, i as u64]);
        let angle = FRAC_PI_2 * stream("classifier.angle").uniform();
        let mut eps = vec![0.0; size];
        stream("classifier.noise").fill_normal(&mut eps);
        image.copy_from_slice(&q_sample(Level::of_angle(0.0, angle), image, &eps));
        angle
    };
    (first..).zip(flat_mut(x).chunks_exact_mut(size.max(1))).map(of_image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Shape, Split, shapes};

    fn shapes() -> Dataset {
        let shape = Shape { height: 16, width: 16, channels: 1 };
        shapes::draw(shapes::SEED, Split::Train, shape).expect("drawn")
    }

    #[test]
    fn images_are_moved_by_every_shift_and_repeat_their_edge() {
        let recipe = ClassifierRecipe { max_shift: 1, ..ClassifierRecipe::default() };
        let x = Array4::from_shape_fn((200, 2, 3, 1), |(_, y, x, _)| (3 * y + x) as f32);
        let y = moved(&x, &recipe, (1, 0));
        let mut seen: Vec<Vec<u8>> = flat(&y).chunks(6).map(|image| image.iter().map(|&x| x as u8).collect()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 9, "nine shifts: {seen:?}");
        assert!(seen.contains(&vec![0, 0, 1, 0, 0, 1]), "down and to the right: {seen:?}");
        assert_eq!(moved(&x, &ClassifierRecipe { max_shift: 0, ..recipe }, (1, 0)), x);
    }

    #[test]
    fn a_hundred_steps_learn_shapes_and_have_one_set_of_bits() {
        let recipe = ClassifierRecipe { steps: 100, batch_size: 10, ..ClassifierRecipe::default() };
        let train = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| {
                let mut trainer = ClassifierTrainer::new(recipe.clone(), shapes()).expect("valid");
                let losses: Vec<f64> = (0..100).map(|_| trainer.step().expect("finite").loss).collect();
                (losses, trainer.weights().clone())
            })
        };
        let (losses, weights) = train(1);
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        // Of four classes, guessing costs ln 4 = 1.39.
        assert!(mean(&losses[..10]) > 1.2 && mean(&losses[90..]) < 1.0, "{losses:?}");
        assert_eq!((losses, weights), train(3));
    }

    #[test]
    fn images_without_labels_are_refused() {
        let shape = Shape { height: 8, width: 8, channels: 1 };
        let data = Dataset::new("bare", shape, vec![0; 64]).expect("an image");
        let error = ClassifierTrainer::new(ClassifierRecipe::default(), data).expect_err("no labels").to_string();
        assert!(error.contains("images with labels"), "{error}");
    }
}
