//! `config.json` of a diffusers `DiTTransformer2DModel`: every field of it, with diffusers' defaults.

use serde::{Deserialize, Serialize};

use crate::models::config_file::{self, MAX_ACTIVATION};
use crate::{Error, Result};

/// diffusers' name of the class.
pub(crate) const CLASS: &str = "DiTTransformer2DModel";

/// How many times wider the layer inside of an MLP is; diffusers has no field for it.
pub(super) const MLP_RATIO: usize = 4;

/// The fields of a `DiTTransformer2DModel`, by diffusers' names; [`DitConfig::validate`] says which values are supported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DitConfig {
    /// Heads of each attention.
    pub num_attention_heads: usize,
    /// Channels of a head; a token has as many channels as all heads together.
    pub attention_head_dim: usize,
    /// Channels of x_t: 1 for grey, 3 for colour, 4 for the usual latents.
    pub in_channels: usize,
    /// Channels of the output; those of x_t if null. Twice as many where the variance is learned.
    pub out_channels: Option<usize>,
    /// Transformer blocks.
    pub num_layers: usize,
    /// The probability to drop what an attention or the inner layer of an MLP gives, while training, in 0..1.
    pub dropout: f64,
    /// Read by no layer; kept as it is.
    pub norm_num_groups: usize,
    /// Queries, keys and values have a bias.
    pub attention_bias: bool,
    /// Height and width of the images, in pixels.
    pub sample_size: usize,
    /// Height and width of a patch, in pixels.
    pub patch_size: usize,
    /// `gelu-approximate`: the tanh form.
    pub activation_fn: String,
    /// Classes, 0 for none; the table of their vectors has one row more, for "no class".
    pub num_embeds_ada_norm: usize,
    /// Attention in float32 where the rest is coarser: here it always is.
    pub upcast_attention: bool,
    /// `ada_norm_zero`.
    pub norm_type: String,
    /// The norm before each MLP has a scale and a shift of its own.
    pub norm_elementwise_affine: bool,
    /// Added to the variance under the root in the norm before each MLP; the other norms add 1e-6.
    pub norm_eps: f64,
}

impl Default for DitConfig {
    fn default() -> Self {
        DitConfig {
            num_attention_heads: 16,
            attention_head_dim: 72,
            in_channels: 4,
            out_channels: None,
            num_layers: 28,
            dropout: 0.0,
            norm_num_groups: 32,
            attention_bias: true,
            sample_size: 32,
            patch_size: 2,
            activation_fn: "gelu-approximate".into(),
            num_embeds_ada_norm: 1000,
            upcast_attention: false,
            norm_type: "ada_norm_zero".into(),
            norm_elementwise_affine: false,
            norm_eps: 1e-5,
        }
    }
}

impl DitConfig {
    /// Reads the text of a `config.json`; `place` names it in errors. Keys that begin with `_` are diffusers' own notes.
    ///
    /// # Errors
    /// Text that is not a JSON object, another class, an unknown field, a value that is not supported.
    pub fn from_json(text: &str, place: &str) -> Result<Self> {
        let config: DitConfig = config_file::from_json(text, place, CLASS)?;
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
        let count = |c: usize| (1..=1 << 16).contains(&c);
        let (heads, of_head) = (self.num_attention_heads, self.attention_head_dim);
        check(count(heads), "num_attention_heads", "a number of heads", &heads)?;
        check(count(of_head), "attention_head_dim", "a number of channels", &of_head)?;
        let fits = count(self.channels_of_token()) && self.channels_of_token().is_multiple_of(4);
        let expected = format!("a number that makes {heads} heads a multiple of 4 channels, at most 65536");
        check(fits, "attention_head_dim", &expected, &of_head)?;
        check(count(self.in_channels), "in_channels", "a number of channels", &self.in_channels)?;
        let out = self.out_channels;
        check(out.is_none_or(count), "out_channels", "null or a number of channels", &out)?;
        check((1..=1024).contains(&self.num_layers), "num_layers", "1 to 1024", &self.num_layers)?;
        check((0.0..1.0).contains(&self.dropout), "dropout", "a probability in 0..1", &self.dropout)?;
        check((1..=256).contains(&self.patch_size), "patch_size", "1 to 256", &self.patch_size)?;
        let activation = self.activation_fn.as_str();
        check(activation == "gelu-approximate", "activation_fn", "\"gelu-approximate\"", &activation)?;
        let classes = self.num_embeds_ada_norm;
        check(classes < 1 << 16, "num_embeds_ada_norm", "0 (no classes) to 65535", &classes)?;
        check(self.norm_type == "ada_norm_zero", "norm_type", "\"ada_norm_zero\"", &self.norm_type)?;
        check(self.norm_eps.is_finite() && self.norm_eps > 0.0, "norm_eps", "a positive number", &self.norm_eps)?;
        self.check_image(self.image_size(), &format!("{place}: sample_size"))
    }

