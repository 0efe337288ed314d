//! The golden kit: made again to the byte, agreeing with PyTorch, refusing known mistakes, naming the layer that is wrong.

mod command;
mod judged;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ancestral::golden::case::{Case, Tensor, write_tensors};
use ancestral::golden::format::Format;
use ancestral::golden::kit::{Manifest, export};
use ancestral::golden::oracle::complete;
use serde_json::json;

use crate::peer::{Peer, fixture, worst};

fn kit() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/golden")
}

fn cases() -> Vec<(String, Case)> {
    let manifest = Manifest::read(&kit()).expect("a whole kit");
    manifest.cases.iter().map(|entry| (entry.id.clone(), entry.read(&kit()).expect("a whole case"))).collect()
}

/// All files of a folder, by their path in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = PathBuf::from(path.file_name().expect("a name"));
        if name.as_os_str() == "__pycache__" {
            continue; // what Python leaves beside golden.py
        }
        match path.is_dir() {
            true => found.extend(files(&path).into_iter().map(|(inner, bytes)| (name.join(inner), bytes))),
            false => drop(found.insert(name, std::fs::read(&path).expect("a file"))),
        }
    }
    found
}

/// What the contract computes, as the results of a backend.
fn bits(case: &Case) -> BTreeMap<String, Tensor> {
    case.order.iter().map(|name| (name.clone(), case.tensors[&format!("bits.{name}")].clone())).collect()
}

/// Results of the contract for every case, in a folder.
fn results() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (id, case) in cases() {
        write(&folder.path().join(format!("{id}.safetensors")), &bits(&case));
    }
    folder
}

fn write(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a new folder");
    std::fs::write(path, write_tensors(tensors, Default::default())).expect("a new file");
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a new folder");
        std::fs::write(path, bytes).expect("a new file");
    }
}

#[test]
fn kit_in_the_tree_is_made_again_to_the_byte_and_has_at_most_5_mb() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    export(folder.path(), &[], Format::F32, |_| ()).expect("a kit");
    let (again, here) = (files(folder.path()), files(&kit()));
    assert_eq!(again.keys().collect::<Vec<_>>(), here.keys().collect::<Vec<_>>());
    for (name, bytes) in &again {
        assert!(bytes == &here[name], "{} differs: `ancestral golden export --out data/golden`", name.display());
    }
    let size: usize = here.values().map(Vec::len).sum();
    assert!(size <= 5_000_000, "{size} bytes");
}

#[test]
fn oracle_in_f64_equals_pytorch_on_its_fixtures() {
    let cases = [
        ("conv2d_1x1", "conv2d", json!({"stride": 1, "padding": 0})),
        ("conv2d_3x3", "conv2d", json!({"stride": 1, "padding": 1})),
        ("conv2d_3x3_stride2", "conv2d", json!({"stride": 2, "padding": [1, 1, 1, 1]})),
        ("group_norm", "group_norm", json!({"groups": 4, "eps": 1e-5})),
        ("layer_norm", "layer_norm", json!({"eps": 1e-6})),
        ("linear", "linear", json!({})),
        ("silu", "silu", json!({})),
        ("gelu_tanh", "gelu_tanh", json!({})),
        ("attention", "attention", json!({"heads": 2})),
        ("upsample_nearest_2x", "upsample_nearest_2x", json!({})),
    ];
    for (name, op, attributes) in cases {
        let file = format!("layers/{name}.safetensors");
        let peer = Peer::open(&file);
        let bytes = std::fs::read(fixture(&file)).expect("a fixture");
        let mut case = Case::from_bytes(&bytes, Path::new(&file)).expect("a case");
        (case.op, case.attributes) = (op.into(), attributes.as_object().expect("attributes").clone());
        complete(&mut case, None).expect("golden values");
        for name in &case.order {
            let (error, scale) = worst(case.numbers(name), peer.get(name));
            assert!(error <= 1e-11 * scale, "{file}: {name} off by {error:e} of {scale}");
        }
    }
}

#[test]
fn oracle_in_f64_equals_pytorch_on_whole_networks_for_every_gradient() {
    for (op, name) in
        [("unet", "mnist_like"), ("unet", "class_conditional"), ("dit", "small"), ("dit", "learned_sigma_small")]
    {
        let folder = fixture(&format!("{op}/{name}"));
        let peer = Peer::open(&format!("{op}/{name}/io.safetensors"));
        let bytes = std::fs::read(folder.join("io.safetensors")).expect("a fixture");
        let (tensors, _) = ancestral::golden::case::read_tensors(&bytes, &folder).expect("a whole file");
        let mut case = Case { path: folder.join("case.safetensors"), op: op.into(), ..Case::default() };
        for input in ["x", "noise", "t", "class_labels"] {
            if let Some(tensor) = tensors.get(input) {
                case.tensors.insert(format!("input.{input}"), tensor.clone());
            }
        }
        case.attributes = json!({"model": ".", "gradients": true}).as_object().expect("attributes").clone();
        complete(&mut case, Some(ancestral::golden::oracle::Only::F64)).expect("golden values");
        let (loss, expected) = (case.numbers("output.loss")[[]], peer.get("loss_f64").sum());
        // The peer of the U-Nets embeds t in float32, whatever the network's precision, which moves the results by some 1e-6.
        let bound = if op == "dit" { 1e-11 } else { 1e-5 };
        assert!((loss / expected - 1.0).abs() < bound, "{name}: loss {loss}, {expected}");
        let scale = case.order.iter().filter(|n| n.starts_with("grad.")).map(|n| worst(case.numbers(n), peer.get(n)).1);
        let scale = scale.fold(0.0, f64::max);
        for name in case.order.iter().filter(|name| name.starts_with("grad.")) {
            let (error, _) = worst(case.numbers(name), peer.get(name));
            assert!(error <= 2.0 * bound * scale, "{name} off by {error:e} of {scale}");
        }
    }
}
