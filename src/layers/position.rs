//! Where a token stands, as a vector: fixed sines and cosines of its row and its column (Peebles & Xie 2023, section 3.2, after
//! Vaswani et al. 2017, section 3.5).
//!
//! With quarter = c/4 frequencies
//!
//! ```text
//! ω_i = 10000^(−i / quarter)                       i = 0..quarter
//! ```
//!
//! the token in row r and column s has [sin ω_i s, cos ω_i s, sin ω_i r, cos ω_i r]: the column comes first. A grid of other than
//! `base` rows or columns is stretched to that size, r = row / (rows / base), and so is s: what was learned for a place in the
//! picture stays there. Computed in f64 and rounded once. Positions are data: no gradient. Proven by PyTorch's numbers
//! through a transformer.
//!
//! Next in the [course](super#the-course): [`modulate`](super::modulate).

use ndarray::Array2;

use super::shaped;
use crate::numerics::{Real, elementary};

/// The vector of every token of a grid, row after row.
///
/// # Shapes
/// To (rows · columns, channels).
///
/// # Panics
/// If `channels` is no multiple of 4.
pub fn positions<F: Real>((rows, columns): (usize, usize), base: usize, channels: usize) -> Array2<F> {
    assert!(channels.is_multiple_of(4), "positions: {channels} channels are no four equal parts");
    let quarter = channels / 4;
    let log_period = elementary::ln(10_000.0);
    let frequencies: Vec<f64> =
        (0..quarter).map(|i| elementary::exp(-log_period * i as f64 / quarter as f64)).collect();
    let along = |places: usize| -> Vec<Vec<F>> {
        let of_place = |place: usize| {
            let at = place as f64 / (places as f64 / base as f64);
            let sines = frequencies.iter().map(|frequency| elementary::sin(at * frequency));
            let cosines = frequencies.iter().map(|frequency| elementary::cos(at * frequency));
            sines.chain(cosines).map(F::from_f64).collect()
        };
        (0..places).map(of_place).collect()
    };
    let (of_rows, of_columns) = (along(rows), along(columns));
    let tokens = of_rows.iter().flat_map(|row| of_columns.iter().map(move |column| [column, row]));
    shaped((rows * columns, channels), tokens.flatten().flatten().copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_has_the_column_before_the_row_and_sines_before_cosines() {
        let table = positions::<f64>((2, 3), 3, 8); // quarters of two: frequencies 1 and 0.01; rows are stretched by 3/2
        let (row, column) = (1.5f64, 2.0f64);
        let waves = |at: f64| [libm::sin(at), libm::sin(0.01 * at), libm::cos(at), libm::cos(0.01 * at)];
        let expected = waves(column).into_iter().chain(waves(row));
        for (found, expected) in table.row(5).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15, "{found} {expected}");
        }
    }

    #[test]
    fn position_in_a_grid_of_twice_the_side_is_that_of_half_its_place() {
        let (table, twice) = (positions::<f32>((4, 4), 4, 16), positions::<f32>((8, 8), 4, 16));
        for (row, column) in [(0, 0), (1, 3), (2, 1)] {
            assert_eq!(table.row(4 * row + column), twice.row(8 * 2 * row + 2 * column));
        }
    }
}
