//! The models of `data/models` in the program itself, so that it draws and measures pictures in any folder.

use std::path::Path;

use crate::Result;
use crate::checkpoint::classifier::{self, Saved};
use crate::checkpoint::pipeline::{self, Files};
use crate::pipeline::Pipeline;

/// The word that stands for them where a folder is asked for.
pub(super) const BUILT_IN: &str = "built-in";

macro_rules! file {
    ($include:ident, $name:literal) => {
        $include!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/models/", $name))
    };
}

/// Whether a folder is that word.
pub(super) fn is_built_in(folder: &Path) -> bool {
    folder.as_os_str() == BUILT_IN
}

/// The digits.
pub(super) fn model() -> Result<Pipeline> {
    let files = Files {
        scheduler: file!(include_str, "digits/scheduler/scheduler_config.json"),
        config: file!(include_str, "digits/unet/config.json"),
        weights: file!(include_bytes, "digits/unet/diffusion_pytorch_model.safetensors"),
    };
    pipeline::from_files(&files, Path::new(BUILT_IN))
}

/// Their classifier.
pub(super) fn classifier() -> Result<Saved> {
    let (config, data) = (file!(include_str, "classifier/config.json"), file!(include_str, "classifier/data.json"));
    let weights = file!(include_bytes, "classifier/model.safetensors");
    classifier::from_files(config, weights, Some(data), Path::new(BUILT_IN))
}
