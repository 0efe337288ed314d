//! The configuration of any network: which class it is, and that class's own fields.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::config_file::{CLASS_NAME, excerpt};
use super::unet::SampleSize;
use super::{DitConfig, UNetConfig, dit, unet};
use crate::{Error, Result};

/// Which network, and its fields. In a file the field `_class_name` tells the classes apart; without it, it is a U-Net.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkConfig {
    /// diffusers' `UNet2DModel`.
    UNet(UNetConfig),
    /// diffusers' `DiTTransformer2DModel`.
    Dit(DitConfig),
}

impl From<UNetConfig> for NetworkConfig {
    fn from(config: UNetConfig) -> Self {
        NetworkConfig::UNet(config)
    }
}

impl From<DitConfig> for NetworkConfig {
    fn from(config: DitConfig) -> Self {
        NetworkConfig::Dit(config)
    }
}

/// The same expression of whichever configuration it is.
macro_rules! of_each {
    ($network:expr, $config:ident => $value:expr) => {
        match $network {
            NetworkConfig::UNet($config) => $value,
            NetworkConfig::Dit($config) => $value,
        }
    };
}

impl NetworkConfig {
    /// diffusers' defaults of the class with this name, which stands in the field `field`.
    ///
    /// # Errors
    /// A name that is not among those known.
    pub fn of_class(name: &str, field: &str) -> Result<Self> {
        match name {
            unet::config::CLASS => Ok(UNetConfig::default().into()),
            dit::config::CLASS => Ok(DitConfig::default().into()),
            _ => {
                let expected = format!("\"{}\" or \"{}\"", unet::config::CLASS, dit::config::CLASS);
                Err(Error::value(field, expected, excerpt(name)))
            }
        }
    }

    /// Reads the text of a `config.json`; `place` names it in errors. Without a class's name it is a U-Net's.
    ///
    /// # Errors
    /// Text that is not a JSON object, another class, an unknown field, a value that is not supported.
    pub fn from_json(text: &str, place: &str) -> Result<Self> {
        let fields: Option<Map<String, Value>> = serde_json::from_str(text).ok();
        let class = fields.as_ref().and_then(|fields| fields.get(CLASS_NAME)).and_then(Value::as_str);
        let class = class.unwrap_or(unet::config::CLASS);
        match NetworkConfig::of_class(class, &format!("{place}: {CLASS_NAME}"))? {
            NetworkConfig::UNet(_) => UNetConfig::from_json(text, place).map(NetworkConfig::UNet),
            NetworkConfig::Dit(_) => DitConfig::from_json(text, place).map(NetworkConfig::Dit),
        }
    }

    /// The text of a `config.json` that diffusers loads.
    pub fn to_json(&self) -> String {
        of_each!(self, config => config.to_json())
    }

