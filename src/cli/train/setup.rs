//! What a run starts from: a preset and its changes, a checkpoint, or another model's weights.

use std::path::Path;

use serde_json::{Value, json};

use super::super::progress::note;
use super::super::read_model;
use super::Args;
use crate::checkpoint::resume;
use crate::train::learning_rate::learning_rate;
use crate::train::{Config, State};
use crate::{Error, Result};

/// The config of a run and what it has learned so far.
pub(super) struct Start {
    pub config: Config,
    pub state: Option<State>,
    /// Whether the network is told the classes that the images have.
    pub adapts_classes: bool,
    /// What a resumed run does otherwise from here on.
    pub changes: Vec<Value>,
}

/// What the flags ask for, in a folder that suits it.
///
/// # Errors
/// A checkpoint or model that is there where a new run is to start, or is missing where one is to go on; whatever is wrong
/// with the files and the fields.
pub(super) fn start(args: &Args, out: &Path) -> Result<Start> {
    let checkpoint = out.join(resume::FILE);
    if args.resume {
        if !checkpoint.exists() {
            let remedy = "start a run without --resume, or name the folder of one with --out";
            return Err(Error::file(checkpoint, "there is no checkpoint to go on from", remedy));
        }
        return resumed(args, &checkpoint);
    }
    check_free(out)?;
    let config = config(args)?;
    let chosen = match &args.config {
        Some(file) => Config::fields_of(file)?.contains(&format!("model.{}", config.model.classes_field().0)),
        None => false,
    };
    match &args.from {
        Some(folder) => from_model(config, folder),
        None => {
            let adapts_classes = !chosen && (config.model.labels().is_some() || args.config.is_some());
            Ok(Start { config, state: None, adapts_classes, changes: Vec::new() })
        }
    }
}

/// Refuses a folder in which a new run would overwrite another's work.
///
/// # Errors
/// A checkpoint or a model.
pub(super) fn check_free(out: &Path) -> Result<()> {
    if out.join(resume::FILE).exists() {
        let remedy = "go on with it by --resume, or choose another folder with --out";
        return Err(Error::file(out, "a run is here already", remedy));
    }
    if out.join("model/model_index.json").exists() {
        let problem = "a model without a checkpoint is here, which this run would overwrite";
        let remedy = format!("choose another folder with --out; to start from that model: --from {}", out.display());
        return Err(Error::file(out.join("model"), problem, remedy));
    }
    Ok(())
}

/// The preset with the fields of the file, then those of the flags.
pub(super) fn config(args: &Args) -> Result<Config> {
    let mut config = args.preset().config();
    if let Some(file) = &args.config {
        config = config.with_file(file)?;
    }
    config.data = args.data.clone().unwrap_or(config.data);
    config.steps = args.steps.unwrap_or(config.steps);
    config.batch_size = args.batch_size.unwrap_or(config.batch_size);
    config.optimizer.lr = args.lr.unwrap_or(config.optimizer.lr);
    config.seed = args.seed.unwrap_or(config.seed);
    config.validate()?;
    Ok(config)
}

/// A new run with another model's network, noise and weights.
fn from_model(mut config: Config, folder: &Path) -> Result<Start> {
    let model = read_model(folder)?;
    let scheduler = model.scheduler();
    config.model = model.network().config();
    config.set_noise(scheduler);
    if model.null_class().is_none() {
        config.label_dropout = 0.0;
    }
    config.sample_steps = config.sample_steps.min(scheduler.schedule.t_max());
    config.validate()?;
    if config.scheduler()?.schedule != scheduler.schedule {
        let problem =
            "its noise is a table of its own (trained_betas, rescale_betas_zero_snr), which a config cannot say";
        return Err(Error::file(folder, problem, "start from a model with a named beta_schedule"));
    }
    note(&format!("starting from the weights of {}, with its network and its noise", folder.display()));
    let state = State::new(model.weights().clone(), config.ema_decay > 0.0);
    Ok(Start { config, state: Some(state), adapts_classes: false, changes: Vec::new() })
}

/// The checkpoint's config and state, with the changes that the flags ask for.
fn resumed(args: &Args, checkpoint: &Path) -> Result<Start> {
    let (before, state) = resume::read(checkpoint)?;
    let mut config = before.clone();
    let mut changes = serde_json::Map::new();
    let mut change = |name: &str, from: Value, to: Value| {
        if from != to {
            changes.insert(name.into(), json!([from, to]));
        }
    };
    if let Some(steps) = args.steps {
        if steps < state.step {
            return Err(Error::value("--steps", format!("at least the {} steps taken", state.step), steps));
        }
        change("steps", json!(before.steps), json!(steps));
        config.steps = steps;
    }
    if let Some(lr) = args.lr {
        change("optimizer.lr", json!(before.optimizer.lr), json!(lr));
        config.optimizer.lr = lr;
    }
    if let Some(data) = &args.data {
        change("data", json!(before.data), json!(data));
        config.data = data.clone();
    }
    config.validate()?;
    if changes.is_empty() {
        return Ok(Start { config, state: Some(state), adapts_classes: false, changes: Vec::new() });
    }
    let rate = |config: &Config| {
        let o = &config.optimizer;
        learning_rate(state.step + 1, config.steps, o.lr, o.warm_up_steps, o.decay)
    };
    for (name, pair) in &changes {
        note(&format!("changed from step {} on: {name} from {} to {}", state.step + 1, pair[0], pair[1]));
    }
    if config.steps != before.steps || config.optimizer.lr != before.optimizer.lr {
        let (was, is) = (rate(&before), rate(&config));
        note(&format!("the learning rate of step {} is {is:.3e}; unchanged it would be {was:.3e}", state.step + 1));
    }
    changes.insert("after_step".into(), json!(state.step));
    Ok(Start { config, state: Some(state), adapts_classes: false, changes: vec![Value::Object(changes)] })
}
