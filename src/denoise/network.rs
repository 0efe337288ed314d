//! A trained network as a denoiser.

use ndarray::Array4;

use super::{Denoiser, Output};
use crate::Result;
use crate::diffusion::{Level, Prediction};
use crate::layers::Weights;
use crate::models::{Conditions, Network, Time};
use crate::numerics::Real;

/// A network, its weights, and what its output means.
#[derive(Clone, Copy)]
pub struct NetworkDenoiser<'a, F: Real> {
    /// The network.
    pub network: &'a Network,
    /// Its weights.
    pub weights: &'a dyn Weights<F>,
    /// What it was trained to predict.
    pub prediction: Prediction,
}

impl<F: Real> Denoiser<F> for NetworkDenoiser<'_, F> {
    fn predict(&self, x: &Array4<F>, levels: &[Level], labels: Option<&[usize]>) -> Result<Output<F>> {
        let time: Vec<f64> = levels.iter().map(|level| level.time).collect();
        let conditions = Conditions { time: Time::Steps(&time), labels };
        let mut input = x.clone();
        self.prediction.scale_inputs(&mut input, levels);
        let seen = self.network.predict(self.weights, input, conditions)?;
        Ok(Output::of_network(self.prediction, seen, x.dim().3))
    }
}
