//! Images of one shape in memory: held as bytes, handed out in [−1, 1].

use std::fmt;

use ndarray::Array4;

use crate::numerics::Real;
use crate::{Error, Result};

/// The longest side, in pixels, of the images that a model may ask for.
const LONGEST_SIDE: usize = 4096;

/// The size of one image, in pixels and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows, 1 to 4096.
    pub height: usize,
    /// Columns, 1 to 4096.
    pub width: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
}

impl Shape {
    /// Bytes in one image: height · width · channels.
    pub fn elements(self) -> usize {
        self.height * self.width * self.channels
    }

    pub(super) fn check(self) -> Result<()> {
        for (field, side) in [("image height", self.height), ("image width", self.width)] {
            if side == 0 || side > LONGEST_SIDE {
                return Err(Error::value(field, format!("1 to {LONGEST_SIDE} pixels"), side));
            }
        }
        if self.channels != 1 && self.channels != 3 {
            return Err(Error::value("image channels", "1 (grey) or 3 (red, green, blue)", self.channels));
        }
        Ok(())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// Which of a data set's images: those to train on, or those kept apart to measure with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Images the model learns from.
    Train,
    /// Images the model never learns from.
    Validation,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Validation => "validation",
        })
    }
}

/// Images of one shape, with or without labels, in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    name: String,
    shape: Shape,
    /// (n, h, w, c), channels last, 0 to 255.
    pixels: Vec<u8>,
    labels: Option<Labels>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Labels {
    /// (n), each below `classes`.
    of_images: Vec<u32>,
    classes: usize,
}

impl Dataset {
    /// Images without labels; `name` is for messages.
    ///
    /// # Shapes
    /// `pixels`: (n, h, w, c), channels last, each 0 to 255.
    ///
    /// # Panics
    /// If `pixels` is not a whole number of images of `shape`.
    pub fn new(name: impl Into<String>, shape: Shape, pixels: Vec<u8>) -> Self {
        let whole = pixels.len().checked_rem(shape.elements()) == Some(0);
        assert!(whole, "Dataset: {} bytes are no whole number of images of {shape}", pixels.len());
        Dataset { name: name.into(), shape, pixels, labels: None }
    }

    /// The same images with a label each.
    ///
    /// # Shapes
    /// `labels`: (n), each in 0..classes.
    ///
    /// # Panics
    /// If there is not one label an image, or one is not below `classes`.
    pub fn with_labels(mut self, labels: Vec<u32>, classes: usize) -> Self {
        assert_eq!(labels.len(), self.len(), "Dataset: one label an image");
        assert!(labels.iter().all(|&l| (l as usize) < classes), "Dataset: labels must be below {classes}");
        self.labels = Some(Labels { of_images: labels, classes });
        self
    }

    /// Where the images came from and which split they are, for messages: `data/mnist (train)`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The size of every image.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The number of images. [`load`](super::load) returns at least one.
    pub fn len(&self) -> usize {
        self.pixels.len() / self.shape.elements()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// Image `i`.
    ///
    /// # Shapes
    /// Returns (h, w, c), channels last, 0 to 255.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn image(&self, i: usize) -> &[u8] {
        let elements = self.shape.elements();
        &self.pixels[i * elements..(i + 1) * elements]
    }

    /// The class of image `i`, in 0..classes, if the images have labels.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len) and the images have labels.
    pub fn label(&self, i: usize) -> Option<u32> {
        self.labels.as_ref().map(|labels| labels.of_images[i])
    }

    /// The number of classes, if the images have labels.
    pub fn classes(&self) -> Option<usize> {
        self.labels.as_ref().map(|labels| labels.classes)
    }

    /// The images of `indices`, in that order, scaled to [−1, 1] by [`from_byte`].
    ///
    /// # Shapes
    /// Returns (indices, h, w, c).
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    pub fn batch<F: Real>(&self, indices: &[usize]) -> Array4<F> {
        let levels: [F; 256] = std::array::from_fn(|x| from_byte(x as u8));
        let pixels = indices.iter().flat_map(|&i| self.image(i)).map(|&x| levels[x as usize]).collect();
        let Shape { height, width, channels } = self.shape;
        Array4::from_shape_vec((indices.len(), height, width, channels), pixels).expect("every image has the shape")
    }

    /// The labels of `indices`, in that order, if the images have labels.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len) and the images have labels.
    pub fn labels_of(&self, indices: &[usize]) -> Option<Vec<u32>> {
        indices.iter().map(|&i| self.label(i)).collect()
    }
}

/// A byte as a number in [−1, 1]: x / 127.5 − 1, so that 0 is −1 and 255 is 1, both exactly.
///
/// Quotient and difference are computed in f64; the result is rounded once more, to `F`.
pub fn from_byte<F: Real>(x: u8) -> F {
    F::from_f64(f64::from(x) / 127.5 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_images() -> Dataset {
        let shape = Shape { height: 1, width: 2, channels: 3 };
        Dataset::new("made", shape, vec![0, 255, 51, 1, 2, 3, 127, 128, 204, 9, 8, 7])
    }

    #[test]
    fn batch_keeps_the_order_of_its_indices_and_puts_channels_last() {
        let batch = two_images().batch::<f64>(&[1, 0, 1]);
        assert_eq!(batch.dim(), (3, 1, 2, 3));
        assert_eq!(batch[[0, 0, 0, 2]], 204.0 / 127.5 - 1.0);
        assert_eq!(batch[[1, 0, 0, 0]], -1.0);
        assert_eq!(batch[[1, 0, 0, 1]], 1.0);
        assert_eq!(batch[[2, 0, 1, 2]], 7.0 / 127.5 - 1.0);
    }

    #[test]
    fn from_byte_in_f32_is_the_number_nearest_to_the_exact_quotient() {
        for x in 0..=255u8 {
            // (2x − 255) / 255 has one rounding in f64 before the one to f32.
            assert_eq!(from_byte::<f32>(x), ((2.0 * f64::from(x) - 255.0) / 255.0) as f32, "{x}");
        }
    }

    #[test]
    fn labels_of_images_without_labels_are_none() {
        let (bare, labelled) = (two_images(), two_images().with_labels(vec![4, 2], 5));
        assert_eq!((bare.label(0), bare.classes(), bare.labels_of(&[0])), (None, None, None));
        assert_eq!((labelled.label(0), labelled.classes()), (Some(4), Some(5)));
        assert_eq!(labelled.labels_of(&[1, 0, 1]), Some(vec![2, 4, 2]));
    }
}
