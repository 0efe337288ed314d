//! DPM-Solver and DPM-Solver++ (Lu et al. 2022): the linear part exactly, the rest by a polynomial in λ.
//!
//! In λ = ln(signal/sigma) the probability-flow equation solves to (DPM-Solver, Eq. 3.4; DPM-Solver++, Eq. 8), with a for signal
//! and b for sigma,
//!
//! ```text
//! x_s = a_s/a_t·x_t − a_s·∫ e^(−λ)·ε̂(λ) dλ         from λ_t to λ_s
//! x_s = b_s/b_t·x_t + b_s·∫ e^λ·x̂₀(λ) dλ
//! ```
//!
//! The integrand is replaced by its Taylor polynomial at t, m + m′·(λ−λ_t) + ½·m″·(λ−λ_t)². With h = λ_s − λ_t and the
//! derivatives as D₀ = m, D₁ = h·m′, D₂ = h²·m″, the integrals of e^(∓λ) against 1, λ and λ² give one step for each
//! algorithm, of which `Update` holds the weights:
//!
//! | | x_t | D₀ | D₁ | D₂ | z |
//! |---|---|---|---|---|---|
//! | dpmsolver | a_s/a_t | −b_s·(e^h−1) | −b_s·((e^h−1)/h − 1) | −b_s·((e^h−1−h)/h² − ½) | |
//! | dpmsolver++ | b_s/b_t | −a_s·(e^−h−1) | a_s·((e^−h−1)/h + 1) | −a_s·((e^−h−1+h)/h² − ½) | |
//! | sde-dpmsolver | a_s/a_t | −2·b_s·(e^h−1) | −2·b_s·((e^h−1)/h − 1) | | b_s·√(e^2h−1) |
//! | sde-dpmsolver++ | b_s/b_t·e^−h | a_s·(1−e^−2h) | a_s·((1−e^−2h)/(−2h) + 1) | a_s·((1−e^−2h−2h)/(2h)² + ½) | b_s·√(1−e^−2h) |
//!
//! "midpoint" takes for D₁'s weight half of D₀'s, which differs by O(h²) of it. Published programs have slips in the third
//! order of multistep methods, with which the order is 2: half of D₂, and diffusers − ½ in the last column's last row, too
//! ([`ThirdOrder`]). At the clean image λ is infinite: e^−h = 0, and x = x̂₀.

mod multistep;
mod singlestep;

pub use multistep::multistep;
pub use singlestep::singlestep;

use super::{Algorithm, SamplerOptions, Solver, ThirdOrder, Transition};
use crate::denoise::Estimate;
use crate::numerics::{Real, elementary::expm1};
use crate::{Error, Result};
use ndarray::Array4;

/// The weights of one step.
struct Update {
    /// Of x at the start of the step.
    x: f64,
    /// Of D₀, D₁ and D₂.
    derivatives: [f64; 3],
    /// Of fresh noise.
    z: f64,
}

impl Update {
    /// The weights of a step by these options.
    fn new(options: &SamplerOptions, Transition { from, to }: Transition) -> Self {
        let (a, b) = (to.signal(), to.sigma());
        let h = to.lambda() - from.lambda();
        // e^h − 1 and e^−h − 1: without expm1 the digits of a short step are lost.
        let (up, down) = (expm1(h), expm1(-h));
        let midpoint = options.solver != Solver::Heun;
        let (noise, data) = (a / from.signal(), b / from.sigma());
        match options.algorithm {
            Algorithm::DpmSolver => {
                let first = -b * up;
                let second = if midpoint { 0.5 * first } else { -b * (up / h - 1.0) };
                Update { x: noise, derivatives: [first, second, -b * ((up - h) / (h * h) - 0.5)], z: 0.0 }
            }
            Algorithm::DpmSolverPlusPlus => {
                let first = -a * down;
                let second = if midpoint { 0.5 * first } else { a * (down / h + 1.0) };
                Update { x: data, derivatives: [first, second, -a * ((down + h) / (h * h) - 0.5)], z: 0.0 }
            }
            Algorithm::SdeDpmSolver => {
                let first = -2.0 * b * up;
                let second = if midpoint { 0.5 * first } else { -2.0 * b * (up / h - 1.0) };
                Update { x: noise, derivatives: [first, second, 0.0], z: b * root(expm1(2.0 * h)) }
            }
            Algorithm::SdeDpmSolverPlusPlus => {
                let (twice, double) = (-expm1(-2.0 * h), 2.0 * h);
                let first = a * twice;
                let second = if midpoint { 0.5 * first } else { a * (1.0 - twice / double) };
                let half = if options.conventions.third_order == ThirdOrder::HalfAndSign { -0.5 } else { 0.5 };
                let third = a * ((twice - double) / (double * double) + half);
                Update { x: data * (down + 1.0), derivatives: [first, second, third], z: b * root(twice) }
            }
        }
    }

    /// The same where D₁ is integrated exactly, as in a step of third order.
    fn exact(options: &SamplerOptions, transition: Transition) -> Self {
        Update::new(&SamplerOptions { solver: Solver::Heun, ..*options }, transition)
    }
}

/// √x, and 0 for what rounding makes negative: a last step that stands still is one of length −1e−16.
fn root(x: f64) -> f64 {
    if x > 0.0 { x.sqrt() } else { 0.0 }
}

/// What the algorithm integrates.
fn integrated<F: Real>(algorithm: Algorithm, estimate: &Estimate<F>) -> (&'static str, &Array4<F>) {
    match algorithm.of_noise() {
        true => ("eps_hat", &estimate.eps_hat),
        false => ("x_0_hat", &estimate.x_0_hat),
    }
}

/// Refuses what has no step.
fn check(chain: &[Transition], options: &SamplerOptions) -> Result<()> {
    let ends_clean = chain.last().is_some_and(|last| last.to.is_clean());
    if options.algorithm.of_noise() && ends_clean {
        let expected =
            "\"sigma_min\" with an algorithm that integrates the noise: lambda is infinite at the clean image";
        return Err(Error::value("final_sigmas_type", expected, "\"zero\""));
    }
    if options.algorithm == Algorithm::SdeDpmSolver && options.order == 3 {
        return Err(Error::value("solver_order", "1 or 2 with sde-dpmsolver", 3));
    }
    // The last step alone may stand still.
    let before_last = &chain[..chain.len().saturating_sub(1)];
    if let Some(stands) = before_last.iter().find(|step| step.from.ratio() <= step.to.ratio()) {
        let expected = "levels that descend: a step of length 0 has no derivative";
        return Err(Error::value("timesteps", expected, format!("{} twice", stands.from.time)));
    }
    Ok(())
}
