//! A model folder of diffusers: `DDPMPipeline.from_pretrained` loads what is written here, and the reverse.
//!
//! ```text
//! model_index.json                              which classes the parts are
//! scheduler/scheduler_config.json               the noise, what is predicted, how to sample
//! unet/config.json                              the architecture
//! unet/diffusion_pytorch_model.safetensors      the weights
//! ```

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{scheduler, weights};
use crate::diffusion::{BetaSchedule, Prediction, Schedule};
use crate::models::{DIFFUSERS_VERSION, Network, NetworkConfig};
use crate::pipeline::{Pipeline, Scheduler};
use crate::sample::Spacing;
use crate::{Error, Result, atomic};

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// The key of `unet/config.json` that says which class embedding stands for "no class"; diffusers skips keys with an underscore.
const NULL_CLASS: &str = "_null_class";

/// Reads a pipeline folder, a run of this program (its `model`), or a bare U-Net folder, which has the linear
/// schedule with T = 1000.
///
/// # Errors
/// A folder that is none of these, and whatever is wrong with its files, by file and field.
pub fn read(folder: &Path) -> Result<Pipeline> {
    let folder =
        if folder.join("model/model_index.json").is_file() { folder.join("model") } else { folder.to_path_buf() };
    let (unet_folder, scheduler) = if folder.join("unet").is_dir() {
        (folder.join("unet"), scheduler::read(&folder.join("scheduler/scheduler_config.json"))?)
    } else if folder.join("config.json").is_file() {
        (folder.clone(), default_scheduler()?)
    } else {
        let problem = if folder.is_dir() { "no model is in this folder" } else { "there is no such folder" };
        let remedy = "give a run of `ancestral train`, a diffusers pipeline folder, or a folder with config.json and its weights";
        return Err(Error::file(&folder, problem, remedy));
    };
    let (network, null_class) = read_network(&unet_folder.join("config.json"))?;
    let weights = weights::read(&weights_file(&unet_folder)?, network.layout())?;
    Pipeline::new(network, weights, scheduler, null_class)
}

/// Writes a pipeline folder and returns the SHA-256 of its weights file.
///
/// # Errors
/// Whatever the operating system refuses.
pub fn write(pipeline: &Pipeline, folder: &Path) -> Result<String> {
    let (network, scheduler) = (pipeline.network(), pipeline.scheduler());
    let index = json!({
        "_class_name": "DDPMPipeline",
        "_diffusers_version": DIFFUSERS_VERSION,
        "scheduler": ["diffusers", scheduler.sampler.entry().class],
        "unet": ["diffusers", network.config().class_name()],
    });
    let mut config: Value = serde_json::from_str(&network.config().to_json()).expect("our own JSON");
    if let Some(label) = pipeline.null_class() {
        config[NULL_CLASS] = label.into();
    }
    let sha256 = weights::write(&folder.join("unet").join(WEIGHTS), network.layout(), pipeline.weights())?;
    atomic::write(&folder.join("unet/config.json"), format!("{config:#}\n").as_bytes())?;
    scheduler::write(scheduler, &folder.join("scheduler/scheduler_config.json"))?;
    atomic::write(&folder.join("model_index.json"), format!("{index:#}\n").as_bytes())?;
    Ok(sha256)
}

fn read_network(path: &Path) -> Result<(Network, Option<usize>)> {
    let text = atomic::read_text(path)?;
    let network = Network::new(NetworkConfig::from_json(&text, &path.display().to_string())?)
        .map_err(|e| Error::file(path, e.to_string(), "use a smaller model"))?;
    let notes: Value = serde_json::from_str(&text).expect("read as JSON above");
    let last = network.labels().map(|labels| labels - 1);
    match (&notes[NULL_CLASS], last) {
        (Value::Null, _) => Ok((network, None)),
        (label, Some(last)) if *label == last => Ok((network, Some(last))),
        (label, last) => {
            let expected = last.map_or("null: there are no classes".into(), |last| format!("{last}, the last class"));
            Err(Error::value(format!("{}: {NULL_CLASS}", path.display()), expected, label))
        }
    }
}

/// The weights of a U-Net folder.
fn weights_file(folder: &Path) -> Result<PathBuf> {
    let file = folder.join(WEIGHTS);
    if !file.is_file() && folder.join("diffusion_pytorch_model.bin").is_file() {
        let remedy = "load it in diffusers and save it with `save_pretrained(..., safe_serialization=True)`";
        return Err(Error::file(&file, "missing: this folder has weights as a Python pickle, which runs code", remedy));
    }
    Ok(file)
}

/// What a bare U-Net is sampled with: the schedule of Ho et al. 2020.
fn default_scheduler() -> Result<Scheduler> {
    let schedule = Schedule::new(BetaSchedule::Linear, 1000, 1e-4, 0.02)?;
    Ok(Scheduler { spacing: Spacing::Leading, ..Scheduler::new(schedule, Prediction::Epsilon, Some(1.0))? })
}
