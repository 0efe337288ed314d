//! What is where in a folder that somebody calls a model.
//!
//! ```text
//! a pipeline                         a hub model of 2022         a checkpoint of a diffusers trainer
//!   model_index.json                   model_index.json            checkpoint-500/
//!   scheduler/scheduler_config.json    scheduler_config.json         unet_ema/config.json, weights
//!   unet/config.json, weights          config.json, weights          unet/config.json, weights
//! ```
//!
//! Where a pipeline has a U-Net it may have a transformer, in `transformer`. A run of this program has a pipeline in `model`.
//! A network's own folder, `.../unet`, has what lies beside it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::python_json::{self, excerpt};
use super::resume;
use crate::{Error, Result};

/// Which classes the parts of a pipeline are.
pub(super) const INDEX: &str = "model_index.json";

/// Where a pipeline keeps its scheduler.
pub(super) const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// What a pipeline calls its network, and the average of its weights.
const NETWORKS: [(&str, &str); 2] = [("unet", "unet_ema"), ("transformer", "transformer_ema")];

/// Parts that do nothing to the pictures.
const IDLE: [&str; 2] = ["feature_extractor", "safety_checker"];

/// Folders of parts without which a network's output is no picture, or its input is incomplete.
const OTHERS: [&str; 6] = ["vae", "vqvae", "movq", "text_encoder", "image_encoder", "prior"];

const REMEDY: &str =
    "give a run of `ancestral train`, a diffusers pipeline folder, or a folder with config.json and its weights";

/// Where the parts of a model are.
#[derive(Debug)]
pub(super) struct Found {
    /// The folder of the network: its config.json and its weights.
    pub network: PathBuf,
    /// The scheduler's file, if there is one.
    pub scheduler: Option<PathBuf>,
    /// What the user should know of the choice.
    pub notes: Vec<String>,
}

/// Finds the parts of the model in `given`.
///
/// # Errors
/// A file, a folder without a model, with what is in it, and a pipeline with parts that are not supported, by name.
pub(super) fn find(given: &Path) -> Result<Found> {
    if !given.is_dir() {
        return Err(no_folder(given));
    }
    let run = given.join("model");
    let folder = if run.join(INDEX).is_file() { &run } else { given };
    if let Some(found) = directly_in(folder)? {
        return Ok(found);
    }
    let names = names(folder)?;
    let step = |name: &String| name.strip_prefix("checkpoint-").and_then(|step| step.parse::<u64>().ok());
    if let Some(last) = names.iter().filter(|name| step(name).is_some()).max_by_key(|name| step(name))
        && let Some(mut found) = directly_in(&folder.join(last))?
    {
        found.notes.insert(0, format!("{}: no model but in checkpoints: {last} is the last", folder.display()));
        return Ok(found);
    }
    Err(nothing_fits(folder, &names))
}

/// The model of which this folder is the pipeline or the network.
fn directly_in(folder: &Path) -> Result<Option<Found>> {
    let network_in = |&(network, _): &&(&str, &str)| folder.join(network).is_dir();
    let average_in = |&(_, average): &&(&str, &str)| folder.join(average).join("config.json").is_file();
    let (network, mut notes, roots) = if let Some((name, average)) = NETWORKS.iter().find(average_in) {
        let (network, average) = (folder.join(name), folder.join(average));
        let note = format!("{}: the averaged weights are taken, not those of {name}", average.display());
        (average, Vec::from_iter(network.is_dir().then_some(note)), roots(folder, None))
    } else if let Some((name, _)) = NETWORKS.iter().find(network_in) {
        (folder.join(name), Vec::new(), roots(folder, None))
    } else if folder.join("config.json").is_file() {
        let pipeline = if folder.join(INDEX).is_file() { None } else { pipeline_of(folder) };
        let averages = pipeline.iter().flat_map(|pipeline| NETWORKS.map(|(_, average)| pipeline.join(average)));
        let is_other =
            |average: &PathBuf| average.join("config.json").is_file() && folder.file_name() != average.file_name();
        let average = averages.into_iter().find(is_other);
        let note = average.map(|average| format!("averaged weights are beside these, in {}", average.display()));
        (folder.to_path_buf(), Vec::from_iter(note), roots(folder, pipeline))
    } else {
        // Without a network there may still be an index that says which part it has instead.
        return refuse_other_parts(folder, folder).map(|()| None);
    };
    roots.iter().try_for_each(|root| refuse_other_parts(root, &network))?;
    let places = roots.iter().flat_map(|root| [root.join(SCHEDULER), root.join("scheduler_config.json")]);
    let mut scheduler = places.into_iter().find(|place| fs::symlink_metadata(place).is_ok());
    if let Some(place) = scheduler.as_ref().filter(|place| !place.starts_with(folder)) {
        notes.push(format!("the scheduler is that of {}", place.display()));
    }
    if network != folder && folder.join(INDEX).is_file() {
        // A pipeline promises a scheduler: where it is lost, that is an error, with its place.
        scheduler = scheduler.or(Some(folder.join(SCHEDULER)));
    }
    Ok(Some(Found { network, scheduler, notes }))
}

/// The folders in which the rest of the model may be: this one, its pipeline's, and that of the run of a diffusers trainer.
fn roots(folder: &Path, pipeline: Option<PathBuf>) -> Vec<PathBuf> {
    let mut roots = vec![folder.to_path_buf()];
    roots.extend(pipeline);
    let last = roots.last().expect("the first");
    let is_checkpoint = whole(last).and_then(|last| Some(last.file_name()?.to_str()?.starts_with("checkpoint-")));
    roots.extend(is_checkpoint.filter(|is| *is).and_then(|_| parent(last)));
    roots
}

