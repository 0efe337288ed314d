//! Which files of a network's folder are its weights: one, one of a variant such as fp16, or shards under an index.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::folder::{self, is_pickle};
use super::python_json::{self, excerpt};
use crate::{Error, Result};

/// The weights of a network in one file.
pub(super) const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// Which shard has which tensor, where the weights are in several files.
const INDEX: &str = "diffusion_pytorch_model.safetensors.index.json";

/// The files that hold the weights.
#[derive(Debug)]
pub(super) struct WeightFiles {
    /// The file that stands for all of them in messages.
    pub place: PathBuf,
    /// All of them.
    pub paths: Vec<PathBuf>,
    /// What the user should know of the choice.
    pub note: Option<String>,
}

/// The weights in a network's folder.
///
/// # Errors
/// A folder that has none, or several variants and nothing that says which; an index that is damaged or whose shards are
/// not all there.
pub(super) fn find(folder: &Path) -> Result<WeightFiles> {
    let names = folder::names(folder)?;
    let has = |name: &str| names.iter().any(|found| found == name);
    let variants: Vec<&String> = names.iter().filter(|name| variant(name).is_some()).collect();
    let (name, note) = match variants[..] {
        _ if has(INDEX) && has(WEIGHTS) => {
            (INDEX, Some(format!("the weights are read from the shards; {WEIGHTS} is not")))
        }
        _ if has(INDEX) => (INDEX, None),
        _ if has(WEIGHTS) => (WEIGHTS, None),
        [only] => (
            only.as_str(),
            Some(format!("the weights are those of the variant {}", excerpt(variant(only).expect("one")))),
        ),
        [] => return Err(missing(folder, &names)),
        _ => {
            let problem = format!("expected one file of weights, found {}", folder::listing(variants.iter().copied()));
            return Err(Error::file(folder, problem, format!("rename the one that is meant to {WEIGHTS}")));
        }
    };
    let place = folder.join(name);
    let paths = if name.ends_with(".json") { shards(&place)? } else { vec![place.clone()] };
    Ok(WeightFiles { note: note.map(|note| format!("{}: {note}", folder.display())), place, paths })
}

/// The variant of a file of weights, or of an index: `fp16` of `diffusion_pytorch_model.fp16.safetensors`.
fn variant(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("diffusion_pytorch_model.")?;
    let index = rest.strip_prefix("safetensors.index.").and_then(|rest| rest.strip_suffix(".json"));
    index.or(rest.strip_suffix(".safetensors")).filter(|variant| !variant.contains("-of-"))
}

/// A folder without weights that can be read.
fn missing(folder: &Path, names: &[String]) -> Error {
    let (problem, remedy) = if let Some(pickle) = names.iter().find(|name| is_pickle(Path::new(name))) {
        let problem =
            format!("missing: this folder has weights as a Python pickle, {}, which runs code", excerpt(pickle));
        (problem, "load it in diffusers and save it with `save_pretrained(..., safe_serialization=True)`".to_string())
    } else {
        let problem = format!("missing: this folder holds {}", folder::listing(names));
        (problem, format!("copy or download the weights to it, as {WEIGHTS}, or as shards with {INDEX}"))
    };
    Error::file(folder.join(WEIGHTS), problem, remedy)
}

/// The shards that an index names, all of them files beside it.
fn shards(index: &Path) -> Result<Vec<PathBuf>> {
    let fields = python_json::read_object(index)?;
    let bad = |expected: &str, found: &Value| {
        Error::value(format!("{}: weight_map", index.display()), expected, excerpt(&found.to_string()))
    };
    let map = &fields.get("weight_map").unwrap_or(&Value::Null);
    let tensors = map.as_object().filter(|map| !map.is_empty());
    let tensors = tensors.ok_or_else(|| bad("an object: the file of each tensor, by its name", map))?;
    let mut names = BTreeSet::new();
    for shard in tensors.values() {
        let plain = |name: &&str| name.ends_with(".safetensors") && !name.contains(['/', '\\', ':', '\0']);
        names.insert(shard.as_str().filter(plain).ok_or_else(|| bad("names of safetensors files beside it", shard))?);
    }
    let folder = index.parent().unwrap_or(Path::new(""));
    for name in &names {
        if !folder.join(name).is_file() {
            let problem = format!("names the shard {}, which is not beside it", excerpt(name));
            return Err(Error::file(index, problem, "copy or download all shards to this folder"));
        }
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}
