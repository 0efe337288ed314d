//! Elementary functions of our own: the same bits on every machine (contract N1, rule 6).
//!
//! The f64 functions are those of the `libm` crate, pinned and built without platform intrinsics.

/// e^x in f64.
pub fn exp(x: f64) -> f64 {
    libm::exp(x)
}
/// ln x in f64.
pub fn ln(x: f64) -> f64 {
    libm::log(x)
}
/// sin x in f64.
pub fn sin(x: f64) -> f64 {
    libm::sin(x)
}
/// cos x in f64.
pub fn cos(x: f64) -> f64 {
    libm::cos(x)
}
/// tanh x in f64.
pub fn tanh(x: f64) -> f64 {
    libm::tanh(x)
}
/// 1 / (1 + e^−x) in f64.
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}
/// e^x in f32.
#[inline(always)]
pub fn exp_f32(x: f32) -> f32 {
    exp(x as f64) as f32
}
/// 1 / (1 + e^−x) in f32.
#[inline(always)]
pub fn sigmoid_f32(x: f32) -> f32 {
    sigmoid(x as f64) as f32
}
/// tanh x in f32.
#[inline(always)]
pub fn tanh_f32(x: f32) -> f32 {
    tanh(x as f64) as f32
}
