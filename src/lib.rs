//! Denoising diffusion models for CPUs, with every gradient by hand and the same bits everywhere.
//!
//! The modules in the order in which data flows:
//!
//! | module | stage |
//! |---|---|
//! | [`numerics`] | what a floating-point operation means here: products, sums, elementary functions, randomness |
//! | [`data`] | images in: MNIST, CIFAR-10, a folder of pictures, synthetic shapes; scaled to [−1, 1], and their order |
//! | [`diffusion`] | the noise schedule, q(x_t \| x₀), its posterior, what a network predicts, the loss |
//! | [`layers`] | one file a layer: derivation, forward, backward, its checks |
//! | [`models`] | denoisers: the U-Net |
//! | [`train`] | Algorithm 1: the loss, its gradient, the optimizer, evaluation |
//! | [`sample`] | Algorithm 2: which steps a chain visits, and one reverse step of each sampler |
//! | [`checkpoint`] | models in diffusers' folders, weights, the state of a run |
//! | [`golden`] | values that other implementations are tested with |
//! | [`selftest`] | known answers, from one multiplication to a picture: whether this machine holds the contract |
//! | [`report`] | what people look at: image grids, animations, plots, tables, progress |

#![deny(missing_docs)]
#![deny(unsafe_code)] // allowed kernel by kernel, with the proof beside it

pub mod atomic;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod denoise;
pub mod diffusion;
pub mod digest;
pub mod error;
pub mod evaluate;
pub mod golden;
pub mod layers;
pub mod models;
pub mod numerics;
pub mod pipeline;
pub mod report;
pub mod sample;
pub mod selftest;
pub mod train;

pub use error::{Error, Result};
