//! Foreign numbers: safetensors files written by PyTorch and diffusers, in their layouts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ancestral::layers::parameters::Axes;
use ndarray::{Array4, ArrayD};
use safetensors::tensor::{Dtype, SafeTensors};

/// All tensors of a file, widened to f64 without loss, and its metadata.
pub struct Peer {
    pub tensors: BTreeMap<String, ArrayD<f64>>,
    pub facts: BTreeMap<String, String>,
}

pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

impl Peer {
    pub fn open(name: &str) -> Self {
        let bytes = std::fs::read(fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let file = SafeTensors::deserialize(&bytes).expect("a whole file");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a whole header");
        let tensors = file.iter().map(|(key, view)| {
            let data = view.data();
            let values: Vec<f64> = match view.dtype() {
                Dtype::F32 => data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b) as f64).collect(),
                Dtype::F64 => data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
                Dtype::I64 => data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
                other => panic!("{name}: {key} is {other:?}"),
            };
            (key.to_string(), ArrayD::from_shape_vec(view.shape(), values).expect("as many as the shape says"))
        });
        let facts = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        Peer { tensors: tensors.collect(), facts }
    }

    pub fn get(&self, name: &str) -> &ArrayD<f64> {
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// Images from (n, c, h, w) to (n, h, w, c).
    pub fn images(&self, name: &str) -> Array4<f64> {
        channels_last(self.get(name))
    }

    /// The numbers of a parameter in our order.
    pub fn parameter(&self, name: &str, axes: &Axes) -> Vec<f64> {
        let tensor = self.get(name);
        assert_eq!(tensor.shape(), axes.shape(), "{name}");
        axes.from_file(tensor.as_slice().expect("contiguous"))
    }

    pub fn fact(&self, name: &str) -> f64 {
        self.facts[name].parse().unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

pub fn channels_last(images: &ArrayD<f64>) -> Array4<f64> {
    images
        .view()
        .into_dimensionality()
        .expect("four axes")
        .permuted_axes([0, 2, 3, 1])
        .as_standard_layout()
        .into_owned()
}

/// The largest |found − expected|, and the largest |expected|.
pub fn worst<'a>(found: impl IntoIterator<Item = f64>, expected: impl IntoIterator<Item = &'a f64>) -> (f64, f64) {
    let mut expected = expected.into_iter();
    let mut result = (0.0f64, 0.0f64);
    for found in found {
        let &expected = expected.next().expect("as many expected as found");
        assert!(found.is_finite());
        result = (result.0.max((found - expected).abs()), result.1.max(expected.abs()));
    }
    assert!(expected.next().is_none(), "more expected than found");
    result
}