    /// diffusers' name of the class.
    pub fn class_name(&self) -> &'static str {
        match self {
            NetworkConfig::UNet(_) => unet::config::CLASS,
            NetworkConfig::Dit(_) => dit::config::CLASS,
        }
    }

    /// What a pipeline of diffusers calls a network of this class, and its folder.
    pub fn part_name(&self) -> &'static str {
        match self {
            NetworkConfig::UNet(_) => "unet",
            NetworkConfig::Dit(_) => "transformer",
        }
    }

    /// Refuses, with the field's name and value, what this crate cannot compute.
    ///
    /// # Errors
    /// The first field that does not hold.
    pub fn validate(&self, place: &str) -> Result<()> {
        of_each!(self, config => config.validate(place))
    }

    /// Height and width of the images in pixels, where the configuration says them.
    pub fn image_size(&self) -> Option<(usize, usize)> {
        match self {
            NetworkConfig::UNet(config) => config.image_size(),
            NetworkConfig::Dit(config) => Some(config.image_size()),
        }
    }

    /// Channels of x_t and of the output.
    pub fn channels(&self) -> (usize, usize) {
        match self {
            NetworkConfig::UNet(config) => (config.in_channels, config.out_channels),
            NetworkConfig::Dit(config) => (config.in_channels, config.channels_out()),
        }
    }

    /// Labels that the network knows, the one for "no class" among them; `None` if it is told no classes.
    pub fn labels(&self) -> Option<usize> {
        match self {
            NetworkConfig::UNet(config) => config.num_class_embeds,
            NetworkConfig::Dit(config) => Some(config.labels()),
        }
    }

    /// Classes that the network can be told, if `null_class` is the label that stands for none; `None` if it can be told none.
    pub fn classes(&self, null_class: Option<usize>) -> Option<usize> {
        match self {
            NetworkConfig::UNet(config) => config.num_class_embeds.map(|n| n - usize::from(null_class.is_some())),
            NetworkConfig::Dit(config) => Some(config.num_embeds_ada_norm).filter(|&classes| classes > 0),
        }
    }

    /// The field that says how many classes there are, and its value.
    pub fn classes_field(&self) -> (&'static str, Option<usize>) {
        match self {
            NetworkConfig::UNet(config) => ("num_class_embeds", config.num_class_embeds),
            NetworkConfig::Dit(config) => ("num_embeds_ada_norm", Some(config.num_embeds_ada_norm)),
        }
    }

    /// Sets how many classes the network is told, and whether labels are hidden in training, so that one more is known.
    pub fn set_classes(&mut self, classes: Option<usize>, hides_labels: bool) {
        match self {
            NetworkConfig::UNet(config) => {
                config.num_class_embeds = classes.map(|classes| classes + usize::from(hides_labels));
            }
            NetworkConfig::Dit(config) => config.num_embeds_ada_norm = classes.unwrap_or(0),
        }
    }

    /// The label that stands for "no class" in a network that is trained with hidden labels, or without. A transformer that
    /// is told no classes is always told that one.
    pub fn null_class(&self, hides_labels: bool) -> Option<usize> {
        match self {
            NetworkConfig::UNet(config) => config.num_class_embeds.filter(|_| hides_labels).map(|labels| labels - 1),
            NetworkConfig::Dit(config) => {
                Some(config.num_embeds_ada_norm).filter(|&classes| hides_labels || classes == 0)
            }
        }
    }

    /// The label that stands for "no class" where a model does not say it: diffusers hides labels from every transformer.
    pub fn usual_null_class(&self) -> Option<usize> {
        self.null_class(matches!(self, NetworkConfig::Dit(_)))
    }

    /// Sets the size and the channels of its images, which are those of its output as well.
    ///
    /// # Errors
    /// Images that are not as high as wide, for a transformer.
    pub fn set_images(&mut self, (height, width): (usize, usize), channels: usize) -> Result<()> {
        match self {
            NetworkConfig::UNet(config) => {
                config.sample_size = Some(SampleSize::Rectangle([height, width]));
                (config.in_channels, config.out_channels) = (channels, channels);
            }
            NetworkConfig::Dit(config) if height == width => {
                (config.sample_size, config.in_channels, config.out_channels) = (height, channels, None);
            }
            NetworkConfig::Dit(_) => {
                let (field, found) = (format!("{}: sample_size", self.class_name()), format!("{height} x {width}"));
                return Err(Error::value(field, "images as high as wide", found));
            }
        }
        Ok(())
    }

    /// Refuses images that the network cannot be run on.
    ///
    /// # Errors
    /// If a side is 0, does not divide as the network needs, or the images are too large.
    pub fn check_image(&self, size: (usize, usize), field: &str) -> Result<()> {
        of_each!(self, config => config.check_image(size, field))
    }

    /// The U-Net's fields.
    ///
    /// # Errors
    /// A network of another class.
    pub fn unet_mut(&mut self) -> Result<&mut UNetConfig> {
        match self {
            NetworkConfig::UNet(config) => Ok(config),
            NetworkConfig::Dit(_) => Err(Error::value(CLASS_NAME, unet::config::CLASS, dit::config::CLASS)),
        }
    }
}

/// The fields of a class under its name.
#[derive(Serialize)]
struct Named<'a, C> {
    _class_name: &'static str,
    #[serde(flatten)]
    config: &'a C,
}

