//! What the page is about.

use serde::Serialize;

use super::subject::{SEED, Subject};
use crate::diffusion::Prediction;
use crate::digest::sha256;
use crate::layers::Layout;

/// The model, the pictures, and the program.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// The version of the program.
    pub version: &'static str,
    /// The class of the network.
    pub network: &'static str,
    /// Its parameters.
    pub parameters: usize,
    /// SHA-256 of the weights, as float32.
    pub weights_sha256: String,
    /// What it was trained to say.
    pub prediction: Prediction,
    /// Its letter.
    pub prediction_letter: &'static str,
    /// The same in words.
    pub prediction_words: &'static str,
    /// Classes that can be asked for.
    pub classes: Option<usize>,
    /// Whether guidance is possible.
    pub guides: bool,
    /// Height, width and channels of a picture.
    pub shape: [usize; 3],
    /// Numbers in a picture.
    pub size: usize,
    /// T.
    pub t_max: usize,
    /// The t that chapters begin with.
    pub shown_t: usize,
    /// Some t from little noise to noise alone.
    pub times: Vec<usize>,
    /// The pictures that the model was not trained on.
    pub data: String,
    /// How many there are.
    pub pictures: usize,
    /// The seed of all noise.
    pub seed: u64,
    /// The pixel that chapters begin with: row, column.
    pub pixel: [usize; 2],
}

/// What the page is about.
pub fn about(subject: &Subject) -> About {
    let (model, (h, w, c)) = (subject.model, subject.shape());
    let bytes: Vec<u8> = model.weights().0.iter().flat_map(|x| x.to_le_bytes()).collect();
    let (prediction_letter, prediction_words) = match model.scheduler().prediction {
        Prediction::Epsilon => ("ε", "the noise, ε"),
        Prediction::Sample => ("x₀", "the picture, x₀"),
        Prediction::V => ("v", "the velocity, v = √ᾱ·ε − √(1−ᾱ)·x₀"),
        Prediction::Flow => ("u", "the velocity of a straight line, ε − x₀"),
        Prediction::Edm(_) => ("F", "a mixture of the picture and its noise"),
    };
    let layout: &Layout = model.network().layout();
    About {
        version: env!("CARGO_PKG_VERSION"),
        network: model.network().config().class_name(),
        parameters: layout.count(),
        weights_sha256: sha256(&bytes),
        prediction: model.scheduler().prediction,
        prediction_letter,
        prediction_words,
        classes: model.classes(),
        guides: model.guides(),
        shape: [h, w, c],
        size: subject.size(),
        t_max: subject.schedule().t_max(),
        shown_t: subject.shown_t(),
        times: subject.some_times(),
        data: subject.data.name().into(),
        pictures: subject.data.len(),
        seed: SEED,
        pixel: [h / 2, w / 2],
    }
}
