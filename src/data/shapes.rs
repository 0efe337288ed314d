//! Synthetic images drawn from a seed: a circle, square, triangle or cross, light on dark, at a random place and size.
//!
//! Only integers are used, so the bytes are the same on every machine. Lengths are in eighths of a pixel. Each pixel is
//! sampled at 4 x 4 points, and its value is the mix of the two colours by the number of points inside the shape.

use rayon::prelude::*;

use super::{Dataset, Shape, Split};
use crate::numerics::rng::Stream;
use crate::{Error, Result};

/// The seed of the data set that goes by the name `shapes`.
pub const SEED: u64 = 0;

/// The number of training images.
pub const TRAIN: usize = 4096;

/// The number of validation images.
pub const VALIDATION: usize = 512;

/// The classes. Image i is of class i mod 4.
pub const CLASSES: [&str; 4] = ["circle", "square", "triangle", "cross"];

/// The shortest side, in pixels, on which the classes can be told apart.
const SHORTEST_SIDE: usize = 8;

/// The longest side, in pixels, with which all images take at most 3.6 GB.
const LONGEST_SIDE: usize = 512;

/// The length of a pixel.
const PIXEL: i64 = 8;

/// The data set drawn from `seed`. Image i of a split depends on seed, split, i and `shape` alone.
///
/// # Errors
/// If a side is shorter than 8 pixels or longer than 512.
pub fn draw(seed: u64, split: Split, shape: Shape) -> Result<Dataset> {
    let sides = SHORTEST_SIDE..=LONGEST_SIDE;
    if !sides.contains(&shape.height) || !sides.contains(&shape.width) {
        let expected = format!("sides of {SHORTEST_SIDE} to {LONGEST_SIDE} pixels");
        return Err(Error::value("image size (model.sample_size) for `shapes`", expected, shape));
    }
    let count = match split {
        Split::Train => TRAIN,
        Split::Validation => VALIDATION,
    };
    let mut pixels = vec![0; count * shape.elements()];
    pixels
        .par_chunks_exact_mut(shape.elements())
        .enumerate()
        .for_each(|(i, image)| draw_one(seed, split, i, shape, image));
    let labels = (0..count).map(|i| (i % CLASSES.len()) as u32).collect();
    Dataset::new(format!("shapes ({split})"), shape, pixels)?
        .with_labels(labels, CLASSES.len())?
        .with_class_names(CLASSES.map(String::from).to_vec())
}

/// Draws image `i` into `image`, (h, w, c).
///
/// The stream of ("data.shapes", split, i), where train is 0 and validation 1, gives in this order: the radius, the
/// centre's y and x, and for each channel the level of the background, 0 to 95, and of the shape, 128 to 255.
fn draw_one(seed: u64, split: Split, i: usize, shape: Shape, image: &mut [u8]) {
    let mut stream = Stream::keyed(seed, "data.shapes", &[split as u64, i as u64]);
    let mut within = |from: i64, to: i64| from + stream.below((to - from + 1) as u64) as i64;

    let (height, width) = (shape.height as i64 * PIXEL, shape.width as i64 * PIXEL);
    let side = height.min(width);
    let radius = within(side / 5, side * 3 / 8);
    let (centre_y, centre_x) = (within(radius, height - radius), within(radius, width - radius));
    let levels: Vec<[i64; 2]> = (0..shape.channels).map(|_| [within(0, 95), within(128, 255)]).collect();

    for (p, pixel) in image.chunks_exact_mut(shape.channels).enumerate() {
        let (y, x) = ((p / shape.width) as i64 * PIXEL - centre_y, (p % shape.width) as i64 * PIXEL - centre_x);
        let points = (0..16).filter(|k| is_inside(i % CLASSES.len(), y + 2 * (k / 4) + 1, x + 2 * (k % 4) + 1, radius));
        let inside = points.count() as i64;
        for (value, [background, foreground]) in pixel.iter_mut().zip(&levels) {
            *value = ((background * (16 - inside) + foreground * inside + 8) / 16) as u8;
        }
    }
}

