//! Parallel work whose result does not depend on the number of threads (contract N1, rule 5).
//!
//! A batch is cut into microbatches of a fixed number of images. A microbatch runs on one thread from end to end, its activations
//! warm in that thread's cache, into its own gradient; the gradients are added in a binary tree over the microbatch's index.
//! A thread for which no microbatch is left (one picture is drawn, or the last microbatch of a batch is under way) attends to
//! those of others: they cut their products and what they do element by element into parts as long as a thread attends.
//! Neither ever changes an order of addition.
//!
//! The parts of a small picture last some microseconds, and a thread that has gone to sleep takes longer than that to wake
//! up. So a thread that waits for them, or for some to do, stays awake.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread attends without being given anything: many times what lies between two parts.
///
/// Patience has to end: a thread of the pool may come to attend to one caller's work while something of another caller's
/// waits beneath on its stack, and two threads of which each keeps what the other waits for would wait for ever.
const PATIENCE: Duration = Duration::from_millis(2);

/// What a thread is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Nothing that others do too.
    Free,
    /// A microbatch, from end to end, as others do.
    Microbatch,
    /// The only microbatch there is.
    LoneMicrobatch,
    /// A part of something.
    Part,
}

thread_local! {
    static ROLE: Cell<Role> = const { Cell::new(Role::Free) };
}

/// Threads that wait to be given parts of others' microbatches.
static ATTENDING: AtomicUsize = AtomicUsize::new(0);

/// The ranges of `size` items, the last perhaps shorter, that make up `0..items`.
///
/// # Panics
/// If `size` is 0.
pub fn ranges(items: usize, size: usize) -> Vec<Range<usize>> {
    (0..items).step_by(size).map(|start| start..(start + size).min(items)).collect()
}

/// leaf(0) + leaf(1) + ... + leaf(count − 1) as a binary tree: a range of indices is the sum of its first half (the
/// larger, where the halves differ) and its second. Each leaf is a microbatch.
///
/// # Panics
/// If `count` is 0.
pub fn tree_sum<T: Send>(count: usize, leaf: impl Fn(usize) -> T + Sync, add: impl Fn(&mut T, T) + Sync) -> T {
    assert!(count > 0, "tree_sum: nothing to add");
    let waiting: Mutex<Vec<(Range<usize>, T)>> = Mutex::default(); // sums whose other half is not there yet
    share_out((0..count).collect(), Role::Microbatch, |i| {
        let (mut range, mut sum) = (i..i + 1, leaf(i));
        loop {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let family = (range != (0..count)).then(|| parent_and_sibling(count, &range));
            let there = family.as_ref().and_then(|(_, other)| waiting.iter().position(|(range, _)| range == other));
            let (Some((both, _)), Some(there)) = (family, there) else {
                waiting.push((range, sum));
                return;
            };
            let (other, other_sum) = waiting.swap_remove(there);
            drop(waiting); // adding takes long
            let (mut left, right) = if range.start < other.start { (sum, other_sum) } else { (other_sum, sum) };
            add(&mut left, right);
            (range, sum) = (both, left);
        }
    });
    let mut sums = waiting.into_inner().unwrap_or_else(PoisonError::into_inner);
    sums.pop().expect("the sum of all").1
}

/// The node of the tree over `0..count` that has `range` as one half, and its other half.
pub(crate) fn parent_and_sibling(count: usize, range: &Range<usize>) -> (Range<usize>, Range<usize>) {
    let mut node = 0..count;
    loop {
        let middle = node.start + node.len().div_ceil(2);
        let (left, right) = (node.start..middle, middle..node.end);
        if left == *range {
            return (node, right);
        }
        if right == *range {
            return (node, left);
        }
        node = if range.start < middle { left } else { right };
    }
}

/// The results of `leaf(0..count)` in order. Each leaf is a microbatch, or, inside of a microbatch, a part of it.
pub fn map<T: Send>(count: usize, leaf: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let mut results: Vec<Option<T>> = (0..count).map(|_| None).collect();
    let (tasks, work) = (results.iter_mut().enumerate().collect(), |(i, result): (_, &mut _)| *result = Some(leaf(i)));
    match ROLE.get() {
        Role::Free => share_out(tasks, Role::Microbatch, work),
        _ => deal(tasks, work),
    }
    results.into_iter().map(|result| result.expect("every task was done")).collect()
}

