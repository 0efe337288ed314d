//! What pictures are compared by: the features of a classifier, or their pixels.

use ndarray::{Array2, Array4};

use crate::data::Dataset;
use crate::layers::cross_entropy::log_softmax;
use crate::layers::{ParameterVector, Prepared, flat, shaped};
use crate::models::Classifier;
use crate::{Error, Result};

/// The most numbers of an image whose pixels are its features: covariances are as large as their square.
const MOST_PIXELS: usize = 1024;

/// Images that are looked at together; fewer or more give the same bits.
const AT_ONCE: usize = 256;

/// A way to see images.
#[derive(Clone, Copy, Debug)]
pub enum Features<'a> {
    /// The last vector before the logits, and what class it is read as.
    Classifier(&'a Classifier, &'a ParameterVector<f32>),
    /// The pixels themselves, averaged over squares of 2 x 2 until there are at most 1024 numbers.
    Pixels,
}

/// Images as they are seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// (n, d).
    pub features: Array2<f32>,
    /// ln p of each class, (n, classes); none where pixels are the features.
    pub log_p: Option<Array2<f64>>,
}

impl Features<'_> {
    /// Refuses images that are not what the classifier takes.
    ///
    /// # Errors
    /// Images of another shape.
    pub fn check(&self, data: &Dataset) -> Result<()> {
        let Features::Classifier(classifier, _) = self else { return Ok(()) };
        let (config, shape) = (&classifier.config, data.shape());
        let (height, width) = config.sample_size;
        if (height, width, config.in_channels) == (shape.height, shape.width, shape.channels) {
            return Ok(());
        }
        let train = "train one on such images with `ancestral classify train --data`";
        let expected = format!("a classifier for images of {shape}, as those of {} ({train})", data.name());
        let found = format!("one for images of {height}x{width}x{}", config.in_channels);
        Err(Error::value("features", expected, found))
    }

    /// The images of these indices.
    ///
    /// # Panics
    /// If there is none, an index is out of range, or the images are not what [`check`](Features::check) lets pass.
    pub fn of(&self, data: &Dataset, indices: &[usize]) -> Seen {
        let parts = indices.chunks(AT_ONCE).map(|indices| data.batch::<f32>(indices));
        match self {
            Features::Pixels => {
                let parts: Vec<Array4<f32>> = parts.map(smaller).collect();
                let (numbers, count) = (parts[0].len() / parts[0].dim().0, indices.len());
                let features = parts.iter().flat_map(|part| flat(part).iter().copied()).collect();
                Seen { features: shaped((count, numbers), features), log_p: None }
            }
            Features::Classifier(classifier, weights) => {
                let prepared = Prepared::new(weights);
                let (mut features, mut log_p) = (Vec::new(), Vec::new());
                for part in parts {
                    let reading = classifier.read(&prepared, &part);
                    features.extend_from_slice(flat(&reading.features));
                    flat(&reading.logits)
                        .chunks_exact(classifier.config.num_classes)
                        .for_each(|row| log_p.extend(log_softmax(row).into_iter().map(f64::from)));
                }
                let (n, d) = (indices.len(), features.len() / indices.len());
                let log_p = shaped((n, classifier.config.num_classes), log_p);
                Seen { features: shaped((n, d), features), log_p: Some(log_p) }
            }
        }
    }
}

impl Seen {
    /// The class that each image is read as, if it is read: the first of the likeliest.
    pub fn read_as(&self) -> Option<Vec<usize>> {
        let best =
            |row: ndarray::ArrayView1<f64>| (1..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best });
        self.log_p.as_ref().map(|log_p| log_p.rows().into_iter().map(best).collect())
    }
}

/// Means over squares of 2 x 2 pixels, as often as it takes; an odd last row or column is left out.
fn smaller(mut x: Array4<f32>) -> Array4<f32> {
    loop {
        let (n, h, w, c) = x.dim();
        if h * w * c <= MOST_PIXELS || h < 2 || w < 2 {
            return x;
        }
        x = Array4::from_shape_fn((n, h / 2, w / 2, c), |(i, y, z, k)| {
            0.25 * (x[[i, 2 * y, 2 * z, k]]
                + x[[i, 2 * y, 2 * z + 1, k]]
                + x[[i, 2 * y + 1, 2 * z, k]]
                + x[[i, 2 * y + 1, 2 * z + 1, k]])
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Shape;
    use crate::models::ClassifierConfig;

    #[test]
    fn pixels_of_large_images_are_averaged_and_those_of_small_ones_are_not() {
        let shape = Shape { height: 64, width: 64, channels: 1 };
        let pixels: Vec<u8> = (0..64 * 64).map(|p| if (p / 64 + p) % 2 == 0 { 0 } else { 255 }).collect();
        let seen = Features::Pixels.of(&Dataset::new("chess", shape, pixels).expect("an image"), &[0]);
        assert_eq!(seen.features, Array2::<f32>::zeros((1, 1024)));
        let shape = Shape { height: 1, width: 2, channels: 3 };
        let data = Dataset::new("small", shape, vec![0, 255, 0, 255, 0, 255]).expect("an image");
        assert_eq!(Features::Pixels.of(&data, &[0]).features, ndarray::arr2(&[[-1.0, 1.0, -1.0, 1.0, -1.0, 1.0]]));
    }

    #[test]
    fn images_of_another_shape_than_the_classifiers_are_refused() {
        let classifier = Classifier::new(ClassifierConfig::default()).expect("valid");
        let weights = classifier.layout.initial(1);
        let shape = Shape { height: 28, width: 28, channels: 3 };
        let data = Dataset::new("colour", shape, vec![0; shape.elements()]).expect("an image");
        let error = Features::Classifier(&classifier, &weights).check(&data).expect_err("colour").to_string();
        assert!(error.contains("28x28x3") && error.contains("28x28x1"), "{error}");
    }
}
