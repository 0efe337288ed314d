//! What a model folder says, in diffusers' words: a network, its weights, and a scheduler.

mod scheduler;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::denoise::NetworkDenoiser;
use crate::denoise::steered::{Steering, Told};
use crate::layers::{ParameterVector, Weights};
use crate::models::Network;
use crate::{Error, Result};

pub use scheduler::Scheduler;

/// A network, its weights, and how to sample from it.
#[derive(Clone, Debug)]
pub struct Pipeline {
    network: Network,
    weights: ParameterVector<f32>,
    scheduler: Scheduler,
    null_class: Option<usize>,
    class_names: Option<Vec<String>>,
    guidance: UsualGuidance,
    steering: Option<Arc<Steering>>,
}

/// How strongly a class is asked for where nobody says so (see [`Guidance`](crate::denoise::Guidance)).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsualGuidance {
    /// w; 1 is none.
    pub weight: f64,
    /// The least and the largest sigma/signal at which it is applied; `None` is everywhere.
    pub interval: Option<(f64, f64)>,
}

impl Default for UsualGuidance {
    /// Of a model that does not say: 2 everywhere.
    fn default() -> Self {
        UsualGuidance { weight: 2.0, interval: None }
    }
}

impl UsualGuidance {
    /// Refuses numbers with which nothing can be guided.
    ///
    /// # Errors
    /// The field that does not hold, by its name in a run's config.
    pub fn validate(&self) -> Result<()> {
        if !self.weight.is_finite() {
            return Err(Error::value("sample_guidance", "a finite number", self.weight));
        }
        match self.interval {
            Some((least, most)) if !(0.0 <= least && least < most) => {
                let expected = "two numbers from 0 on, the least sigma/signal and a larger one";
                Err(Error::value("sample_guidance_interval", expected, format!("{least} and {most}")))
            }
            _ => Ok(()),
        }
    }
}

impl Pipeline {
    /// A model of these parts; `null_class` is the label that stands for "no class", where the network was trained with one.
    /// A network that knows no other label was.
    ///
    /// # Errors
    /// Weights of another network, or a label that the network does not know.
    pub fn new(
        network: Network,
        weights: ParameterVector<f32>,
        scheduler: Scheduler,
        null_class: Option<usize>,
    ) -> Result<Self> {
        check_weights(&network, &weights, "weights")?;
        match (null_class, network.labels()) {
            (Some(label), Some(labels)) if label >= labels => {
                return Err(Error::value("null_class", format!("0 to {}", labels - 1), label));
            }
            (Some(label), None) => {
                return Err(Error::value("null_class", "none: the network is told no classes", label));
            }
            _ => {}
        }
        let null_class = null_class.or_else(|| network.config().null_class(false));
        let guidance = UsualGuidance::default();
        Ok(Pipeline { network, weights, scheduler, null_class, class_names: None, guidance, steering: None })
    }

    /// The same model with a name for each class that can be asked for.
    ///
    /// # Errors
    /// Another number of names than of classes.
    pub fn with_class_names(mut self, names: Vec<String>) -> Result<Self> {
        if self.classes() != Some(names.len()) {
            let expected = self.classes().map_or("none: there are no classes".into(), |n| format!("{n} names"));
            return Err(Error::value("class_names", expected, names.len()));
        }
        self.class_names = Some(names);
        Ok(self)
    }

    /// The same model, guided so where nobody says how.
    ///
    /// # Errors
    /// As [`UsualGuidance::validate`].
    pub fn with_guidance(self, guidance: UsualGuidance) -> Result<Self> {
        guidance.validate()?;
        Ok(Pipeline { guidance, ..self })
    }

    /// The same model, pulled by a classifier towards the class that is asked for; one that is told no classes can then be asked for
    /// those of the classifier.
    ///
    /// # Errors
    /// A classifier of other images, or of fewer classes than the model knows.
    pub fn with_classifier(self, steering: Steering) -> Result<Self> {
        let (ours, theirs) = (self.image_shape()?, steering.image_shape());
        if ours != theirs {
            let expected = |(h, w, c): (usize, usize, usize)| format!("images of {h}x{w}x{c}");
            return Err(Error::value("classifier", format!("one for {}", expected(ours)), expected(theirs)));
        }
        match self.classes().filter(|&classes| classes > steering.classes()) {
            Some(classes) => {
                Err(Error::value("classifier", format!("one of the model's {classes} classes"), steering.classes()))
            }
            None => Ok(Pipeline { steering: Some(Arc::new(steering)), ..self }),
        }
    }

