//! The precisions in which a case is computed: f64 for the truth, f32 for the bits, and f64 with noise for the tolerance.
//!
//! A tolerance is to say how far a correct float32 implementation may be from the truth, whatever its order of addition and
//! whatever its elementary functions. So the float64 computation is run many times, and the result of every operation is
//! moved by a random relative error of up to u = 2⁻²⁴ (Parker 1997, "Monte Carlo arithmetic"): the spread of the results
//! is the float32 error that the computation has by its nature. An operation that happens to be exact is
//! moved too, because in another order of addition it would not be.
//!
//! For a half format ([`Format`]) that error is the format's own; sums, and the products that are added up, keep
//! float32's, and their result is rounded to the format.
//!
//! # Sums
//!
//! Any order of addition is allowed, and the worst in use is one number after another. Each of its partial sums S₁ ... S_n is
//! rounded, by a random number of deviation up to u/√3 |S_k|, so the sum is off by a deviation of u/√3 √(Σ S_k²). Of numbers
//! of one sign, as squares and exponentials are, S_k = k/n S, and that is u √n/3 of the sum. Of numbers of random sign and size
//! a, whose S_k grow like √k a, it is u n a/√6, or u √n/√6 of a typical sum.
//!
//! Roundings are not random where many terms are below the last place of the sum: those are lost, and nothing makes up for it.
//! Squares of normal numbers have a density ∝ 1/√y at 0, so that rounding y to a multiple of h loses 0.06 h^3/2 on average; h
//! grows with the sum, to 2 u n at most, and all n lose some 0.04 (u n)^3/2 of it: nothing for 1,000, as much as the random
//! part for 40,000, twenty times that for a million. In the extreme, the same number again and again, it is up to n u/2.
//!
//! So plain sums are not made noisy: they are added one after another in float32 here, with another unit in each run
//! ([`one_by_one`](Real::one_by_one)), and what they lose on average counts beside six deviations. Sums of products have the noise
//! of every step, in that order (`product`). Pairwise sums, those of many lanes and those of Kahan have smaller errors.

mod product;

