//! DEIS (Zhang and Chen 2023) in log ρ: a multistep method for ε̂ in the ratio ρ = sigma/signal. The paper fits its polynomials in
//! t; log ρ is diffusers' choice.
//!
//! x/signal changes by ε̂·dρ, so
//!
//! ```text
//! x_s = signal_s·(x_t/signal_t + Σ_j C_j·ε̂_j),   C_j = ∫ Π_{k≠j} (ln ρ − ln ρ_k)/(ln ρ_j − ln ρ_k) dρ from ρ_t to ρ_s
//! ```
//!
//! where ε̂ is replaced by the polynomial in ln ρ through its last values. In terms of λ = −ln ρ the integrals are those of
//! e^(−λ) against 1, λ and λ², which are known.

use std::collections::VecDeque;

use ndarray::Array4;

use super::{SamplerOptions, Step, Term, Transition, Walk};
use crate::numerics::{Real, elementary};
use crate::{Error, Result};

/// Chains as long as this keep their order to the end.
const LONG: usize = 15;

const NAMES: [&str; 3] = ["eps_hat", "eps_hat 1 before", "eps_hat 2 before"];

/// Walks down a chain that does not end at the clean image, where ln ρ is infinite.
///
/// # Shapes
/// x (n, h, w, c) at the first level of the chain, to the images at its last.
///
/// # Errors
/// Whatever the walk refuses; a chain that ends at the clean image, or whose levels repeat before its end.
pub fn deis<F: Real>(
    chain: &[Transition],
    mut x: Array4<F>,
    options: &SamplerOptions,
    walk: &mut dyn Walk<F>,
) -> Result<Array4<F>> {
    if chain.last().is_some_and(|last| last.to.is_clean()) {
        let expected = "\"sigma_min\" with deis: ln(sigma) is infinite at the clean image";
        return Err(Error::value("final_sigmas_type", expected, "\"zero\""));
    }
    // The newest first, each with its ρ.
    let mut seen: VecDeque<(f64, Array4<F>)> = VecDeque::new();
    for (i, &transition) in chain.iter().enumerate() {
        let left = chain.len() - i;
        let estimate = walk.see(&x, transition.from)?;
        seen.truncate(2);
        seen.push_front((transition.from.ratio(), estimate.eps_hat.clone()));
        let short = options.lower_order_final && chain.len() < LONG;
        let order = options.order.min(if short { left } else { 3 }).min(i + 1);
        let rhos: Vec<f64> = seen.iter().take(order).map(|(rho, _)| *rho).collect();
        let signal = transition.to.signal();
        let mut terms = vec![Term::new("x_t", signal / transition.from.signal(), &x)];
        for (j, (name, (_, eps_hat))) in NAMES.into_iter().zip(&seen).enumerate().take(order) {
            terms.push(Term::new(name, signal * weight(&rhos, j, transition.to.ratio()), eps_hat));
        }
        x = walk.step(Step { transition, x_t: &x, estimate: &estimate, terms: &terms })?;
    }
    Ok(x)
}

/// C_j: the integral, from the first ρ to `to`, of the polynomial in ln ρ that is 1 at number j and 0 at all others.
fn weight(rhos: &[f64], j: usize, to: f64) -> f64 {
    let ln = elementary::ln;
    // ∫ Π (ln ρ − ln ρ_k) dρ = ρ·(the polynomial less its derivative plus its second derivative) in ln ρ.
    let others: Vec<f64> = rhos.iter().enumerate().filter(|&(k, _)| k != j).map(|(_, &rho)| ln(rho)).collect();
    let integral = |rho: f64| {
        let at = ln(rho);
        rho * match others[..] {
            [] => 1.0,
            [a] => (at - a) - 1.0,
            [a, b] => (at - a) * (at - b) - ((at - a) + (at - b)) + 2.0,
            _ => unreachable!("three values at most"),
        }
    };
    let divisor: f64 = others.iter().map(|other| ln(rhos[j]) - other).product();
    (integral(to) - integral(rhos[0])) / divisor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_integrate_polynomials_in_ln_rho_exactly() {
        let (rhos, to) = ([5.0, 8.0, 13.0], 3.2);
        let midpoint_rule = |f: &dyn Fn(f64) -> f64| {
            let n = 20_000;
            let width = (to - rhos[0]) / n as f64;
            (0..n).map(|i| f(rhos[0] + (i as f64 + 0.5) * width)).sum::<f64>() * width
        };
        for degree in 0..3 {
            let f = |rho: f64| elementary::pow(elementary::ln(rho), degree as f64);
            let ours: f64 = (0..3).map(|j| weight(&rhos, j, to) * f(rhos[j])).sum();
            let expected = midpoint_rule(&f);
            // The midpoint rule errs by width²/24 of the slope's change.
            assert!((ours - expected).abs() < 1e-8, "degree {degree}: {ours} {expected}");
        }
    }
}
