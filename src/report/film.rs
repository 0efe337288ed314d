//! What is kept of the reverse process while pictures are drawn, for a strip and for an animation.

use ndarray::{Array4, Axis, concatenate};

use super::sheet::sheet;
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
    /// How many of the first pictures a strip and an animation show.
    pub fn first_pictures(strip: bool, animation: bool) -> usize {
        if animation {
            ANIMATION.0
        } else if strip {
            STRIP.0
        } else {
            0
        }
    }

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

    /// Picture by picture, x_t above its own x̂₀, for the first 8 pictures at up to 11 moments, and the pictures at last.
    pub fn strip(&self, pictures: &Array4<f32>, title: &str, scale: usize) -> Picture {
        let shown: Vec<&Frame> = self.frames.iter().filter(|frame| self.of_strip.contains(&frame.step)).collect();
        let last = at_most(pictures, STRIP.0);
        let mut images = Vec::new();
        for i in 0..last.dim().0 {
            let row = |of: fn(&Frame) -> &Array4<f32>| {
                let moments = shown.iter().map(move |frame| of(frame).index_axis(Axis(0), i));
                moments.chain([last.index_axis(Axis(0), i)])
            };
            images.extend(row(|frame| &frame.x_t).chain(row(|frame| &frame.x_0_hat)));
        }
        let images = ndarray::stack(Axis(0), &images).expect("pictures of one shape");
        let columns: Vec<String> = shown.iter().map(|frame| frame.t).chain([0]).map(|t| t.to_string()).collect();
        let rows: Vec<String> = (0..2 * last.dim().0).map(|row| ["x_t", "x_0_hat"][row % 2].into()).collect();
        sheet(&images, title, &columns, &rows, scale)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::pixels::level;

    #[test]
    fn strip_puts_each_picture_above_its_own_prediction_and_moments_in_columns() {
        let (h, w) = (20, 40);
        let of = |value: f32| Array4::from_shape_fn((2, h, w, 1), |(n, ..)| value + 0.1 * n as f32);
        let frame = |step, t, value| Frame { step, t, x_t: of(value), x_0_hat: of(value + 0.5) };
        let frames = vec![frame(1, 1000, -0.8), frame(2, 500, -0.4)];
        let film = Film { of_strip: vec![1, 2], of_animation: Vec::new(), frames };
        let mut strip = film.strip(&of(0.4), "ddim", 1);
        // Two lines of text above; at the left seven letters of 7 pixels and two gaps of 8.
        let (top, left) = (2 * 16 + 4, 7 * 7 + 2 * 8);
        let expected = [[-0.8, -0.4, 0.4], [-0.3, 0.1, 0.4], [-0.7, -0.3, 0.5], [-0.2, 0.2, 0.5]];
        for (row, values) in expected.iter().enumerate() {
            for (column, &value) in values.iter().enumerate() {
                let found = strip.pixel_mut(top + row * (h + 4) + 1, left + column * (w + 8) + 1)[0];
                assert!(found.abs_diff(level(value)) <= 1, "row {row}, column {column}: {found}");
            }
        }
    }
}
