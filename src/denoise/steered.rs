//! Classifier guidance (Dhariwal and Nichol 2021, Algorithm 2).
//!
//! The denoiser is pulled towards images that a classifier reads as the class that is asked for; it need not know classes itself.
//!
//! # Derivation
//!
//! With x = a·x₀ + σ·ε, the score is ∇ ln p(x) = −E[ε | x]/σ (Tweedie 1956), so ε̂ is −σ times it. By Bayes' rule
//!
//! ```text
//! ∇ ln p(x | y) = ∇ ln p(x) + ∇ ln p(y | x)          p(y) does not depend on x
//! ε̃ = ε̂ − s·σ·∇ ln p(y | x)                          s = 1 is Bayes' rule, s > 1 asks for more
//! x̃₀ = x̂₀ + s·(σ²/a)·∇ ln p(y | x)                    from x = a·x̃₀ + σ·ε̃
//! ```
//!
//! Whatever the denoiser predicts is a linear function of x, x₀ and ε, so at one x what it said changes by that function of the
//! two changes ([`Prediction::target`](crate::diffusion::Prediction::target)).
//!
//! The classifier reads noisy images: it is shown x at its variance-preserving level, x/scale, so by the chain rule
//! ∇ ln p(y | x) is 1/scale times its gradient there. At noise alone, a = 0, nothing is to be read and nothing changes.

use ndarray::Array4;

use super::{Denoiser, Output};
use crate::diffusion::{Form, Level, Marginal, Prediction};
use crate::layers::cross_entropy::cross_entropy;
use crate::layers::{ParameterVector, flat, flat_mut};
use crate::models::Classifier;
use crate::numerics::Real;
use crate::{Error, Result};

/// Something that reads what class a noisy image is of.
pub trait ClassGradient<F: Real>: Sync {
    /// ∇ ln p(class | x) of each image, and 0 where no class is asked for.
    ///
    /// # Shapes
    /// `x` (n, h, w, c), `levels` and `classes` (n), and a gradient of x's shape.
    ///
    /// # Errors
    /// Images or classes that are not read.
    fn gradient(&self, x: &Array4<F>, levels: &[Level], classes: &[Option<usize>]) -> Result<Array4<F>>;
}

/// A classifier of noisy images, its weights, and how strongly it guides.
#[derive(Clone, Debug)]
pub struct Steering {
    classifier: Classifier,
    weights: ParameterVector<f32>,
    scale: f64,
}

impl Steering {
    /// `scale` is s above, any finite number.
    ///
    /// # Errors
    /// A classifier that does not read noisy images, weights of another one, a scale that is not finite.
    pub fn new(classifier: Classifier, weights: ParameterVector<f32>, scale: f64) -> Result<Self> {
        if !classifier.reads_noise() {
            let expected = "a classifier that reads noisy images: ancestral classify train --noisy";
            return Err(Error::value("classifier", expected, "one of clean images"));
        }
        if weights.0.len() != classifier.layout.count() {
            let expected = format!("{} numbers, one for each parameter", classifier.layout.count());
            return Err(Error::value("classifier: weights", expected, weights.0.len()));
        }
        if !scale.is_finite() {
            return Err(Error::value("classifier_scale", "a finite number", scale));
        }
        Ok(Steering { classifier, weights, scale })
    }

    /// Classes that it tells apart.
    pub fn classes(&self) -> usize {
        self.classifier.config.num_classes
    }

    /// Height, width and channels of the images that it reads.
    pub fn image_shape(&self) -> (usize, usize, usize) {
        let config = &self.classifier.config;
        (config.sample_size.0, config.sample_size.1, config.in_channels)
    }

    /// s.
    pub fn scale(&self) -> f64 {
        self.scale
    }
}

