//! Training: Algorithm 1 of Ho et al. 2020, and what surrounds it.

pub mod adamw;
pub mod clip;
pub mod ema;
pub mod gradient;
pub mod learning_rate;
