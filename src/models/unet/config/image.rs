//! The images that a network takes: sizes that halve as often as it has resolutions, and that memory has room for.

use super::{SampleSize, UNetConfig};
use crate::models::config_file::MAX_ACTIVATION;
use crate::{Error, Result};

impl UNetConfig {
    /// Height and width, where the configuration says them.
    pub fn image_size(&self) -> Option<(usize, usize)> {
        self.sample_size.map(|size| match size {
            SampleSize::Square(side) => (side, side),
            SampleSize::Rectangle([height, width]) => (height, width),
        })
    }

    /// Refuses images that do not halve as often as there are resolutions, or that would take more memory than
    /// [`MAX_ACTIVATION`] between two layers.
    ///
    /// # Errors
    /// If height or width is 0 or no multiple of 2 to the number of downsamplings, or the images are too large.
    pub fn check_image(&self, (height, width): (usize, usize), field: &str) -> Result<()> {
        let multiple = 1 << (self.block_out_channels.len() - 1);
        let fits = |side: usize| side > 0 && side <= 1 << 14 && side.is_multiple_of(multiple);
        if !fits(height) || !fits(width) {
            let expected = format!("multiples of {multiple}, at most 16384");
            return Err(Error::value(field, expected, format!("{height} x {width}")));
        }
        let numbers = self.largest_activation((height, width));
        if numbers > MAX_ACTIVATION {
            let expected = format!("images with at most {MAX_ACTIVATION} numbers between two layers");
            return Err(Error::value(field, expected, format!("{height} x {width}, with {numbers}")));
        }
        Ok(())
    }

    /// The numbers of one image where they are most: the channels of all pixels, or the scores of an attention.
    fn largest_activation(&self, (height, width): (usize, usize)) -> usize {
        let levels = self.block_out_channels.len();
        let outside = self.in_channels.max(self.out_channels) * height * width;
        let at = |level: usize| {
            let (channels, pixels) = (self.block_out_channels[level], (height >> level) * (width >> level));
            let attends = self.down_block_types[level] == "AttnDownBlock2D"
                || self.up_block_types[levels - 1 - level] == "AttnUpBlock2D"
                || (level + 1 == levels && self.add_attention && self.mid_block_type.is_some());
            let heads = channels / self.attention_head_dim.unwrap_or(channels);
            let scores = if attends { pixels.saturating_mul(pixels).saturating_mul(heads) } else { 0 };
            (channels * pixels).max(scores)
        };
        (0..levels).map(at).fold(outside, usize::max)
    }
}
