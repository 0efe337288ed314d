//! How far from the truth a correct float32 implementation may be, an element each.
//!
//! # Products
//!
//! A sum of K products that is added one after another has K roundings, each of up to u = 2⁻²⁴ of a partial sum. Partial
//! sums of products of random sign have squares that add up to about K/2 Σ (a_i b_i)², of products of one sign to about
//! K/3 y²; so the tolerance is 2 u √(K (Σ (a_i b_i)² + y²)) and an ulp. Measured, the largest error of 400 to
//! 2,000 sequential float32 sums lies between a quarter and three quarters of it for K from 1 to 4,608. Σ (a_i b_i)² is the
//! same operation on the squares of its inputs.
//!
//! Inputs that are rounded to p bits behind the point first shift the sum by at most 2 · 2⁻ᵖ⁻¹ S, S = Σ |a_i b_i|, and S is
//! at most √(K Σ (a_i b_i)²): TF32's 10 bits cost at most 8,192 tolerances, bfloat16's 7 bits 65,536, and typically
//! some tens and hundreds.
//!
//! # Everything else
//!
//! What [`RUNS`] runs in which every operation is noisy ([`precision`](super::precision)) are off by on average, six of
//! their standard deviations, and ½ ulp. Sums are added one number after another there. In a network the spread of one
//! element is estimated from few numbers, so it counts at least the spread of its tensor.
//!
//! - Norms: float32 implementations take sums of x and of x dy before they subtract the mean, so roundings of the size of
//!   the mean count: 4 u |mean| r times |γ|, or times r and the size of γ dy in the gradient.
//! - Attention: e^(s − log Σ eˢ) has the roundings of scores s and their logarithm, so probabilities are off by some u |s|,
//!   and results by 2 u |s| of their size.
//! - Softmax: who differentiates through the subtraction of the greatest, too, adds Σ dx to its gradient, a zero with the
//!   roundings of the terms p (|dy| + |Σ p dy|) that cancel in it: 4 u √(n Σ terms²).
//!
//! - DDPM's step: 1 − ᾱ and β lose digits at small t in tables of float32.
//! - Times of a chain lie between those of the table, by ln σ, and are cut off at 0. Who rounds σ in another way is off by some u
//!   of a step there, which the noise does not show: 4 u at least.
//!
//! A gradient that is zero in truth, as that of an attention's key bias (probabilities add up to 1, so what moves all
//! scores of a query alike moves nothing), has nothing but the errors of the terms that cancel in it; and these are not
//! roundings alone. Each
//! probability has an exponential with an error of an ulp or two, up to 4 u, where the noise has a deviation of u/√3:
//! so the noise, which is proportional to the terms, counts `CANCELLED` (4) times.
//!
//! A result that is smaller than the smallest normal float32, 2⁻¹²⁶, may be flushed to zero; one that is
//! larger than the largest may be infinite.

use ndarray::ArrayD;
use serde_json::Value;

use super::case::{Case, Tensor};
use super::format::Format;
use super::ops::{Results, evaluate};
use super::precision::{Noisy, U, with_noise};
use crate::Result;
use crate::layers::{flat, flat_mut};
use crate::numerics::Real;

/// Noisy runs behind a tolerance.
pub const RUNS: u64 = 24;

/// Standard deviations of the noise that are accepted.
const DEVIATIONS: f64 = 6.0;

/// How often the noise counts where the truth is zero: see the [module](self).
const CANCELLED: f64 = 4.0;

/// A truth of so little of its noise is zero as far as float64 can tell.
const ZERO: f64 = 1.0 / (1 << 20) as f64;

/// What every time of a chain may be off by, in steps.
const LEAST_OF_A_TIME: f64 = 4.0 * U;

/// The tolerance of each result.
///
/// # Errors
/// As [`evaluate`].
pub fn tolerances(case: &Case, truth: &Results<f64>) -> Result<Results<f64>> {
    if SUMS.contains(&case.op.as_str()) { of_products(case, truth) } else { of_noise(case, truth) }
}

