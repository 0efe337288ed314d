//! The kernel of processors with AVX-512, in f32: the sums of [`tiles`](super::tiles), with wider tiles.
//!
//! A step of a tile of R rows and V panels is V loads of B, R broadcasts of A and R·V fused multiply-adds. The processor
//! begins up to two multiply-adds a cycle and has their sums four cycles later, so at least 8 sums have to be under
//! way; and it loads twice a cycle, so there may be no more loads than multiply-adds. 6 rows by 4 panels (10 loads, 24 sums of
//! the 32 registers) and 8 rows by 2 or 3 satisfy both with room for the load of a step's place. More rows than 8 would
//! need more places of rows than there are registers for them.
//!
//! Meanwhile it fetches what comes next: what tiles to come read of A ([`ahead`](super::ahead)), and, if its sums are added to
//! something, that part of C, which for the gradient of a large weight has not been near since the last step.
//!
//! The multiply-adds of an element of C are those of the definition in its order, each one lane of one instruction.

use std::arch::x86_64::*;
use std::ops::Range;

use super::ahead::A_STEP;
use super::kernels::Tiles;
use super::tiles::{Held, Kernel, Tile, each_tile};
use super::{Epilogue, Gather, Panels, Rectangle, Right};
use crate::numerics::instruction_set::{InstructionSet, current};

/// Columns of a panel, and lanes of a register.
const LANES: usize = Panels::<f32>::WIDTH;

/// These tiles, where the processor has them.
pub(super) fn tiles_of_f32() -> Option<Tiles<f32>> {
    (current() == InstructionSet::Avx512).then_some(tiles)
}

fn tiles(a: Gather<f32>, b: Right<f32>, columns: Range<usize>, c: Rectangle<f32>, start: Epilogue<f32>) {
    each_tile::<f32, Avx512>(a, b, columns, c, start);
}

struct Avx512;

impl Kernel<f32> for Avx512 {
    fn tile(panels_left: usize) -> (usize, usize) {
        match panels_left {
            1..=3 => (panels_left, 8),
            _ => (4, 6),
        }
    }

    #[allow(unsafe_code)]
    unsafe fn block(tile: Tile<f32>, c: &mut Rectangle<f32>) {
        let panels = tile.columns.len().div_ceil(LANES);
        // SAFETY: `tiles_of_f32` gives this kernel to processors with AVX-512 alone; the rest is the caller's promise.
        unsafe {
            match panels {
                1 => rows::<1>(tile, c),
                2 => rows::<2>(tile, c),
                3 => rows::<3>(tile, c),
                _ => rows::<4>(tile, c),
            }
        }
    }
}

/// The tile with its number of rows as a constant.
///
/// # Safety
/// That of [`Kernel::block`], and the processor has AVX-512.
#[allow(unsafe_code)]
unsafe fn rows<const V: usize>(tile: Tile<f32>, c: &mut Rectangle<f32>) {
    // SAFETY: the caller's promise.
    unsafe {
        match tile.a.rows.len() {
            1 => block::<1, V>(tile, c),
            2 => block::<2, V>(tile, c),
            3 => block::<3, V>(tile, c),
            4 => block::<4, V>(tile, c),
            5 => block::<5, V>(tile, c),
            6 => block::<6, V>(tile, c),
            7 => block::<7, V>(tile, c),
            _ => block::<8, V>(tile, c),
        }
    }
}

/// Steps between fetches: a core waits for some 16 lines at once, those that the tile itself needs among them, so what is
/// fetched ahead is asked for a few lines at a time.
const SPAN: usize = 32;

/// A tile of R rows and V panels.
///
/// # Safety
/// That of [`Kernel::block`], and the processor has AVX-512.
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f")]
unsafe fn block<const R: usize, const V: usize>(tile: Tile<f32>, c: &mut Rectangle<f32>) {
    let Tile { a, b, step, panel, top, columns, soon, holds, bias } = tile;
    assert!(a.rows.len() == R);
    let last = a.steps.len().saturating_sub(1);
    assert!(a.steps.is_empty() || b.len() >= (V - 1) * panel + last * step + LANES);
    let lanes = |j: usize| columns.len().saturating_sub(j * LANES).min(LANES);
    let masks: [__mmask16; V] = std::array::from_fn(|j| (1u32 << lanes(j)).wrapping_sub(1) as __mmask16);
    let mut acc = [[_mm512_setzero_ps(); V]; R];
    // Without a step nothing is known of the rows' places, and nothing is read.
    let row: [*const f32; R] = std::array::from_fn(|i| a.data.as_ptr().wrapping_add(a.rows[i]));
    // SAFETY: places in A are the caller's promise; those in B were asserted; the lanes of the masks are those of C's rows; to
    // fetch is not to read.
    unsafe {
        if holds == Held::Begun {
            for (i, acc) in acc.iter_mut().enumerate() {
                let c = c.row(top + i)[columns.clone()].as_ptr();
                for j in 0..V {
                    acc[j] = _mm512_maskz_loadu_ps(masks[j], c.wrapping_add(j * LANES));
                }
            }
        }
        if holds == Held::Sum {
            for i in 0..R {
                let line = c.row(top + i).as_ptr().wrapping_add(columns.start);
                for j in 0..V {
                    _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(j * LANES).cast());
                }
            }
        }
        let mut b = b.as_ptr();
        let mut soon = soon.chunks(SPAN * A_STEP);
        for steps in a.steps.chunks(SPAN) {
            for line in soon.next().unwrap_or_default().chunks(LANES) {
                _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()); // into the second cache: the first is full of B
            }
            for &of_a_step in steps {
                let of_b: [__m512; V] = std::array::from_fn(|j| _mm512_loadu_ps(b.add(j * panel)));
                b = b.wrapping_add(step); // past the end after the last
                for i in 0..R {
                    let of_a = _mm512_set1_ps(*row[i].add(of_a_step));
                    for j in 0..V {
                        acc[i][j] = _mm512_fmadd_ps(of_a, of_b[j], acc[i][j]);
                    }
                }
            }
        }
    }
    assert!(bias.is_none_or(|bias| bias.len() == columns.len()));
    for (i, acc) in acc.iter().enumerate() {
        let c = c.row(top + i)[columns.clone()].as_mut_ptr();
        for (j, &acc) in acc.iter().enumerate() {
            let (c, mask) = (c.wrapping_add(j * LANES), masks[j]);
            // SAFETY: the lanes of the masks are those of the row, and of the bias.
            unsafe {
                let mut sum = if holds == Held::Sum { _mm512_add_ps(_mm512_maskz_loadu_ps(mask, c), acc) } else { acc };
                if let Some(bias) = bias {
                    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, bias.as_ptr().wrapping_add(j * LANES)));
                }
                _mm512_mask_storeu_ps(c, mask, sum);
            }
        }
    }
}
