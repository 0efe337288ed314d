//! Plain matrices, and their products.

use super::{Epilogue, Gather, Panels, Real, Rectangle, Right, product_in};

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

    /// So many rows of it, from row `first` on.
    ///
    /// # Panics
    /// If `first` lies outside of the data.
    pub fn rows(self, first: usize, rows: usize) -> Self {
        Matrix { data: &self.data[first * self.row..], shape: (rows, self.shape.1), ..self }
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

/// A plain matrix as the right one of products.
#[derive(Debug)]
pub enum Readable<'a, F: Real> {
    /// Read where it lies.
    InPlace(Right<'a, F>),
    /// Copied, as it is too wide to be.
    Copied(Panels<F>),
}

impl<'a, F: Real> Readable<'a, F> {
    /// # Panics
    /// If an element lies outside of the data.
    pub fn new(b: Matrix<'a, F>) -> Self {
        Right::in_place(b).map_or_else(|| Readable::Copied(b.panels()), Readable::InPlace)
    }

    /// The matrix as kernels read it.
    pub fn as_right(&self) -> Right<'_, F> {
        match self {
            Readable::InPlace(right) => *right,
            Readable::Copied(panels) => panels.as_right(),
        }
    }
}

/// C (+)= A · B (+ bias) for two plain matrices, with row i of C at `c[i * stride..][..n]`.
///
/// # Panics
/// As [`product`](super::product), and if a matrix has an element outside of its data.
pub fn matrix_product<F: Real>(a: Matrix<F>, b: Matrix<F>, c: &mut [F], stride: usize, start: Epilogue<F>) {
    assert_eq!(a.shape.1, b.shape.0, "matrix_product: {:?} times {:?}", a.shape, b.shape);
    panel_product(a, Readable::new(b).as_right(), c, stride, start);
}

/// C (+)= A · B (+ bias) for a plain matrix and one in panels: [`product`](super::product) with the tables `i · row` and `k ·
/// column`.
///
/// # Panics
/// As [`product`](super::product), and if A has an element outside of its data.
pub fn panel_product<F: Real>(a: Matrix<F>, b: Right<F>, c: &mut [F], stride: usize, start: Epilogue<F>) {
    panel_product_in(a, b, Rectangle::new(c, stride, a.shape.0, b.shape.1), start);
}

/// [`panel_product`] for a C that may be some columns of a matrix.
///
/// # Panics
/// As [`panel_product`], and if C has not the rows of A and the columns of B.
pub(crate) fn panel_product_in<F: Real>(a: Matrix<F>, b: Right<F>, c: Rectangle<F>, start: Epilogue<F>) {
    a.check();
    let rows: Vec<usize> = (0..a.shape.0).map(|i| i * a.row).collect();
    let steps: Vec<usize> = (0..a.shape.1).map(|k| k * a.column).collect();
    product_in(Gather { data: a.data, rows: &rows, steps: &steps }, b, c, start);
}
