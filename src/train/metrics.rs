//! `metrics.jsonl`: one JSON object a step, appended.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::StepReport;
use crate::{Error, Result, atomic};

/// The losses of a run, each with its step, ascending.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// Of every step's batch.
    pub training: Vec<(u64, f64)>,
    /// On validation images, of the steps after which they were looked at.
    pub validation: Vec<(u64, f64)>,
}

impl Losses {
    /// The losses of the first `step` steps in a run's file.
    ///
    /// # Errors
    /// As [`Metrics::open`].
    pub fn read(path: &Path, step: u64) -> Result<Self> {
        Ok(lines_of(path, step)?.1)
    }
}

/// The open file, and the losses in it.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: BufWriter<fs::File>,
    losses: Losses,
}

impl Metrics {
    /// Opens the file of a run that has taken `step` steps; what follows their lines, which a killed run left, is cut off.
    ///
    /// # Errors
    /// Whatever the operating system refuses; a line of those steps that is damaged, by its number.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let (kept, losses) =
            if step > 0 && path.exists() { lines_of(path, step)? } else { (Vec::new(), Losses::default()) };
        atomic::write(path, &kept)?;
        let file = fs::OpenOptions::new().append(true).open(path).map_err(|e| Error::io(path, "open", &e))?;
        Ok(Metrics { path: path.into(), file: BufWriter::new(file), losses })
    }

    /// Appends the line of a step.
    ///
    /// # Errors
    /// Whatever the operating system refuses.
    pub fn push(&mut self, report: &StepReport) -> Result<()> {
        self.losses.training.push((report.step, report.loss));
        self.losses.validation.extend(report.validation_loss.map(|loss| (report.step, loss)));
        let line = serde_json::to_string(report).expect("numbers are JSON");
        writeln!(self.file, "{line}").map_err(|e| Error::io(&self.path, "write", &e))
    }

    /// Brings all lines to the disk.
    ///
    /// # Errors
    /// Whatever the operating system refuses.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().and_then(|()| self.file.get_ref().sync_data()).map_err(|e| Error::io(&self.path, "write", &e))
    }

    /// (step, loss) of all steps so far.
    pub fn losses(&self) -> &[(u64, f64)] {
        &self.losses.training
    }

    /// (step, loss on validation images) of the steps after which they were looked at.
    pub fn validation(&self) -> &[(u64, f64)] {
        &self.losses.validation
    }
}

/// The lines of the first `step` steps, and the losses in them.
fn lines_of(path: &Path, step: u64) -> Result<(Vec<u8>, Losses)> {
    let (mut kept, mut losses, mut last) = (Vec::new(), Losses::default(), 0);
    let lines = atomic::read(path)?;
    let mut lines = lines.split_inclusive(|&byte| byte == b'\n').enumerate();
    while last < step {
        let (i, line) = lines.next().unwrap_or((losses.training.len(), b""));
        let value: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
        let (Some(n), Some(loss)) =
            (value["step"].as_u64().filter(|n| (last + 1..=step).contains(n)), value["loss"].as_f64())
        else {
            let problem = format!("line {}: expected the metrics of a step of {} to {step}", i + 1, last + 1);
            let remedy = "the checkpoint is whole: move this file away and resume again; a new one goes on from there";
            return Err(Error::file(path, problem, remedy));
        };
        last = n;
        losses.training.push((n, loss));
        losses.validation.extend(value["validation_loss"].as_f64().map(|loss| (n, loss)));
        kept.extend_from_slice(line.trim_ascii_end());
        kept.push(b'\n');
    }
    Ok((kept, losses))
}
