//! Of which lower precision wrong results look. A precision is named only if the wrong results agree: in the size of their
//! errors, in their pattern, and in what else would be wrong.
//!
//! Inputs that are rounded to p bits behind the point have a random relative error of 0.42 · 2⁻ᵖ⁻¹ in the mean square (1/√3 of
//! the largest, the numbers being spread evenly in their logarithm), and so a product of two such inputs 0.60 · 2⁻ᵖ⁻¹, and a sum of
//! such products as much of √(Σ (a b)²): 2.9e-4 for TF32, 2.3e-3 for bfloat16, 1.7e-3 where one of the two was rounded.
//! Inputs that are cut off lose 0.72 · 2⁻ᵖ⁻¹ each on average, by which all sums shrink, and scatter as those that are rounded.
//!
//! So: the error is at least 5e-5 and at most a tenth of what was computed, and of one product at most 6e-3, where a term that
//! was left out is more; at least a quarter of the numbers is wrong; they are not multiples of one coarse step; and something
//! is left of the error without that part of it that is the truth times a number. Or the numbers themselves are those of a half
//! format, all its bits used. In training, what was computed is by how much a weight was moved, and a precision is there from
//! the first gradient on, and hardly in the loss. In a network nothing stays right, and of many results few may have another
//! pattern.

use super::Verdict;
use super::comparison::{Comparison, MOST, SINGLE};

/// The largest error of TF32: of one product and of training, and the least of many, one after another; an attention is two.
const TF32_MOST: f64 = 9e-4;
const TF32_MOST_OF_ATTENTION: f64 = 1e-3;
const TF32_MOST_OF_MANY: f64 = 6e-4;

/// The largest error of a loss, in which those of both signs add up.
const MOST_OF_A_LOSS: f64 = 3e-4;

/// Of the numbers of a half format, half have the last bit set, of a few by chance less: at least so many.
const ODD: f64 = 1.0 / 16.0;

/// From so few numbers nothing is told, and from so many small ones something.
const FEW: [usize; 2] = [5, 8];

/// The precision, or [`Verdict::Fail`].
pub(super) fn precision(op: &str, comparisons: &[Comparison], wrong: &[&Comparison]) -> Verdict {
    let of_training = (op == "training").then(|| without_scalars(wrong));
    let Some(mut wrong) = of_training.unwrap_or_else(|| Some(wrong.to_vec())) else { return Verdict::Fail };
    // Of a traced network the first wrong tensor tells: what follows has its errors mixed.
    let traced = wrong[0].name.starts_with("taps.");
    wrong.truncate(if traced { 1 } else { wrong.len() });
    let telling: Vec<&Comparison> = wrong.into_iter().filter(|c| c.tells()).collect();
    let rounded: Vec<&Comparison> = telling.iter().copied().filter(|c| c.rounded().is_some()).collect();
    let size_of_noise = |c: &&Comparison| if c.is_of_fixed_point() { None } else { c.size_of_noise() };
    let mut sizes: Vec<f64> = telling.iter().filter_map(size_of_noise).collect();
    // Of many, few may have another pattern by chance.
    let others: Vec<_> = telling.iter().filter(|c| c.rounded().is_none() && size_of_noise(c).is_none()).collect();
    if telling.is_empty() || 5 * others.len() > telling.len() || !others.iter().all(|c| c.is_near(2.0 * MOST)) {
        return Verdict::Fail;
    }
    if 2 * rounded.len() > telling.len() {
        return if have_last_bits(&rounded) { Verdict::LikeHalf } else { Verdict::Fail };
    }
    let single = SINGLE.contains(&op);
    if !single
        && op != "training"
        && !traced
        && 4 * telling.len() < 3 * comparisons.iter().filter(|c| c.tells()).count()
    {
        return Verdict::Fail;
    }
    // One product has the precision's own error; of many in a row, those have it that the fewest came before, and of what was
    // trained those in the middle.
    sizes.sort_by(f64::total_cmp);
    let (size, most) = match op {
        _ if single => (sizes[sizes.len() - 1], TF32_MOST),
        "training" => (sizes[sizes.len() / 2], TF32_MOST),
        "attention" => (sizes[0], TF32_MOST_OF_ATTENTION),
        _ => (sizes[0], TF32_MOST_OF_MANY),
    };
    if size <= most { Verdict::LikeTf32 } else { Verdict::LikeHalf }
}

/// What training moved, if the loss and the gradient's norm are wrong as a precision makes them.
fn without_scalars<'a, 'c>(wrong: &[&'a Comparison<'c>]) -> Option<Vec<&'a Comparison<'c>>> {
    let scalar = |name: &str| wrong.iter().find(|c| c.name == name);
    let (loss, norm) = (scalar("output.loss")?, scalar("output.grad_norm")?);
    let loss_is_near = loss.is_near(MOST_OF_A_LOSS) || loss.rounded().is_some();
    if !norm.is_wrong_at_once() || !norm.is_near(MOST) || !loss_is_near {
        return None;
    }
    let moved: Vec<_> = wrong.iter().copied().filter(|c| ![loss.name, norm.name].contains(&c.name)).collect();
    Some(if moved.is_empty() { wrong.to_vec() } else { moved })
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
