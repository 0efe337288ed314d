//! How many bits the numbers of a result have, whatever the errors are.

use ndarray::{ArrayD, Axis};

use super::comparison::{Comparison, SINGLE};
use crate::golden::format::Format;

/// The largest relative error of numbers that themselves have few bits, as sums in bfloat16 have.
const NEAR_IN_BITS: f64 = 0.3;

/// Units in the last place of the largest number, and how many numbers: if all are multiples of so many, that is a fixed point.
const COARSE: f64 = 4096.0;
const MANY: usize = 32;

impl Comparison<'_> {
    /// Its numbers, before a bias was added or after, and the half format that holds them all. Integers and zeros are numbers of
    /// every precision: then nothing is told; and a weight that never moved has the bits that it had before.
    pub(super) fn rounded(&self) -> Option<(ArrayD<f64>, Format)> {
        let first = self.first.as_ref()?;
        let exactly = |x: &ArrayD<f64>| half_of(x, |_| 0.0);
        if exactly(&self.truth).is_some() || first.iter().any(|&x| x != 0.0) && exactly(first).is_some() {
            return None;
        }
        let (mut of_errors, mut of_truth) = (0.0, 0.0);
        for (found, truth) in self.found.iter().zip(&self.truth) {
            (of_errors, of_truth) = (of_errors + (found - truth) * (found - truth), of_truth + truth * truth);
        }
        if of_errors > NEAR_IN_BITS * NEAR_IN_BITS * of_truth {
            return None;
        }
        exactly(&self.found).map(|half| (self.found.clone(), half)).or_else(|| {
            let before = self.before_bias()?;
            let found: Vec<f64> = self.found.iter().copied().collect();
            let half = half_of(&before, |i| 0.5 * Format::F32.ulp(found[i]))?;
            Some((before, half))
        })
    }

    /// The results of one product without the bias that was added to them.
    fn before_bias(&self) -> Option<ArrayD<f64>> {
        let bias =
            self.case.tensors.get("input.bias").filter(|_| self.name == "output" && self.op_is_in(&SINGLE))?.to_f64();
        let axis = if self.case.op == "linear" { self.found.ndim() - 1 } else { 1 };
        let mut before = self.found.clone();
        before.axis_iter_mut(Axis(axis)).zip(&bias).for_each(|(mut x, &bias)| x -= bias);
        Some(before)
    }

    /// Of its wrong numbers, if they are rounded, whether each has the last bit of its half format set, and whether it is small.
    pub(super) fn last_bits(&self) -> Vec<(bool, bool)> {
        let Some((x, half)) = self.rounded() else { return Vec::new() };
        let largest = x.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        let counted = x.iter().zip(self.errors()).filter(|&(&x, (error, tolerance))| error > tolerance && x != 0.0);
        counted.map(|(x, _)| ((x / half.ulp(*x)).round() % 2.0 != 0.0, x.abs() <= largest / 2.0)).collect()
    }

    /// Whether all numbers are multiples of one coarse step: inputs of few bits leave finer ones, if there are many.
    pub(super) fn is_of_fixed_point(&self) -> bool {
        let largest = self.found.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        self.found.len() >= MANY && self.found.iter().all(|x| x % (COARSE * Format::F32.ulp(largest)) == 0.0)
    }
}

/// The half format that holds all numbers, but for the slack of each.
fn half_of(x: &ArrayD<f64>, slack: impl Fn(usize) -> f64) -> Option<Format> {
    [Format::Bf16, Format::F16].into_iter().find(|half| {
        x.iter().enumerate().all(|(i, &x)| {
            let unit = half.ulp(x);
            ((x / unit).round() * unit - x).abs() <= slack(i) && x.abs() <= half.largest()
        })
    })
}
