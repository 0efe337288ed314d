//! The order in which training visits the images: a new permutation each epoch, found again from a position alone.

use crate::numerics::rng::Stream;

/// The endless sequence of image indices of a run.
///
/// Position p, counted in images drawn since the run began, lies in epoch e = p div n, and is entry p mod n of that
/// epoch's permutation of 0..n, which `Stream::keyed(seed, "train.order", &[e])` draws. A batch may straddle
/// two epochs.
/// The position is all that a run has to keep to be resumed in mid-epoch.
#[derive(Clone, Debug)]
pub struct Order {
    seed: u64,
    epoch: u64,
    permutation: Vec<usize>,
}

impl Order {
    /// The order of `images` images under the run's `seed`.
    ///
    /// # Panics
    /// If `images` is 0.
    pub fn new(seed: u64, images: usize) -> Self {
        assert!(images > 0, "Order: no images to put in order");
        Order { seed, epoch: 0, permutation: permutation(seed, 0, images) }
    }

    /// The index, in 0..images, of the image at `position` (from 0). Draws a permutation only where the epoch changes.
    pub fn index_at(&mut self, position: u64) -> usize {
        let images = self.permutation.len();
        let epoch = position / images as u64;
        if epoch != self.epoch {
            *self = Order { seed: self.seed, epoch, permutation: permutation(self.seed, epoch, images) };
        }
        self.permutation[(position % images as u64) as usize]
    }
}

fn permutation(seed: u64, epoch: u64, images: usize) -> Vec<usize> {
    Stream::keyed(seed, "train.order", &[epoch]).permutation(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_visits_every_image_once_in_an_order_of_its_own() {
        let mut order = Order::new(5, 31);
        let epochs: Vec<Vec<usize>> = (0..3).map(|e| (0..31).map(|i| order.index_at(e * 31 + i)).collect()).collect();
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..31).collect::<Vec<_>>());
        }
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2] && epochs[0] != epochs[2]);
    }

    #[test]
    fn order_resumed_in_mid_epoch_equals_uninterrupted() {
        let mut uninterrupted = Order::new(9, 13);
        let expected: Vec<usize> = (0..50).map(|p| uninterrupted.index_at(p)).collect();
        for stop in [1, 12, 13, 20, 26, 49] {
            let mut resumed = Order::new(9, 13);
            let rest: Vec<usize> = (stop..50).map(|p| resumed.index_at(p)).collect();
            assert_eq!(rest, expected[stop as usize..], "resumed at {stop}");
        }
        assert_eq!(uninterrupted.index_at(3), expected[3], "stepping back to an earlier epoch");
    }

    #[test]
    fn orders_of_two_seeds_differ() {
        let (mut a, mut b) = (Order::new(1, 64), Order::new(2, 64));
        assert!((0..64).any(|p| a.index_at(p) != b.index_at(p)));
    }
}
