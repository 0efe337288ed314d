//! How good a model is, on images that it never learned from.
//!
//! | module | what it measures |
//! |---|---|
//! | [`noise`] | MSE, RMSE, MAE and R² of the predicted noise, by timestep |
//! | [`quality`] | whether pictures are read as asked, are like real ones, and are not copies |
//! | [`classification`] | how many images a classifier reads rightly |

pub mod classification;
pub mod noise;
pub mod quality;

pub use noise::{Errors, Evaluation, evaluate};