impl ClassGradient<f32> for Steering {
    fn gradient(&self, x: &Array4<f32>, levels: &[Level], classes: &[Option<usize>]) -> Result<Array4<f32>> {
        let mut shown = x.clone();
        let factors: Vec<f32> = levels.iter().map(|level| (1.0 / level.scale()) as f32).collect();
        let scale_each = |x: &mut Array4<f32>| {
            let images = x.outer_iter_mut().zip(&factors).filter(|(_, factor)| **factor != 1.0);
            images.for_each(|(mut image, &factor)| image.mapv_inplace(|x| factor * x));
        };
        scale_each(&mut shown);
        let angles: Vec<f64> = levels.iter().map(|level| level.angle()).collect();
        let (reading, tape) = self.classifier.forward(&self.weights, shown, Some(&angles));
        // −ln p of each image alone is the loss of a batch of one.
        let labels: Vec<usize> = classes.iter().map(|class| class.unwrap_or(0)).collect();
        let (_, d_logits) = cross_entropy(&reading.logits, &labels, 1);
        let mut grads = ParameterVector::zeros(self.weights.0.len());
        let mut gradient = self.classifier.backward(&self.weights, tape, d_logits, &mut grads);
        gradient.mapv_inplace(|d| -d);
        scale_each(&mut gradient);
        let unasked = gradient.outer_iter_mut().zip(classes).filter(|(_, class)| class.is_none());
        unasked.for_each(|(mut image, _)| image.fill(0.0));
        Ok(gradient)
    }
}

/// A denoiser that a classifier pulls towards the class that it is asked for.
pub struct Steered<'a, D, C> {
    /// The denoiser that is pulled.
    pub denoiser: D,
    /// The classifier and s; `None` only passes on.
    pub by: Option<(&'a C, f64)>,
    /// The labels that the denoiser is told, where it knows less than the classes that are asked for.
    pub told: Told,
}

/// What a denoiser is told of the class that is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told {
    /// The class; this label, which is none of the classes, stands for none.
    Class {
        /// The label that stands for "no class", where there is one.
        null_class: Option<usize>,
    },
    /// Always this label.
    Same(usize),
    /// Nothing.
    Nothing,
}

