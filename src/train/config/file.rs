//! A config in a file: read over another, or whole, and written.

use std::path::Path;

use serde_json::{Value, json};

use super::Config;
use crate::models::{CLASS_NAME, NetworkConfig};
use crate::{Error, Result, atomic};

impl Config {
    /// This config with the fields that `file` has.
    ///
    /// # Errors
    /// A file that is neither TOML nor JSON, a field that is unknown or of another type.
    pub fn with_file(&self, file: &Path) -> Result<Self> {
        let changes = read_changes(file)?;
        let bad = |problem: String| bad_file(file, problem);
        let base = self.with_class(&changes["model"][CLASS_NAME]).map_err(|e| bad(e.to_string()))?;
        let base = serde_json::to_value(base).expect("numbers and strings are JSON");
        let mut fields = Vec::new();
        leaves("", &changes, &|change| change, &mut fields);
        for (name, change) in fields {
            // One at a time, because serde does not say which field had the wrong type.
            read_over(&base, change).map_err(|e| bad(format!("{name}: {e}")))?;
        }
        let chosen = !changes["model"]["out_channels"].is_null();
        let mut config = read_over(&base, changes).map_err(|e| bad(e.to_string()))?;
        if !chosen {
            config.adapt_channels();
        }
        config.validate().map_err(|e| bad(e.to_string()))?;
        Ok(config)
    }

    /// This config with a network of another class, where `class` names one: diffusers' defaults of that class for the images
    /// and the classes that this one has.
    fn with_class(&self, class: &Value) -> Result<Self> {
        let mut config = self.clone();
        if let Some(class) = class.as_str().filter(|class| *class != self.model.class_name()) {
            config.model = NetworkConfig::of_class(class, &format!("model.{CLASS_NAME}"))?;
            let size = self.model.image_size().unwrap_or_default();
            config.model.set_images(size, self.model.channels().0)?;
            config.model.set_classes(self.model.classes(self.null_class()), self.label_dropout > 0.0);
        }
        Ok(config)
    }

    /// The full names of the fields that a config file sets: `steps`, `model.num_class_embeds`.
    ///
    /// # Errors
    /// A file that is neither TOML nor JSON.
    pub fn fields_of(file: &Path) -> Result<Vec<String>> {
        let mut fields = Vec::new();
        leaves("", &read_changes(file)?, &|change| change, &mut fields);
        Ok(fields.into_iter().map(|(name, _)| name).collect())
    }

    /// Reads a config that [`to_json`](Config::to_json) wrote.
    ///
    /// # Errors
    /// A field that is missing, unknown, of another type or out of range.
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        let config: Config = serde_json::from_str(text)
            .map_err(|e| Error::file(path, format!("not the config of a run: {e}"), "start the run again"))?;
        config.validate()?;
        Ok(config)
    }

    /// The whole config as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings are JSON") + "\n"
    }
}

fn bad_file(file: &Path, problem: String) -> Error {
    Error::file(file, problem, "`ancestral train --print-config` prints every field with its meaning")
}

/// What a config file says, as JSON. TOML has no null: there the text "none" stands for it.
fn read_changes(file: &Path) -> Result<Value> {
    let text = atomic::read_text(file)?;
    let text = text.trim_start_matches('\u{feff}'); // a byte order mark, as some editors write it
    if file.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        return serde_json::from_str(text).map_err(|e| bad_file(file, format!("not JSON: {e}")));
    }
    let mut changes = toml::from_str(text).map_err(|e: toml::de::Error| {
        // Its own Display repeats the line, however long.
        let line = e.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.split('\n').count());
        bad_file(file, format!("not TOML: line {line}: {}", e.message()))
    })?;
    none_to_null(&mut changes);
    Ok(changes)
}

fn none_to_null(value: &mut Value) {
    match value {
        Value::String(text) if text == "none" => *value = Value::Null,
        Value::Object(fields) => fields.values_mut().for_each(none_to_null),
        _ => {}
    }
}

/// The config that is `base` with `changes`.
fn read_over(base: &Value, changes: Value) -> std::result::Result<Config, serde_json::Error> {
    let mut merged = base.clone();
    merge(&mut merged, changes);
    serde_json::from_value(merged)
}

/// Each value of `changes` that is no table: its full name, and the changes that it alone makes, which `within` puts
/// into their tables.
fn leaves(table: &str, changes: &Value, within: &dyn Fn(Value) -> Value, found: &mut Vec<(String, Value)>) {
    for (key, value) in changes.as_object().into_iter().flatten() {
        let (name, alone) = (format!("{table}{key}"), |value| within(json!({ key: value })));
        match value {
            Value::Object(_) => leaves(&format!("{name}."), value, &alone, found),
            _ => found.push((name, alone(value.clone()))),
        }
    }
}

/// Puts the fields of `changes` over those of `base`, table by table.
fn merge(base: &mut Value, changes: Value) {
    match (base, changes) {
        (Value::Object(base), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(base.entry(key).or_insert(Value::Null), change);
            }
        }
        (base, change) => *base = change,
    }
}
