//! One name for every network: the parts that train, sample and evaluate know no other.

use ndarray::{Array4, Ix4};

use super::passes::{Pass, passes};
use super::{Conditions, Dit, NetworkConfig, Taps, Trace, UNet, dit, unet};
use crate::Result;
use crate::layers::dropout::Key;
use crate::layers::embedding::TimeEmbedding;
use crate::layers::{GradientSink, Kept, Layout, ParameterVector, Weights};
use crate::numerics::Real;

/// An architecture: which layers there are and where their parameters lie. It holds no numbers.
#[derive(Clone, Debug)]
pub enum Network {
    /// The U-Net of Ho et al. 2020.
    UNet(Box<UNet>),
    /// The transformer of Peebles & Xie 2023.
    Dit(Box<Dit>),
}

/// The caches of a forward pass of one of the networks.
#[derive(Debug)]
pub enum Tape<F: Real> {
    /// A U-Net's.
    UNet(unet::Tape<F>),
    /// A transformer's.
    Dit(Box<dit::Tape<F>>),
}

/// The same expression of whichever network it is.
macro_rules! of_each {
    ($network:expr, $inner:ident => $value:expr) => {
        match $network {
            Network::UNet($inner) => $value,
            Network::Dit($inner) => $value,
        }
    };
}

passes!(Network, layout());

impl Network {
    /// Builds the network that the configuration describes.
    ///
    /// # Errors
    /// A configuration that is not supported, by field and value.
    pub fn new(config: NetworkConfig) -> Result<Self> {
        match config {
            NetworkConfig::UNet(config) => UNet::new(config).map(|unet| Network::UNet(Box::new(unet))),
            NetworkConfig::Dit(config) => Dit::new(config).map(|dit| Network::Dit(Box::new(dit))),
        }
    }

    /// What it was built from.
    pub fn config(&self) -> NetworkConfig {
        of_each!(self, network => network.config.clone().into())
    }

    /// Its parameters' names, shapes and places.
    pub fn layout(&self) -> &Layout {
        of_each!(self, network => &network.layout)
    }

    /// Labels that the network knows, the one for "no class" among them; `None` if it is told no classes.
    pub fn labels(&self) -> Option<usize> {
        match self {
            Network::UNet(unet) => unet.config.num_class_embeds,
            Network::Dit(dit) => Some(dit.config.labels()),
        }
    }

    /// The sinusoids of time that it is fed.
    pub(crate) fn time_proj(&self) -> &TimeEmbedding {
        match self {
            Network::UNet(unet) => unet.sinusoids(),
            Network::Dit(_) => &dit::SINUSOIDS,
        }
    }

    fn checked<F: Real>(&self, x: Array4<F>, conditions: Conditions) -> Result<Array4<F>> {
        of_each!(self, network => network.checked(x, conditions))
    }

    fn run<F: Real>(
        &self,
        w: &dyn Weights<F>,
        x: Array4<F>,
        conditions: Conditions,
        pass: Pass,
    ) -> (Array4<F>, Tape<F>, Trace<F>) {
        of_each!(self, network => {
            let (y, tape, trace) = network.run(w, x, conditions, pass);
            (y, tape.into(), trace)
        })
    }

    fn back<F: Real>(
        &self,
        w: &dyn Weights<F>,
        tape: Tape<F>,
        labels: Option<&[usize]>,
        dy: Kept<F, Ix4>,
        grads: &mut dyn GradientSink<F>,
        wants_dx: bool,
    ) -> Option<Array4<F>> {
        match (self, tape) {
            (Network::UNet(unet), Tape::UNet(tape)) => unet.back(w, tape, labels, dy, grads, wants_dx),
            (Network::Dit(dit), Tape::Dit(tape)) => dit.back(w, *tape, labels, dy, grads, wants_dx),
            _ => panic!("tape: of a network of another class"),
        }
    }

    /// Multiply-adds of the matrix products and convolutions of one prediction of one image of this size.
    pub fn multiply_adds(&self, size: (usize, usize)) -> u64 {
        of_each!(self, network => network.multiply_adds(size))
    }
}

impl<F: Real> From<unet::Tape<F>> for Tape<F> {
    fn from(tape: unet::Tape<F>) -> Self {
        Tape::UNet(tape)
    }
}

impl<F: Real> From<dit::Tape<F>> for Tape<F> {
    fn from(tape: dit::Tape<F>) -> Self {
        Tape::Dit(Box::new(tape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::GradientSink;
    use crate::models::Time;
    use crate::numerics::rng::normal;
    use crate::train::Preset;

    /// Takes what is said to be final, and leaves zeros there.
    struct Taking {
        grads: ParameterVector<f64>,
        taken: Vec<f64>,
        /// How many numbers are not taken yet, after each time.
        left: Vec<usize>,
    }

    impl Taking {
        fn new(count: usize) -> Self {
            Taking { grads: ParameterVector::zeros(count), taken: vec![0.0; count], left: vec![count] }
        }

        /// Asserts that nothing was added to what was taken, and that it came to `expected` in at least so many parts.
        fn assert_whole(mut self, expected: &ParameterVector<f64>, parts: usize, what: &str) {
            let left = *self.left.last().expect("the first");
            assert!(self.grads.0[left..].iter().all(|&x| x == 0.0), "{what}: something was added after it was final");
            self.finished(0);
            assert_eq!(self.taken, expected.0, "{what}");
            assert!(self.left.len() > parts, "{what}: final in {} parts", self.left.len() - 1);
        }
    }

    impl GradientSink<f64> for Taking {
        fn grads(&mut self) -> &mut ParameterVector<f64> {
            &mut self.grads
        }

        fn finished(&mut self, from: usize) {
            let left = *self.left.last().expect("the first");
            assert!(from < left, "later layers are done first");
            self.taken[from..left].copy_from_slice(&self.grads.0[from..left]);
            self.grads.0[from..left].fill(0.0);
            self.left.push(from);
        }
    }

    fn weights(layout: &Layout) -> ParameterVector<f64> {
        let mut w = layout.initial(3);
        // Last layers begin with zeros, and would have none of the others learn.
        w.0.iter_mut().enumerate().for_each(|(i, w)| *w += 0.05 * ((i * 37 % 19) as f64 / 9.0 - 1.0));
        w
    }

    #[test]
    fn gradients_that_are_said_to_be_final_are() {
        // A part for each block, and one for the last layers: 2 levels, or 3, or 12 blocks of a transformer.
        for (preset, parts) in [(Preset::Tiny, 8), (Preset::Digits, 11), (Preset::Dit, 5)] {
            let network = Network::new(preset.config().model).expect("a preset holds");
            let (h, w) = network.config().image_size().expect("a preset has a size");
            let weights = weights(network.layout());
            let labels = network.labels().map(|_| vec![0, 3]);
            let time = Time::Steps(&[7.0, 400.0]);
            let (y, tape) = network
                .forward(&weights, normal((2, h, w, 1), 1), Conditions { time, labels: labels.as_deref() }, None)
                .expect("images that fit");
            let dy = normal(y.dim(), 2);
            let mut expected = ParameterVector::zeros(weights.0.len());
            network.parameter_gradients(&weights, tape, labels.as_deref(), dy.clone(), &mut expected);
            let (_, tape) = network
                .forward(&weights, normal((2, h, w, 1), 1), Conditions { time, labels: labels.as_deref() }, None)
                .expect("images that fit");
            let mut taking = Taking::new(weights.0.len());
            network.parameter_gradients(&weights, tape, labels.as_deref(), dy, &mut taking);
            taking.assert_whole(&expected, parts, preset.name());
        }
    }
}
