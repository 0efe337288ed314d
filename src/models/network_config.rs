//! The configuration of any network: which class it is, and that class's own fields.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::UNetConfig;
use crate::{Error, Result};

/// Which network, and its fields. In a file the field `_class_name` tells the classes apart; without it, it is a U-Net.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkConfig {
    /// diffusers' `UNet2DModel`.
    UNet(UNetConfig),
}

impl From<UNetConfig> for NetworkConfig {
    fn from(config: UNetConfig) -> Self {
        NetworkConfig::UNet(config)
    }
}

impl NetworkConfig {
    /// Reads the text of a `config.json`; `place` names it in errors.
    ///
    /// # Errors
    /// Text that is not a JSON object, another class, an unknown field, a value that is not supported.
    pub fn from_json(text: &str, place: &str) -> Result<Self> {
        UNetConfig::from_json(text, place).map(NetworkConfig::UNet)
    }

    /// The text of a `config.json` that diffusers loads.
    pub fn to_json(&self) -> String {
        match self {
            NetworkConfig::UNet(config) => config.to_json(),
        }
    }

    /// diffusers' name of the class.
    pub fn class_name(&self) -> &'static str {
        match self {
            NetworkConfig::UNet(_) => "UNet2DModel",
        }
    }

    /// Refuses, with the field's name and value, what this crate cannot compute.
    ///
    /// # Errors
    /// The first field that does not hold.
    pub fn validate(&self, place: &str) -> Result<()> {
        match self {
            NetworkConfig::UNet(config) => config.validate(place),
        }
    }

    /// Height and width of the images in pixels, where the configuration says them.
    pub fn image_size(&self) -> Option<(usize, usize)> {
        match self {
            NetworkConfig::UNet(config) => config.image_size(),
        }
    }

    /// Channels of x_t and of the output.
    pub fn channels(&self) -> (usize, usize) {
        match self {
            NetworkConfig::UNet(config) => (config.in_channels, config.out_channels),
        }
    }

    /// Labels that the network knows, the one for "no class" among them; `None` if it is told no classes.
    pub fn labels(&self) -> Option<usize> {
        match self {
            NetworkConfig::UNet(config) => config.num_class_embeds,
        }
    }

    /// Sets how many labels the network knows.
    pub fn set_labels(&mut self, labels: Option<usize>) {
        match self {
            NetworkConfig::UNet(config) => config.num_class_embeds = labels,
        }
    }

    /// Sets the size and the channels of its images.
    pub fn set_images(&mut self, (height, width): (usize, usize), channels: usize) {
        match self {
            NetworkConfig::UNet(config) => {
                config.sample_size = Some(super::unet::SampleSize::Rectangle([height, width]));
                (config.in_channels, config.out_channels) = (channels, channels);
            }
        }
    }

    /// Refuses images that the network cannot be run on.
    ///
    /// # Errors
    /// If a side is 0, does not divide as the network needs, or the images are too large.
    pub fn check_image(&self, size: (usize, usize), field: &str) -> Result<()> {
        match self {
            NetworkConfig::UNet(config) => config.check_image(size, field),
        }
    }

    /// The U-Net's fields.
    ///
    /// # Errors
    /// A network of another class.
    pub fn unet_mut(&mut self) -> Result<&mut UNetConfig> {
        match self {
            NetworkConfig::UNet(config) => Ok(config),
        }
    }
}

impl Serialize for NetworkConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            NetworkConfig::UNet(config) => config.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for NetworkConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut fields = Map::<String, Value>::deserialize(deserializer)?;
        match fields.remove("_class_name").as_ref().map(|name| name.as_str()) {
            None | Some(Some("UNet2DModel")) => {
                UNetConfig::deserialize(Value::Object(fields)).map(NetworkConfig::UNet).map_err(D::Error::custom)
            }
            Some(name) => {
                let found = name.unwrap_or("no text");
                Err(D::Error::custom(Error::value("_class_name", "\"UNet2DModel\"", found)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_of_an_unknown_class_is_refused_and_one_without_a_class_is_a_unet() {
        let read = |text: &str| serde_json::from_str::<NetworkConfig>(text);
        assert_eq!(read("{\"layers_per_block\": 3}").unwrap().class_name(), "UNet2DModel");
        assert!(read("{\"_class_name\": \"UNet2DModel\"}").is_ok());
        let refusal = read("{\"_class_name\": \"AutoencoderKL\"}").unwrap_err().to_string();
        assert!(refusal.contains("_class_name") && refusal.contains("AutoencoderKL"), "{refusal}");
    }
}
