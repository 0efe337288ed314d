//! Whether a thread's floating-point arithmetic is what the contract needs (contract N1, rule 1).
//!
//! A processor can be told to treat subnormal numbers as zeros, as operands (DAZ) or as results (FTZ), or to round
//! otherwise than to the nearest. The setting belongs to a thread and is handed on to the threads it starts. No Rust
//! program asks for it, but a C library built with `-ffast-math` does so for its host when it is merely loaded.
//!
//! The checks compute; they read no control register. So they hold on every processor, and whatever the compiler made of
//! the arithmetic.

use std::hint::black_box;

use rayon::ThreadPool;

use crate::{Error, Result};

/// What the current thread does with numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Environment {
    /// Results below the normal range are flushed to zero (FTZ).
    pub flushes_results: bool,
    /// Operands below the normal range count as zeros (DAZ).
    pub flushes_operands: bool,
    /// Results are rounded to the nearest number, ties to even.
    pub rounds_to_nearest_even: bool,
}

impl Environment {
    /// What the current thread does, found by computing with numbers that the compiler does not know.
    #[inline(never)] // so its arithmetic does not move past what its caller does to the thread
    pub fn of_this_thread() -> Self {
        Environment {
            flushes_results: flushes_results(),
            flushes_operands: flushes_operands(),
            rounds_to_nearest_even: rounds_to_nearest_even(),
        }
    }

    /// The first thing that is not as the contract needs it, in words.
    pub fn fault(self) -> Option<&'static str> {
        match self {
            Environment { flushes_results: true, .. } => Some("subnormal results are flushed to zero (FTZ)"),
            Environment { flushes_operands: true, .. } => Some("subnormal operands count as zeros (DAZ)"),
            Environment { rounds_to_nearest_even: false, .. } => {
                Some("results are not rounded to the nearest, ties to even")
            }
            _ => None,
        }
    }
}

/// Refuses to go on where this thread or one of the pool computes otherwise than the contract says.
///
/// # Errors
/// The first such thread, those of the pool before this one, with what it does and what to do about it.
pub fn check(pool: &ThreadPool) -> Result<()> {
    refuse(pool.broadcast(of_pool_thread))
}

fn of_pool_thread(context: rayon::BroadcastContext) -> (String, Environment) {
    (format!("thread {} of the pool", context.index()), Environment::of_this_thread())
}

/// The first of these threads that is at fault, or else the calling thread, which may be one of them.
fn refuse(of_pool: Vec<(String, Environment)>) -> Result<()> {
    let of_this = ("the calling thread".to_owned(), Environment::of_this_thread());
    for (thread, environment) in of_pool.into_iter().chain([of_this]) {
        if let Some(fault) = environment.fault() {
            let remedy = "a library loaded into this process has changed it, often one built with -ffast-math: unset LD_PRELOAD, \
                          or set the thread back before calling";
            return Err(Error::Arithmetic { thread, fault, remedy });
        }
    }
    Ok(())
}

/// [`check`] for the pool that parallel work of the calling thread runs on: the one whose thread it is, or rayon's global pool.
///
/// Training, sampling and evaluation call it before they begin, because a setting that only the command would look for is not
/// seen where this crate is a library. It may be called from inside of a pool. It waits until each thread of the pool has a
/// moment, so it must not be called where a thread of the pool waits for the caller.
///
/// # Errors
/// As [`check`].
pub fn check_current() -> Result<()> {
    refuse(rayon::broadcast(of_pool_thread))
}

/// Half of the smallest normal number is a subnormal number; operands are normal. Its bits are looked at, because to
/// compare it would be to use it as an operand.
fn flushes_results() -> bool {
    let in_f32 = black_box(f32::MIN_POSITIVE) * black_box(0.5);
    let in_f64 = black_box(f64::MIN_POSITIVE) * black_box(0.5);
    black_box(in_f32).to_bits() == 0 || black_box(in_f64).to_bits() == 0
}

/// The smallest subnormal number, scaled up into the normal range.
fn flushes_operands() -> bool {
    let in_f32 = black_box(f32::from_bits(1)) * black_box((1u64 << 60) as f32);
    let in_f64 = black_box(f64::from_bits(1)) * black_box((1u64 << 60) as f64);
    black_box(in_f32).to_bits() == 0 || black_box(in_f64).to_bits() == 0
}

