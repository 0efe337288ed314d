//! Elementary functions of our own: the same bits on every machine (contract N1, rule 6).
//!
//! # f32
//!
//! [`exp_f32`], [`sigmoid_f32`] and [`tanh_f32`] run hundreds of millions of times a training step. They are polynomials
//! made of + − × ÷ and fused multiply-add, integer operations on the bits, comparisons and selections: nothing branches
//! on the data and nothing looks up a table, so a loop over a slice becomes SIMD. [`ln_f32`], [`sin_f32`] and
//! [`cos_f32`] are the f64 functions, rounded once to f32.
//!
//! # f64
//!
//! [`exp`], [`ln`], [`sin`], [`cos`] and [`tanh`] are those of the `libm` crate, pinned to one version and built without
//! platform intrinsics: plain Rust, after FreeBSD's msun. [`sigmoid`] stands on its `exp`.

mod exp;
mod sigmoid;
mod tanh;

pub use exp::exp_f32;
pub use sigmoid::{sigmoid, sigmoid_f32};
pub use tanh::tanh_f32;

/// e^x in f64.
pub fn exp(x: f64) -> f64 {
    libm::exp(x)
}

/// ln x in f64: −∞ at ±0, NaN below.
pub fn ln(x: f64) -> f64 {
    libm::log(x)
}

/// sin x in f64, x in radians.
pub fn sin(x: f64) -> f64 {
    libm::sin(x)
}

/// cos x in f64, x in radians.
pub fn cos(x: f64) -> f64 {
    libm::cos(x)
}

/// tanh x in f64.
pub fn tanh(x: f64) -> f64 {
    libm::tanh(x)
}

/// ln x in f32: −∞ at ±0, NaN below.
pub fn ln_f32(x: f32) -> f32 {
    ln(x as f64) as f32
}

/// sin x in f32, x in radians. Huge x are reduced by as many digits of 2/π as it takes (Payne and Hanek 1983, in `libm`).
pub fn sin_f32(x: f32) -> f32 {
    sin(x as f64) as f32
}

/// cos x in f32, x in radians, reduced as in [`sin_f32`].
pub fn cos_f32(x: f32) -> f32 {
    cos(x as f64) as f32
}

#[cfg(test)]
mod tests;
