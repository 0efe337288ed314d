//! What the network is shown in a step, and what it is to say (Ho et al. 2020, Algorithm 1, lines 2 to 5).

use std::ops::Range;

use ndarray::{Array4, Axis, Slice};

use crate::diffusion::{Prediction, Schedule, q_sample};
use crate::layers::{flat, shaped};
use crate::numerics::Real;

/// Noised images and what the network is to say of each.
#[derive(Clone, Debug)]
pub struct Batch<F> {
    /// The noised images, shape (n, h, w, c).
    pub x_t: Array4<F>,
    /// What the network is to say of each: ε, x₀ or v; of the same shape.
    pub target: Array4<F>,
    /// t − 1 of each image, as the network is fed it.
    pub time: Vec<f64>,
    /// The class of each image, for a conditional network.
    pub labels: Option<Vec<usize>>,
}

impl<F: Real> Batch<F> {
    /// Images at their own times t with their own noise: x_t = √ᾱ_t·x₀ + √(1−ᾱ_t)·ε, and the target.
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
        assert_eq!(x_0.dim(), eps.dim(), "Batch::noised: the noise has another shape than the images");
        assert!(t.len() == x_0.dim().0 && t.iter().all(|&t| t >= 1), "Batch::noised: one t of 1..=T for each image");
        let size = (x_0.len() / t.len().max(1)).max(1);
        let images = || flat(x_0).chunks(size).zip(flat(eps).chunks(size)).zip(t);
        let x_t = images().flat_map(|((x_0, eps), &t)| q_sample(schedule.level(t), x_0, eps)).collect();
        let target =
            |((x_0, eps), &t): ((&[F], &[F]), &usize)| prediction.target(schedule.level(t).marginal(), x_0, eps);
        let target = images().flat_map(target).collect();
        Batch {
            x_t: shaped(x_0.dim(), x_t),
            target: shaped(x_0.dim(), target),
            time: t.iter().map(|&t| schedule.level(t).time).collect(),
            labels,
        }
    }

    /// x_t and the target of some of the images.
    pub(super) fn slice(&self, range: &Range<usize>) -> (Array4<F>, Array4<F>) {
        let part = |x: &Array4<F>| x.slice_axis(Axis(0), Slice::from(range.clone())).to_owned();
        (part(&self.x_t), part(&self.target))
    }
}
