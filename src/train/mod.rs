//! Training: Algorithm 1 of Ho et al. 2020, and what surrounds it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`], [`preset`] | all that decides what a run computes |
//! | [`trainer`] | Algorithm 1, one step a call |
//! | [`gradient`] | the loss of a batch and its gradient, microbatch by microbatch |
//! | [`evaluation`] | errors of the predicted noise on images never trained on |
//! | [`metrics`] | `metrics.jsonl`, a line a step |
//! | [`clip`], [`adamw`], [`ema`], [`learning_rate`] | what is done with a gradient |

pub mod adamw;
pub mod clip;
pub mod config;
pub mod ema;
pub mod evaluation;
pub mod gradient;
pub mod learning_rate;
pub mod metrics;
pub mod preset;
pub mod trainer;

pub use config::Config;
pub use preset::Preset;
pub use trainer::{State, Trainer};
