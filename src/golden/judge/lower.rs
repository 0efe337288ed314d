//! Of which lower precision wrong results look. A precision is named only if every wrong result agrees: in the size of its
//! error, in its pattern, and in what else would be wrong.
//!
//! Inputs that are rounded to p bits behind the point have a random relative error of 0.42 · 2⁻ᵖ⁻¹ in the mean square (1/√3 of
//! the largest, the numbers being spread evenly in their logarithm), and so a product of two such inputs 0.60 · 2⁻ᵖ⁻¹, and a sum of
//! such products as much of √(Σ (a b)²): 2.9e-4 for TF32, 2.3e-3 for bfloat16, 1.7e-3 where one of the two was rounded.
//! Inputs that are cut off lose 0.72 · 2⁻ᵖ⁻¹ each on average, by which all sums shrink, and scatter as those that are rounded.
//!
//! So: the error is at least 5e-5 and at most a tenth of what was computed; at least a quarter of the numbers is wrong; and
//! something is left of the error without that part of it that is the truth times a number. In training, what was computed
//! is by how much a weight was moved, and a precision is there from the first step on, in the loss and in the gradient. In
//! a network nothing stays right.

use super::Verdict;
use super::comparison::{Comparison, SINGLE};

/// The largest error of TF32: of one product, and the least of many.
const TF32_MOST: [f64; 2] = [9e-4, 6e-4];

/// The precision, or [`Verdict::Fail`].
pub(super) fn precision(op: &str, comparisons: &[Comparison], wrong: &[&Comparison]) -> Verdict {
    if op == "training" {
        let mut scalars = comparisons.iter().filter(|c| ["output.loss", "output.grad_norm"].contains(&c.name));
        if !scalars.all(|c| !c.is_right() && c.is_wrong_at_once() && c.is_near()) {
            return Verdict::Fail;
        }
    }
    // Of a traced network the first wrong tensor tells: what follows has its errors mixed.
    let traced = wrong[0].name.starts_with("taps.");
    let wrong = if traced { &wrong[..1] } else { wrong };
    let telling: Vec<&Comparison> = wrong.iter().copied().filter(|c| c.tells()).collect();
    let rounded = telling.iter().filter(|c| c.is_rounded()).count();
    let mut sizes: Vec<f64> = telling.iter().filter_map(|c| c.size_of_noise()).collect();
    if telling.is_empty() || !telling.iter().all(|c| c.is_rounded() || c.size_of_noise().is_some()) {
        return Verdict::Fail;
    }
    if 2 * rounded > telling.len() {
        return Verdict::LikeHalf;
    }
    let single = SINGLE.contains(&op);
    if !single && !traced && 4 * telling.len() < 3 * comparisons.iter().filter(|c| c.tells()).count() {
        return Verdict::Fail;
    }
    // One product has the precision's own error; of many, one after another, those have that the fewest came before.
    sizes.sort_by(f64::total_cmp);
    let (size, most) = if single { (sizes[sizes.len() - 1], TF32_MOST[0]) } else { (sizes[0], TF32_MOST[1]) };
    if size <= most { Verdict::LikeTf32 } else { Verdict::LikeHalf }
}
