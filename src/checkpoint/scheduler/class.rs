//! The fields of diffusers' classes, with their defaults.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::sample::Sampler;

/// The arguments of each class in diffusers 0.42.1. `"-Infinity"` stands for the number.
static CLASSES: LazyLock<BTreeMap<String, Map<String, Value>>> =
    LazyLock::new(|| serde_json::from_str(include_str!("classes.json")).expect("classes.json: an object of objects"));

/// The fields of one class.
#[derive(Clone, Debug)]
pub(super) struct Class(pub Map<String, Value>);

impl Class {
    /// The class of a sampler.
    pub fn of(sampler: Sampler) -> Self {
        Class(CLASSES[sampler.entry().class].clone())
    }

    /// Whether a class of any sampler has this field.
    pub fn any_has(name: &str) -> bool {
        CLASSES.values().any(|fields| fields.contains_key(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sampler_has_a_class_and_every_class_a_sampler() {
        let of_samplers: Vec<&str> = Sampler::ALL.iter().map(|sampler| sampler.entry().class).collect();
        assert!(of_samplers.iter().all(|class| CLASSES.contains_key(*class)));
        assert!(CLASSES.keys().all(|class| of_samplers.contains(&class.as_str())));
    }
}