/// Operations that are one sum of products, or of numbers.
const SUMS: [&str; 6] =
    ["linear", "conv2d", "conv_transpose2d", "upsample_nearest_2x", "average_pool_2x", "class_embedding"];

/// How many terms a result of these sums up, given the shape of the output.
///
/// # Panics
/// If the operation is none of these.
pub(super) fn terms_of(case: &Case, output: &[usize], name: &str) -> usize {
    let shape = |name: &str| case.tensors.get(name).map(|x| x.shape().to_vec()).unwrap_or_default();
    let product = |axes: &[usize]| axes.iter().product::<usize>();
    let weight = shape("input.weight");
    let (inputs, outputs) = match case.op.as_str() {
        "linear" => (weight[1], weight[0]),
        // A group's outputs see a group's inputs.
        "conv2d" => (product(&weight[1..]), weight[0] / groups(case) * product(&weight[2..])),
        // Of the weight's axes, inputs come first here.
        "conv_transpose2d" => (weight[0] / groups(case) * product(&weight[2..]), product(&weight[1..])),
        "upsample_nearest_2x" => (0, 4),
        "average_pool_2x" => (4, 0),
        "class_embedding" => (0, 0),
        op => unreachable!("{op} is no sum"),
    };
    match (case.op.as_str(), name) {
        (_, "output") => inputs,
        (_, "grad.x") => outputs,
        ("class_embedding", _) => output[0],
        ("conv_transpose2d", "grad.weight") => product(&shape("input.x")) / weight[0],
        ("conv_transpose2d", _) => product(output) / output[1],
        _ => product(output) / weight.first().unwrap_or(&1),
    }
}

fn groups(case: &Case) -> usize {
    case.attributes.get("groups").and_then(Value::as_u64).unwrap_or(1) as usize
}

fn of_products(case: &Case, truth: &Results<f64>) -> Result<Results<f64>> {
    let squared = Case { squares: true, ..case.clone() };
    let mut tolerances = evaluate::<f64>(&squared)?;
    let output = truth[0].1.shape();
    for ((name, tolerance), (_, truth)) in tolerances.iter_mut().zip(truth) {
        let k = terms_of(case, output, name) as f64;
        tolerance.zip_mut_with(truth, |tol, &y| *tol = 2.0 * U * (k * (*tol + y * y)).sqrt() + slack(y, case.format));
        if name == "output" && case.format != Format::F32 {
            add_bias(case, tolerance, truth);
        }
    }
    Ok(tolerances)
}

/// In a half format the rounding of the sum before its bias is added, which may be larger than the result.
fn add_bias(case: &Case, tolerance: &mut ArrayD<f64>, truth: &ArrayD<f64>) {
    let Some(bias) = case.tensors.get("input.bias").map(Tensor::to_f64) else { return };
    let axis = if case.op == "linear" { truth.ndim() - 1 } else { 1 };
    for (at, tolerance) in tolerance.indexed_iter_mut() {
        *tolerance += case.format.unit() * (truth[&at] - bias[at[axis]]).abs();
    }
}

/// Operations of so many roundings that an element's spread is estimated together with its tensor's.
const POOLED: [&str; 9] =
    ["attention", "res_block", "attention_block", "classifier_block", "dit_block", "unet", "dit", "training", "oracle"];

