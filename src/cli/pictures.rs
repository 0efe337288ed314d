//! Pictures from a model, for the subcommands that draw: with a progress bar, in batches that change nothing.

use std::ops::Range;

use ndarray::{Array4, Axis, concatenate};

use super::progress::Progress;
use crate::cluster::Ranks;
use crate::cluster::split::Split;
use crate::layers::flat;
use crate::numerics::Real;
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

/// How pictures are drawn, but for what they are.
#[derive(Clone, Copy, Debug)]
pub struct Batches {
    /// Pictures that are in memory at a time.
    pub batch: usize,
    /// How many of the first the leading rank has to draw itself, because it watches them.
    pub watched: usize,
}

/// Draws the pictures of these indices, shared out among the current ranks, of which each comes to have all; `watch` hears of each
/// batch's first place and each of its steps.
pub fn in_batches(
    model: &Pipeline,
    settings: &Settings,
    indices: Range<u64>,
    how: Batches,
    watch: impl FnMut(usize, &Moment),
) -> Result<Array4<f32>> {
    let count = (indices.end - indices.start) as usize;
    batches("sampling", (count, settings.chain.len(), how), watch, |part, watch| {
        draw(model, settings, indices.start + part.start as u64..indices.start + part.end as u64, watch)
    })
}

/// Who hears of each step.
pub type Watch<'a> = &'a mut dyn FnMut(&Moment) -> Result<()>;

/// Calls `draw` for `count` pictures, each of so many steps; as [`in_batches`].
pub fn batches(
    title: &'static str,
    (count, steps, how): (usize, usize, Batches),
    mut watch: impl FnMut(usize, &Moment),
    mut draw: impl FnMut(Range<usize>, Watch) -> Result<Array4<f32>>,
) -> Result<Array4<f32>> {
    let ranks = Ranks::current();
    let own = share(&ranks, count, how.watched);
    let starts: Vec<usize> = own.clone().step_by(how.batch).collect();
    let mut progress = Progress::new(title, (starts.len() * steps) as u64, "steps");
    let mut batches = Vec::with_capacity(starts.len());
    for (number, &first) in starts.iter().enumerate() {
        batches.push(draw(first..(first + how.batch).min(own.end), &mut |moment| {
            let t = moment.step.transition.from.t();
            progress.set((number * steps + moment.number) as u64, &format!("t = {t}"));
            watch(first, moment);
            Ok(())
        })?);
    }
    progress.finish("done");
    let views: Vec<_> = batches.iter().map(|batch| batch.view()).collect();
    if ranks.count() == 1 {
        return Ok(concatenate(Axis(0), &views).expect("batches of equal shape"));
    }
    let shape = views.first().map_or((0, 0, 0, 0), |view| view.dim());
    let mut words = vec![shape.1 as u32, shape.2 as u32, shape.3 as u32];
    batches.iter().for_each(|batch| f32::to_words(flat(batch), &mut words));
    let (mut numbers, mut shape) = (Vec::new(), [0; 3]);
    for said in ranks.all_gather(words).iter().filter(|said| said.len() > 3) {
        let (of_rank, words) = said.split_at(3);
        shape = std::array::from_fn(|i| of_rank[i] as usize);
        let first = numbers.len();
        numbers.resize(first + words.len(), 0.0);
        f32::from_words(words, &mut numbers[first..]);
    }
    let [height, width, channels] = shape;
    Ok(Array4::from_shape_vec((count, height, width, channels), numbers).expect("a share of all from each rank"))
}

/// This rank's part of the pictures: an equal one, but that the leading rank has those that are watched.
fn share(ranks: &Ranks, count: usize, watched: usize) -> Range<usize> {
    let of_leader = Split::new(count, ranks.count()).leaves_of(0).end.max(watched.min(count));
    if ranks.leads() {
        return 0..of_leader;
    }
    let others = Split::new(count - of_leader, ranks.count() - 1).leaves_of(ranks.rank() - 1);
    of_leader + others.start..of_leader + others.end
}

/// The magnification that makes pictures of this height easy to see.
pub fn scale_for(height: usize) -> usize {
    (56 / height).clamp(1, 4)
}

/// A column a class, where a model is told classes and they fit side by side.
pub fn columns_for(model: &Pipeline) -> Option<usize> {
    model.classes().filter(|classes| (2..=16).contains(classes))
}
