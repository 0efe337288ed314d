//! What the network is shown in a step, and what it is to say (Ho et al. 2020, Algorithm 1, lines 2 to 5).

use std::ops::Range;

use ndarray::{Array4, Axis, Slice};

use crate::diffusion::likelihood::losses::{Loss, halves, hybrid, joined, vlb};
use crate::diffusion::likelihood::{Reading, Said, Step, steps};
use crate::diffusion::loss::{l_simple, weighted};
use crate::diffusion::{Level, Prediction, Schedule, q_sample};
use crate::layers::{flat, shaped};
use crate::numerics::Real;

/// Noised images and what the network is to say of each.
#[derive(Clone, Debug)]
pub struct Batch<F> {
    /// The noised images as the network is fed them, shape (n, h, w, c).
    pub x_t: Array4<F>,
    /// What the network is to say of each, as [`Prediction`] has it; of the same shape.
    pub target: Array4<F>,
    /// The time of each image, as the network is fed it: t − 1 under a table of β.
    pub time: Vec<f64>,
    /// The class of each image, for a conditional network.
    pub labels: Option<Vec<usize>>,
    /// What each image counts, 1 being the usual; `None` if all are usual.
    pub weight: Option<Vec<f64>>,
    /// What the loss needs beside where it is of the variational bound.
    pub bound: Option<Bound<F>>,
    /// Where these images are in a batch that several ranks share; `None` if they are all of it.
    pub share: Option<Share>,
}

/// The place of some images in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// How many images are before them.
    pub first: usize,
    /// How many there are in all.
    pub of: usize,
}

/// Images and steps of which the loss is a term of the variational bound.
#[derive(Clone, Debug)]
pub struct Bound<F> {
    /// The images, shape (n, h, w, c).
    pub x_0: Array4<F>,
    /// Their noise, of the same shape.
    pub eps: Array4<F>,
    /// The step of each image.
    pub steps: Vec<Step>,
    /// T.
    pub t_max: usize,
    /// What the output means.
    pub reading: Reading,
    /// L_hybrid for L_vlb.
    pub hybrid: bool,
}

/// A microbatch's part of the loss of a batch.
#[derive(Debug)]
pub(super) struct Part<F> {
    /// Divided by the number of elements of the whole batch, and added up over its microbatches, it is the loss.
    pub sum: f64,
    /// The loss of each image, without what it counts; empty where all count alike.
    pub by_image: Vec<f64>,
    /// By the output.
    pub gradient: Vec<F>,
}

impl<F: Real> Bound<F> {
    /// Images at their own times t of 1..=T, with their noise.
    pub fn new(
        schedule: &Schedule,
        reading: Reading,
        hybrid: bool,
        x_0: &Array4<F>,
        t: &[usize],
        eps: &Array4<F>,
    ) -> Self {
        let all = steps(schedule, &(1..=schedule.t_max()).collect::<Vec<_>>());
        let steps = t.iter().map(|&t| all[t - 1]).collect();
        Bound { x_0: x_0.clone(), eps: eps.clone(), steps, t_max: schedule.t_max(), reading, hybrid }
    }

    /// The loss of image i, in f64 from the network's output on.
    fn of_image(&self, i: usize, output: &[F]) -> (Loss<f64>, usize) {
        let (size, channels) = (self.x_0.len() / self.steps.len(), self.x_0.dim().3);
        let wide = |x: &[F]| x.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
        let image = |x: &Array4<F>| wide(&flat(x)[i * size..][..size]);
        let (mean, variance) = if self.reading.variance.is_learned() {
            halves(&wide(output), channels)
        } else {
            (wide(output), Vec::new())
        };
        let said = Said { mean: &mean, variance: &variance };
        let loss = if self.hybrid { hybrid } else { vlb };
        (loss(&self.steps[i], self.t_max, &self.reading, &image(&self.x_0), &image(&self.eps), said), channels)
    }
}