fn of_noise(case: &Case, truth: &Results<f64>) -> Result<Results<f64>> {
    let zeros =
        || -> Results<f64> { truth.iter().map(|(name, y)| (name.clone(), ArrayD::zeros(y.raw_dim()))).collect() };
    let (mut sums, mut squares) = (zeros(), zeros());
    for run in 1..=RUNS {
        let noisy = with_noise(run, case.format, || evaluate::<Noisy>(case))?;
        for (((sum, square), (_, y)), (_, noisy)) in sums.iter_mut().zip(&mut squares).zip(truth).zip(&noisy) {
            ndarray::Zip::from(&mut sum.1).and(&mut square.1).and(y).and(noisy).for_each(|sum, square, &y, noisy| {
                // The root of a zero that noise made negative is no number, and says nothing.
                let difference = Some(noisy.to_f64() - y).filter(|d| !d.is_nan()).unwrap_or(0.0);
                (*sum, *square) = (*sum + difference, *square + difference * difference);
            });
        }
    }
    let runs = RUNS as f64;
    let pooled = POOLED.contains(&case.op.as_str());
    for (((_, tolerance), (_, sum)), (_, y)) in squares.iter_mut().zip(&sums).zip(truth) {
        // The variance of the runs; rounding may leave a little less than nothing.
        tolerance.zip_mut_with(sum, |square, &sum| {
            let variance = (*square - sum * sum / runs) / runs;
            *square = if variance < 0.0 { 0.0 } else { variance };
        });
        let least = if pooled { tolerance.sum() / tolerance.len() as f64 } else { 0.0 };
        ndarray::Zip::from(tolerance).and(sum).and(y).for_each(|tolerance, &sum, &y| {
            let variance = if *tolerance > least { *tolerance } else { least };
            let noise = (sum / runs).abs() + DEVIATIONS * variance.sqrt();
            let all = noise * if y.abs() <= ZERO * noise { CANCELLED } else { 1.0 } + slack(y, case.format);
            *tolerance = if all.is_finite() { all } else { f64::INFINITY };
        });
    }
    if ["group_norm", "layer_norm"].contains(&case.op.as_str()) {
        add_offset(case, &mut squares);
    }
    if case.op == "reverse_step" && case.attributes["class"] == "DDPMScheduler" {
        add_tables(case, truth, &mut squares)?;
    }
    for (_, times) in squares.iter_mut().filter(|(name, _)| name == "output.timesteps") {
        times.mapv_inplace(|tol| if tol < LEAST_OF_A_TIME { LEAST_OF_A_TIME } else { tol });
    }
    if case.op == "softmax" {
        add_greatest(case, truth, &mut squares);
    }
    if case.op == "attention" {
        add_scores(case, truth, &mut squares);
    }
    Ok(squares)
}

/// The roundings of tables in DDPM's step: β is taken as 1 − ᾱ_t/ᾱ_s and divided by 1 − ᾱ_t, so the weights of x_t and of x̂₀
/// are off by u / (1 − ᾱ_t), each for itself; in a noisy run both come from one rounded ᾱ, and their errors cancel.
fn add_tables(case: &Case, truth: &Results<f64>, tolerances: &mut Results<f64>) -> Result<()> {
    let Some(Value::Object(config)) = case.attributes.get("config") else { return Ok(()) };
    let tables = evaluate::<f64>(&Case { op: "schedule".into(), attributes: config.clone(), ..Case::default() })?;
    let t = case.attributes.get("t").and_then(Value::as_u64).unwrap_or(0) as usize;
    let alphas = tables.iter().find(|(name, _)| name == "output.alphas_cumprod");
    let lost = alphas.map_or(0.0, |(_, alphas)| U / (1.0 - alphas[[t]]));
    let (x_t, x_0) = (case.numbers("input.x_t"), truth.iter().find(|(name, _)| name == "output.pred_original_sample"));
    let Some((_, x_0)) = x_0 else { return Ok(()) };
    for (_, tolerance) in tolerances.iter_mut().filter(|(name, _)| name == "output.prev_sample") {
        ndarray::Zip::from(tolerance)
            .and(&x_t)
            .and(x_0)
            .for_each(|tol, x_t, x_0| *tol += lost * (x_t.abs() + x_0.abs()));
    }
    Ok(())
}

