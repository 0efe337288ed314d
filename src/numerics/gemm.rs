//! The matrix product, with its order of addition stated (contract N1, rule 2).
//!
//! # The definition
//!
//! C[i, j] = Σ_k A[i, k] · B[k, j]. k is cut into blocks of 256 from k = 0. In a block acc = +0, then
//! acc ← fma(A[i, k], B[k, j], acc) with k ascending. C is the acc of block 0, then C ← C + acc for each later block;
//! where C accumulates, C ← C + acc from block 0 on. Then the bias is added. [`product_by_definition`] is that
//! paragraph as code, and every other product in this crate has its bits.
//!
//! # One kernel for everything: a product with a gathered matrix
//!
//! A convolution is a product whose left matrix, im2col of the image, repeats each pixel once a tap. That matrix is
//! never made here. Its element (i, k), output pixel i under tap and channel k, lies in the padded image at
//!
//! ```text
//! address(i, k) = rows[i] + steps[k]
//! ```
//!
//! because the way to a pixel and the way to a tap of its window add. Swapping the two tables transposes the matrix, so the
//! weight gradient im2col(x)ᵀ · dy is the same loop; and a plain matrix is `rows[i] = i · width, steps[k] = k`. The
//! kernel holds a tile of 6 rows by 16 columns of C in registers, reads 6 gathered values and 16
//! values of B a step, and does 96 fused multiply-adds with them.
//!
//! B is copied once into panels of 16 columns ([`Panels`]), so that it is read in order. The tiles go by in an order that
//! keeps what they read near: a strip of rows, in it passes of some steps, in a pass a panel, in it the tiles. So a
//! panel's part of a pass is read from the caches for all tiles of the strip but the first, and so is the part of A. A
//! tile's C leaves the registers after each pass; blocks within a pass are added up in registers. A forward product takes
//! strips of 192 rows and passes of 1024 steps, a weight gradient, which reads A the other way, 768 and 256: see
//! `strip_and_pass`.

mod panels;

pub use panels::Panels;
use rayon::prelude::*;

use super::path::every_path;
use super::{Fused, Native, Real, shards};

/// Steps of k after which a partial sum goes to memory: part of the contract.
pub const BLOCK: usize = 256;

/// Rows of C that the kernel holds in registers: with 16 columns 12 of AVX2's 16 registers, 24 of NEON's 32, 6 of
/// AVX-512's 32.
pub(super) const TILE_ROWS: usize = 6;

/// Rows of C in a strip and steps of k in a pass. They change the speed and not the bits: a pass ends where a block does.
///
/// Where the steps of a row lie beside each other, a tile reads 24 KiB of A in a long pass, and C seldom leaves the
/// registers. Where the rows lie beside each other and the steps apart, as in a weight gradient, each step is a cache line of
/// its own, of which a tile needs six numbers and the next two tiles the others: a short pass of 256 such lines and as
/// much of a panel stay in the first cache till then.
fn strip_and_pass(steps: &[usize]) -> (usize, usize) {
    match steps {
        [first, second, ..] if *second == first + 1 => (32 * TILE_ROWS, 4 * BLOCK),
        _ => (128 * TILE_ROWS, BLOCK),
    }
}

/// The left matrix of a product: element (i, k) is `data[rows[i] + steps[k]]`.
#[derive(Clone, Copy, Debug)]
pub struct Gather<'a, F> {
    /// The numbers.
    pub data: &'a [F],
    /// Where row i starts.
    pub rows: &'a [usize],
    /// How far from a row's start element k lies.
    pub steps: &'a [usize],
}

/// What C holds before the first block of a product is added.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a, F> {
    /// Nothing: C is overwritten.
    Overwrite,
    /// Nothing, and a bias of n numbers is added to each row after the last block.
    OverwriteWithBias(&'a [F]),
    /// A sum to which the product is added.
    Accumulate,
}

