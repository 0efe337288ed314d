//! `checkpoint.safetensors`: parameters by name in PyTorch's layouts, and files of before that were flat.

mod run;

use std::collections::HashMap;
use std::path::Path;

use ancestral::checkpoint::resume;
use ancestral::digest::sha256;
use ancestral::layers::{Layout, ParameterVector};
use ancestral::models::Network;
use ancestral::train::{Config, State};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::Value;

/// A state whose every number is another.
fn state(config: &Config) -> (Layout, State) {
    let layout = Network::new(config.model.clone()).expect("a preset").layout().clone();
    let numbers = |first: f32| ParameterVector((0..layout.count()).map(|i| first + i as f32).collect());
    let mut state = State { step: 2, ..State::new(numbers(0.25), true) };
    (state.moments.m, state.moments.v, state.ema) = (numbers(0.5), numbers(1.0), Some(numbers(0.75)));
    (layout, state)
}

fn metadata(file: &[u8]) -> String {
    let (_, metadata) = SafeTensors::read_metadata(file).expect("our own file");
    metadata.metadata().as_ref().expect("metadata")["state"].clone()
}

/// A file as it was before: a flat vector each, in the order of memory, under the digest of header and vectors.
fn old_file(config: &Config, state: &State) -> Vec<u8> {
    let bytes = |vector: &ParameterVector<f32>| vector.0.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let vectors = [
        ("weights", bytes(&state.weights)),
        ("m", bytes(&state.moments.m)),
        ("v", bytes(&state.moments.v)),
        ("ema", bytes(state.ema.as_ref().expect("an average"))),
    ];
    let header = metadata(&resume::to_bytes(config, state).expect("finite"));
    let signature = serde_json::from_str::<Value>(&header).expect("JSON")["sha256"].as_str().expect("text").to_string();
    let unsigned = header.replace(&signature, "");
    let signed = [unsigned.as_bytes(), &vectors.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<u8>>()];
    let header = header.replace(&signature, &sha256(&signed.concat()));
    let views = vectors.iter().map(|(name, bytes)| {
        (*name, TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes).expect("four bytes a number"))
    });
    serialize(views, Some(HashMap::from([("state".into(), header)]))).expect("a file")
}

#[test]
fn checkpoint_has_each_parameter_by_its_name_in_pytorchs_layout() {
    let config = run::config();
    let (layout, state) = state(&config);
    let bytes = resume::to_bytes(&config, &state).expect("finite");
    let file = SafeTensors::deserialize(&bytes).expect("a file");
    assert_eq!(file.len(), 4 * layout.entries.len());
    let vectors = [&state.weights, &state.moments.m, &state.moments.v, state.ema.as_ref().expect("an average")];
    for (vector, numbers) in ["weights", "m", "v", "ema"].into_iter().zip(vectors) {
        for entry in &layout.entries {
            let view = file.tensor(&format!("{vector}.{}", entry.name)).expect("a parameter");
            assert_eq!(view.shape(), entry.axes.shape(), "{vector}.{}", entry.name);
            let found: Vec<f32> = view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
            assert_eq!(found, entry.axes.to_file(&numbers[entry.span]), "{vector}.{}", entry.name);
        }
    }
}

#[test]
fn checkpoint_of_before_gives_the_same_state() {
    let config = run::config();
    let (_, state) = state(&config);
    let now = resume::to_bytes(&config, &state).expect("finite");
    let old = old_file(&config, &state);
    assert!(SafeTensors::deserialize(&old).expect("a file").tensor("weights").is_ok(), "flat");
    let (config, state) = resume::from_bytes(&old, Path::new("c")).expect("a file of before");
    assert!(resume::to_bytes(&config, &state).expect("finite") == now, "another state");
    let flipped = |at: usize| [&old[..at], &[old[at] ^ 1], &old[at + 1..]].concat();
    let refusal = resume::from_bytes(&flipped(old.len() - 4), Path::new("c")).expect_err("a flipped bit").to_string();
    assert!(refusal.contains("SHA-256"), "{refusal}");
}

#[test]
fn checkpoint_of_another_network_than_its_configs_is_not_written() {
    let config = run::config();
    let mut state = state(&config).1;
    state.moments.v.0.pop();
    let refusal = resume::to_bytes(&config, &state).expect_err("a number is missing").to_string();
    assert!(refusal.starts_with("v: expected"), "{refusal}");
}
