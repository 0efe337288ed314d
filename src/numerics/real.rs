//! The seam between the two precisions: f32 is what runs, f64 is the truth it is compared with.

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{AddAssign, DivAssign, MulAssign, Neg, SubAssign};

use super::elementary;

/// A binary floating-point number whose every operation rounds the same way on every machine.
///
/// The arithmetic operators and [`mul_add`](Real::mul_add) are rounded once by IEEE 754; the elementary functions are
/// those of [`elementary`], never the platform's.
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
{
    /// `f32` or `f64`, for messages.
    const NAME: &'static str;

    /// The nearest number of this type, ties to even.
    fn from_f64(x: f64) -> Self;
    /// The same number, exactly.
    fn to_f64(self) -> f64;
    /// self · b + c, rounded once.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// √self, correctly rounded.
    fn sqrt(self) -> Self;
    /// e^self.
    fn exp(self) -> Self;
    /// 1 / (1 + e^−self).
    fn sigmoid(self) -> Self;
    /// tanh(self).
    fn tanh(self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
}

macro_rules! real {
    ($type:ident, $exp:path, $sigmoid:path, $tanh:path) => {
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
            fn mul_add(self, b: Self, c: Self) -> Self {
                $type::mul_add(self, b, c)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $type::sqrt(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn sigmoid(self) -> Self {
                $sigmoid(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $tanh(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }
        }
    };
}

real!(f32, elementary::exp_f32, elementary::sigmoid_f32, elementary::tanh_f32);
real!(f64, elementary::exp, elementary::sigmoid, elementary::tanh);
