//! `ancestral ema`: a model with an average of another width, from a run that kept snapshots of its averages.

use std::path::{Path, PathBuf};

use super::{Exit, flag, print, read_model};
use crate::checkpoint::{pipeline, weights};
use crate::train::power_ema::{WIDTHS, combined, shares};
use crate::{Error, Result};

/// The folder of the snapshots in that of a run.
pub(super) const FOLDER: &str = "averages";

/// The flags of `ema`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A run whose config has post_hoc_every = N keeps a snapshot of two averages every N steps; from all of them an \
average of any width is put together. The width is the standard deviation of what a step counts, as a share of the \
steps so far: 0.05 is short, 0.28 counts all steps alike.\n\nExamples:\n  ancestral ema --width 0.05\n  ancestral \
ema --model runs/digits --width 0.12 --out runs/digits/wide")]
pub struct Args {
    /// The folder of the run
    #[arg(long, value_name = "DIR", default_value = "runs/digits")]
    model: PathBuf,
    /// The width of the average, above 0 and at most 0.288
    #[arg(long, value_name = "X")]
    width: f64,
    /// The step whose average it is [default: the last snapshot's]
    #[arg(long, value_name = "N")]
    step: Option<u64>,
    /// Where the model goes [default: the run's folder, model-ema-X]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// The file of a snapshot.
pub(super) fn file_of(run: &Path, step: u64, width: f64) -> PathBuf {
    run.join(FOLDER).join(format!("step-{step:06}-{width}.safetensors"))
}

/// The steps of the snapshots of a run, ascending.
///
/// # Errors
/// A folder without snapshots.
fn steps_of(run: &Path) -> Result<Vec<u64>> {
    let folder = run.join(FOLDER);
    let end = format!("-{}.safetensors", WIDTHS[0]);
    let step = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_prefix("step-")?.strip_suffix(&end)?.parse().ok()
    };
    let mut steps: Vec<u64> = std::fs::read_dir(&folder).into_iter().flatten().filter_map(step).collect();
    steps.sort_unstable();
    if steps.is_empty() {
        let remedy = "train with post_hoc_every = 500 in a config file, which keeps one every 500 steps";
        return Err(Error::file(folder, "expected snapshots of averages, found none", remedy));
    }
    Ok(steps)
}

/// Puts the average together and writes the model.
pub fn run(args: &Args) -> Result<Exit> {
    let steps = steps_of(&args.model)?;
    let model = read_model(&args.model)?;
    let last = args.step.unwrap_or(steps[steps.len() - 1]);
    let used = steps.into_iter().filter(|&step| step <= last);
    let snapshots: Vec<(f64, u64)> = used.flat_map(|step| WIDTHS.map(|width| (width, step))).collect();
    let shares = shares(&snapshots, args.width, last).map_err(|error| match error {
        Error::Value { field, expected, found } if field == "snapshots" => Error::value("--step", expected, found),
        other => flag(other, &["width"]),
    })?;
    let layout = model.network().layout();
    let read = |&(width, step): &(f64, u64)| weights::read(&file_of(&args.model, step, width), layout);
    let averages = snapshots.iter().map(read).collect::<Result<Vec<_>>>()?;
    let average = combined(shares.into_iter().zip(&averages));
    let out = args.out.clone().unwrap_or_else(|| args.model.join(format!("model-ema-{}", args.width)));
    let sha256 = pipeline::write(&model.with_weights(average)?, &out)?;
    print(format!("average    width {} at step {last}, from {} snapshots", args.width, snapshots.len()))?;
    print(format!("model      {}", out.display()))?;
    print(format!("SHA-256    {sha256}"))?;
    Ok(Exit::Passed)
}
