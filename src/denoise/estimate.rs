//! From what a denoiser says to what a sampler steps with.

use ndarray::Array4;

use super::Output;
use crate::diffusion::{Level, Prediction};
use crate::layers::{flat, shaped};
use crate::numerics::Real;

/// The image and the noise that a denoiser makes out in x, which the two make up: x = signal·x̂₀ + sigma·ε̂ (but see
/// [`Sight::eps_from_clipped_x_0`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate<F> {
    /// The image, clipped where the model's pixels have a range; shape (n, h, w, c).
    pub x_0_hat: Array4<F>,
    /// The noise, of the same shape.
    pub eps_hat: Array4<F>,
}

/// How an output is read: what the range of pixels is, and what follows from a clipped image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sight {
    /// x̂₀ is clipped to [−clip, clip]: 1 for pixels in [−1, 1], `None` for data without bounds.
    pub clip: Option<f64>,
    /// Where x̂₀ is clipped, ε̂ is derived again from it, so that x = signal·x̂₀ + sigma·ε̂ still holds; else it stays the
    /// denoiser's, as diffusers has it by default.
    pub eps_from_clipped_x_0: bool,
}

impl Sight {
    /// The estimate that follows from an output for `x`, all images at one level.
    ///
    /// # Shapes
    /// `x` and the output: (n, h, w, c).
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn estimate<F: Real>(&self, x: &Array4<F>, level: Level, output: &Output<F>) -> Estimate<F> {
        assert_eq!(x.dim(), output.value.dim(), "estimate: the output has another shape than x");
        let (at, prediction) = (level.marginal(), output.prediction);
        let (x_t, said) = (flat(x), flat(&output.value));
        let mut x_0_hat = prediction.x_0_hat(at, x_t, said);
        let eps_hat = match self.clip {
            Some(range) => {
                x_0_hat.iter_mut().for_each(|x| *x = clip(*x, F::from_f64(range)));
                if self.eps_from_clipped_x_0 {
                    Prediction::Sample.eps_hat(at, x_t, &x_0_hat)
                } else {
                    prediction.eps_hat(at, x_t, said)
                }
            }
            None => prediction.eps_hat(at, x_t, said),
        };
        Estimate { x_0_hat: shaped(x.dim(), x_0_hat), eps_hat: shaped(x.dim(), eps_hat) }
    }
}

/// The nearest number in [−range, range], as comparisons (contract N1, rule 1); NaN stays NaN.
fn clip<F: Real>(x: F, range: F) -> F {
    if x > range {
        range
    } else if x < -range {
        -range
    } else {
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::rng::normal;

    const LEVEL: Level = Level { time: 40.0, alpha_bar: 0.3 };

    #[test]
    fn estimate_without_a_range_makes_up_x_whatever_is_predicted() {
        let (x, said) = (normal((2, 3, 2, 1), 1), normal((2, 3, 2, 1), 2));
        for prediction in [Prediction::Epsilon, Prediction::Sample, Prediction::V] {
            let sight = Sight { clip: None, eps_from_clipped_x_0: true };
            let Estimate { x_0_hat, eps_hat } = sight.estimate(&x, LEVEL, &Output::new(prediction, said.clone()));
            let sum = x_0_hat * LEVEL.signal() + eps_hat * LEVEL.sigma();
            assert!((sum - &x).iter().all(|difference| difference.abs() < 1e-14), "{prediction:?}");
        }
    }

    #[test]
    fn estimate_with_a_range_derives_eps_again_only_where_asked_and_only_where_x_0_hat_was_clipped() {
        let (x, said) = (normal((3, 4, 4, 1), 1), normal((3, 4, 4, 1), 2));
        let output = Output::new(Prediction::Epsilon, said.clone());
        let sight = |eps_from_clipped_x_0| Sight { clip: Some(1.0), eps_from_clipped_x_0 };
        let (again, kept) = (sight(true).estimate(&x, LEVEL, &output), sight(false).estimate(&x, LEVEL, &output));
        assert_eq!((&kept.eps_hat, &again.x_0_hat), (&said, &kept.x_0_hat));
        let clipped: Vec<bool> = again.x_0_hat.iter().map(|x| x.abs() == 1.0).collect();
        let differs: Vec<bool> = again.eps_hat.iter().zip(&said).map(|(a, b)| (a - b).abs() > 1e-9).collect();
        assert_eq!(clipped, differs);
        assert!(clipped.contains(&true) && clipped.contains(&false));
    }
}
