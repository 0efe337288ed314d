//! From what a denoiser says to what a sampler steps with.

use ndarray::Array4;

use super::Output;
use crate::diffusion::{Form, Level, Prediction};
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
    /// What the denoiser said it in.
    pub prediction: Prediction,
    /// What the denoiser says of the variance of a step, where it does, of the same shape (see [`Output::log_variance`]).
    pub log_variance: Option<Array4<F>>,
}

/// Dynamic thresholding (Saharia et al. 2022, § 2.3): an image that leaves [−1, 1] is clipped at a quantile s of its own
/// absolute values and divided by it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// The quantile, in (0, 1].
    pub ratio: f64,
    /// The most that s may be, 1 or above.
    pub most: f64,
}

impl Threshold {
    /// x̂₀ of one image, in place.
    fn apply<F: Real>(&self, image: &mut [F]) {
        let mut sizes: Vec<f64> = image.iter().map(|x| x.to_f64().abs()).collect();
        sizes.sort_by(f64::total_cmp);
        // Between two values the quantile is on the line through them, as in NumPy and PyTorch.
        let at = self.ratio * (sizes.len() - 1) as f64;
        let (below, above) = (sizes[at.floor() as usize], sizes[at.ceil() as usize]);
        let quantile = below + (above - below) * (at - at.floor());
        let s = F::from_f64(quantile.max(1.0).min(self.most));
        image.iter_mut().for_each(|x| *x = clip(*x, s) / s);
    }
}

/// How an output is read: what the range of pixels is, and what follows from a clipped image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sight {
    /// x̂₀ is clipped to [−clip, clip]: 1 for pixels in [−1, 1], `None` for data without bounds.
    pub clip: Option<f64>,
    /// In the place of clipping.
    pub threshold: Option<Threshold>,
    /// Where x̂₀ is clipped, ε̂ is derived again from it, so that x = signal·x̂₀ + sigma·ε̂ still holds; else it stays the
    /// denoiser's, as diffusers has it by default.
    pub eps_from_clipped_x_0: bool,
}

