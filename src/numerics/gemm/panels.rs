//! The right matrix of a product, laid out in the order in which the kernel reads it.

use rayon::prelude::*;

use super::super::{Real, shards};

/// The right matrix of a product, shape (k, n), copied into panels of a register tile's width: column j lies in panel
/// j / WIDTH, row after row of it. The last panel is filled up with zeros.
#[derive(Clone, Debug)]
pub struct Panels<F> {
    data: Vec<F>,
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

    /// The panel that starts with column `first`.
    pub(super) fn panel(&self, first: usize) -> &[F] {
        &self.data[first * self.steps..][..Self::WIDTH * self.steps]
    }
}

fn packed<F: Real, const N: usize>(
    b: &[F],
    steps: usize,
    columns: usize,
    column: usize,
    row: impl Fn(usize) -> usize + Sync,
) -> Vec<F> {
    let row_of_panel = |panel: usize, k: usize| -> [F; N] {
        let (first, at) = (panel * N, row(k) + panel * N * column);
        match b.get(at..).and_then(|b| b.first_chunk::<N>()) {
            Some(b) if column == 1 && first + N <= columns => *b,
            _ => std::array::from_fn(|j| if first + j < columns { b[at + j * column] } else { F::zero() }),
        }
    };
    let panels = columns.div_ceil(N);
    let mut data: Vec<[F; N]> = Vec::with_capacity(panels * steps);
    if shards::is_alone() {
        let rows = (0..panels * steps).into_par_iter().with_min_len(1024);
        rows.map(|i| row_of_panel(i / steps, i % steps)).collect_into_vec(&mut data);
    } else {
        (0..panels).for_each(|panel| data.extend((0..steps).map(|k| row_of_panel(panel, k))));
    }
    data.into_flattened()
}
