//! UniPC: a predictor, and a corrector that costs no evaluation (Zhao et al. 2023).
//!
//! In λ, with m the quantity that is integrated (x̂₀, or ε̂), h = λ_s − λ_t and hh = −h for x̂₀, h for ε̂, a step adds to that of
//! order 1 a sum of differences from m₀, each over its distance r_k = (λ_k − λ_t)/h:
//!
//! ```text
//! x_s = x of order 1 − w·B(h)·Σ_k ρ_k·(m_k − m₀)/r_k
//! ```
//!
//! with w = signal_s for x̂₀ and sigma_s for ε̂, B(h) = hh (bh1) or e^hh − 1 (bh2), and ρ from the conditions of order
//! (their Theorem 3.1, Eq. 5, there for ε̂ and with (r_k·h)^(i−1))
//!
//! ```text
//! Σ_k r_k^(i−1)·ρ_k = i!·hh·φ_{i+1}(hh)/B(h),   φ_1 = (e^z−1)/z, φ_{i+1} = (φ_i − 1/i!)/z
//! ```
//!
//! The predictor knows past differences only, r_k < 0. When the network has looked at its result, the corrector takes the same
//! step again with that one more, r = 1, which raises the order by one; what was seen at the predicted x serves for the next
//! step from the corrected x.

use std::collections::VecDeque;

use ndarray::Array4;

use super::{SamplerOptions, Solver, Step, Term, Transition, Walk};
use crate::Result;
use crate::denoise::Estimate;
use crate::numerics::{Real, elementary::expm1};

/// A value of the integrated quantity, at its λ.
type Seen<F> = (f64, Array4<F>);

/// The step that was predicted and can be corrected.
struct Predicted<F> {
    transition: Transition,
    x: Array4<F>,
    order: usize,
}

/// Walks down the chain.
///
/// # Shapes
/// x (n, h, w, c) at the first level of the chain, to the images at its last.
///
/// # Errors
/// Whatever the walk refuses.
pub fn unipc<F: Real>(
    chain: &[Transition],
    mut x: Array4<F>,
    options: &SamplerOptions,
    walk: &mut dyn Walk<F>,
) -> Result<Array4<F>> {
    // The newest first.
    let mut seen: VecDeque<Seen<F>> = VecDeque::new();
    let mut before: Option<Predicted<F>> = None;
    for (i, &transition) in chain.iter().enumerate() {
        let estimate = walk.see(&x, transition.from)?;
        let now = (transition.from.lambda(), integrated(options, &estimate).clone());
        if let Some(predicted) = before {
            let terms = terms(options, predicted.transition, &predicted.x, predicted.order, Some(&now), &seen);
            let step = Step { transition: predicted.transition, x_t: &predicted.x, estimate: &estimate, terms: &terms };
            x = walk.correct(step)?;
        }
        seen.truncate(2);
        seen.push_front(now);
        let most = if options.lower_order_final { chain.len() - i } else { 3 };
        let order = options.order.min(most).min(i + 1);
        let terms = terms(options, transition, &x, order, None, &seen);
        let next = walk.step(Step { transition, x_t: &x, estimate: &estimate, terms: &terms })?;
        before = Some(Predicted { transition, x, order });
        x = next;
    }
    Ok(x)
}

/// What is integrated.
fn integrated<'a, F: Real>(options: &SamplerOptions, estimate: &'a Estimate<F>) -> &'a Array4<F> {
    if options.predict_x_0 { &estimate.x_0_hat } else { &estimate.eps_hat }
}

/// The terms of a step of this order from `seen`, and from what was seen at its end if it is corrected.
fn terms<'a, F: Real>(
    options: &SamplerOptions,
    Transition { from, to }: Transition,
    x: &'a Array4<F>,
    order: usize,
    end: Option<&'a Seen<F>>,
    seen: &'a VecDeque<Seen<F>>,
) -> Vec<Term<'a, F>> {
    let h = to.lambda() - from.lambda();
    let hh = if options.predict_x_0 { -h } else { h };
    let b = if options.solver == Solver::Bh1 { hh } else { expm1(hh) };
    let (of_x, outer) = match options.predict_x_0 {
        true => (to.sigma() / from.sigma(), to.signal()),
        false => (to.signal() / from.signal(), to.sigma()),
    };
    let past = seen.iter().skip(1).take(order - 1);
    let others: Vec<(&'static str, &Seen<F>)> =
        ["m 1 before", "m 2 before"].into_iter().zip(past).chain(end.map(|end| ("m at s", end))).collect();
    let distances: Vec<f64> = others.iter().map(|(_, (lambda, _))| (lambda - from.lambda()) / h).collect();
    let rho = solve(&distances, &conditions(hh, b, distances.len()));
    let shares: Vec<f64> = rho.iter().zip(&distances).map(|(rho, r)| -outer * b * rho / r).collect();
    let of_m0 = -outer * expm1(hh) - shares.iter().sum::<f64>();
    let name = if options.predict_x_0 { "x_0_hat" } else { "eps_hat" };
    let mut terms = vec![Term::new("x_t", of_x, x), Term::new(name, of_m0, &seen[0].1)];
    terms.extend(others.iter().zip(shares).map(|((name, (_, value)), share)| Term::new(name, share, value)));
    terms
}

/// i!·hh·φ_{i+1}(hh)/B for i = 1 to n.
fn conditions(hh: f64, b: f64, n: usize) -> Vec<f64> {
    let mut hh_phi = expm1(hh) / hh - 1.0;
    let mut factorial = 1.0;
    let mut conditions = Vec::with_capacity(n);
    for i in 1..=n {
        conditions.push(hh_phi * factorial / b);
        factorial *= (i + 1) as f64;
        hh_phi = hh_phi / hh - 1.0 / factorial;
    }
    conditions
}

/// ρ with Σ_k r_k^(i−1)·ρ_k = the conditions. One unknown alone is ½, the limit of its condition for short steps, as published
/// programs have it.
fn solve(r: &[f64], b: &[f64]) -> Vec<f64> {
    match *r {
        [] => Vec::new(),
        [_] => vec![0.5],
        [p, q] => {
            let second = (b[1] - p * b[0]) / (q - p);
            vec![b[0] - second, second]
        }
        [p, q, s] => {
            // Newton's divided differences of Vandermonde's system.
            let (c1, c2) = (b[1] - p * b[0], b[2] - p * b[1]);
            let last = (c2 - q * c1) / ((s - p) * (s - q));
            let middle = (c1 - (s - p) * last) / (q - p);
            vec![b[0] - middle - last, middle, last]
        }
        _ => unreachable!("three differences at most"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solutions_meet_the_conditions() {
        let b = [0.7, -0.2, 0.45];
        for r in [&[-0.8, 1.0][..], &[-0.9, -2.1], &[-0.8, -1.9, 1.0]] {
            let rho = solve(r, &b);
            for (i, condition) in b.iter().enumerate().take(r.len()) {
                let sum: f64 = r.iter().zip(&rho).map(|(r, rho)| (0..i).map(|_| r).product::<f64>() * rho).sum();
                assert!((sum - condition).abs() < 1e-14, "{r:?}, condition {i}: {sum}");
            }
        }
    }
}
