//! Sums with a fixed order of addition (contract N1, rule 4).

use super::Real;

/// Lanes of a sum over a row of numbers, whatever the width of the machine's registers.
const LANES: usize = 16;

/// Rows of a sum down the columns that are added in the working precision before they join the f64 total.
const ROWS: usize = 16;

/// Σ term(x) over `x` in f64: element i is added to lane i mod 16 in ascending order, then the lanes as a tree 8-4-2-1.
///
/// Every term is widened exactly before it is added, so that a sum over millions of elements keeps f32's precision.
#[inline(always)]
pub fn sum_by<T: Copy>(x: &[T], term: impl Fn(T) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += term(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += term(x);
    }
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

/// Σ x.
pub fn sum<F: Real>(x: &[F]) -> f64 {
    sum_by(x, F::to_f64)
}

/// Σ x².
pub fn sum_of_squares<F: Real>(x: &[F]) -> f64 {
    sum_by(x, |x| x.to_f64() * x.to_f64())
}

/// Adds term(p, c) of every row p into `totals[c]`, for a matrix of `totals.len()` columns: rows ascending, 16 at a time
/// in F from +0, each group of 16 then into the f64 total.
///
/// `term` is called with a row's index and a slice of `totals.len()` partial sums to which it adds the row.
#[inline(always)]
pub fn column_sums<F: Real>(rows: usize, totals: &mut [f64], mut add_row: impl FnMut(usize, &mut [F])) {
    let mut partial = vec![F::zero(); totals.len()];
    for first in (0..rows).step_by(ROWS) {
        partial.fill(F::zero());
        for row in first..(first + ROWS).min(rows) {
            add_row(row, &mut partial);
        }
        totals.iter_mut().zip(&partial).for_each(|(total, &part)| *total += part.to_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_adds_lanes_then_a_tree() {
        let x: Vec<f32> = (0..37).map(|i| 0.1 * i as f32).collect();
        let mut lanes = [0.0f64; 16];
        x.iter().enumerate().for_each(|(i, &x)| lanes[i % 16] += x as f64);
        let eight: Vec<f64> = (0..8).map(|i| lanes[i] + lanes[i + 8]).collect();
        let four: Vec<f64> = (0..4).map(|i| eight[i] + eight[i + 4]).collect();
        assert_eq!(sum(&x).to_bits(), ((four[0] + four[2]) + (four[1] + four[3])).to_bits());
    }

    #[test]
    fn sum_of_squares_of_a_million_equal_floats_keeps_their_precision() {
        let x = vec![0.1f32; 1 << 20];
        let exact = (0.1f32 as f64) * (0.1f32 as f64) * (1 << 20) as f64;
        // Each lane adds 2¹⁶ equal numbers in f64: at most 2¹⁶ · 2⁻⁵³ relative.
        assert!((sum_of_squares(&x) / exact - 1.0).abs() < 1e-11);
    }

    #[test]
    fn column_sums_add_sixteen_rows_before_the_total() {
        let x: Vec<f32> = (0..2 * 37).map(|i| 0.3 * i as f32).collect();
        let mut totals = [0.0; 2];
        column_sums(37, &mut totals, |row, partial: &mut [f32]| {
            partial.iter_mut().zip(&x[2 * row..]).for_each(|(p, &x)| *p += x);
        });
        for (c, &total) in totals.iter().enumerate() {
            let column: Vec<f32> = x.iter().skip(c).step_by(2).copied().collect();
            let expected: f64 = column.chunks(16).map(|rows| rows.iter().fold(0.0f32, |s, &x| s + x) as f64).sum();
            assert_eq!(total.to_bits(), expected.to_bits());
        }
    }
}
