//! The probability of a pixel's byte under a Gaussian (Ho et al. 2020, Eq. 13).
//!
//! A byte k is x = 2k/255 − 1, and stands for the bin from x − h to x + h with h = 1/255; the first and the last bin are open
//! to the outside. With z₊ = (x + h − μ)/σ and z₋ = (x − h − μ)/σ,
//!
//! ```text
//! P(x) = Φ(z₊) − Φ(z₋),      Φ(z₋) = 0 at x = −1,   Φ(z₊) = 1 at x = 1
//! ```
//!
//! # Gradient
//! With φ = Φ' and s = ln σ², ∂z/∂μ = −1/σ and ∂z/∂s = −z/2, so
//!
//! ```text
//! ∂(−ln P)/∂μ = (φ(z₊) − φ(z₋))/(σ·P)          ∂(−ln P)/∂s = ½·(z₊·φ(z₊) − z₋·φ(z₋))/P
//! ```
//!
//! Where P falls below 1e-12 it counts as that, and neither passes a gradient.
//!
//! # The normal distribution
//! Φ(z) = ½·(1 + erf(z/√2)). OpenAI's programs have tanh(√(2/π)·(z + 0.044715·z³)) in the place of erf, which moves Φ by up to
//! 1.8e-4. A probability is a difference of two Φ and has no more digits than they: in float32, an error of 6e-8.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::numerics::{Native, Real, elementary};

/// Half of a bin.
pub const HALF_BIN: f64 = 1.0 / 255.0;

/// The pixels beyond which a bin is open.
const EDGE: f64 = 0.999;

/// The least probability of a bin.
const LEAST: f64 = 1e-12;

/// How Φ is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cdf {
    /// The normal distribution itself.
    #[default]
    Erf,
    /// The approximation of OpenAI's programs.
    Tanh,
}

impl Cdf {
    /// Φ(z).
    fn below<F: Real>(self, z: F) -> F {
        let odd = match self {
            Cdf::Erf => F::from_f64(elementary::erf(z.to_f64() * std::f64::consts::FRAC_1_SQRT_2)),
            Cdf::Tanh => angle(z).tanh::<Native>(),
        };
        F::from_f64(0.5) * (F::one() + odd)
    }

    /// φ(z), the derivative of Φ as it is computed.
    fn density<F: Real>(self, z: F) -> F {
        let square = z * z;
        match self {
            Cdf::Erf => F::from_f64(1.0 / (2.0 * PI).sqrt()) * (F::from_f64(-0.5) * square).exp::<Native>(),
            Cdf::Tanh => {
                let tanh = angle(z).tanh::<Native>();
                let slope = F::from_f64((2.0 / PI).sqrt()) * (F::one() + F::from_f64(3.0 * 0.044_715) * square);
                F::from_f64(0.5) * (F::one() - tanh * tanh) * slope
            }
        }
    }
}

/// √(2/π)·(z + 0.044715·z³).
fn angle<F: Real>(z: F) -> F {
    F::from_f64((2.0 / PI).sqrt()) * (z + F::from_f64(0.044_715) * z * z * z)
}

/// −ln P of one pixel in nats, with its derivatives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surprise<F> {
    /// −ln P, in [0, 27.7].
    pub nats: F,
    /// ∂(−ln P)/∂μ.
    pub by_mean: F,
    /// ∂(−ln P)/∂s, s = ln σ².
    pub by_log_variance: F,
}

/// −ln P(x) under N(`mean`, e^`log_variance`), and its derivatives.
pub fn surprise<F: Real>(cdf: Cdf, x: F, mean: F, log_variance: F) -> Surprise<F> {
    let inverse = (F::from_f64(-0.5) * log_variance).exp::<Native>(); // 1/σ
    let (centred, half) = (x - mean, F::from_f64(HALF_BIN));
    // Open bins have no end on one side.
    let first = (x >= F::from_f64(-EDGE)).then(|| inverse * (centred - half));
    let last = (x <= F::from_f64(EDGE)).then(|| inverse * (centred + half));
    let probability = last.map_or(F::one(), |z| cdf.below(z)) - first.map_or(F::zero(), |z| cdf.below(z));
    let least = F::from_f64(LEAST);
    // Written so that NaN is no probability and stays.
    if probability < least {
        return Surprise { nats: F::from_f64(-elementary::ln(LEAST)), by_mean: F::zero(), by_log_variance: F::zero() };
    }
    let density = |z: Option<F>| z.map_or(F::zero(), |z| cdf.density(z));
    let moment = |z: Option<F>| z.map_or(F::zero(), |z| z * cdf.density(z));
    Surprise {
        nats: -F::from_f64(elementary::ln(probability.to_f64())),
        by_mean: inverse * (density(last) - density(first)) / probability,
        by_log_variance: F::from_f64(0.5) * (moment(last) - moment(first)) / probability,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_of_all_bytes_add_up_to_one() {
        for cdf in [Cdf::Erf, Cdf::Tanh] {
            for (mean, log_variance) in [(0.1, -2.0), (-0.9, -4.0), (1.3, 0.5), (0.0, -8.0)] {
                let total: f64 = (0..256)
                    .map(|k| surprise(cdf, k as f64 * 2.0 / 255.0 - 1.0, mean, log_variance).nats)
                    .map(|nats| elementary::exp(-nats))
                    .sum();
                // 256 floors of 1e-12.
                assert!((total - 1.0).abs() < 3e-10, "{cdf:?}: {total}");
            }
        }
    }

    #[test]
    fn derivatives_equal_central_differences_inside_and_at_both_ends() {
        let h = 1e-5;
        for cdf in [Cdf::Erf, Cdf::Tanh] {
            for x in [-1.0, -0.2, 11.0 / 255.0, 1.0] {
                for (mean, log_variance) in [(0.15, -1.0), (-0.7, 0.3), (x + 0.01, -9.0)] {
                    let nats = |mean: f64, s: f64| surprise(cdf, x, mean, s).nats;
                    let found = surprise(cdf, x, mean, log_variance);
                    let by_mean = (nats(mean + h, log_variance) - nats(mean - h, log_variance)) / (2.0 * h);
                    let by_s = (nats(mean, log_variance + h) - nats(mean, log_variance - h)) / (2.0 * h);
                    // h² times a third derivative of up to σ⁻³ = 1e6, and rounding of 1e-15/h.
                    assert!((found.by_mean - by_mean).abs() < 1e-4, "{cdf:?} {x} {mean}: {} {by_mean}", found.by_mean);
                    assert!((found.by_log_variance - by_s).abs() < 1e-7, "{cdf:?} {x} {mean}: {found:?} {by_s}");
                }
            }
        }
    }

    #[test]
    fn probability_of_a_bin_far_out_ends_at_the_floor_without_a_gradient() {
        let floor = surprise(Cdf::Erf, 0.0, 0.5, -9.0);
        assert_eq!(floor, Surprise { nats: -elementary::ln(1e-12), by_mean: 0.0, by_log_variance: 0.0 });
        assert!(surprise(Cdf::Erf, 0.0, f64::NAN, -9.0).nats.is_nan());
    }

    #[test]
    fn tanh_is_near_the_normal_distribution() {
        let difference = |z: f64| Cdf::Tanh.below(z) - Cdf::Erf.below(z);
        let largest = (-400..=400).map(|i| difference(i as f64 / 100.0).abs()).fold(0.0, f64::max);
        assert!((1.7e-4..1.9e-4).contains(&largest), "{largest}");
    }
}
