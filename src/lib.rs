//! Denoising diffusion models for CPUs, with every gradient by hand and the same bits everywhere.
//!
//! The modules in the order in which data flows:
//!
//! | module | stage |
//! |---|---|
//! | [`numerics`] | what a floating-point operation means here: products, sums, elementary functions, randomness |

#![deny(missing_docs)]

pub mod checkpoint;
pub mod error;
pub mod layers;
pub mod models;
pub mod numerics;
pub mod train;

pub use error::{Error, Result};
