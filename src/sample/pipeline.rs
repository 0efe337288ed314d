//! What a trained model is: a network, its weights, its noise, and how it is sampled from.

use super::{ReverseProcess, Sampler, Spacing};
use crate::layers::ParameterVector;
use crate::models::UNet;
use crate::{Error, Result};

/// A network, its weights, and how to sample from it.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The network.
    pub unet: UNet,
    /// Its weights.
    pub weights: ParameterVector<f32>,
    /// The noise, what is predicted, and the sampler the model was published with.
    pub scheduler: Scheduler,
    /// The label that stands for "no class", where the network was trained with one.
    pub null_class: Option<usize>,
}

/// What diffusers calls a scheduler: the noise a model was trained with, and the sampler it was published with.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduler {
    /// The noise schedule, the meaning of the model's output, and the range to which x̂₀ is clipped.
    pub reverse: ReverseProcess,
    /// How fewer than T sampling steps are spread.
    pub spacing: Spacing,
    /// By how many steps the leading spacing is shifted towards T.
    pub steps_offset: usize,
    /// The rule of a reverse step.
    pub sampler: Sampler,
}

impl Pipeline {
    /// Height, width and channels of its pictures.
    ///
    /// # Errors
    /// A configuration without `sample_size`, or a network whose output is no image of its input's shape.
    pub fn image_shape(&self) -> Result<(usize, usize, usize)> {
        let (height, width) = self.unet.config.image_size().ok_or_else(|| {
            Error::value("unet/config.json: sample_size", "the height and width of the pictures", "null")
        })?;
        let (channels, out) = (self.unet.config.in_channels, self.unet.config.out_channels);
        if channels != out {
            let expected = format!("{channels}, as many as in_channels");
            return Err(Error::value("unet/config.json: out_channels", expected, out));
        }
        Ok((height, width, channels))
    }

    /// The classes that can be asked for: all but the one that stands for none.
    pub fn classes(&self) -> Option<usize> {
        self.unet.config.num_class_embeds.map(|classes| classes - usize::from(self.null_class.is_some()))
    }
}
