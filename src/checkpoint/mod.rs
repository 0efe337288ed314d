//! Files that hold a model: weights, configurations, whole pipelines, the state of a run.

pub mod classifier;
mod folder;
mod lfs;
pub mod pipeline;
mod python_json;
pub mod resume;
pub mod scheduler;
mod weight_files;
pub mod weights;
mod widen;
