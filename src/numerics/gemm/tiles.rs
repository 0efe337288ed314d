//! The tiles of a product: in which order they come, and the kernel of every processor.
//!
//! A tile is a rectangle of C small enough for its sums to stay in registers while a block of 256 steps of k goes by. Then
//! they are added to C. The order of tiles keeps what they read near: a strip of rows, in it the blocks of k, in a
//! block the panels side by side that a tile is wide, in those the tiles from top to bottom. So a block of panels is read
//! from the first cache by all tiles of the strip but the first, and the strip's part of A from the second.

use std::ops::Range;

use super::ahead::Ahead;
use super::{BLOCK, Epilogue, Gather, Panels, Rectangle, Right};
use crate::numerics::instruction_set::every_instruction_set;
use crate::numerics::{Fused, Real};

/// The most rows of C in a strip: few enough for what they read of A to stay in the second cache, and as many as that
/// allows, since each strip reads all of B. It changes the speed and not the bits.
const STRIP: usize = 384;

/// Rows that are whole tiles of 6 and of 8.
const WHOLE_TILES: usize = 24;

/// What computes a tile.
pub(super) trait Kernel<F: Real> {
    /// Panels of the next tile where this many are left, and the most rows that it may have.
    fn tile(panels_left: usize) -> (usize, usize);

    /// C (+)= A · B of one tile, for one block of steps; then the bias, if there is one.
    ///
    /// # Safety
    /// `rows[i] + steps[k] < data.len()` for all i and k.
    #[allow(unsafe_code)]
    unsafe fn block(tile: Tile<F>, c: &mut Rectangle<F>);
}

/// One tile and one block of k.
pub(super) struct Tile<'a, F> {
    /// A: element (i, k) is `data[rows[i] + steps[k]]`.
    pub(super) a: Gather<'a, F>,
    /// B: panel p has its WIDTH numbers of step k from `b[p * panel + k * step]` on.
    pub(super) b: &'a [F],
    /// From a step to the next.
    pub(super) step: usize,
    /// From a panel to the next; a kernel of one panel has no use for it.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(super) panel: usize,
    /// The tile's first row in the rectangle of C that is given.
    pub(super) top: usize,
    /// Its columns there.
    pub(super) columns: Range<usize>,
    /// Numbers of A that tiles to come read: a kernel may fetch them now.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(super) soon: &'a [F],
    /// What C holds.
    pub(super) holds: Held,
    /// What is added to each row at the end, a number a column.
    pub(super) bias: Option<&'a [F]>,
}

/// What C holds before a tile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing.
    Nothing,
    /// A sum to which that of this block is added.
    Sum,
    /// The sum of this block so far.
    Begun,
}

/// These columns of C, tile by tile; `c` has them and the rows of A.
///
/// # Panics
/// If a table leads outside of its data, or B or C has fewer columns.
#[inline(always)]
pub(super) fn each_tile<F: Real, K: Kernel<F>>(
    a: Gather<F>,
    b: Right<F>,
    columns: Range<usize>,
    mut c: Rectangle<F>,
    start: Epilogue<F>,
) {
    a.check();
    let width = Panels::<F>::WIDTH;
    let strips = a.rows.len().div_ceil(STRIP).max(1);
    let of_strip = a.rows.len().div_ceil(strips).max(1).next_multiple_of(WHOLE_TILES); // as even as whole tiles may be
    let mut ahead = Ahead::new(a, of_strip);
    for (strip, rows) in a.rows.chunks(of_strip).enumerate() {
        // One block of no steps where there are none: it writes what C starts with.
        for block in (0..a.steps.len().max(1)).step_by(BLOCK) {
            let steps = &a.steps[block..a.steps.len().min(block + BLOCK)];
            ahead.during(strip, block / BLOCK);
            let holds = match start {
                Epilogue::Continue => Held::Begun,
                Epilogue::Overwrite | Epilogue::OverwriteWithBias(_) if block == 0 => Held::Nothing,
                _ => Held::Sum,
            };
            let mut first = columns.start;
            while first < columns.end {
                let (panels, most_rows) = K::tile((columns.end - first).div_ceil(width));
                let of_b = first..columns.end.min(first + panels * width);
                let bias = match start {
                    Epilogue::OverwriteWithBias(bias) if block + steps.len() == a.steps.len() => {
                        Some(&bias[of_b.clone()])
                    }
                    _ => None,
                };
                let columns = of_b.start - columns.start..of_b.end - columns.start;
                let height = rows.len().div_ceil(rows.len().div_ceil(most_rows)); // as even as may be
                for (tile, rows) in rows.chunks(height).enumerate() {
                    let (a, b_data) = (Gather { rows, steps, ..a }, b.from(first, block));
                    let (step, panel, soon) = (b.step, b.panel, ahead.next(steps.len()));
                    let (top, columns) = (strip * of_strip + tile * height, columns.clone());
                    let tile = Tile { a, b: b_data, step, panel, top, columns, soon, holds, bias };
                    // SAFETY: every row plus every step lies in `data`: `check` has seen the greatest of each.
                    #[allow(unsafe_code)]
                    unsafe {
                        K::block(tile, &mut c);
                    }
                }
                first = of_b.end;
            }
        }
    }
}

