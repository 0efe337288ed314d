//! `ancestral train`: Algorithm 1 with a progress bar, checkpoints, pictures and a last evaluation.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::eval::{self, Subject};
use super::pictures::{columns_for, in_batches, scale_for};
use super::progress::{Progress, note};
use super::{Exit, choices, print};
use crate::checkpoint::{pipeline, resume};
use crate::data::{self, Shape, Split};
use crate::report::grid;
use crate::report::plot::loss_curve;
use crate::sample::{Settings, timesteps};
use crate::train::metrics::Metrics;
use crate::train::{Config, Preset, Trainer};
use crate::{Error, Result, atomic};

/// The flags of `train`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without flags: preset digits on the MNIST files in data/mnist, into runs/digits.\n\nA config file \
holds only the fields to change, under the names of the run's own train.json:\n  steps = 10000\n  [optimizer]\n  lr \
= 5e-4\n  [model]\n  block_out_channels = [32, 64]\n\nWhat a run leaves in --out:\n  model/\n      a \
diffusers folder: DDPMPipeline.from_pretrained loads it\n  train.json, metrics.jsonl\n      the whole \
config; one line for each step\n  checkpoint.safetensors\n      what --resume goes on from\n  loss.svg, \
samples.png, samples/, evaluation.json, evaluation.svg\n      what to look at\n\nExamples:\n  ancestral \
train\n  ancestral train --preset mnist --steps 5000 --out runs/mnist\n  ancestral train --data my/pictures \
--config my.toml --out runs/mine\n  ancestral train --resume --out runs/mnist")]
pub struct Args {
    /// The config to start from [default: digits]
    #[arg(long, value_parser = choices::presets())]
    preset: Option<Preset>,
    /// A TOML or JSON file of fields to change in the preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A folder of MNIST or CIFAR-10 files or of PNG and JPEG pictures, or the word `shapes`
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
    /// Go on from the checkpoint in --out, with its config; only --stop-at and --threads may be given beside it
    #[arg(long, conflicts_with_all = ["config", "data", "steps", "batch_size", "lr", "seed"])]
    resume: bool,
    /// Stop after this step with a checkpoint, to go on later with --resume
    #[arg(long, value_name = "N")]
    stop_at: Option<u64>,
}

impl Args {
    fn out(&self) -> PathBuf {
        let preset = self.preset.unwrap_or(Preset::Digits);
        self.out.clone().unwrap_or_else(|| Path::new("runs").join(preset.name()))
    }

    /// The preset with the fields of the file, then those of the flags.
    fn config(&self) -> Result<Config> {
        let mut config = self.preset.unwrap_or(Preset::Digits).config();
        if let Some(file) = &self.config {
            config = config.with_file(file)?;
        }
        config.data = self.data.clone().unwrap_or(config.data);
        config.steps = self.steps.unwrap_or(config.steps);
        config.batch_size = self.batch_size.unwrap_or(config.batch_size);
        config.optimizer.lr = self.lr.unwrap_or(config.optimizer.lr);
        config.seed = self.seed.unwrap_or(config.seed);
        config.validate()?;
        Ok(config)
    }
}

/// Trains until the last step, or until asked to stop.
pub fn run(args: &Args) -> Result<Exit> {
    let out = args.out();
    let checkpoint = out.join(resume::FILE);
    let (mut config, state) = if args.resume {
        let (config, state) = resume::read(&checkpoint)?;
        (config, Some(state))
    } else if checkpoint.exists() {
        let remedy = "go on with it by --resume, or choose another folder with --out";
        return Err(Error::file(&out, "a run is here already", remedy));
    } else {
        (args.config()?, None)
    };
    let (height, width) = config.model.image_size().expect("validated");
    let shape = Shape { height, width, channels: config.model.channels().0 };
    let training = data::load(&config.data, Split::Train, shape)?;
    let validation = data::load(&config.data, Split::Validation, shape)?;
    if !args.resume && args.config.is_none() {
        // A preset that is told classes is told those of the images at hand, or none where they have none.
        if config.model.labels().is_some() {
            config.adapt_classes(&training);
        }
    }
    let name = training.name().to_string();
    let images = training.len();
    let trainer = Trainer::new(config, training, state)?;
    for folder in ["", "samples", "model", "model/unet", "model/scheduler"] {
        atomic::sweep(&out.join(folder));
    }
    atomic::write(&out.join("train.json"), trainer.config().to_json().as_bytes())?;
    note(&format!("{name}: {images} images of {shape}, {} to validate", validation.len()));
    note(&format!(
        "{} parameters, {} steps of {} images, into {}",
        trainer.network().layout().count(),
        trainer.config().steps,
        trainer.config().batch_size,
        out.display()
    ));

    let mut run = Run { metrics: Metrics::open(&out.join("metrics.jsonl"), trainer.state().step)?, out, trainer };
    if !run.train(args.stop_at.unwrap_or(u64::MAX))? {
        let step = run.trainer.state().step;
        note(&format!(
            "stopped after step {step} with a checkpoint; go on with: ancestral train --resume --out {}",
            run.out.display()
        ));
        return Ok(Exit::Passed);
    }
    run.finish(&validation)
}

struct Run {
    trainer: Trainer,
    out: PathBuf,
    metrics: Metrics,
}

