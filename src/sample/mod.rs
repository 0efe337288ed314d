//! The reverse process, from noise to a picture.
//!
//! | module | what it holds |
//! |---|---|
//! | [`draw`](draw()) | Algorithm 2: pictures of a seed, whatever the sampler, the batch and the threads |
//! | [`edit`] | pictures that start from pictures: inversion, interpolation, image to image, inpainting |
//! | [`timesteps`](timesteps()) | which of the T times a shorter chain visits |
//! | [`chain`](chain()), [`spread`](spread()) | the transitions between their levels; levels spread in sigma |
//! | [`Sampler`] | the list of samplers: one function in one file each, from [`ddpm`] to [`unipc`] |
//! | [`SamplerOptions`] | what they are told beside |
//! | [`Walk`] | what a sampler is handed: sight, noise, and who looks on |
//! | [`Term`] | a step as data: weights times tensors |
//! | [`Conventions`], [`DIALECTS`] | where implementations differ, and who answers how |
//!
//! What an image becomes depends on its own noise alone, whatever the batch.

mod chain;
mod conventions;
pub mod ddim;
pub mod ddpm;
pub mod deis;
mod dialects;
pub mod dpm;
mod draw;
pub mod edit;
pub mod euler;
pub mod euler_ancestral;
pub mod heun;
pub mod lms;
mod options;
pub mod pndm;
mod samplers;
mod term;
mod timesteps;
pub mod unipc;
mod walk;

pub use chain::{chain, spread, spread_last};
pub use conventions::{Conventions, FirstNoise, Lists, Next, Slopes, ThirdOrder};
pub use dialects::{Answer, DIALECTS, Dialect, Question, questions};
pub use draw::{Moment, Settings, Shown, draw};
pub use options::{Algorithm, Choice, FinalSigma, SamplerOptions, Sigmas, Solver};
pub use samplers::{Entry, Sampler};
pub use term::{Term, weighted_sum};
pub use timesteps::{Spacing, timesteps};
pub use walk::{Step, Transition, Walk};

#[cfg(test)]
mod known_images;
#[cfg(test)]
mod tests;
