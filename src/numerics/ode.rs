//! Ordinary differential equations dy/dt = f(t, y) with steps that adapt to the error (Dormand and Prince 1980).
//!
//! A step of length h evaluates f at seven stages,
//!
//! ```text
//! k_i = f(t + c_i h, y + h Σ_{j<i} a_ij k_j)          y' = y + h Σ_i b_i k_i          e = h Σ_i (b_i − b̂_i) k_i
//! ```
//!
//! y' is of order 5. The weights b̂ give a result of order 4 from the same stages, so e, the difference, estimates the error
//! of the step. The seventh stage is f at the end of the step: it is the first of the next one.
//!
//! The step is taken if the root mean square of e_i/(absolute + relative·max(|y_i|, |y'_i|)) is at most 1. Either way the next
//! length is h·min(5, max(0.2, 0.9·error^(−1/5))), and no longer than h after a refusal (Hairer, Nørsett and Wanner 1993,
//! § II.4), from which the first length is, too.

use super::elementary::{exp, ln};
use super::sum::sum_by;
use crate::{Error, Result};

/// What error a step may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// In units of the number itself; 0 or more.
    pub relative: f64,
    /// Added to that; positive.
    pub absolute: f64,
}

/// What an integration has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Statistics {
    /// Evaluations of the right-hand side.
    pub evaluations: usize,
    /// Steps that were taken.
    pub accepted: usize,
    /// Steps whose error was too large, tried again with a shorter one.
    pub rejected: usize,
}

/// Steps after which an integration is given up.
const MAX_STEPS: usize = 100_000;

/// c, the places of the stages in the step (Dormand and Prince 1980, Table 2).
const C: [f64; 7] = [0.0, 1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0, 1.0];

/// a; the last row is b, too.
const A: [&[f64]; 7] = [
    &[],
    &[1.0 / 5.0],
    &[3.0 / 40.0, 9.0 / 40.0],
    &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
    &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
    &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
    &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0],
];

/// b − b̂.
const E: [f64; 7] =
    [71.0 / 57600.0, 0.0, -71.0 / 16695.0, 71.0 / 1920.0, -17253.0 / 339_200.0, 22.0 / 525.0, -1.0 / 40.0];

/// y at `t1`, from `y` at `t0`; `t1` may lie before `t0`. `f(t, y, dy)` writes dy/dt into `dy`.
///
/// # Errors
/// Whatever `f` refuses; an error that no step is short enough for, or 100,000 steps.
pub fn dormand_prince(
    mut f: impl FnMut(f64, &[f64], &mut [f64]) -> Result<()>,
    (t0, t1): (f64, f64),
    y: &[f64],
    tolerance: Tolerance,
) -> Result<(Vec<f64>, Statistics)> {
    let (mut t, mut y, mut statistics) = (t0, y.to_vec(), Statistics::default());
    if t0 == t1 || y.is_empty() {
        return Ok((y, statistics));
    }
    let mut f = |t: f64, y: &[f64], dy: &mut [f64]| {
        statistics.evaluations += 1;
        f(t, y, dy)
    };
    let (mut accepted, mut rejected) = (0, 0);
    let mut k = vec![vec![0.0; y.len()]; 7];
    f(t, &y, &mut k[0])?;
    let mut h = first_length(&mut f, (t0, t1), &y, &k[0], tolerance)?;
    let (mut end, mut error) = (y.clone(), vec![0.0; y.len()]);
    let mut after_a_refusal = false;
    while t != t1 {
        let last = (t1 - t).abs() <= h.abs() * (1.0 + 1e-12);
        if last {
            h = t1 - t;
        }
        if accepted + rejected == MAX_STEPS || t + h == t {
            let expected = format!("a tolerance that {MAX_STEPS} steps from t = {t0} to {t1} can keep");
            return Err(Error::value("tolerance", expected, format!("none, after {accepted} steps at t = {t}")));
        }
        for i in 1..7 {
            let (before, from_i) = k.split_at_mut(i);
            weighted(&mut end, &y, h, A[i], before);
            f(t + C[i] * h, &end, &mut from_i[0])?;
        }
        error.fill(0.0);
        let zero = vec![0.0; y.len()];
        weighted(&mut error, &zero, h, &E, &k);
        let norm = norm(&error, &y, &end, tolerance);
        let factor = 0.9 * exp(-0.2 * ln(norm));
        let factor = if factor < 0.2 || factor.is_nan() { 0.2 } else { least(factor, 5.0) };
        if norm <= 1.0 {
            (t, accepted) = (if last { t1 } else { t + h }, accepted + 1);
            std::mem::swap(&mut y, &mut end);
            k.swap(0, 6);
            h *= if after_a_refusal { least(factor, 1.0) } else { factor };
            after_a_refusal = false;
        } else {
            (rejected, after_a_refusal) = (rejected + 1, true);
            h *= least(factor, 1.0);
        }
    }
    Ok((y, Statistics { accepted, rejected, ..statistics }))
}

/// y + h Σ w_j k_j.
fn weighted(out: &mut [f64], y: &[f64], h: f64, w: &[f64], k: &[Vec<f64>]) {
    for (i, (out, y)) in out.iter_mut().zip(y).enumerate() {
        *out = y + h * w.iter().zip(k).fold(0.0, |sum, (w, k)| sum + w * k[i]);
    }
}

/// The root mean square of x_i/(absolute + relative·max(|a_i|, |b_i|)).
fn norm(x: &[f64], a: &[f64], b: &[f64], Tolerance { relative, absolute }: Tolerance) -> f64 {
    let scaled: Vec<f64> =
        (0..x.len()).map(|i| x[i] / (absolute + relative * -least(-a[i].abs(), -b[i].abs()))).collect();
    (sum_by(&scaled, |x| x * x) / x.len() as f64).sqrt()
}

