//! The right matrix of a product, laid out in the order in which the kernel reads it.

use super::super::memory::{self, Aligned};
use super::super::{Real, shards};

/// The right matrix of a product, shape (k, n), copied into panels of a register tile's width: column j lies in panel
/// j / WIDTH, row after row of it. The last panel is filled up with zeros.
#[derive(Debug)]
pub struct Panels<F: Real> {
    data: Aligned<F>,
    steps: usize,
    columns: usize,
}

impl<F: Real> Panels<F> {
    /// Columns of a panel, and of C that the kernel holds in registers: 64 bytes a row for either precision.
    pub(super) const WIDTH: usize = 64 / size_of::<F>();

    /// Copies the (k, n) matrix whose element (k, j) is `b[k * step + j * column]`.
    ///
    /// # Panics
    /// If the last element lies outside of `b`.
    pub fn new(b: &[F], steps: usize, columns: usize, step: usize, column: usize) -> Self {
        Self::from_rows(b, steps, columns, column, |k| k * step)
    }

    /// Copies the (k, n) matrix whose element (k, j) is `b[row(k) + j * column]`.
    ///
    /// # Panics
    /// If an element lies outside of `b`.
    pub fn from_rows(
        b: &[F],
        steps: usize,
        columns: usize,
        column: usize,
        row: impl Fn(usize) -> usize + Sync,
    ) -> Self {
        let data = match Self::WIDTH {
            16 => packed::<F, 16>(b, steps, columns, column, row),
            8 => packed::<F, 8>(b, steps, columns, column, row),
            width => unreachable!("no kernel is {width} columns wide"),
        };
        Panels { data, steps, columns }
    }

    /// Rows, the k of the product.
    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    /// Columns, without those that fill the last panel.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The panels from column `first` on, which is the first of one, each from row `step` on: a panel's next row is WIDTH
    /// numbers further, the next panel `WIDTH * steps`.
    pub(super) fn from(&self, first: usize, step: usize) -> &[F] {
        &self.data[first * self.steps + step * Self::WIDTH..]
    }
}

fn packed<F: Real, const N: usize>(
    b: &[F],
    steps: usize,
    columns: usize,
    column: usize,
    row: impl Fn(usize) -> usize + Sync,
) -> Aligned<F> {
    let row_of_panel = |panel: usize, k: usize| -> [F; N] {
        let (first, at) = (panel * N, row(k) + panel * N * column);
        match b.get(at..).and_then(|b| b.first_chunk::<N>()) {
            Some(b) if column == 1 && first + N <= columns => *b,
            _ => std::array::from_fn(|j| if first + j < columns { b[at + j * column] } else { F::zero() }),
        }
    };
    let mut data = memory::take(columns.div_ceil(N) * N * steps);
    let (packed, _) = data.as_chunks_mut::<N>();
    shards::in_parts(packed, steps.max(1), 1, |at, rows| {
        for (i, rows) in rows.chunks_mut(N).enumerate() {
            let (panel, k) = (at / steps, at % steps + i * N);
            let whole = rows.len() == N && (panel + 1) * N <= columns;
            // The columns of a transposed matrix lie in order: a square of it is read column by column.
            if whole && column > 1 && (1..N).all(|i| row(k + i) == row(k) + i) {
                for j in 0..N {
                    let column = &b[row(k) + (panel * N + j) * column..][..N];
                    rows.iter_mut().zip(column).for_each(|(packed, &b)| packed[j] = b);
                }
            } else {
                rows.iter_mut().enumerate().for_each(|(i, packed)| *packed = row_of_panel(panel, k + i));
            }
        }
    });
    data
}
