//! Images in rows and columns that have names.

use ndarray::{Array4, Axis};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::Picture;

/// The level of the paper.
const PAPER: u8 = 255;

/// Between two columns, and around all; between two rows half of it.
const GAP: usize = 8;

/// The height of a line of text.
const LINE: usize = RasterHeight::Size16.val();

/// The images row by row, each pixel a square of side `scale`, with a title and the columns' names above and the rows' names
/// at the left; what is empty takes no place.
///
/// # Shapes
/// `images` is (rows · columns, h, w, c), c = 1 or 3, values in [−1, 1].
///
/// # Panics
/// If there is not an image for each row of each column, c is neither 1 nor 3, a value is NaN, or `scale` is 0.
pub fn sheet(images: &Array4<f32>, title: &str, columns: &[String], rows: &[String], scale: usize) -> Picture {
    let (n, h, w, c) = images.dim();
    assert!(n == rows.len() * columns.len() && n > 0 && scale > 0, "sheet: {n} images at scale {scale}");
    let widest = |names: &[String]| names.iter().map(|name| width(name)).max().unwrap_or(0);
    let (cell_y, cell_x) = (h * scale, (w * scale).max(widest(columns)));
    let left = if widest(rows) == 0 { GAP } else { widest(rows) + 2 * GAP };
    let head = if title.is_empty() { 0 } else { LINE };
    let top = head + if widest(columns) == 0 { GAP } else { LINE + GAP / 2 };
    let place_x = |column: usize| left + column * (cell_x + GAP);
    let place_y = |row: usize| top + row * (cell_y.max(LINE) + GAP / 2);
    let wide = place_x(columns.len()).max(width(title) + 2 * GAP);
    let mut sheet = Picture::filled(wide, place_y(rows.len()) + GAP / 2, c, PAPER);
    write(&mut sheet, title, GAP / 4, GAP);
    for (column, name) in columns.iter().enumerate() {
        write(&mut sheet, name, head + GAP / 4, place_x(column) + (cell_x - width(name)) / 2);
    }
    for (row, name) in rows.iter().enumerate() {
        write(&mut sheet, name, place_y(row) + cell_y.saturating_sub(LINE) / 2, GAP);
    }
    for (i, image) in images.axis_iter(Axis(0)).enumerate() {
        let (row, column) = (i / columns.len(), i % columns.len());
        let centred = place_x(column) + (cell_x - w * scale) / 2;
        sheet.paste(&Picture::new(image), place_y(row), centred, scale);
    }
    sheet
}

/// The columns of pixels that a text takes.
fn width(text: &str) -> usize {
    text.chars().count() * get_raster_width(FontWeight::Regular, RasterHeight::Size16)
}

/// Writes a text with its upper left corner at (`top`, `left`); a character that the font lacks is a question mark.
fn write(picture: &mut Picture, text: &str, top: usize, left: usize) {
    let mut left = left;
    for c in text.chars() {
        let glyph = |c| get_raster(c, FontWeight::Regular, RasterHeight::Size16);
        let Some(glyph) = glyph(c).or_else(|| glyph('?')) else { continue };
        for (y, row) in glyph.rows().enumerate() {
            for (x, ink) in row.iter().enumerate() {
                picture.pixel_mut(top + y, left + x).fill(PAPER - ink);
            }
        }
        left += glyph.width();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::pixels::level;

    fn names(of: &[&str]) -> Vec<String> {
        of.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn sheet_has_images_row_by_row_under_and_beside_their_names() {
        let (h, w, scale) = (12, 40, 2);
        let images = Array4::from_shape_fn((6, h, w, 1), |(n, ..)| -0.9 + 0.3 * n as f32);
        let mut labelled = sheet(&images, "", &names(&["5", "10", "twenty"]), &names(&["ddim", "euler"]), scale);
        let margin = 5 * 7 + 2 * GAP;
        assert_eq!((labelled.width, labelled.height), (margin + 3 * (80 + GAP), LINE + 4 + 2 * (24 + 4) + 4));
        for (i, (y, x)) in (0..6).map(|i| (i, (LINE + 4 + i / 3 * 28, margin + i % 3 * 88))) {
            let expected = level(-0.9 + 0.3 * i as f32);
            assert_eq!(
                [labelled.pixel_mut(y, x)[0], labelled.pixel_mut(y + 23, x + 79)[0]],
                [expected; 2],
                "image {i}"
            );
            assert_eq!(labelled.pixel_mut(y, x - 1), [PAPER]);
        }
        let inked = |picture: &mut Picture, ys: std::ops::Range<usize>, xs: std::ops::Range<usize>| {
            ys.flat_map(|y| xs.clone().map(move |x| (y, x))).any(|(y, x)| picture.pixel_mut(y, x)[0] < 100)
        };
        assert!(inked(&mut labelled, 0..LINE, margin..margin + 80) && inked(&mut labelled, LINE + 4..44, GAP..margin));
        let plain = sheet(&images, "", &names(&["", "", ""]), &names(&["", ""]), scale);
        assert_eq!((plain.width, plain.height), (GAP + 3 * (80 + GAP), GAP + 2 * 28 + 4));
        let mut titled = sheet(&images, "ddim", &names(&["", "", ""]), &names(&["", ""]), scale);
        assert_eq!((titled.width, titled.height), (plain.width, plain.height + LINE));
        assert!(inked(&mut titled, 0..LINE, GAP..GAP + 4 * 7) && !inked(&mut titled, 0..LINE, GAP + 4 * 7..200));
    }
}