/// The roundings of a zero that is added to the gradient of the greatest of a row, in softmax.
fn add_greatest(case: &Case, truth: &Results<f64>, tolerances: &mut Results<f64>) {
    let (x, p) = (case.numbers("input.x"), &truth[0].1);
    let n = x.shape().last().copied().unwrap_or(1);
    for (_, tolerance) in tolerances.iter_mut().filter(|(name, _)| name == "grad.x") {
        let dy = case.numbers("grad_output");
        let rows = flat(&x).chunks(n).zip(flat(p).chunks(n)).zip(flat(&dy).chunks(n));
        for (((x, p), dy), tolerance) in rows.zip(flat_mut(tolerance).chunks_mut(n)) {
            let mean: f64 = p.iter().zip(dy).map(|(p, dy)| p * dy).sum();
            let terms = p.iter().zip(dy).map(|(p, dy)| p * (dy.abs() + mean.abs()));
            let of_zero = 4.0 * U * (n as f64 * terms.map(|t| t * t).sum::<f64>()).sqrt();
            let greatest = x.iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x));
            tolerance.iter_mut().zip(x).filter(|(_, x)| **x == greatest).for_each(|(tol, _)| *tol += of_zero);
        }
    }
}

/// The roundings of the size of the scores, in attention; |s| is at most the product of the longest q and k of a head.
fn add_scores(case: &Case, truth: &Results<f64>, tolerances: &mut Results<f64>) {
    let (q, k) = (case.numbers("input.q"), case.numbers("input.k"));
    let heads = case.attributes.get("heads").and_then(Value::as_u64).unwrap_or(1) as usize;
    let d = q.shape()[2] / heads;
    let longest = |x: &ArrayD<f64>| largest(flat(x).chunks(d).map(|x| x.iter().map(|x| x * x).sum::<f64>().sqrt()));
    let s = longest(&q) * longest(&k) / (d as f64).sqrt();
    for ((_, tolerance), (_, y)) in tolerances.iter_mut().zip(truth) {
        let size = (y.iter().map(|y| y * y).sum::<f64>() / y.len() as f64).sqrt();
        *tolerance += 2.0 * U * s * size;
    }
}

fn largest(x: impl Iterator<Item = f64>) -> f64 {
    x.fold(0.0, |m, x| if x.abs() > m { x.abs() } else { m })
}

/// The roundings of the size of the mean, in norms. The numbers that share a mean follow one another in memory: a row,
/// or the channels of a group.
fn add_offset(case: &Case, tolerances: &mut Results<f64>) {
    let x = case.numbers("input.x");
    let axes = if case.op == "layer_norm" { &x.shape()[x.ndim() - 1..] } else { &x.shape()[1..] };
    let size = axes.iter().product::<usize>() / groups(case);
    let gamma = case.tensors.get("input.weight").map_or(1.0, |gamma| largest(gamma.to_f64().into_iter()));
    let dy = case.tensors.get("grad_output").map(Tensor::to_f64);
    let mean = |x: &[f64]| x.iter().sum::<f64>() / size as f64;
    let eps = case.attributes.get("eps").and_then(Value::as_f64).unwrap_or(1e-5);
    for (name, tolerance) in tolerances.iter_mut().filter(|(name, _)| ["output", "grad.x"].contains(&name.as_str())) {
        let groups = flat(&x).chunks(size).zip(flat_mut(tolerance).chunks_mut(size)).enumerate();
        for (i, (x, tolerance)) in groups {
            let mean_x = mean(x);
            let r = 1.0 / (mean(&x.iter().map(|x| (x - mean_x) * (x - mean_x)).collect::<Vec<_>>()) + eps).sqrt();
            let size_of = match (&dy, name.as_str()) {
                (Some(dy), "grad.x") => {
                    let dy = &flat(dy)[i * size..][..size];
                    r * mean(&dy.iter().map(|dy| dy * dy).collect::<Vec<_>>()).sqrt()
                }
                _ => 1.0,
            };
            tolerance.iter_mut().for_each(|t| *t += 4.0 * U * mean_x.abs() * r * gamma * size_of);
        }
    }
}

/// Half an ulp of the result, and what a backend may flush to zero or let overflow.
fn slack(truth: f64, format: Format) -> f64 {
    if truth.abs() > format.largest() { f64::INFINITY } else { 0.5 * format.ulp(truth) + format.smallest() }
}
