//! A square of sixteen by sixteen f32, transposed in the registers of AVX-512.
//!
//! A register holds 16 numbers in four quarters of four. Each of four steps goes through pairs of registers and makes the
//! contents of a pair alternate: first single numbers within the quarters, then pairs of numbers, which turns the rows of each
//! four by four numbers into their columns; then quarters of registers, twice, which moves these to their places. That is 64
//! instructions for 256 numbers.

use std::arch::x86_64::*;

use super::kernels::Transpose;
use crate::numerics::instruction_set::{InstructionSet, current};

/// [`transpose`], where the processor has what it needs.
pub(super) fn transpose_of_f32() -> Option<Transpose<f32>> {
    (current() == InstructionSet::Avx512).then_some(transpose)
}

fn transpose(columns: [&[[f32; 16]]; 16], squares: &mut [[[f32; 16]; 16]]) {
    // SAFETY: `transpose_of_f32` gives this function to processors with AVX-512 alone.
    #[allow(unsafe_code)]
    unsafe {
        all_squares(columns, squares)
    }
}

#[target_feature(enable = "avx512f")]
fn all_squares(columns: [&[[f32; 16]]; 16], squares: &mut [[[f32; 16]; 16]]) {
    for (i, to) in squares.iter_mut().enumerate() {
        square(columns.map(|column| &column[i]), to);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn square(columns: [&[f32; 16]; 16], to: &mut [[f32; 16]; 16]) {
    // SAFETY: 16 numbers are read from an array of 16.
    #[allow(unsafe_code)]
    let x = columns.map(|column| unsafe { _mm512_loadu_ps(column.as_ptr()) });
    let x = in_pairs(x, 1, |a, b| (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
    let x = in_pairs(x, 2, |a, b| {
        let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
        (_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)))
    });
    let alternate = |a, b| (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
    let x = in_pairs(in_pairs(x, 4, alternate), 8, alternate);
    for (i, &row) in x.iter().enumerate() {
        let k = i & 12 | (i & 1) << 1 | (i & 2) >> 1; // the first two steps leave 1 and 2 in each other's places
        // SAFETY: 16 numbers are written to an array of 16.
        #[allow(unsafe_code)]
        unsafe {
            _mm512_storeu_ps(to[k].as_mut_ptr(), row)
        }
    }
}

/// What `pair` makes of registers i and i + distance, in their places.
#[inline(always)]
fn in_pairs(mut x: [__m512; 16], distance: usize, pair: impl Fn(__m512, __m512) -> (__m512, __m512)) -> [__m512; 16] {
    for i in 0..16 {
        if i & distance == 0 {
            (x[i], x[i + distance]) = pair(x[i], x[i + distance]);
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::instruction_set::skipped;

    #[test]
    fn square_is_transposed_number_by_number() {
        let Some(transpose) = transpose_of_f32() else {
            return skipped("the transposition of squares", "it is made of AVX-512");
        };
        let columns: [[f32; 16]; 16] = std::array::from_fn(|j| std::array::from_fn(|k| (j * 16 + k) as f32));
        let mut found = [[f32::NAN; 16]; 16];
        transpose(columns.each_ref().map(std::slice::from_ref), std::slice::from_mut(&mut found));
        assert_eq!(found, std::array::from_fn(|k| std::array::from_fn(|j| columns[j][k])));
    }
}
