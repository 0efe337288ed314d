//! Parallel work whose result does not depend on the number of threads (contract N1, rule 5).
//!
//! A batch is cut into shards of a fixed number of images. A shard runs on one worker from end to end, its activations
//! warm in that worker's cache, into its own gradient; the gradients are added in a binary tree over the shard's index.
//! Where there is only one shard (one picture is drawn) its products are cut by rows instead, and what is done element by
//! element is cut into parts. Neither ever changes an order of addition.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;

/// How long a thread stays awake without finding a part of a lone shard's work: many times what lies between two parts.
const PATIENCE: Duration = Duration::from_millis(2);

thread_local! {
    /// Whether this thread is at work on one of several shards: then what it does inside is its own share.
    static IN_SHARD: Cell<bool> = const { Cell::new(false) };
    /// Whether other threads are awake for what this one cuts off.
    static ATTENDED: Cell<bool> = const { Cell::new(false) };
}

/// The ranges of `size` items, the last perhaps shorter, that make up `0..items`.
pub fn ranges(items: usize, size: usize) -> Vec<Range<usize>> {
    (0..items).step_by(size).map(|start| start..(start + size).min(items)).collect()
}

/// leaf(0) + leaf(1) + ... + leaf(count − 1) as a binary tree: a range of indices is the sum of its first half (the
/// larger, where the halves differ) and its second.
///
/// # Panics
/// If `count` is 0.
pub fn tree_sum<T: Send>(count: usize, leaf: impl Fn(usize) -> T + Sync, add: impl Fn(&mut T, T) + Sync) -> T {
    fn sum<T: Send>(range: Range<usize>, leaf: &(impl Fn(usize) -> T + Sync), add: &(impl Fn(&mut T, T) + Sync)) -> T {
        if range.len() == 1 {
            return in_shard(|| leaf(range.start));
        }
        let middle = range.start + range.len().div_ceil(2);
        let (mut left, right) =
            rayon::join(|| sum(range.start..middle, leaf, add), || sum(middle..range.end, leaf, add));
        add(&mut left, right);
        left
    }
    match count {
        0 => panic!("tree_sum: nothing to add"),
        1 => attended(|| leaf(0)),
        _ => sum(0..count, &leaf, &add),
    }
}

/// The results of `leaf(0..count)` in order, computed in parallel where the caller is not itself a shard.
pub fn map<T: Send>(count: usize, leaf: impl Fn(usize) -> T + Sync) -> Vec<T> {
    match count {
        0 => Vec::new(),
        _ if !is_alone() => (0..count).map(leaf).collect(),
        _ => tree_sum(count, |i| vec![leaf(i)], |left, right| left.extend(right)),
    }
}

/// Does `work` while the other threads stay awake for the parts of it that it cuts off.
///
/// The products of one small picture last some microseconds each, and a thread that has gone to sleep takes longer than
/// that to wake up. So each of the others looks for work, again and again, until `work` is done or it has found none for
/// `PATIENCE`.
///
/// Patience has to end: a thread of the pool may come to look for work here while something of another caller's waits
/// beneath on its stack, and two threads of which each keeps what the other waits for would look for ever.
fn attended<T: Send>(work: impl FnOnce() -> T) -> T {
    if !is_alone() || ATTENDED.get() {
        return work();
    }
    struct WhileAtWork<'a>(&'a AtomicBool);
    impl Drop for WhileAtWork<'_> {
        fn drop(&mut self) {
            ATTENDED.set(false);
            self.0.store(true, Ordering::Release);
        }
    }
    let (done, own) = (AtomicBool::new(false), rayon::current_thread_index());
    rayon::in_place_scope(|scope| {
        scope.spawn_broadcast(|_, _| {
            // This thread, while it waits for a part of its own work, must not begin to wait for the end of all of it.
            let mut idle = Instant::now();
            while rayon::current_thread_index() != own && !done.load(Ordering::Acquire) && idle.elapsed() < PATIENCE {
                for _ in 0..64 {
                    if let Some(rayon::Yield::Executed) = rayon::yield_now() {
                        idle = Instant::now();
                        break;
                    }
                    std::hint::spin_loop();
                }
                std::thread::yield_now(); // to others, if there are more threads than cores
            }
        });
        ATTENDED.set(true);
        let _at_work = WhileAtWork(&done); // dropped also where `work` panics
        work()
    })
}

/// Runs `work` with everything inside it on this thread alone.
fn in_shard<T>(work: impl FnOnce() -> T) -> T {
    let before = IN_SHARD.replace(true);
    let result = work();
    IN_SHARD.set(before);
    result
}

/// Whether what is done here may be cut up among threads: it is no shard's own share, and there is more than one thread.
pub(super) fn is_alone() -> bool {
    !IN_SHARD.get() && rayon::current_num_threads() > 1
}

