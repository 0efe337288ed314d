//! Plain matrices, and their products.

use super::{Epilogue, Gather, Panels, Real, Right, product};

/// A matrix in borrowed memory: element (i, j) is `data[i * row + j * column]`.
///
/// The fields are free. A product that reads the matrix panics if an element lies outside of the data.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, F> {
    /// The numbers, from the first element on.
    pub data: &'a [F],
    /// Rows and columns.
    pub shape: (usize, usize),
    /// From a row to the next.
    pub row: usize,
    /// From a column to the next.
    pub column: usize,
}

impl<'a, F> Matrix<'a, F> {
    /// A matrix without gaps, row after row.
    pub fn new(data: &'a [F], rows: usize, columns: usize) -> Self {
        Matrix { data, shape: (rows, columns), row: columns, column: 1 }
    }

    /// The transposed matrix, in the same memory.
    pub fn t(self) -> Self {
        Matrix { data: self.data, shape: (self.shape.1, self.shape.0), row: self.column, column: self.row }
    }

    /// # Panics
    /// If an element lies outside of the data.
    pub(super) fn check(&self) {
        let (Some(last_row), Some(last_column)) = (self.shape.0.checked_sub(1), self.shape.1.checked_sub(1)) else {
            return;
        };
        let last = || last_row.checked_mul(self.row)?.checked_add(last_column.checked_mul(self.column)?);
        let inside = last().is_some_and(|last| last < self.data.len());
        let Matrix { data, shape, row, column } = self;
        assert!(inside, "matrix: {shape:?} by steps of {row} and {column} leads outside of {} numbers", data.len());
    }
}

impl<F: Real> Matrix<'_, F> {
    /// A copy as the right matrix of a product.
    ///
    /// # Panics
    /// If an element lies outside of the data.
    pub fn panels(self) -> Panels<F> {
        Panels::new(self.data, self.shape.0, self.shape.1, self.row, self.column)
    }
}

/// C (+)= A · B (+ bias) for two plain matrices, with row i of C at `c[i * stride..][..n]`.
///
/// # Panics
/// As [`product`], and if a matrix has an element outside of its data.
pub fn matrix_product<F: Real>(a: Matrix<F>, b: Matrix<F>, c: &mut [F], stride: usize, start: Epilogue<F>) {
    assert_eq!(a.shape.1, b.shape.0, "matrix_product: {:?} times {:?}", a.shape, b.shape);
    match Right::in_place(b) {
        Some(b) => panel_product(a, b, c, stride, start),
        None => panel_product(a, b.panels().as_right(), c, stride, start),
    }
}

/// C (+)= A · B (+ bias) for a plain matrix and one in panels: [`product`] with the tables `i · row` and `k · column`.
///
/// # Panics
/// As [`product`], and if A has an element outside of its data.
pub fn panel_product<F: Real>(a: Matrix<F>, b: Right<F>, c: &mut [F], stride: usize, start: Epilogue<F>) {
    a.check();
    let rows: Vec<usize> = (0..a.shape.0).map(|i| i * a.row).collect();
    let steps: Vec<usize> = (0..a.shape.1).map(|k| k * a.column).collect();
    product(Gather { data: a.data, rows: &rows, steps: &steps }, b, c, stride, start);
}
