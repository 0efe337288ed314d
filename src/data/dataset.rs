//! Images of one shape in memory: held as bytes or as floats, handed out in [−1, 1].

use ndarray::Array4;
use sha2::{Digest, Sha256};

use super::{Fingerprint, Shape};
use crate::digest::hexadecimal;
use crate::numerics::Real;
use crate::{Error, Result};

/// Images of one shape, at least one, with or without labels, in memory.
///
/// ```
/// use ancestral::data::Dataset;
/// use ndarray::Array4;
///
/// let images = Array4::from_shape_fn((2, 8, 8, 1), |(n, h, _, _)| if n == 0 { -1.0 } else { h as f32 / 7.0 });
/// let data = Dataset::from_array("two squares", &images)?.with_labels(vec![0, 1], 2)?;
/// assert_eq!(data.batch::<f32>(&[0, 1]), images);
/// # Ok::<(), ancestral::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    name: String,
    shape: Shape,
    pixels: Pixels,
    labels: Option<Labels>,
    notes: Vec<String>,
    /// What tells these files from others, if that is not the pixels.
    files_sha256: Option<String>,
}

/// (n, h, w, c), channels last.
#[derive(Clone, Debug, PartialEq)]
enum Pixels {
    /// Each 0 to 255, as files have them.
    Bytes(Vec<u8>),
    /// Each in [−1, 1], as a program made them.
    Floats(Vec<f32>),
}

#[derive(Clone, Debug, PartialEq)]
struct Labels {
    /// (n), each below `classes`.
    of_images: Vec<u32>,
    classes: usize,
    /// (classes), if the classes have names.
    names: Option<Vec<String>>,
}

impl Dataset {
    /// Images of bytes, without labels; `name` is for messages.
    ///
    /// # Shapes
    /// `pixels`: (n, h, w, c), channels last, each 0 to 255; n ≥ 1.
    ///
    /// # Errors
    /// If a side or the number of channels is not 1 to 4096, or `pixels` is not a whole number of images of `shape`,
    /// at least one.
    pub fn new(name: impl Into<String>, shape: Shape, pixels: Vec<u8>) -> Result<Self> {
        shape.check_sides()?;
        let name = name.into();
        if pixels.is_empty() || !pixels.len().is_multiple_of(shape.elements()) {
            let expected = format!("one or more whole images of {shape}, {} bytes each", shape.elements());
            return Err(Error::value(format!("the pixels of {name}"), expected, format!("{} bytes", pixels.len())));
        }
        Ok(Dataset { name, shape, pixels: Pixels::Bytes(pixels), labels: None, notes: Vec::new(), files_sha256: None })
    }

    /// Images of floats, without labels; `name` is for messages. [`batch`](Self::batch) hands out these very numbers.
    ///
    /// # Shapes
    /// `images`: (n, h, w, c), each in [−1, 1]; n ≥ 1, in any memory order.
    ///
    /// # Errors
    /// If there is no image, a side or the number of channels is not 1 to 4096, or a value is not finite or lies outside
    /// of [−1, 1]: the first one is named by its index.
    pub fn from_array(name: impl Into<String>, images: &Array4<f32>) -> Result<Self> {
        let (count, height, width, channels) = images.dim();
        let (name, shape) = (name.into(), Shape { height, width, channels });
        shape.check_sides()?;
        if count == 0 {
            return Err(Error::value(format!("the images of {name}"), "at least one", 0));
        }
        if let Some(((n, h, w, c), value)) = images.indexed_iter().find(|(_, x)| !(-1.0..=1.0).contains(*x)) {
            let field = format!("the images of {name}, at [{n}, {h}, {w}, {c}]");
            return Err(Error::value(field, "a number in [-1, 1]", value));
        }
        let pixels = Pixels::Floats(images.iter().copied().collect());
        Ok(Dataset { name, shape, pixels, labels: None, notes: Vec::new(), files_sha256: None })
    }