impl<F: Real, D: Denoiser<F>, C: ClassGradient<F>> Denoiser<F> for Steered<'_, D, C> {
    fn predict(&self, x: &Array4<F>, levels: &[Level], labels: Option<&[usize]>) -> Result<Output<F>> {
        let Some((by, scale)) = self.by else { return self.denoiser.predict(x, levels, labels) };
        let null_class = if let Told::Class { null_class } = self.told { null_class } else { None };
        let class = |i: usize| labels.map(|labels| labels[i]).filter(|&label| Some(label) != null_class);
        let classes: Vec<Option<usize>> = (0..levels.len()).map(class).collect();
        let same: Vec<usize>;
        let told = match self.told {
            Told::Class { .. } => labels,
            Told::Same(label) => {
                same = vec![label; levels.len()];
                Some(&same[..])
            }
            Told::Nothing => None,
        };
        let mut output = self.denoiser.predict(x, levels, told)?;
        let gradient = by.gradient(x, levels, &classes)?;
        let size = gradient.len() / levels.len();
        let images = flat_mut(&mut output.value).chunks_exact_mut(size).zip(flat(&gradient).chunks_exact(size));
        for ((said, gradient), level) in images.zip(levels).filter(|(_, level)| level.signal() > 0.0) {
            let Marginal { signal, sigma } = level.marginal::<f64>();
            let [of_x_0, of_eps] = [scale * (sigma * sigma / signal), -(scale * sigma)].map(F::from_f64);
            let changes = [of_x_0, of_eps].map(|w| gradient.iter().map(|&g| w * g).collect::<Vec<F>>());
            // v is an angle, and so of variance-preserving levels alone.
            let form =
                if output.prediction == Prediction::V { level.in_form(Form::VariancePreserving) } else { *level };
            let change = output.prediction.target(form.marginal(), &changes[0], &changes[1]);
            said.iter_mut().zip(change).for_each(|(said, change)| *said += change);
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoise::{Component, GaussianMixture};
    use crate::layers::Prepared;
    use crate::models::ClassifierConfig;
    use crate::numerics::rng::normal;

    fn components() -> [Component; 2] {
        let component = |weight, mean: [f64; 2], variances: [f64; 2]| {
            Component::new(weight, mean.to_vec(), variances.to_vec()).expect("valid")
        };
        [component(0.3, [0.6, -0.4], [0.2, 0.05]), component(0.7, [-0.5, 0.1], [0.1, 0.3])]
    }

    /// Reads which component of the mixture x is of; its gradient is by central differences of ln p(k | x).
    struct Exact;

    impl ClassGradient<f64> for Exact {
        fn gradient(&self, x: &Array4<f64>, levels: &[Level], classes: &[Option<usize>]) -> Result<Array4<f64>> {
            let whole = GaussianMixture::new(components().to_vec())?;
            let h = 1e-5;
            let mut gradient = Array4::zeros(x.dim());
            for axis in 0..2 {
                let log_p = |step: f64| -> Result<Vec<f64>> {
                    let mut moved = x.clone();
                    moved.index_axis_mut(ndarray::Axis(2), axis).mapv_inplace(|x| x + step);
                    let all = whole.know(&moved, levels)?.log_density;
                    let of = |(i, class): (usize, &Option<usize>)| {
                        let one = GaussianMixture::new(vec![components()[class.expect("a class")].clone()])?;
                        Ok(one.know(&moved, levels)?.log_density[i] - all[i])
                    };
                    classes.iter().enumerate().map(of).collect()
                };
                for (i, (above, below)) in log_p(h)?.into_iter().zip(log_p(-h)?).enumerate() {
                    gradient[[i, 0, axis, 0]] = (above - below) / (2.0 * h);
                }
            }
            Ok(gradient)
        }
    }

    #[test]
    fn a_denoiser_of_all_classes_steered_by_bayes_rule_is_that_of_the_class() {
        let whole = GaussianMixture::new(components().to_vec()).expect("valid");
        let forms = [Form::VariancePreserving, Form::VarianceExploding, Form::Flow];
        let predictions =
            [Prediction::Epsilon, Prediction::Sample, Prediction::V, Prediction::Flow, Prediction::Edm(0.5)];
        for (form, prediction) in forms.into_iter().flat_map(|form| predictions.map(|prediction| (form, prediction))) {
            let level = Level::new(form, 3.0, 0.6, 0.8);
            let said = |mixture: &GaussianMixture, x: &Array4<f64>, levels: &[Level]| -> Result<Output<f64>> {
                let x_0_hat = mixture.know(x, levels)?.x_0_hat;
                let Marginal { signal, sigma } = level.marginal::<f64>();
                let eps: Vec<f64> = x.iter().zip(&x_0_hat).map(|(x, x_0)| (x - signal * x_0) / sigma).collect();
                let at = if prediction == Prediction::V { level.in_form(Form::VariancePreserving) } else { level };
                let value = prediction.target(at.marginal(), flat(&x_0_hat), &eps);
                Ok(Output::new(prediction, crate::layers::shaped(x.dim(), value)))
            };
            let denoiser = |x: &Array4<f64>, levels: &[Level], labels: Option<&[usize]>| {
                assert_eq!(labels, None);
                said(&whole, x, levels)
            };
            let steered = Steered { denoiser, by: Some((&Exact, 1.0)), told: Told::Nothing };
            let x = normal((3, 1, 2, 1), 4);
            for class in [0, 1] {
                let found = steered.predict(&x, &[level; 3], Some(&[class; 3])).expect("an output").value;
                let one = GaussianMixture::new(vec![components()[class].clone()]).expect("valid");
                let expected = said(&one, &x, &[level; 3]).expect("an output").value;
                // Central differences with h = 1e-5 are off by h² and by 1e-16/h; here up to 4e-10.
                let off = (&found - &expected).iter().fold(0.0f64, |most, d| most.max(d.abs()));
                assert!(off < 4e-9, "{form:?} {prediction:?} {class}: {off}");
            }
        }
    }

    fn small() -> Steering {
        let config = ClassifierConfig {
            sample_size: (6, 5),
            in_channels: 1,
            num_classes: 3,
            block_out_channels: vec![4, 8],
            norm_num_groups: 2,
            level_embedding_dim: Some(6),
            ..ClassifierConfig::default()
        };
        let classifier = Classifier::new(config).expect("valid");
        let weights = ParameterVector(normal(classifier.layout.count(), 1).mapv(|x| 0.5 * x as f32).to_vec());
        Steering::new(classifier, weights, 1.0).expect("it reads noise")
    }

    #[test]
    fn gradient_of_a_network_is_that_of_the_logarithm_of_the_probability_at_any_scale_of_x() {
        let steering = small();
        let prepared = Prepared::new(&steering.weights);
        for form in [Form::VariancePreserving, Form::VarianceExploding, Form::Flow] {
            let level = Level::new(form, 3.0, 0.5, 1.5);
            let x = normal((2, 6, 5, 1), 3).mapv(|x| x as f32 * level.scale() as f32);
            let log_p = |x: &Array4<f32>| {
                let shown = x.mapv(|x| x / level.scale() as f32);
                let logits = steering.classifier.forward(&prepared, shown, Some(&[level.angle(); 2])).0.logits;
                -cross_entropy(&logits, &[2, 1], 1).0
            };
            let gradient = steering.gradient(&x, &[level; 2], &[Some(2), Some(1)]).expect("a gradient");
            let length = gradient.iter().map(|g| f64::from(g * g)).sum::<f64>();
            let h = (0.02 / length.sqrt()) as f32;
            let slope = (log_p(&(&x + &(&gradient * h))) - log_p(&(&x - &(&gradient * h)))) / (2.0 * f64::from(h));
            // In f32, ln p is off by about 1e-6 of h·length = 2e-2 times the length; and h² of the curvature.
            assert!((slope / length - 1.0).abs() < 5e-3, "{form:?}: {slope} {length}");
        }
    }

    #[test]
    fn the_denoiser_is_told_what_it_knows_and_images_of_no_class_are_left_alone() {
        let steering = small();
        let level = Level::of_alpha_bar(3.0, 0.4);
        let x = normal((2, 6, 5, 1), 3).mapv(|x| x as f32);
        let predict = |told, labels: &[usize]| {
            let denoiser = |x: &Array4<f32>, _: &[Level], labels: Option<&[usize]>| {
                let first = labels.map_or(-1.0, |labels| labels[0] as f32);
                Ok(Output::new(Prediction::Epsilon, Array4::from_elem(x.dim(), first)))
            };
            let by = Some((&steering, 2.0));
            Steered { denoiser, by, told }.predict(&x, &[level; 2], Some(labels)).expect("an output").value
        };
        let gradient = steering.gradient(&x, &[level; 2], &[Some(1), Some(2)]).expect("a gradient");
        for (told, seen) in [
            (Told::Nothing, -1.0),
            (Told::Same(7), 7.0),
            (Told::Class { null_class: None }, 1.0),
            (Told::Class { null_class: Some(2) }, 1.0),
        ] {
            let found = predict(told, &[1, 2]);
            for (i, (found, gradient)) in found.outer_iter().zip(gradient.outer_iter()).enumerate() {
                let asked = !(told == Told::Class { null_class: Some(2) } && i == 1);
                let change = |g: f32| if asked { -(2.0 * level.sigma()) as f32 * g } else { 0.0 };
                assert_eq!(found, gradient.mapv(|g| seen + change(g)), "{told:?} {i}");
            }
        }
    }

    #[test]
    fn a_classifier_of_clean_images_does_not_steer() {
        let classifier = Classifier::new(ClassifierConfig::default()).expect("valid");
        let weights = classifier.layout.initial(1);
        let error = Steering::new(classifier, weights, 1.0).expect_err("clean").to_string();
        assert!(error.contains("classify train --noisy"), "{error}");
        let Steering { classifier, weights, .. } = small();
        let error = Steering::new(classifier, weights, f64::NAN).expect_err("not a number").to_string();
        assert!(error.contains("classifier_scale"), "{error}");
    }
}
