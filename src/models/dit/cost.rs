//! How much work a prediction is: multiply-adds of its products.

use super::Dit;
use crate::layers::parameters::Axes;

impl Dit {
    /// Multiply-adds of the matrix products of one prediction of one image. A training step takes about three times as
    /// many: two products in the backward pass for each of the forward pass.
    pub fn multiply_adds(&self, (height, width): (usize, usize)) -> u64 {
        let tokens = height / self.config.patch_size * (width / self.config.patch_size);
        let of_weights = self.layout.entries.iter().map(|entry| {
            let once_an_image = entry.name.contains(".norm1.") || entry.name.starts_with("proj_out_1");
            match entry.axes {
                Axes::Same(_) => 0,
                _ if once_an_image => entry.span.len,
                _ => entry.span.len * tokens,
            }
        });
        // The scores of all heads, and the sum over values that they weight.
        let of_attentions = self.config.num_layers * 2 * tokens * tokens * self.config.channels_of_token();
        (of_weights.sum::<usize>() + of_attentions) as u64
    }
}

#[cfg(test)]
mod tests {
    use crate::models::{Dit, DitConfig};

    #[test]
    fn multiply_adds_of_a_small_network_are_those_counted_by_hand() {
        let config = DitConfig {
            num_attention_heads: 2,
            attention_head_dim: 6,
            in_channels: 3,
            out_channels: Some(6),
            num_layers: 2,
            sample_size: 8,
            patch_size: 2,
            num_embeds_ada_norm: 5,
            ..Default::default()
        };
        let (tokens, c) = (16, 12);
        let patches = tokens * (2 * 2 * 3) * c;
        let embedder = 256 * c + c * c;
        let modulation = c * 6 * c;
        let attention = 4 * tokens * c * c + 2 * tokens * tokens * c;
        let mlp = tokens * (c * 4 * c + 4 * c * c);
        let last = c * 2 * c + tokens * c * (2 * 2 * 6);
        let expected = patches + 2 * (embedder + modulation + attention + mlp) + last;
        assert_eq!(Dit::new(config).expect("supported").multiply_adds((8, 8)), expected as u64);
    }

    #[test]
    fn multiply_adds_of_xl_2_are_those_of_its_paper() {
        // Peebles & Xie 2023, table 1: 118.6 Gflops of DiT-XL/2 at 32 x 32 latents, where a flop is a multiply-add.
        let config = DitConfig { out_channels: Some(8), num_embeds_ada_norm: 1, ..Default::default() };
        let found = Dit::new(config).expect("supported").multiply_adds((32, 32)) as f64 / 1e9;
        assert!((found - 118.6).abs() < 0.2, "{found}"); // diffusers has 28 embedders where the paper has one: 0.05 more
    }
}