/// The pipeline of which a network's folder is a part, if it is one.
fn pipeline_of(network: &Path) -> Option<PathBuf> {
    let named =
        whole(network).is_some_and(|folder| folder.file_name().and_then(|name| name.to_str()).is_some_and(is_read));
    parent(network).filter(|above| named || above.join(INDEX).is_file() || above.join(SCHEDULER).is_file())
}

/// Whether it is the name of a part of a pipeline that is read.
fn is_read(name: &str) -> bool {
    name == "scheduler" || NETWORKS.iter().any(|&(network, average)| name == network || name == average)
}

/// The path with all its folders.
fn whole(folder: &Path) -> Option<PathBuf> {
    let path = if folder.file_name().is_some() { std::path::absolute(folder) } else { fs::canonicalize(folder) };
    path.ok()
}

/// The folder that this one is in.
fn parent(folder: &Path) -> Option<PathBuf> {
    let near = folder.parent().filter(|parent| folder.file_name().is_some() && !parent.as_os_str().is_empty());
    near.map(Path::to_path_buf).or_else(|| Some(whole(folder)?.parent()?.to_path_buf()))
}

/// Refuses a pipeline that has more than this network and a scheduler, such as the decoder of a latent model.
fn refuse_other_parts(root: &Path, network: &Path) -> Result<()> {
    let index = root.join(INDEX);
    let network = network.file_name().and_then(|name| name.to_str());
    let pair =
        NETWORKS.iter().find(|&&(name, average)| network.is_some_and(|network| network == name || network == average));
    let is_ours = |found: &str| match pair {
        Some(&(name, average)) => found == name || found == average || found == "scheduler",
        None => is_read(found),
    };
    let (place, pipeline, others) = if index.is_file() {
        let fields = python_json::read_object(&index)?;
        let class = |value: &Value| value.get(1).and_then(Value::as_str).map(excerpt); // [library, class]; null if left out
        let ours = |name: &str| name.starts_with('_') || is_ours(name) || IDLE.contains(&name);
        let others = fields.iter().filter(|(name, _)| !ours(name));
        let others = others.filter_map(|(name, value)| Some(format!("{} ({})", excerpt(name), class(value)?)));
        let pipeline = fields.get("_class_name").and_then(Value::as_str).unwrap_or("a pipeline");
        (index, excerpt(pipeline), others.collect::<Vec<_>>())
    } else {
        let others = OTHERS.iter().filter(|name| root.join(name).join("config.json").is_file());
        (root.to_path_buf(), "a pipeline".into(), others.map(|name| name.to_string()).collect())
    };
    if others.is_empty() {
        return Ok(());
    }
    let problem = format!(
        "{pipeline} with parts that are not supported: {}; without them the network draws no pictures",
        listing(&others)
    );
    Err(Error::file(place, problem, "give a pipeline of a network and a scheduler alone, such as a DDPMPipeline"))
}

/// The names in a folder, in order; those of folders end in a slash when they are listed.
///
/// # Errors
/// Whatever the operating system refuses.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io(folder, "read", &e))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// At most eight names, in words.
pub(super) fn listing<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| excerpt(name)).collect();
    match names.len() {
        0 => "nothing".into(),
        1..=8 => names.join(", "),
        all => format!("{} and {} more", names[..8].join(", "), all - 8),
    }
}

/// Whether a file is one of those that Python unpickles.
pub(super) fn is_pickle(file: &Path) -> bool {
    let pickles = ["bin", "ckpt", "pt", "pth", "pkl"];
    file.extension().and_then(|end| end.to_str()).is_some_and(|end| pickles.contains(&end))
}

/// Whether a model might be read from this folder.
fn holds_model(folder: &Path) -> bool {
    let has_config = |part: &str| folder.join(part).join("config.json").is_file();
    folder.join("model").join(INDEX).is_file()
        || folder.join(INDEX).is_file()
        || has_config("")
        || NETWORKS.iter().any(|&(network, average)| has_config(network) || has_config(average))
}

fn no_folder(given: &Path) -> Error {
    if !given.exists() {
        return Error::file(given, "there is no such folder", REMEDY);
    }
    let above = parent(given);
    let pipeline =
        above.as_deref().and_then(|folder| if holds_model(folder) { pipeline_of(folder) } else { parent(folder) });
    let folder = pipeline.filter(|folder| holds_model(folder)).or(above.filter(|folder| holds_model(folder)));
    let remedy = match folder {
        Some(folder) => format!("give the model's folder, {}", folder.display()),
        None if is_pickle(given) => "a Python pickle runs code and is not read: load it in diffusers, save it with \
            `save_pretrained(..., safe_serialization=True)`, and give that folder"
            .into(),
        None => REMEDY.into(),
    };
    Error::file(given, "expected the folder of a model, found a file", remedy)
}

fn nothing_fits(folder: &Path, names: &[String]) -> Error {
    let ends = |end: &str| names.iter().any(|name| name.ends_with(end));
    let remedy = match names.iter().map(|name| folder.join(name)).find(|inside| holds_model(inside)) {
        Some(inside) => format!("give the folder {}", inside.display()),
        None if names.iter().any(|name| name == resume::FILE) => {
            "this run of `ancestral train` has no model yet: go on with it, and give it again".into()
        }
        None if ends(".safetensors") => "config.json says which network the weights are of: copy it to them".into(),
        None if names.iter().any(|name| is_pickle(Path::new(name))) => {
            "a Python pickle runs code and is not read: load \
            it in diffusers and save it with `save_pretrained(..., safe_serialization=True)`"
                .into()
        }
        None => REMEDY.into(),
    };
    Error::file(folder, format!("no model is in this folder, which holds {}", listing(names)), remedy)
}
