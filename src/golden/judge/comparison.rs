//! One result of a backend beside the truth: how far it is off, and in whose way.

use ndarray::ArrayD;

use super::Worst;
use super::budget::{ELEMENTARY, FUNCTIONS, LOOSE_UNITS, budget};
use crate::golden::case::Case;
use crate::golden::format::Format;
use crate::golden::precision::U;
use crate::golden::tolerance::terms_of;

/// Operations with products, in which a lower precision of the inputs can show.
const PRODUCTS: [&str; 12] = [
    "linear",
    "conv2d",
    "conv_transpose2d",
    "attention",
    "res_block",
    "attention_block",
    "classifier_block",
    "dit_embedding",
    "dit_block",
    "unet",
    "dit",
    "training",
];

/// Operations that are one product, whose number of terms is known.
pub(in crate::golden) const SINGLE: [&str; 3] = ["linear", "conv2d", "conv_transpose2d"];

/// Fewer numbers say nothing about how errors are spread; of one product less is needed.
const FEW: usize = 8;
const FEW_OF_ONE_PRODUCT: usize = 5;

/// Of a tensor's largest tolerance: an error of the size of the largest term. Winograd's F(4x4, 3x3) takes up to 4.2,
/// and no other that is in use takes more. In a half format the result's own rounding is most of the largest tolerance.
const FAST_UNITS: f64 = 8.0;
const FAST_UNITS_OF_HALF: f64 = 1.0;

/// The least and the largest relative error of products of rounded inputs.
const LEAST: f64 = 5e-5;
pub(super) const MOST: f64 = 0.1;

/// The largest scatter of one product, in units of √(Σ (a b)²): inputs in bfloat16 have 2.3e-3, sums of c terms in bfloat16
/// 1.2e-3 √c, and few numbers may have twice as much. One of K terms that was left out is 1/√K.
const MOST_OF_ONE_PRODUCT: f64 = 6e-3;
const MOST_OF_SUMS: f64 = 2.4e-3;

/// One result beside the truth.
pub(super) struct Comparison<'a> {
    pub(super) name: &'a str,
    pub(super) case: &'a Case,
    pub(super) truth: ArrayD<f64>,
    pub(super) found: ArrayD<f64>,
    pub(super) tolerance: ArrayD<f64>,
    pub(super) exact: bool,
    /// Where training began to move a weight; 0 for every other result. None where that is not known.
    pub(super) first: Option<ArrayD<f64>>,
}

