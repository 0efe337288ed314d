//! The network itself, for a page that runs it: weights rounded to 12 bits, which keeps the page of the model in the tree below
//! 3.2 million bytes. Of that model's output they move the root mean square by at most 0.0013 (8 bits: 0.023), on the pictures and
//! at the times of the page, which says how far it is off.

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
    /// All of them, two numbers of 12 bits in three bytes: multiples of their tensor's scale.
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
    pub size: usize,
    /// What the whole numbers that are carried are multiples of.
    pub scale: f32,
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
        && config.class_embed_type.is_none()
        && config.attn_norm_num_groups.is_none()
        && config.in_channels == config.out_channels
        && !layout.entries.iter().any(|entry| entry.name.contains("samplers.0.norm1"));
    if !usual {
        return refused("other fields in its config.json");
    }
    let (mut entries, mut numbers) = (Vec::new(), Vec::new());
    for entry in &layout.entries {
        let (scale, of_entry) = rounded(&subject.model.weights()[entry.span]);
        entries.push(Tensor { name: entry.name.clone(), start: numbers.len(), size: of_entry.len(), scale });
        numbers.extend(of_entry);
    }
    let bytes = packed(&numbers);
    Ok(PageNetwork { config, entries, weights: Numbers::bytes(&[bytes.len()], bytes) })
}

/// The scale of a tensor, and its numbers as multiples of it, −2047 to 2047: the greatest is 2047 of them, so none is off by more
/// than half of a 2047th of that.
fn rounded(numbers: &[f32]) -> (f32, Vec<i16>) {
    let most = numbers.iter().fold(0.0f32, |most, w| if w.abs() > most { w.abs() } else { most });
    let scale = if most > 0.0 { most / 2047.0 } else { 1.0 };
    (scale, numbers.iter().map(|w| (w / scale).round() as i16).collect())
}

/// Two numbers of 12 bits, two's complement, in three bytes: the low byte of the first, four bits of each, the high byte of the
/// second. A last number alone is followed by a zero.
fn packed(numbers: &[i16]) -> Vec<u8> {
    let pack = |pair: &[i16]| {
        let [a, b] = [pair[0], pair.get(1).copied().unwrap_or(0)].map(|x| x as u16 & 0xfff);
        [a as u8, (a >> 8 | b << 4) as u8, (b >> 4) as u8]
    };
    numbers.chunks(2).flat_map(pack).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_12_bits_are_within_half_a_step_and_come_back_from_their_bytes() {
        let numbers = [0.3, -1.0, 0.0, 0.999, 1e-9, -0.000_25, 0.5];
        let (scale, found) = rounded(&numbers);
        assert_eq!((found[0], found[1], found[2], found[4]), (614, -2047, 0, 0));
        for (&w, &q) in numbers.iter().zip(&found) {
            // Half a step, and a rounding of f32 in the quotient and in the product.
            assert!((w - f32::from(q) * scale).abs() <= 0.5001 * scale, "{w}: {q}");
        }
        let bytes = packed(&found);
        assert_eq!(bytes.len(), 12);
        let back = |i: usize| {
            let [a, b, c] = [0, 1, 2].map(|k| i16::from(bytes[i / 2 * 3 + k]));
            let bits = if i.is_multiple_of(2) { a | (b & 15) << 8 } else { b >> 4 | c << 4 };
            if bits > 2047 { bits - 4096 } else { bits }
        };
        assert_eq!((0..7).map(back).collect::<Vec<_>>(), found);
        assert_eq!(rounded(&[0.0, 0.0]), (1.0, vec![0, 0]));
    }
}
