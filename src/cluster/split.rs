//! Which rank computes which microbatch, and which adds up which node of their tree.
//!
//! The leaves are dealt out in ranges that differ by one leaf at most, in the order of the ranks; where there are more ranks than
//! leaves, the last ranks have none. A node whose leaves all are one rank's is that rank's own. Any other lies across ranks, and who
//! adds its halves changes no bit. So that no rank receives more than others, the gradient is cut into pieces, and each piece of a
//! node goes to another rank among those that have leaves beneath it: to the owner of the same piece of the node above if that is
//! one of them, so that it stays where it is, else to one by the piece's number.
//!
//! With 2^k ranks and as many leaves for each this is recursive halving: every rank sends and receives 1 − 1/ranks of a gradient.

use std::ops::Range;

use crate::numerics::parallel::parent_and_sibling;

/// So many leaves dealt out to so many ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    leaves: usize,
    ranks: usize,
}

impl Split {
    /// Deals them out.
    ///
    /// # Panics
    /// If there is no rank.
    pub fn new(leaves: usize, ranks: usize) -> Self {
        assert!(ranks > 0, "split: no rank");
        Split { leaves, ranks }
    }

    /// The ranks, those without leaves among them.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// The node over all leaves.
    pub fn root(&self) -> Range<usize> {
        0..self.leaves
    }

    /// Ranks that have leaves.
    fn workers(&self) -> usize {
        self.ranks.min(self.leaves)
    }

    /// The leaves of a rank.
    pub fn leaves_of(&self, rank: usize) -> Range<usize> {
        let workers = self.workers();
        if rank >= workers {
            return self.leaves..self.leaves;
        }
        rank * self.leaves / workers..(rank + 1) * self.leaves / workers
    }

    /// The ranks that have leaves of a node.
    fn ranks_of(&self, node: &Range<usize>) -> Range<usize> {
        // The last rank that begins at this leaf or before it.
        let rank_of = |leaf: usize| ((leaf + 1) * self.workers() - 1) / self.leaves;
        rank_of(node.start)..rank_of(node.end - 1) + 1
    }

    /// Whether all leaves of a node are this rank's.
    pub fn is_own(&self, node: &Range<usize>, rank: usize) -> bool {
        self.ranks_of(node) == (rank..rank + 1)
    }

    /// The rank that adds up this piece of a node.
    ///
    /// # Panics
    /// If it is no node of the tree.
    pub fn owner(&self, node: &Range<usize>, piece: usize) -> usize {
        let among = |ranks: Range<usize>| ranks.start + piece % ranks.len();
        let mut at = self.root();
        let mut owner = among(self.ranks_of(&at));
        while at != *node {
            assert!(at.len() > 1, "split: {node:?} is no node of the tree over {:?}", self.root());
            let middle = at.start + at.len().div_ceil(2);
            at = if node.start < middle { at.start..middle } else { middle..at.end };
            let ranks = self.ranks_of(&at);
            if !ranks.contains(&owner) {
                owner = among(ranks);
            }
        }
        owner
    }

    /// The node above, and its other half; none above the root.
    pub fn parent_and_sibling(&self, node: &Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
        (*node != self.root()).then(|| parent_and_sibling(self.leaves, node))
    }
}

/// Those to whom a rank passes on what `root` sends to all of `ranks`: a binomial tree, the farthest first.
pub fn passes_on(root: usize, rank: usize, ranks: usize) -> Vec<usize> {
    let place = (rank + ranks - root) % ranks;
    let powers = (0..usize::BITS).map(|bit| 1usize << bit).take_while(|&power| power < ranks);
    let mut places: Vec<usize> = powers.take_while(|power| place & power == 0).map(|power| place + power).collect();
    places.retain(|&place| place < ranks);
    places.reverse();
    places.into_iter().map(|place| (root + place) % ranks).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_dealt_out_once_and_evenly_and_to_the_first_ranks_where_they_are_few() {
        for (leaves, ranks) in (0..=40).flat_map(|leaves| (1..=9).map(move |ranks| (leaves, ranks))) {
            let split = Split::new(leaves, ranks);
            let parts: Vec<_> = (0..ranks).map(|rank| split.leaves_of(rank)).collect();
            assert_eq!(parts.iter().cloned().flatten().collect::<Vec<_>>(), (0..leaves).collect::<Vec<_>>());
            let sizes = parts.iter().map(|part| part.len()).filter(|&size| size > 0 || leaves >= ranks);
            assert!(sizes.clone().max().unwrap_or(0) - sizes.min().unwrap_or(0) <= 1, "{parts:?}");
            for (rank, leaf) in parts.iter().enumerate().flat_map(|(rank, part)| part.clone().map(move |l| (rank, l))) {
                assert_eq!(split.ranks_of(&(leaf..leaf + 1)), rank..rank + 1);
            }
        }
    }

    #[test]
    fn owner_of_a_piece_has_leaves_beneath_it_and_keeps_it_where_it_can() {
        let split = Split::new(23, 5);
        let mut nodes = vec![split.root()];
        while let Some(node) = nodes.pop() {
            for piece in 0..11 {
                let owner = split.owner(&node, piece);
                assert!(split.ranks_of(&node).contains(&owner), "piece {piece} of {node:?}");
                if let Some((parent, _)) = split.parent_and_sibling(&node) {
                    let above = split.owner(&parent, piece);
                    assert!(owner == above || !split.ranks_of(&node).contains(&above));
                }
            }
            if node.len() > 1 {
                let middle = node.start + node.len().div_ceil(2);
                nodes.extend([node.start..middle, middle..node.end]);
            }
        }
    }

    /// With a power of two, all ranks receive alike: 1 − 1/ranks of all pieces.
    #[test]
    fn pieces_of_a_power_of_two_are_received_evenly() {
        let (split, pieces) = (Split::new(16, 8), 32);
        let mut received = [0; 8];
        for piece in 0..pieces {
            let mut nodes = vec![split.root()];
            while let Some(node) = nodes.pop().filter(|node| node.len() > 2) {
                let middle = node.start + node.len() / 2;
                let halves = [node.start..middle, middle..node.end];
                let owner = split.owner(&node, piece);
                received[owner] += halves.iter().filter(|half| split.owner(half, piece) != owner).count();
                nodes.extend(halves.into_iter().filter(|half| half.len() > 2));
            }
        }
        assert_eq!(received, [pieces * 7 / 8; 8]);
    }

    #[test]
    fn what_is_passed_on_reaches_every_rank_once() {
        for (ranks, root) in (1..=17).flat_map(|ranks| (0..ranks).map(move |root| (ranks, root))) {
            let (mut reached, mut next) = (vec![root], vec![root]);
            while let Some(rank) = next.pop() {
                let to = passes_on(root, rank, ranks);
                reached.extend(&to);
                next.extend(to);
            }
            reached.sort();
            assert_eq!(reached, (0..ranks).collect::<Vec<_>>(), "from {root} of {ranks}");
        }
    }
}
