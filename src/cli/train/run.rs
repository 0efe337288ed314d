//! A run under way: steps with a progress bar, checkpoints, pictures, and what it ends with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::super::ema;
use super::super::pictures::{Batches, columns_for, in_batches, scale_for};
use super::super::progress::{Progress, note};
use super::super::{Exit, print};
use super::super::{Subject, eval};
use crate::checkpoint::{pipeline, resume, weights};
use crate::cluster::Ranks;
use crate::data::Dataset;
use crate::report::grid;
use crate::report::plot::loss_curve;
use crate::sample::Settings;
use crate::train::Trainer;
use crate::train::metrics::Metrics;
use crate::train::power_ema::WIDTHS;
use crate::{Error, Result, atomic};

/// The most images whose loss is computed while training.
const MOST_TO_VALIDATE: usize = 128;

/// A run under way: what is trained, and the folder that it lives in.
pub(super) struct Run {
    pub trainer: Trainer,
    pub validation: Dataset,
    pub out: PathBuf,
    pub metrics: Metrics,
    /// A checkpoint at least as often.
    pub checkpoint_minutes: f64,
}

impl Run {
    /// Steps until the config's last, `stop_at`, or a signal to stop; says whether the last was reached. A checkpoint is left
    /// whichever it is.
    pub fn train(&mut self, ranks: &Ranks, stop_at: u64) -> Result<bool> {
        let stop = stop_on_signal();
        let mut saved = Instant::now();
        let config = self.trainer.config().clone();
        let mut progress = Progress::resumed("training", self.trainer.state().step, config.steps, "steps");
        let (mut smooth, mut speed) = (None, Speed::new(self.trainer.state().step));
        while goes_on(&self.trainer, ranks, stop_at, &stop) {
            let mut report = ranks.install(|| self.trainer.step())?;
            if config.validate_every > 0 && report.step % config.validate_every == 0 {
                let images = config.evaluation_images.min(MOST_TO_VALIDATE);
                report.validation_loss = Some(self.trainer.loss_on(&self.validation, images)?);
            }
            self.metrics.push(&report)?;
            if config.post_hoc_every > 0 && (report.step % config.post_hoc_every == 0 || report.step == config.steps) {
                self.snapshot(report.step)?;
            }
            let loss = smooth.map_or(report.loss, |s: f64| s + 0.02 * (report.loss - s));
            smooth = Some(loss);
            let images = speed.at(report.step) * config.batch_size as f64;
            progress.set(report.step, &format!("loss {loss:.4}, {images:.0} images/s"));
            let minutes = saved.elapsed().as_secs_f64() / 60.0;
            if report.step % config.checkpoint_every == 0 || minutes >= self.checkpoint_minutes {
                self.checkpoint()?;
                saved = Instant::now();
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

    /// The metrics first: a checkpoint never knows of a step that they do not. The model is written as well, so that an
    /// unfinished run can be sampled and evaluated. Returns the SHA-256 of the model's weights.
    fn checkpoint(&mut self) -> Result<String> {
        self.metrics.flush()?;
        resume::write(&self.out.join(resume::FILE), self.trainer.config(), self.trainer.state())?;
        pipeline::write(&self.trainer.pipeline()?, &self.out.join("model"))
    }

    /// The averages whose width is chosen afterwards, each in a file of its own.
    fn snapshot(&self, step: u64) -> Result<()> {
        let averages = self.trainer.state().power.iter().flat_map(|averages| &averages.0);
        for (average, width) in averages.zip(WIDTHS) {
            weights::write(&ema::file_of(&self.out, step, width), self.trainer.network().layout(), average)?;
        }
        Ok(())
    }

    /// The same error with what can be done about it, given what this run has saved.
    pub fn with_advice(&self, error: Error) -> Error {
        let (lr, out) = (self.trainer.config().optimizer.lr, self.out.display());
        let saved = resume::read(&self.out.join(resume::FILE)).ok().map(|(_, state)| state.step);
        match error {
            Error::NonFinite { step, tensor, .. } => {
                let lower = lr / 2.0;
                let remedy = match saved {
                    Some(saved) => format!(
                        "the checkpoint of step {saved} is whole; go on from it with a lower rate: \
                         ancestral train --resume --out {out} --lr {lower}"
                    ),
                    None => format!("nothing was saved yet; start again with a lower rate, --lr {lower}"),
                };
                Error::NonFinite { step, tensor, remedy }
            }
            Error::File { path, problem, remedy } => {
                let saved = match saved {
                    Some(saved) => {
                        format!("; the checkpoint of step {saved} is whole: ancestral train --resume --out {out}")
                    }
                    None => "; nothing was saved yet".to_string(),
                };
                Error::File { path, problem, remedy: remedy + &saved }
            }
            other => other,
        }
    }

    fn draw_grid(&self, path: &Path) -> Result<()> {
        let (config, model) = (self.trainer.config(), self.trainer.pipeline()?);
        let settings = Settings {
            seed: config.seed,
            chain: model.scheduler().chain(config.sample_steps)?,
            ..Settings::new(&model)?
        };
        let pictures =
            in_batches(&model, &settings, 0..config.sample_count as u64, Batches { batch: 64, watched: 0 }, |_, _| {})?;
        grid(&pictures, columns_for(&model), 2, scale_for(pictures.dim().1)).save_png(path)
    }

    fn plot(&self) -> Result<()> {
        let title = format!("Training loss: {}", self.trainer.config().objective.words());
        loss_curve(&title, self.metrics.losses(), self.metrics.validation(), &self.out.join("loss.svg"))
    }

    /// The model folder, the last pictures and plots, the evaluation, and what is printed at the end.
    pub fn finish(&mut self) -> Result<Exit> {
        let (model, sha256) = (self.trainer.pipeline()?, self.checkpoint()?);
        self.draw_grid(&self.out.join("samples.png"))?;
        self.plot()?;
        let (state, validation) = (self.trainer.state(), &self.validation);
        let mut subjects = vec![Subject { name: "raw weights", weights: &state.weights }];
        subjects.extend(state.ema.as_ref().map(|weights| Subject { name: "EMA weights", weights }));
        let results = eval::evaluate_all(&model, &subjects, validation, self.trainer.config().evaluation_images)?;
        atomic::write(&self.out.join("evaluation.json"), eval::to_json(&results, validation.name()).as_bytes())?;
        eval::plot(&results, &self.out.join("evaluation.svg"))?;
        print(eval::to_table(&results, validation.name()))?;
        print(format!("pictures   {}", self.out.join("samples.png").display()))?;
        print(format!("model      {}", self.out.join("model").display()))?;
        let part = self.trainer.config().model.part_name();
        print(format!("SHA-256    {sha256}  {part}/diffusion_pytorch_model.safetensors"))?;
        Ok(Exit::Passed)
    }
}

/// Steps per second, over the last whole five seconds.
struct Speed {
    since: (Instant, u64),
    steps_per_second: f64,
    settled: bool,
}

impl Speed {
    fn new(step: u64) -> Self {
        Speed { since: (Instant::now(), step), steps_per_second: 0.0, settled: false }
    }

    fn at(&mut self, step: u64) -> f64 {
        let seconds = self.since.0.elapsed().as_secs_f64();
        if seconds >= 5.0 || !self.settled {
            self.steps_per_second = (step - self.since.1) as f64 / seconds;
        }
        if seconds >= 5.0 {
            (self.since, self.settled) = ((Instant::now(), step), true);
        }
        self.steps_per_second
    }
}

/// Whether there is a step to take: before the config's last and `stop_at`, as long as no rank has a signal to stop.
pub(super) fn goes_on(trainer: &Trainer, ranks: &Ranks, stop_at: u64, stop: &AtomicBool) -> bool {
    let step = trainer.state().step;
    step < trainer.config().steps && step < stop_at && !ranks.any(stop.load(Ordering::Relaxed))
}

/// A flag that Ctrl-C raises, as do SIGTERM (Slurm, docker stop) and SIGHUP (a closed terminal); a second signal ends the
/// process at once, the checkpoints being whole at any moment. A hang-up that the parent has ignored, as nohup does, stays
/// so.
pub(super) fn stop_on_signal() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in signals() {
        // The second signal first: it must find the flag as the one before left it. Where the system takes no handler, a
        // signal ends the process, as it does without one.
        let _ = flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)));
    }
    let raised = Arc::clone(&stop);
    // A handler may not write, and a step may last a minute: this thread answers.
    std::thread::spawn(move || {
        while !raised.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        note("\nstopping after this step; once more to stop at once");
    });
    stop
}

fn signals() -> Vec<i32> {
    #[cfg(unix)]
    if !hang_up_is_ignored() {
        return vec![SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
    }
    vec![SIGINT, SIGTERM]
}

/// Whether SIGHUP, number 1, is among the signals that this process ignores, where the system says.
#[cfg(unix)]
fn hang_up_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
