//! Pseudo numerical methods (Liu et al. 2022, PNDM): a classical method's slopes, and DDIM's step with them.
//!
//! A linear method would add a multiple of a slope to x and leave the manifold on which the images of a level lie. The
//! transfer φ (their Eq. 9 with x_t on the other side) does not: it is DDIM's step with any ε put in,
//!
//! ```text
//! φ(x_t, ε, t, s) = √(ᾱ_s/ᾱ_t)·x_t − (ᾱ_s − ᾱ_t)/(ᾱ_t·√(1−ᾱ_s) + √(ᾱ_t·(1−ᾱ_t)·ᾱ_s))·ε
//! ```
//!
//! and the slopes are combined as in the classical methods (Algorithm 2: PRK and PLMS): Runge and Kutta's for the first three
//! steps, with two evaluations half-way,
//!
//! ```text
//! ε = (ε₁ + 2·ε₂ + 2·ε₃ + ε₄)/6
//! ```
//!
//! and then Adams and Bashforth's, ε = (55·ε_t − 59·ε_{t+δ} + 37·ε_{t+2δ} − 9·ε_{t+3δ})/24. Without Runge and
//! Kutta ("PLMS") the first step is taken twice, the second time with the mean of both slopes, and the next two by the shorter
//! formulas.
//!
//! The chain has a transition for each evaluation.
//!
//! Published programs combine v̂ where the network predicts it ([`Slopes`]), and make ε̂ of the sum at the step's start,
//! ε = √ᾱ_t·v + √(1−ᾱ_t)·x_t: the evaluations are then taken as if they were all at that level.

use std::collections::VecDeque;

use ndarray::Array4;

use super::{SamplerOptions, Slopes, Step, Term, Transition, Walk};
use crate::Result;
use crate::denoise::Estimate;
use crate::diffusion::{Level, Prediction};
use crate::layers::{flat, shaped};
use crate::numerics::Real;

/// Adams and Bashforth's weights of the last slopes, the newest first, by how many there are.
const WEIGHTS: [&[f64]; 4] = [
    &[1.0],
    &[1.5, -0.5],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

const NAMES: [&str; 4] = ["eps_hat", "eps_hat 1 before", "eps_hat 2 before", "eps_hat 3 before"];

/// Walks down a chain of variance-preserving levels.
///
/// # Shapes
/// x (n, h, w, c) at the first level of the chain, to the images at its last.
///
/// # Errors
/// Whatever the walk refuses.
pub fn pndm<F: Real>(
    chain: &[Transition],
    mut x: Array4<F>,
    options: &SamplerOptions,
    walk: &mut dyn Walk<F>,
) -> Result<Array4<F>> {
    // The newest first.
    let mut slopes: VecDeque<Array4<F>> = VecDeque::new();
    let mut rest = chain;
    if options.runge_kutta {
        for step in chain.chunks_exact(4).take(3) {
            x = runge_kutta(step, x, options, walk, &mut slopes)?;
            rest = &rest[4..];
        }
    } else if let [first, again, others @ ..] = chain {
        let (estimate, slope) = see(&x, first.from, options, walk)?;
        let trial = walk.step(step(*first, first.from, &x, &estimate, options, &[(1.0, &slope)]).as_step())?;
        slopes.push_front(slope);
        let (estimate, slope) = see(&trial, again.from, options, walk)?;
        let both = [(0.5, &slope), (0.5, &slopes[0])];
        x = walk.step(step(*again, again.from, &x, &estimate, options, &both).as_step())?;
        rest = others;
    }
    for &transition in rest {
        let (estimate, slope) = see(&x, transition.from, options, walk)?;
        slopes.truncate(3);
        slopes.push_front(slope);
        let combined: Vec<_> = WEIGHTS[slopes.len() - 1].iter().copied().zip(&slopes).collect();
        x = walk.step(step(transition, transition.from, &x, &estimate, options, &combined).as_step())?;
    }
    Ok(x)
}

/// What is seen, and what of it is combined.
fn see<F: Real>(
    x: &Array4<F>,
    level: Level,
    options: &SamplerOptions,
    walk: &mut dyn Walk<F>,
) -> Result<(Estimate<F>, Array4<F>)> {
    let estimate = walk.see(x, level)?;
    let slope = match combines_v(options, &estimate) {
        true => {
            let v_hat = Prediction::V.target(level.marginal(), flat(&estimate.x_0_hat), flat(&estimate.eps_hat));
            shaped(x.dim(), v_hat)
        }
        false => estimate.eps_hat.clone(),
    };
    Ok((estimate, slope))
}

fn combines_v<F>(options: &SamplerOptions, estimate: &Estimate<F>) -> bool {
    options.conventions.pndm_slopes == Slopes::Outputs && estimate.prediction == Prediction::V
}

/// One step of Runge and Kutta's: four evaluations, each from the same x.
fn runge_kutta<F: Real>(
    chain: &[Transition],
    x: Array4<F>,
    options: &SamplerOptions,
    walk: &mut dyn Walk<F>,
    slopes: &mut VecDeque<Array4<F>>,
) -> Result<Array4<F>> {
    let start = chain[0].from;
    let mut stages: Vec<Array4<F>> = Vec::with_capacity(4);
    let mut state = x.clone();
    for &transition in chain {
        let (estimate, slope) = see(&state, transition.from, options, walk)?;
        stages.push(slope);
        let combined: Vec<_> = match &stages[..] {
            [one, two, three, four] => {
                [1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0].into_iter().zip([one, two, three, four]).collect()
            }
            some => vec![(1.0, &some[some.len() - 1])],
        };
        state = walk.step(step(transition, start, &x, &estimate, options, &combined).as_step())?;
    }
    slopes.push_front(stages.swap_remove(0));
    Ok(state)
}

/// A step and its terms.
struct Transfer<'a, F> {
    transition: Transition,
    x_t: &'a Array4<F>,
    estimate: &'a Estimate<F>,
    terms: Vec<Term<'a, F>>,
}

impl<F> Transfer<'_, F> {
    fn as_step(&self) -> Step<'_, F> {
        Step { transition: self.transition, x_t: self.x_t, estimate: self.estimate, terms: &self.terms }
    }
}

/// φ from the level `start` to where the transition leads, with the sum of these multiples of slopes.
fn step<'a, F: Real>(
    transition: Transition,
    start: Level,
    x_t: &'a Array4<F>,
    estimate: &'a Estimate<F>,
    options: &SamplerOptions,
    slopes: &[(f64, &'a Array4<F>)],
) -> Transfer<'a, F> {
    let (from, to) = (start.alpha_bar, transition.to.alpha_bar);
    let divisor = from * (1.0 - to).sqrt() + (from * (1.0 - from) * to).sqrt();
    let of_eps = -(to - from) / divisor;
    let (of_x, weight) = match combines_v(options, estimate) {
        true => ((to / from).sqrt() + of_eps * start.sigma(), of_eps * start.signal()),
        false => ((to / from).sqrt(), of_eps),
    };
    let mut terms = vec![Term::new("x_t", of_x, x_t)];
    terms.extend(NAMES.into_iter().zip(slopes).map(|(name, &(share, slope))| Term::new(name, weight * share, slope)));
    Transfer { transition, x_t, estimate, terms }
}
