//! The mathematics of diffusion, without a network: q adds noise, p takes it away.
//!
//! Time is the papers': t = 1..=T, t = 0 being the clean image and ᾱ₀ = 1. Tables are f64; a factor computed from them
//! is rounded once where it meets f32.
//!
//! | file | equation | source |
//! |---|---|---|
//! | [`schedule`] | β_t, α_t = 1 − β_t, ᾱ_t = ∏ α_s | Ho et al. 2020, § 2 |
//! | [`level`] | x = signal·x₀ + sigma·ε | a place on the noise axis |
//! | [`forward`] | q(x_t \| x₀) = N(√ᾱ_t·x₀, (1−ᾱ_t)·I) | Ho et al. 2020, Eq. 4 |
//! | [`prediction`] | ε̂ ↔ x̂₀ ↔ v̂ | Ho et al. 2020, Eq. 9; Salimans and Ho 2022, § 4 |
//! | [`posterior`] | q(x_{t−1} \| x_t, x₀) = N(μ̃_t, β̃_t·I) | Ho et al. 2020, Eq. 6 and Eq. 7 |
//! | [`loss`] | L_simple = E ‖ε − ε̂‖² | Ho et al. 2020, Eq. 14 |

pub mod forward;
pub mod level;
pub mod loss;
pub mod posterior;
pub mod prediction;
pub mod schedule;

pub use forward::{Marginal, q_sample};
pub use level::{Form, Level};
pub use posterior::{Posterior, Variance};
pub use prediction::Prediction;
pub use schedule::{BetaSchedule, Process, Schedule};