    /// The classifier that pulls, where one does.
    pub fn classifier(&self) -> Option<&Steering> {
        self.steering.as_deref()
    }

    /// What the network is told of the classes that are asked for.
    pub(crate) fn told(&self) -> Told {
        match (self.known_classes(), self.null_class) {
            (Some(1..), null_class) => Told::Class { null_class },
            (_, Some(label)) => Told::Same(label),
            (_, None) => Told::Nothing,
        }
    }

    /// How it is guided where nobody says how: not at all, where it was not trained with hidden labels.
    pub fn guidance(&self) -> UsualGuidance {
        if self.guides() { self.guidance } else { UsualGuidance { weight: 1.0, interval: None } }
    }

    /// The same model with other weights of its network.
    ///
    /// # Errors
    /// Weights of another network.
    pub fn with_weights(self, weights: ParameterVector<f32>) -> Result<Self> {
        check_weights(&self.network, &weights, "weights")?;
        Ok(Pipeline { weights, ..self })
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Its weights.
    pub fn weights(&self) -> &ParameterVector<f32> {
        &self.weights
    }

    /// The noise, what is predicted, and the sampler the model was published with.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// The label that stands for "no class", where the network was trained with one.
    pub fn null_class(&self) -> Option<usize> {
        self.null_class
    }

    /// The classes that can be asked for, all labels but the one that stands for none, or those of the classifier that pulls; `None`
    /// if there are none.
    pub fn classes(&self) -> Option<usize> {
        let known = self.known_classes();
        known.filter(|&classes| classes > 0).or(self.classifier().map(Steering::classes)).or(known)
    }

    /// The classes that the network is told.
    fn known_classes(&self) -> Option<usize> {
        self.network.config().classes(self.null_class)
    }

    /// What the network is told of a picture of this class, or of none that is known: nothing, where it is told no classes.
    pub fn label(&self, class: Option<usize>) -> Option<usize> {
        class.filter(|_| self.classes().is_some()).or(self.null_class)
    }

    /// Whether a class can be asked for more strongly than it was trained: guidance compares with "no class".
    pub fn guides(&self) -> bool {
        self.known_classes().is_some() && self.null_class.is_some()
    }

    /// The names of the classes that can be asked for, in the order of their numbers, where they are known.
    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }

    /// Height, width and channels of its pictures.
    ///
    /// # Errors
    /// A configuration without `sample_size`, or a network whose output is no image of its input's shape.
    pub fn image_shape(&self) -> Result<(usize, usize, usize)> {
        let config = self.network.config();
        let field = |name: &str| format!("{}: {name}", config.class_name());
        let (height, width) = config
            .image_size()
            .ok_or_else(|| Error::value(field("sample_size"), "the height and width of the pictures", "null"))?;
        let (channels, out) = config.channels();
        if out != channels && out != 2 * channels {
            let expected = format!("{channels}, as many as in_channels, or twice that where the variance is learned");
            return Err(Error::value(field("out_channels"), expected, out));
        }
        Ok((height, width, channels))
    }

    /// Its network with some weights, the model's own or others of the same network, as a denoiser.
    pub fn denoiser<'a>(&'a self, weights: &'a dyn Weights<f32>) -> NetworkDenoiser<'a, f32> {
        NetworkDenoiser { network: &self.network, weights, prediction: self.scheduler.prediction }
    }
}

/// Refuses a vector that is not one number for each parameter of the network.
///
/// # Errors
/// Another count.
pub(crate) fn check_weights(network: &Network, vector: &ParameterVector<f32>, what: &str) -> Result<()> {
    let (expected, found) = (network.layout().count(), vector.0.len());
    if expected == found {
        return Ok(());
    }
    Err(Error::value(what, format!("{expected} numbers, one for each parameter of the network"), found))
}
