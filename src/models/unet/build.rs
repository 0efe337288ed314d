//! The layers of a U-Net from its configuration: names and channel counts, level by level, as diffusers has them.

use super::attention_block::AttentionBlock;
use super::embedder::Embedder;
use super::res_block::{ResBlock, ResBlockSettings, Resample};
use super::{Change, Level, UNet, UNetConfig};
use crate::Result;
use crate::layers::Layout;
use crate::layers::conv2d::Conv2d;
use crate::layers::group_norm::GroupNorm;
use crate::layers::im2col::Window;
use crate::layers::parameters::Init;
use crate::models::config_file;

impl UNet {
    /// Builds the network that the configuration describes.
    ///
    /// # Errors
    /// A configuration that is not supported, by field and value.
    pub fn new(config: UNetConfig) -> Result<Self> {
        config.validate("config")?;
        let mut layout = Layout::default();
        let mut build = Builder { layout: &mut layout, config: &config, blocks: 0 };
        let channels = &config.block_out_channels;
        let (first, levels) = (channels[0], channels.len());

        let three = Window::square(3, 1, 1);
        let conv_in = Conv2d::new(build.layout, "conv_in", config.in_channels, first, three);
        let embedder = Embedder::new(build.layout, &config);

        // What is kept on the way down, in channels: the input's, then each block's and each halving's result.
        let mut kept = vec![first];
        let down = (0..levels).map(|level| build.down(level, &mut kept)).collect();
        let middle = config.mid_block_type.is_some().then(|| build.middle());
        let mut h = channels[levels - 1];
        let up = (0..levels).map(|i| build.up(i, &mut h, &mut kept)).collect();

        let conv_norm_out =
            GroupNorm::new(build.layout, "conv_norm_out", first, config.norm_num_groups, config.norm_eps);
        let conv_out = Conv2d::with_init(build.layout, "conv_out", first, config.out_channels, three, Init::Zeros);
        let fields = "block_out_channels, layers_per_block, time_embedding_dim, num_class_embeds";
        config_file::check_parameters(&layout, fields)?;
        Ok(UNet { config, layout, conv_in, embedder, down, middle, up, conv_norm_out, conv_out })
    }
}

/// Adds layers to the layout in diffusers' order, counting the residual blocks.
struct Builder<'a> {
    layout: &'a mut Layout,
    config: &'a UNetConfig,
    blocks: u64,
}

impl Builder<'_> {
    fn res(&mut self, name: &str, c_in: usize, c_out: usize, scale_factor: f64) -> ResBlock {
        let c = self.config;
        let settings = ResBlockSettings {
            time_channels: c.time_channels(),
            groups: c.norm_num_groups,
            norm_eps: c.norm_eps,
            dropout: c.dropout,
            scale_shift: c.resnet_time_scale_shift == "scale_shift",
            scale_factor,
        };
        self.blocks += 1;
        ResBlock::new(self.layout, name, c_in, c_out, self.blocks - 1, &settings)
    }

    fn attention(&mut self, name: &str, channels: usize, groups: Option<usize>, scale_factor: f64) -> AttentionBlock {
        let head_dim = self.config.attention_head_dim.unwrap_or(channels);
        AttentionBlock::new(self.layout, name, channels, head_dim, groups, self.config.norm_eps, scale_factor)
    }

    fn down(&mut self, level: usize, kept: &mut Vec<usize>) -> Level {
        let config = self.config;
        let c_out = config.block_out_channels[level];
        let (name, kind) = (format!("down_blocks.{level}"), config.down_block_types[level].as_str());
        let attends = kind == "AttnDownBlock2D";
        let by_block = kind == "ResnetDownsampleBlock2D" || attends && config.downsample_type == "resnet";
        let blocks = (0..config.layers_per_block)
            .map(|i| {
                let c_in = if i > 0 { c_out } else { config.block_out_channels[level.saturating_sub(1)] };
                kept.push(c_out);
                self.blocks(&name, i, c_in, c_out, attends)
            })
            .collect();
        let resample = (level + 1 < config.block_out_channels.len()).then(|| {
            kept.push(c_out);
            if by_block {
                let block = self.res(&format!("{name}.downsamplers.0"), c_out, c_out, 1.0);
                return Change::Block(Box::new(block.resampling(Resample::Half)));
            }
            // diffusers' padding 0 means one row and column of zeros at the bottom and right, as TensorFlow's SAME.
            let padding = if config.downsample_padding == 0 { [0, 1, 0, 1] } else { [1; 4] };
            let window = Window::new((3, 3), 2, padding).expect("three by three pixels, every second");
            Change::Conv(Conv2d::new(self.layout, &format!("{name}.downsamplers.0.conv"), c_out, c_out, window))
        });
        Level { blocks, resample }
    }

    fn middle(&mut self) -> Level {
        let config = self.config;
        let channels = *config.block_out_channels.last().expect("validated");
        let factor = config.mid_block_scale_factor;
        // Without a count of its own, the middle's attention has no norm where time scales and shifts: diffusers' rule.
        let default = (config.resnet_time_scale_shift == "default").then_some(config.norm_num_groups);
        let groups = config.attn_norm_num_groups.or(default);
        let first = self.res("mid_block.resnets.0", channels, channels, factor);
        let attention =
            config.add_attention.then(|| self.attention("mid_block.attentions.0", channels, groups, factor));
        let second = self.res("mid_block.resnets.1", channels, channels, factor);
        Level { blocks: vec![(first, attention), (second, None)], resample: None }
    }

    fn up(&mut self, i: usize, h: &mut usize, kept: &mut Vec<usize>) -> Level {
        let config = self.config;
        let last = config.block_out_channels.len() - 1;
        let c_out = config.block_out_channels[last - i];
        let (name, kind) = (format!("up_blocks.{i}"), config.up_block_types[i].as_str());
        let attends = kind == "AttnUpBlock2D";
        let by_block = kind == "ResnetUpsampleBlock2D" || attends && config.upsample_type == "resnet";
        let blocks = (0..config.layers_per_block + 1)
            .map(|block| {
                let c_in = *h + kept.pop().expect("one result kept for each block on the way up");
                *h = c_out;
                self.blocks(&name, block, c_in, c_out, attends)
            })
            .collect();
        let resample = (i < last).then(|| {
            if by_block {
                let block = self.res(&format!("{name}.upsamplers.0"), c_out, c_out, 1.0);
                return Change::Block(Box::new(block.resampling(Resample::Double)));
            }
            let (name, window) = (format!("{name}.upsamplers.0.conv"), Window::square(3, 1, 1));
            Change::Conv(Conv2d::new(self.layout, &name, c_out, c_out, window))
        });
        Level { blocks, resample }
    }

    fn blocks(
        &mut self,
        level: &str,
        i: usize,
        c_in: usize,
        c_out: usize,
        attends: bool,
    ) -> (ResBlock, Option<AttentionBlock>) {
        let groups = Some(self.config.norm_num_groups);
        let res = self.res(&format!("{level}.resnets.{i}"), c_in, c_out, 1.0);
        (res, attends.then(|| self.attention(&format!("{level}.attentions.{i}"), c_out, groups, 1.0)))
    }
}