impl Run {
    /// Steps until the config's last, `stop_at`, or Ctrl-C; says whether the last was reached. A checkpoint is left
    /// whichever it is.
    fn train(&mut self, stop_at: u64) -> Result<bool> {
        let stop = stop_on_interrupt();
        let config = self.trainer.config().clone();
        let mut progress = Progress::resumed("training", self.trainer.state().step, config.steps, "steps");
        let (mut smooth, mut speed) = (None, Speed::new(self.trainer.state().step));
        while self.trainer.state().step < config.steps
            && self.trainer.state().step < stop_at
            && !stop.load(Ordering::Relaxed)
        {
            let report = self.trainer.step()?;
            self.metrics.push(&report)?;
            let loss = smooth.map_or(report.loss, |s: f64| s + 0.02 * (report.loss - s));
            smooth = Some(loss);
            let images = speed.at(report.step) * config.batch_size as f64;
            progress.set(report.step, &format!("loss {loss:.4}, {images:.0} images/s"));
            if report.step % config.checkpoint_every == 0 {
                self.checkpoint()?;
            }
            if config.sample_every > 0 && report.step % config.sample_every == 0 && report.step < config.steps {
                let path = self.out.join(format!("samples/step-{:06}.png", report.step));
                self.draw_grid(&path)?;
                self.plot()?;
                progress.println(&format!("step {}: {}", report.step, path.display()));
            }
        }
        self.checkpoint()?;
        progress.finish(&smooth.map_or("done".to_string(), |loss| format!("loss {loss:.4}")));
        Ok(self.trainer.state().step == config.steps)
    }

    /// The metrics first: a checkpoint never knows of a step that they do not.
    fn checkpoint(&mut self) -> Result<()> {
        self.metrics.flush()?;
        resume::write(&self.out.join(resume::FILE), self.trainer.config(), self.trainer.state())
    }

    fn draw_grid(&self, path: &Path) -> Result<()> {
        let (config, model) = (self.trainer.config(), self.trainer.pipeline()?);
        let scheduler = model.scheduler();
        let (t_max, offset) = (scheduler.schedule.t_max(), scheduler.steps_offset);
        let settings = Settings {
            seed: config.seed,
            timesteps: timesteps(scheduler.spacing, t_max, config.sample_steps, offset)?,
            guidance: if model.null_class().is_some() { config.sample_guidance } else { 1.0 },
            ..Settings::new(&model)?
        };
        let pictures = in_batches(&model, &settings, 0..config.sample_count as u64, 64, |_, _| {})?;
        grid(&pictures, columns_for(&model), 2, scale_for(pictures.dim().1)).save_png(path)
    }

    fn plot(&self) -> Result<()> {
        loss_curve(
            "Training loss: mean squared error of the prediction",
            self.metrics.losses(),
            &[],
            &self.out.join("loss.svg"),
        )
    }

    /// The model folder, the last pictures and plots, the evaluation, and what is printed at the end.
    fn finish(&self, validation: &data::Dataset) -> Result<Exit> {
        let model = self.trainer.pipeline()?;
        let sha256 = pipeline::write(&model, &self.out.join("model"))?;
        self.draw_grid(&self.out.join("samples.png"))?;
        self.plot()?;
        let state = self.trainer.state();
        let mut subjects = vec![Subject { name: "raw weights", weights: &state.weights }];
        subjects.extend(state.ema.as_ref().map(|weights| Subject { name: "EMA weights", weights }));
        let results = eval::evaluate_all(&model, &subjects, validation, self.trainer.config().evaluation_images)?;
        atomic::write(&self.out.join("evaluation.json"), eval::to_json(&results).as_bytes())?;
        eval::plot(&results, &self.out.join("evaluation.svg"))?;
        print(eval::to_table(&results))?;
        print(format!("pictures   {}", self.out.join("samples.png").display()))?;
        print(format!("model      {}", self.out.join("model").display()))?;
        print(format!("SHA-256    {sha256}  unet/diffusion_pytorch_model.safetensors"))?;
        Ok(Exit::Passed)
    }
}

/// Steps a second, over the last whole five seconds.
struct Speed {
    since: (Instant, u64),
    steps_a_second: f64,
    settled: bool,
}

impl Speed {
    fn new(step: u64) -> Self {
        Speed { since: (Instant::now(), step), steps_a_second: 0.0, settled: false }
    }

    fn at(&mut self, step: u64) -> f64 {
        let seconds = self.since.0.elapsed().as_secs_f64();
        if seconds >= 5.0 || !self.settled {
            self.steps_a_second = (step - self.since.1) as f64 / seconds;
        }
        if seconds >= 5.0 {
            (self.since, self.settled) = ((Instant::now(), step), true);
        }
        self.steps_a_second
    }
}

/// A flag that Ctrl-C raises; a second Ctrl-C ends the process at once, the checkpoints being whole at any moment.
fn stop_on_interrupt() -> &'static AtomicBool {
    static STOP: AtomicBool = AtomicBool::new(false);
    let handler = || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        note("\nstopping after this step; once more to stop at once");
    };
    // It fails only where a handler is set already, by an embedding program whose business it then is.
    let _ = ctrlc::set_handler(handler);
    &STOP
}
