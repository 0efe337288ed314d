//! One golden case in one safetensors file: an operation, its attributes, its inputs, and what is known of its results.
//!
//! Images and weights are in PyTorch's layouts. `__metadata__` holds strings: `op`, `attributes` (a JSON object), `contract`, and
//! `order` (the names of the results in the order of execution, a JSON list); where known mistakes are stored in part,
//! `partial` ([`Case::partial`]).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Map, Value, json};

use super::format::Format;
use crate::numerics::CONTRACT;
use crate::{Error, Result, atomic};

/// A tensor of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum Tensor {
    /// Inputs, and results in float32.
    F32(ArrayD<f32>),
    /// The truth, and tolerances.
    F64(ArrayD<f64>),
    /// Timesteps and labels.
    I64(ArrayD<i64>),
}

impl Tensor {
    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            Tensor::F32(x) => x.shape(),
            Tensor::F64(x) => x.shape(),
            Tensor::I64(x) => x.shape(),
        }
    }

    /// Its numbers, widened; integers beyond 2⁵³ are rounded.
    pub fn to_f64(&self) -> ArrayD<f64> {
        match self {
            Tensor::F32(x) => x.mapv(f64::from),
            Tensor::F64(x) => x.clone(),
            Tensor::I64(x) => x.mapv(|x| x as f64),
        }
    }

    /// Its type by its name in a file.
    pub fn dtype(&self) -> Dtype {
        match self {
            Tensor::F32(_) => Dtype::F32,
            Tensor::F64(_) => Dtype::F64,
            Tensor::I64(_) => Dtype::I64,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        fn bytes<T: Copy, const N: usize>(x: &ArrayD<T>, le: fn(T) -> [u8; N]) -> Vec<u8> {
            x.iter().flat_map(|&x| le(x)).collect()
        }
        match self {
            Tensor::F32(x) => bytes(x, f32::to_le_bytes),
            Tensor::F64(x) => bytes(x, f64::to_le_bytes),
            Tensor::I64(x) => bytes(x, i64::to_le_bytes),
        }
    }

    fn from_view(view: &TensorView) -> std::result::Result<Tensor, String> {
        fn array<T, const N: usize>(view: &TensorView, le: fn([u8; N]) -> T) -> std::result::Result<ArrayD<T>, String> {
            let numbers = view.data().as_chunks::<N>().0.iter().map(|&bytes| le(bytes)).collect();
            ArrayD::from_shape_vec(view.shape(), numbers).map_err(|e| format!("shape {:?}: {e}", view.shape()))
        }
        match view.dtype() {
            Dtype::F32 => array(view, f32::from_le_bytes).map(Tensor::F32),
            Dtype::F64 => array(view, f64::from_le_bytes).map(Tensor::F64),
            Dtype::I64 => array(view, i64::from_le_bytes).map(Tensor::I64),
            other => Err(format!("expected F32, F64 or I64, found {other:?}")),
        }
    }
}

/// An operation and everything that is known of it.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// Where it was read from or will be written to: for messages, and for the models that attributes name.
    pub path: PathBuf,
    /// The name of the operation.
    pub op: String,
    /// Its attributes.
    pub attributes: Map<String, Value>,
    /// The names of the results in the order of execution.
    pub order: Vec<String>,
    /// Of known mistakes that are stored in part, how the names of the results begin that are not.
    pub partial: BTreeMap<String, Vec<String>>,
    /// The format of a backend's numbers, for the tolerances.
    pub format: Format,
    /// Whether every float32 input stands for its square: for sums of squares of products.
    pub squares: bool,
    /// `input.NAME`, `grad_output`, `output`, `grad.NAME`, `bits.NAME`, `tol.NAME`, ...
    pub tensors: BTreeMap<String, Tensor>,
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// A file that is cut off or no safetensors file, a tensor of an unknown type, metadata that is missing or no JSON.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_bytes(&atomic::read(path)?, path)
    }

    /// [`read`](Case::read) from memory.
    ///
    /// # Errors
    /// As [`read`](Case::read).
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let (tensors, metadata) = read_tensors(bytes, path)?;
        let bad = |field: &str, expected: &str, found: &str| {
            Err(Error::value(format!("{}: __metadata__: {field}", path.display()), expected, found))
        };
        let Some(op) = metadata.get("op").cloned() else {
            return bad("op", "the name of an operation", "nothing");
        };
        if let Some(contract) = metadata.get("contract").filter(|contract| *contract != CONTRACT) {
            return bad("contract", CONTRACT, contract);
        }
        let text = |field: &str, empty: &str| metadata.get(field).cloned().unwrap_or(empty.into());
        let attributes = text("attributes", "{}");
        let Ok(attributes) = serde_json::from_str(&attributes) else {
            return bad("attributes", "a JSON object", &attributes);
        };
        let order = text("order", "[]");
        let Ok(order) = serde_json::from_str(&order) else {
            return bad("order", "a JSON list of names", &order);
        };
        let partial = text("partial", "{}");
        let Ok(partial) = serde_json::from_str(&partial) else {
            return bad("partial", "a JSON object of lists of names", &partial);
        };
        let dtype = text("dtype", Format::F32.name());
        let Ok(format) = serde_json::from_value(Value::from(dtype.as_str())) else {
            return bad("dtype", "f32, f16 or bf16", &dtype);
        };
        Ok(Case { path: path.into(), op, attributes, order, partial, format, squares: false, tensors })
    }

    /// The file of the case: the same bytes for the same case.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut metadata = HashMap::from([
            ("op".to_string(), self.op.clone()),
            ("attributes".to_string(), Value::Object(self.attributes.clone()).to_string()),
            ("contract".to_string(), CONTRACT.to_string()),
            ("order".to_string(), json!(self.order).to_string()),
        ]);
        if self.format != Format::F32 {
            metadata.insert("dtype".to_string(), self.format.name().to_string());
        }
        if !self.partial.is_empty() {
            metadata.insert("partial".to_string(), json!(self.partial).to_string());
        }
        write_tensors(&self.tensors, metadata)
    }

    /// Refuses a case that nothing can be judged by: without results, or without the truth, bits or tolerance of one.
    ///
    /// # Errors
    /// The tensor that is missing or has another shape.
    pub fn check_complete(&self) -> Result<()> {
        let remedy = "export the kit again with `ancestral golden export`";
        let bad = |problem: String| Err(Error::file(&self.path, problem, remedy));
        if self.order.is_empty() {
            return bad("expected the names of results in `order`, found none".into());
        }
        for name in &self.order {
            let shape = self.tensors.get(name).map(Tensor::shape);
            for tensor in [name.clone(), format!("bits.{name}"), format!("tol.{name}")] {
                match self.tensors.get(&tensor).map(Tensor::shape) {
                    Some(found) if Some(found) == shape => {}
                    found => return bad(format!("tensor `{tensor}`: expected shape {shape:?}, found {found:?}")),
                }
            }
        }
        Ok(())
    }

    /// The result of this name, in f64.
    ///
    /// # Panics
    /// If the case has no such tensor.
    pub fn numbers(&self, name: &str) -> ArrayD<f64> {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.path.display())).to_f64()
    }
}