use std::cmp::Ordering;
use std::fmt::{self, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use num_traits::{One, Zero};

use super::format::Format;
use crate::numerics::gemm::{Kernels, Tiles};
use crate::numerics::{Fused, Real, elementary};

/// The largest relative error of one rounding to float32: 2⁻²⁴.
pub const U: f64 = 1.0 / (1 << 24) as f64;

/// A precision in which cases are computed.
pub trait Precision: Real {
    /// Whether operations are noisy: then a table that ours has in float64 is computed as others do, in this precision.
    const NOISY: bool = false;

    /// A float32 input, as it is.
    fn exact(x: f32) -> Self {
        Self::from_f64(x as f64)
    }
}

impl Precision for f32 {}
impl Precision for f64 {}

/// f64 with noise: see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noisy(f64);

/// Which of the repetitions is running: the noise depends on it and on the number that it is added to, and so neither
/// on threads nor on their order.
static RUN: AtomicU64 = AtomicU64::new(0);

/// The bits of the largest relative error of an operation, and of the smallest error of a number that is not zero.
static UNIT: AtomicU64 = AtomicU64::new(0);
static LEAST: AtomicU64 = AtomicU64::new(0);

/// Calls `work` with the noise of repetition `run` in every [`Noisy`] operation, as large as roundings to a format are.
pub fn with_noise<T>(run: u64, format: Format, work: impl FnOnce() -> T) -> T {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    RUN.store(run, Relaxed);
    UNIT.store(format.unit().to_bits(), Relaxed);
    // Float32's subnormals are far below anything that matters.
    let least = if format == Format::F16 { 0.5 * format.ulp(0.0) } else { 0.0 };
    LEAST.store(least.to_bits(), Relaxed);
    work()
}

/// A number in (−1, 1) from a number and the repetition, by the finaliser of SplitMix64 (Steele et al. 2014).
fn noise(x: f64) -> f64 {
    let mut z = x.to_bits() ^ RUN.load(Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as i64 as f64 * (1.0 / (1u64 << 63) as f64)
}

/// The result of an operation, with noise.
#[inline]
fn rounded(x: f64) -> Noisy {
    let (unit, least) = (f64::from_bits(UNIT.load(Relaxed)), f64::from_bits(LEAST.load(Relaxed)));
    let size = if x != 0.0 && (x * unit).abs() < least { least } else { x * unit };
    Noisy(x + size * noise(x))
}

impl Precision for Noisy {
    const NOISY: bool = true;

    fn exact(x: f32) -> Self {
        Noisy(x as f64)
    }
}

macro_rules! operators {
    ($($operator:ident $method:ident $assign:ident $assign_method:ident $symbol:tt;)*) => {$(
        impl $operator for Noisy {
            type Output = Noisy;
            fn $method(self, other: Noisy) -> Noisy {
                rounded(self.0 $symbol other.0)
            }
        }
        impl $assign for Noisy {
            fn $assign_method(&mut self, other: Noisy) {
                *self = *self $symbol other;
            }
        }
    )*};
}

operators! {
    Add add AddAssign add_assign +;
    Sub sub SubAssign sub_assign -;
    Mul mul MulAssign mul_assign *;
    Div div DivAssign div_assign /;
}

impl Neg for Noisy {
    type Output = Noisy;
    fn neg(self) -> Noisy {
        Noisy(-self.0)
    }
}

impl PartialOrd for Noisy {
    fn partial_cmp(&self, other: &Noisy) -> Option<Ordering> {
        self.0.partial_cmp(&other.0)
    }
}

impl Zero for Noisy {
    fn zero() -> Self {
        Noisy(0.0)
    }
    fn is_zero(&self) -> bool {
        self.0 == 0.0
    }
}

impl One for Noisy {
    fn one() -> Self {
        Noisy(1.0)
    }
}

impl Sum for Noisy {
    fn sum<I: Iterator<Item = Noisy>>(numbers: I) -> Noisy {
        numbers.fold(Noisy::zero(), |total, x| total + x)
    }
}

impl Display for Noisy {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

impl Kernels for Noisy {
    fn tiles() -> Option<Tiles<Noisy>> {
        Some(product::tiles)
    }
}

impl Real for Noisy {
    const NAME: &'static str = "noisy";
    const SEQUENTIAL: bool = true;

    fn one_by_one(terms: impl Iterator<Item = f64>) -> Option<f64> {
        // In float32 as it is, each run with another unit.
        let unit = 1.5 + 0.5 * noise(1.0);
        let total = terms.fold(0.0f32, |total, term| (total as f64 + unit * term) as f32);
        Some(total as f64 / unit)
    }

    fn from_f64(x: f64) -> Self {
        rounded(x)
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self.0
    }
    fn fma<P: Fused>(self, b: Self, c: Self) -> Self {
        // The product has a rounding of its own where a backend does not fuse.
        rounded(self.0 * b.0) + c
    }
    fn quotient<P: Fused>(self, b: Self, _: Self) -> Self {
        self / b
    }
    fn sqrt(self) -> Self {
        rounded(self.0.sqrt())
    }
    fn exp<P: Fused>(self) -> Self {
        rounded(elementary::exp(self.0))
    }
    fn exp_of_nonpositive<P: Fused>(self) -> Self {
        self.exp::<P>()
    }
    fn sigmoid<P: Fused>(self) -> Self {
        rounded(elementary::sigmoid(self.0))
    }
    fn tanh<P: Fused>(self) -> Self {
        rounded(elementary::tanh(self.0))
    }
    fn is_finite(self) -> bool {
        self.0.is_finite()
    }
    fn to_words(numbers: &[Self], words: &mut Vec<u32>) {
        numbers.iter().for_each(|x| f64::to_words(&[x.0], words));
    }
    fn from_words(words: &[u32], numbers: &mut [Self]) {
        let mut exact = vec![0.0; numbers.len()];
        f64::from_words(words, &mut exact);
        numbers.iter_mut().zip(exact).for_each(|(number, x)| *number = Noisy(x));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_mean_zero_and_the_spread_of_one_rounding_and_depends_on_the_run() {
        let spread = |run: u64| {
            with_noise(run, Format::F32, || {
                let errors: Vec<f64> =
                    (1..=10_000).map(|i| (rounded(i as f64 / 3.1).0 * 3.1 / i as f64 - 1.0) / U).collect();
                let n = errors.len() as f64;
                (errors.iter().sum::<f64>() / n, (errors.iter().map(|e| e * e).sum::<f64>() / n).sqrt(), errors[0])
            })
        };
        let (mean, deviation, first) = spread(1);
        // Six standard errors of 10,000 uniform numbers in (−1, 1), whose deviation is 1/√3.
        assert!(mean.abs() < 6.0 * 0.0058 && (deviation - 0.5774).abs() < 6.0 * 0.0026, "{mean} {deviation}");
        assert_ne!(first, spread(2).2);
        assert_eq!(first, spread(1).2);
    }

    #[test]
    fn inputs_and_zeros_have_no_noise_and_results_have() {
        with_noise(3, Format::F32, || {
            assert_eq!((Noisy::exact(0.5).to_f64(), Noisy::from_f64(0.0).to_f64()), (0.5, 0.0));
            assert_ne!((Noisy::exact(0.5) + Noisy::exact(0.25)).to_f64(), 0.75);
        });
    }
}
