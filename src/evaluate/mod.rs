//! How good a model is, on images that it never learned from.
//!
//! | module | what it measures |
//! |---|---|
//! | [`bits`] | the variational bound in bits per dimension, term by term |
//! | [`convergence`] | how fast samplers come to the solution of their equation, on images that are known exactly |
//! | [`exact`] | the density by the probability-flow ODE, in the same bits |
//! | [`noise`] | MSE, RMSE, MAE and R² of the predicted noise, by timestep |
//! | [`quality`] | whether pictures are read as asked, are like real ones, and are not copies |
//! | [`classification`] | how many images a classifier reads rightly |

pub mod bits;
pub mod classification;
pub mod convergence;
pub mod exact;
pub mod noise;
pub mod quality;
mod shared;

pub use bits::{Bits, BitsSettings, Mean, bits_per_dim};
pub use exact::{ExactBits, exact_bits};
pub use noise::{Errors, Evaluation, evaluate};