/// Does `work` with every task, on as many threads as there are for it.
pub(crate) fn deal<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Sync) {
    if tasks.len() > 1 && may_cut() { share_out(tasks, Role::Part, work) } else { tasks.into_iter().for_each(work) }
}

/// Whether there are threads for what the caller cuts off.
pub(crate) fn may_cut() -> bool {
    let others = match ROLE.get() {
        Role::Free | Role::LoneMicrobatch => true,
        Role::Microbatch => ATTENDING.load(Ordering::Relaxed) > 0,
        Role::Part => false,
    };
    others && rayon::current_num_threads() > 1
}

/// Does `work` with every task, which is a microbatch or a part of one, each on one thread, in the order in which they are given.
fn share_out<T: Send>(tasks: Vec<T>, role: Role, work: impl Fn(T) + Sync) {
    struct Done<'a>(&'a AtomicUsize, Role);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            ROLE.set(self.1);
            self.0.fetch_add(1, Ordering::Release); // also where the work panics: no thread may wait for ever
        }
    }
    let (count, threads) = (tasks.len(), rayon::current_num_threads());
    let (is_part, role) = (role == Role::Part, if count == 1 { Role::LoneMicrobatch } else { role });
    let (left, done) = (Mutex::new(tasks.into_iter()), AtomicUsize::new(0));
    let over = || done.load(Ordering::Acquire) == count;
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let take_part = |mut task: Option<T>| {
        while let Some(this) = task {
            let _done = Done(&done, ROLE.replace(role));
            work(this);
            task = next();
        }
    };
    let own = next(); // before others are asked: a lone microbatch stays on its caller's thread, whose memory fits it
    rayon::in_place_scope(|scope| {
        for _ in 1..if is_part { threads.min(count) } else { threads } {
            scope.spawn(|_| {
                if is_part {
                    take_part(next());
                } else if ROLE.get() == Role::Free {
                    // A thread that waits for a part of a microbatch must not begin another.
                    take_part(next());
                    attend(over);
                }
            });
        }
        take_part(own);
        if is_part { awake_until(over) } else { attend(over) }
    });
}

/// Does what others cut off from their microbatches, until `over` or for as long as patience lasts.
fn attend(over: impl Fn() -> bool) {
    struct Attending;
    impl Drop for Attending {
        fn drop(&mut self) {
            ATTENDING.fetch_sub(1, Ordering::Relaxed);
        }
    }
    ATTENDING.fetch_add(1, Ordering::Relaxed);
    let _attending = Attending;
    let mut idle = Instant::now();
    while !over() && idle.elapsed() < PATIENCE {
        for _ in 0..64 {
            if let Some(rayon::Yield::Executed) = rayon::yield_now() {
                idle = Instant::now();
                break;
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now(); // to others, if there are more threads than cores
    }
}

/// Spins until `over`. Parts wait for nothing, so it is over soon.
fn awake_until(over: impl Fn() -> bool) {
    while !over() {
        for _ in 0..64 {
            if over() {
                return;
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
    }
}

/// How many of `items`, each of `size` elements to be copied, are worth a task: all if there are no threads for parts.
pub(crate) fn at_once(items: usize, size: usize) -> usize {
    const WORTH_A_TASK: usize = 16 << 10; // elements; to copy them takes some times what handing over a task does
    if !may_cut() {
        return items.max(1);
    }
    items.div_ceil(2 * rayon::current_num_threads()).max(WORTH_A_TASK.div_ceil(size.max(1)))
}

/// Calls `work(at, part)` for all parts of x, in parallel where the caller is not itself a microbatch: a part starts with the
/// element `at`, lies in one image of `size` elements, and has whole pixels of `pixel` elements.
///
/// # Panics
/// If `size` or `pixel` is 0.
pub fn in_parts<T: Send>(x: &mut [T], size: usize, pixel: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    // One image is cut up, several are dealt out.
    let part = if x.len() == size { at_once(size / pixel, pixel) * pixel } else { size };
    deal(x.chunks_mut(part).enumerate().collect(), |(i, x)| work(i * part, x));
}

#[cfg(test)]
mod tests;