    /// The same images with one label each.
    ///
    /// # Shapes
    /// `labels`: (n), each in 0..classes.
    ///
    /// # Errors
    /// If there is not one label for each image, or one is not below `classes`: the first one is named by its index.
    pub fn with_labels(mut self, labels: Vec<u32>, classes: usize) -> Result<Self> {
        if labels.len() != self.len() {
            let expected = format!("{}, one for each image", self.len());
            return Err(Error::value(format!("the number of labels of {}", self.name), expected, labels.len()));
        }
        if let Some(i) = labels.iter().position(|&label| label as usize >= classes) {
            let field = format!("the label of image {i} (from 0) of {}", self.name);
            return Err(Error::value(field, format!("a number below {classes}, the number of classes"), labels[i]));
        }
        self.labels = Some(Labels { of_images: labels, classes, names: None });
        Ok(self)
    }

    /// The same images with a name for each class.
    ///
    /// # Shapes
    /// `names`: (classes).
    ///
    /// # Errors
    /// If the images have no labels, or there is not one name for each class.
    pub fn with_class_names(mut self, names: Vec<String>) -> Result<Self> {
        let classes = self.classes().unwrap_or(0);
        if names.len() != classes {
            let expected = format!("{classes}, one for each class");
            return Err(Error::value(format!("the number of class names of {}", self.name), expected, names.len()));
        }
        if let Some(labels) = &mut self.labels {
            labels.names = Some(names);
        }
        Ok(self)
    }

