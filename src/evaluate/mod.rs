//! How good a model is, on images that it never learned from.
//!
//! | module | what it measures |
//! |---|---|
//! | [`noise`] | MSE, RMSE, MAE and R² of the predicted noise, by timestep |

pub mod noise;

pub use noise::{Errors, Evaluation, evaluate};