/// Four ties: from an even and from an odd number, upwards and downwards. No other rule gets all of them right.
fn rounds_to_nearest_even() -> bool {
    const ULPS: [(f64, f64); 2] = [(0.0, 0.0), (1.0, 2.0)]; // 1 and half an ulp is 1, 1 + ulp and half an ulp is 1 + 2 ulp
    [1.0, -1.0].into_iter().all(|sign| {
        ULPS.into_iter().all(|(from, to)| {
            let at = |ulps: f64| (sign * (1.0 + ulps * f32::EPSILON as f64)) as f32;
            let in_f32 = black_box(at(from)) + black_box(sign as f32 * f32::EPSILON / 2.0);
            let at_f64 = |ulps: f64| sign * (1.0 + ulps * f64::EPSILON);
            let in_f64 = black_box(at_f64(from)) + black_box(sign * f64::EPSILON / 2.0);
            black_box(in_f32) == at(to) && black_box(in_f64) == at_f64(to)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_of_a_thread_that_nobody_touched_is_that_of_the_contract() {
        assert_eq!(Environment::of_this_thread().fault(), None);
    }

    #[cfg(target_arch = "x86_64")]
    mod changed {
        #![allow(deprecated, unsafe_code)] // the one way to set the control register without assembly

        use std::arch::x86_64::{_mm_getcsr, _mm_setcsr};

        use super::*;

        const FTZ: u32 = 1 << 15;
        const DAZ: u32 = 1 << 6;
        const ROUND: [u32; 3] = [1 << 13, 2 << 13, 3 << 13]; // down, up, towards zero

        /// What `work` finds with some bits of the control register set; they are cleared again.
        fn with<T>(bits: u32, work: impl FnOnce() -> T) -> T {
            // SAFETY: between the two calls runs arithmetic on opaque values alone, which no constant can stand for.
            unsafe {
                let before = _mm_getcsr();
                _mm_setcsr(before | bits);
                let result = work();
                _mm_setcsr(before);
                result
            }
        }

        fn fault_with(bits: u32) -> &'static str {
            with(bits, Environment::of_this_thread).fault().expect("a fault")
        }

        #[test]
        fn environment_that_flushes_subnormals_or_rounds_otherwise_is_named() {
            assert!(fault_with(FTZ).contains("FTZ"));
            assert!(fault_with(DAZ).contains("DAZ"));
            assert!(fault_with(FTZ | DAZ).contains("FTZ"));
            assert!(ROUND.into_iter().all(|mode| fault_with(mode).contains("not rounded to the nearest")));
            assert_eq!(Environment::of_this_thread().fault(), None, "not set back");
        }

        fn pool(set_in_thread_1: u32) -> ThreadPool {
            let set = move |index| {
                if index == 1 {
                    // SAFETY: the thread is this test's own, and does nothing but what is checked.
                    unsafe { _mm_setcsr(_mm_getcsr() | set_in_thread_1) };
                }
            };
            rayon::ThreadPoolBuilder::new().num_threads(3).start_handler(set).build().expect("a pool of threads")
        }

        #[test]
        fn check_refuses_one_thread_of_a_pool_and_says_which() {
            check(&pool(0)).expect("nothing is wrong");
            for bits in [FTZ, DAZ, ROUND[0], ROUND[1], ROUND[2]] {
                let refusal = check(&pool(bits)).unwrap_err().to_string();
                assert!(refusal.starts_with("thread 1 of the pool: ") && refusal.contains("-ffast-math"), "{refusal}");
            }
        }

        #[test]
        fn check_refuses_the_thread_that_calls() {
            let pool = pool(0);
            let refusal = with(DAZ, || check(&pool)).unwrap_err().to_string();
            assert!(refusal.starts_with("the calling thread: "), "{refusal}");
            let refusal = with(FTZ, check_current).unwrap_err().to_string(); // of the global pool, whose threads are right
            assert!(refusal.starts_with("the calling thread: "), "{refusal}");
        }

        #[test]
        fn check_from_inside_of_a_pool_is_of_its_threads() {
            pool(0).install(check_current).expect("nothing is wrong");
            for bits in [FTZ, DAZ, ROUND[0], ROUND[1], ROUND[2]] {
                let pool = pool(bits);
                let refusal = pool.install(check_current).unwrap_err().to_string();
                assert!(refusal.starts_with("thread 1 of the pool: "), "{refusal}");
                check_current().expect("the global pool and this thread are as they were");
            }
        }

        #[test]
        fn check_from_inside_of_busy_threads_comes_to_an_end() {
            let refusals = pool(FTZ).install(|| crate::numerics::parallel::map(40, |_| check_current().is_err()));
            assert_eq!(refusals, [true; 40]);
        }

        #[test]
        fn command_refuses_to_start_where_subnormals_are_flushed() {
            use clap::Parser;
            let cli = crate::cli::Cli::parse_from(["ancestral", "bench", "--preset", "tiny", "--seconds", "0"]);
            let refusal = with(FTZ, || crate::cli::run(cli)).unwrap_err().to_string();
            assert!(refusal.contains("FTZ"), "{refusal}");
        }
    }
}
