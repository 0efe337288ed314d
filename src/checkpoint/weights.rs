//! Weights in safetensors files, under diffusers' names and in PyTorch's layouts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{lfs, widen};
use crate::digest::sha256;
use crate::layers::{Layout, ParameterVector};
use crate::{Error, Result, atomic};

/// Reads the parameters that `layout` names, all of them and no others.
///
/// # Errors
/// A file that is cut off or no safetensors file; a tensor that is missing, not expected, of another shape, or not of
/// finite numbers: each by name.
pub fn read(path: &Path, layout: &Layout) -> Result<ParameterVector<f32>> {
    from_bytes(&atomic::read(path)?, path, layout)
}

/// [`read`] from memory; `path` names the file in errors.
///
/// # Errors
/// As [`read`].
pub fn from_bytes(bytes: &[u8], path: &Path, layout: &Layout) -> Result<ParameterVector<f32>> {
    let file = parse(bytes, path)?;
    gather(path, file.iter().map(|(name, view)| (path, name, view)), layout).map(|(weights, _)| weights)
}

/// Reads weights that lie in one file or in several, and says what was not F32 in them. `place` is named in errors that
/// concern all files.
///
/// # Errors
/// As [`read`], and a tensor that is in two files.
pub(super) fn read_all(
    place: &Path,
    paths: &[PathBuf],
    layout: &Layout,
) -> Result<(ParameterVector<f32>, Option<String>)> {
    let contents = paths.iter().map(|path| atomic::read(path)).collect::<Result<Vec<_>>>()?;
    let files: Vec<SafeTensors> =
        contents.iter().zip(paths).map(|(bytes, path)| parse(bytes, path)).collect::<Result<_>>()?;
    let tensors = paths.iter().zip(&files);
    let tensors = tensors.flat_map(|(path, file)| file.iter().map(move |(name, view)| (path.as_path(), name, view)));
    let (weights, types) = gather(place, tensors, layout)?;
    let foreign: Vec<String> = types.iter().filter(|t| **t != Dtype::F32).map(|t| format!("{t:?}")).collect();
    let done = if types.contains(&Dtype::F64) { "rounded" } else { "widened" };
    let note = format!("{}: the weights are {}, {done} to F32", place.display(), foreign.join(" and "));
    Ok((weights, (!foreign.is_empty()).then_some(note)))
}

/// A safetensors file's header, checked against its length.
fn parse<'a>(bytes: &'a [u8], path: &Path) -> Result<SafeTensors<'a>> {
    lfs::refuse_pointer(bytes, path)?;
    SafeTensors::deserialize(bytes)
        .map_err(|e| Error::file(path, format!("not a whole safetensors file: {e}"), "copy or download it again"))
}

/// The parameters of `layout` from tensors by their files and names, and of which types they were.
fn gather<'a>(
    place: &Path,
    tensors: impl Iterator<Item = (&'a Path, &'a str, TensorView<'a>)>,
    layout: &Layout,
) -> Result<(ParameterVector<f32>, BTreeSet<Dtype>)> {
    let bad = |path: &Path, problem| Error::file(path, problem, "use weights of the model that config.json describes");
    let mut found = BTreeMap::new();
    for (path, name, view) in tensors {
        let name = current_name(name);
        if let Some((other, _)) = found.insert(name.clone(), (path, view)) {
            let places = if other == path { "is there twice".into() } else { format!("is in {} too", other.display()) };
            return Err(bad(path, format!("tensor `{name}` {places}")));
        }
    }
    let mut views = Vec::with_capacity(layout.entries.len());
    for entry in &layout.entries {
        let view = found.remove(&entry.name);
        let (path, view) = view.ok_or_else(|| bad(place, format!("tensor `{}` is missing", entry.name)))?;
        let shape = entry.axes.shape();
        // Old files keep the attention's projections as 1x1 convolutions or with another rank of 1s.
        if view.shape().iter().filter(|&&n| n != 1).ne(shape.iter().filter(|&&n| n != 1)) {
            let problem = format!("tensor `{}`: expected shape {shape:?}, found {:?}", entry.name, view.shape());
            return Err(bad(path, problem));
        }
        views.push((entry, path, view));
    }
    if let Some((name, (path, _))) = found.first_key_value() {
        return Err(bad(path, format!("tensor `{name}` belongs to no layer of the model")));
    }
    // Only now: the files have all the numbers that memory is asked for.
    let (mut weights, mut types) = (ParameterVector::zeros(layout.count()), BTreeSet::new());
    for (entry, path, view) in views {
        let values =
            widen::to_f32(&view).map_err(|problem| bad(path, format!("tensor `{}`: {problem}", entry.name)))?;
        weights[entry.span].copy_from_slice(&entry.axes.from_file(&values));
        types.insert(view.dtype());
    }
    Ok((weights, types))
}

/// Names that diffusers gave to an attention's projections before version 0.15, as they are called now.
fn current_name(name: &str) -> String {
    let renamed = [(".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")];
    renamed.iter().fold(name.to_string(), |name, (old, new)| name.replace(old, new))
}

/// A tensor on its way to a file: name, shape, bytes.
pub(super) type NamedBytes = (String, Vec<usize>, Vec<u8>);

/// The tensors of a vector, each named `prefix` and its parameter, in the layout's order.
pub(super) fn tensors(prefix: &str, layout: &Layout, vector: &ParameterVector<f32>) -> Vec<NamedBytes> {
    let tensor = |entry: &crate::layers::parameters::Entry| {
        let values = entry.axes.to_file(&vector[entry.span]);
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        (format!("{prefix}{}", entry.name), entry.axes.shape(), bytes)
    };
    layout.entries.iter().map(tensor).collect()
}

/// A safetensors file of the tensors, with metadata of one key: the same bytes for the same contents.
pub(super) fn serialize(tensors: &[NamedBytes], (key, value): (&str, String)) -> Vec<u8> {
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("four bytes for each number of the shape"))
    });
    safetensors::serialize(views, Some(HashMap::from([(key.into(), value)]))).expect("names and shapes make a header")
}

/// A safetensors file of the weights: the same bytes for the same numbers.
pub fn to_bytes(layout: &Layout, weights: &ParameterVector<f32>) -> Vec<u8> {
    serialize(&tensors("", layout, weights), ("format", "pt".into())) // diffusers refuses a file without it
}

/// Writes the weights and returns the file's SHA-256 in hexadecimal, what `sha256sum` prints for it.
///
/// # Errors
/// Whatever the operating system refuses.
pub fn write(path: &Path, layout: &Layout, weights: &ParameterVector<f32>) -> Result<String> {
    let bytes = to_bytes(layout, weights);
    atomic::write(path, &bytes)?;
    Ok(sha256(&bytes))
}
