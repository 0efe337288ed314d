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
    watch: impl FnMut(usize, &Moment),
) -> Result<Array4<f32>> {
    let count = (indices.end - indices.start) as usize;
    batches("sampling", (count, batch, settings.chain.len()), watch, |part, watch| {
        draw(model, settings, indices.start + part.start as u64..indices.start + part.end as u64, watch)
    })
}

/// Who hears of each step.
pub type Watch<'a> = &'a mut dyn FnMut(&Moment) -> Result<()>;

/// Calls `draw` for `count` pictures, `batch` at a time, each of so many steps; as [`in_batches`].
pub fn batches(
    title: &'static str,
    (count, batch, steps): (usize, usize, usize),
    mut watch: impl FnMut(usize, &Moment),
    mut draw: impl FnMut(Range<usize>, Watch) -> Result<Array4<f32>>,
) -> Result<Array4<f32>> {
    let starts: Vec<usize> = (0..count).step_by(batch).collect();
    let mut progress = Progress::new(title, (starts.len() * steps) as u64, "steps");
    let mut batches = Vec::with_capacity(starts.len());
    for (number, &first) in starts.iter().enumerate() {
        batches.push(draw(first..(first + batch).min(count), &mut |moment| {
            let t = moment.step.transition.from.t();
            progress.set((number * steps + moment.number) as u64, &format!("t = {t}"));
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
