//! What tiles to come read of A, in good time.
//!
//! The activations that a gradient needs were written a whole pass ago, and lie in the computer's memory. Processors fetch
//! ahead what is read in order, but a tile reads little of many lines far apart. All tiles together do go through A in
//! order: the furthest number that they have reached moves from the first to the last. So a sweep that goes before them, that
//! much faster, finds what they will read.

use super::{BLOCK, Gather};

/// Numbers that are fetched a step: a line every eighth step of f32, so every 32 cycles or more.
pub(super) const A_STEP: usize = 2;

/// A sweep through A before the tiles that read it.
pub(super) struct Ahead<'a, F> {
    a: Gather<'a, F>,
    strip: usize,
    fetched: usize,
    until: usize,
}

impl<'a, F> Ahead<'a, F> {
    /// From what the first rows reach in the first block, where strips have so many rows.
    #[inline(always)]
    pub(super) fn new(a: Gather<'a, F>, strip: usize) -> Self {
        let last_step = a.steps.chunks(BLOCK).next().and_then(<[_]>::last);
        let fetched = a.rows.first().zip(last_step).map_or(0, |(row, step)| row + step);
        Ahead { a, strip, fetched, until: 0 }
    }

    /// The tiles are those of this strip of rows and this block of steps: the sweep goes on to what the next block needs,
    /// or after the last block the next strip.
    #[inline(always)]
    pub(super) fn during(&mut self, strip: usize, block: usize) {
        let last_of = |table: &'a [usize], size: usize, part: usize| table.chunks(size).nth(part).and_then(<[_]>::last);
        let next = |strip, block| Some(last_of(self.a.rows, self.strip, strip)? + last_of(self.a.steps, BLOCK, block)?);
        self.until = next(strip, block + 1).or_else(|| next(strip + 1, 0)).unwrap_or(0);
    }

    /// What is fetched while a tile goes through `steps` steps: few enough lines for the memory to keep up.
    #[inline(always)]
    pub(super) fn next(&mut self, steps: usize) -> &'a [F] {
        let end = self.until.clamp(self.fetched, self.fetched + A_STEP * steps);
        let soon = &self.a.data[self.fetched..end];
        self.fetched = end;
        soon
    }
}
