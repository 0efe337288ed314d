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
        let Some(Guidance { weight, null_class }) = self.guidance.filter(|g| g.weight != 1.0 && labels.is_some())
        else {
            return Ok(with);
        };
        let without = self.denoiser.predict(x, levels, Some(&vec![null_class; levels.len()]))?;
        let w = F::from_f64(weight);
        with.value.zip_mut_with(&without.value, |with, &without| *with = without + w * (*with - without));
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
            let guided = Guided { denoiser, guidance: Some(Guidance { weight, null_class: 4 }) };
            let found = guided.predict(&x, &levels, Some(&[2, 2])).expect("an output").value;
            let (class, none) = (of_label(2), of_label(4));
            for ((found, class), none) in found.iter().zip(&class).zip(&none) {
                let papers_w = weight - 1.0;
                let expected = (1.0 + papers_w) * class - papers_w * none; // Ho and Salimans 2022, Eq. 6, as printed
                assert!((found - expected).abs() < 1e-14, "w = {weight}: {found} {expected}");
            }
        }
    }
}