    /// Channels of a token.
    pub fn channels_of_token(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Channels of the output.
    pub fn channels_out(&self) -> usize {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Labels that the network knows: its classes and, last, "no class".
    pub fn labels(&self) -> usize {
        self.num_embeds_ada_norm + 1
    }

    /// Height and width.
    pub fn image_size(&self) -> (usize, usize) {
        (self.sample_size, self.sample_size)
    }

    /// Refuses images that are not as high as wide, as diffusers does, or do not consist of whole patches, or that would
    /// take more memory than [`MAX_ACTIVATION`] between two layers.
    ///
    /// # Errors
    /// If one of these is so.
    pub fn check_image(&self, (height, width): (usize, usize), field: &str) -> Result<()> {
        let patch = self.patch_size;
        let fits = |side: usize| side > 0 && side <= 1 << 14 && side.is_multiple_of(patch);
        if height != width || !fits(height) {
            let expected = format!("as high as wide, a multiple of {patch}, at most 16384");
            return Err(Error::value(field, expected, format!("{height} x {width}")));
        }
        let outside = self.in_channels.max(self.channels_out()) * height * width;
        let inside = (height / patch) * (width / patch) * MLP_RATIO * self.channels_of_token();
        let numbers = outside.max(inside);
        if numbers > MAX_ACTIVATION {
            let expected = format!("images with at most {MAX_ACTIVATION} numbers between two layers");
            return Err(Error::value(field, expected, format!("{height} x {width}, with {numbers}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_written_and_read_is_the_same() {
        let config = DitConfig { out_channels: Some(8), norm_elementwise_affine: true, ..Default::default() };
        assert_eq!(DitConfig::from_json(&config.to_json(), "config.json").expect("our own file"), config);
        assert!(config.to_json().contains("\"_class_name\": \"DiTTransformer2DModel\""));
    }

    #[test]
    fn config_with_an_unsupported_value_is_refused_by_name_and_value() {
        for (field, value) in [
            ("num_attention_heads", "0"),
            ("attention_head_dim", "0"),
            ("in_channels", "0"),
            ("out_channels", "0"),
            ("num_layers", "0"),
            ("dropout", "1.0"),
            ("patch_size", "0"),
            ("sample_size", "33"),
            ("sample_size", "32768"),
            ("activation_fn", "\"geglu\""),
            ("num_embeds_ada_norm", "65536"),
            ("num_embeds_ada_norm", "null"),
            ("norm_type", "\"layer_norm\""),
            ("norm_eps", "-1.0"),
            ("new_field", "1"),
        ] {
            let text = format!("{{\"{field}\": {value}}}");
            let error = DitConfig::from_json(&text, "config.json").unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
            assert!(field == "new_field" || error.contains(value.trim_matches('"')), "{error}");
        }
        let text = "{\"num_attention_heads\": 3, \"attention_head_dim\": 6}"; // 18 channels have no quarter
        let error = DitConfig::from_json(text, "config.json").unwrap_err().to_string();
        assert!(error.contains("attention_head_dim") && error.contains("3 heads"), "{error}");
        assert!(DitConfig::from_json("{\"_class_name\": \"UNet2DModel\"}", "config.json").is_err());
    }

    #[test]
    fn image_that_is_no_square_of_whole_patches_or_too_large_is_refused() {
        let config = DitConfig::default();
        assert!(config.check_image((64, 64), "image size").is_ok());
        for size in [(32, 30), (31, 31), (0, 0), (8192, 8192)] {
            let error = config.check_image(size, "image size").unwrap_err().to_string();
            assert!(error.contains(&format!("{} x {}", size.0, size.1)), "{error}");
        }
    }
}
