//! Many numbers in one string: how the record and the page carry them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Crc;
use ndarray::ArrayView4;
use serde::Serialize;

use crate::numerics::Real;

/// Numbers of one shape. A page decodes them to the same bits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Numbers {
    /// What they are: `f32`, `f64` or `u8`.
    pub kind: &'static str,
    /// Their shape, the last axis running fastest.
    pub shape: Vec<usize>,
    /// CRC-32 of their bytes: a page names the numbers that a damaged byte is in.
    pub crc32: u32,
    /// Base64 of their bytes, little-endian.
    pub base64: String,
}

impl Numbers {
    /// Numbers in f32.
    pub fn f32(shape: &[usize], numbers: &[f32]) -> Self {
        Numbers::of("f32", shape, numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// Numbers in f64.
    pub fn f64(numbers: &[f64]) -> Self {
        Numbers::of("f64", &[numbers.len()], numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// Bytes.
    pub fn bytes(shape: &[usize], bytes: Vec<u8>) -> Self {
        Numbers::of("u8", shape, bytes)
    }

    /// The one image of a batch, shape (h, w, c).
    pub fn image(image: ArrayView4<f32>) -> Self {
        let (_, h, w, c) = image.dim();
        let numbers: Vec<f32> = image.iter().copied().collect();
        Numbers::f32(&[h, w, c], &numbers)
    }

    /// Images as bytes, as pictures are shown.
    pub fn picture<F: Real>(image: ArrayView4<F>) -> Self {
        let (n, h, w, c) = image.dim();
        let bytes = image.iter().map(|&x| crate::report::pixels::level(x)).collect();
        Numbers::bytes(&[n, h, w, c], bytes)
    }

    fn of(kind: &'static str, shape: &[usize], bytes: Vec<u8>) -> Self {
        let mut crc = Crc::new();
        crc.update(&bytes);
        Numbers { kind, shape: shape.to_vec(), crc32: crc.sum(), base64: BASE64_STANDARD.encode(&bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_their_bytes_in_base64_with_the_usual_checksum() {
        // The check value of CRC-32, and the base64 of RFC 4648.
        let digits = Numbers::bytes(&[9], b"123456789".to_vec());
        assert_eq!((digits.crc32, digits.base64.as_str()), (0xcbf4_3926, "MTIzNDU2Nzg5"));
        assert_eq!(Numbers::f32(&[1], &[1.0]).base64, "AACAPw==");
    }
}
