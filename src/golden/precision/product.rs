//! Products with the noise of all their roundings at once.
//!
//! A sum of products that is added one after another has two roundings a step: of the product p_k, and of the partial sum S_k. Each
//! is a random number in ±u of what is rounded, whose variance is a third of (u p_k)² or (u S_k)². So the noise of the whole sum has
//! variance u²/3 Q with Q = Σ (S_k² + p_k²). It is drawn once, here, where it would be drawn twice a step otherwise: sums
//! and squares are what a processor is good at, and a tolerance takes a tenth of the time.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use super::{Noisy, U, UNIT, noise, rounded};
use crate::numerics::gemm::{Epilogue, Gather, Rectangle, Right};
use crate::numerics::instruction_set::every_instruction_set;

/// Columns of a panel of B.
const LANES: usize = 8;

/// Rows at a time: enough sums that none waits for itself.
const ROWS: usize = 4;

every_instruction_set! {
    /// Goes on with the partial sums S and with Q, for some rows of A and a panel of B.
    fn walk<F>(a: Gather<F>, b: &[F], step: usize, s: &mut [[f64; LANES]; ROWS], q: &mut [[f64; LANES]; ROWS]) {
        let rows: [usize; ROWS] = std::array::from_fn(|i| a.rows[i.min(a.rows.len() - 1)]);
        for (k, &of_step) in a.steps.iter().enumerate() {
            let b: [f64; LANES] = std::array::from_fn(|j| b[k * step + j].to_f64());
            for i in 0..ROWS {
                let a = a.data[rows[i] + of_step].to_f64();
                for j in 0..LANES {
                    let p = a * b[j];
                    s[i][j] += p;
                    q[i][j] += s[i][j] * s[i][j] + p * p;
                }
            }
        }
    }
}

/// A sum with noise of variance u²/3 Q, rounded to the format if that has fewer digits.
fn sum(s: f64, q: f64) -> Noisy {
    let sum = s + U * q.sqrt() * noise(s);
    if f64::from_bits(UNIT.load(Relaxed)) > U { rounded(sum) } else { Noisy(sum) }
}

/// C (+)= A · B (+ bias) for some columns of B, given that part of C.
pub(super) fn tiles(
    a: Gather<Noisy>,
    b: Right<Noisy>,
    columns: Range<usize>,
    mut c: Rectangle<Noisy>,
    start: Epilogue<Noisy>,
) {
    for first in columns.clone().step_by(LANES) {
        let here = first - columns.start..columns.end.min(first + LANES) - columns.start;
        for (tile, rows) in a.rows.chunks(ROWS).enumerate() {
            let (mut s, mut q) = ([[0.0; LANES]; ROWS], [[0.0; LANES]; ROWS]);
            for (i, s) in s.iter_mut().enumerate().take(rows.len()) {
                if matches!(start, Epilogue::Accumulate | Epilogue::Continue) {
                    let c = &c.row(tile * ROWS + i)[here.clone()];
                    s.iter_mut().zip(c).for_each(|(s, c)| *s = c.0);
                }
            }
            walk::<Noisy>(Gather { rows, ..a }, b.from(first, 0), b.step, &mut s, &mut q);
            for i in 0..rows.len() {
                let c = &mut c.row(tile * ROWS + i)[here.clone()];
                for (j, c) in c.iter_mut().enumerate() {
                    *c = sum(s[i][j], q[i][j]);
                    if let Epilogue::OverwriteWithBias(bias) = start {
                        *c += bias[first + j];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, with_noise};
    use super::*;
    use crate::numerics::gemm::{Matrix, matrix_product};
    use crate::numerics::rng::Stream;
    use crate::numerics::{Native, Real};

    #[test]
    fn noise_of_a_product_has_the_spread_of_the_noise_of_its_steps() {
        const K: usize = 300;
        let mut numbers = vec![0.0f64; 2 * K];
        Stream::keyed(1, "noisy product", &[]).fill_normal(&mut numbers);
        let noisy: Vec<Noisy> = numbers.iter().map(|&x| Noisy(x)).collect();
        let (a, b) = noisy.split_at(K);
        let truth: f64 = a.iter().zip(b).map(|(a, b)| a.0 * b.0).sum();
        let spread = |sum: &dyn Fn() -> Noisy| {
            const RUNS: u64 = 4000;
            let errors = (1..=RUNS).map(|run| with_noise(run, Format::F32, || (sum().0 - truth) / U));
            (errors.map(|error| error * error).sum::<f64>() / RUNS as f64).sqrt()
        };
        let steps = spread(&|| a.iter().zip(b).fold(Noisy(0.0), |sum, (a, &b)| a.fma::<Native>(b, sum)));
        let at_once = spread(&|| {
            let mut c = [Noisy(0.0)];
            matrix_product(Matrix::new(a, 1, K), Matrix::new(b, K, 1), &mut c, 1, Epilogue::Overwrite);
            c[0]
        });
        // A deviation of 4,000 numbers is off by 1/√8000, 1.1 %; two of them differ by six times √2 of that at most.
        assert!((at_once / steps - 1.0).abs() < 0.1, "{at_once} and {steps} units");
        assert!(steps > 10.0, "{steps}"); // a single rounding of the sum would be some 17/√3
    }
}
