//! Denoising diffusion models for CPUs, with every gradient by hand and the same bits everywhere.
//!
//! The modules in the order in which data flows:
//!
//! | module | stage |
//! |---|---|
//! | [`numerics`] | what a floating-point operation means here: products, sums, elementary functions, randomness |
//! | [`data`] | images in: MNIST, CIFAR-10, a folder of pictures, arrays, synthetic shapes; scaled to [−1, 1], and their order |
//! | [`diffusion`] | the noise schedule and its levels, q(x_t \| x₀), its posterior, what a network predicts, the loss, the likelihood |
//! | [`layers`] | one file for each layer: derivation, forward, backward, its checks |
//! | [`models`] | networks: the U-Net; the transformer DiT, which the command does not know yet; a classifier |
//! | [`denoise`] | what is seen in noise: a network as a denoiser, guidance around it |
//! | [`train`] | Algorithm 1: the loss, its gradient, the optimizer |
//! | [`cluster`] | a step, or the images of a measurement, shared out among processes: the same bits |
//! | [`sample`] | Algorithm 2: the list of samplers, which steps a chain visits, steps as sums of named terms |
//! | [`pipeline`] | a model as a whole: network, weights, scheduler |
//! | [`evaluate`] | how good a model is on images that it never learned from, and how good its pictures are |
//! | [`checkpoint`] | models in diffusers' folders, weights, the state of a run |
//! | [`golden`] | values that other implementations are tested with |
//! | [`selftest`] | known answers, from one multiplication to a picture: whether this machine holds the contract |
//! | [`report`] | what people look at: image grids, animations, plots, tables |
//! | `lesson` | the mathematics step by step, on one page made from a real run (feature `lesson`) |
//!
//! # Notation
//!
//! | here | in the papers |
//! |---|---|
//! | `beta`, `alpha`, `alpha_bar`, `beta_tilde` | β_t, α_t = 1 − β_t, ᾱ_t = ∏ α_s, β̃_t (Ho et al. 2020, Eq. 4 and Eq. 7) |
//! | `x_0`, `x_t`, `eps` | the image, the image at time t, the noise in it |
//! | `x_0_hat`, `eps_hat` | x̂₀, ε̂: what the network makes of x_t |
//! | `t` | 1..=T; the network is fed t − 1 |
//!
//! The arrays of the library are those of [`ndarray`], which is exported again under that name.

#![deny(missing_docs)]
#![deny(unsafe_code)] // allowed kernel by kernel, with the proof beside it

pub mod atomic;
pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod cluster;
pub mod data;
pub mod denoise;
pub mod diffusion;
pub mod digest;
pub mod error;
pub mod evaluate;
pub mod explain;
pub mod golden;
pub mod layers;
#[cfg(feature = "lesson")]
pub mod lesson;
pub mod models;
pub mod npy;
pub mod numerics;
pub mod pipeline;
pub mod report;
pub mod sample;
pub mod selftest;
pub mod trace;
pub mod train;

pub use error::{Error, Result};
pub use ndarray;
