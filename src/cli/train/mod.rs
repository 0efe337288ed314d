//! `ancestral train`: Algorithm 1 with a progress bar, checkpoints, pictures and a last evaluation.

mod folder;
mod follow;
mod run;
mod setup;

use std::path::{Path, PathBuf};

use self::run::Run;
use super::progress::note;
use super::{Exit, choices, print};
use crate::cluster::Ranks;
use crate::data::{self, Dataset, Shape, Split};
use crate::train::metrics::Metrics;
use crate::train::{Preset, Trainer, fields};
use crate::{Error, Result};

/// The flags of `train`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without flags: preset digits on the MNIST files in data/mnist, into runs/digits.\n\nA config file \
holds only the fields to change, under the names of the run's own train.json:\n  steps = 10000\n  [optimizer]\n  lr \
= 5e-4\n  [model]\n  block_out_channels = [32, 64]\n\nWhat a run leaves in --out:\n  model/\n      a \
diffusers folder; DDPMPipeline.from_pretrained loads that of a U-Net\n  \
train.json, metrics.jsonl\n      the whole \
config; one line for each step\n  checkpoint.safetensors\n      what --resume goes on from\n  loss.svg, \
samples.png, samples/, evaluation.json, evaluation.svg\n      what to look at\n\nExamples:\n  ancestral \
train\n  ancestral train --preset mnist --steps 5000 --out runs/mnist\n  ancestral train --data my/pictures \
--config my.toml --out runs/mine\n  ancestral train --resume --out runs/mnist\n  mpirun -n 4 ancestral \
train --preset cifar10 --data DIR\n      four processes, on as many machines as the host file has: the same bits \
(built with --features mpi)")]
pub struct Args {
    /// The config to start from [default: digits]
    #[arg(long, value_parser = choices::presets())]
    preset: Option<Preset>,
    /// A TOML or JSON file of fields to change in the preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Images to learn from: a folder of MNIST, CIFAR or EMNIST files, a folder of pictures whose sub-folders are classes,
    /// or the word `shapes`
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Training steps
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Images in a step
    #[arg(long, value_name = "B")]
    batch_size: Option<usize>,
    /// The highest learning rate
    #[arg(long, value_name = "X")]
    lr: Option<f64>,
    /// The seed of everything random
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// The folder of the run [default: runs/PRESET]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Start from the weights of another model: a run, a diffusers folder, a bare network folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["resume", "preset"])]
    from: Option<PathBuf>,
    /// Go on from the checkpoint in --out, with its config. --steps, --lr and --data change it from here on; without them
    /// the bits are those of a run that never stopped
    #[arg(long, conflicts_with_all = ["config", "batch_size", "seed", "preset"])]
    resume: bool,
    /// Stop after this step with a checkpoint, to go on later with --resume
    #[arg(long, value_name = "N")]
    stop_at: Option<u64>,
    /// Leave a checkpoint at least this often, in minutes, beside those of checkpoint_every steps
    #[arg(long, value_name = "M", default_value_t = 10.0)]
    checkpoint_minutes: f64,
    /// Print every field of the config with its meaning, as a config file, and stop
    #[arg(long)]
    print_config: bool,
}

impl Args {
    fn preset(&self) -> Preset {
        self.preset.unwrap_or(Preset::Digits)
    }

    fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| Path::new("runs").join(self.preset().name()))
    }
}

/// Trains until the last step, or until asked to stop.
pub fn run(args: &Args, ranks: &Ranks) -> Result<Exit> {
    if args.print_config {
        print(fields::to_toml(&setup::config(args)?).trim_end())?;
        return Ok(Exit::Passed);
    }
    if args.checkpoint_minutes.is_nan() || args.checkpoint_minutes <= 0.0 {
        return Err(Error::value("--checkpoint-minutes", "a positive number", args.checkpoint_minutes));
    }
    let out = args.out();
    // For the life of the run. A new run makes its folder only when everything that can be checked before has been.
    let mut lock = if ranks.leads() && args.resume && out.is_dir() { Some(folder::lock(&out)?) } else { None };
    let mut start = setup::start(args, &out)?;
    let (height, width) = start.config.model.image_size().expect("validated");
    let shape = Shape { height, width, channels: start.config.model.channels().0 };
    let training = data::load(&start.config.data, Split::Train, shape)?;
    let validation = data::load(&start.config.data, Split::Validation, shape)?;
    if start.adapts_classes {
        start.config.adapt_classes(&training);
    }
    if ranks.leads() {
        folder::check_data(&out, &training, args.resume && args.data.is_none())?;
    }
    let (introduction, fingerprint) = (introduction(&training, &validation, shape), training.fingerprint());
    let mut trainer = Trainer::new(start.config, training, start.state)?;
    ranks.agree(&follow::things(&trainer, &fingerprint))?;
    let stop_at = args.stop_at.unwrap_or(u64::MAX);
    if !ranks.leads() {
        follow::train(&mut trainer, ranks, stop_at)?;
        return Ok(Exit::Passed);
    }
    if lock.is_none() {
        lock = Some(folder::lock(&out)?);
        setup::check_free(&out)?; // another run may have come and gone meanwhile
    }
    folder::sweep(&out);
    folder::record(&out, trainer.config(), &fingerprint, start.changes)?;
    introduction.iter().for_each(|line| note(line));
    let (parameters, config) = (trainer.network().layout().count(), trainer.config());
    let (steps, batch_size) = (config.steps, config.batch_size);
    note(&format!("{parameters} parameters, {steps} steps of {batch_size} images, into {}", out.display()));

    let metrics = Metrics::open(&out.join("metrics.jsonl"), trainer.state().step)?;
    let mut run = Run { metrics, out, trainer, validation, checkpoint_minutes: args.checkpoint_minutes };
    let ended = run.train(ranks, stop_at).map_err(|error| run.with_advice(error))?;
    if ended {
        return run.finish().map_err(|error| run.with_advice(error));
    }
    let (step, out) = (run.trainer.state().step, run.out.display());
    note(&format!("stopped after step {step} with a checkpoint; go on with: ancestral train --resume --out {out}"));
    drop(lock);
    Ok(Exit::Passed)
}

/// What is trained on, in lines: which images, what was decided about them, and which class is which number.
fn introduction(training: &Dataset, validation: &Dataset, shape: Shape) -> Vec<String> {
    let (name, images) = (training.name(), training.len());
    let mut lines = vec![format!("{name}: {images} images of {shape}, {} to validate", validation.len())];
    lines.extend(training.notes().iter().map(|line| format!("note: {line}")));
    let are_numbers = |names: &&[String]| names.iter().enumerate().all(|(i, name)| *name == i.to_string());
    if let Some(names) = training.class_names().filter(|names| !are_numbers(names)) {
        const MOST: usize = 20;
        let listed: Vec<String> = names.iter().take(MOST).enumerate().map(|(i, name)| format!("{i} {name}")).collect();
        let more = if names.len() > MOST { format!(", and {} more", names.len() - MOST) } else { String::new() };
        lines.push(format!("classes: {}{more}", listed.join(", ")));
    }
    lines
}
