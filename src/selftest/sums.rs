//! Sums: in lanes, down columns, in a tree over microbatches.

use super::Chain;
use crate::Result;
use crate::numerics::parallel;
use crate::numerics::rng::normal;
use crate::numerics::sum::{plain_column_sums, sum, sum_of_squares};

pub(super) fn links(chain: &mut Chain) -> Result<()> {
    // From 10⁻⁸ to 10⁸, so that every order gives other bits.
    let x: Vec<f64> = normal(1000, 1).iter().map(|x| x * x * x * x * x * x * x).collect();
    let single: Vec<f32> = x.iter().map(|&x| x as f32).collect();
    let lengths = [0, 1, 15, 16, 17, 37, 1000];
    chain.numbers("sums.lanes_f32", &lengths.map(|n| sum(&single[..n])));
    chain.numbers("sums.lanes_f64", &lengths.map(|n| sum(&x[..n])));
    chain.numbers("sums.squares_f32", &lengths.map(|n| sum_of_squares(&single[..n])));

    let mut totals = [0.0; 5];
    plain_column_sums(&single, &mut totals);
    chain.numbers("sums.columns", &totals);
    let trees = [1, 2, 3, 5, 37, 1000].map(|n| parallel::tree_sum(n, |i| single[i], |a, b| *a += b));
    chain.numbers("sums.tree", &trees);
    Ok(())
}
