//! DPM-Solver with derivatives from the last steps (Lu et al. 2022, DPM-Solver++, Algorithm 2 for order 2).
//!
//! With m₀ seen at t, m₁ and m₂ before, λ's steps h₀ and h₁ before h, and r₀ = h₀/h, r₁ = h₁/h, divided differences give
//!
//! ```text
//! order 2   D₁ = (m₀−m₁)/r₀
//! order 3   D₁ = d₀ + r₀/(r₀+r₁)·(d₀−d₁),   D₂ = 2·(d₀−d₁)/(r₀+r₁),   d₀ = (m₀−m₁)/r₀, d₁ = (m₁−m₂)/r₁
//! ```
//!
//! The first step knows no past and is of order 1, which is DDIM; the second of order 2.

use std::collections::VecDeque;

use ndarray::Array4;

use super::{Update, check, integrated};
use crate::Result;
use crate::numerics::Real;
use crate::sample::{SamplerOptions, Step, Term, Transition, Walk};

/// Chains as long as this keep their order to the end.
const LONG: usize = 15;

/// Walks down the chain.
///
/// # Shapes
/// x (n, h, w, c) at the first level of the chain, to the images at its last.
///
/// # Errors
/// Whatever the walk refuses; an algorithm of noise whose chain ends at the clean image; levels that repeat.
pub fn multistep<F: Real>(
    chain: &[Transition],
    mut x: Array4<F>,
    options: &SamplerOptions,
    walk: &mut dyn Walk<F>,
) -> Result<Array4<F>> {
    check(chain, options)?;
    // The newest first, each with its λ.
    let mut seen: VecDeque<(f64, Array4<F>)> = VecDeque::new();
    for (i, &transition) in chain.iter().enumerate() {
        let left = chain.len() - i;
        let estimate = walk.see(&x, transition.from)?;
        let (name, value) = integrated(options.algorithm, &estimate);
        seen.truncate(2);
        seen.push_front((transition.from.lambda(), value.clone()));
        let short = options.lower_order_final && options.conventions.short_chains_end_low && chain.len() < LONG;
        let first = left == 1 && (options.euler_at_final || short || transition.to.is_clean());
        let most = if first {
            1
        } else if left == 2 && short {
            2
        } else {
            3
        };
        let h = transition.to.lambda() - transition.from.lambda();
        let order = if h == 0.0 { 1 } else { options.order.min(most).min(i + 1) };

        let lambdas: Vec<f64> = seen.iter().map(|(lambda, _)| *lambda).collect();
        let update =
            if order == 3 { Update::third_order(options, transition) } else { Update::new(options, transition) };
        let twice = if options.conventions.third_order_as_published { 1.0 } else { 2.0 };
        let weights = weights(&update, order, h, &lambdas, twice);
        let names = match options.algorithm.of_noise() {
            true => [name, "eps_hat 1 before", "eps_hat 2 before"],
            false => [name, "x_0_hat 1 before", "x_0_hat 2 before"],
        };
        let mut terms = vec![Term::new("x_t", update.x, &x)];
        for ((name, weight), (_, value)) in names.into_iter().zip(weights).zip(&seen).take(order) {
            terms.push(Term::new(name, weight, value));
        }
        let z = options.algorithm.is_stochastic().then(|| walk.noise(transition.from));
        terms.extend(z.as_ref().map(|z| Term::new("z", update.z, z)));
        x = walk.step(Step { transition, x_t: &x, estimate: &estimate, terms: &terms })?;
    }
    Ok(x)
}

/// The weights of m₀, m₁ and m₂ of a step of length h in λ; D₂ is `twice` times (d₀−d₁)/(r₀+r₁).
fn weights(update: &Update, order: usize, h: f64, lambdas: &[f64], twice: f64) -> [f64; 3] {
    let [of_d0, of_d1, of_d2] = update.derivatives;
    if order == 1 {
        return [of_d0, 0.0, 0.0];
    }
    let r0 = (lambdas[0] - lambdas[1]) / h;
    if order == 2 {
        return [of_d0 + of_d1 / r0, -of_d1 / r0, 0.0];
    }
    let r1 = (lambdas[1] - lambdas[2]) / h;
    // Of d₀ and d₁.
    let share = r0 / (r0 + r1);
    let curved = twice * of_d2 / (r0 + r1);
    let (of_first, of_second) = (of_d1 * (1.0 + share) + curved, -of_d1 * share - curved);
    [of_d0 + of_first / r0, of_second / r1 - of_first / r0, -of_second / r1]
}
