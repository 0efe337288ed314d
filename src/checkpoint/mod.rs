//! Files that hold a model: weights, configurations, whole pipelines, the state of a run.

pub mod pipeline;
pub mod resume;
pub mod scheduler;
pub mod weights;
