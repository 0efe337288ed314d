//! How good a model is, on images that it never learned from.
//!
//! | module | what it measures |
//! |---|---|
//! | [`bits`] | the variational bound in bits per dimension, term by term |
//! | [`noise`] | MSE, RMSE, MAE and R² of the predicted noise, by timestep |

pub mod bits;
pub mod noise;

pub use bits::{Bits, BitsSettings, Mean, bits_per_dim};
pub use noise::{Errors, Evaluation, evaluate};
