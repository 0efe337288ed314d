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
//! [`exp`], [`expm1`], [`pow`], [`ln`], [`sin`], [`cos`], [`tanh`] and [`erf`] are those of the `libm` crate, pinned to one version and built without
//! platform intrinsics: plain Rust, after FreeBSD's msun. [`sigmoid`] stands on its `exp`.
//!
//! # Error and fingerprint in f32
//!
//! Over all 2³² inputs; `tests/suite/elementary_sweep.rs` finds these figures again. An ulp is the spacing of f32 at the true
//! value. The fingerprint is the SHA-256 of the outputs as little-endian f32, in the order of the inputs' bits from 0 to
//! 2³² − 1, every NaN written as 0x7fc00000.
//!
//! | function | largest error, ulp | at input | not correctly rounded | SHA-256 of all outputs |
//! |---|---|---|---|---|
//! | exp | 0.88 | 0x41798bc1 (15.59662) | 0.4 % | ce824315d02358bc6917d24f34ec4493c7d35ebb707720b644e7efbb72901c79 |
//! | sigmoid | 1.65 | 0xbf8e18b2 (-1.110129) | 3.4 % | 619fdc96b12e5ed51081560240f92f34364c86c1dedb7a597d6cd9dc54f077e2 |
//! | tanh | 1.33 | 0x3f208aab (0.6271159) | 0.2 % | bad692b00a71fc88dc1ef0aab2a77cd7136204b82260f983f27505378f802b69 |
//! | ln | 0.5 | 0x1f116ab8 (3.079322e-20) | 5 | 552520b41156e6e02501cd90a480a4e0f2bb4437fc890a3ab5279888359968dd |
//! | sin | 0.5 | 0x46199998 (9830.398) | 2 | 6c3de148364dbb15467d3b67e302eee893e5628bbfcc4b0089c08b8f1f4189ef |
//! | cos | 0.5 | 0x59443c0a (3.4521943e15) | 4 | 90c61b4813aa2b9379950b6a1510958e9bebaa71a9e762995b9a6e644d028e64 |
//!
//! The reference is the f64 function. ln, sin and cos are that function, rounded once, so there the inputs at which it
//! comes within 2⁻⁵⁰ of halfway between two f32 (46, 66 and 66 of them) were compared with 100 digits from mpmath 1.3: 5,
//! 2 and 4 results lie on the wrong side, by less than 10⁻⁹ ulp, and all others are correctly rounded.
//!
//! None of them is promised to be monotone in the last place: σ can fall by an ulp from one f32 to the next.

mod exp;
#[cfg(target_arch = "x86_64")]
pub(super) mod exp_avx512;
mod sigmoid;
mod tanh;

pub use exp::{exp_f32, exp_of_nonpositive_f32};
pub use sigmoid::{sigmoid, sigmoid_f32};
pub use tanh::tanh_f32;

/// e^x in f64.
pub fn exp(x: f64) -> f64 {
    libm::exp(x)
}

/// e^x − 1 in f64, to the last digits where x is small.
pub fn expm1(x: f64) -> f64 {
    libm::expm1(x)
}

/// x^y in f64, x ≥ 0.
pub fn pow(x: f64, y: f64) -> f64 {
    libm::pow(x, y)
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

/// The angle in [0, π] whose cosine is x, in f64; NaN outside of [−1, 1].
pub fn acos(x: f64) -> f64 {
    libm::acos(x)
}

/// tanh x in f64.
pub fn tanh(x: f64) -> f64 {
    libm::tanh(x)
}

/// The error function in f64: 2/√π times the integral of e^(−u²) from 0 to x.
pub fn erf(x: f64) -> f64 {
    libm::erf(x)
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