/// All tensors of a safetensors file, and its metadata.
///
/// # Errors
/// A file that is cut off or no safetensors file, or a tensor that is not F32, F64 or I64.
pub fn read_tensors(bytes: &[u8], path: &Path) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, String>)> {
    let damaged = |e| Error::file(path, format!("not a whole safetensors file: {e}"), "write or copy it again");
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let tensor = Tensor::from_view(&view).map_err(|problem| {
            Error::file(path, format!("tensor `{name}`: {problem}"), "save it as float32, or int64 for t and labels")
        })?;
        tensors.insert(name.to_string(), tensor);
    }
    let metadata = header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok((tensors, metadata))
}

/// A safetensors file whose header is sorted: the same bytes for the same tensors.
pub fn write_tensors(tensors: &BTreeMap<String, Tensor>, metadata: HashMap<String, String>) -> Vec<u8> {
    let data: Vec<_> = tensors.iter().map(|(name, tensor)| (name, tensor, tensor.to_bytes())).collect();
    let views = data.iter().map(|(name, tensor, bytes)| {
        let view = TensorView::new(tensor.dtype(), tensor.shape().to_vec(), bytes);
        (name.as_str(), view.expect("as many bytes as the shape asks for"))
    });
    sorted_metadata(safetensors::serialize(views, Some(metadata)).expect("names and shapes make a header"))
}

/// The file with its `__metadata__` in the order of its keys: the library writes them in that of a hash map.
fn sorted_metadata(file: Vec<u8>) -> Vec<u8> {
    let length = u64::from_le_bytes(*file.first_chunk().expect("a header's length")) as usize;
    let (header, data) = file[8..].split_at(length);
    let header: Value = serde_json::from_slice(header).expect("a header is JSON");
    let mut sorted = header.to_string(); // serde_json's maps are sorted
    sorted.extend(std::iter::repeat_n(' ', sorted.len().next_multiple_of(8) - sorted.len()));
    let mut bytes = (sorted.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(sorted.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> Case {
        let x = ArrayD::from_shape_vec(vec![2, 2], vec![1.0f32, -0.0, f32::MIN_POSITIVE, 3.5]).expect("four numbers");
        let t = ArrayD::from_shape_vec(vec![1], vec![i64::MAX]).expect("one number");
        Case {
            op: "silu".into(),
            attributes: Map::from_iter([("b".into(), json!(1)), ("a".into(), json!([0.1, "x"]))]),
            order: vec!["output".into()],
            tensors: BTreeMap::from([("input.x".into(), Tensor::F32(x)), ("input.t".into(), Tensor::I64(t))]),
            ..Case::default()
        }
    }

    #[test]
    fn case_written_and_read_is_the_same_and_its_bytes_are_always_the_same() {
        let bytes = case().to_bytes();
        assert!((0..20).all(|_| case().to_bytes() == bytes));
        let read = Case::from_bytes(&bytes, Path::new("a.safetensors")).expect("our own file");
        assert_eq!((read.op, read.attributes), (case().op, case().attributes));
        assert_eq!((read.order, read.tensors), (case().order, case().tensors));
    }

    #[test]
    fn case_of_another_contract_or_without_an_operation_is_refused() {
        let refused = |metadata: &[(&str, &str)]| {
            let metadata = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let bytes = write_tensors(&BTreeMap::new(), metadata);
            Case::from_bytes(&bytes, Path::new("a.safetensors")).unwrap_err().to_string()
        };
        assert!(refused(&[("attributes", "{}")]).contains("op: expected the name of an operation"));
        assert!(refused(&[("op", "silu"), ("contract", "N2")]).contains("contract: expected N1, found N2"));
        assert!(refused(&[("op", "silu"), ("attributes", "[]")]).contains("attributes: expected a JSON object"));
        assert!(refused(&[("op", "silu"), ("order", "{}")]).contains("order: expected a JSON list"));
    }
}