/// Images at their own times t with their own noise: x_t = signal·x₀ + sigma·ε.
///
/// # Shapes
/// `x_0` and `eps` (n, h, w, c), without gaps; `t` (n), in 1..=T.
///
/// # Panics
/// If the shapes differ or a t is not in 1..=T.
pub fn noised<F: Real>(schedule: &Schedule, x_0: &Array4<F>, t: &[usize], eps: &Array4<F>) -> Array4<F> {
    assert_eq!(x_0.dim(), eps.dim(), "noised: the noise has another shape than the images");
    assert!(t.len() == x_0.dim().0 && t.iter().all(|&t| t >= 1), "noised: one t of 1..=T for each image");
    let size = (x_0.len() / t.len().max(1)).max(1);
    let images = flat(x_0).chunks(size).zip(flat(eps).chunks(size)).zip(t);
    let x_t = images.flat_map(|((x_0, eps), &t)| q_sample(schedule.level(t), x_0, eps)).collect();
    shaped(x_0.dim(), x_t)
}

impl<F: Real> Batch<F> {
    /// Images at their own times t with their own noise, [`noised()`] and as the network is fed them, and the target.
    ///
    /// # Shapes
    /// `x_0` and `eps` (n, h, w, c), without gaps; `t` (n), in 1..=T.
    ///
    /// # Panics
    /// If the shapes differ or a t is not in 1..=T.
    pub fn noised(
        schedule: &Schedule,
        prediction: Prediction,
        x_0: &Array4<F>,
        t: &[usize],
        eps: &Array4<F>,
        labels: Option<Vec<usize>>,
    ) -> Batch<F> {
        let mut x_t = noised(schedule, x_0, t, eps);
        let levels: Vec<Level> = t.iter().map(|&t| schedule.level(t)).collect();
        prediction.scale_inputs(&mut x_t, &levels);
        let size = (x_0.len() / t.len().max(1)).max(1);
        let images = flat(x_0).chunks(size).zip(flat(eps).chunks(size)).zip(&levels);
        let target = images.flat_map(|((x_0, eps), level)| prediction.target(level.marginal(), x_0, eps)).collect();
        Batch {
            x_t,
            target: shaped(x_0.dim(), target),
            time: levels.iter().map(|level| level.time).collect(),
            labels,
            weight: None,
            bound: None,
            share: None,
        }
    }

    /// Images of the whole batch.
    pub fn images(&self) -> usize {
        self.share.map_or(self.time.len(), |share| share.of)
    }

    /// Elements of the whole batch.
    pub fn elements(&self) -> usize {
        let (_, height, width, channels) = self.target.dim();
        self.images() * height * width * channels
    }

    /// What some of the images, counted from the first that is here, add to the loss of the whole batch, from the network's
    /// output for them, and its gradient.
    ///
    /// # Order
    /// Where all images count alike, the squares of all are summed at once ([`l_simple`]); else image by image.
    pub(super) fn loss(&self, range: &Range<usize>, output: &[F], target: &[F]) -> Part<F> {
        let (count, images) = (self.elements(), self.images());
        if self.weight.is_none() && self.bound.is_none() {
            let (sum, gradient) = l_simple(output, target, count);
            return Part { sum, by_image: Vec::new(), gradient };
        }
        let size = count / images;
        let mut part = Part { sum: 0.0, by_image: Vec::new(), gradient: Vec::with_capacity(output.len()) };
        for (i, output) in range.clone().zip(output.chunks(output.len() / range.len())) {
            let weight = self.weight.as_ref().map_or(1.0, |weights| weights[i]);
            let target = &target[(i - range.start) * size..][..size];
            let loss = match &self.bound {
                Some(bound) => {
                    let (loss, channels) = bound.of_image(i, output);
                    let learned = bound.reading.variance.is_learned();
                    let all = if learned { joined(&loss.gradient, channels) } else { loss.gradient.mean };
                    part.gradient.extend(all.into_iter().map(|slope| F::from_f64(weight / images as f64 * slope)));
                    loss.loss
                }
                None => {
                    let (squares, gradient) = weighted(output, target, weight, count);
                    part.gradient.extend(gradient);
                    squares / size as f64
                }
            };
            part.sum += weight * loss * size as f64;
            part.by_image.push(loss);
        }
        part
    }

    /// x_t and the target of some of the images.
    pub(super) fn slice(&self, range: &Range<usize>) -> (Array4<F>, Array4<F>) {
        let part = |x: &Array4<F>| x.slice_axis(Axis(0), Slice::from(range.clone())).to_owned();
        (part(&self.x_t), part(&self.target))
    }
}
