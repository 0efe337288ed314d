//! Pictures from a model, for the subcommands that draw: with a progress bar, in batches that change nothing.

use std::ops::Range;

use ndarray::{Array4, Axis, concatenate};

use super::progress::Progress;
use crate::pipeline::Pipeline;
use crate::sample::{Moment, Settings, draw};
use crate::{Error, Result};

/// The most numbers in all pictures of a call, magnified.
const MAX_NUMBERS: usize = 1 << 30;

/// Refuses pictures, or a sheet of them at this scale, that memory would not hold when they are done.
pub fn check_count(count: usize, (height, width, channels): (usize, usize, usize), scale: usize) -> Result<()> {
    let on_sheet = (height * width * channels).saturating_mul(scale * scale);
    if count.saturating_mul(on_sheet) <= MAX_NUMBERS {
        return Ok(());
    }
    let expected =
        format!("at most {} pictures of {height}x{width}x{channels} at --scale {scale}", MAX_NUMBERS / on_sheet);
    Err(Error::value("--count", expected, count))
}

/// Draws the pictures of these indices, `batch` at a time; `watch` hears of each batch's first place and each of its steps.
pub fn in_batches(
    model: &Pipeline,
    settings: &Settings,
    indices: Range<u64>,
    batch: usize,
    mut watch: impl FnMut(usize, &Moment),
) -> Result<Array4<f32>> {
    let steps = settings.chain.len() as u64;
    let starts: Vec<u64> = indices.clone().step_by(batch).collect();
    let mut progress = Progress::new("sampling", starts.len() as u64 * steps, "steps");
    let mut batches = Vec::with_capacity(starts.len());
    for (number, &start) in starts.iter().enumerate() {
        let range = start..(start + batch as u64).min(indices.end);
        let first = (start - indices.start) as usize;
        batches.push(draw(model, settings, range, |moment| {
            let t = moment.step.transition.from.t();
            progress.set(number as u64 * steps + moment.number as u64, &format!("t = {t}"));
            watch(first, moment);
            Ok(())
        })?);
    }
    progress.finish("done");
    let views: Vec<_> = batches.iter().map(|batch| batch.view()).collect();
    Ok(concatenate(Axis(0), &views).expect("batches of equal shape"))
}

/// The magnification that makes pictures of this height easy to see.
pub fn scale_for(height: usize) -> usize {
    (56 / height).clamp(1, 4)
}

/// A column a class, where a model is told classes and they fit side by side.
pub fn columns_for(model: &Pipeline) -> Option<usize> {
    model.classes().filter(|classes| (2..=16).contains(classes))
}