every_instruction_set! {
    /// [`each_tile`] with the kernel of every processor, for panels of N columns.
    pub(super) fn of_any_processor<F, const N: usize>(a: Gather<F>, b: Right<F>, columns: Range<usize>, c: Rectangle<F>, start: Epilogue<F>) {
        each_tile::<F, Plain<P, N>>(a, b, columns, c, start);
    }
}

/// The kernel of every processor: 6 rows by one panel of N columns, in arrays that the compiler keeps in registers.
///
/// With AVX2 these are 12 of 16 registers, with NEON 24 of 32: a step is two loads of B, six broadcasts of A and twelve
/// fused multiply-adds.
struct Plain<P, const N: usize>(P);

/// Rows of a tile.
const ROWS: usize = 6;

impl<P: Fused, F: Real, const N: usize> Kernel<F> for Plain<P, N> {
    #[inline(always)]
    fn tile(_: usize) -> (usize, usize) {
        (1, ROWS)
    }

    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn block(Tile { a, b, step, top, columns, holds, bias, .. }: Tile<F>, c: &mut Rectangle<F>) {
        // A tile of fewer rows computes its last row again.
        let rows = std::array::from_fn(|i| a.rows[i.min(a.rows.len() - 1)]);
        let last = a.steps.len().saturating_sub(1);
        assert!(a.steps.is_empty() || b.len() >= last * step + N, "a panel has N numbers a step");
        let mut begun = [[F::zero(); N]; ROWS];
        if holds == Held::Begun {
            for (i, begun) in begun.iter_mut().enumerate().take(a.rows.len()) {
                begun[..columns.len()].copy_from_slice(&c.row(top + i)[columns.clone()]);
            }
        }
        // SAFETY: the caller's promise, and the assertion.
        let acc: [[F; N]; ROWS] = unsafe { sums::<P, F, N>(begun, a.data, &rows, a.steps, b, step) };
        let adds = holds == Held::Sum;
        for (i, acc) in acc.iter().take(a.rows.len()).enumerate() {
            let c = &mut c.row(top + i)[columns.clone()];
            match c.first_chunk_mut::<N>() {
                // A length that the compiler knows is moved by registers, any other by a loop.
                Some(c) => *c = std::array::from_fn(|j| if adds { c[j] + acc[j] } else { acc[j] }),
                None => c.iter_mut().zip(acc).for_each(|(c, &acc)| *c = if adds { *c + acc } else { acc }),
            }
        }
        if let Some(bias) = bias {
            for i in 0..a.rows.len() {
                c.row(top + i)[columns.clone()].iter_mut().zip(bias).for_each(|(c, &bias)| *c += bias);
            }
        }
    }
}

/// acc[i][j] + Σ_k data[rows[i] + steps[k]] · b[k · b_step + j] of one block, k ascending.
///
/// Bounds are checked by the callers, once for all tiles: checks here would be nine for twelve multiply-adds.
///
/// # Safety
/// `rows[i] + steps[k] < data.len()` and `k * b_step + N <= b.len()` for all i and k.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn sums<P: Fused, F: Real, const N: usize>(
    mut acc: [[F; N]; ROWS],
    data: &[F],
    rows: &[usize; ROWS],
    steps: &[usize],
    b: &[F],
    b_step: usize,
) -> [[F; N]; ROWS] {
    let row = rows.map(|start| data.as_ptr().wrapping_add(start)); // without a step nothing is known of it
    // SAFETY: the caller's promise, element by element.
    unsafe {
        for (k, &step) in steps.iter().enumerate() {
            let b = *b.as_ptr().add(k * b_step).cast::<[F; N]>();
            for i in 0..ROWS {
                let a = *row[i].add(step);
                for j in 0..N {
                    acc[i][j] = a.fma::<P>(b[j], acc[i][j]);
                }
            }
        }
    }
    acc
}
