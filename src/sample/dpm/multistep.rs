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
use crate::sample::{SamplerOptions, Step, Term, ThirdOrder, Transition, Walk};

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

        let third_order = options.conventions.third_order;
        let exact = order == 3 || order == 2 && options.order == 3 && third_order == ThirdOrder::Half;
        let update = if exact { Update::exact(options, transition) } else { Update::new(options, transition) };
        let lambdas: Vec<f64> = seen.iter().map(|(lambda, _)| *lambda).collect();
        let weights = weights(&update, order, h, &lambdas, third_order);
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

/// The weights of m₀, m₁ and m₂ of a step of length h in λ.
fn weights(update: &Update, order: usize, h: f64, lambdas: &[f64], third_order: ThirdOrder) -> [f64; 3] {
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
    let curved = third_order.of_d2() * of_d2 / (r0 + r1);
    let (of_first, of_second) = (of_d1 * (1.0 + share) + curved, -of_d1 * share - curved);
    [of_d0 + of_first / r0, of_second / r1 - of_first / r0, -of_second / r1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoise::{Estimate, Output, Sight};
    use crate::diffusion::{Form, Level, Prediction};
    use crate::sample::{Algorithm, Conventions};

    /// A walk in which the images that are seen are given, and the noise is none.
    struct Given(std::vec::IntoIter<Array4<f64>>);

    impl Walk<f64> for Given {
        fn see(&mut self, x: &Array4<f64>, level: Level) -> Result<Estimate<f64>> {
            let x_0_hat = self.0.next().expect("an image for each step");
            Ok(Sight::default().estimate(x, level, &Output::new(Prediction::Sample, x_0_hat)))
        }

        fn noise(&mut self, _: Level) -> Array4<f64> {
            Array4::zeros((1, 2, 2, 1))
        }
    }

    /// What the x that three steps end with, short of the image, has of the first x and of the three images that are seen.
    fn shares(conventions: Conventions, algorithm: Algorithm, order: usize) -> Vec<f64> {
        let unit = |i: usize| Array4::from_shape_fn((1, 2, 2, 1), |(_, h, w, _)| f64::from(2 * h + w == i));
        let levels = [7.0, 4.2, 2.9, 1.7].map(|sigma| Level::new(Form::VarianceExploding, 0.0, 1.0, sigma));
        let chain: Vec<Transition> = levels.windows(2).map(|pair| Transition { from: pair[0], to: pair[1] }).collect();
        let options = SamplerOptions { conventions, algorithm, order, ..SamplerOptions::default() };
        let mut walk = Given([1, 2, 3].map(unit).to_vec().into_iter());
        multistep(&chain, unit(0), &options, &mut walk).unwrap().into_iter().collect()
    }

    fn assert_shares(found: &[f64], expected: [f64; 4]) {
        // Three steps of a few sums in f64 by either program.
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-14), "{found:?}, not {expected:?}");
    }

    #[test]
    fn third_order_of_k_diffusion_is_its_sample_dpmpp_3m_sde() {
        // That function of k-diffusion 0.1.1.post1 on these sigmas, in float64, with eta = 0 and 1 and without noise.
        let of = |algorithm| shares(Conventions::K_DIFFUSION, algorithm, 3);
        let ode = [0.24285714285714285, 0.2406619992306656, -0.427023798502713, 0.9435046564149044];
        assert_shares(&of(Algorithm::DpmSolverPlusPlus), ode);
        let sde = [0.0589795918367347, 0.2892400179263889, -0.9157230513768746, 1.5675034416137508];
        assert_shares(&of(Algorithm::SdeDpmSolverPlusPlus), sde);
    }

    #[test]
    fn short_chains_of_k_diffusion_and_lucidrains_keep_their_order_to_the_end() {
        // sample_dpmpp_2m of k-diffusion 0.1.1.post1 and sample_using_dpmpp of denoising-diffusion-pytorch 2.3.4 on these sigmas.
        let kept = [0.24285714285714288, 0.09612647490218987, -0.05112349456687296, 0.7121398768075402];
        for conventions in [Conventions::K_DIFFUSION, Conventions::LUCIDRAINS] {
            assert_shares(&shares(conventions, Algorithm::DpmSolverPlusPlus, 2), kept);
        }
        let ours = shares(Conventions::ANCESTRAL, Algorithm::DpmSolverPlusPlus, 2);
        // A last step of first order has x̂₀ of the last level alone: 1 − 1.7/2.9 of it.
        assert!((ours[3] - (1.0 - 1.7 / 2.9)).abs() < 1e-14, "{ours:?}");
    }
}
