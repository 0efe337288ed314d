//! What a classifier is built from, as its `config.json` says it.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::models::config_file::{self, MAX_ACTIVATION, check};

/// The name of the class in `config.json`.
const CLASS: &str = "Classifier";

/// The fields of a classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifierConfig {
    /// Height and width of the images in pixels, 1 to 4096 each.
    pub sample_size: (usize, usize),
    /// Their channels, 1 to 4096.
    pub in_channels: usize,
    /// Classes to tell apart, 2 to 65,536.
    pub num_classes: usize,
    /// Channels: of the first convolution, then of each residual block, which halves height and width. As many are the
    /// features, as the last says.
    pub block_out_channels: Vec<usize>,
    /// Groups of each norm: divides all of `block_out_channels`.
    pub norm_num_groups: usize,
    /// Added to the variance under the root; positive.
    pub norm_eps: f64,
    /// The length of the vector that says how noisy an image is, even and from 2 to 4096, where noisy images are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level_embedding_dim: Option<usize>,
}

impl Default for ClassifierConfig {
    /// For MNIST: 28 x 28 grey pixels in ten classes.
    fn default() -> Self {
        ClassifierConfig {
            sample_size: (28, 28),
            in_channels: 1,
            num_classes: 10,
            block_out_channels: vec![16, 32, 64],
            norm_num_groups: 8,
            norm_eps: 1e-5,
            level_embedding_dim: None,
        }
    }
}

impl ClassifierConfig {
    /// Reads a `config.json`; `place` names the file in errors.
    ///
    /// # Errors
    /// Text that is not a JSON object, another class, an unknown field, a value of another type.
    pub fn from_json(text: &str, place: &str) -> Result<Self> {
        config_file::from_json(text, place, CLASS)
    }

    /// The text of a `config.json`.
    pub fn to_json(&self) -> String {
        let mut fields = serde_json::to_value(self).expect("a struct of numbers is JSON");
        fields["_class_name"] = CLASS.into();
        format!("{fields:#}\n")
    }

    /// Refuses what cannot be computed; `place` names the file in errors.
    ///
    /// # Errors
    /// The first field that is out of its range, and its value.
    pub fn validate(&self, place: &str) -> Result<()> {
        let ((height, width), groups) = (self.sample_size, self.norm_num_groups);
        let channels = &self.block_out_channels;
        let side = |n: usize| (1..=4096).contains(&n);
        let sides = side(height) && side(width);
        check(place, sides, "sample_size", "height and width of 1 to 4096 pixels", &self.sample_size)?;
        check(place, side(self.in_channels), "in_channels", "1 to 4096", &self.in_channels)?;
        let classes = (2..=65_536).contains(&self.num_classes);
        check(place, classes, "num_classes", "2 to 65536", &self.num_classes)?;
        let levels = (2..=8).contains(&channels.len()) && channels.iter().all(|&c| side(c));
        check(place, levels, "block_out_channels", "2 to 8 numbers of 1 to 4096", channels)?;
        let divides = groups > 0 && channels.iter().all(|c| c.is_multiple_of(groups));
        check(place, divides, "norm_num_groups", "a divisor of all block_out_channels", &groups)?;
        check(place, self.norm_eps > 0.0 && self.norm_eps < 1.0, "norm_eps", "a number in 0..1", &self.norm_eps)?;
        let dim = self.level_embedding_dim.is_none_or(|dim| side(dim) && dim.is_multiple_of(2));
        check(place, dim, "level_embedding_dim", "null, or an even number of 2 to 4096", &self.level_embedding_dim)?;
        let largest = height * width * channels[0].max(self.in_channels);
        check(place, largest <= MAX_ACTIVATION, "sample_size", "an image that fits into memory", &self.sample_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_written_and_read_is_the_same_and_what_is_wrong_is_refused_by_field() {
        let config = ClassifierConfig::default();
        assert_eq!(ClassifierConfig::from_json(&config.to_json(), "c").expect("our own"), config);
        config.validate("c").expect("valid");
        for (field, value) in [
            ("num_classes", "1"),
            ("sample_size", "[0, 28]"),
            ("in_channels", "0"),
            ("block_out_channels", "[8]"),
            ("norm_num_groups", "5"),
            ("norm_eps", "0.0"),
            ("level_embedding_dim", "7"),
            ("level_embedding_dim", "0"),
            ("depth", "3"),
            ("num_classes", "\"ten\""),
        ] {
            let text = format!("{{\"{field}\": {value}}}");
            let outcome = ClassifierConfig::from_json(&text, "c").and_then(|config| config.validate("c"));
            let error = outcome.expect_err(field).to_string();
            assert!(error.contains(&format!("c: {field}")), "{error}");
        }
    }
}
