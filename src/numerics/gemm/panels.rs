//! The right matrix of a product, laid out in the order in which the kernel reads it.

use std::ops::Range;

use super::super::buffer_pool::{self, Aligned};
use super::super::{Real, parallel};
use super::{Matrix, Rectangle};

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
        Matrix { data: b, shape: (steps, columns), row: step, column }.check();
        Self::from_rows(b, steps, columns, column, |k| k * step)
    }

    /// Copies the (k, n) matrix whose element (k, j) is `b[row(k) + j * column]`.
    ///
    /// # Panics
    /// If an element lies outside of `b`, or the copy would have more numbers than an address can tell apart.
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

    /// The matrix as kernels read it.
    pub fn as_right(&self) -> Right<'_, F> {
        Right::new(&self.data, (self.steps, self.columns), Self::WIDTH, Self::WIDTH.saturating_mul(self.steps))
    }
}

/// The right matrix of a product, shape (k, n), as kernels read it: the WIDTH numbers of step k in panel p are
/// `data[p * panel + k * step..][..WIDTH]`. All of them lie in `data`: whoever makes one checks that.
#[derive(Clone, Copy, Debug)]
pub struct Right<'a, F> {
    pub(super) data: &'a [F],
    pub(super) shape: (usize, usize),
    pub(crate) step: usize,
    pub(super) panel: usize,
}

impl<'a, F: Real> Right<'a, F> {
    /// # Panics
    /// If a number of it lies outside of `data`.
    fn new(data: &'a [F], shape: (usize, usize), step: usize, panel: usize) -> Self {
        let (steps, width) = (shape.0, Panels::<F>::WIDTH);
        let end = || {
            let of_last_panel = (shape.1.div_ceil(width) - 1).checked_mul(panel)?;
            of_last_panel.checked_add((steps - 1).checked_mul(step)?)?.checked_add(width)
        };
        let inside = steps == 0 || shape.1 == 0 || end().is_some_and(|end| end <= data.len());
        assert!(inside, "product: B is too short for {} x {}", shape.0, shape.1);
        Right { data, shape, step, panel }
    }

    /// A matrix read where it lies, if it consists of whole panels and a tile reads its rows from end to end: what a
    /// narrower tile reads of them falls into so few places of the first cache that it drives itself out.
    ///
    /// # Panics
    /// If an element lies outside of the data.
    pub fn in_place(b: Matrix<'a, F>) -> Option<Self> {
        let width = Panels::<F>::WIDTH;
        let of_a_tile = if F::tiles().is_some() { 4 * width } else { width }; // four panels with AVX-512, else one
        let whole = b.column == 1 && b.shape.0 > 0 && b.shape.1.is_multiple_of(width);
        let near = b.row <= of_a_tile;
        (whole && near).then(|| Right::new(b.data, b.shape, b.row, width))
    }

    /// The numbers from column `first` on, which is the first of a panel, and from row `step` on.
    #[inline(always)]
    pub(crate) fn from(&self, first: usize, step: usize) -> &'a [F] {
        &self.data[first / Panels::<F>::WIDTH * self.panel + step * self.step..]
    }
}

fn packed<F: Real, const N: usize>(
    b: &[F],
    steps: usize,
    columns: usize,
    column: usize,
    row: impl Fn(usize) -> usize + Sync,
) -> Aligned<F> {
    let panels = columns.div_ceil(N);
    let numbers = panels.checked_mul(N).and_then(|of_a_step| of_a_step.checked_mul(steps));
    let mut data = buffer_pool::take(numbers.expect("panels: more numbers than there are addresses"));
    if data.is_empty() {
        return data;
    }
    let last_column = (columns - 1).checked_mul(column);
    assert!(last_column.is_some_and(|at| at < b.len()), "panels: the last column lies outside of B");
    // A task has some steps of all panels, so that it reads B in the order in which it lies in memory.
    let mut later = Rectangle::new(&mut data, N * steps, panels, N * steps);
    let mut parts = Vec::new();
    for steps in parallel::ranges(steps, parallel::at_once(steps, panels * N)) {
        let part;
        (part, later) = later.split_columns(N * steps.len());
        parts.push((steps, part));
    }
    parallel::deal(parts, |(steps, part)| {
        if column == 1 {
            copy_rows::<F, N>(steps, part, |k| &b[row(k)..][..columns]);
        } else {
            copy_columns::<F, N>(steps, part, &row, |j| &b[j * column..], columns);
        }
    });
    data
}

