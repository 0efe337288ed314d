//! Many images side by side.

use ndarray::{Array4, Axis};

use super::Picture;

/// The level between images: grey, which sets off a dark image and a light one alike.
const BACKGROUND: u8 = 128;

/// The images in rows from the upper left, `gap` pixels between and around them, each pixel a square of side `scale`.
///
/// Without `columns` the grid is near square; see [`near_square`].
///
/// # Shapes
/// `images` is (n, h, w, c), c = 1 or 3, values in [−1, 1]. The picture has columns · (w · scale + gap) + gap columns of
/// pixels, and likewise rows.
///
/// # Panics
/// If there are no images, c is neither 1 nor 3, a value is NaN, or `columns` or `scale` is 0.
pub fn grid(images: &Array4<f32>, columns: Option<usize>, gap: usize, scale: usize) -> Picture {
    let (n, h, w, c) = images.dim();
    assert!(n > 0 && scale > 0, "grid: {n} images at scale {scale}");
    let columns = columns.unwrap_or_else(|| near_square(n)).min(n);
    let (step_y, step_x) = (h * scale + gap, w * scale + gap);
    let mut sheet = Picture::filled(columns * step_x + gap, n.div_ceil(columns) * step_y + gap, c, BACKGROUND);
    for (i, image) in images.axis_iter(Axis(0)).enumerate() {
        sheet.paste(&Picture::new(image), gap + i / columns * step_y, gap + i % columns * step_x, scale);
    }
    sheet
}

/// The columns of a near-square grid of `n` images: the fewest from ⌈√n⌉ up that leave no place empty, as long as the
/// grid is at most twice as wide as high; else ⌈√n⌉.
pub fn near_square(n: usize) -> usize {
    let root = (1..).find(|root| root * root >= n).expect("some square is as large as n");
    (root..).take_while(|columns| columns * columns <= 2 * n).find(|&columns| n.is_multiple_of(columns)).unwrap_or(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::pixels::level;

    #[test]
    fn grid_of_colour_images_puts_every_magnified_pixel_in_its_place() {
        let (n, h, w, c, columns, gap, scale) = (5, 2, 4, 3, 3, 1, 2);
        let images = Array4::from_shape_fn((n, h, w, c), |(n, h, w, c)| {
            ((((n * 2 + h) * 4 + w) * 3 + c) as f32 + 0.5) / 60.0 - 1.0 // 120 values, none the background's
        });
        let mut sheet = grid(&images, Some(columns), gap, scale);
        assert_eq!((sheet.width, sheet.height, sheet.channels), (3 * 9 + 1, 2 * 5 + 1, 3));
        for ((n, h, w, c), &x) in images.indexed_iter() {
            for (dy, dx) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let (y, x_) = (1 + n / 3 * 5 + h * 2 + dy, 1 + n % 3 * 9 + w * 2 + dx);
                assert_eq!(sheet.pixel_mut(y, x_)[c], level(x), "image {n}, pixel ({h}, {w}), channel {c}");
            }
        }
        let empty = sheet.pixels.iter().filter(|&&level| level == BACKGROUND).count();
        assert_eq!(empty, (28 * 11 - n * h * w * scale * scale) * c);
    }

    #[test]
    fn grid_of_one_image_without_gap_is_the_image() {
        let images = Array4::from_shape_fn((1, 3, 2, 1), |(_, h, w, _)| (h * 2 + w) as f32 / 5.0 - 1.0);
        assert_eq!(grid(&images, None, 0, 1), Picture::new(images.index_axis(Axis(0), 0)));
        assert_eq!(grid(&images, Some(8), 0, 1).width, 2);
    }

    #[test]
    fn near_square_is_full_where_twice_as_wide_as_high_allows() {
        let columns: Vec<usize> = [1, 2, 3, 5, 7, 8, 10, 12, 16, 32, 50, 64, 100].map(near_square).into();
        assert_eq!(columns, [1, 2, 2, 3, 3, 4, 4, 4, 4, 8, 10, 8, 10]);
    }
}
