//! `config.json` of a diffusers `UNet2DModel`: every field of it, with diffusers' defaults.

mod image;
mod rules;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::models::config_file;

/// diffusers' name of the class.
pub(crate) const CLASS: &str = "UNet2DModel";

/// Height and width of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SampleSize {
    /// As high as wide.
    Square(usize),
    /// Height, width.
    Rectangle([usize; 2]),
}

/// The fields of a `UNet2DModel`, by diffusers' names; [`UNetConfig::validate`] says which values are supported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UNetConfig {
    /// Height and width of the images, in pixels.
    pub sample_size: Option<SampleSize>,
    /// Channels of x_t: 1 for grey, 3 for colour.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Feed 2x − 1 instead of x.
    pub center_input_sample: bool,
    /// `positional`: sines and cosines.
    pub time_embedding_type: String,
    /// Length of the time vector; four times the first block's channels if null.
    pub time_embedding_dim: Option<usize>,
    /// Subtracted in the denominator of the embedding's exponent.
    pub freq_shift: f64,
    /// Cosines before sines.
    pub flip_sin_to_cos: bool,
    /// From the highest resolution down: `DownBlock2D`, `AttnDownBlock2D` or `ResnetDownsampleBlock2D`.
    pub down_block_types: Vec<String>,
    /// `UNetMidBlock2D`, or null for none.
    pub mid_block_type: Option<String>,
    /// From the lowest resolution up: `UpBlock2D`, `AttnUpBlock2D` or `ResnetUpsampleBlock2D`.
    pub up_block_types: Vec<String>,
    /// Channels at each resolution, from the highest down.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks at each resolution on the way down; one more on the way up.
    pub layers_per_block: usize,
    /// The middle's blocks divide their sum with the input by this.
    pub mid_block_scale_factor: f64,
    /// Zeros around the stride-2 convolutions: 1 all around, 0 for one at the right and bottom only.
    pub downsample_padding: usize,
    /// What follows an `AttnDownBlock2D`: `conv`, or `resnet` for a residual block that halves.
    pub downsample_type: String,
    /// What follows an `AttnUpBlock2D`: `conv`, or `resnet` for a residual block that doubles.
    pub upsample_type: String,
    /// The probability to drop an activation inside of a residual block while training, in 0..1.
    pub dropout: f64,
    /// `silu`, or its other name `swish`.
    pub act_fn: String,
    /// Channels of an attention head; one head of all channels if null.
    pub attention_head_dim: Option<usize>,
    /// Groups of every group norm; divides all channels.
    pub norm_num_groups: usize,
    /// Groups of the middle attention's norm, if not those of the others.
    pub attn_norm_num_groups: Option<usize>,
    /// Added to the variance under the root.
    pub norm_eps: f64,
    /// `default`: time is added. `scale_shift`: time scales and shifts the second norm.
    pub resnet_time_scale_shift: String,
    /// Attention in the middle.
    pub add_attention: bool,
    /// How a label becomes a vector: by a row of a table if null; `timestep`: as times do, by sinusoids and two linear layers.
    pub class_embed_type: Option<String>,
    /// Labels, each a row of the class embedding where that is a table; not conditional if null.
    pub num_class_embeds: Option<usize>,
    /// Used by diffusers only with learned time embeddings; kept as it is.
    pub num_train_timesteps: Option<usize>,
}

impl Default for UNetConfig {
    fn default() -> Self {
        let names = |list: [&str; 4]| list.map(String::from).to_vec();
        UNetConfig {
            sample_size: None,
            in_channels: 3,
            out_channels: 3,
            center_input_sample: false,
            time_embedding_type: "positional".into(),
            time_embedding_dim: None,
            freq_shift: 0.0,
            flip_sin_to_cos: true,
            down_block_types: names(["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"]),
            mid_block_type: Some("UNetMidBlock2D".into()),
            up_block_types: names(["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"]),
            block_out_channels: vec![224, 448, 672, 896],
            layers_per_block: 2,
            mid_block_scale_factor: 1.0,
            downsample_padding: 1,
            downsample_type: "conv".into(),
            upsample_type: "conv".into(),
            dropout: 0.0,
            act_fn: "silu".into(),
            attention_head_dim: Some(8),
            norm_num_groups: 32,
            attn_norm_num_groups: None,
            norm_eps: 1e-5,
            resnet_time_scale_shift: "default".into(),
            add_attention: true,
            class_embed_type: None,
            num_class_embeds: None,
            num_train_timesteps: None,
        }
    }
}

impl UNetConfig {
    /// Reads the text of a `config.json`; `place` names it in errors. Keys that begin with `_` are diffusers' own notes.
    ///
    /// # Errors
    /// Text that is not a JSON object, another class, an unknown field, a value that is not supported.
    pub fn from_json(text: &str, place: &str) -> Result<Self> {
        let config: UNetConfig = config_file::from_json(text, place, CLASS)?;
        config.validate(place)?;
        Ok(config)
    }

    /// The text of a `config.json` that diffusers loads.
    pub fn to_json(&self) -> String {
        config_file::to_json(self, CLASS)
    }

    /// The length of the time vector.
    pub fn time_channels(&self) -> usize {
        self.time_embedding_dim.unwrap_or(4 * self.block_out_channels[0])
    }
}

#[cfg(test)]
mod tests;