fn least(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

/// A length at which an explicit Euler step would change y by a hundredth, and the fifth-order error would be as small
/// (Hairer, Nørsett and Wanner 1993, § II.4, "Starting Step Size").
fn first_length(
    f: &mut impl FnMut(f64, &[f64], &mut [f64]) -> Result<()>,
    (t0, t1): (f64, f64),
    y: &[f64],
    dy: &[f64],
    tolerance: Tolerance,
) -> Result<f64> {
    let (whole, of) = (t1 - t0, |x: &[f64]| norm(x, y, y, tolerance));
    let (size, slope) = (of(y), of(dy));
    let guess = if size < 1e-5 || slope < 1e-5 { 1e-6 } else { 0.01 * size / slope };
    let h = least(guess, whole.abs()) * whole.signum();
    let (mut next, mut curvature) = (y.to_vec(), vec![0.0; y.len()]);
    weighted(&mut next, y, h, &[1.0], std::slice::from_ref(&dy.to_vec()));
    f(t0 + h, &next, &mut curvature)?;
    curvature.iter_mut().zip(dy).for_each(|(after, before)| *after = (*after - before) / h);
    let (curvature, slope) = (of(&curvature), of(dy));
    let steepest = if curvature > slope { curvature } else { slope };
    let second = if steepest <= 1e-15 { -least(-1e-6, -h.abs() * 1e-3) } else { exp(0.2 * ln(0.01 / steepest)) };
    Ok(least(least(100.0 * h.abs(), second), whole.abs()) * whole.signum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::elementary::{cos, sin};

    fn tolerance(relative: f64) -> Tolerance {
        Tolerance { relative, absolute: relative }
    }

    #[test]
    fn table_is_of_order_five_and_its_rows_add_up() {
        // Σ_j a_ij = c_i and Σ b_i c_i^(q−1) = 1/q up to q = 5; b̂ has the same up to q = 4 and not at 5.
        for (row, c) in A.iter().zip(C) {
            assert!((row.iter().sum::<f64>() - c).abs() < 1e-14);
        }
        let moment =
            |w: &[f64], q: usize| w.iter().zip(C).map(|(w, c)| w * (1..q).fold(1.0, |p, _| p * c)).sum::<f64>();
        let b: Vec<f64> = A[6].iter().copied().chain([0.0]).collect();
        (1..=5).for_each(|q| assert!((moment(&b, q) - 1.0 / q as f64).abs() < 1e-14, "order {q}"));
        (1..=4).for_each(|q| assert!(moment(&E, q).abs() < 1e-14, "order {q}"));
        assert!(moment(&E, 5).abs() > 1e-4);
    }

    #[test]
    fn oscillator_keeps_to_the_tolerance_forwards_and_backwards() {
        let f = |_: f64, y: &[f64], dy: &mut [f64]| {
            (dy[0], dy[1]) = (y[1], -y[0]);
            Ok(())
        };
        let mut evaluations = Vec::new();
        for relative in [1e-4, 1e-7, 1e-10] {
            let (y, statistics) = dormand_prince(f, (0.0, 10.0), &[0.0, 1.0], tolerance(relative)).unwrap();
            // The errors of some tens to hundreds of steps add up: each is below the tolerance.
            let error = (y[0] - sin(10.0)).abs().max((y[1] - cos(10.0)).abs());
            assert!(error < 30.0 * relative, "{relative}: off by {error:e}");
            let (back, _) = dormand_prince(f, (10.0, 0.0), &y, tolerance(relative)).unwrap();
            assert!(back[0].abs() < 60.0 * relative && (back[1] - 1.0).abs() < 60.0 * relative);
            assert_eq!(statistics.evaluations, 2 + 6 * (statistics.accepted + statistics.rejected));
            evaluations.push(statistics.evaluations as f64);
        }
        // Of order five, a thousandth of the error costs 1000^(1/5) = 4 times the steps.
        assert!(evaluations[2] / evaluations[1] > 3.0 && evaluations[2] / evaluations[1] < 5.0, "{evaluations:?}");
    }

    #[test]
    fn steps_shorten_where_the_solution_bends_and_the_end_is_met_exactly() {
        // y' = −50 (y − cos t) has a layer of width 1/50 and is slow behind it.
        let mut last = 0.0;
        let f = |t: f64, y: &[f64], dy: &mut [f64]| {
            last = t;
            dy[0] = -50.0 * (y[0] - cos(t));
            Ok(())
        };
        let (y, statistics) = dormand_prince(f, (0.0, 1.5), &[0.0], tolerance(1e-8)).unwrap();
        let exact = (2500.0 * cos(1.5) + 50.0 * sin(1.5)) / 2501.0 - 2500.0 / 2501.0 * exp(-75.0);
        assert!((y[0] - exact).abs() < 1e-7, "{} {exact} {statistics:?}", y[0]);
        assert_eq!(last, 1.5);
    }

    #[test]
    fn solution_that_runs_away_is_an_error_and_so_is_what_the_right_hand_side_refuses() {
        let blows_up = |_: f64, y: &[f64], dy: &mut [f64]| {
            dy[0] = y[0] * y[0]; // y = 1/(1 − t)
            Ok(())
        };
        let error = dormand_prince(blows_up, (0.0, 2.0), &[1.0], tolerance(1e-6)).unwrap_err().to_string();
        assert!(error.starts_with("tolerance"), "{error}");
        let refuses = |_: f64, _: &[f64], _: &mut [f64]| Err(Error::value("images", "one", 0));
        assert!(dormand_prince(refuses, (0.0, 1.0), &[1.0], tolerance(1e-6)).is_err());
    }
}