/// Whether the point (y, x), from the shape's centre and y downwards, is inside the shape of `class`.
fn is_inside(class: usize, y: i64, x: i64, radius: i64) -> bool {
    let (far, near) = (y.abs().max(x.abs()), y.abs().min(x.abs()));
    match class {
        0 => y * y + x * x <= radius * radius,
        1 => far <= radius,
        2 => y <= radius && 2 * x.abs() <= y + radius,
        _ => far <= radius && 3 * near <= radius,
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn one(seed: u64, split: Split, i: usize, shape: Shape) -> Vec<u8> {
        let mut image = vec![0; shape.elements()];
        draw_one(seed, split, i, shape, &mut image);
        image
    }

    const SMALL: Shape = Shape { height: 8, width: 9, channels: 1 };

    #[test]
    fn draw_gives_every_class_alike_and_the_image_made_alone() {
        for (split, count) in [(Split::Train, TRAIN), (Split::Validation, VALIDATION)] {
            let shapes = draw(3, split, SMALL).expect("large enough");
            assert_eq!((shapes.len(), shapes.classes()), (count, Some(CLASSES.len())));
            assert_eq!((shapes.label(6), shapes.bytes(6)), (Some(2), Some(&one(3, split, 6, SMALL)[..])));
        }
    }

    #[test]
    fn images_of_another_seed_split_or_index_differ() {
        let image = one(1, Split::Train, 0, SMALL);
        assert_ne!(image, one(2, Split::Train, 0, SMALL));
        assert_ne!(image, one(1, Split::Validation, 0, SMALL));
        assert_ne!(image, one(1, Split::Train, 4, SMALL));
    }

    #[test]
    fn every_image_shows_its_shape_in_every_channel() {
        for (height, width, channels) in [(8, 8, 1), (8, 31, 3), (28, 20, 1), (32, 32, 3)] {
            for i in 0..40 {
                let image = one(7, Split::Train, i, Shape { height, width, channels });
                for c in 0..channels {
                    let channel = || image.iter().skip(c).step_by(channels).copied();
                    let contrast = channel().max().unwrap_or(0) - channel().min().unwrap_or(0);
                    // The thinnest cross has bars one pixel wide; between two pixels they halve its least contrast, 33.
                    assert!(contrast >= 16, "{height}x{width} image {i}, channel {c}: {contrast}");
                }
            }
        }
    }

    #[test]
    fn areas_of_the_classes_are_those_of_geometry() {
        // Of a square of side 2r: π/4, 1, 1/2, and a cross of bars 2r by 2r/3: 5/9.
        let expected = [785, 1000, 500, 555];
        let radius = 600;
        for (class, thousandths) in expected.into_iter().enumerate() {
            let points = (-600..600).flat_map(|y| (-600..600).map(move |x| (y, x)));
            let inside = points.filter(|&(y, x)| is_inside(class, y, x, radius)).count() as i64;
            assert!((inside * 1000 / (1200 * 1200) - thousandths).abs() <= 3, "class {class}: {inside}");
        }
    }

    #[test]
    fn shapes_of_seed_zero_keep_their_bytes() {
        let shape = Shape { height: 32, width: 32, channels: 3 };
        let mut hash = Sha256::new();
        for i in 0..16 {
            hash.update(one(SEED, Split::Train, i, shape));
        }
        // Printed by a Python program written from the documentation above, with hashlib and integers.
        assert_eq!(hash.finalize()[..8], [84, 149, 159, 12, 98, 142, 136, 238]);
    }

    #[test]
    fn draw_on_sides_out_of_range_is_an_error() {
        for (height, width) in [(7, 20), (20, 513)] {
            let error = draw(0, Split::Train, Shape { height, width, channels: 1 }).expect_err("out of range");
            assert!(error.to_string().contains(&format!("8 to 512 pixels, found {height}x{width}x1")), "{error}");
        }
    }
}
