//! The layers of a transformer from its configuration, by diffusers' names, and their first values.

use super::block::Block;
use super::embedder::{Embedder, SINUSOIDS};
use super::{Dit, DitConfig};
use crate::Result;
use crate::layers::Layout;
use crate::layers::conv2d::Conv2d;
use crate::layers::im2col::Window;
use crate::layers::linear::Linear;
use crate::layers::parameters::{Axes, Entry, Init};
use crate::models::config_file;

impl Dit {
    /// Builds the network that the configuration describes.
    ///
    /// # Errors
    /// A configuration that is not supported, by field and value.
    pub fn new(config: DitConfig) -> Result<Self> {
        config.validate("config")?;
        let mut layout = Layout::default();
        let (c, patch) = (config.channels_of_token(), config.patch_size);
        let patches = Window::square(patch, patch, 0);
        let patch_proj = Conv2d::new(&mut layout, "pos_embed.proj", config.in_channels, c, patches);
        let mut block = |i: usize| {
            let name = format!("transformer_blocks.{i}");
            let embedder = Embedder::new(&mut layout, &format!("{name}.norm1.emb"), SINUSOIDS.dim, c, config.labels());
            (embedder, Block::new(&mut layout, name, i as u64, &config))
        };
        let blocks = (0..config.num_layers).map(&mut block).collect();
        let out_modulation = Linear::new(&mut layout, "proj_out_1", c, 2 * c);
        let out = Linear::new(&mut layout, "proj_out_2", c, patch * patch * config.channels_out());
        config_file::check_parameters(&layout, "num_attention_heads, attention_head_dim, num_layers, patch_size")?;
        layout.entries.iter_mut().for_each(|entry| entry.init = first_values(entry));
        Ok(Dit { config, layout, patch_proj, blocks, out_modulation, out })
    }
}

/// Peebles & Xie 2023, section 3.2 and their released code: modulations and the last layer are zero, so every block begins as
/// the identity; other matrices are uniform with Glorot & Bengio's bound, and what embeds time and class is near zero.
fn first_values(entry: &Entry) -> Init {
    let name = entry.name.as_str();
    if name.contains("norm1.linear") || name.starts_with("proj_out") {
        return Init::Zeros;
    }
    match entry.axes {
        Axes::Linear { .. } if name.contains("timestep_embedder") => Init::NormalOf { deviation: 0.02 },
        Axes::Same(_) if name.ends_with("embedding_table.weight") => Init::NormalOf { deviation: 0.02 },
        Axes::Linear { inputs, outputs } => glorot(inputs, outputs),
        Axes::Conv { kernel: (kh, kw), c_in, c_out } => glorot(kh * kw * c_in, c_out),
        Axes::Same(_) if name.ends_with("norm3.weight") => Init::Ones,
        Axes::Same(_) => Init::Zeros,
    }
}

/// The variance 2 / (inputs + outputs), as a uniform distribution.
fn glorot(inputs: usize, outputs: usize) -> Init {
    Init::Uniform((6.0 / (inputs + outputs) as f64).sqrt())
}
