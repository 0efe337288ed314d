//! What the README says of files is true of the files in the tree.

use std::path::{Path, PathBuf};

use ancestral::digest::sha256;

fn in_tree(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn hash_of_the_default_run_in_the_readme_is_that_of_the_model_in_the_tree() {
    let readme = std::fs::read_to_string(in_tree("README.md")).expect("the README");
    let line = readme.lines().find(|line| line.starts_with("SHA-256    ")).expect("the last line of the default run");
    let published = line.split_whitespace().nth(1).expect("a hash");
    let weights = in_tree("data/models/digits/unet/diffusion_pytorch_model.safetensors");
    assert_eq!(sha256(&std::fs::read(weights).expect("the model in the tree")), published);
}

#[test]
fn library_example_in_the_readme_is_the_one_that_is_built() {
    let readme = std::fs::read_to_string(in_tree("README.md")).expect("the README");
    let (_, rest) = readme.split_once("```rust\n").expect("an example in Rust");
    let (shown, _) = rest.split_once("```").expect("its end");
    let file = std::fs::read_to_string(in_tree("examples/train_on_an_array.rs")).expect("the example");
    let (_, built) = file.split_once("\n\n").expect("a line of what it is, and the program");
    assert_eq!(shown, built);
}
