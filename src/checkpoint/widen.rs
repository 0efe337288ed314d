//! The numbers of a tensor in a file, of whatever precision, as F32.

use safetensors::tensor::{Dtype, TensorView};

/// The tensor's numbers. F16 and BF16 are parts of F32, and so exact; F64 is rounded once.
///
/// # Errors
/// The problem, in words: another type, or a number that is not finite as F32.
pub(super) fn to_f32(view: &TensorView) -> Result<Vec<f32>, String> {
    let bytes = view.data();
    let numbers: Vec<f32> = match view.dtype() {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&b| from_f16(u16::from_le_bytes(b))).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|&b| from_bf16(u16::from_le_bytes(b))).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        other => return Err(format!("expected F32, F16, BF16 or F64, found {other:?}")),
    };
    match numbers.iter().position(|x| !x.is_finite()) {
        None => Ok(numbers),
        Some(at) if view.dtype() == Dtype::F64 => {
            Err(format!("holds {:e}, which is no finite F32", f64::from_le_bytes(bytes.as_chunks().0[at])))
        }
        Some(at) => Err(format!("holds {}", numbers[at])),
    }
}

/// IEEE 754 binary16: a sign, 5 bits of exponent with bias 15, 10 of fraction.
fn from_f16(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(bits >> 15) << 31, u32::from(bits >> 10 & 31), u32::from(bits & 1023));
    let magnitude = match exponent {
        0 => (fraction as f32 / (1 << 24) as f32).to_bits(), // subnormal: fraction · 2⁻²⁴
        31 => 255 << 23 | fraction << 13,                    // infinite or not a number
        _ => (exponent + 127 - 15) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// The upper half of an F32.
fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2ⁿ of a normal number.
    fn power_of_two(n: i32) -> f64 {
        f64::from_bits(((n + 1023) as u64) << 52)
    }

    #[test]
    fn every_f16_has_the_value_of_its_definition() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
            let magnitude = match exponent {
                0 => fraction * power_of_two(-14),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1.0 + fraction) * power_of_two(exponent - 15),
            };
            let (expected, found) = (if bits >> 15 == 1 { -magnitude } else { magnitude }, f64::from(from_f16(bits)));
            let same = if expected.is_nan() { found.is_nan() } else { expected.to_bits() == found.to_bits() };
            assert!(same, "{bits:#06x}: expected {expected}, found {found}");
        }
        // 1/3 as NumPy has it in both types, and the greatest and the least numbers.
        assert_eq!((from_f16(0x3555), from_bf16(0x3eab)), (0.333_251_95, 0.333_984_38));
        assert_eq!((from_f16(0x7bff), from_f16(0x8001)), (65504.0, -5.960_464_5e-8));
    }

    #[test]
    fn numbers_of_f64_are_rounded_once_and_refused_beyond_f32() {
        let read = |x: f64| to_f32(&TensorView::new(Dtype::F64, vec![1], &x.to_le_bytes()).unwrap());
        // Half a unit of F32 above 1, and a little more that only F64 holds: down, and up.
        assert_eq!(read(1.0 + power_of_two(-24)), Ok(vec![1.0]));
        assert_eq!(read(1.0 + power_of_two(-24) + power_of_two(-50)), Ok(vec![1.0 + f32::EPSILON]));
        assert!(read(1e39).unwrap_err().contains("holds 1e39"));
        assert!(read(f64::NAN).unwrap_err().contains("holds NaN"));
    }
}
