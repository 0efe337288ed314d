//! `metrics.jsonl`: one JSON object a step, appended.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::StepReport;
use crate::{Error, Result, atomic};

/// The open file, and the losses in it.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: BufWriter<fs::File>,
    losses: Vec<(u64, f64)>,
    validation: Vec<(u64, f64)>,
}

impl Metrics {
    /// Opens the file of a run that has taken `step` steps; what follows their lines, which a killed run left, is cut off.
    ///
    /// # Errors
    /// Whatever the operating system refuses; a line of those steps that is damaged, by its number.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let (mut kept, mut losses, mut validation) = (Vec::new(), Vec::new(), Vec::new());
        if step > 0 && path.exists() {
            let lines = atomic::read(path)?;
            let mut lines = lines.split_inclusive(|&byte| byte == b'\n').enumerate();
            let mut last = 0;
            while last < step {
                let (i, line) = lines.next().unwrap_or((losses.len(), b""));
                let value: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
                let (Some(n), Some(loss)) =
                    (value["step"].as_u64().filter(|n| (last + 1..=step).contains(n)), value["loss"].as_f64())
                else {
                    let problem = format!("line {}: expected the metrics of a step of {} to {step}", i + 1, last + 1);
                    let remedy =
                        "the checkpoint is whole: move this file away and resume again; a new one goes on from there";
                    return Err(Error::file(path, problem, remedy));
                };
                last = n;
                losses.push((n, loss));
                validation.extend(value["validation_loss"].as_f64().map(|loss| (n, loss)));
                kept.extend_from_slice(line.trim_ascii_end());
                kept.push(b'\n');
            }
        }
        atomic::write(path, &kept)?;
        let file = fs::OpenOptions::new().append(true).open(path).map_err(|e| Error::io(path, "open", &e))?;
        Ok(Metrics { path: path.into(), file: BufWriter::new(file), losses, validation })
    }

    /// Appends the line of a step.
    ///
    /// # Errors
    /// Whatever the operating system refuses.
    pub fn push(&mut self, report: &StepReport) -> Result<()> {
        self.losses.push((report.step, report.loss));
        self.validation.extend(report.validation_loss.map(|loss| (report.step, loss)));
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
        &self.losses
    }

    /// (step, loss on validation images) of the steps after which they were looked at.
    pub fn validation(&self) -> &[(u64, f64)] {
        &self.validation
    }
}
