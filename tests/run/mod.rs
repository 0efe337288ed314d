//! A small run in a temporary folder, and the real binary on it.

#![allow(dead_code)] // each test binary uses its part

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ancestral::checkpoint::{pipeline, resume};
use ancestral::models::Network;
use ancestral::pipeline::Pipeline;
use ancestral::train::{Config, Preset, State};
use tempfile::TempDir;

/// The preset `tiny`, with as little beside its steps as can be.
pub fn config() -> Config {
    Config {
        steps: 3,
        batch_size: 2,
        checkpoint_every: 1,
        sample_count: 1,
        sample_steps: 1,
        evaluation_images: 1,
        ..Preset::Tiny.config()
    }
}

/// First weights, as if one step had been taken.
pub fn state(config: &Config) -> State {
    let network = Network::new(config.model.clone()).expect("a preset");
    State { step: 1, ..State::new(network.layout().initial(config.seed), true) }
}

/// A model as a pipeline.
pub fn model_of(config: &Config) -> Pipeline {
    let network = Network::new(config.model.clone()).expect("a preset");
    let scheduler = config.scheduler().expect("a preset");
    Pipeline::new(network, state(config).weights, scheduler, config.null_class()).expect("parts that fit")
}

/// A temporary folder with `run`: a checkpoint of step 1, its metrics, and a model.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Place::of(&config())
    }

    pub fn of(config: &Config) -> Self {
        let place = Place { folder: tempfile::tempdir().expect("a temporary folder") };
        pipeline::write(&model_of(config), &place.path("run/model")).expect("a model");
        resume::write(&place.path("run/checkpoint.safetensors"), config, &state(config)).expect("a checkpoint");
        place.write("run/metrics.jsonl", b"{\"step\":1,\"loss\":1.0,\"grad_norm\":1.0,\"lr\":0.1}\n");
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("a file")
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }

    /// The command, in this folder, with 4 GB to allocate: what asks for more than that on trust aborts.
    pub fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -v 4000000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_ancestral")]);
        command.env("RAYON_NUM_THREADS", "2").env("RUST_BACKTRACE", "0");
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, line: &str) -> Output {
        self.command().args(line.split_whitespace()).output().expect("a process")
    }

    /// Runs a command line and asserts that it is refused: status 2, no panic, and all `names` in the message.
    pub fn refuses(&self, line: &str, names: &[&str]) {
        assert_refused(&self.run(line), line, names);
    }
}

pub fn assert_refused(output: &Output, what: &str, names: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{what}: {:?}, {message}", output.status);
    assert!(!message.contains("panicked"), "{what}: {message}");
    for name in names {
        assert!(message.contains(name), "{what}: no `{name}` in: {message}");
    }
    assert!(message.len() < 3000, "{what}: a message that nobody reads: {message}");
}

pub fn assert_passed(output: &Output, what: &str) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{what}: {message}");
}

/// The files in `folder` and below that a writer left half-done.
pub fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .flat_map(|path| if path.is_dir() { leftovers(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "partial"))
        .collect()
}