impl Default for Sight {
    /// No clipping.
    fn default() -> Self {
        Sight { clip: None, threshold: None, eps_from_clipped_x_0: true }
    }
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
        // v is an angle between image and noise: it belongs to a level whose signal² + sigma² is 1.
        if output.prediction == Prediction::V && level.scale() != 1.0 {
            let divisor = F::from_f64(level.scale());
            return self.estimate(&x.mapv(|x| x / divisor), level.in_form(Form::VariancePreserving), output);
        }
        let (at, prediction) = (level.marginal(), output.prediction);
        let (x_t, said) = (flat(x), flat(&output.value));
        let mut x_0_hat = prediction.x_0_hat(at, x_t, said);
        // A clean image holds no noise that could be derived from it.
        let again = self.eps_from_clipped_x_0 && !level.is_clean();
        let eps_hat = if self.bound(&mut x_0_hat, x.dim().0) && again {
            Prediction::Sample.eps_hat(at, x_t, &x_0_hat)
        } else {
            prediction.eps_hat(at, x_t, said)
        };
        let log_variance = output.log_variance.clone();
        Estimate { x_0_hat: shaped(x.dim(), x_0_hat), eps_hat: shaped(x.dim(), eps_hat), prediction, log_variance }
    }

    /// Keeps `n` images in their range; says whether they have one.
    fn bound<F: Real>(&self, x_0_hat: &mut [F], n: usize) -> bool {
        if let Some(threshold) = self.threshold {
            let size = (x_0_hat.len() / n.max(1)).max(1);
            x_0_hat.chunks_mut(size).for_each(|image| threshold.apply(image));
        } else if let Some(range) = self.clip {
            x_0_hat.iter_mut().for_each(|x| *x = clip(*x, F::from_f64(range)));
        }
        self.threshold.is_some() || self.clip.is_some()
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

    fn level() -> Level {
        Level::of_alpha_bar(40.0, 0.3)
    }

    #[test]
    fn estimate_without_a_range_makes_up_x_whatever_is_predicted() {
        let (x, said) = (normal((2, 3, 2, 1), 1), normal((2, 3, 2, 1), 2));
        for prediction in [Prediction::Epsilon, Prediction::Sample, Prediction::V] {
            let sight = Sight::default();
            let Estimate { x_0_hat, eps_hat, .. } = sight.estimate(&x, level(), &Output::new(prediction, said.clone()));
            let sum = x_0_hat * level().signal() + eps_hat * level().sigma();
            assert!((sum - &x).iter().all(|difference| difference.abs() < 1e-14), "{prediction:?}");
        }
    }

    #[test]
    fn estimate_with_a_range_derives_eps_again_only_where_asked_and_only_where_x_0_hat_was_clipped() {
        let (x, said) = (normal((3, 4, 4, 1), 1), normal((3, 4, 4, 1), 2));
        let output = Output::new(Prediction::Epsilon, said.clone());
        let sight = |eps_from_clipped_x_0| Sight { clip: Some(1.0), threshold: None, eps_from_clipped_x_0 };
        let (again, kept) = (sight(true).estimate(&x, level(), &output), sight(false).estimate(&x, level(), &output));
        assert_eq!((&kept.eps_hat, &again.x_0_hat), (&said, &kept.x_0_hat));
        let clipped: Vec<bool> = again.x_0_hat.iter().map(|x| x.abs() == 1.0).collect();
        let differs: Vec<bool> = again.eps_hat.iter().zip(&said).map(|(a, b)| (a - b).abs() > 1e-9).collect();
        assert_eq!(clipped, differs);
        assert!(clipped.contains(&true) && clipped.contains(&false));
    }

    #[test]
    fn estimate_is_the_same_at_every_level_of_one_ratio_whatever_the_scale_of_x() {
        let (x, said) = (normal((2, 3, 2, 1), 1), normal((2, 3, 2, 1), 2));
        let level = level();
        for prediction in [Prediction::V, Prediction::Flow, Prediction::Sample, Prediction::Edm(0.5)] {
            let of =
                |x: &Array4<f64>, level| Sight::default().estimate(x, level, &Output::new(prediction, said.clone()));
            let expected = of(&x, level);
            for form in [Form::VarianceExploding, Form::Flow] {
                let scaled = level.in_form(form);
                let found = of(&(&x * scaled.scale()), scaled);
                let near = |a: &Array4<f64>, b: &Array4<f64>| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-14);
                assert!(near(&found.x_0_hat, &expected.x_0_hat) && near(&found.eps_hat, &expected.eps_hat));
            }
        }
    }

    #[test]
    fn thresholding_divides_by_a_quantile_of_the_image_itself_and_leaves_quiet_images_alone() {
        let threshold = Some(Threshold { ratio: 0.75, most: 3.0 });
        let sight = Sight { threshold, ..Sight::default() };
        let images = ndarray::arr1(&[0.1, -0.2, 0.3, -0.4, 0.5, 1.0, -2.0, 2.5, 0.0, -9.0, 9.0, 9.0, 9.0, 9.0, 9.0]);
        let images = images.into_shape_with_order((3, 5, 1, 1)).expect("three images");
        let seen = sight.estimate(&images, level(), &Output::new(Prediction::Sample, images.clone())).x_0_hat;
        // The sizes of the second are 0, 1, 2, 2.5 and 9: three quarters of the way is the fourth.
        let second = [1.0, -2.0, 2.5, 0.0, -2.5].map(|x| x / 2.5);
        assert_eq!(flat(&seen)[..5], [0.1, -0.2, 0.3, -0.4, 0.5]);
        assert_eq!(flat(&seen)[5..10], second);
        assert_eq!(flat(&seen)[10..], [1.0; 5]);
    }
}
