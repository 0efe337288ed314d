//! What the README says of files is true of the files in the tree.

use std::path::{Path, PathBuf};

use ancestral::checkpoint::{pipeline, scheduler};
use ancestral::digest::sha256;
use ancestral::train::Preset;

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
fn model_in_the_tree_is_saved_as_the_default_run_saves_it() {
    let config = Preset::Digits.config();
    let file = in_tree("data/models/digits/scheduler/scheduler_config.json");
    assert_eq!(
        std::fs::read_to_string(file).expect("a file"),
        scheduler::to_json(&config.scheduler().expect("a preset"))
    );
    let model = pipeline::read(&in_tree("data/models/digits")).expect("the model in the tree").pipeline;
    assert_eq!((model.network().config(), model.guidance()), (config.model.clone(), config.guidance()));
    let names: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
    assert_eq!((model.null_class(), model.class_names()), (config.null_class(), Some(&*names)));
    // Whole, and in the layout in which a run writes it.
    let folder = tempfile::tempdir().expect("a folder");
    pipeline::write(&model, folder.path()).expect("written");
    for name in ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"] {
        let [ours, theirs] = [folder.path().join(name), in_tree("data/models/digits").join(name)].map(std::fs::read);
        assert!(ours.expect("a file") == theirs.expect("a file"), "{name}");
    }
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

/// `cargo test` builds the examples beside the tests.
#[test]
fn examples_run_and_print_what_they_promise() {
    let test = std::env::current_exe().expect("this program");
    let folder = test.parent().and_then(Path::parent).expect("the folder of the build").join("examples");
    for (name, words) in [
        ("train_on_an_array", "(4, 16, 16, 1)"),
        ("one_reverse_step", "sigma = 0.109"),
        ("layers_and_a_loss", "gradients agree with central differences"),
    ] {
        let program = folder.join(name);
        assert!(program.exists(), "{} is not built: run `cargo test` whole", program.display());
        let output = std::process::Command::new(&program).output().expect("the example");
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains(words), "{name}: {said}{error}");
    }
}
