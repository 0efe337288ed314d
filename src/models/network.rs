//! One name for every network: the parts that train, sample and evaluate know no other.

use ndarray::{Array4, Ix4};

use super::passes::{Pass, passes};
use super::{Conditions, Dit, NetworkConfig, Taps, Trace, UNet, dit, unet};
use crate::Result;
use crate::layers::dropout::Key;
use crate::layers::embedding::TimeEmbedding;
use crate::layers::{Kept, Layout, ParameterVector, Weights};
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
            Network::UNet(unet) => &unet.time_proj,
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
        grads: &mut ParameterVector<F>,
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
