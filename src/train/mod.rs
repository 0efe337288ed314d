//! Training: Algorithm 1 of Ho et al. 2020, and what surrounds it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`], [`preset`], [`fields`] | all that decides what a run computes, and its meaning |
//! | [`trainer`] | Algorithm 1, one step for each call |
//! | [`goal`], [`timesteps`] | the loss, the variance, what each time counts, and which are looked at |
//! | [`objective`] | what the network is shown, and what it is to say |
//! | [`step`] | the one training step: gradient, clipping, AdamW, average |
//! | [`gradient`] | the loss of a batch and its gradient, microbatch by microbatch |
//! | [`metrics`] | `metrics.jsonl`, one line for each step |
//! | [`classifier`] | the training of a classifier |
//! | [`clip`], [`adamw`], [`ema`], [`learning_rate`] | what is done with a gradient |
//! | [`power_ema`] | averages whose width is chosen after training |

pub mod adamw;
pub mod classifier;
pub mod clip;
pub mod config;
pub mod ema;
pub mod fields;
pub mod goal;
pub mod gradient;
pub mod learning_rate;
pub mod metrics;
pub mod objective;
pub mod power_ema;
pub mod preset;
pub mod step;
pub mod timesteps;
pub mod trainer;

pub use classifier::{ClassifierRecipe, ClassifierTrainer};
pub use config::Config;
pub use goal::ObjectiveConfig;
pub use objective::Batch;
pub use preset::Preset;
pub use step::{Descent, State, StepReport};
pub use trainer::Trainer;
