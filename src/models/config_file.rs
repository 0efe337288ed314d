//! A `config.json` as diffusers writes it: the fields of a class, its name, and the version whose fields they are.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::layers::Layout;
use crate::{Error, Result};

/// The version of diffusers whose fields these are.
pub const DIFFUSERS_VERSION: &str = "0.42.1";

/// The field that names the class.
pub(crate) const CLASS_NAME: &str = "_class_name";

/// The most parameters of a network: 4 GiB of float32, four times as much in training.
pub const MAX_PARAMETERS: usize = 1 << 30;

/// The most numbers that one image may have between two layers: 1 GiB of float32.
pub const MAX_ACTIVATION: usize = 1 << 28;

/// Reads the fields of a `class` from JSON; `place` names the file in errors. Keys that begin with `_` are diffusers' own
/// notes.
///
/// # Errors
/// Text that is not a JSON object, another class, an unknown field, a value of another type.
pub(super) fn from_json<C: DeserializeOwned>(text: &str, place: &str, class: &str) -> Result<C> {
    let fields: Map<String, Value> = serde_json::from_str(text)
        .map_err(|e| Error::value(place, "a JSON object of fields", format!("text in which {e}")))?;
    if let Some(found) = fields.get(CLASS_NAME).filter(|found| *found != class) {
        return Err(Error::value(format!("{place}: {CLASS_NAME}"), format!("\"{class}\""), found));
    }
    let public: Map<String, Value> = fields.into_iter().filter(|(key, _)| !key.starts_with('_')).collect();
    for (key, value) in &public {
        // One at a time, because serde does not say which field had the wrong type.
        let alone = Value::Object(Map::from_iter([(key.clone(), value.clone())]));
        serde_json::from_value::<C>(alone).map_err(|e| {
            Error::value(format!("{place}: {}", excerpt(key)), format!("a field of a {class}"), excerpt(&e.to_string()))
        })?;
    }
    Ok(serde_json::from_value(Value::Object(public)).expect("each field was read above"))
}

/// The text of a `config.json` that diffusers loads.
pub(super) fn to_json<C: Serialize>(config: &C, class: &str) -> String {
    let mut fields = serde_json::to_value(config).expect("a struct of numbers and strings is JSON");
    fields[CLASS_NAME] = class.into();
    fields["_diffusers_version"] = DIFFUSERS_VERSION.into();
    serde_json::to_string_pretty(&fields).expect("JSON is text") + "\n"
}

/// Whether what a field has to be holds.
///
/// # Errors
/// If it does not, with the field and its value.
pub(super) fn check(place: &str, holds: bool, field: &str, expected: &str, found: &dyn Debug) -> Result<()> {
    let found = || excerpt(&format!("{found:?}"));
    if holds { Ok(()) } else { Err(Error::value(format!("{place}: {field}"), expected, found())) }
}

/// Refuses a network of more parameters than [`MAX_PARAMETERS`]; `fields` are those of its configuration that say how many.
///
/// # Errors
/// If there are more, with the largest tensor.
pub(super) fn check_parameters(layout: &Layout, fields: &str) -> Result<()> {
    if layout.count() <= MAX_PARAMETERS {
        return Ok(());
    }
    let largest = layout.entries.iter().max_by_key(|entry| entry.span.len).expect("a network has tensors");
    let found = format!("{}, of which {} in {}", layout.count(), largest.span.len, largest.name);
    Err(Error::value(format!("config: {fields}"), format!("at most {MAX_PARAMETERS} parameters"), found))
}

/// At most 200 characters of something from a file.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