impl Comparison<'_> {
    pub(super) fn errors(&self) -> impl Iterator<Item = (f64, f64)> {
        let largest = self.case.format.largest();
        self.found.iter().zip(&self.truth).zip(&self.tolerance).map(move |((&found, &truth), &tolerance)| {
            // Where the format has no such number, infinity is right, and the largest number of the same sign.
            let overflows = found.abs() >= largest && found.is_sign_negative() == truth.is_sign_negative();
            match tolerance.is_finite() {
                true => (error(found, truth), tolerance),
                false => (if overflows { 0.0 } else { f64::INFINITY }, 1.0),
            }
        })
    }

    pub(super) fn is_right(&self) -> bool {
        self.exact || self.errors().all(|(error, tolerance)| error <= tolerance)
    }

    /// Whether the first number is wrong.
    pub(super) fn is_wrong_at_once(&self) -> bool {
        self.errors().next().is_some_and(|(error, tolerance)| error > tolerance)
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
            ulp: error / self.case.format.ulp(expected),
            relative,
        })
    }

    pub(super) fn op_is_in(&self, ops: &[&str]) -> bool {
        ops.contains(&self.case.op.as_str())
    }

    /// Whether functions within their budgets explain the error.
    pub(super) fn is_loose(&self) -> bool {
        let alone = self.op_is_in(&ELEMENTARY);
        let inside = self.op_is_in(&FUNCTIONS) || self.op_is_in(&PRODUCTS) && !self.op_is_in(&SINGLE);
        if !alone && !inside {
            return false;
        }
        let budget = budget(self.case, &self.truth, &self.tolerance);
        let budgets = |i: usize| budget.as_ref().map_or(0.0, |budget| budget[i]);
        let units = if alone { 1.0 } else { LOOSE_UNITS };
        self.errors().enumerate().all(|(i, (error, tol))| error <= units * tol || error <= budgets(i))
    }

    /// Whether no error is larger than those of the largest terms, as sums of transformed inputs have them.
    pub(super) fn is_fast(&self) -> bool {
        let finite = self.tolerance.iter().filter(|tol| tol.is_finite());
        let largest = finite.fold(0.0, |largest, &tol| if tol > largest { tol } else { largest });
        let units = if self.case.format == Format::F32 { FAST_UNITS } else { FAST_UNITS_OF_HALF };
        let within = self.errors().all(|(error, _)| error <= units * largest);
        // The tolerances of an embedding of times differ by their angles, not by the size of terms.
        self.op_is_in(&PRODUCTS) && self.case.op != "dit_embedding" && !self.is_scaled() && within
    }

    /// Σ e², Σ e y and Σ y² of the error e and of what was computed, y.
    fn energies(&self) -> [f64; 3] {
        let mut sums = [0.0; 3];
        let first = |i: usize| self.first.as_ref().and_then(|first| first.as_slice()).map_or(0.0, |first| first[i]);
        for (i, (found, truth)) in self.found.iter().zip(&self.truth).enumerate() {
            let (e, y) = (found - truth, truth - first(i));
            sums = [sums[0] + e * e, sums[1] + e * y, sums[2] + y * y];
        }
        sums
    }

    /// Whether the error is the truth times something: no rounding does that to many numbers.
    fn is_scaled(&self) -> bool {
        let [of_errors, dot, of_truth] = self.energies();
        let part = if self.truth.len() >= FEW { 0.25 } else { 0.99 };
        dot * dot >= part * of_errors * of_truth
    }

    /// Whether it says how errors are spread: it has some numbers, and they are not zero in truth.
    pub(super) fn tells(&self) -> bool {
        let few = if self.op_is_in(&SINGLE) { FEW_OF_ONE_PRODUCT } else { FEW };
        let square = |x: &ArrayD<f64>| x.iter().map(|x| x * x).sum::<f64>();
        self.truth.len() >= few && square(&self.truth) > square(&self.tolerance)
    }

    /// Whether the error is at most this part of what was computed.
    pub(super) fn is_near(&self, limit: f64) -> bool {
        let [of_errors, _, of_computed] = self.energies();
        self.first.is_some() && of_errors <= limit * limit * of_computed
    }

    /// The relative error of products of rounded inputs, or None: the error has another size or another pattern.
    pub(super) fn size_of_noise(&self) -> Option<f64> {
        let wrong = self.errors().filter(|(error, tolerance)| error > tolerance).count();
        let not_zero = self.truth.iter().zip(&self.tolerance).filter(|(truth, tol)| truth.abs() > **tol).count();
        // What Adam divides by hides the errors of most weights, and shows those of few.
        let hidden = self.case.op == "training";
        if !self.op_is_in(&PRODUCTS) || !self.is_near(MOST) || 4 * wrong < not_zero && !hidden {
            return None;
        }
        // Inputs that were cut off make all sums smaller, and never larger; what is left scatters, as the truth times a number
        // does not.
        let [of_errors, dot, mut size] = self.energies();
        let rest = (of_errors - dot * dot / size).max(0.0);
        let scatter = if self.truth.len() >= 16 { 0.02 } else { 0.001 };
        let grown = self.name.starts_with("taps.") && dot > 0.0 && dot * dot >= 0.5 * of_errors * size;
        if grown || rest < scatter * of_errors {
            return None;
        }
        let mut most = MOST;
        if self.op_is_in(&SINGLE) {
            // The tolerance of a sum is 2 u √(K (Σ (a b)² + y²)) and half an ulp: Σ (a b)² is what scatters.
            let terms = terms_of(self.case, self.case.tensors["output"].shape(), self.name) as f64;
            let squares = self.truth.iter().zip(&self.tolerance).map(|(y, tol)| {
                let of_sum = (tol - 0.5 * Format::F32.ulp(*y) - f32::MIN_POSITIVE as f64) / (2.0 * U);
                of_sum * of_sum / terms - y * y
            });
            size = squares.map(|square| square.max(0.0)).sum();
            // Sums in bfloat16 are numbers of it, but where a kernel's taps add up what the channels gave.
            let spread = [("conv2d", "grad.x"), ("conv_transpose2d", "output")].contains(&(&self.case.op, self.name));
            let taps: usize = self.case.tensors["input.weight"].shape().iter().skip(2).product();
            let channels = if spread { terms / taps as f64 } else { 0.0 };
            most = (MOST_OF_SUMS * channels.sqrt()).clamp(MOST_OF_ONE_PRODUCT, MOST);
        }
        let (of_all, scatter) = ((of_errors / size).sqrt(), (rest / size).sqrt());
        ((LEAST..=MOST).contains(&of_all) && scatter <= most).then_some(scatter)
    }
}

/// |found − truth|; infinite where either is no number and the other is.
pub(super) fn error(found: f64, truth: f64) -> f64 {
    let error = if found == truth { 0.0 } else { (found - truth).abs() };
    if error.is_nan() { f64::INFINITY } else { error }
}
