//! The reverse process, from noise to a picture.
//!
//! | module | what it holds |
//! |---|---|
//! | [`draw`](draw()) | Algorithm 2: pictures of a seed, whatever the sampler, the batch and the threads |
//! | [`timesteps`](timesteps()) | which of the T times a shorter chain visits |
//! | [`chain`](chain()) | the transitions between their levels |
//! | [`Sampler`] | the list of samplers: one function in one file each, [`ddpm`] and [`ddim`] |
//! | [`Walk`] | what a sampler is handed: sight, noise, and who looks on |
//! | [`Term`] | a step as data: weights times tensors |
//! | [`Conventions`] | where implementations differ |
//!
//! What an image becomes depends on its own noise alone, whatever the batch.

mod chain;
mod conventions;
pub mod ddim;
pub mod ddpm;
mod draw;
mod samplers;
mod term;
mod timesteps;
mod walk;

pub use chain::chain;
pub use conventions::{Conventions, Next};
pub use draw::{Moment, Settings, draw};
pub use samplers::{Choice, Entry, Sampler, SamplerOptions};
pub use term::{Term, weighted_sum};
pub use timesteps::{Spacing, timesteps};
pub use walk::{Step, Transition, Walk};

#[cfg(test)]
mod tests;
