//! What samplers may be told beside their chain, in diffusers' words.

use serde::{Deserialize, Serialize};

use super::Conventions;
use crate::diffusion::Variance;
use crate::{Error, Result};

/// What samplers may be told beside their chain; each takes those that its entry in the list names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerOptions {
    /// η, the share of the noise that is drawn anew, in [0, 1].
    pub eta: f64,
    /// σ² of an ancestral step.
    pub variance: Variance,
    /// Whether ᾱ after the last step is 1, a clean image, or ᾱ₁, one step short of it. In the second case x̂₀ is not reached,
    /// and σ at the last step is what the formula says.
    pub set_alpha_to_one: bool,
    /// Which integral of DPM-Solver is solved.
    pub algorithm: Algorithm,
    /// The order of a multistep or singlestep method, 1 to 3.
    pub order: usize,
    /// How a step of second or third order is put together.
    pub solver: Solver,
    /// Whether the last steps of a short chain are of lower order: they are long in λ.
    pub lower_order_final: bool,
    /// Whether the last step is of first order in any chain.
    pub euler_at_final: bool,
    /// Whether UniPC integrates x̂₀ rather than ε̂.
    pub predict_x_0: bool,
    /// Whether the first three steps of PNDM are Runge and Kutta's, of four evaluations each.
    pub runge_kutta: bool,
    /// How the levels are spread.
    pub sigmas: Sigmas,
    /// Where the chain ends.
    pub final_sigma: FinalSigma,
    /// The least λ that is visited; −∞ for all. A cosine schedule has −7 near T, where the model is of no use.
    pub lambda_min: f64,
    /// Where implementations differ.
    pub conventions: Conventions,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        SamplerOptions {
            eta: 0.0,
            variance: Variance::FixedSmall,
            set_alpha_to_one: true,
            algorithm: Algorithm::DpmSolverPlusPlus,
            order: 2,
            solver: Solver::Midpoint,
            lower_order_final: true,
            euler_at_final: false,
            predict_x_0: true,
            runge_kutta: true,
            sigmas: Sigmas::OfTimes,
            final_sigma: FinalSigma::Zero,
            lambda_min: f64::NEG_INFINITY,
            conventions: Conventions::ANCESTRAL,
        }
    }
}

impl SamplerOptions {
    /// Refuses values with which no step is possible.
    ///
    /// # Errors
    /// η that is not in [0, 1], an order that is not 1, 2 or 3.
    pub fn validate(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.eta) {
            return Err(Error::value("eta", "0 to 1", self.eta));
        }
        if !(1..=3).contains(&self.order) {
            return Err(Error::value("solver_order", "1, 2 or 3", self.order));
        }
        Ok(())
    }
}

/// Which integral DPM-Solver solves, under the names that `diffusers` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// That of ε̂ (Lu et al. 2022, DPM-Solver, Eq. 3.4).
    #[serde(rename = "dpmsolver")]
    DpmSolver,
    /// That of x̂₀ (Lu et al. 2022, DPM-Solver++, Eq. 8).
    #[serde(rename = "dpmsolver++")]
    DpmSolverPlusPlus,
    /// That of ε̂ in the stochastic equation.
    #[serde(rename = "sde-dpmsolver")]
    SdeDpmSolver,
    /// That of x̂₀ in the stochastic equation (Lu et al. 2022, DPM-Solver++).
    #[serde(rename = "sde-dpmsolver++")]
    SdeDpmSolverPlusPlus,
}

impl Algorithm {
    /// Whether it integrates the noise; such a step cannot reach the clean image, where λ is infinite.
    pub fn of_noise(self) -> bool {
        matches!(self, Algorithm::DpmSolver | Algorithm::SdeDpmSolver)
    }

    /// Whether noise is drawn at each step.
    pub fn is_stochastic(self) -> bool {
        matches!(self, Algorithm::SdeDpmSolver | Algorithm::SdeDpmSolverPlusPlus)
    }
}

/// How a step is put together from derivatives, under the names that `diffusers` gives them. A sampler that does not know the
/// word takes its first of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Solver {
    /// The derivative is taken as half of the step's (DPM-Solver).
    Midpoint,
    /// The derivative is integrated exactly (DPM-Solver).
    Heun,
    /// B(h) = h (UniPC).
    Bh1,
    /// B(h) = e^h − 1 (UniPC).
    Bh2,
    /// Polynomials in ln ρ (DEIS).
    LogRho,
}

/// How levels are spread between the noisiest and the least noisy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sigmas {
    /// Those of the timesteps.
    OfTimes,
    /// Even in σ^(1/7) (Karras et al. 2022, Eq. 5).
    Karras,
    /// Even in ln σ.
    Exponential,
    /// At the quantiles of a beta distribution, more at both ends than between (Lee et al. 2024).
    Beta,
    /// Even in λ, which is even in ln σ, too: the last level is σ_min in both (Lu et al. 2022, DPM-Solver, § 3.3).
    Lambdas,
}

/// Where a chain of sigmas ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigma {
    /// At the clean image.
    Zero,
    /// At the σ of t = 1.
    SigmaMin,
}

/// An option that some samplers take, by the field of [`SamplerOptions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// `eta`.
    Eta,
    /// `variance`.
    Variance,
    /// `set_alpha_to_one`.
    SetAlphaToOne,
    /// `algorithm`.
    Algorithm,
    /// `order`.
    Order,
    /// `solver`.
    Solver,
    /// `runge_kutta`.
    RungeKutta,
    /// `sigmas`.
    Sigmas,
    /// `final_sigma`.
    FinalSigma,
}
