//! Classifier-free guidance (Ho and Salimans 2022, Eq. 6).
//!
//! The denoiser is asked twice, for the class and for no class, and the difference is exaggerated:
//!
//! ```text
//! ε̃ = ε̂(none) + w·(ε̂(class) − ε̂(none))
//! ```
//!
//! w = 1 is no guidance, w = 0 ignores the class. The paper's own w is one less: ε̃ = (1 + w)·ε̂(class) − w·ε̂(none).
//! Whatever the denoiser predicts is combined: ε̂, x̂₀ and v̂ follow from one another by the same linear rule at one x and one
//! level, so the result is the same but for rounding.
//!
//! Where there is much noise guidance makes pictures alike, and where there is little it changes nothing but costs as much
//! (Kynkäänniemi et al. 2024): it can be kept to an interval of sigma/signal, outside of which the denoiser is asked once.

use ndarray::Array4;

use super::{Denoiser, Output};
use crate::Result;
use crate::diffusion::Level;
use crate::numerics::Real;

/// How strongly a class is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    /// w of the formula above; any finite number.
    pub weight: f64,
    /// The label that stands for "no class".
    pub null_class: usize,
    /// The least and the largest sigma/signal at which it is applied; `None` is everywhere.
    pub interval: Option<(f64, f64)>,
}

impl Guidance {
    /// w at a level: 1 outside of the interval.
    pub fn at(&self, level: Level) -> f64 {
        let ratio = level.ratio();
        let inside = self.interval.is_none_or(|(least, most)| least <= ratio && ratio <= most);
        if inside { self.weight } else { 1.0 }
    }
}

/// A denoiser that is guided towards the class that it is told; where it is told none it is only passed on.
pub struct Guided<D> {
    /// The denoiser that is asked twice.
    pub denoiser: D,
    /// How strongly; `None` asks once.
    pub guidance: Option<Guidance>,
}

impl<F: Real, D: Denoiser<F>> Denoiser<F> for Guided<D> {
    fn predict(&self, x: &Array4<F>, levels: &[Level], labels: Option<&[usize]>) -> Result<Output<F>> {
        let mut with = self.denoiser.predict(x, levels, labels)?;
        let guides = |g: &Guidance| labels.is_some() && levels.iter().any(|&level| g.at(level) != 1.0);
        let Some(guidance) = self.guidance.filter(guides) else { return Ok(with) };
        let without = self.denoiser.predict(x, levels, Some(&vec![guidance.null_class; levels.len()]))?;
        let images = with.value.outer_iter_mut().zip(without.value.outer_iter()).zip(levels);
        for ((mut with, without), &level) in images.filter(|(_, level)| guidance.at(**level) != 1.0) {
            let w = F::from_f64(guidance.at(level));
            with.zip_mut_with(&without, |with, &without| *with = without + w * (*with - without));
        }
        Ok(with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::Prediction;
    use crate::numerics::rng::normal;

    #[test]
    fn guided_output_is_the_formula_at_any_weight() {
        let of_label = |label: usize| normal((2, 3, 2, 1), 10 + label as u64);
        let denoiser = |_: &Array4<f64>, _: &[Level], labels: Option<&[usize]>| {
            let labels = labels.expect("labels");
            assert!(labels.iter().all(|&label| label == labels[0]));
            Ok(Output::new(Prediction::Epsilon, of_label(labels[0])))
        };
        let levels = [Level::of_alpha_bar(3.0, 0.5); 2];
        let x = normal((2, 3, 2, 1), 1);
        for weight in [-2.0, 0.0, 0.5, 1.0, 3.0] {
            let guided = Guided { denoiser, guidance: Some(Guidance { weight, null_class: 4, interval: None }) };
            let found = guided.predict(&x, &levels, Some(&[2, 2])).expect("an output").value;
            let (class, none) = (of_label(2), of_label(4));
            for ((found, class), none) in found.iter().zip(&class).zip(&none) {
                let papers_w = weight - 1.0;
                let expected = (1.0 + papers_w) * class - papers_w * none; // Ho and Salimans 2022, Eq. 6, as printed
                assert!((found - expected).abs() < 1e-14, "w = {weight}: {found} {expected}");
            }
        }
    }

    #[test]
    fn guidance_in_an_interval_leaves_the_images_of_other_levels_as_they_are() {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let denoiser = |x: &Array4<f64>, _: &[Level], labels: Option<&[usize]>| {
            asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(Output::new(Prediction::Epsilon, x.mapv(|x| x + labels.expect("labels")[0] as f64)))
        };
        let guidance = Some(Guidance { weight: 3.0, null_class: 4, interval: Some((0.5, 2.0)) });
        let guided = Guided { denoiser, guidance };
        let level = |ratio: f64| Level::of_alpha_bar(3.0, 1.0 / (1.0 + ratio * ratio));
        let x = normal((3, 3, 2, 1), 1);
        let found = guided.predict(&x, &[level(0.4), level(1.0), level(2.1)], Some(&[2; 3])).expect("an output").value;
        // 2 for the class alone, 4 + 3 (2 − 4) where it is guided.
        for (image, added) in [2.0, -2.0, 2.0].into_iter().enumerate() {
            let difference = &found.index_axis(ndarray::Axis(0), image) - &x.index_axis(ndarray::Axis(0), image);
            assert!(difference.iter().all(|d| (d - added).abs() < 1e-14), "{difference}");
        }
        assert_eq!(asked.swap(0, std::sync::atomic::Ordering::Relaxed), 2);
        guided.predict(&x, &[level(0.4); 3], Some(&[2; 3])).expect("an output");
        assert_eq!(asked.into_inner(), 1, "outside of the interval it is asked once");
    }
}
