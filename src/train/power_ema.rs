//! Averages of the weights whose width is chosen after training (Karras et al. 2024, § 3).
//!
//! A power-function average gives the weights of step τ, at step t, the share
//!
//! ```text
//! p_γ,t(τ) = (γ+1)·τ^γ/t^(γ+1),   0 ≤ τ ≤ t                                      (Eq. 1)
//! average ← average + (1 − β)(w − average),   β = (1 − 1/t)^(γ+1)                (Eq. 2)
//! ```
//!
//! so it forgets its start without a warm-up. Its width, the standard deviation of p as a share of t, is σ_rel =
//! √(γ+1)/((γ+2)·√(γ+3)) (Eq. 3). Two averages are kept, of the widths 0.05 and 0.1, and a snapshot of both now and then. Any
//! other is put together from all snapshots: the weights x that make Σ x_i·p_i nearest to p in the mean square solve A·x = b
//! with A_ij = ∫ p_i·p_j and b_i = ∫ p_i·p, where
//!
//! ```text
//! ∫ p_γ,t·p_δ,u = (γ+1)(δ+1)/(γ+δ+1) · m^(γ+δ+1)/(t^(γ+1)·u^(δ+1)),   m = min(t, u)
//! ```

use super::ema;
use crate::layers::ParameterVector;
use crate::numerics::Real;
use crate::numerics::elementary::{exp, ln};
use crate::{Error, Result};

/// The widths that are kept.
pub const WIDTHS: [f64; 2] = [0.05, 0.1];

/// The widest average, that of γ = 0: all steps alike.
const WIDEST: f64 = 0.288_675_134_594_812_9;

/// Both averages that are kept, in the order of [`WIDTHS`].
#[derive(Clone, Debug, PartialEq)]
pub struct PowerAverages<F = f32>(pub [ParameterVector<F>; 2]);

impl<F: Real> PowerAverages<F> {
    /// Before the first step, when they hold nothing yet.
    pub fn new(count: usize) -> Self {
        PowerAverages([ParameterVector::zeros(count), ParameterVector::zeros(count)])
    }

    /// Takes in the weights after step t = 1, 2, ...
    pub fn update(&mut self, w: &ParameterVector<F>, t: u64) {
        for (average, width) in self.0.iter_mut().zip(WIDTHS) {
            let beta = if t == 1 { 0.0 } else { exp((gamma_of(width) + 1.0) * ln(1.0 - 1.0 / t as f64)) };
            ema::blend(average, w, 1.0 - beta);
        }
    }
}

/// σ_rel of γ ≥ 0, which falls in γ.
pub fn width_of(gamma: f64) -> f64 {
    (gamma + 1.0).sqrt() / ((gamma + 2.0) * (gamma + 3.0).sqrt())
}

/// γ of σ_rel in (0, 0.288]; γ = 0 for a wider one.
pub fn gamma_of(width: f64) -> f64 {
    // σ_rel is below 1/√((γ+2)(γ+3)) < 1/γ.
    let (mut below, mut above) = (0.0, 1.0 / width);
    for _ in 0..100 {
        let middle = 0.5 * (below + above);
        if width_of(middle) > width { below = middle } else { above = middle }
    }
    0.5 * (below + above)
}

/// What each snapshot counts in the average of `width` at step `t`; snapshots are (σ_rel, step).
///
/// # Errors
/// A width that no average has; no snapshots, or ones after step `t`; two of the same width and step.
pub fn shares(snapshots: &[(f64, u64)], width: f64, t: u64) -> Result<Vec<f64>> {
    if !(width > 0.0 && width <= WIDEST) {
        return Err(Error::value("width", "a number above 0, at most 0.288", width));
    }
    if snapshots.is_empty() || snapshots.iter().any(|&(_, step)| step == 0 || step > t) {
        let expected = format!("snapshots of steps 1 to {t}");
        return Err(Error::value("snapshots", expected, format!("{:?}", snapshots.last())));
    }
    let known: Vec<(f64, f64)> = snapshots.iter().map(|&(width, step)| (gamma_of(width), step as f64)).collect();
    let wanted = (gamma_of(width), t as f64);
    let matrix = known.iter().map(|&a| known.iter().map(|&b| overlap(a, b)).collect()).collect();
    let right = known.iter().map(|&a| overlap(a, wanted)).collect();
    solve(matrix, right).ok_or_else(|| Error::value("snapshots", "each width and step once", "one of them twice"))
}

/// ∫ p_γ,t·p_δ,u for (γ, t) and (δ, u).
fn overlap((gamma, t): (f64, f64), (delta, u): (f64, f64)) -> f64 {
    let least = if t < u { t } else { u };
    let powers = (gamma + 1.0) * ln(least / t) + (delta + 1.0) * ln(least / u);
    (gamma + 1.0) * (delta + 1.0) / (gamma + delta + 1.0) * exp(powers) / least
}

/// x of A·x = b by elimination, the largest number of a column first.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for k in 0..n {
        let pivot = (k..n).fold(k, |best, i| if a[i][k].abs() > a[best][k].abs() { i } else { best });
        if a[pivot][k] == 0.0 {
            return None;
        }
        a.swap(k, pivot);
        b.swap(k, pivot);
        let (above, below) = a.split_at_mut(k + 1);
        for (i, row) in below.iter_mut().enumerate() {
            let factor = row[k] / above[k][k];
            row.iter_mut().zip(&above[k]).skip(k).for_each(|(x, pivot)| *x -= factor * pivot);
            b[k + 1 + i] -= factor * b[k];
        }
    }
    for k in (0..n).rev() {
        let rest = (k + 1..n).fold(b[k], |rest, j| rest - a[k][j] * b[j]);
        b[k] = rest / a[k][k];
    }
    Some(b)
}