/// C (+)= A · B (+ bias), shapes (m, k) · (k, n), with row i of C at `c[i * stride..][..n]`.
///
/// Rows are computed in parallel where the caller is not itself a shard of parallel work. The bits are those of
/// [`product_by_definition`].
///
/// # Panics
/// If the shapes do not agree or a table leads outside of its data.
pub fn product<F: Real>(a: Gather<F>, b: &Panels<F>, c: &mut [F], stride: usize, start: Start<F>) {
    let (m, n) = (a.rows.len(), b.columns());
    assert_eq!(a.steps.len(), b.steps(), "product: A has {} columns and B has {} rows", a.steps.len(), b.steps());
    assert!(n <= stride && (m == 0 || (m - 1) * stride + n <= c.len()), "product: C is too short for {m} x {n}");
    if m == 0 || n == 0 {
        return;
    }
    let rows_at_once = shards::rows_at_once(m, n * a.steps.len());
    let part = |rows: &[usize], c: &mut [F]| {
        let a = Gather { rows, ..a };
        // The width of a panel as a constant, for the compiler to unroll.
        match Panels::<F>::WIDTH {
            16 => tiles::<F, 16>(a, b, c, stride, start),
            8 => tiles::<F, 8>(a, b, c, stride, start),
            width => unreachable!("no kernel is {width} columns wide"),
        }
    };
    if rows_at_once >= m {
        part(a.rows, c);
    } else {
        let rows = a.rows.par_chunks(rows_at_once);
        rows.zip(c.par_chunks_mut(rows_at_once * stride)).for_each(|(rows, c)| part(rows, c));
    }
}

every_path! {
    /// All tiles of a product, six rows by N columns each: strip by strip, in each pass by pass, in each panel by panel.
    fn tiles<F, const N: usize>(a: Gather<F>, b: &Panels<F>, c: &mut [F], stride: usize, start: Start<F>) {
        let furthest = a.rows.iter().max().unwrap_or(&0) + a.steps.iter().max().unwrap_or(&0);
        assert!(a.steps.is_empty() || furthest < a.data.len(), "product: a table leads outside of A");
        let (strip, pass) = strip_and_pass(a.steps);
        for (rows, c) in a.rows.chunks(strip).zip(c.chunks_mut(strip * stride)) {
            for pass in passes(a.steps.len(), pass) {
                let (steps, last) = (&a.steps[pass.clone()], pass.end == a.steps.len());
                for first in (0..b.columns()).step_by(N) {
                    let panel = &b.panel(first)[pass.start * N..pass.end * N];
                    let width = N.min(b.columns() - first);
                    let mut panel_bias = None;
                    if let (Start::OverwriteWithBias(bias), true) = (start, last) {
                        let mut padded = [F::zero(); N];
                        padded[..width].copy_from_slice(&bias[first..first + width]);
                        panel_bias = Some(padded);
                    }
                    for (rows, c) in rows.chunks(TILE_ROWS).zip(c.chunks_mut(TILE_ROWS * stride)) {
                        // A last tile of fewer rows computes its last row again.
                        let mut table = [rows[rows.len() - 1]; TILE_ROWS];
                        for (start, &row) in table.iter_mut().zip(rows) {
                            *start = row;
                        }
                        let mut total = [[F::zero(); N]; TILE_ROWS];
                        let mut adds = pass.start > 0 || matches!(start, Start::Accumulate);
                        if adds {
                            let rows_of_c = total.iter_mut().zip(c.chunks(stride)).take(rows.len());
                            if width == N {
                                rows_of_c.for_each(|(total, c)| *total = *whole(&c[first..]));
                            } else {
                                rows_of_c.for_each(|(total, c)| total[..width].copy_from_slice(&c[first..first + width]));
                            }
                        }
                        for (steps, b) in steps.chunks(BLOCK).zip(panel.chunks(BLOCK * N)) {
                            // SAFETY: every row plus every step lies in `data` (asserted above), and the panel has N numbers a step.
                            #[allow(unsafe_code)]
                            let acc = unsafe { tile_of_block::<P, F, N>(a.data, &table, steps, b) };
                            for (total, acc) in total.as_flattened_mut().iter_mut().zip(acc.as_flattened()) {
                                *total = if adds { *total + *acc } else { *acc };
                            }
                            adds = true;
                        }
                        if let Some(bias) = &panel_bias {
                            for row in &mut total {
                                for (total, &bias) in row.iter_mut().zip(bias) {
                                    *total += bias;
                                }
                            }
                        }
                        let rows_of_c = total.iter().zip(c.chunks_mut(stride)).take(rows.len());
                        if width == N {
                            rows_of_c.for_each(|(total, c)| *whole_mut(&mut c[first..]) = *total);
                        } else {
                            rows_of_c.for_each(|(total, c)| c[first..first + width].copy_from_slice(&total[..width]));
                        }
                    }
                }
            }
        }
    }
}

