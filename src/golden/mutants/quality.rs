//! Mistakes in what compares sets of pictures.

use ndarray::{ArrayD, Ix2, IxDyn};
use serde_json::json;

use super::{Case, Mutant, Results, mutant, with_attribute};
use crate::evaluate::quality::frechet::{Gaussian, Reference};

/// The mistakes, in words.
pub(super) const MUTANTS: &[Mutant] = &[
    mutant("biased_covariance", "covariances over n for n - 1", |case| {
        let [x, y] = gaussians(case).map(|(n, mut of)| {
            of.covariance *= (n - 1.0) / n;
            of
        });
        Ok(scalar(Reference::new(x).distance(&y)))
    }),
    mutant("trace_without_the_root", "the trace of the product of the covariances, without its root", |case| {
        let [(_, x), (_, y)] = gaussians(case);
        let means = (&x.mean - &y.mean).mapv(|d| d * d).sum();
        let traces = x.covariance.diag().sum() + y.covariance.diag().sum();
        Ok(scalar(means + traces - 2.0 * x.covariance.dot(&y.covariance).diag().sum()))
    }),
    mutant("neighbour_counts_itself", "the nearest neighbour of a vector is the vector itself", |case| {
        with_attribute(case, "k", json!(case.attributes["k"].as_u64().expect("a number") - 1))
    }),
];

/// How many vectors each of the two sets has, and the Gaussian that it is taken for.
fn gaussians(case: &Case) -> [(f64, Gaussian); 2] {
    ["input.x", "input.y"].map(|name| {
        let set = case.numbers(name).into_dimensionality::<Ix2>().expect("two axes");
        (set.nrows() as f64, Gaussian::of(set.view()))
    })
}

/// One number as the output.
fn scalar(x: f64) -> Results<f64> {
    vec![("output".to_string(), ArrayD::from_elem(IxDyn(&[]), x))]
}
