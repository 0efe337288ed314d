//! How many images a classifier reads rightly.

use serde::Serialize;

use super::quality::Features;
use crate::data::Dataset;
use crate::diffusion::{Form, Level, q_sample};
use crate::layers::cross_entropy::log_softmax;
use crate::layers::{ParameterVector, Prepared, flat, shaped};
use crate::models::Classifier;
use crate::numerics::parallel;
use crate::numerics::rng::Stream;
use crate::{Error, Result};

/// Images between two calls of `progress`.
const AT_ONCE: usize = 256;

/// How a classifier did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Classification {
    /// Images read.
    pub images: usize,
    /// Of these, those that were read as the class that they are of.
    pub right: usize,
    /// The fraction that is right.
    pub accuracy: f64,
    /// The mean of −ln p of the right class.
    pub cross_entropy: f64,
    /// (classes, classes): how many images of class i were read as class j.
    pub confusion: Vec<Vec<usize>>,
}

/// How a classifier of noisy images did at one level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AtLevel {
    /// sigma/signal.
    pub ratio: f64,
    /// The fraction that is right.
    pub accuracy: f64,
    /// The mean of −ln p of the right class.
    pub cross_entropy: f64,
}

/// The levels at which noisy images are read, as sigma/signal.
const RATIOS: [f64; 5] = [0.1, 0.3, 1.0, 3.0, 10.0];

/// Reads the first `images` images at five levels, each with the noise of its index, that of the stream (0, "evaluate.noise",
/// its index).
///
/// # Errors
/// As [`classify`].
pub fn classify_noisy(
    classifier: &Classifier,
    weights: &ParameterVector<f32>,
    data: &Dataset,
    images: usize,
) -> Result<Vec<AtLevel>> {
    check(classifier, weights, data)?;
    let (prepared, images) = (Prepared::new(weights), images.min(data.len()));
    let at = |ratio: f64| {
        let level = Level::new(Form::VariancePreserving, 0.0, 1.0, ratio);
        // −ln p of the right class, and whether that is the likeliest.
        let read = parallel::map(images, |i| {
            let x_0 = data.batch::<f32>(&[i]);
            let mut eps = vec![0.0; x_0.len()];
            Stream::keyed(0, "evaluate.noise", &[i as u64]).fill_normal(&mut eps);
            let x = shaped(x_0.dim(), q_sample(level, flat(&x_0), &eps));
            let log_p = log_softmax(flat(&classifier.forward(&prepared, x, Some(&[level.angle()])).0.logits));
            let of_label = log_p[data.label(i).expect("checked") as usize];
            (-f64::from(of_label), log_p.iter().all(|&other| other <= of_label))
        });
        let mean = |of: fn(&(f64, bool)) -> f64| read.iter().map(of).sum::<f64>() / images as f64;
        AtLevel {
            ratio,
            accuracy: mean(|(_, right)| f64::from(u8::from(*right))),
            cross_entropy: mean(|(loss, _)| *loss),
        }
    };
    Ok(RATIOS.map(at).to_vec())
}

/// Reads all images; `progress` hears how many are done.
///
/// # Errors
/// Images without labels, of another shape than the classifier's, or of more classes.
pub fn classify(
    classifier: &Classifier,
    weights: &ParameterVector<f32>,
    data: &Dataset,
    mut progress: impl FnMut(usize),
) -> Result<Classification> {
    let (features, known) = check(classifier, weights, data)?;
    let (images, mut confusion, mut loss) = (data.len(), vec![vec![0; known]; known], 0.0);
    for first in (0..images).step_by(AT_ONCE) {
        let indices: Vec<usize> = (first..images.min(first + AT_ONCE)).collect();
        let seen = features.of(data, &indices);
        let labels = data.labels_of(&indices).expect("checked");
        let (log_p, read) =
            (seen.log_p.as_ref().expect("a classifier reads"), seen.read_as().expect("a classifier reads"));
        for (i, (&label, read)) in labels.iter().zip(read).enumerate() {
            confusion[label as usize][read] += 1;
            loss -= log_p[[i, label as usize]];
        }
        progress(first + indices.len());
    }
    let right = (0..known).map(|class| confusion[class][class]).sum();
    let (accuracy, cross_entropy) = (right as f64 / images as f64, loss / images as f64);
    Ok(Classification { images, right, accuracy, cross_entropy, confusion })
}

/// What images are seen by and how many classes it knows, where the images are of these.
fn check<'a>(
    classifier: &'a Classifier,
    weights: &'a ParameterVector<f32>,
    data: &Dataset,
) -> Result<(Features<'a>, usize)> {
    let features = Features::Classifier(classifier, weights);
    features.check(data)?;
    let known = classifier.config.num_classes;
    match data.classes() {
        Some(classes) if classes <= known => Ok((features, known)),
        found => {
            let expected = format!("images of at most {known} classes, which the classifier tells apart");
            let found = found.map_or("no labels".into(), |classes| format!("{classes} classes"));
            Err(Error::value("data", expected, format!("{found} in {}", data.name())))
        }
    }
}