/// Copies some steps of a matrix whose rows have their numbers side by side.
fn copy_rows<'a, F: Real, const N: usize>(steps: Range<usize>, mut part: Rectangle<F>, row: impl Fn(usize) -> &'a [F]) {
    for (i, k) in steps.enumerate() {
        let (whole, rest) = row(k).as_chunks::<N>();
        let last = std::array::from_fn(|j| *rest.get(j).unwrap_or(&F::zero()));
        for (panel, b) in whole.iter().chain((!rest.is_empty()).then_some(&last)).enumerate() {
            part.row(panel)[i * N..][..N].copy_from_slice(b);
        }
    }
}

/// Steps of a transposed matrix that are copied at once: as many as stay in the first cache meanwhile.
const RUN: usize = 128;

/// Its columns that are copied side by side.
const TOGETHER: usize = 4;

/// Copies some steps of a matrix whose columns have their numbers side by side, at least in runs: step k of column j
/// is `column(j)[row(k)]`.
fn copy_columns<'a, F: Real, const N: usize>(
    mut steps: Range<usize>,
    mut part: Rectangle<F>,
    row: impl Fn(usize) -> usize,
    column: impl Fn(usize) -> &'a [F],
    columns: usize,
) {
    let (start, zeros) = (steps.start, [F::zero(); RUN]);
    while !steps.is_empty() {
        let (first, most) = (row(steps.start), steps.len().min(RUN));
        let run = (1..most).find(|&i| row(steps.start + i) != first + i).unwrap_or(most);
        for panel in 0..columns.div_ceil(N) {
            let packed = &mut part.row(panel)[(steps.start - start) * N..][..run * N];
            let of_panel = |j: usize| &column(panel * N + j)[first..][..run];
            let squares = if (panel + 1) * N <= columns { copy_squares(of_panel, packed) } else { 0 };
            let (packed, _) = packed.as_chunks_mut::<N>();
            for j in (0..N).step_by(TOGETHER) {
                let four: [&[F]; TOGETHER] = std::array::from_fn(|i| match panel * N + j + i {
                    c if c < columns => &column(c)[first..][..run],
                    _ => &zeros[..run],
                });
                for (i, packed) in packed.iter_mut().enumerate().skip(squares) {
                    packed[j..j + TOGETHER].copy_from_slice(&four.map(|column| column[i]));
                }
            }
        }
        steps.start += run;
    }
}

/// Copies as many steps of sixteen columns as can be transposed sixteen at a time, and says how many.
fn copy_squares<'a, F: Real>(column: impl Fn(usize) -> &'a [F], packed: &mut [F]) -> usize {
    let Some(transpose) = F::transpose() else { return 0 };
    let (squares, _) = packed.as_chunks_mut::<16>().0.as_chunks_mut::<16>();
    transpose(std::array::from_fn(|j| column(j).as_chunks().0), squares);
    16 * squares.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 37 columns are two whole panels and 5 columns; 300 steps are more than two runs, and of `flipped` runs end every 7.
    #[test]
    fn panels_have_every_number_in_its_place_and_zeros_beside_the_last() {
        let b: Vec<f32> = (1..=300 * 37).map(|i| i as f32).collect();
        let flipped = |k: usize| (299 - k) / 7 * 7 + k % 7;
        let check = |panels: Panels<f32>, element: &dyn Fn(usize, usize) -> f32| {
            let (data, places) = (panels.as_right().data, (0..300).flat_map(|k| (0..48).map(move |j| (k, j))));
            for (k, j) in places {
                let expected = if j < 37 { element(k, j) } else { 0.0 };
                assert_eq!(data[j / 16 * 16 * 300 + k * 16 + j % 16], expected, "step {k}, column {j}");
            }
        };
        check(Panels::new(&b, 300, 37, 37, 1), &|k, j| b[k * 37 + j]);
        check(Panels::new(&b, 300, 37, 1, 300), &|k, j| b[k + j * 300]);
        check(Panels::from_rows(&b, 300, 37, 300, flipped), &|k, j| b[flipped(k) + j * 300]);
    }
}
