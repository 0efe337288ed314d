//! Networks that look at x_t and t and predict what is noise in it.
//!
//! A file names the class of its network, so [`Network`] is a closed list: a new one is a folder here and an arm of each
//! match in `network.rs`.

pub mod config_file;
pub mod dit;
mod network;
mod network_config;
mod trace;
pub mod unet;

use ndarray::Array2;

pub use config_file::DIFFUSERS_VERSION;
pub use network::{Network, Tape};
pub use network_config::NetworkConfig;
pub use trace::{Taps, Trace};
pub use unet::{UNet, UNetConfig};

/// What a network is told beside the image: one of each for every image.
#[derive(Clone, Copy, Debug)]
pub struct Conditions<'a> {
    /// When.
    pub time: Time<'a>,
    /// The class of each image, for a conditional network, shape (n).
    pub labels: Option<&'a [usize]>,
}

/// The time of each image.
#[derive(Clone, Copy, Debug)]
pub enum Time<'a> {
    /// t − 1 of the paper's t = 1..=T, shape (n).
    Steps(&'a [f64]),
    /// Its sinusoidal embedding, shape (n, first channels): what a caller that rounds its own has made of it.
    Embedded(&'a Array2<f64>),
}

impl Time<'_> {
    /// For how many images.
    pub(crate) fn count(self) -> usize {
        match self {
            Time::Steps(t) => t.len(),
            Time::Embedded(embedding) => embedding.nrows(),
        }
    }
}
