//! Traces as files: safetensors, or JSON where a person wants to read them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ndarray::{Array4, ArrayD, Ix4};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{StepRecord, Trace};
use crate::golden::case::{Tensor, read_tensors, write_tensors};
use crate::numerics::CONTRACT;
use crate::{Error, Result, atomic};

/// The version of the format.
const VERSION: &str = "1";

const REMEDY: &str = "docs/trace.md says what a trace holds";

/// A step in a JSON file: its numbers, and its tensors as nested lists.
#[derive(Serialize, Deserialize)]
struct Step {
    #[serde(flatten)]
    record: StepRecord,
    tensors: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct File {
    trace: String,
    #[serde(default)]
    contract: String,
    #[serde(default)]
    settings: Map<String, Value>,
    steps: Vec<Step>,
}

impl Trace {
    /// Writes the trace, as JSON where the name ends in `.json`, else as safetensors: the same bytes for the same trace.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        atomic::write(path, &if json { self.to_json() } else { self.to_safetensors() })
    }

    /// Reads a trace of either kind.
    ///
    /// # Errors
    /// A file that is no trace, or one of another version of the format.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = atomic::read(path)?;
        match bytes.first() {
            Some(b'{') => Self::of_json(&bytes, path),
            _ => Self::of_safetensors(&bytes, path),
        }
    }

    fn to_safetensors(&self) -> Vec<u8> {
        let mut tensors = BTreeMap::new();
        for step in &self.steps {
            for (name, x) in &step.tensors {
                tensors.insert(format!("{:04}.{name}", step.number), Tensor::F32(channels_first(x)));
            }
        }
        let text = |value: Value| value.to_string();
        let metadata = [
            ("trace", VERSION.to_string()),
            ("contract", CONTRACT.to_string()),
            ("settings", text(Value::Object(self.settings.clone()))),
            ("steps", text(json!(self.steps))),
        ];
        write_tensors(&tensors, HashMap::from(metadata.map(|(key, value)| (key.to_string(), value))))
    }

    fn of_safetensors(bytes: &[u8], path: &Path) -> Result<Self> {
        let (mut tensors, metadata) = read_tensors(bytes, path)?;
        check_version(path, metadata.get("trace").map(String::as_str))?;
        let part = |key: &str| metadata.get(key).map_or("null", String::as_str);
        let mut steps: Vec<StepRecord> = parsed(path, "steps", part("steps"))?;
        let settings = match part("settings") {
            "null" => Map::new(),
            settings => parsed(path, "settings", settings)?,
        };
        for step in &mut steps {
            let prefix = format!("{:04}.", step.number);
            let keys: Vec<String> = tensors.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
            for key in keys {
                let x = tensors.remove(&key).expect("a key of the map").to_f64().mapv(|x| x as f32);
                let name = &key[prefix.len()..];
                step.tensors.push((name.into(), channels_last(path, name, x)?));
            }
            step.tensors.sort_by_key(|(name, _)| order(name));
        }
        Ok(Trace { settings, steps })
    }

    fn to_json(&self) -> Vec<u8> {
        let step = |record: &StepRecord| {
            let tensors = record.tensors.iter().map(|(name, x)| (name.clone(), nested(&channels_first(x)))).collect();
            Step { record: record.clone(), tensors }
        };
        let file = File {
            trace: VERSION.into(),
            contract: CONTRACT.into(),
            settings: self.settings.clone(),
            steps: self.steps.iter().map(step).collect(),
        };
        serde_json::to_vec(&file).expect("a trace is JSON")
    }

    fn of_json(bytes: &[u8], path: &Path) -> Result<Self> {
        let file: File = serde_json::from_slice(bytes)
            .map_err(|error| Error::file(path, format!("not a trace in JSON: {error}"), REMEDY))?;
        check_version(path, Some(&file.trace))?;
        let steps = file.steps.into_iter().map(|Step { mut record, tensors }| {
            for (name, value) in tensors {
                let x = unnested(&value).ok_or_else(|| {
                    let problem = format!("step {}: {name} is no nested list of numbers", record.number);
                    Error::file(path, problem, REMEDY)
                })?;
                record.tensors.push((name.clone(), channels_last(path, &name, x)?));
            }
            record.tensors.sort_by_key(|(name, _)| order(name));
            Ok(record)
        });
        Ok(Trace { settings: file.settings, steps: steps.collect::<Result<_>>()? })
    }
}

/// When a tensor is made in its step; a file keeps them in the order of their names.
fn order(name: &str) -> usize {
    const FIRST: [&str; 6] = ["x_t", "x_seen", "output", "x_0_hat_unclipped", "x_0_hat", "eps_hat"];
    let last = FIRST.len() + usize::from(name == "x_s");
    FIRST.iter().position(|first| *first == name).unwrap_or(last)
}

fn check_version(path: &Path, found: Option<&str>) -> Result<()> {
    match found {
        Some(VERSION) => Ok(()),
        Some(other) => Err(Error::file(path, format!("expected a trace of version {VERSION}, found {other}"), REMEDY)),
        None => Err(Error::file(path, "expected a trace, found no `trace` in its metadata", REMEDY)),
    }
}

fn parsed<T: for<'a> Deserialize<'a>>(path: &Path, key: &str, text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|error| Error::file(path, format!("__metadata__: {key}: expected JSON: {error}"), REMEDY))
}

/// (n, c, h, w), PyTorch's layout.
fn channels_first(x: &Array4<f32>) -> ArrayD<f32> {
    x.view().permuted_axes([0, 3, 1, 2]).as_standard_layout().into_owned().into_dyn()
}

fn channels_last(path: &Path, name: &str, x: ArrayD<f32>) -> Result<Array4<f32>> {
    let shape = x.shape().to_vec();
    let x = x
        .into_dimensionality::<Ix4>()
        .map_err(|_| Error::file(path, format!("{name}: expected shape (n, c, h, w), found {shape:?}"), REMEDY))?;
    Ok(x.permuted_axes([0, 2, 3, 1]).as_standard_layout().into_owned())
}

fn nested(x: &ArrayD<f32>) -> Value {
    match x.ndim() {
        0 => json!(x[[]]),
        _ => x.outer_iter().map(|part| nested(&part.to_owned())).collect(),
    }
}

/// The array of nested lists of one shape.
fn unnested(value: &Value) -> Option<ArrayD<f32>> {
    let mut shape = Vec::new();
    let mut first = value;
    while let Value::Array(list) = first {
        shape.push(list.len());
        first = list.first()?;
    }
    let mut numbers = Vec::new();
    flatten(value, &shape, &mut numbers)?;
    ArrayD::from_shape_vec(shape, numbers).ok()
}

fn flatten(value: &Value, shape: &[usize], numbers: &mut Vec<f32>) -> Option<()> {
    match (value, shape.split_first()) {
        (Value::Array(list), Some((&length, rest))) if list.len() == length => {
            list.iter().try_for_each(|part| flatten(part, rest, numbers))
        }
        // What is no number in JSON, NaN or infinite, is null there.
        (value, None) => {
            numbers.push(if value.is_null() { f32::NAN } else { value.as_f64()? as f32 });
            Some(())
        }
        _ => None,
    }
}
