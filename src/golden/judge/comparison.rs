//! One result of a backend beside the truth: how far it is off, and in whose way.

use ndarray::ArrayD;

use super::{Verdict, Worst};
use crate::golden::tolerance::ulp;

/// Operations with products, in which a lower precision of the inputs can show.
const PRODUCTS: [&str; 10] = [
    "linear",
    "conv2d",
    "attention",
    "res_block",
    "attention_block",
    "dit_embedding",
    "dit_block",
    "unet",
    "dit",
    "training",
];

/// One result beside the truth.
pub(super) struct Comparison<'a> {
    pub(super) name: &'a str,
    pub(super) truth: ArrayD<f64>,
    pub(super) found: ArrayD<f64>,
    pub(super) tolerance: ArrayD<f64>,
    pub(super) exact: bool,
}

impl Comparison<'_> {
    fn errors(&self) -> impl Iterator<Item = (f64, f64)> {
        let errors = self.found.iter().zip(&self.truth).map(|(f, t)| error(*f, *t));
        errors.zip(self.tolerance.iter().copied())
    }

    pub(super) fn is_right(&self) -> bool {
        self.exact || self.errors().all(|(error, tolerance)| error <= tolerance)
    }

    pub(super) fn worst(&self) -> Option<Worst> {
        let ratio = |(error, tolerance): (f64, f64)| match error / tolerance {
            _ if error == 0.0 => 0.0,
            ratio if ratio.is_nan() => 1.0, // an overflow where one is allowed
            ratio => ratio,
        };
        let (at, tolerances) =
            self.errors().map(ratio).enumerate().fold(None, |worst: Option<(usize, f64)>, (i, r)| {
                if worst.is_some_and(|(_, w)| r <= w) { worst } else { Some((i, r)) }
            })?;
        let (expected, found) = (self.truth.iter().nth(at).copied()?, self.found.iter().nth(at).copied()?);
        let (mut index, mut rest) = (Vec::new(), at);
        for &axis in self.truth.shape().iter().rev() {
            index.insert(0, rest % axis);
            rest /= axis;
        }
        let error = error(found, expected);
        let relative = if error == 0.0 { 0.0 } else { error / expected.abs() };
        Some(Worst {
            tensor: self.name.into(),
            index,
            expected,
            found,
            tolerances,
            ulp: error / ulp(expected),
            relative,
        })
    }

    /// Which precision's errors these are.
    pub(super) fn class(&self, op: &str) -> Verdict {
        // See the tolerance of products; a hundredth more for products of two roundings.
        const TF32: f64 = 8192.0 * 1.01;
        const BF16: f64 = 65536.0 * 1.01;
        let wrong = self.errors().filter(|(error, tolerance)| error > tolerance).count();
        let (mut dot, mut of_errors, mut of_truth) = (0.0, 0.0, 0.0);
        for (found, truth) in self.found.iter().zip(&self.truth) {
            let e = found - truth;
            (dot, of_errors, of_truth) = (dot + e * truth, of_errors + e * e, of_truth + truth * truth);
        }
        let near = of_errors.is_finite() && of_errors <= 0.0025 * of_truth;
        // Integers and zeros are numbers of every precision: only where the truth is none of them does this tell.
        let rounded_to =
            |keep: fn(f64) -> bool| near && self.found.iter().all(|&x| keep(x)) && !self.truth.iter().all(|&x| keep(x));
        if rounded_to(is_bf16) || rounded_to(is_f16) {
            return Verdict::LikeHalf;
        }
        let systematic = dot * dot >= 0.25 * of_errors * of_truth;
        if !near || systematic || 4 * wrong < self.truth.len() || !PRODUCTS.contains(&op) {
            return Verdict::Fail;
        }
        let largest = self.errors().map(|(e, tol)| e / tol).fold(0.0, |m, x| if x > m { x } else { m });
        match largest {
            x if x <= TF32 => Verdict::LikeTf32,
            x if x <= BF16 => Verdict::LikeHalf,
            _ => Verdict::Fail,
        }
    }
}

/// |found − truth|; infinite where either is no number and the other is.
pub(super) fn error(found: f64, truth: f64) -> f64 {
    let error = if found == truth { 0.0 } else { (found - truth).abs() };
    if error.is_nan() { f64::INFINITY } else { error }
}

/// Whether float32 x has at most 8 significant bits, as bfloat16 has.
fn is_bf16(x: f64) -> bool {
    x.is_finite() && (x as f32).to_bits() & 0xffff == 0
}

/// Whether x has at most 11 significant bits and the range of float16.
fn is_f16(x: f64) -> bool {
    let scaled = x * (1 << 24) as f64; // the smallest float16 is 2⁻²⁴
    x.abs() <= 65504.0 && scaled == scaled.trunc() && x.to_bits() & ((1 << 42) - 1) == 0
}
