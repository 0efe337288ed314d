//! `config.json` of a diffusers `UNet2DModel`: every field of it, with diffusers' defaults.

use serde::{Deserialize, Serialize};

use crate::models::config_file::{self, MAX_ACTIVATION};
use crate::{Error, Result};

/// diffusers' name of the class.
pub(super) const CLASS: &str = "UNet2DModel";

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
    /// From the highest resolution down: `DownBlock2D` or `AttnDownBlock2D`.
    pub down_block_types: Vec<String>,
    /// `UNetMidBlock2D`, or null for none.
    pub mid_block_type: Option<String>,
    /// From the lowest resolution up: `UpBlock2D` or `AttnUpBlock2D`.
    pub up_block_types: Vec<String>,
    /// Channels at each resolution, from the highest down.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks at each resolution on the way down; one more on the way up.
    pub layers_per_block: usize,
    /// The middle's blocks divide their sum with the input by this.
    pub mid_block_scale_factor: f64,
    /// Zeros around the stride-2 convolutions: 1 all around, 0 for one at the right and bottom only.
    pub downsample_padding: usize,
    /// `conv`.
    pub downsample_type: String,
    /// `conv`.
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
    /// Null.
    pub class_embed_type: Option<String>,
    /// Rows of the class embedding; not conditional if null.
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

    /// Refuses, with the field's name and value, what this crate cannot compute.
    ///
    /// # Errors
    /// The first field that does not hold.
    pub fn validate(&self, place: &str) -> Result<()> {
        let check = |holds: bool, field: &str, expected: &str, found: &dyn std::fmt::Debug| {
            config_file::check(place, holds, field, expected, found)
        };
        let all_of = |list: &[String], known: [&str; 2]| list.iter().all(|name| known.contains(&name.as_str()));
        let levels = self.block_out_channels.len();
        let channels = |c: usize| (1..=1 << 16).contains(&c);
        check(channels(self.in_channels), "in_channels", "a number of channels", &self.in_channels)?;
        check(channels(self.out_channels), "out_channels", "a number of channels", &self.out_channels)?;
        check(
            self.time_embedding_type == "positional",
            "time_embedding_type",
            "\"positional\"",
            &self.time_embedding_type,
        )?;
        check(
            self.time_embedding_dim.is_none_or(channels),
            "time_embedding_dim",
            "null or a length",
            &self.time_embedding_dim,
        )?;
        check((1..=16).contains(&levels), "block_out_channels", "1 to 16 resolutions", &self.block_out_channels)?;
        check(
            self.block_out_channels.iter().all(|&c| channels(c)),
            "block_out_channels",
            "numbers of channels",
            &self.block_out_channels,
        )?;
        let (down, up) = (&self.down_block_types, &self.up_block_types);
        check(
            all_of(down, ["DownBlock2D", "AttnDownBlock2D"]),
            "down_block_types",
            "DownBlock2D or AttnDownBlock2D",
            down,
        )?;
        check(all_of(up, ["UpBlock2D", "AttnUpBlock2D"]), "up_block_types", "UpBlock2D or AttnUpBlock2D", up)?;
        check(down.len() == levels, "down_block_types", "one for each of block_out_channels", down)?;
        check(up.len() == levels, "up_block_types", "one for each of block_out_channels", up)?;
        let mid = self.mid_block_type.as_deref();
        check(
            mid.is_none_or(|m| m == "UNetMidBlock2D"),
            "mid_block_type",
            "\"UNetMidBlock2D\" or null",
            &self.mid_block_type,
        )?;
        check((1..=64).contains(&self.layers_per_block), "layers_per_block", "1 to 64", &self.layers_per_block)?;
        let factor = self.mid_block_scale_factor;
        check(factor.is_finite() && factor > 0.0, "mid_block_scale_factor", "a positive number", &factor)?;
        check(
            self.downsample_padding <= 1,
            "downsample_padding",
            "0 or 1, with which sizes halve",
            &self.downsample_padding,
        )?;
        check(self.downsample_type == "conv", "downsample_type", "\"conv\"", &self.downsample_type)?;
        check(self.upsample_type == "conv", "upsample_type", "\"conv\"", &self.upsample_type)?;
        check((0.0..1.0).contains(&self.dropout), "dropout", "a probability in 0..1", &self.dropout)?;
        check(["silu", "swish"].contains(&self.act_fn.as_str()), "act_fn", "\"silu\"", &self.act_fn)?;
        let smallest = *self.block_out_channels.iter().min().expect("checked above");
        let head = self.attention_head_dim;
        check(
            head.is_none_or(|d| (1..=smallest).contains(&d)),
            "attention_head_dim",
            "null or 1 to the fewest channels",
            &head,
        )?;
        let groups_fit = |g: usize| g > 0 && self.block_out_channels.iter().all(|c| c.is_multiple_of(g));
        check(
            groups_fit(self.norm_num_groups),
            "norm_num_groups",
            "a divisor of all block_out_channels",
            &self.norm_num_groups,
        )?;
        check(
            self.attn_norm_num_groups.is_none_or(groups_fit),
            "attn_norm_num_groups",
            "null or a divisor of all block_out_channels",
            &self.attn_norm_num_groups,
        )?;
        check(self.norm_eps.is_finite() && self.norm_eps > 0.0, "norm_eps", "a positive number", &self.norm_eps)?;
        let time = self.resnet_time_scale_shift.as_str();
        check(
            ["default", "scale_shift"].contains(&time),
            "resnet_time_scale_shift",
            "\"default\" or \"scale_shift\"",
            &time,
        )?;
        check(self.class_embed_type.is_none(), "class_embed_type", "null", &self.class_embed_type)?;
        check(
            self.num_class_embeds.is_none_or(channels),
            "num_class_embeds",
            "null or a number of classes",
            &self.num_class_embeds,
        )?;
        let half = (self.block_out_channels[0] / 2) as f64;
        check(
            half > self.freq_shift && self.freq_shift.is_finite(),
            "freq_shift",
            "less than half of the first block's channels",
            &self.freq_shift,
        )?;
        match self.image_size() {
            Some(size) => self.check_image(size, &format!("{place}: sample_size")),
            None => Ok(()),
        }
    }

    /// The length of the time vector.
    pub fn time_channels(&self) -> usize {
        self.time_embedding_dim.unwrap_or(4 * self.block_out_channels[0])
    }

    /// Height and width, where the configuration says them.
    pub fn image_size(&self) -> Option<(usize, usize)> {
        self.sample_size.map(|size| match size {
            SampleSize::Square(side) => (side, side),
            SampleSize::Rectangle([height, width]) => (height, width),
        })
    }

    /// Refuses images that do not halve as often as there are resolutions, or that would take more memory than
    /// [`MAX_ACTIVATION`] between two layers.
    ///
    /// # Errors
    /// If height or width is 0 or no multiple of 2 to the number of downsamplings, or the images are too large.
    pub fn check_image(&self, (height, width): (usize, usize), field: &str) -> Result<()> {
        let multiple = 1 << (self.block_out_channels.len() - 1);
        let fits = |side: usize| side > 0 && side <= 1 << 14 && side.is_multiple_of(multiple);
        if !fits(height) || !fits(width) {
            let expected = format!("multiples of {multiple}, at most 16384");
            return Err(Error::value(field, expected, format!("{height} x {width}")));
        }
        let numbers = self.largest_activation((height, width));
        if numbers > MAX_ACTIVATION {
            let expected = format!("images with at most {MAX_ACTIVATION} numbers between two layers");
            return Err(Error::value(field, expected, format!("{height} x {width}, with {numbers}")));
        }
        Ok(())
    }

    /// The numbers of one image where they are most: the channels of all pixels, or the scores of an attention.
    fn largest_activation(&self, (height, width): (usize, usize)) -> usize {
        let levels = self.block_out_channels.len();
        let outside = self.in_channels.max(self.out_channels) * height * width;
        let at = |level: usize| {
            let (channels, pixels) = (self.block_out_channels[level], (height >> level) * (width >> level));
            let attends = self.down_block_types[level] == "AttnDownBlock2D"
                || self.up_block_types[levels - 1 - level] == "AttnUpBlock2D"
                || (level + 1 == levels && self.add_attention && self.mid_block_type.is_some());
            let heads = channels / self.attention_head_dim.unwrap_or(channels);
            let scores = if attends { pixels.saturating_mul(pixels).saturating_mul(heads) } else { 0 };
            (channels * pixels).max(scores)
        };
        (0..levels).map(at).fold(outside, usize::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_written_and_read_is_the_same() {
        let config = UNetConfig {
            sample_size: Some(SampleSize::Rectangle([16, 24])),
            num_class_embeds: Some(11),
            ..Default::default()
        };
        assert_eq!(UNetConfig::from_json(&config.to_json(), "config.json").expect("our own file"), config);
    }

    #[test]
    fn config_with_an_unsupported_value_is_refused_by_name_and_value() {
        for (field, value) in [
            ("act_fn", "\"mish\""),
            ("time_embedding_type", "\"fourier\""),
            ("downsample_type", "\"resnet\""),
            ("resnet_time_scale_shift", "\"spatial\""),
            ("class_embed_type", "\"timestep\""),
            ("norm_num_groups", "5"),
            ("attention_head_dim", "0"),
            ("layers_per_block", "0"),
            ("dropout", "1.0"),
            ("sample_size", "30"),
            ("down_block_types", "[\"SkipDownBlock2D\"]"),
            ("freq_shift", "200"),
            ("downsample_padding", "2"),
            ("block_out_channels", "[]"),
            ("in_channels", "0"),
            ("norm_eps", "-1.0"),
            ("mid_block_type", "\"UNetMidBlock2DCrossAttn\""),
        ] {
            let error =
                UNetConfig::from_json(&format!("{{\"{field}\": {value}}}"), "config.json").unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
            assert!(error.contains(value.trim_matches(['"', '[', ']'])), "{error}");
        }
        for (field, value) in [("new_field", "1"), ("layers_per_block", "\"two\""), ("sample_size", "\"big\"")] {
            let text = format!("{{\"{field}\": {value}}}");
            let error = UNetConfig::from_json(&text, "config.json").unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn config_of_images_out_of_reach_is_refused_by_the_tensor_that_is_too_large() {
        // Pixels times channels: 1024 · 1024 · 224 is below 2²⁸. An attention on 512 · 512 tokens is not.
        let plain = "\"down_block_types\": [\"DownBlock2D\"], \"up_block_types\": [\"UpBlock2D\"], \
            \"block_out_channels\": [224], \"add_attention\": false";
        let read = |side: usize, rest: &str| {
            UNetConfig::from_json(&format!("{{\"sample_size\": {side}, {rest}}}"), "config.json")
        };
        assert!(read(1024, plain).is_ok());
        for (side, rest) in [(2048, plain), (1024, "\"dropout\": 0.0")] {
            let error = read(side, rest).unwrap_err().to_string();
            assert!(error.contains("sample_size") && error.contains("268435456"), "{error}");
        }
    }
}
