//! The few characters that label a strip, drawn by hand.

use super::Picture;

/// The rows of a glyph: one for a hat, five for a digit, two below for a subscript.
pub(super) const HEIGHT: usize = 8;
/// The columns of a glyph.
const WIDTH: usize = 3;
/// From the left of a glyph to the left of the next.
const ADVANCE: usize = WIDTH + 1;
/// The combining circumflex, drawn over the character before it.
const HAT: char = '\u{302}';
/// The level of the ink.
const INK: u8 = 40;

/// Each glyph row by row, `#` being ink.
#[rustfmt::skip]
const GLYPHS: [(char, [&str; HEIGHT]); 14] = [
    ('0', ["   ", "###", "# #", "# #", "# #", "###", "   ", "   "]),
    ('1', ["   ", " # ", "## ", " # ", " # ", "###", "   ", "   "]),
    ('2', ["   ", "###", "  #", "###", "#  ", "###", "   ", "   "]),
    ('3', ["   ", "###", "  #", " ##", "  #", "###", "   ", "   "]),
    ('4', ["   ", "# #", "# #", "###", "  #", "  #", "   ", "   "]),
    ('5', ["   ", "###", "#  ", "###", "  #", "###", "   ", "   "]),
    ('6', ["   ", "###", "#  ", "###", "# #", "###", "   ", "   "]),
    ('7', ["   ", "###", "  #", "  #", "  #", "  #", "   ", "   "]),
    ('8', ["   ", "###", "# #", "###", "# #", "###", "   ", "   "]),
    ('9', ["   ", "###", "# #", "###", "  #", "###", "   ", "   "]),
    ('x', ["   ", "   ", "   ", "# #", " # ", "# #", "   ", "   "]),
    (HAT, [" # ", "# #", "   ", "   ", "   ", "   ", "   ", "   "]),
    ('ₜ', ["   ", "   ", "   ", "   ", " # ", "###", " # ", " ##"]),
    ('₀', ["   ", "   ", "   ", "   ", "###", "# #", "# #", "###"]),
];

/// The columns of pixels that `text` takes at `scale`.
pub(super) fn width(text: &str, scale: usize) -> usize {
    let glyphs = text.chars().filter(|&c| c != HAT).count();
    (glyphs * ADVANCE).saturating_sub(1) * scale
}

/// Writes `text` with its upper left corner at (`top`, `left`), each pixel of a glyph a square of side `scale`.
///
/// # Panics
/// If a character has no glyph.
pub(super) fn write(picture: &mut Picture, text: &str, top: usize, left: usize, scale: usize) {
    let mut left = left;
    for c in text.chars() {
        let (_, rows) = GLYPHS.iter().find(|(glyph, _)| *glyph == c).unwrap_or_else(|| panic!("no glyph for {c:?}"));
        if c == HAT {
            left -= ADVANCE * scale;
        }
        for y in 0..HEIGHT * scale {
            for x in 0..WIDTH * scale {
                if rows[y / scale].as_bytes()[x / scale] == b'#' {
                    picture.pixel_mut(top + y, left + x).fill(INK);
                }
            }
        }
        left += ADVANCE * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_draws_a_hat_over_its_character_and_a_subscript_after_it() {
        let mut picture = Picture::filled(width("x\u{302}₀", 1), HEIGHT, 1, 255);
        write(&mut picture, "x\u{302}₀", 0, 0, 1);
        let drawn: Vec<String> = picture
            .pixels
            .chunks(picture.width)
            .map(|row| row.iter().map(|&level| if level == INK { '#' } else { ' ' }).collect())
            .collect();
        assert_eq!(drawn, [" #     ", "# #    ", "       ", "# #    ", " #  ###", "# # # #", "    # #", "    ###"]);
    }
}
