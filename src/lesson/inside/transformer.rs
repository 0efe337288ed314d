//! A small transformer that nobody trained, beside the network of the page.

use ndarray::Array4;
use serde::Serialize;

use crate::Result;
use crate::layers::ParameterVector;
use crate::lesson::subject::SEED;
use crate::models::{Conditions, Dit, DitConfig, Time};

/// Its sizes, and what it says before training.
#[derive(Clone, Debug, Serialize)]
pub struct Transformer {
    /// Side of a patch.
    pub patch: usize,
    /// Tokens of a picture.
    pub tokens: usize,
    /// Blocks.
    pub blocks: usize,
    /// Channels of a token.
    pub channels: usize,
    /// Heads.
    pub heads: usize,
    /// Parameters.
    pub parameters: usize,
    /// The largest number of its output before training.
    pub largest_output: f64,
}

/// A transformer for pictures of 28 x 28, as it is before training.
///
/// # Errors
/// None that a user could bring about.
pub(super) fn transformer() -> Result<Transformer> {
    let config = DitConfig {
        num_attention_heads: 4,
        attention_head_dim: 16,
        in_channels: 1,
        num_layers: 4,
        sample_size: 28,
        patch_size: 4,
        num_embeds_ada_norm: 10,
        ..DitConfig::default()
    };
    let dit = Dit::new(config.clone())?;
    let weights: ParameterVector<f32> = dit.layout.initial(SEED);
    let x = Array4::from_elem((1, 28, 28, 1), 0.5f32);
    let conditions = Conditions { time: Time::Steps(&[599.0]), labels: Some(&[3]) };
    let output = dit.predict(&weights, x, conditions)?;
    Ok(Transformer {
        patch: config.patch_size,
        tokens: (config.sample_size / config.patch_size) * (config.sample_size / config.patch_size),
        blocks: config.num_layers,
        channels: config.num_attention_heads * config.attention_head_dim,
        heads: config.num_attention_heads,
        parameters: dit.layout.count(),
        largest_output: output
            .iter()
            .fold(0.0, |most, y| if f64::from(y.abs()) > most { f64::from(y.abs()) } else { most }),
    })
}
