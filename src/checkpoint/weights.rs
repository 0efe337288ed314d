//! Weights in safetensors files, under diffusers' names and in PyTorch's layouts.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::atomic;
use crate::digest::sha256;
use crate::layers::{Layout, ParameterVector};
use crate::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// Reads the parameters that `layout` names, all of them and no others.
///
/// # Errors
/// A file that is cut off or no safetensors file; a tensor that is missing, not expected, of another shape or type, or
/// not finite: each by name.
pub fn read(path: &Path, layout: &Layout) -> Result<ParameterVector<f32>> {
    from_bytes(&atomic::read(path)?, path, layout)
}

/// [`read`] from memory; `path` names the file in errors.
///
/// # Errors
/// As [`read`].
pub fn from_bytes(bytes: &[u8], path: &Path, layout: &Layout) -> Result<ParameterVector<f32>> {
    let bad = |problem: String| Error::file(path, problem, "use weights of the model that config.json describes");
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| Error::file(path, format!("not a whole safetensors file: {e}"), "copy or download it again"))?;
    let mut found: BTreeMap<String, TensorView> = file.iter().map(|(name, view)| (current_name(name), view)).collect();
    if found.len() != file.len() {
        return Err(bad("two tensors have the same name".into()));
    }
    let mut views = Vec::with_capacity(layout.entries.len());
    for entry in &layout.entries {
        let view = found.remove(&entry.name).ok_or_else(|| bad(format!("tensor `{}` is missing", entry.name)))?;
        let shape = entry.axes.shape();
        // Old files keep the attention's projections as 1x1 convolutions or with another rank of 1s.
        if view.shape().iter().filter(|&&n| n != 1).ne(shape.iter().filter(|&&n| n != 1)) {
            return Err(bad(format!("tensor `{}`: expected shape {shape:?}, found {:?}", entry.name, view.shape())));
        }
        if view.dtype() != Dtype::F32 {
            return Err(bad(format!(
                "tensor `{}`: expected F32, found {:?}: save it with `.float()`",
                entry.name,
                view.dtype()
            )));
        }
        views.push((entry, view));
    }
    if let Some(name) = found.keys().next() {
        return Err(bad(format!("tensor `{name}` belongs to no layer of the model")));
    }
    // Only now: the file has all the numbers that memory is asked for.
    let mut tensors = ParameterVector::zeros(layout.count());
    for (entry, view) in views {
        let values: Vec<f32> = view.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        if let Some(value) = values.iter().find(|v| !v.is_finite()) {
            return Err(bad(format!("tensor `{}` holds {value}", entry.name)));
        }
        tensors[entry.span].copy_from_slice(&entry.axes.from_file(&values));
    }
    Ok(tensors)
}

/// Names that diffusers gave to an attention's projections before version 0.15, as they are called now.
fn current_name(name: &str) -> String {
    let renamed = [(".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")];
    renamed.iter().fold(name.to_string(), |name, (old, new)| name.replace(old, new))
}

/// A safetensors file of the weights: the same bytes for the same numbers.
pub fn to_bytes(layout: &Layout, tensors: &ParameterVector<f32>) -> Vec<u8> {
    let values: Vec<(&str, Vec<usize>, Vec<u8>)> = layout
        .entries
        .iter()
        .map(|entry| {
            let values = entry.axes.to_file(&tensors[entry.span]);
            (entry.name.as_str(), entry.axes.shape(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views = values.iter().map(|(name, shape, bytes)| {
        (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("four bytes for each number of the shape"))
    });
    let format = HashMap::from([("format".to_string(), "pt".to_string())]); // diffusers refuses a file without it
    safetensors::serialize(views, Some(format)).expect("names and shapes make a header")
}

/// Writes the weights and returns the file's SHA-256 in hexadecimal, what `sha256sum` prints for it.
///
/// # Errors
/// Whatever the operating system refuses.
pub fn write(path: &Path, layout: &Layout, tensors: &ParameterVector<f32>) -> Result<String> {
    let bytes = to_bytes(layout, tensors);
    atomic::write(path, &bytes)?;
    Ok(sha256(&bytes))
}
