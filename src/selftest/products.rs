//! Matrix products below, at and above a block of k, with rows and columns that fill no tile.

use super::Chain;
use crate::Result;
use crate::numerics::Real;
use crate::numerics::gemm::{Epilogue, Matrix, matrix_product};
use crate::numerics::rng::normal;

pub(super) fn links(chain: &mut Chain) -> Result<()> {
    for k in [1, 27, 255, 256, 257, 576] {
        products::<f32>(chain, 7, k, 19);
    }
    products::<f64>(chain, 5, 257, 11);
    Ok(())
}

/// A·B, A·B + bias, C + A·B, and Aᵀ·B of matrices in memory the other way round.
fn products<F: Real>(chain: &mut Chain, m: usize, k: usize, n: usize) {
    let numbers = |count: usize, key: u64| normal(count, key).mapv(F::from_f64).to_vec();
    let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
    let of = |start: Epilogue<F>, a: Matrix<F>| {
        let mut c = numbers(m * n, 4);
        matrix_product(a, Matrix::new(&b, k, n), &mut c, n, start);
        c
    };
    let results = [
        of(Epilogue::Overwrite, Matrix::new(&a, m, k)),
        of(Epilogue::OverwriteWithBias(&bias), Matrix::new(&a, m, k)),
        of(Epilogue::Accumulate, Matrix::new(&a, m, k)),
        of(Epilogue::Overwrite, Matrix::new(&a, k, m).t()),
    ];
    chain.numbers(format!("products.{}_k_{k}", F::NAME), &results.concat());
}
