//! From numbers in [−1, 1] to bytes in 0..=255, and a picture of them in a file.

use std::path::Path;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use ndarray::ArrayView3;

use crate::Result;
use crate::atomic;
use crate::numerics::Real;

/// The byte of a value: (x + 1) · 127.5 rounded to the nearest integer, halves upwards; what lies outside [−1, 1]
/// shows as black or white.
///
/// Rounded, not truncated: read as p / 127.5 − 1 in f32, 63 of the 256 levels truncate to the one below.
///
/// # Panics
/// If `x` is NaN, which has no colour.
pub fn level<F: Real>(x: F) -> u8 {
    let y = (x.to_f64() + 1.0) * 127.5;
    assert!(!y.is_nan(), "level: a pixel is not a number");
    if y <= 0.0 {
        0
    } else if y >= 255.0 {
        255
    } else {
        (y + 0.5) as u8
    }
}

/// A picture of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// (height, width, channels), the last running fastest; 0 is black.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// The picture of one image.
    ///
    /// # Shapes
    /// `image` is (h, w, c), c = 1 or 3, its values in [−1, 1].
    ///
    /// # Panics
    /// If c is neither 1 nor 3, or a value is NaN.
    pub fn new<F: Real>(image: ArrayView3<F>) -> Self {
        let (height, width, channels) = image.dim();
        assert!(channels == 1 || channels == 3, "picture: {channels} channels, neither grey (1) nor colour (3)");
        Picture { width, height, channels, pixels: image.iter().map(|&x| level(x)).collect() }
    }

    /// Writes the picture as a PNG file: the same picture, the same bytes.
    ///
    /// # Errors
    /// If the file cannot be written.
    ///
    /// # Panics
    /// If the picture is empty.
    pub fn save_png(&self, path: &Path) -> Result<()> {
        atomic::write(path, &self.to_png())
    }

    /// The bytes of such a file.
    ///
    /// # Panics
    /// If the picture is empty.
    pub fn to_png(&self) -> Vec<u8> {
        let color = if self.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
        let mut bytes = Vec::new();
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive)
            .write_image(&self.pixels, self.width as u32, self.height as u32, color)
            .expect("a picture that is not empty, encoded in memory");
        bytes
    }

    /// A picture of one grey level.
    pub(super) fn filled(width: usize, height: usize, channels: usize, level: u8) -> Self {
        Picture { width, height, channels, pixels: vec![level; width * height * channels] }
    }

    /// The bytes of the pixel in row `y`, column `x`.
    pub(super) fn pixel_mut(&mut self, y: usize, x: usize) -> &mut [u8] {
        let start = (y * self.width + x) * self.channels;
        &mut self.pixels[start..start + self.channels]
    }

    /// Pastes `picture` with its upper left corner at (`top`, `left`), each pixel as a square of side `scale`.
    pub(super) fn paste(&mut self, picture: &Picture, top: usize, left: usize, scale: usize) {
        for y in 0..picture.height * scale {
            for x in 0..picture.width * scale {
                let start = (y / scale * picture.width + x / scale) * picture.channels;
                self.pixel_mut(top + y, left + x).copy_from_slice(&picture.pixels[start..start + picture.channels]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    #[test]
    fn level_of_every_byte_read_in_either_precision_is_that_byte() {
        for p in 0..=255u8 {
            assert_eq!(level(p as f32 / 127.5 - 1.0), p);
            assert_eq!(level(p as f64 / 127.5 - 1.0), p);
        }
    }

    #[test]
    fn level_truncated_would_lose_63_of_256() {
        let lost = (0..=255u8).filter(|&p| ((p as f32 / 127.5 - 1.0 + 1.0) * 127.5) as u8 != p);
        assert_eq!(lost.count(), 63);
    }

    #[test]
    fn level_rounds_halves_up_and_saturates() {
        assert_eq!(level(0.0f32), 128); // 127.5
        assert_eq!(level(0.5 / 127.5 - 1.0 - 1e-9), 0);
        assert_eq!(level(0.5 / 127.5 - 1.0 + 1e-9), 1);
        assert_eq!([level(-7.0f32), level(-1.001), level(1.001), level(f32::INFINITY)], [0, 0, 255, 255]);
    }

    #[test]
    #[should_panic(expected = "not a number")]
    fn level_of_nan_panics() {
        level(f32::NAN);
    }

    #[test]
    fn png_read_back_equals_the_picture_in_grey_and_in_colour() {
        let folder = tempfile::tempdir().unwrap();
        for channels in [1, 3] {
            let image = Array3::from_shape_fn((2, 5, channels), |(h, w, c)| (h * 15 + w * 3 + c) as f32 / 15.0 - 1.0);
            let picture = Picture::new(image.view());
            assert_eq!(picture.pixels[(5 + 2) * channels], level(image[[1, 2, 0]]));
            let path = folder.path().join(format!("{channels}.png"));
            picture.save_png(&path).unwrap();
            let read = image::open(&path).unwrap();
            assert_eq!((read.width(), read.height(), read.color().channel_count()), (5, 2, channels as u8));
            assert_eq!(read.into_bytes(), picture.pixels);
        }
    }

    #[test]
    fn png_under_a_file_fails_and_names_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().join("a.png");
        let message = Picture::filled(1, 1, 1, 0).save_png(&path).unwrap_err().to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
    }
}
