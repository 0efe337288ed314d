//! The sums of the nodes that lie within one rank, piece by piece, as its microbatches end.
//!
//! A microbatch hands over a piece of its gradient as soon as that is final, be it in the middle of its backward pass. If the other
//! half of the node above is there, the two are added, and so on upwards; the sum of a node above which others have a part is given
//! to the [`exchange`](super::exchange). Addition of two numbers is commutative, so a sum is added to whichever half came first.

use std::ops::Range;
use std::sync::{Mutex, PoisonError, mpsc};

use super::split::Split;
use crate::numerics::Real;

/// What a rank computed, for the exchange.
#[derive(Debug)]
pub enum Given<F> {
    /// A piece of the sum of a node.
    Sum {
        /// The node's leaves.
        node: Range<usize>,
        /// The piece.
        piece: usize,
        /// Its numbers.
        sum: Vec<F>,
    },
    /// What is said to all ranks beside.
    Note(Vec<u32>),
}

/// Pieces that wait for the other half of their node.
type Waiting<F> = Vec<(Range<usize>, Vec<F>)>;

/// The sums of one rank's own nodes.
#[derive(Debug)]
pub struct Collector<F> {
    split: Split,
    rank: usize,
    pieces: Vec<Range<usize>>,
    waiting: Vec<Mutex<Waiting<F>>>,
    give: mpsc::Sender<Given<F>>,
}

impl<F: Real> Collector<F> {
    pub(super) fn new(split: Split, rank: usize, pieces: Vec<Range<usize>>, give: mpsc::Sender<Given<F>>) -> Self {
        let waiting = pieces.iter().map(|_| Mutex::default()).collect();
        Collector { split, rank, pieces, waiting, give }
    }

    /// The leaves that this rank computes.
    pub fn leaves(&self) -> Range<usize> {
        self.split.leaves_of(self.rank)
    }

    /// The pieces of a gradient, ranges of its numbers in ascending order.
    pub fn pieces(&self) -> &[Range<usize>] {
        &self.pieces
    }

    /// Takes a piece of the gradient of a leaf, and leaves zeros in its place.
    ///
    /// # Panics
    /// If the piece is of another length.
    pub fn add(&self, leaf: usize, piece: usize, gradient: &mut [F]) {
        assert_eq!(gradient.len(), self.pieces[piece].len(), "a piece of a gradient");
        let (mut node, mut sum) = (leaf..leaf + 1, None);
        loop {
            let family = self.split.parent_and_sibling(&node).filter(|(above, _)| self.split.is_own(above, self.rank));
            let Some((above, other)) = family else {
                let sum = sum.unwrap_or_else(|| taken(gradient));
                // Where nobody receives it any more, the program is about to end.
                let _ = self.give.send(Given::Sum { node, piece, sum });
                return;
            };
            let mut waiting = self.waiting[piece].lock().unwrap_or_else(PoisonError::into_inner);
            let Some(there) = waiting.iter().position(|(range, _)| *range == other) else {
                waiting.push((node, sum.unwrap_or_else(|| taken(gradient))));
                return;
            };
            let (_, mut other) = waiting.swap_remove(there);
            drop(waiting); // adding takes long
            match &sum {
                Some(sum) => add(&mut other, sum),
                None => {
                    add(&mut other, gradient);
                    gradient.fill(F::zero());
                }
            }
            (node, sum) = (above, Some(other));
        }
    }

    pub(super) fn note(&self, words: Vec<u32>) {
        let _ = self.give.send(Given::Note(words));
    }
}

/// The numbers, with zeros left in their place.
fn taken<F: Real>(numbers: &mut [F]) -> Vec<F> {
    let copy = numbers.to_vec();
    numbers.fill(F::zero());
    copy
}

/// sum + other.
pub(super) fn add<F: Real>(sum: &mut [F], other: &[F]) {
    assert_eq!(sum.len(), other.len(), "pieces of one length");
    sum.iter_mut().zip(other).for_each(|(sum, &other)| *sum += other);
}
