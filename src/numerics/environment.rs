//! Whether a thread's floating-point arithmetic is what the contract needs (contract N1, rule 1).
//!
//! A processor can be told to treat subnormal numbers as zeros, as operands (DAZ) or as results (FTZ), or to round
//! otherwise than to the nearest. The setting belongs to a thread and is handed on to the threads it starts. No Rust
//! program asks for it, but a C library built with `-ffast-math` does so for its host when it is merely loaded.
//!
//! The checks compute; they read no control register. So they hold on every processor, and whatever the compiler made of
//! the arithmetic.

use std::hint::black_box;

use rayon::{BroadcastContext, ThreadPool};

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
    #[inline(never)] // its arithmetic must not move past what its caller does to the thread
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

/// Refuses this thread and every thread of the pool that computes otherwise than the contract says.
///
/// # Errors
/// The first such thread, with what it does and what to do about it.
pub fn check(pool: &ThreadPool) -> Result<()> {
    refuse(pool.broadcast(of_thread))
}

/// [`check`] for the pool that parallel work of the calling thread runs on: the one whose thread it is, or rayon's global pool.
///
/// Training, sampling and evaluation call it before they begin, since a library has no other moment for it. It waits until
/// each thread of the pool has answered, so it must not be called where one of them waits for the caller.
///
/// # Errors
/// As [`check`].
pub fn check_current() -> Result<()> {
    refuse(rayon::broadcast(of_thread))
}

fn of_thread(context: BroadcastContext) -> (String, Environment) {
    (format!("thread {} of the pool", context.index()), Environment::of_this_thread())
}

fn refuse(of_pool: Vec<(String, Environment)>) -> Result<()> {
    let of_this = ("the calling thread".to_owned(), Environment::of_this_thread());
    for (thread, environment) in [of_this].into_iter().chain(of_pool) {
        if let Some(fault) = environment.fault() {
            let remedy = "a library loaded into this process has changed it, often one built with -ffast-math: unset LD_PRELOAD, \
                          or set the thread back before calling";
            return Err(Error::Arithmetic { thread, fault, remedy });
        }
    }
    Ok(())
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
        fn check_current_refuses_one_thread_of_the_pool_that_it_is_called_in_from_any_thread() {
            let from_each = |pool: &ThreadPool| pool.broadcast(|_| check_current());
            from_each(&pool(0)).into_iter().for_each(|checked| checked.expect("nothing is wrong"));
            for bits in [FTZ, DAZ, ROUND[0]] {
                for (caller, checked) in from_each(&pool(bits)).into_iter().enumerate() {
                    let place = if caller == 1 { "the calling thread: " } else { "thread 1 of the pool: " };
                    let refusal = checked.unwrap_err().to_string();
                    assert!(refusal.starts_with(place), "from thread {caller}: {refusal}");
                }
            }
        }

        #[test]
        fn check_current_inside_of_parallel_work_comes_back() {
            use rayon::prelude::*;
            let work = |pool: ThreadPool| pool.install(|| (0..64).into_par_iter().map(|_| check_current()).collect());
            let fine: Vec<Result<()>> = work(pool(0));
            assert!(fine.into_iter().all(|checked| checked.is_ok()));
            let refused: Vec<Result<()>> = work(pool(DAZ));
            assert!(refused.into_iter().all(|checked| checked.is_err()));
        }

        #[test]
        fn check_refuses_the_thread_that_calls() {
            let pool = pool(0);
            let refusal = with(DAZ, || check(&pool)).unwrap_err().to_string();
            assert!(refusal.starts_with("the calling thread: "), "{refusal}");
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
