//! The formats in which a backend may hold its numbers: float32, and the two of 16 bits.
//!
//! A kit of a half format has inputs and weights that the format holds exactly, the truth of those, and tolerances for a
//! backend that rounds to the format after every operation, but adds sums up in float32, as tensor cores and all frameworks do.
//! Who rounds more seldom is nearer.

use serde::{Deserialize, Serialize};

/// A binary floating-point format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// IEEE 754 binary32: 24 significant bits.
    #[default]
    F32,
    /// IEEE 754 binary16: 11 significant bits, from 2⁻¹⁴ to 65504, with subnormals.
    F16,
    /// bfloat16: 8 significant bits, the range of float32.
    Bf16,
}

impl Format {
    /// `f32`, `f16` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::F16 => "f16",
            Format::Bf16 => "bf16",
        }
    }

    /// Bits behind the point.
    fn bits(self) -> i64 {
        match self {
            Format::F32 => 23,
            Format::F16 => 10,
            Format::Bf16 => 7,
        }
    }

    /// The exponent of the smallest normal number.
    fn least_exponent(self) -> i64 {
        if self == Format::F16 { -14 } else { -126 }
    }

    /// The largest relative error of one rounding.
    pub fn unit(self) -> f64 {
        power_of_2(-self.bits() - 1)
    }

    /// The spacing of numbers at x: of those of the power of two below |x|, and at least that of subnormal numbers.
    pub fn ulp(self, x: f64) -> f64 {
        let exponent = (((x.abs().to_bits() >> 52) as i64) - 1023).max(self.least_exponent());
        power_of_2(exponent - self.bits())
    }

    /// The smallest normal number: what is below may be flushed to zero.
    pub fn smallest(self) -> f64 {
        power_of_2(self.least_exponent())
    }

    /// The largest number: what is above may be infinite.
    pub fn largest(self) -> f64 {
        match self {
            Format::F16 => 65504.0,
            Format::F32 | Format::Bf16 => f32::MAX as f64, // bfloat16's is a little smaller, and rounds to it
        }
    }

    /// The nearest number of the format, ties to even.
    pub fn nearest(self, x: f32) -> f32 {
        match self {
            Format::F32 => x,
            // Below 2⁻¹⁴ float16 has a fixed spacing of 2⁻²⁴; adding and taking away 1.5 · 2⁻¹ rounds to it in float32.
            Format::F16 if (x.abs() as f64) < self.smallest() => (x + 0.75) - 0.75,
            _ => {
                let dropped = 23 - self.bits() as u32;
                let (half, odd) = (1u32 << (dropped - 1), x.to_bits() >> dropped & 1);
                f32::from_bits((x.to_bits() + half - 1 + odd) & (u32::MAX << dropped))
            }
        }
    }
}

fn power_of_2(exponent: i64) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_numbers_are_those_of_ieee_754() {
        for (format, x, nearest) in [
            (Format::Bf16, 1.0 + 1.0 / 256.0, 1.0),              // a tie, to even
            (Format::Bf16, 1.0 + 3.0 / 256.0, 1.0 + 1.0 / 64.0), // a tie, to even
            (Format::Bf16, -3.3, -3.296_875),
            (Format::F16, 0.1, 0.099_975_586),
            (Format::F16, 1e-7, 1.0 / (1 << 23) as f32), // two of the smallest subnormals
            (Format::F16, 1e-8, 0.0),
            (Format::F32, 0.1, 0.1),
        ] {
            assert_eq!(format.nearest(x), nearest, "{format:?} {x}");
        }
    }

    #[test]
    fn spacings_and_units_are_those_of_the_bits() {
        assert_eq!((Format::Bf16.ulp(1.0), Format::Bf16.unit()), (1.0 / 128.0, 1.0 / 256.0));
        assert_eq!((Format::F16.ulp(-3.0), Format::F16.ulp(0.0)), (2.0 / 1024.0, 1.0 / (1 << 24) as f64));
        assert_eq!((Format::F32.ulp(1.0), Format::F32.smallest()), (f32::EPSILON as f64, f32::MIN_POSITIVE as f64));
    }
}