/// Σ share·weights, in f64, each rounded once.
///
/// # Panics
/// If there are none, or they differ in length.
pub fn combined<'a>(parts: impl IntoIterator<Item = (f64, &'a ParameterVector<f32>)>) -> ParameterVector<f32> {
    let mut total: Option<Vec<f64>> = None;
    for (share, weights) in parts {
        let total = total.get_or_insert_with(|| vec![0.0; weights.0.len()]);
        assert_eq!(total.len(), weights.0.len(), "combined: averages of two networks");
        total.iter_mut().zip(&weights.0).for_each(|(total, &w)| *total += share * w as f64);
    }
    ParameterVector(total.expect("at least one average").into_iter().map(|x| x as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights that wander: a step, a slope and a wave.
    fn weights(t: u64) -> f64 {
        let t = t as f64 / 1000.0;
        t.sqrt() + if t > 0.6 { 0.5 } else { 0.0 } + 0.2 * crate::numerics::elementary::sin(40.0 * t)
    }

    /// Σ p(τ) w(τ) as the recurrence gives it.
    fn average(width: f64, end: u64) -> f64 {
        let gamma = gamma_of(width);
        (1..=end).fold(0.0, |average, t| {
            let beta = if t == 1 { 0.0 } else { exp((gamma + 1.0) * ln(1.0 - 1.0 / t as f64)) };
            average + (1.0 - beta) * (weights(t) - average)
        })
    }

    #[test]
    fn widths_and_their_powers_are_those_of_the_paper() {
        // Karras et al. 2024, § 3.1: γ = 16.97 and 6.94.
        assert!((gamma_of(0.05) - 16.97).abs() < 0.005 && (gamma_of(0.1) - 6.94).abs() < 0.005);
        assert!(gamma_of(WIDEST) < 1e-6);
        for width in [0.01, 0.05, 0.1, 0.25] {
            assert!((width_of(gamma_of(width)) / width - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn overlap_is_the_integral() {
        for ((gamma, t), (delta, u)) in
            [((2.0, 3.0f64), (0.5, 5.0f64)), ((6.9, 4.0), (6.9, 4.0)), ((16.9, 4.0), (1.0, 2.5))]
        {
            let p =
                |gamma: f64, t: f64, tau: f64| if tau > t { 0.0 } else { (gamma + 1.0) * exp(gamma * ln(tau / t)) / t };
            let n = 200_000;
            let h = t.min(u) / n as f64;
            let sum: f64 = (0..n).map(|i| (i as f64 + 0.5) * h).map(|x| p(gamma, t, x) * p(delta, u, x) * h).sum();
            assert!((overlap((gamma, t), (delta, u)) / sum - 1.0).abs() < 1e-8);
        }
    }

    #[test]
    fn average_of_any_width_is_put_together_from_snapshots_of_two() {
        let snapshots: Vec<(f64, u64)> = (1..=10).flat_map(|i| WIDTHS.map(|width| (width, 100 * i))).collect();
        let kept: Vec<f64> = snapshots.iter().map(|&(width, step)| average(width, step)).collect();
        for (width, tolerance) in [(0.05, 1e-9), (0.1, 1e-9), (0.07, 2e-3), (0.15, 5e-3), (0.2, 3e-2)] {
            let shares = shares(&snapshots, width, 1000).unwrap();
            // Nobody asks them to add up to 1; before the first snapshot there is nothing to choose from.
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 3e-2, "{width}: {shares:?}");
            let found: f64 = shares.iter().zip(&kept).map(|(share, average)| share * average).sum();
            let (truth, nearest) = (average(width, 1000), average(if width < 0.1 { 0.05 } else { 0.1 }, 1000));
            assert!((found - truth).abs() < tolerance, "{width}: {found} {truth}");
            assert!(
                (found - truth).abs() <= (nearest - truth).abs(),
                "{width}: no better than the nearest that was kept"
            );
        }
    }

    #[test]
    fn kept_averages_follow_the_recurrence_and_begin_with_the_first_weights() {
        let mut averages = PowerAverages::<f64>::new(1);
        for t in 1..=300 {
            averages.update(&ParameterVector(vec![weights(t)]), t);
            if t == 1 {
                assert_eq!(averages.0[1].0, [weights(1)]);
            }
        }
        for (kept, width) in averages.0.iter().zip(WIDTHS) {
            assert!((kept.0[0] - average(width, 300)).abs() < 1e-12);
        }
    }

    #[test]
    fn what_no_average_can_be_put_together_from_is_refused() {
        let refused = |snapshots: &[(f64, u64)], width: f64| shares(snapshots, width, 100).unwrap_err().to_string();
        assert!(refused(&[(0.05, 100)], 0.3).starts_with("width"));
        assert!(refused(&[(0.05, 100)], f64::NAN).starts_with("width"));
        assert!(refused(&[], 0.1).starts_with("snapshots: expected snapshots of steps 1 to 100"));
        assert!(refused(&[(0.05, 200)], 0.1).starts_with("snapshots"));
        assert!(refused(&[(0.05, 100), (0.05, 100)], 0.1).contains("twice"));
    }
}
