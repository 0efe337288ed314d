//! A picture of any size brought to the model's: the largest centred part of the same proportions, averaged by area.
//!
//! Everything is exact in integers, so the bytes are the same on every machine. With a source of h x w and a target of
//! H x W pixels, one target pixel covers a square of side r = min(h/H, w/W) source pixels: the shorter side, for the
//! proportions wanted, is kept whole and the other is cut at both ends alike. Write r = a/b. In units of 1/(2b) of
//! a source pixel, along each axis,
//!
//! ```text
//! source pixel i covers  [2b·i, 2b·(i+1)]
//! target pixel j covers  [s + 2a·j, s + 2a·(j+1)],   s = b·(source side) − a·(target side)
//! ```
//!
//! and a target pixel is Σ (overlap in y)·(overlap in x)·(source pixel) / (2a)², rounded to the nearest integer, halves
//! up.
//! Where r < 1 the picture is enlarged by the same formula: its pixels become blocks with mixed edges.

use super::Shape;

/// Crops and resizes `picture` to `shape`, as the module's documentation says.
///
/// # Shapes
/// `picture`: (height, width, shape.channels), with sides 1 to 65,535. Returns (shape.height, shape.width,
/// shape.channels).
///
/// # Panics
/// If `picture` has not that many bytes.
pub fn fit(picture: &[u8], height: usize, width: usize, shape: Shape) -> Vec<u8> {
    let channels = shape.channels;
    assert_eq!(picture.len(), height * width * channels, "fit: a picture of {height}x{width}x{channels}");
    if (height, width) == (shape.height, shape.width) {
        return picture.to_vec();
    }
    let (a, b) =
        if height * shape.width <= width * shape.height { (height, shape.height) } else { (width, shape.width) };
    let columns = covers(width, shape.width, a, b);
    let area = (2 * a as u64) * (2 * a as u64);

    let mut fitted = Vec::with_capacity(shape.elements());
    for (top, row_weights) in covers(height, shape.height, a, b) {
        for (left, column_weights) in &columns {
            let mut sums = [0u64; 3];
            for (y, wy) in row_weights.iter().enumerate() {
                let row = &picture[((top + y) * width + left) * channels..];
                for (pixel, wx) in row.chunks_exact(channels).zip(column_weights) {
                    for (sum, &x) in sums.iter_mut().zip(pixel) {
                        *sum += wy * wx * u64::from(x);
                    }
                }
            }
            fitted.extend(sums[..channels].iter().map(|sum| ((2 * sum + area) / (2 * area)) as u8));
        }
    }
    fitted
}

/// For each target pixel along one axis, the first source pixel it covers and how much it covers of that one and of
/// those that follow, in units of 1/(2b).
fn covers(source: usize, target: usize, a: usize, b: usize) -> Vec<(usize, Vec<u64>)> {
    let start = b * source - a * target;
    let cover = |j: usize| {
        let (from, to) = (start + 2 * a * j, start + 2 * a * (j + 1));
        let (first, last) = (from / (2 * b), (to - 1) / (2 * b));
        let overlap = |i: usize| (to.min(2 * b * (i + 1)) - from.max(2 * b * i)) as u64;
        (first, (first..=last).map(overlap).collect())
    };
    (0..target).map(cover).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grey(height: usize, width: usize) -> Shape {
        Shape { height, width, channels: 1 }
    }

    #[test]
    fn fit_to_half_the_size_averages_blocks_of_four_and_rounds_halves_up() {
        let picture = [0, 1, 10, 20, 0, 1, 30, 41];
        assert_eq!(fit(&picture, 2, 4, grey(1, 2)), [1, 25]);
    }

    #[test]
    fn fit_of_a_wide_picture_cuts_both_ends_alike() {
        assert_eq!(fit(&[9, 1, 2, 3, 9], 1, 5, grey(1, 3)), [1, 2, 3]);
        assert_eq!(fit(&[10, 20, 30, 40], 4, 1, grey(1, 1)), [25]);
    }

    #[test]
    fn fit_enlarging_threefold_repeats_pixels_of_each_channel() {
        let shape = Shape { height: 3, width: 6, channels: 3 };
        let row = [[1, 2, 3].repeat(3), [7, 8, 9].repeat(3)].concat();
        assert_eq!(fit(&[1, 2, 3, 7, 8, 9], 1, 2, shape), row.repeat(3));
    }

    #[test]
    fn fit_from_three_to_two_mixes_the_middle_in_equal_parts() {
        // Each target pixel covers 1.5 source pixels: (2·0 + 1·90)/3 and (1·90 + 2·255)/3.
        assert_eq!(fit(&[0, 90, 255].repeat(3), 3, 3, grey(2, 2)), [30, 200, 30, 200]);
    }

    proptest! {
        /// The definition by counting: every source pixel cut into 2b x 2b cells, each target pixel a mean of 2a x 2a.
        #[test]
        fn fit_equals_the_mean_over_cells(
            height in 1usize..9, width in 1usize..9, target_height in 1usize..7, target_width in 1usize..7, seed: u64
        ) {
            let mut stream = crate::numerics::rng::Stream::keyed(seed, "test", &[]);
            let picture: Vec<u8> = (0..height * width).map(|_| stream.below(256) as u8).collect();
            let tall = height * target_width > width * target_height;
            let (a, b) = if tall { (width, target_width) } else { (height, target_height) };
            let (top, left) = (b * height - a * target_height, b * width - a * target_width);
            let mut expected = Vec::new();
            for j in 0..target_height * target_width {
                let (y0, x0) = (top + 2 * a * (j / target_width), left + 2 * a * (j % target_width));
                let cells = (y0..y0 + 2 * a).flat_map(|y| (x0..x0 + 2 * a).map(move |x| (y, x)));
                let sum: usize = cells.map(|(y, x)| usize::from(picture[y / (2 * b) * width + x / (2 * b)])).sum();
                let cells = 4 * a * a;
                expected.push(((sum + cells / 2) / cells) as u8);
            }
            prop_assert_eq!(fit(&picture, height, width, grey(target_height, target_width)), expected);
        }
    }
}
