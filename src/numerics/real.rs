//! The seam between the two precisions: f32 is what runs, f64 is the truth it is compared with.

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{AddAssign, DivAssign, MulAssign, Neg, SubAssign};

use super::gemm::Kernels;
use super::{Fused, elementary, fused};

/// A binary floating-point number whose every operation rounds the same way on every machine: f32 and f64. No other crate
/// can add a type.
///
/// The arithmetic operators and [`fma`](Real::fma) are rounded once by IEEE 754; the elementary functions are those of
/// [`elementary`], never the platform's. Where fused multiply-add comes from is `P`: in a hot loop the path's
/// ([`every_instruction_set`](super::instruction_set)), elsewhere [`Native`](super::Native). It never changes a bit.
pub trait Real:
    ndarray::LinalgScalar
    + PartialOrd
    + Debug
    + Display
    + Send
    + Sync
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
    + Kernels
{
    /// `f32` or `f64`, for messages.
    const NAME: &'static str;
    /// Whether every sum adds one number after another, with the roundings of that: for the float32 error that any order of
    /// addition may have, not for a type that runs.
    const SEQUENTIAL: bool = false;

    /// The sum of the terms by such a type; None for one that runs, whose sums have their own orders.
    fn one_by_one(_: impl Iterator<Item = f64>) -> Option<f64> {
        None
    }
    /// The nearest number of this type, ties to even.
    fn from_f64(x: f64) -> Self;
    /// The same number, exactly.
    fn to_f64(self) -> f64;
    /// self · b + c, rounded once.
    fn fma<P: Fused>(self, b: Self, c: Self) -> Self;
    /// self / b with one rounding, given the reciprocal of b with one rounding, for 2⁻⁶⁰ ≤ self ≤ 1 ≤ b < 2³⁰: five
    /// multiplications, where a division takes as long as sixteen.
    ///
    /// With u = 2⁻²⁴ (in f64 2⁻⁵³), the reciprocal is (1 + e)/b, |e| ≤ u. The first q is off by at most 2u + u² of a/b, and its
    /// remainder a − b q, rounded or not, by u of itself; so q + (a − b q)·reciprocal is off by some 4u² of a/b before it is
    /// rounded, and the second q is a/b itself or one of its two neighbours. The remainder of such a q is a number of this
    /// type, which fma gives exactly, and by a theorem of Markstein (IBM J. Res. Dev. 34, 1990) the third has the bits of the
    /// division. None of these numbers is near the ends of the range, where that would fail: a remainder is a multiple of
    /// 2⁻¹³⁶.
    fn quotient<P: Fused>(self, b: Self, reciprocal: Self) -> Self;
    /// √self, correctly rounded.
    fn sqrt(self) -> Self;
    /// e^self.
    fn exp<P: Fused>(self) -> Self;
    /// The bits of [`exp`](Real::exp) for self ≤ 0 or NaN, with less to do.
    fn exp_of_nonpositive<P: Fused>(self) -> Self;
    /// 1 / (1 + e^−self).
    fn sigmoid<P: Fused>(self) -> Self;
    /// tanh(self).
    fn tanh<P: Fused>(self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// Adds the bits of these numbers to words of 32 bits, of a number the lower word first.
    fn to_words(numbers: &[Self], words: &mut Vec<u32>);
    /// The numbers that [`to_words`](Real::to_words) made these words of.
    ///
    /// # Panics
    /// If there are not as many.
    fn from_words(words: &[u32], numbers: &mut [Self]);
}

/// Numbers that are all within this of the greatest have exponentials, times that of minus the greatest, of 2⁻⁶⁰ or more, as
/// [`Real::quotient`] wants them: e⁻⁴¹ > 2⁻⁶⁰.
pub(crate) const NEAR: f64 = 41.0;

macro_rules! real {
    ($type:ident, $fma:path, $exp:path, $exp_of_nonpositive:path, $sigmoid:path, $tanh:path) => {
        impl Real for $type {
            const NAME: &'static str = stringify!($type);

            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $type
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            #[allow(clippy::disallowed_methods)] // an instruction here, not the platform's function
            fn fma<P: Fused>(self, b: Self, c: Self) -> Self {
                if P::HARDWARE { $type::mul_add(self, b, c) } else { $fma(self, b, c) }
            }
            #[inline(always)]
            fn quotient<P: Fused>(self, b: Self, reciprocal: Self) -> Self {
                let q = self * reciprocal;
                let q = (-q).fma::<P>(b, self).fma::<P>(reciprocal, q);
                (-q).fma::<P>(b, self).fma::<P>(reciprocal, q)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $type::sqrt(self)
            }
            #[inline(always)]
            fn exp<P: Fused>(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn exp_of_nonpositive<P: Fused>(self) -> Self {
                $exp_of_nonpositive(self)
            }
            #[inline(always)]
            fn sigmoid<P: Fused>(self) -> Self {
                $sigmoid(self)
            }
            #[inline(always)]
            fn tanh<P: Fused>(self) -> Self {
                $tanh(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }
            fn to_words(numbers: &[Self], words: &mut Vec<u32>) {
                const WORDS: usize = size_of::<$type>() / size_of::<u32>();
                let bits = numbers.iter().map(|x| u64::from(x.to_bits()));
                words.extend(bits.flat_map(|bits| (0..WORDS).map(move |i| (bits >> (32 * i)) as u32)));
            }
            fn from_words(words: &[u32], numbers: &mut [Self]) {
                const WORDS: usize = size_of::<$type>() / size_of::<u32>();
                assert_eq!(words.len(), WORDS * numbers.len(), "the words of as many numbers");
                for (number, words) in numbers.iter_mut().zip(words.chunks_exact(WORDS)) {
                    let bits = words.iter().rev().fold(0, |bits: u64, &word| bits << 32 | u64::from(word));
                    *number = $type::from_bits(bits as _);
                }
            }
        }
    };
}

real!(
    f32,
    fused::fma_f32,
    elementary::exp_f32::<P>,
    elementary::exp_of_nonpositive_f32::<P>,
    elementary::sigmoid_f32::<P>,
    elementary::tanh_f32::<P>
);
real!(f64, fused::fma_f64, elementary::exp, elementary::exp, elementary::sigmoid, elementary::tanh);
