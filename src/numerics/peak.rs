//! The fastest that this machine multiplies and adds in f32: what kernels are measured against.

use std::time::Instant;

use rayon::prelude::*;

use super::path::{self, Path, every_path};

every_path! {
    /// R independent chains of N lanes, as many as hide the latency of a fused multiply-add.
    fn chains<F, const R: usize, const N: usize>(rounds: usize, a: F, b: F) -> F {
        let mut acc = [[F::one(); N]; R];
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

/// GFLOP/s of f32 fused multiply-add on all threads of the pool: the best of some short runs.
pub fn gflops() -> f64 {
    // With AVX-512 a chain is one register of 16 floats, else eight floats are one or two.
    if path::current() == Path::Avx512 { of_chains::<6, 16>() } else { of_chains::<12, 8>() }
}

fn of_chains<const R: usize, const N: usize>() -> f64 {
    const ROUNDS: usize = 2_000_000;
    let threads = rayon::current_num_threads();
    let run = || {
        let start = Instant::now();
        let chain = |_| chains::<f32, R, N>(ROUNDS, std::hint::black_box(0.999f32), 1e-3);
        let sums: Vec<f32> = (0..threads).into_par_iter().map(chain).collect();
        std::hint::black_box(sums);
        (2 * R * N * ROUNDS * threads) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..5).map(|_| run()).fold(0.0, |best, x| if x > best { x } else { best })
}