/// Calls `work(at, part)` for all parts of x, in parallel where the caller is not itself a shard: a part starts with the
/// element `at`, lies in one image of `size` elements, and has whole pixels of `pixel` elements.
pub fn in_parts<T: Send>(x: &mut [T], size: usize, pixel: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    if !is_alone() {
        x.chunks_mut(size).enumerate().for_each(|(i, x)| work(i * size, x));
        return;
    }
    const WORTH_A_TASK: usize = 16 << 10; // elements; to copy them takes some times what handing over a task does
    let share = size.div_ceil(2 * rayon::current_num_threads()).max(WORTH_A_TASK).next_multiple_of(pixel);
    let part = if x.len() == size { share } else { size }; // one image is cut up, several are dealt out
    x.par_chunks_mut(part).enumerate().for_each(|(i, x)| work(i * part, x));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of_three_tenths(count: usize, threads: usize) -> u32 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
        pool.install(|| tree_sum(count, |i| 0.1f32 * i as f32, |a, b| *a += b)).to_bits()
    }

    #[test]
    fn tree_sum_is_the_same_for_any_number_of_threads() {
        for count in [1, 2, 3, 16, 37] {
            let alone = sum_of_three_tenths(count, 1);
            assert!([2, 3, 7, 16].iter().all(|&threads| sum_of_three_tenths(count, threads) == alone), "{count}");
        }
    }

    #[test]
    fn tree_sum_of_tasks_that_end_in_any_order_is_the_same() {
        let alone = sum_of_three_tenths(16, 1);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(7).build().expect("a pool of threads");
        for shuffle in 0..8 {
            let delay = crate::numerics::rng::Stream::keyed(shuffle, "test", &[]).permutation(16);
            let leaf = |i: usize| {
                std::thread::sleep(std::time::Duration::from_millis(delay[i] as u64));
                0.1f32 * i as f32
            };
            assert_eq!(pool.install(|| tree_sum(16, leaf, |a, b| *a += b)).to_bits(), alone, "{delay:?}");
        }
    }

    #[test]
    fn tree_sum_of_five_adds_three_and_two() {
        let text = tree_sum(5, |i| i.to_string(), |a, b| *a = format!("({a}+{b})"));
        assert_eq!(text, "(((0+1)+2)+(3+4))");
    }

    #[test]
    fn map_keeps_the_order_of_its_indices() {
        assert_eq!(map(9, |i| i * i), (0..9).map(|i| i * i).collect::<Vec<_>>());
    }

    #[test]
    fn ranges_cover_every_item_once() {
        assert_eq!(ranges(10, 4), [0..4, 4..8, 8..10]);
    }

    fn in_a_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads").install(work)
    }

    #[test]
    fn lone_leaf_hands_its_parts_to_threads_that_wait_for_them() {
        for threads in [1, 2, 7] {
            let numbers = in_a_pool(threads, || {
                tree_sum(
                    1,
                    |_| {
                        let mut x = vec![0; 100_003];
                        for _ in 0..50 {
                            let size = x.len();
                            in_parts(&mut x, size, 1, |at, x| x.iter_mut().enumerate().for_each(|(i, x)| *x += at + i));
                        }
                        x
                    },
                    |_, _| unreachable!("one leaf is no sum"),
                )
            });
            assert!(numbers.iter().enumerate().all(|(i, &x)| x == 50 * i), "{threads} threads");
        }
    }

    #[test]
    fn lone_leaves_of_several_callers_in_one_pool_do_not_wait_for_each_other() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool of threads");
        let leaf = |_| {
            let mut x = vec![0u64; 40_000];
            for _ in 0..10 {
                x.par_chunks_mut(500).for_each(|x| x.iter_mut().for_each(|x| *x += 1));
            }
            x.iter().sum()
        };
        std::thread::scope(|callers| {
            for _ in 0..4 {
                callers.spawn(|| {
                    for _ in 0..100 {
                        let sum: u64 = pool.install(|| tree_sum(1, leaf, |_, _| unreachable!("one leaf is no sum")));
                        assert_eq!(sum, 400_000);
                    }
                });
            }
        });
    }

    #[test]
    fn lone_leaf_that_panics_lets_the_waiting_threads_go() {
        let panicked = std::panic::catch_unwind(|| in_a_pool(3, || tree_sum(1, |_| panic!("as planned"), |(), ()| {})));
        assert!(panicked.is_err());
    }

    #[test]
    fn parts_are_of_one_image_and_whole_pixels() {
        for (images, size, pixel) in [(1, 60_000, 30), (3, 600, 6), (1, 6, 6), (2, 50_000, 5)] {
            in_a_pool(2, || {
                let mut seen = vec![0; images * size];
                in_parts(&mut seen, size, pixel, |at, part| {
                    assert!(at / size == (at + part.len() - 1) / size && at % pixel == 0 && part.len() % pixel == 0);
                    part.iter_mut().for_each(|x| *x += 1);
                });
                assert!(seen.iter().all(|&times| times == 1));
            });
        }
    }
}
