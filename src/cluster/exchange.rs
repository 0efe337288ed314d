//! One sum over the microbatches of all ranks: what is sent to whom, and what is done with what arrives.
//!
//! Nothing here waits or sends: it is told what happened, and says what follows. So it is tested without MPI, with messages in any
//! order.
//!
//! A piece of a node goes up to the owner of the node above ([`split`](super::split)), which adds it to the other half; the owner of
//! the root sends the whole down to all, from rank to rank. What ranks say beside (losses, whether to stop) goes to rank 0, and from
//! it to all, together.
//!
//! A message is words of 32 bits: which exchange, what it is, which piece, the node's first leaf and its end, and then the numbers'
//! bits, or the words of a note.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, mpsc};

use super::collect::{Given, add};
use super::link::{Early, Link, Talk};
use super::split::{Split, passes_on};
use crate::numerics::Real;

/// Words before the numbers.
const HEADER: usize = 5;

/// The fewest and the most numbers of a piece: below, a message costs more than what is in it; above, it waits for more layers than
/// it has to.
const PIECE: (usize, usize) = (1 << 12, 1 << 16);

/// The pieces of so many numbers: two or more for each rank, if they are not too small then.
pub fn pieces(length: usize, ranks: usize) -> Vec<Range<usize>> {
    let size = length.div_ceil(2 * ranks).clamp(PIECE.0, PIECE.1);
    crate::numerics::parallel::ranges(length, size)
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A piece of the sum of a node, on its way up.
    Sum = 0,
    /// A piece of the sum of all, on its way down.
    Total = 1,
    /// What one rank says.
    Note = 2,
    /// What all say.
    Notes = 3,
}

/// The pieces of the sum of all, as they arrived.
#[derive(Debug)]
pub struct Heard(Vec<(Range<usize>, Arc<Vec<u32>>)>);

impl Heard {
    /// Writes the numbers over those that are there.
    ///
    /// # Panics
    /// If they are more or fewer.
    pub fn write<F: Real>(&self, into: &mut [F]) {
        assert_eq!(into.len(), self.0.last().map_or(0, |(range, _)| range.end), "the length of the sum");
        self.0.iter().for_each(|(range, words)| F::from_words(&words[HEADER..], &mut into[range.clone()]));
    }
}

/// A sum under way, as one rank sees it.
#[derive(Debug)]
pub(super) struct Exchange<F> {
    number: u32,
    rank: usize,
    split: Split,
    pieces: Vec<Range<usize>>,
    given: mpsc::Receiver<Given<F>>,
    /// Of each piece the sums whose other half is not there yet.
    waiting: Vec<Vec<(Range<usize>, Vec<F>)>>,
    totals: Vec<Option<Arc<Vec<u32>>>>,
    missing: usize,
    /// What each rank said: rank 0 alone hears it.
    said: Vec<Option<Vec<u32>>>,
    notes: Option<Arc<Vec<u32>>>,
    to_send: VecDeque<(usize, Arc<Vec<u32>>)>,
    early: Early,
}

impl<F: Real> Exchange<F> {
    pub fn new(
        number: u32,
        (rank, split): (usize, Split),
        pieces: Vec<Range<usize>>,
        given: mpsc::Receiver<Given<F>>,
    ) -> Self {
        let missing = pieces.len();
        Exchange {
            number,
            rank,
            split,
            given,
            waiting: vec![Vec::new(); missing],
            totals: vec![None; missing],
            missing,
            pieces,
            said: vec![None; split.ranks()],
            notes: None,
            to_send: VecDeque::new(),
            early: Early::new(),
        }
    }

    /// Carries it out; what arrives for later ones is kept in `early`.
    pub fn run(mut self, link: &mut dyn Link, early: &mut Early) -> (Heard, Vec<Vec<u32>>) {
        for (from, words) in std::mem::take(early) {
            self.hear(from, words);
        }
        link.carry(&mut self);
        *early = self.early;
        let totals =
            self.pieces.into_iter().zip(self.totals.into_iter().map(|total| total.expect("over: all are there")));
        let notes = self.notes.expect("over: the notes are there");
        (Heard(totals.collect()), each_note(&notes[HEADER..]))
    }

    fn message(&self, kind: Kind, piece: usize, node: &Range<usize>) -> Vec<u32> {
        vec![self.number, kind as u32, piece as u32, node.start as u32, node.end as u32]
    }

