//! DPM-Solver in groups of one, two or three evaluations (Lu et al. 2022, DPM-Solver, Algorithms 1 and 2 of its § 3.2).
//!
//! A group starts anew from its first x, sees it, and takes steps of order 1, 2 and 3 from there, each to a level further down:
//! with m₂ seen at its start, m₁ and m₀ after, h from the start to where the step leads, r₁ and r₀ the shares of h at which m₁
//! and m₀ were seen,
//!
//! ```text
//! order 2   D₁ = (m₀−m₁)/r₀                                 (m₁ is then the start's)
//! order 3   d₁ = (m₁−m₂)/r₁, d₀ = (m₀−m₂)/r₀,   D₁ = (r₀·d₁−r₁·d₀)/(r₀−r₁),   D₂ = 2·(d₀−d₁)/(r₀−r₁)
//! ```
//!
//! "midpoint" takes d₀ for D₁ and nothing for D₂ in the third order.

use ndarray::Array4;

use super::{Update, check, integrated};
use crate::Result;
use crate::numerics::Real;
use crate::sample::{SamplerOptions, Solver, Step, Term, Transition, Walk};

/// Walks down the chain.
///
/// # Shapes
/// x (n, h, w, c) at the first level of the chain, to the images at its last.
///
/// # Errors
/// Whatever the walk refuses; an algorithm of noise whose chain ends at the clean image; levels that repeat.
pub fn singlestep<F: Real>(
    chain: &[Transition],
    mut x: Array4<F>,
    options: &SamplerOptions,
    walk: &mut dyn Walk<F>,
) -> Result<Array4<F>> {
    check(chain, options)?;
    let ends_clean = chain.last().is_some_and(|last| last.to.is_clean());
    let orders = orders(chain.len(), options, ends_clean);
    let mut group: Vec<(Transition, Array4<F>)> = Vec::new();
    let mut start = x.clone();
    for (&transition, order) in chain.iter().zip(orders) {
        let estimate = walk.see(&x, transition.from)?;
        if order == 1 {
            group.clear();
            start = x;
        }
        let (name, value) = integrated(options.algorithm, &estimate);
        group.push((transition, value.clone()));
        let whole = Transition { from: group[0].0.from, to: transition.to };
        let update = if order == 3 { Update::exact(options, whole) } else { Update::new(options, whole) };
        let h = whole.to.lambda() - whole.from.lambda();
        let share = |k: usize| (group[k].0.from.lambda() - whole.from.lambda()) / h;
        let [of_d0, of_d1, of_d2] = update.derivatives;
        // From the group's first to its last.
        let weights = match order {
            1 => vec![of_d0],
            2 => vec![of_d0 - of_d1 / share(1), of_d1 / share(1)],
            _ => {
                let (r1, r0) = (share(1), share(2));
                let (of_first, of_second) = match options.solver {
                    Solver::Heun => ((of_d1 * r0 - 2.0 * of_d2) / (r0 - r1), (2.0 * of_d2 - of_d1 * r1) / (r0 - r1)),
                    _ => (0.0, of_d1),
                };
                vec![of_d0 - of_first / r1 - of_second / r0, of_first / r1, of_second / r0]
            }
        };
        let names = [name, "the same 1 after", "the same 2 after"];
        let mut terms = vec![Term::new("x_t", update.x, &start)];
        for ((name, weight), (_, value)) in names.into_iter().zip(weights).zip(&group) {
            terms.push(Term::new(name, weight, value));
        }
        let z = options.algorithm.is_stochastic().then(|| walk.noise(transition.from));
        terms.extend(z.as_ref().map(|z| Term::new("z", update.z, z)));
        x = walk.step(Step { transition, x_t: &start, estimate: &estimate, terms: &terms })?;
    }
    Ok(x)
}

/// The order of each step: groups of 1, 2, …, `options.order`, with a shorter group or a step of order 1 at the end, where a
/// step is long in λ and where groups do not fill the chain.
fn orders(steps: usize, options: &SamplerOptions, ends_clean: bool) -> Vec<usize> {
    let lower = options.lower_order_final || ends_clean || !steps.is_multiple_of(options.order);
    let mut orders: Vec<usize> = match (options.order, lower) {
        (3, true) if steps.is_multiple_of(3) => {
            let whole = (0..steps.saturating_sub(3)).map(|i| i % 3 + 1);
            whole.chain([1, 2, 1]).collect()
        }
        (2, true) if steps.is_multiple_of(2) => (0..steps.saturating_sub(2)).map(|i| i % 2 + 1).chain([1, 1]).collect(),
        (order, _) => (0..steps).map(|i| i % order + 1).collect(),
    };
    if let Some(last) = orders.last_mut().filter(|_| ends_clean) {
        *last = 1;
    }
    orders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_fill_the_chain_and_end_low() {
        let orders = |steps, order| orders(steps, &SamplerOptions { order, ..SamplerOptions::default() }, true);
        assert_eq!(orders(9, 3), [1, 2, 3, 1, 2, 3, 1, 2, 1]);
        assert_eq!(orders(7, 3), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(orders(8, 3), [1, 2, 3, 1, 2, 3, 1, 1]);
        assert_eq!((orders(6, 2), orders(5, 2)), (vec![1, 2, 1, 2, 1, 1], vec![1, 2, 1, 2, 1]));
        assert_eq!((orders(3, 1), orders(1, 3)), (vec![1; 3], vec![1]));
    }
}
