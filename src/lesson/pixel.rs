//! Chapter 4: one number of the image in one step, with everything that it is made of.

use ndarray::Array4;
use serde::Serialize;

use crate::layers::flat;
use crate::trace::StepRecord;

/// One number of the image in one step.
#[derive(Clone, Debug, Serialize)]
pub struct PixelStep {
    /// Its place in the picture, (h, w, c) in a row.
    pub place: usize,
    /// From this t.
    pub t: usize,
    /// To this one.
    pub t_prev: usize,
    /// ᾱ at t.
    pub alpha_bar: f64,
    /// ᾱ at s.
    pub alpha_bar_s: f64,
    /// ᾱ_t/ᾱ_s.
    pub alpha: f64,
    /// One less that.
    pub beta: f64,
    /// √ᾱ.
    pub signal: f64,
    /// √(1−ᾱ).
    pub sigma: f64,
    /// It at t.
    pub x_t: f32,
    /// What the network said.
    pub output: f32,
    /// The noise that x_t and the clipped x̂₀ leave.
    pub eps_hat: f32,
    /// The image that follows from what the network said.
    pub raw: f32,
    /// The same, clipped where the model clips.
    pub x_0_hat: f32,
    /// The noise drawn.
    pub z: f32,
    /// What x̂₀ is multiplied by.
    pub weight_x_0: f64,
    /// What x_t is multiplied by.
    pub weight_x_t: f64,
    /// What z is multiplied by.
    pub weight_z: f64,
    /// Their product.
    pub product_x_0: f32,
    /// Theirs.
    pub product_x_t: f32,
    /// Theirs.
    pub product_z: f32,
    /// The sum: it after the step.
    pub x_s: f32,
    /// The sum without noise.
    pub without_z: f32,
}

/// A tensor that every step of ancestral sampling has.
pub(super) fn tensor<'a>(step: &'a StepRecord, name: &str) -> &'a Array4<f32> {
    step.tensor(name).expect("a tensor of every step of ddpm")
}

impl PixelStep {
    /// The number at `place` of the one image of a step of three terms.
    pub fn of(step: &StepRecord, place: usize) -> Self {
        let at = |name: &str| flat(tensor(step, name))[place];
        let term = |name: &str| {
            let weight = step.terms.iter().find(|term| term.name == name).expect("a term of ddpm").weight;
            (weight, at(name), weight as f32 * at(name))
        };
        let (weight_x_0, x_0_hat, product_x_0) = term("x_0_hat");
        let (weight_x_t, x_t, product_x_t) = term("x_t");
        let (weight_z, z, product_z) = term("z");
        let alpha = step.from.alpha_bar / step.to.alpha_bar;
        PixelStep {
            place,
            t: step.from.t as usize,
            t_prev: step.to.t as usize,
            alpha_bar: step.from.alpha_bar,
            alpha_bar_s: step.to.alpha_bar,
            alpha,
            beta: 1.0 - alpha,
            signal: step.from.signal,
            sigma: step.from.sigma,
            x_t,
            output: at("output"),
            eps_hat: at("eps_hat"),
            raw: at("x_0_hat_unclipped"),
            x_0_hat,
            z,
            weight_x_0,
            weight_x_t,
            weight_z,
            product_x_0,
            product_x_t,
            product_z,
            x_s: at("x_s"),
            without_z: product_x_0 + product_x_t,
        }
    }
}