    /// A piece of the sum of a node is known here.
    fn settle(&mut self, mut node: Range<usize>, piece: usize, mut sum: Vec<F>) {
        loop {
            let Some((above, other)) = self.split.parent_and_sibling(&node) else {
                let mut words = self.message(Kind::Total, piece, &node);
                F::to_words(&sum, &mut words);
                return self.total(piece, words);
            };
            let owner = self.split.owner(&above, piece);
            if owner != self.rank {
                let mut words = self.message(Kind::Sum, piece, &node);
                F::to_words(&sum, &mut words);
                self.to_send.push_back((owner, Arc::new(words)));
                return;
            }
            let waiting = &mut self.waiting[piece];
            let Some(there) = waiting.iter().position(|(range, _)| *range == other) else {
                waiting.push((node, sum));
                return;
            };
            add(&mut sum, &waiting.swap_remove(there).1);
            node = above;
        }
    }

    /// A piece of the sum of all is known here.
    fn total(&mut self, piece: usize, words: Vec<u32>) {
        let words = Arc::new(words);
        let owner = self.split.owner(&self.split.root(), piece);
        self.pass_on(owner, &words);
        self.totals[piece] = Some(words);
        self.missing -= 1;
    }

    fn pass_on(&mut self, root: usize, words: &Arc<Vec<u32>>) {
        let to = passes_on(root, self.rank, self.split.ranks());
        self.to_send.extend(to.into_iter().map(|rank| (rank, Arc::clone(words))));
    }

    fn note(&mut self, from: usize, words: Vec<u32>) {
        self.said[from] = Some(words);
        if self.said.iter().all(Option::is_some) {
            let mut all = self.message(Kind::Notes, 0, &(0..0));
            for said in self.said.drain(..).flatten() {
                all.push(said.len() as u32);
                all.extend(said);
            }
            self.all_notes(all);
        }
    }

    fn all_notes(&mut self, words: Vec<u32>) {
        let words = Arc::new(words);
        self.pass_on(0, &words);
        self.notes = Some(words);
    }
}

impl<F: Real> Talk for Exchange<F> {
    fn next(&mut self) -> Option<(usize, Arc<Vec<u32>>)> {
        while let Ok(given) = self.given.try_recv() {
            match given {
                Given::Sum { node, piece, sum } => self.settle(node, piece, sum),
                Given::Note(words) if self.rank == 0 => self.note(0, words),
                Given::Note(said) => {
                    let mut words = self.message(Kind::Note, 0, &(0..0));
                    words.extend(said);
                    self.to_send.push_back((0, Arc::new(words)));
                }
            }
        }
        self.to_send.pop_front()
    }

    fn hear(&mut self, from: usize, mut words: Vec<u32>) {
        if words[0] != self.number {
            self.early.push((from, words));
            return;
        }
        let (kind, piece, node) = (words[1], words[2] as usize, words[3] as usize..words[4] as usize);
        if kind == Kind::Sum as u32 {
            let mut sum = vec![F::zero(); self.pieces[piece].len()];
            F::from_words(&words[HEADER..], &mut sum);
            self.settle(node, piece, sum);
        } else if kind == Kind::Total as u32 {
            self.total(piece, words);
        } else if kind == Kind::Note as u32 {
            self.note(from, words.split_off(HEADER));
        } else {
            self.all_notes(words);
        }
    }

    fn is_over(&self) -> bool {
        self.missing == 0 && self.notes.is_some() && self.to_send.is_empty()
    }

    fn most(&self) -> usize {
        // Of each piece at most two sums from each depth of the tree, and a total or notes to each power of two.
        let bits = |count: usize| (usize::BITS - count.leading_zeros()) as usize;
        let (depth, fan) = (bits(self.split.root().len()), bits(self.split.ranks()));
        self.pieces.len() * (2 * depth + fan + 2) + fan + 2
    }
}

/// The notes of the ranks, each behind its length.
fn each_note(mut words: &[u32]) -> Vec<Vec<u32>> {
    let mut notes = Vec::new();
    while let Some((&length, rest)) = words.split_first() {
        let (note, rest) = rest.split_at(length as usize);
        notes.push(note.to_vec());
        words = rest;
    }
    notes
}
