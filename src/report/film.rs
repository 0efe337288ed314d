//! What is kept of the reverse process while pictures are drawn, for a strip and for an animation.

use ndarray::{Array4, Axis, concatenate};

use super::strip::{Column, strip};
use super::{Picture, grid};
use crate::sample::Moment;

/// Pictures in a strip, and moments.
const STRIP: (usize, usize) = (8, 11);

/// Pictures in an animation, and moments.
const ANIMATION: (usize, usize) = (64, 60);

/// Pixels between pictures.
const GAP: usize = 2;

/// The first pictures at some moments of their chain.
#[derive(Debug)]
pub struct Film {
    /// The numbers of the steps that each shows.
    of_strip: Vec<usize>,
    of_animation: Vec<usize>,
    frames: Vec<Frame>,
}

#[derive(Debug)]
struct Frame {
    step: usize,
    t: usize,
    x_t: Array4<f32>,
    x_0_hat: Array4<f32>,
}

impl Film {
    /// A film of a chain of so many steps, for a strip, an animation, both, or neither.
    pub fn new(steps: usize, strip: bool, animation: bool) -> Self {
        let spread = |wanted: bool, moments: usize| -> Vec<usize> {
            let moments = if wanted { moments.min(steps) } else { 0 };
            (0..moments).map(|i| 1 + i * (steps - 1) / (moments - 1).max(1)).collect()
        };
        let (of_strip, of_animation) = (spread(strip, STRIP.1), spread(animation, ANIMATION.1));
        Film { of_strip, of_animation, frames: Vec::new() }
    }

    /// Keeps what it needs of a moment of the pictures from number `first` on.
    pub fn watch(&mut self, first: usize, moment: &Moment) {
        let wanted = self.of_strip.contains(&moment.number) || self.of_animation.contains(&moment.number);
        if first >= ANIMATION.0 || !wanted {
            return;
        }
        let (x_t, x_0_hat) = (
            at_most(moment.step.x_t, ANIMATION.0 - first),
            at_most(&moment.step.estimate.x_0_hat, ANIMATION.0 - first),
        );
        match self.frames.iter_mut().find(|frame| frame.step == moment.number) {
            Some(frame) => (frame.x_t, frame.x_0_hat) = (join(&frame.x_t, &x_t), join(&frame.x_0_hat, &x_0_hat)),
            None => {
                let t = moment.step.transition.from.t() as usize;
                self.frames.push(Frame { step: moment.number, t, x_t, x_0_hat });
            }
        }
    }

    /// x_t above x̂₀ of the first 8 pictures at up to 11 moments, and the pictures at last.
    pub fn strip(&self, pictures: &Array4<f32>, scale: usize) -> Picture {
        let shown = self.frames.iter().filter(|frame| self.of_strip.contains(&frame.step));
        let shown = shown.map(|frame| (frame.t, at_most(&frame.x_t, STRIP.0), at_most(&frame.x_0_hat, STRIP.0)));
        let last = at_most(pictures, STRIP.0);
        let shown: Vec<_> = shown.chain([(0, last.clone(), last)]).collect();
        let columns: Vec<Column> = shown.iter().map(|(t, x_t, x_0_hat)| Column { t: *t, x_t, x_0_hat }).collect();
        strip(&columns, GAP, scale)
    }

    /// The grid of the first 64 pictures at up to 60 moments, and at last.
    pub fn frames(&self, pictures: &Array4<f32>, columns: Option<usize>, scale: usize) -> Vec<Picture> {
        let last = at_most(pictures, ANIMATION.0);
        let shown = self.frames.iter().filter(|frame| self.of_animation.contains(&frame.step)).map(|frame| &frame.x_t);
        shown.chain([&last]).map(|x| grid(x, columns, GAP, scale)).collect()
    }
}

fn at_most(x: &Array4<f32>, n: usize) -> Array4<f32> {
    x.slice_axis(Axis(0), (..n.min(x.dim().0)).into()).to_owned()
}

fn join(a: &Array4<f32>, b: &Array4<f32>) -> Array4<f32> {
    concatenate(Axis(0), &[a.view(), b.view()]).expect("pictures of one shape")
}