/// The first N numbers: a length that the compiler knows is moved by registers, any other by a call.
#[inline(always)]
fn whole<F, const N: usize>(c: &[F]) -> &[F; N] {
    c.first_chunk().expect("a whole tile")
}

/// The same, to be written.
#[inline(always)]
fn whole_mut<F, const N: usize>(c: &mut [F]) -> &mut [F; N] {
    c.first_chunk_mut().expect("a whole tile")
}

/// The steps of each pass, ascending; one pass of none where there are no steps, which writes what C starts with.
fn passes(steps: usize, pass: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..steps.max(1)).step_by(pass).map(move |start| start..(start + pass).min(steps))
}

/// acc[i][j] = Σ_k data[rows[i] + steps[k]] · b[k][j] of one block, k ascending from acc = +0.
///
/// The two inner loops are unrolled into registers of accumulators, with AVX2 six rows of two, 8 floats each: a step is
/// two loads of b, six broadcasts of A and twelve fused multiply-adds. Bounds are checked by the caller, once for all
/// tiles: checks here would be nine for twelve multiply-adds.
///
/// # Safety
/// `rows[i] + steps[k] < data.len()` for all i and k, and `b.len() >= steps.len() * N`.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn tile_of_block<P: Fused, F: Real, const N: usize>(
    data: &[F],
    rows: &[usize; TILE_ROWS],
    steps: &[usize],
    b: &[F],
) -> [[F; N]; TILE_ROWS] {
    let mut acc = [[F::zero(); N]; TILE_ROWS];
    // SAFETY: the caller's promise, element by element.
    unsafe {
        let row = rows.map(|start| data.as_ptr().add(start));
        for (k, &step) in steps.iter().enumerate() {
            let b = *b.as_ptr().add(k * N).cast::<[F; N]>();
            for i in 0..TILE_ROWS {
                let a = *row[i].add(step);
                for j in 0..N {
                    acc[i][j] = a.fma::<P>(b[j], acc[i][j]);
                }
            }
        }
    }
    acc
}

/// A matrix in somebody's memory: element (i, j) is `data[i * row + j * column]`.
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
}

impl<F: Real> Matrix<'_, F> {
    /// A copy as the right matrix of a product.
    pub fn panels(self) -> Panels<F> {
        Panels::new(self.data, self.shape.0, self.shape.1, self.row, self.column)
    }
}

/// C (+)= A · B (+ bias) for two plain matrices.
///
/// # Panics
/// If the shapes do not agree.
pub fn matrix_product<F: Real>(a: Matrix<F>, b: Matrix<F>, c: &mut [F], stride: usize, start: Start<F>) {
    assert_eq!(a.shape.1, b.shape.0, "matrix_product: {:?} times {:?}", a.shape, b.shape);
    panel_product(a, &b.panels(), c, stride, start);
}

/// C (+)= A · B (+ bias) for a plain matrix and one in panels: [`product`] with the tables `i · row` and `k · column`.
///
/// # Panics
/// If the shapes do not agree.
pub fn panel_product<F: Real>(a: Matrix<F>, b: &Panels<F>, c: &mut [F], stride: usize, start: Start<F>) {
    let rows: Vec<usize> = (0..a.shape.0).map(|i| i * a.row).collect();
    let steps: Vec<usize> = (0..a.shape.1).map(|k| k * a.column).collect();
    product(Gather { data: a.data, rows: &rows, steps: &steps }, b, c, stride, start);
}

/// The definition of every product in this crate, one element at a time: see the [module](self).
///
/// A has the rows and steps of `a`; B is (k, n) and C is (m, n), both without gaps.
pub fn product_by_definition<F: Real>(a: Gather<F>, b: &[F], c: &mut [F], start: Start<F>) {
    let n = c.len() / a.rows.len().max(1);
    for (i, &row) in a.rows.iter().enumerate() {
        for j in 0..n {
            let c = &mut c[i * n + j];
            if !matches!(start, Start::Accumulate) {
                *c = F::zero();
            }
            for (block, steps) in a.steps.chunks(BLOCK).enumerate() {
                let mut acc = F::zero();
                for (k, &step) in steps.iter().enumerate() {
                    acc = a.data[row + step].fma::<Native>(b[(block * BLOCK + k) * n + j], acc);
                }
                let first = block == 0 && !matches!(start, Start::Accumulate);
                *c = if first { acc } else { *c + acc };
            }
            if let Start::OverwriteWithBias(bias) = start {
                *c += bias[j];
            }
        }
    }
}

#[cfg(test)]
mod tests;
