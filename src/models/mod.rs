//! Networks that look at x_t and t and predict what is noise in it.
//!
//! A file names the class of its network, so [`Network`] is a closed list: a new one is a folder here and an arm of each
//! match in `network.rs` and `network_config.rs`. [`Classifier`] is none of them: it looks at pictures without noise and says
//! what is in them.

pub mod classifier;
pub mod config_file;
pub mod dit;
mod network;
mod network_config;
mod passes;
mod self_attention;
mod timestep_embedding;
mod trace;
pub mod unet;

use ndarray::{Array2, Array4};

use crate::numerics::Real;
use crate::{Error, Result};

pub use classifier::{Classifier, ClassifierConfig};
pub(crate) use config_file::CLASS_NAME;
pub use config_file::DIFFUSERS_VERSION;
pub use dit::{Dit, DitConfig};
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

impl Conditions<'_> {
    /// x in the order of memory that layers read, if it and these conditions are of as many images, x has `channels`, and
    /// the labels are what a network of `known` labels is told.
    pub(crate) fn checked<F: Real>(self, x: Array4<F>, channels: usize, known: Option<usize>) -> Result<Array4<F>> {
        let (n, _, _, c) = x.dim();
        let of = |what: &str, expected: String, found: String| Err(Error::value(what, expected, found));
        if n == 0 {
            return of("images", "at least one".into(), "an empty batch".into());
        }
        if c != channels {
            return of("image channels", channels.to_string(), c.to_string());
        }
        if self.time.count() != n {
            return of("timesteps", format!("{n}, one for each image"), self.time.count().to_string());
        }
        match (known, self.labels) {
            (None, None) => {}
            (None, Some(_)) => return of("class labels", "none: the model is not conditional".into(), "labels".into()),
            (Some(known), Some(labels)) if labels.len() == n => {
                if let Some(label) = labels.iter().find(|&&label| label >= known) {
                    return of("class label", format!("0 to {}", known - 1), label.to_string());
                }
            }
            (Some(_), labels) => {
                let found = labels.map_or(0, <[usize]>::len).to_string();
                return of("class labels", format!("{n}, one for each image"), found);
            }
        }
        Ok(if x.is_standard_layout() { x } else { x.as_standard_layout().into_owned() })
    }
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
