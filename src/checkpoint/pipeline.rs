//! A model folder of diffusers: `DDPMPipeline.from_pretrained` loads what is written here of a U-Net, and the reverse.
//!
//! ```text
//! model_index.json                              which classes the parts are
//! scheduler/scheduler_config.json               the noise, what is predicted, how to sample
//! unet/config.json                              the architecture
//! unet/diffusion_pytorch_model.safetensors      the weights
//! ```
//!
//! A transformer is in `transformer/` instead of `unet/`. No pipeline of diffusers draws pixels with one, since theirs decodes
//! latents, so its index has a class's name of its own.

use std::path::Path;

use serde_json::{Value, json};

use super::folder::{self, INDEX, SCHEDULER};
use super::weight_files::{self, WEIGHTS};
use super::{python_json, scheduler, weights};
use crate::diffusion::{BetaSchedule, Prediction, Schedule};
use crate::layers::ParameterVector;
use crate::models::{DIFFUSERS_VERSION, Network, NetworkConfig};
use crate::pipeline::{Pipeline, Scheduler, UsualGuidance};
use crate::sample::Spacing;
use crate::{Error, Result, atomic};

/// The key of the network's `config.json` that says which class embedding stands for "no class"; diffusers skips keys with an
/// underscore.
const NULL_CLASS: &str = "_null_class";

/// The key of the names of the classes, in the order of their numbers.
const CLASS_NAMES: &str = "_class_names";

/// The key of how the model is guided where nobody says so.
const GUIDANCE: &str = "_guidance";

/// What an average of diffusers' `EMAModel` writes of itself into the network's config.json.
const OF_THE_AVERAGE: [&str; 7] =
    ["decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup"];

/// A model as it was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The model.
    pub pipeline: Pipeline,
    /// What was assumed, chosen or converted on the way: a line each, for the user to see.
    pub notes: Vec<String>,
}

/// Reads the model in a folder: a run of this program, a pipeline, a network's folder, a checkpoint of a diffusers trainer.
/// A network without a scheduler has the linear schedule with T = 1000 and predicts ε.
///
/// # Errors
/// A folder that is none of these, and whatever is wrong with its files, by file and field.
pub fn read(folder: &Path) -> Result<Loaded> {
    let found = folder::find(folder)?;
    let (scheduler, of_scheduler) = match &found.scheduler {
        Some(path) => scheduler::read(path)?,
        None => {
            let assumed = "no scheduler_config.json: assumed linear, T = 1000, epsilon";
            (default_scheduler()?, Some(format!("{}: {assumed}", found.network.display())))
        }
    };
    let path = found.network.join("config.json");
    let described = described(&atomic::read_text(&path)?, &path)?;
    let files = weight_files::find(&found.network)?;
    let (weights, of_weights) = weights::read_all(&files.place, &files.paths, described.network.layout())?;
    let pipeline = described.with(weights, scheduler)?;
    let notes = found.notes.into_iter().chain(of_scheduler).chain(files.note).chain(of_weights).collect();
    Ok(Loaded { pipeline, notes })
}

/// The files of a pipeline folder, in memory.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// `scheduler_config.json`.
    pub scheduler: &'a str,
    /// The network's `config.json`.
    pub config: &'a str,
    /// `diffusion_pytorch_model.safetensors`.
    pub weights: &'a [u8],
}

/// [`read()`] from memory; `place` names the model in errors.
///
/// # Errors
/// Whatever is wrong with the files, by file and field.
pub fn from_files(files: &Files, place: &Path) -> Result<Pipeline> {
    let described = described(files.config, &place.join("config.json"))?;
    let scheduler = scheduler::from_json(files.scheduler, &place.join(SCHEDULER))?;
    let weights = weights::from_bytes(files.weights, &place.join(WEIGHTS), described.network.layout())?;
    described.with(weights, scheduler)
}

