//! What mature elementary functions may be off by, and what that does to the operations that have them.
//!
//! A library's functions are not rounded as IEEE 754 rounds sums. What the standards of devices allow, in ulp of float32:
//!
//! | function | glibc | CUDA | OpenCL | Metal | Vulkan, WGSL | here |
//! |---|---|---|---|---|---|---|
//! | exp | 1 | 2 | 3 | 4 | 3 + 2 \|x\| | 3 + 2 \|x\| |
//! | ln | 1 | 1 | 3 | 4 | 3; 2⁻²¹ for x in \[1/2, 2\] | 4; 2⁻²¹ for x in \[1/2, 2\] |
//! | sin, cos | 1 | 2 | 4 | 4 | 2⁻¹¹ | 4 |
//! | tanh | 2 | 2 | 5 | 5 | by others | 5 |
//! | 1/√x, a/b | ½ | ½ to 2 | 2, 2.5 | ½ | 2, 2.5 | 2.5 |
//!
//! Vulkan's 2⁻¹¹ of sine and cosine is not float32. The sigmoid 1/(1 + e⁻ˣ) has the error of its exponential for negative x, of
//! an ulp up to twice as large, with a sum and a quotient: 10 + 4 |x|. Where a function is a part of an operation, the noise
//! behind the tolerance moves it by up to u, six deviations of which are 3.5 u: a function of 8 ulp, or 16 u, takes some 4
//! tolerances, and an exponential of 2 |a| ulp some 1.2 |a| more.

use ndarray::ArrayD;

use crate::golden::case::Case;
use crate::golden::format::Format;

/// Functions alone: their budgets are all that they may be off by.
pub(super) const ELEMENTARY: [&str; 6] = ["exp", "sigmoid", "tanh", "ln", "sin", "cos"];

/// Operations with elementary functions, roots or quotients, beside those that also have products.
pub(super) const FUNCTIONS: [&str; 12] = [
    "silu",
    "gelu",
    "gelu_tanh",
    "softmax",
    "group_norm",
    "layer_norm",
    "cross_entropy",
    "time_embedding",
    "positions",
    "oracle",
    "variational_bound",
    "hybrid_loss",
];

/// Tolerances that functions of some 8 ulp cost.
pub(super) const LOOSE_UNITS: f64 = 4.0;

/// Tolerances for each unit of an exponent.
const LOOSE_OF_EXPONENT: f64 = 1.2;

/// The largest error of each number of a result that has the shape of the one input x; None for other operations.
pub(super) fn budget(case: &Case, truth: &ArrayD<f64>, tolerance: &ArrayD<f64>) -> Option<Vec<f64>> {
    let x = case.tensors.get("input.x").filter(|x| x.shape() == truth.shape())?.to_f64();
    let width = x.shape().last().copied().unwrap_or(1).max(1);
    let x: Vec<f64> = x.into_iter().collect();
    let greatest: Vec<f64> = x.chunks(width).map(|row| row.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x))).collect();
    // How far below zero the exponent is.
    let below = |a: f64| if a < 0.0 { -a } else { 0.0 };
    let slope = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
    let of = |i: usize, x: f64, y: f64, tol: f64| {
        let ulps = |count: f64| Some(count * Format::F32.ulp(y) + f32::MIN_POSITIVE as f64);
        let within = |exponent: f64| Some((LOOSE_UNITS + LOOSE_OF_EXPONENT * exponent) * tol);
        match case.op.as_str() {
            "exp" => ulps(3.0 + 2.0 * x.abs()),
            "sigmoid" => ulps(10.0 + 4.0 * below(x)),
            "tanh" => ulps(5.0),
            "sin" | "cos" => ulps(4.0),
            "ln" if (0.5..=2.0).contains(&x) => ulps(4.0f64.max(1.0 / (1 << 21) as f64 / Format::F32.ulp(y))),
            "ln" => ulps(4.0),
            "silu" => within(below(x)),
            "gelu_tanh" => within(below(slope * (x + 0.044715 * x * x * x))),
            "softmax" => within(below(x - greatest[i / width])),
            _ => None,
        }
    };
    x.iter().zip(truth).zip(tolerance).enumerate().map(|(i, ((&x, &y), &tol))| of(i, x, y, tol)).collect()
}
