//! The matrix product, with its order of addition stated (contract N1, rule 2).
//!
//! # The definition
//!
//! C[i, j] = Σ_k A[i, k] · B[k, j]. k is cut into blocks of 256 from k = 0. In a block acc = +0, then
//! acc ← fma(A[i, k], B[k, j], acc) with k ascending. C is the acc of block 0, then C ← C + acc for each later block;
//! where C accumulates, C ← C + acc from block 0 on. Then the bias is added. Where C continues, its numbers are the acc with which the
//! steps of one block go on. [`product_by_definition`] is that
//! paragraph as code, and every other product in this crate has its bits.
//!
//! # One loop for everything: a product with a gathered matrix
//!
//! A convolution is a product whose left matrix, im2col of the image, repeats each pixel once a tap. That matrix is
//! never made here. Its element (i, k), output pixel i under tap and channel k, lies in the padded image at
//!
//! ```text
//! address(i, k) = rows[i] + steps[k]
//! ```
//!
//! because the way to a pixel and the way to a tap of its window add. Swapping the two tables transposes the matrix, so the
//! weight gradient im2col(x)ᵀ · dy is the same loop; and a plain matrix is `rows[i] = i · width, steps[k] = k`.
//!
//! B is copied once into panels of 16 columns ([`Panels`]; a transposed one by squares, `square`), so that it is read in order,
//! or read where it lies if it is narrow enough ([`Right`]); what tiles to come read of A is fetched meanwhile (`ahead`). A
//! kernel holds a tile of C in registers, some rows by some panels, while a block of k goes by: `tiles` says in which order the
//! tiles come and has the kernel of every processor, `avx512` the kernel of processors with AVX-512, `of_each` which precision
//! has which.

mod ahead;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernels;
mod matrix;
mod of_each;
mod panels;
mod rectangle;
#[cfg(target_arch = "x86_64")]
mod square;
mod tiles;

pub(crate) use kernels::{Kernels, Tiles};
#[cfg(target_arch = "x86_64")]
pub(crate) use kernels::{Softmax, SoftmaxGradient};
pub(crate) use matrix::panel_product_in;
pub use matrix::{Matrix, Readable, matrix_product, panel_product};
pub use panels::{Panels, Right};
pub(crate) use rectangle::Rectangle;

use super::instruction_set::every_instruction_set;
use super::{Native, Real, parallel};

/// Steps of k after which a partial sum goes to memory: part of the contract.
pub const BLOCK: usize = 256;

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

impl<F> Gather<'_, F> {
    /// Refuses tables of which some row and some step together lead outside of the data.
    ///
    /// # Panics
    /// If they do.
    fn check(&self) {
        if !self.rows.is_empty() && !self.steps.is_empty() {
            let furthest = greatest::<f32>(self.rows).checked_add(greatest::<f32>(self.steps));
            assert!(furthest.is_some_and(|place| place < self.data.len()), "product: a table leads outside of A");
        }
    }
}

every_instruction_set! {
    /// The greatest entry of a table; 0 if it is empty.
    fn greatest<F>(table: &[usize]) -> usize {
        let mut greatest = 0;
        for &entry in table {
            greatest = greatest.max(entry);
        }
        greatest
    }
}

/// What C holds before the first block of a product is added.
#[derive(Clone, Copy, Debug)]
pub enum Epilogue<'a, F> {
    /// Nothing: C is overwritten.
    Overwrite,
    /// Nothing, and a bias of n numbers is added to each row after the last block.
    OverwriteWithBias(&'a [F]),
    /// A sum to which the product is added.
    Accumulate,
    /// What the same product had after the steps before these, of the same block: the sum goes on from there.
    Continue,
}

/// C (+)= A · B (+ bias), shapes (m, k) · (k, n), with row i of C at `c[i * stride..][..n]`.
///
/// Parts of C are computed in parallel where the caller is not itself a microbatch of parallel work. The bits are those of
/// [`product_by_definition`].
///
/// # Panics
/// If A has not as many columns as B has rows, a table leads outside of its data, the bias has not n numbers, the stride
/// is below n, or `c` is too short.
pub fn product<F: Real>(a: Gather<F>, b: Right<F>, c: &mut [F], stride: usize, start: Epilogue<F>) {
    let whole = Rectangle::new(c, stride, a.rows.len(), b.shape.1);
    product_in(a, b, whole, start);
}

