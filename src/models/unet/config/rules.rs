//! Which values of the fields this crate can compute.

use std::fmt::Debug;

use super::UNetConfig;
use crate::Result;
use crate::models::config_file;

/// What one field has to be.
struct Rule {
    field: &'static str,
    expected: &'static str,
    holds: fn(&UNetConfig) -> bool,
    found: fn(&UNetConfig) -> &dyn Debug,
}

/// A [`Rule`] for each line: the field, what is expected of it, and whether it is so.
macro_rules! rules {
    ($($field:ident: $expected:literal, $holds:expr;)*) => {
        &[$(Rule { field: stringify!($field), expected: $expected, holds: $holds, found: |c| &c.$field }),*]
    };
}

/// All of them. The first that does not hold is told, so a rule may rely on those above it.
#[rustfmt::skip] // a table
const RULES: &[Rule] = rules! {
    in_channels: "a number of channels", |c| is_count(c.in_channels);
    out_channels: "a number of channels", |c| is_count(c.out_channels);

    time_embedding_type: "\"positional\"", |c| c.time_embedding_type == "positional";
    time_embedding_dim: "null or a length", |c| c.time_embedding_dim.is_none_or(is_count);

    block_out_channels: "1 to 16 resolutions", |c| (1..=16).contains(&c.block_out_channels.len());
    block_out_channels: "numbers of channels", |c| c.block_out_channels.iter().all(|&channels| is_count(channels));
    down_block_types: "DownBlock2D, AttnDownBlock2D or ResnetDownsampleBlock2D", |c| {
        all_of(&c.down_block_types, ["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"])
    };
    up_block_types: "UpBlock2D, AttnUpBlock2D or ResnetUpsampleBlock2D", |c| {
        all_of(&c.up_block_types, ["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"])
    };
    down_block_types: "one for each of block_out_channels", |c| c.down_block_types.len() == c.block_out_channels.len();
    up_block_types: "one for each of block_out_channels", |c| c.up_block_types.len() == c.block_out_channels.len();
    mid_block_type: "\"UNetMidBlock2D\" or null", |c| c.mid_block_type.as_deref().is_none_or(|mid| mid == "UNetMidBlock2D");
    layers_per_block: "1 to 64", |c| (1..=64).contains(&c.layers_per_block);
    mid_block_scale_factor: "a positive number", |c| is_positive(c.mid_block_scale_factor);
    downsample_padding: "0 or 1, with which sizes halve", |c| c.downsample_padding <= 1;
    downsample_type: "\"conv\" or \"resnet\"", |c| ["conv", "resnet"].contains(&c.downsample_type.as_str());
    upsample_type: "\"conv\" or \"resnet\"", |c| ["conv", "resnet"].contains(&c.upsample_type.as_str());
    dropout: "a probability in 0..1", |c| (0.0..1.0).contains(&c.dropout);
    act_fn: "\"silu\"", |c| ["silu", "swish"].contains(&c.act_fn.as_str());

    attention_head_dim: "null or 1 to the fewest channels", |c| {
        c.attention_head_dim.is_none_or(|d| d > 0 && c.block_out_channels.iter().all(|&channels| d <= channels))
    };

    norm_num_groups: "a divisor of all block_out_channels", |c| divides_all(c.norm_num_groups, c);
    attn_norm_num_groups: "null or a divisor of all block_out_channels", |c| {
        c.attn_norm_num_groups.is_none_or(|groups| divides_all(groups, c))
    };
    norm_eps: "a positive number", |c| is_positive(c.norm_eps);

    resnet_time_scale_shift: "\"default\" or \"scale_shift\"", |c| {
        ["default", "scale_shift"].contains(&c.resnet_time_scale_shift.as_str())
    };
    class_embed_type: "null or \"timestep\"", |c| c.class_embed_type.as_deref().is_none_or(|kind| kind == "timestep");
    num_class_embeds: "null or a number of classes", |c| c.num_class_embeds.is_none_or(is_count);
    num_class_embeds: "the number of labels that are told, where class_embed_type is \"timestep\"", |c| {
        c.class_embed_type.is_none() || c.num_class_embeds.is_some()
    };
    freq_shift: "less than half of the first block's channels", |c| {
        c.freq_shift.is_finite() && c.freq_shift < (c.block_out_channels[0] / 2) as f64
    };
};

/// A length that memory may have room for.
fn is_count(n: usize) -> bool {
    (1..=1 << 16).contains(&n)
}

fn is_positive(x: f64) -> bool {
    x.is_finite() && x > 0.0
}

fn all_of(names: &[String], known: [&str; 3]) -> bool {
    names.iter().all(|name| known.contains(&name.as_str()))
}

fn divides_all(groups: usize, config: &UNetConfig) -> bool {
    groups > 0 && config.block_out_channels.iter().all(|channels| channels.is_multiple_of(groups))
}

impl UNetConfig {
    /// Refuses, with the field's name and value, what this crate cannot compute.
    ///
    /// # Errors
    /// The first field that does not hold.
    pub fn validate(&self, place: &str) -> Result<()> {
        for rule in RULES {
            config_file::check(place, (rule.holds)(self), rule.field, rule.expected, (rule.found)(self))?;
        }
        match self.image_size() {
            Some(size) => self.check_image(size, &format!("{place}: sample_size")),
            None => Ok(()),
        }
    }
}
