//! The fields of a file that were not understood yet.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::class::Class;
use super::foreign;
use crate::checkpoint::python_json::excerpt;
use crate::{Error, Result};

/// What is left of a file, and the defaults of its class.
pub(super) struct Fields<'a> {
    pub path: &'a Path,
    pub map: Map<String, Value>,
    pub class: Class,
}

impl Fields<'_> {
    /// Takes out a field of type `T`, or the class's default if it is absent. Of a class that has no such field, `otherwise`:
    /// what the file says there was left by another class.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str, otherwise: T) -> Result<T> {
        let Some(default) = self.class.0.get(name).cloned() else { return Ok(otherwise) };
        let value = self.map.remove(name).unwrap_or(default);
        self.understand(name, &value)
    }

    /// Takes out a field if it is there.
    pub fn given<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        self.map.remove(name).map(|value| self.understand(name, &value)).transpose()
    }

    fn understand<T: DeserializeOwned>(&self, name: &str, value: &Value) -> Result<T> {
        T::deserialize(value).map_err(|cause| {
            // Serde ends its messages with ", expected f64" or ", expected one of `linear`, ...".
            let cause = cause.to_string();
            let expected = cause.rsplit_once("expected ").map_or(cause.as_str(), |(_, expected)| expected);
            self.refuse(name, expected, value)
        })
    }

    /// Takes out a field of which one value alone is implemented.
    pub fn only(&mut self, name: &str, implemented: Value) -> Result<()> {
        match self.map.remove(name) {
            Some(value) if value != implemented => {
                Err(self.refuse(name, &format!("{implemented}, all that is implemented"), &value))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what is left, but for notes and what other classes left there.
    pub fn end(mut self) -> Result<()> {
        foreign::without_effect().into_iter().try_for_each(|(name, value)| self.only(name, value))?;
        let idle = |name: &str| name.starts_with('_') || Class::any_has(name) || foreign::UNREAD.contains(&name);
        match self.map.iter().find(|(name, _)| !idle(name)) {
            Some((name, value)) => Err(self.refuse(name, "no field of this name: it is unknown", value)),
            None => Ok(()),
        }
    }

    pub fn refuse(&self, name: &str, expected: &str, found: &Value) -> Error {
        refuse(self.path, name, expected, found)
    }
}

pub(super) fn refuse(path: &Path, name: &str, expected: &str, found: &Value) -> Error {
    in_file(path, Error::value(excerpt(name), expected, excerpt(&found.to_string())))
}

/// The same error with the file before its field.
pub(super) fn in_file(path: &Path, error: Error) -> Error {
    match error {
        Error::Value { field, expected, found } => {
            Error::Value { field: format!("{}: {field}", path.display()), expected, found }
        }
        other => other,
    }
}
