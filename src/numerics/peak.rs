//! The fastest that this machine multiplies and adds in f32: what kernels are measured against.

use std::time::Instant;

use rayon::prelude::*;

use super::instruction_set::{self, InstructionSet, every_instruction_set};

/// Rounds of all chains in one run.
const ROUNDS: usize = 2_000_000;

every_instruction_set! {
    /// Twelve independent chains of eight lanes, as many as hide the latency of a fused multiply-add.
    fn chains<F>(rounds: usize, a: F, b: F) -> F {
        let mut acc = [[F::one(); 8]; 12];
        for _ in 0..rounds {
            for lanes in &mut acc {
                for x in lanes {
                    *x = x.fma::<P>(a, b);
                }
            }
        }
        acc.iter().flatten().fold(F::zero(), |sum, &x| sum + x)
    }
}

/// The same with a register of AVX-512 a chain, written out: the compiler finds other ways through the loops.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn chains_of_16(rounds: usize, a: f32, b: f32) -> f32 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let (a, b) = (_mm512_set1_ps(a), _mm512_set1_ps(b));
    let mut acc = [_mm512_set1_ps(1.0); 12];
    for _ in 0..rounds {
        for x in &mut acc {
            *x = _mm512_fmadd_ps(*x, a, b);
        }
    }
    acc.iter().map(|&x| _mm512_reduce_add_ps(x)).sum()
}

/// GFLOP/s of f32 fused multiply-add on all threads of the pool, in a run of some milliseconds.
pub fn gflops() -> f64 {
    let threads = rayon::current_num_threads();
    let lanes = if instruction_set::current() == InstructionSet::Avx512 { 16 } else { 8 };
    let start = Instant::now();
    let sums: Vec<f32> = (0..threads).into_par_iter().map(|_| one_run(std::hint::black_box(0.999), 1e-3)).collect();
    std::hint::black_box(sums);
    (2 * lanes * 12 * ROUNDS * threads) as f64 / start.elapsed().as_secs_f64() / 1e9
}

fn one_run(a: f32, b: f32) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if instruction_set::current() == InstructionSet::Avx512 {
        // SAFETY: `current` names a path only after the processor was asked for its features.
        #[allow(unsafe_code)]
        return unsafe { chains_of_16(ROUNDS, a, b) };
    }
    chains(ROUNDS, a, b)
}
