//! In which order does a backend add the products of a matrix product, and does it round them first?
//!
//! A sum of floats depends on its order in its last bits, so results of random products are a fingerprint of it. A probe
//! is an ordinary product that also holds the results of known orders, `order.NAME.output`.

use ndarray::{Array2, Ix2};

use super::case::{Case, Tensor};
use crate::numerics::{Native, Real};

/// An order of addition: a name and the sum of the products of two rows.
type Order = (String, Box<dyn Fn(&[f32], &[f32]) -> f32>);

/// Lengths of blocks that matrix products are known to cut k into.
const BLOCKS: [usize; 13] = [64, 96, 128, 192, 240, 256, 320, 336, 352, 384, 448, 512, 768];

fn orders() -> Vec<Order> {
    let mut orders: Vec<Order> = Vec::new();
    for (suffix, fused) in [("fused", true), ("rounded", false)] {
        orders.push((format!("ascending_{suffix}"), Box::new(move |a, b| chain(0..a.len(), a, b, fused))));
        orders.push((format!("descending_{suffix}"), Box::new(move |a, b| chain((0..a.len()).rev(), a, b, fused))));
        for block in BLOCKS {
            orders.push((format!("blocks_of_{block}_{suffix}"), Box::new(move |a, b| blocks(a, b, block, fused))));
        }
        for lanes in [4, 8, 16, 32, 64] {
            orders.push((format!("lanes_{lanes}_{suffix}"), Box::new(move |a, b| in_lanes(a, b, lanes, fused))));
        }
    }
    orders.push(("pairwise".into(), Box::new(pairwise)));
    let exact = |(a, b): (&f32, &f32)| *a as f64 * *b as f64;
    orders.push(("float64".into(), Box::new(move |a, b| a.iter().zip(b).map(exact).fold(0.0, |s, p| s + p) as f32)));
    orders
}

fn chain(range: impl Iterator<Item = usize>, a: &[f32], b: &[f32], fused: bool) -> f32 {
    range.fold(0.0, |sum, k| if fused { a[k].fma::<Native>(b[k], sum) } else { sum + a[k] * b[k] })
}

/// Each block's chain, then the blocks in ascending order: with 256 and fused, the contract.
fn blocks(a: &[f32], b: &[f32], block: usize, fused: bool) -> f32 {
    let mut sums = a.chunks(block).zip(b.chunks(block)).map(|(a, b)| chain(0..a.len(), a, b, fused));
    let first = sums.next().expect("a product has terms");
    sums.fold(first, |total, sum| total + sum)
}

/// Element k in lane k mod lanes, then the lanes as a tree of halves.
fn in_lanes(a: &[f32], b: &[f32], lanes: usize, fused: bool) -> f32 {
    let mut sums: Vec<f32> = (0..lanes).map(|lane| chain((lane..a.len()).step_by(lanes), a, b, fused)).collect();
    while sums.len() > 1 {
        let (left, right) = sums.split_at(sums.len() / 2);
        sums = left.iter().zip(right).map(|(a, b)| a + b).collect();
    }
    sums[0]
}

/// The sum of the first half and of the second, down to single products.
fn pairwise(a: &[f32], b: &[f32]) -> f32 {
    if a.len() == 1 {
        return a[0] * b[0];
    }
    let middle = a.len() / 2;
    pairwise(&a[..middle], &b[..middle]) + pairwise(&a[middle..], &b[middle..])
}

/// Adds to a completed case of `linear` without bias what each order of addition gives.
///
/// # Panics
/// If the case is another.
pub fn add_orders(case: &mut Case) {
    let matrix = |name: &str| match &case.tensors[name] {
        Tensor::F32(x) => x.clone().into_dimensionality::<Ix2>().expect("a matrix"),
        _ => panic!("{name} is float32"),
    };
    let (x, weight) = (matrix("input.x"), matrix("input.weight"));
    let row = |matrix: &Array2<f32>, i: usize| matrix.row(i).to_vec();
    for (name, sum) in orders() {
        let y = Array2::from_shape_fn((x.nrows(), weight.nrows()), |(i, j)| sum(&row(&x, i), &row(&weight, j)));
        case.tensors.insert(format!("order.{name}.output"), Tensor::F32(y.into_dyn()));
    }
}

/// The orders whose results these are, to the bit.
pub fn orders_of(case: &Case, output: &Tensor) -> Vec<String> {
    let found = output.to_f64();
    let same = |key: &str| case.numbers(key).iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits());
    let names = case.tensors.keys().filter(|key| key.starts_with("order.") && same(key));
    names.filter_map(|key| key.strip_prefix("order.")?.strip_suffix(".output").map(String::from)).collect()
}
