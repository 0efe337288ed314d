//! The reverse process as one picture: what the chain held, and what it believed, from noise to image.

use ndarray::{Array4, Axis};

use super::{Picture, glyphs};

/// The level between images: white, for the labels.
const PAPER: u8 = 255;

/// The chain at one timestep.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    /// The timestep, T..=0; at 0 the chain has ended.
    pub t: usize,
    /// The noisy images x_t, (n, h, w, c).
    pub x_t: &'a Array4<f32>,
    /// The images x̂₀ that the network made out in x_t, (n, h, w, c); at t = 0 the images themselves.
    pub x_0_hat: &'a Array4<f32>,
}

/// Two bands, x_t above x̂₀: one row for each image, one column for each moment, with t above it.
///
/// Images are drawn as in [`grid`](super::grid()), `gap` pixels apart, each pixel a square of side `scale`.
///
/// # Shapes
/// Every array is (n, h, w, c), the same for all columns, c = 1 or 3, values in [−1, 1].
///
/// # Panics
/// If there are no columns or images, the shapes differ, c is neither 1 nor 3, a value is NaN, or `scale` is 0.
pub fn strip(columns: &[Column], gap: usize, scale: usize) -> Picture {
    let (n, h, w, c) = columns.first().expect("strip: no columns").x_t.dim();
    assert!(n > 0 && scale > 0, "strip: {n} images at scale {scale}");
    let names = ["xₜ", "x\u{302}₀"];
    let labels: Vec<String> = columns.iter().map(|column| column.t.to_string()).collect();

    let text = (w * scale / 16).clamp(1, 3);
    let widest_label = labels.iter().map(|label| glyphs::width(label, text)).max().expect("a label for each column");
    let (step_y, step_x) = (h * scale + gap, (w * scale).max(widest_label) + gap);
    let margin = gap + glyphs::width(names[0], text) + 2 * text;
    let head = gap + glyphs::HEIGHT * text;
    let band = head + n * step_y;

    let mut sheet = Picture::filled(margin + columns.len() * step_x, 2 * band + gap, c, PAPER);
    for (b, name) in names.into_iter().enumerate() {
        let top = b * band + head;
        glyphs::write(&mut sheet, name, top + (n * step_y - gap - glyphs::HEIGHT * text) / 2, gap, text);
        for (j, (column, label)) in columns.iter().zip(&labels).enumerate() {
            let images = [column.x_t, column.x_0_hat][b];
            assert_eq!(images.dim(), (n, h, w, c), "strip: {name} at t = {label} has another shape than the first");
            let left = margin + j * step_x;
            let centred = left + (step_x - gap - glyphs::width(label, text)) / 2;
            glyphs::write(&mut sheet, label, b * band + gap, centred, text);
            for (i, image) in images.axis_iter(Axis(0)).enumerate() {
                sheet.paste(&Picture::new(image), top + i * step_y, left, scale);
            }
        }
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strip_puts_images_in_rows_moments_in_columns_and_the_prediction_below() {
        let (n, h, w, c, gap, scale) = (2, 9, 20, 3, 3, 2);
        let flat = |x: f32| Array4::from_shape_fn((n, h, w, c), |(n, ..)| x + n as f32 * 0.1);
        let (a, b, a_hat, b_hat) = (flat(-0.8), flat(-0.4), flat(0.2), flat(0.6));
        let columns = [Column { t: 900, x_t: &a, x_0_hat: &a_hat }, Column { t: 0, x_t: &b, x_0_hat: &b_hat }];
        let mut sheet = strip(&columns, gap, scale);
        // Text at scale 2: a head of 3 + 16 rows, a margin of 3 + 14 + 4 columns.
        let band = 19 + 2 * 21;
        assert_eq!((sheet.width, sheet.height, sheet.channels), (21 + 2 * 43, 2 * band + 3, 3));
        for (value, column, row, of) in
            [(-0.8, 0, 0, 0), (-0.7, 0, 1, 0), (-0.4, 1, 0, 0), (0.3, 0, 1, 1), (0.6, 1, 0, 1)]
        {
            let (top, left) = (of * band + 19 + row * 21, 21 + column * 43);
            for (y, x) in [(top, left), (top + 17, left + 39)] {
                let expected = crate::report::pixels::level(value as f32);
                assert_eq!(sheet.pixel_mut(y, x), [expected; 3], "band {of}, row {row}, column {column}");
            }
        }
    }

    #[test]
    fn strip_of_small_images_widens_its_columns_for_the_labels() {
        let x = Array4::zeros((1, 8, 8, 1));
        let columns = [1000, 999].map(|t| Column { t, x_t: &x, x_0_hat: &x });
        let sheet = strip(&columns, 1, 1);
        assert_eq!(sheet.width, 1 + 7 + 2 + 2 * (15 + 1));
    }
}
