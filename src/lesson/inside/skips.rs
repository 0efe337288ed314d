//! A U-Net without its skips.

use ndarray::Array4;
use serde::Serialize;

use crate::Result;
use crate::denoise::{Denoiser, NetworkDenoiser};
use crate::layers::parameters::Axes;
use crate::layers::{ParameterVector, flat};
use crate::lesson::numbers::Numbers;
use crate::lesson::subject::Subject;
use crate::models::Network;
use crate::numerics::sum::sum_of_squares;

/// The picture that is made out, with the skips and without.
#[derive(Clone, Debug, Serialize)]
pub struct Skips {
    /// The time.
    pub t: usize,
    /// x̂₀ as bytes: with the skips, without.
    pub pictures: Numbers,
    /// The mean squared error of what the network says, with the skips.
    pub mse: f64,
    /// Without.
    pub mse_without: f64,
}

/// x̂₀ with the skips, and with the numbers that read them set to zero.
///
/// # Errors
/// Whatever the network refuses.
pub(super) fn skips(subject: &Subject, t: usize) -> Result<Skips> {
    let model = subject.model;
    let (x_t, level, labels) =
        (super::noised(subject, t), subject.schedule().level(t), subject.label(0).map(|label| [label]));
    let labels = labels.as_ref().map(|labels| &labels[..]);
    let (eps, x_0) = (subject.noise("eps", 0), subject.picture(0));
    let cut = without_skips(model.network(), model.weights());
    let see = |weights: &ParameterVector<f32>| -> Result<(Array4<f32>, f64)> {
        let denoiser = NetworkDenoiser { network: model.network(), weights, prediction: model.scheduler().prediction };
        let output = denoiser.predict(&x_t, &[level], labels)?;
        let target = output.prediction.target(level.marginal(), flat(&x_0), flat(&eps));
        let errors: Vec<f64> = flat(&output.value).iter().zip(&target).map(|(a, b)| f64::from(a - b)).collect();
        let mse = sum_of_squares(&errors) / errors.len() as f64;
        Ok((subject.estimate(&x_t, level, &output).x_0_hat, mse))
    };
    let ((with, mse), (without, mse_without)) = (see(model.weights())?, see(&cut)?);
    let both = ndarray::concatenate(ndarray::Axis(0), &[with.view(), without.view()]).expect("two of one shape");
    Ok(Skips { t, pictures: Numbers::picture(both.view()), mse, mse_without })
}

/// The weights with zeros for all that reads a skip: on the way up, the input channels that are taken from the way down.
fn without_skips(network: &Network, weights: &ParameterVector<f32>) -> ParameterVector<f32> {
    let mut cut = weights.clone();
    let mut before = None; // channels that come from below
    for entry in &network.layout().entries {
        let Axes::Conv { c_in, c_out, .. } = entry.axes else { continue };
        if entry.name == "mid_block.resnets.1.conv2.weight" || entry.name == "mid_block.resnets.0.conv2.weight" {
            before = Some(c_out);
        }
        let parts: Vec<&str> = entry.name.split('.').collect();
        if parts[0] != "up_blocks" {
            continue;
        }
        if let (["conv1" | "conv_shortcut", "weight"], Some(own)) = (&parts[parts.len() - 2..], before)
            && c_in > own
        {
            for (row, numbers) in cut[entry.span].chunks_mut(c_out).enumerate() {
                if row % c_in >= own {
                    numbers.fill(0.0);
                }
            }
        }
        // What a block makes goes on to the next; its shortcut still reads what came to it.
        if parts[parts.len() - 2] == "conv2" && !has_shortcut(network, &entry.name)
            || parts[parts.len() - 2] == "conv_shortcut"
        {
            before = Some(c_out);
        }
    }
    cut
}

/// Whether the block of this second convolution has a shortcut with weights.
fn has_shortcut(network: &Network, conv2: &str) -> bool {
    let name = conv2.replace("conv2", "conv_shortcut");
    network.layout().entries.iter().any(|entry| entry.name == name)
}
