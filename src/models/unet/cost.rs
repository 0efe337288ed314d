//! How much work a prediction is: multiply-adds of its products.

use super::UNet;
use crate::layers::parameters::Axes;

impl UNet {
    /// Multiply-adds of the matrix products and convolutions of one prediction of one image. A training step takes three
    /// times as many: two products in the backward pass for each of the forward pass.
    pub fn multiply_adds(&self, (height, width): (usize, usize)) -> u64 {
        let levels = self.config.block_out_channels.len();
        let pixels_at = |level: usize| (height >> level) * (width >> level);
        let mut total = 0;
        for entry in &self.layout.entries {
            let parts: Vec<&str> = entry.name.split('.').collect();
            let number = parts.get(1).and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
            let level = match (parts[0], parts.get(2).copied()) {
                ("down_blocks", Some("downsamplers")) => number + 1,
                ("down_blocks", _) => number,
                ("mid_block", _) => levels - 1,
                ("up_blocks", Some("upsamplers")) => levels - 2 - number,
                ("up_blocks", _) => levels - 1 - number,
                _ => 0,
            };
            let of_time = entry.name.contains("time_emb") || parts[0] == "class_embedding";
            total += match &entry.axes {
                Axes::Conv { .. } => entry.span.len * pixels_at(level),
                Axes::Linear { .. } if of_time => entry.span.len,
                Axes::Linear { outputs, .. } => {
                    let pixels = pixels_at(level);
                    // Each head's scores and its sum over values, counted once an attention, with its queries.
                    let attends = if entry.name.ends_with("to_q.weight") { 2 * pixels * pixels * outputs } else { 0 };
                    entry.span.len * pixels + attends
                }
                Axes::Same(_) => 0,
            };
        }
        total as u64
    }
}

#[cfg(test)]
mod tests {
    use crate::models::Network;
    use crate::train::Preset;

    #[test]
    fn multiply_adds_of_the_presets_are_those_counted_by_others() {
        // Counted by hooks on the modules of the same networks in PyTorch.
        let gflop = |preset: Preset, side: usize, images: f64| {
            let network = Network::new(preset.config().model).expect("supported");
            2.0 * images * network.multiply_adds((side, side)) as f64 / 1e9
        };
        assert!((gflop(Preset::Mnist, 28, 64.0) - 24.325).abs() < 0.001);
        assert!((gflop(Preset::Cifar10, 32, 4.0) - 49.775).abs() < 0.001);
    }
}