/// Writes a pipeline folder and returns the SHA-256 of its weights file.
///
/// # Errors
/// Whatever the operating system refuses.
pub fn write(pipeline: &Pipeline, folder: &Path) -> Result<String> {
    let (layout, of_network, scheduler) =
        (pipeline.network().layout(), pipeline.network().config(), pipeline.scheduler());
    let part = of_network.part_name();
    let class = match of_network {
        NetworkConfig::UNet(_) => "DDPMPipeline",
        NetworkConfig::Dit(_) => "PixelDiTPipeline",
    };
    let index = json!({
        "_class_name": class,
        "_diffusers_version": DIFFUSERS_VERSION,
        "scheduler": ["diffusers", scheduler.sampler.entry().class],
        part: ["diffusers", of_network.class_name()],
    });
    let mut config: Value = serde_json::from_str(&of_network.to_json()).expect("our own JSON");
    if pipeline.null_class().is_some() || of_network.usual_null_class().is_some() {
        config[NULL_CLASS] = pipeline.null_class().into();
    }
    if pipeline.guides() && pipeline.guidance() != UsualGuidance::default() {
        config[GUIDANCE] = json!(pipeline.guidance());
    }
    if let Some(names) = pipeline.class_names() {
        config[CLASS_NAMES] = names.into();
    }
    let sha256 = weights::write(&folder.join(part).join(WEIGHTS), layout, pipeline.weights())?;
    atomic::write(&folder.join(part).join("config.json"), format!("{config:#}\n").as_bytes())?;
    scheduler::write(scheduler, &folder.join(SCHEDULER))?;
    atomic::write(&folder.join(INDEX), format!("{index:#}\n").as_bytes())?;
    Ok(sha256)
}

/// What a network's config.json describes.
struct Described {
    network: Network,
    null_class: Option<usize>,
    class_names: Option<Vec<String>>,
    guidance: UsualGuidance,
}

impl Described {
    /// The model with these weights.
    fn with(self, weights: ParameterVector<f32>, scheduler: Scheduler) -> Result<Pipeline> {
        let pipeline =
            Pipeline::new(self.network, weights, scheduler, self.null_class)?.with_guidance(self.guidance)?;
        match self.class_names.filter(|names| Some(names.len()) == pipeline.classes()) {
            Some(names) => pipeline.with_class_names(names),
            None => Ok(pipeline),
        }
    }
}

/// The network that the text of a config.json describes, the label for "no class", and the names of the classes.
fn described(text: &str, path: &Path) -> Result<Described> {
    let mut fields = python_json::object(text, path)?;
    fields.retain(|name, _| !OF_THE_AVERAGE.contains(&name.as_str()));
    let null_class = fields.remove(NULL_CLASS);
    // Names are for people: where they are no list of texts, there are none.
    let class_names = fields.remove(CLASS_NAMES).and_then(|names| serde_json::from_value::<Vec<String>>(names).ok());
    let guidance = match fields.remove(GUIDANCE) {
        None => UsualGuidance::default(),
        Some(said) => serde_json::from_value(said.clone()).map_err(|_| {
            let expected = "a weight, and an interval or null";
            Error::value(format!("{}: {GUIDANCE}", path.display()), expected, python_json::excerpt(&said.to_string()))
        })?,
    };
    let config = NetworkConfig::from_json(&Value::Object(fields).to_string(), &path.display().to_string())?;
    let network = Network::new(config).map_err(|e| Error::file(path, e.to_string(), "use a smaller model"))?;
    let last = network.labels().map(|labels| labels - 1);
    let Some(null_class) = null_class else {
        let null_class = network.config().usual_null_class();
        return Ok(Described { network, null_class, class_names, guidance });
    };
    match (null_class, last) {
        (Value::Null, _) => Ok(Described { network, null_class: None, class_names, guidance }),
        (label, Some(last)) if label == last => {
            Ok(Described { network, null_class: Some(last), class_names, guidance })
        }
        (label, last) => {
            let expected = last.map_or("null: there are no classes".into(), |last| format!("{last}, the last class"));
            Err(Error::value(format!("{}: {NULL_CLASS}", path.display()), expected, label))
        }
    }
}

/// What a network without a scheduler is sampled with: the schedule of Ho et al. 2020.
fn default_scheduler() -> Result<Scheduler> {
    let schedule = Schedule::new(BetaSchedule::Linear, 1000, 1e-4, 0.02)?;
    Ok(Scheduler { spacing: Spacing::Leading, ..Scheduler::new(schedule, Prediction::Epsilon, Some(1.0))? })
}
