//! Of which lower precision wrong results look. A precision is named only if every wrong result agrees: in the size of its
//! error, in its pattern, and in what else would be wrong.
//!
//! Inputs that are rounded to p bits behind the point have a random relative error of 0.42 · 2⁻ᵖ⁻¹ in the mean square (1/√3 of
//! the largest, the numbers being spread evenly in their logarithm), and so a product of two such inputs 0.60 · 2⁻ᵖ⁻¹, and a sum of
//! such products as much of √(Σ (a b)²): 2.9e-4 for TF32, 2.3e-3 for bfloat16, 1.7e-3 where one of the two was rounded.
//! Inputs that are cut off lose 0.72 · 2⁻ᵖ⁻¹ each on average, by which all sums shrink, and scatter as those that are rounded.
//!
//! So: the error is at least 5e-5 and at most a tenth of what was computed, and of one product at most 6e-3, where a term that was
//! left out is more; at least a quarter of the numbers is wrong; they are not multiples of one coarse step; and
//! something is left of the error without that part of it that is the truth times a number. Or the numbers themselves are those of
//! a half format, all its bits used. In training, what was computed
//! is by how much a weight was moved, and a precision is there from the first step on, in the loss and in the gradient. In
//! a network nothing stays right.

use super::Verdict;
use super::comparison::{Comparison, SINGLE};

/// The largest error of TF32: of one product, and the least of many, one after another; an attention is two.
const TF32_MOST: f64 = 9e-4;
const TF32_MOST_OF_ATTENTION: f64 = 1e-3;
const TF32_MOST_OF_MANY: f64 = 6e-4;

/// Of the numbers of a half format, half have the last bit set, of a few by chance less: at least so many.
const ODD: f64 = 1.0 / 16.0;

/// From so few numbers nothing is told, and from so many small ones something.
const FEW: [usize; 2] = [5, 8];

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
    let rounded: Vec<&Comparison> = telling.iter().copied().filter(|c| c.rounded().is_some()).collect();
    let size_of_noise = |c: &&Comparison| if c.is_of_fixed_point() { None } else { c.size_of_noise() };
    let mut sizes: Vec<f64> = telling.iter().filter_map(size_of_noise).collect();
    if telling.is_empty() || !telling.iter().all(|c| c.rounded().is_some() || size_of_noise(c).is_some()) {
        return Verdict::Fail;
    }
    if 2 * rounded.len() > telling.len() {
        return if have_last_bits(&rounded) { Verdict::LikeHalf } else { Verdict::Fail };
    }
    let single = SINGLE.contains(&op);
    if !single && !traced && 4 * telling.len() < 3 * comparisons.iter().filter(|c| c.tells()).count() {
        return Verdict::Fail;
    }
    // One product has the precision's own error; of many, one after another, those have that the fewest came before.
    sizes.sort_by(f64::total_cmp);
    let (size, most) = match op {
        _ if single => (sizes[sizes.len() - 1], TF32_MOST),
        "attention" => (sizes[0], TF32_MOST_OF_ATTENTION),
        _ => (sizes[0], TF32_MOST_OF_MANY),
    };
    if size <= most { Verdict::LikeTf32 } else { Verdict::LikeHalf }
}

/// Whether rounded numbers have all bits of their half format: every other one has the last bit set, while of numbers with a coarser
/// step, as integers are, no small one has.
fn have_last_bits(rounded: &[&Comparison]) -> bool {
    let all: Vec<(bool, bool)> = rounded.iter().flat_map(|c| c.last_bits()).collect();
    let small: Vec<(bool, bool)> = all.iter().copied().filter(|&(_, small)| small).collect();
    let telling = if small.len() >= FEW[1] { small } else { all };
    let odd = telling.iter().filter(|&&(odd, _)| odd).count();
    telling.len() < FEW[0] || odd as f64 >= ODD * telling.len() as f64
}
