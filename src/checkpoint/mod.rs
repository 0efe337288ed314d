//! Files that hold a model: weights, configurations, the state of a run.

pub mod scheduler;
pub mod weights;