    /// The same images with something that their user should know.
    pub(super) fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes.extend(notes);
        self
    }

    /// The same images, known by a digest of the files they came from.
    pub(super) fn with_files_sha256(mut self, sha256: String) -> Self {
        self.files_sha256 = Some(sha256);
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

    /// What was left out, kept apart or turned round on reading, one line each: for the user's eyes.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The number of images, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "there is no empty data set")]
    pub fn len(&self) -> usize {
        let numbers = match &self.pixels {
            Pixels::Bytes(pixels) => pixels.len(),
            Pixels::Floats(pixels) => pixels.len(),
        };
        numbers / self.shape.elements()
    }

    /// Image `i` as bytes; none if the images were given as floats.
    ///
    /// # Shapes
    /// Returns (h, w, c), channels last, 0 to 255.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn bytes(&self, i: usize) -> Option<&[u8]> {
        match &self.pixels {
            Pixels::Bytes(pixels) => Some(self.image(pixels, i)),
            Pixels::Floats(_) => None,
        }
    }

    fn image<'a, T>(&self, pixels: &'a [T], i: usize) -> &'a [T] {
        let elements = self.shape.elements();
        &pixels[i * elements..(i + 1) * elements]
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

    /// The name of each class, in the order of the labels, if the classes have names.
    pub fn class_names(&self) -> Option<&[String]> {
        self.labels.as_ref()?.names.as_deref()
    }

    /// The images of `indices`, in that order: bytes scaled to [−1, 1] by [`from_byte`], floats as they were given.
    ///
    /// # Shapes
    /// Returns (indices, h, w, c).
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    pub fn batch<F: Real>(&self, indices: &[usize]) -> Array4<F> {
        let images: Vec<F> = match &self.pixels {
            Pixels::Bytes(pixels) => {
                let levels: [F; 256] = std::array::from_fn(|x| from_byte(x as u8));
                indices.iter().flat_map(|&i| self.image(pixels, i)).map(|&x| levels[x as usize]).collect()
            }
            Pixels::Floats(pixels) => {
                indices.iter().flat_map(|&i| self.image(pixels, i)).map(|&x| F::from_f64(f64::from(x))).collect()
            }
        };
        let Shape { height, width, channels } = self.shape;
        Array4::from_shape_vec((indices.len(), height, width, channels), images).expect("every image has the shape")
    }

    /// The labels of `indices`, in that order, if the images have labels.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len) and the images have labels.
    pub fn labels_of(&self, indices: &[usize]) -> Option<Vec<u32>> {
        indices.iter().map(|&i| self.label(i)).collect()
    }

    /// What tells these images from others: for a run that goes on later.
    pub fn fingerprint(&self) -> Fingerprint {
        let classes = match (self.class_names(), self.classes()) {
            (Some(names), _) => names.to_vec(),
            (None, classes) => (0..classes.unwrap_or(0)).map(|class| class.to_string()).collect(),
        };
        let files_sha256 = self.files_sha256.clone().unwrap_or_else(|| self.pixels_sha256());
        Fingerprint { name: self.name.clone(), images: self.len(), classes, files_sha256 }
    }

    /// The digest of the pixels, floats as four little-endian bytes each, then of the labels, likewise.
    fn pixels_sha256(&self) -> String {
        let mut hash = Sha256::new();
        match &self.pixels {
            Pixels::Bytes(pixels) => hash.update(pixels),
            Pixels::Floats(pixels) => pixels.iter().for_each(|x| hash.update(x.to_le_bytes())),
        }
        let labels = self.labels.iter().flat_map(|labels| &labels.of_images);
        labels.for_each(|label| hash.update(label.to_le_bytes()));
        hexadecimal(&hash.finalize())
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

    const SHAPE: Shape = Shape { height: 1, width: 2, channels: 3 };

    fn two_images() -> Dataset {
        Dataset::new("made", SHAPE, vec![0, 255, 51, 1, 2, 3, 127, 128, 204, 9, 8, 7]).expect("two images")
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
    fn batch_of_floats_is_the_array_bit_for_bit_in_any_memory_order() {
        let planes = Array4::from_shape_fn((2, 5, 3, 4), |(n, c, h, w)| {
            if (n, c) == (0, 0) { -0.0 } else { 1.0 / (1 + n + 2 * c + 10 * h + 30 * w) as f32 }
        });
        let images = planes.permuted_axes([0, 2, 3, 1]);
        let data = Dataset::from_array("made", &images).expect("in range");
        assert_eq!(data.shape(), Shape { height: 3, width: 4, channels: 5 });
        let bits = |array: &Array4<f32>| array.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&data.batch(&[0, 1])), bits(&images));
        assert_eq!(data.batch::<f64>(&[1])[[0, 2, 1, 4]], f64::from(images[[1, 2, 1, 4]]));
        assert_eq!(data.bytes(0), None);
    }

    #[test]
    fn arrays_out_of_range_are_errors_that_name_the_index() {
        for wrong in [1.0 + f32::EPSILON, -1.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut images = Array4::zeros((2, 3, 4, 1));
            images[[1, 2, 3, 0]] = wrong;
            let error = Dataset::from_array("made", &images).expect_err("out of range").to_string();
            assert!(error.contains("at [1, 2, 3, 0]: expected a number in [-1, 1], found"), "{error}");
        }
        for empty in [(0, 3, 4, 1), (2, 0, 4, 1), (2, 3, 0, 1), (2, 3, 4, 0)] {
            assert!(Dataset::from_array("made", &Array4::zeros(empty)).is_err(), "{empty:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_whole_images_are_errors() {
        for length in [0, 5, 7] {
            let error = Dataset::new("made", SHAPE, vec![0; length]).expect_err("not whole").to_string();
            assert!(error.contains(&format!("6 bytes each, found {length} bytes")), "{error}");
        }
        for height in [0, usize::MAX] {
            assert!(Dataset::new("made", Shape { height, ..SHAPE }, vec![0; 6]).is_err());
        }
    }

    #[test]
    fn labels_of_images_without_labels_are_none() {
        let (bare, labelled) = (two_images(), two_images().with_labels(vec![4, 2], 5).expect("below 5"));
        assert_eq!((bare.label(0), bare.classes(), bare.labels_of(&[0])), (None, None, None));
        assert_eq!((labelled.label(0), labelled.classes(), labelled.class_names()), (Some(4), Some(5), None));
        assert_eq!(labelled.labels_of(&[1, 0, 1]), Some(vec![2, 4, 2]));
    }

    #[test]
    fn labels_and_names_that_do_not_fit_are_errors_that_say_which() {
        let problem = |labels, classes| two_images().with_labels(labels, classes).expect_err("unfit").to_string();
        assert!(problem(vec![1], 2).contains("expected 2, one for each image, found 1"));
        assert!(problem(vec![1, 2], 2).contains("label of image 1 (from 0) of made: expected a number below 2"));
        let names = |count| vec!["a".to_string(); count];
        let labelled = || two_images().with_labels(vec![1, 0], 2).expect("below 2");
        assert_eq!(labelled().with_class_names(names(2)).expect("two").class_names(), Some(&names(2)[..]));
        assert!(labelled().with_class_names(names(3)).is_err() && two_images().with_class_names(names(2)).is_err());
    }
}