impl Serialize for NetworkConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            NetworkConfig::UNet(config) => config.serialize(serializer),
            NetworkConfig::Dit(config) => Named { _class_name: self.class_name(), config }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for NetworkConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut fields = Map::<String, Value>::deserialize(deserializer)?;
        let class = match fields.remove(CLASS_NAME) {
            None => unet::config::CLASS.into(),
            Some(name) => name.as_str().unwrap_or("no text").to_string(),
        };
        let fields = Value::Object(fields);
        let read = match NetworkConfig::of_class(&class, CLASS_NAME).map_err(D::Error::custom)? {
            NetworkConfig::UNet(_) => UNetConfig::deserialize(fields).map(NetworkConfig::UNet),
            NetworkConfig::Dit(_) => DitConfig::deserialize(fields).map(NetworkConfig::Dit),
        };
        read.map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> serde_json::Result<NetworkConfig> {
        serde_json::from_str(text)
    }

    #[test]
    fn network_of_an_unknown_class_is_refused_and_one_without_a_class_is_a_unet() {
        assert_eq!(read("{\"layers_per_block\": 3}").unwrap().class_name(), "UNet2DModel");
        assert!(read("{\"_class_name\": \"UNet2DModel\"}").is_ok());
        for refusal in [
            read("{\"_class_name\": \"AutoencoderKL\"}").unwrap_err().to_string(),
            NetworkConfig::from_json("{\"_class_name\": \"AutoencoderKL\"}", "a/config.json").unwrap_err().to_string(),
        ] {
            assert!(refusal.contains("_class_name") && refusal.contains("AutoencoderKL"), "{refusal}");
            assert!(refusal.contains("UNet2DModel") && refusal.contains("DiTTransformer2DModel"), "{refusal}");
        }
    }

    #[test]
    fn network_of_each_class_written_and_read_is_the_same() {
        for config in [NetworkConfig::from(UNetConfig::default()), DitConfig::default().into()] {
            assert_eq!(read(&serde_json::to_string(&config).unwrap()).unwrap(), config);
            assert_eq!(NetworkConfig::from_json(&config.to_json(), "config.json").unwrap(), config);
        }
        let unknown = read("{\"_class_name\": \"DiTTransformer2DModel\", \"layers_per_block\": 3}").unwrap_err();
        assert!(unknown.to_string().contains("layers_per_block"), "{unknown}");
    }

    #[test]
    fn labels_are_the_classes_and_one_for_none_where_that_is_known() {
        let of = |mut config: NetworkConfig, classes: Option<usize>, hides: bool| {
            config.set_classes(classes, hides);
            let null = config.null_class(hides);
            (config.labels(), config.classes(null), null)
        };
        let unet = |classes, hides| of(UNetConfig::default().into(), classes, hides);
        assert_eq!(unet(Some(5), true), (Some(6), Some(5), Some(5)));
        assert_eq!(unet(Some(5), false), (Some(5), Some(5), None));
        assert_eq!(unet(None, true), (None, None, None));
        let dit = |classes, hides| of(DitConfig::default().into(), classes, hides);
        assert_eq!(dit(Some(5), true), (Some(6), Some(5), Some(5)));
        assert_eq!(dit(Some(5), false), (Some(6), Some(5), None)); // its table has the row for none, which nobody trained
        assert_eq!(dit(None, true), (Some(1), None, Some(0)));
        assert_eq!(dit(None, false), (Some(1), None, Some(0)));
    }

    #[test]
    fn images_that_are_not_as_high_as_wide_are_no_transformers() {
        let mut config = NetworkConfig::from(DitConfig { out_channels: Some(8), ..Default::default() });
        config.set_images((28, 28), 1).unwrap();
        assert_eq!((config.image_size(), config.channels()), (Some((28, 28)), (1, 1)));
        let refusal = config.set_images((28, 20), 1).unwrap_err().to_string();
        assert!(refusal.contains("sample_size") && refusal.contains("28 x 20"), "{refusal}");
    }
}