/// [`product`] for a C that may be some columns of a matrix.
///
/// # Panics
/// As [`product`], and if C has not the rows of A and the columns of B.
pub(crate) fn product_in<F: Real>(a: Gather<F>, b: Right<F>, mut below: Rectangle<F>, start: Epilogue<F>) {
    let (m, k, n) = (a.rows.len(), a.steps.len(), b.shape.1);
    assert_eq!(k, b.shape.0, "product: A has {k} columns and B has {} rows", b.shape.0);
    assert_eq!(below.shape(), (m, n), "product: C has the rows of A and the columns of B");
    assert!(!matches!(start, Epilogue::Continue) || k <= BLOCK, "product: a block of which {k} steps are left");
    if let Epilogue::OverwriteWithBias(bias) = start {
        assert_eq!(bias.len(), n, "product: a bias of {} numbers for {n} columns", bias.len());
    }
    if m == 0 || n == 0 {
        return;
    }
    let tiles = F::tiles().unwrap_or(match Panels::<F>::WIDTH {
        16 => tiles::of_any_processor::<F, 16>,
        8 => tiles::of_any_processor::<F, 8>,
        width => unreachable!("no kernel is {width} columns wide"),
    });
    let threads = if parallel::may_cut() { rayon::current_num_threads() } else { 1 };
    let (rows_at_once, columns_at_once) = share([m, k, n], a.data.len(), threads);
    let mut parts = Vec::new();
    for rows in a.rows.chunks(rows_at_once) {
        let mut right;
        (right, below) = below.split_rows(rows.len());
        for first in (0..n).step_by(columns_at_once) {
            let (columns, part) = (first..n.min(first + columns_at_once), right);
            let (part, rest) = part.split_columns(columns.len());
            right = rest;
            parts.push((Gather { rows, ..a }, columns, part));
        }
    }
    parallel::deal(parts, |(a, columns, c)| tiles(a, b, columns, c, start));
}

/// Rows and columns of C that one task computes, of an (m, k) matrix that lies in `data` numbers by one of (k, n).
///
/// A thread reads its own part of the larger matrix, and all of the smaller: of a small picture's products with large
/// weights each keeps some columns of the weights in its own cache, from one prediction to the next. All parts are equal, or
/// nearly: an odd one keeps a thread waiting.
fn share([m, k, n]: [usize; 3], data: usize, threads: usize) -> (usize, usize) {
    const WORTH_A_TASK: usize = 200_000; // multiply-adds; some microseconds, several times what handing over a task costs
    const WORTH_MORE: usize = 2_000_000; // with several such tasks a thread, one that is late has fewer of them
    const MOST: usize = 2;
    const COLUMNS: usize = 64; // of a task at least: the widest tiles
    if threads == 1 {
        return (m, n); // each part would read all of B again, or of A
    }
    let work = m.saturating_mul(k).saturating_mul(n);
    let of_a_thread = (work / WORTH_MORE / threads).clamp(1, MOST);
    let tasks = (of_a_thread * threads).min(work / WORTH_A_TASK).max(1);
    let cuts_evenly = |by: &usize| tasks.is_multiple_of(*by) && n.is_multiple_of(by * COLUMNS);
    let by_columns = if data < k.saturating_mul(n) { (2..=tasks).rev().find(cuts_evenly).unwrap_or(1) } else { 1 };
    (m.div_ceil(tasks / by_columns), n / by_columns)
}

/// The definition of every product in this crate, one element at a time: see the [module](self).
///
/// A has the rows and steps of `a`; B is (k, n) and C is (m, n), both without gaps.
///
/// # Panics
/// If a table leads outside of its data, or B, C or the bias has not as many numbers as its shape says.
pub fn product_by_definition<F: Real>(a: Gather<F>, b: &[F], c: &mut [F], start: Epilogue<F>) {
    a.check();
    let n = c.len() / a.rows.len().max(1);
    assert_eq!(c.len(), a.rows.len() * n, "product: C has whole rows");
    assert!(c.is_empty() || b.len() == a.steps.len() * n, "product: B is {} x {n}", a.steps.len());
    if let Epilogue::OverwriteWithBias(bias) = start {
        assert_eq!(bias.len(), n, "product: a bias of {} numbers for {n} columns", bias.len());
    }
    for (i, &row) in a.rows.iter().enumerate() {
        for j in 0..n {
            let c = &mut c[i * n + j];
            let begun = if matches!(start, Epilogue::Continue) { *c } else { F::zero() };
            if !matches!(start, Epilogue::Accumulate) {
                *c = F::zero();
            }
            for (block, steps) in a.steps.chunks(BLOCK).enumerate() {
                let mut acc = begun;
                for (k, &step) in steps.iter().enumerate() {
                    acc = a.data[row + step].fma::<Native>(b[(block * BLOCK + k) * n + j], acc);
                }
                let first = block == 0 && !matches!(start, Epilogue::Accumulate);
                *c = if first { acc } else { *c + acc };
            }
            if let Epilogue::OverwriteWithBias(bias) = start {
                *c += bias[j];
            }
        }
    }
}

#[cfg(test)]
mod tests;
