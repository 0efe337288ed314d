//! How many images a classifier reads rightly.

use serde::Serialize;

use super::quality::Features;
use crate::data::Dataset;
use crate::layers::ParameterVector;
use crate::models::Classifier;
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
    let features = Features::Classifier(classifier, weights);
    features.check(data)?;
    let known = classifier.config.num_classes;
    match data.classes() {
        Some(classes) if classes <= known => {}
        found => {
            let expected = format!("images of at most {known} classes, which the classifier tells apart");
            let found = found.map_or("no labels".into(), |classes| format!("{classes} classes"));
            return Err(Error::value("data", expected, format!("{found} in {}", data.name())));
        }
    }
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
