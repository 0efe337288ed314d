//! Where the time of a pass goes, layer by layer: what `ancestral bench` prints.
//!
//! Layers say what they are doing with [`timed`], which costs one load of a flag unless something [`record`]s. A part that is
//! timed inside of another is not counted in that one: the times of all parts add up to the time of the threads at work.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Span;

/// What is being done: a word for people, "forward", "weight gradient".
pub type Part = &'static str;

/// The time that one part took on all threads, and its multiply-adds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Seconds of threads, without those of parts inside of it.
    pub seconds: f64,
    /// Multiply-adds of its products.
    pub multiply_adds: u64,
}

/// The times of each layer, by the place of its weight, and of what belongs to none.
pub type Times = BTreeMap<(Option<usize>, Part), Spent>;

static RECORDING: AtomicBool = AtomicBool::new(false);
static TIMES: Mutex<Times> = Mutex::new(Times::new());

thread_local! {
    /// How much of the part that is running went to parts inside of it.
    static INSIDE: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Does `work`, a part of the layer with this weight, or of none.
pub fn timed<T>(layer: Option<Span>, part: Part, multiply_adds: usize, work: impl FnOnce() -> T) -> T {
    if !RECORDING.load(Ordering::Relaxed) {
        return work();
    }
    let (start, outer) = (Instant::now(), INSIDE.take());
    let result = work();
    let elapsed = start.elapsed();
    let own = elapsed.saturating_sub(INSIDE.replace(outer + elapsed));
    let mut times = TIMES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let time = times.entry((layer.map(|span| span.start), part)).or_default();
    time.seconds += own.as_secs_f64();
    time.multiply_adds += multiply_adds as u64;
    result
}

/// The times of all that is timed while `work` runs, in any thread.
pub fn record<T>(work: impl FnOnce() -> T) -> (T, Times) {
    RECORDING.store(true, Ordering::Relaxed);
    let result = work();
    RECORDING.store(false, Ordering::Relaxed);
    let times = std::mem::take(&mut *TIMES.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    (result, times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timed_part_leaves_out_the_parts_inside_of_it() {
        let sleep = |ms| std::thread::sleep(Duration::from_millis(ms));
        let layer = Span { start: usize::MAX, len: 1 }; // no other test times this one
        let ((), times) = record(|| {
            timed(Some(layer), "outer", 3, || {
                timed(Some(layer), "inner", 4, || sleep(40));
                sleep(5);
            });
        });
        let of = |part| times[&(Some(layer.start), part)];
        assert!(of("inner").seconds >= 0.04 && of("outer").seconds >= 0.005);
        assert!(of("outer").seconds < of("inner").seconds, "{times:?}");
        assert_eq!((of("outer").multiply_adds, of("inner").multiply_adds), (3, 4));
    }
}
