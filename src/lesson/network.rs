//! The network itself, for a page that runs it: weights rounded to float16.

use serde::Serialize;

use super::numbers::Numbers;
use super::subject::Subject;
use crate::models::{NetworkConfig, UNetConfig};
use crate::{Error, Result};

/// The most parameters that a page carries.
const MOST_PARAMETERS: usize = 1_500_000;

/// A network that a page can run.
#[derive(Clone, Debug, Serialize)]
pub struct PageNetwork {
    /// Its fields.
    pub config: UNetConfig,
    /// Its tensors.
    pub entries: Vec<Tensor>,
    /// All of them as float16, little-endian, in bytes.
    pub weights: Numbers,
}

/// Where a tensor lies.
#[derive(Clone, Debug, Serialize)]
pub struct Tensor {
    /// Its name in diffusers' files.
    pub name: String,
    /// Its first number.
    pub start: usize,
    /// How many numbers it has, in the order of this program's memory.
    pub shape: [usize; 1],
}

/// The network of the subject.
///
/// # Errors
/// A network that the page cannot run: a transformer, a U-Net with other blocks than most, or a large one.
pub fn network(subject: &Subject) -> Result<PageNetwork> {
    let refused = |found: &str| {
        let expected = "a U-Net of at most 1.5 million parameters, without fixed scales and with padding all around";
        Err(Error::value("--with-network", expected, found))
    };
    let NetworkConfig::UNet(config) = subject.model.network().config() else { return refused("a transformer") };
    let layout = subject.model.network().layout();
    if layout.count() > MOST_PARAMETERS {
        return refused(&format!("{} parameters", layout.count()));
    }
    let usual = config.downsample_padding == 1
        && config.mid_block_scale_factor == 1.0
        && config.mid_block_type.is_some()
        && !config.center_input_sample
        && config.attn_norm_num_groups.is_none()
        && config.in_channels == config.out_channels;
    if !usual {
        return refused("other fields in its config.json");
    }
    let bytes = subject.model.weights().0.iter().flat_map(|&w| to_half(w).to_le_bytes()).collect::<Vec<u8>>();
    let of = |entry: &crate::layers::parameters::Entry| Tensor {
        name: entry.name.clone(),
        start: entry.span.start,
        shape: [entry.span.len],
    };
    let count = bytes.len();
    Ok(PageNetwork {
        config,
        entries: layout.entries.iter().map(of).collect(),
        weights: Numbers::bytes(&[count], bytes),
    })
}

/// The nearest float16, ties to even; what is beyond its range becomes the largest.
fn to_half(x: f32) -> u16 {
    let (sign, size) = (if x.is_sign_negative() { 0x8000 } else { 0 }, x.abs());
    let magnitude = if size >= 65504.0 {
        0x7bff
    } else if size < 6.103_515_6e-5 {
        // Subnormal: multiples of 2⁻²⁴, which adding 0.5 rounds to.
        ((size + 0.5).to_bits() - 0.5f32.to_bits()) as u16
    } else {
        let bits = size.to_bits();
        let odd = bits >> 13 & 1;
        ((bits - (112 << 23) + 0xfff + odd) >> 13) as u16
    };
    sign | magnitude
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_the_nearest_float16_with_ties_to_even() {
        let known = [
            (0.0, 0x0000),
            (-0.0, 0x8000),
            (1.0, 0x3c00),
            (-2.5, 0xc100),
            (65504.0, 0x7bff),
            (1e6, 0x7bff),
            (0.1, 0x2e66),
            (1.000_488_3, 0x3c00),    // halfway from 1 to the next: to even
            (1.001_464_8, 0x3c02),    // halfway from there: to even, upwards
            (5.960_464_5e-8, 1),      // the least above 0
            (6.103_515_6e-5, 0x0400), // the least that is not subnormal
            (3.051_757_8e-5, 0x0200),
        ];
        for (x, expected) in known {
            assert_eq!(to_half(x), expected, "{x}: {:#x}", to_half(x));
        }
    }
}
