//! Sums and results that no number of threads changes, and helpers that come and go.

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

/// Leaves that end at the same moment must still find each other.
#[test]
fn tree_sum_of_tasks_that_end_together_leaves_none_out() {
    in_a_pool(4, || (0..2000).for_each(|_| assert_eq!(tree_sum(8, |i| 1 << i, |a, b| *a += b), 255)));
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

/// The second microbatch ends at once; its thread then takes parts of the first, which goes on until it has seen that.
#[test]
fn last_microbatch_hands_its_parts_to_threads_that_have_none_left() {
    let helped = in_a_pool(2, || {
        let long = || {
            let (own, start) = (std::thread::current().id(), Instant::now());
            while start.elapsed() < Duration::from_secs(20) {
                let threads = Mutex::new(Vec::new());
                let part = |()| {
                    threads.lock().expect("no panic").push(std::thread::current().id());
                    std::thread::sleep(Duration::from_micros(100)); // long enough for the other to take one
                };
                deal(vec![(); 4], part);
                if threads.into_inner().expect("no panic").iter().any(|&thread| thread != own) {
                    return true;
                }
            }
            false
        };
        tree_sum(2, |i| i == 0 && long(), |left, right| *left |= right)
    });
    assert!(helped);
}

#[test]
fn lone_leaves_of_several_callers_in_one_pool_do_not_wait_for_each_other() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool of threads");
    let leaf = |_| {
        let mut x = vec![0u64; 40_000];
        for _ in 0..10 {
            deal(x.chunks_mut(500).collect(), |x: &mut [u64]| x.iter_mut().for_each(|x| *x += 1));
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
