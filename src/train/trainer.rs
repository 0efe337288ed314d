//! Training, Algorithm 1 of Ho et al. 2020.
//!
//! ```text
//! repeat
//!   x_0 ~ q(x_0)                                     the next images of the epoch's order
//!   t ~ Uniform({1, ..., T})
//!   ε ~ N(0, I)
//!   take a gradient step on ∇ ‖ε − ε_θ(√ᾱ_t x_0 + √(1 − ᾱ_t) ε, t)‖²
//! until converged
//! ```
//!
//! Among several [ranks](crate::cluster) each makes and shows the images of its own microbatches alone.
//!
//! Image i of step n has its own streams, keyed (seed, purpose, [n, i]): "train.flip", "train.t", "train.noise",
//! "train.label_dropout". Other
//! losses, weights and choices of t are in [`goal`](super::goal).

use ndarray::{Array4, s};

use super::config::Config;
use super::goal::LossName;
use super::gradient::{self, Zeros, own_images};
use super::learning_rate::learning_rate;
use super::objective::{Batch, Bound, Share};
use super::power_ema::PowerAverages;
use super::step::{Descent, State, StepReport};
use super::timesteps::{LossHistory, TimestepSampler};
use crate::data::{Dataset, Order};
use crate::diffusion::Schedule;
use crate::layers::dropout::Key;
use crate::layers::flat_mut;
use crate::models::Network;
use crate::numerics::environment;
use crate::numerics::rng::Stream;
use crate::pipeline::{Pipeline, check_weights};
use crate::{Error, Result};

/// The seed of the times and the noise of validation.
const VALIDATION_SEED: u64 = 0;

/// A run: a network, its data, and how far it has come.
#[derive(Debug)]
pub struct Trainer {
    config: Config,
    network: Network,
    state: State,
    schedule: Schedule,
    data: Dataset,
    order: Order,
    zeros: Zeros<f32>,
}

impl Trainer {
    /// A run from the start, or from a state of the same config.
    ///
    /// # Errors
    /// A config that does not hold, images of another shape than the model's, a conditional model without labels or with
    /// another number of classes, a state of another network or beyond the last step, a thread whose arithmetic is not the
    /// contract's.
    pub fn new(config: Config, data: Dataset, state: Option<State>) -> Result<Self> {
        config.validate()?;
        environment::check_current()?;
        let network = Network::new(config.model.clone())?;
        check_images(&config, &data)?;
        check_classes(&config, &data)?;
        let averages = config.ema_decay > 0.0;
        let state = match state {
            Some(state) => check_state(&config, &network, state)?,
            None => {
                let start = State::new(network.layout().initial(config.seed), averages);
                let power = (config.post_hoc_every > 0).then(|| PowerAverages::new(network.layout().count()));
                State { history: history(&config), power, ..start }
            }
        };
        let schedule = config.scheduler()?.schedule;
        let order = Order::new(config.seed, data.len());
        Ok(Trainer { config, network, state, schedule, data, order, zeros: Zeros::default() })
    }

    /// What was asked for.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What it has learned.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The model as it is sampled from: with the averaged weights where there are any.
    ///
    /// # Errors
    /// None for a trainer that [`new`](Trainer::new) has made.
    pub fn pipeline(&self) -> Result<Pipeline> {
        let scheduler = self.config.scheduler()?;
        let weights = self.state.best().clone();
        let model = Pipeline::new(self.network.clone(), weights, scheduler, self.config.null_class())?;
        let model = model.with_guidance(self.config.guidance())?;
        match self.data.class_names().filter(|_| model.classes().is_some()) {
            Some(names) => model.with_class_names(names.to_vec()),
            None => Ok(model),
        }
    }

    /// One step of Algorithm 1.
    ///
    /// # Errors
    /// A step beyond the config's last; a loss or gradient that is not finite, by step and tensor: the state is then that
    /// before the step.
    pub fn step(&mut self) -> Result<StepReport> {
        let (n, config) = (self.state.step + 1, &self.config);
        if n > config.steps {
            let expected = format!("at most {}, the config's `steps`: the run has ended", config.steps);
            return Err(Error::value("step", expected, n));
        }
        let first = (n - 1) * config.batch_size as u64;
        let own = own_images(config.batch_size);
        let indices: Vec<usize> = own.clone().map(|i| self.order.index_at(first + i as u64)).collect();
        let mut x_0 = self.data.batch::<f32>(&indices);
        if config.flip {
            flip(config.seed, n, own.start, &mut x_0);
        }
        let labels = labels(config, &self.data, (n, own.start), &indices);
        let batch = self.batch((config.seed, n), Share { first: own.start, of: config.batch_size }, &x_0, labels);

        let o = &config.optimizer;
        let lr = learning_rate(n, config.steps, o.lr, o.warm_up_steps, o.decay);
        let descent = Descent { adamw: o.adamw(), clip_norm: o.clip_norm, ema_decay: config.ema_decay };
        let key = Key { seed: config.seed, step: n, first_image: 0 };
        self.state.step(&self.network, &batch, lr, &descent, Some(key), &self.zeros)
    }

    /// What the network is shown and asked of these images of a batch, with the times and the noise of step n of a seed.
    fn batch(&self, (seed, n): (u64, u64), share: Share, x_0: &Array4<f32>, labels: Option<Vec<usize>>) -> Batch<f32> {
        let (objective, prediction) = (&self.config.objective, self.config.prediction());
        let choice = objective.choice(&self.schedule, self.state.history.as_ref());
        let times = choice.times(seed, n, share.of).part(share.first..share.first + x_0.dim().0);
        let eps = noise(seed, n, share.first, x_0.dim());
        let mut batch = Batch::noised(&self.schedule, prediction, x_0, &times.t, &eps, labels);
        if objective.loss != LossName::Simple {
            let (reading, hybrid) = (objective.reading(prediction), objective.loss == LossName::Hybrid);
            batch.bound = Some(Bound::new(&self.schedule, reading, hybrid, x_0, &times.t, &eps));
        }
        batch.weight = objective.weights(&self.schedule, prediction, times);
        batch.share = Some(share);
        batch
    }

    /// The run's own loss on the first `images` of other images, each shown with its class: with the averaged weights where there
    /// are any, without dropout, and with the same times and the same noise whenever it is asked for.
    ///
    /// # Errors
    /// Images or labels that the network does not take.
    pub fn loss_on(&self, data: &Dataset, images: usize) -> Result<f64> {
        let indices: Vec<usize> = (0..images.min(data.len())).collect();
        let null_class = self.config.null_class();
        let told = self.config.model.classes(null_class).is_some();
        let label = |&i: &usize| data.label(i).filter(|_| told).map(|class| class as usize).or(null_class);
        let labels = indices.iter().map(label).collect();
        let share = Share { first: 0, of: indices.len() };
        let batch = self.batch((VALIDATION_SEED, 0), share, &data.batch::<f32>(&indices), labels);
        gradient::loss(&self.network, self.state.best(), &batch)
    }
}

/// The losses that times are chosen by, where they are, before there are any.
fn history(config: &Config) -> Option<LossHistory> {
    let t_max = config.schedule.num_train_timesteps;
    (config.objective.timesteps == TimestepSampler::LossAware).then(|| LossHistory::new(t_max))
}

/// What the network is told of each image: its class, or with probability `label_dropout` that it has none (Ho and Salimans
/// 2022, Algorithm 1); that it has none, where it knows no classes but a label for that; or nothing.
///
/// `indices` are those of the images of step n from the `first` on.
fn labels(config: &Config, data: &Dataset, (n, first): (u64, usize), indices: &[usize]) -> Option<Vec<usize>> {
    let null_class = config.null_class();
    let told = config.model.classes(null_class).is_some();
    let hidden = |i: usize| {
        let mut stream = Stream::keyed(config.seed, "train.label_dropout", &[n, (first + i) as u64]);
        stream.uniform() < config.label_dropout
    };
    let label = |(i, &image): (usize, &usize)| match data.label(image).filter(|_| told) {
        Some(class) => Some(null_class.filter(|_| hidden(i)).unwrap_or(class as usize)),
        None => null_class,
    };
    indices.iter().enumerate().map(label).collect()
}

/// Mirrors each image of step n, of which these are those from the `first` on, left for right, with probability 1/2.
fn flip(seed: u64, n: u64, first: usize, x_0: &mut Array4<f32>) {
    for (i, mut image) in (first..).zip(x_0.outer_iter_mut()) {
        if Stream::keyed(seed, "train.flip", &[n, i as u64]).uniform() < 0.5 {
            let mirrored = image.slice(s![.., ..;-1, ..]).to_owned();
            image.assign(&mirrored);
        }
    }
}

/// ε for images of step n from the `first` on, of shape `dim`.
fn noise(seed: u64, n: u64, first: usize, dim: (usize, usize, usize, usize)) -> Array4<f32> {
    let mut eps = Array4::zeros(dim);
    let size = dim.1 * dim.2 * dim.3;
    for (i, eps) in (first..).zip(flat_mut(&mut eps).chunks_mut(size)) {
        Stream::keyed(seed, "train.noise", &[n, i as u64]).fill_normal(eps);
    }
    eps
}

fn check_images(config: &Config, data: &Dataset) -> Result<()> {
    let shape = data.shape();
    let found = (Some((shape.height, shape.width)), shape.channels);
    let wanted = (config.model.image_size(), config.model.channels().0);
    if found == wanted {
        return Ok(());
    }
    let (height, width) = wanted.0.expect("validated");
    let expected = format!("images of {height}x{width}x{}, which the model takes", wanted.1);
    Err(Error::value("data", expected, format!("{shape} in {}", data.name())))
}

fn check_classes(config: &Config, data: &Dataset) -> Result<()> {
    if config.model.classes(config.null_class()).is_none() {
        return Ok(());
    }
    let mut fitting = config.clone();
    fitting.adapt_classes(data);
    let ((_, wanted), (field, found)) = (fitting.model.classes_field(), config.model.classes_field());
    if found == wanted {
        return Ok(());
    }
    let number = |n: Option<usize>| n.map_or("null".into(), |n| n.to_string());
    let (wanted, name) = (number(wanted), data.name());
    let expected = match data.classes() {
        None => format!("{wanted}, because {name} has no labels"),
        Some(classes) => {
            let hidden =
                if wanted == classes.to_string() { "" } else { ", and one for none, as label_dropout is not 0" };
            format!("{wanted}: the {classes} classes of {name}{hidden}")
        }
    };
    Err(Error::value(format!("model.{field}"), expected, number(found)))
}

fn check_state(config: &Config, network: &Network, state: State) -> Result<State> {
    let vectors = [("weights", Some(&state.weights)), ("m", Some(&state.moments.m)), ("v", Some(&state.moments.v))];
    for (name, vector) in vectors.into_iter().chain([("ema", state.ema.as_ref())]) {
        vector.map_or(Ok(()), |vector| check_weights(network, vector, &format!("state.{name}")))?;
    }
    for average in state.power.iter().flat_map(|averages| &averages.0) {
        check_weights(network, average, "state.power")?;
    }
    if state.ema.is_some() != (config.ema_decay > 0.0) {
        let (expected, found) = if state.ema.is_some() { ("none", "an average") } else { ("an average", "none") };
        return Err(Error::value("state.ema", format!("{expected}, as the config's ema_decay says"), found));
    }
    // A state without losses may come from another objective: they are gathered from here on.
    let fits = |kept: &LossHistory| Some(kept.numbers().len()) == history(config).map(|new| new.numbers().len());
    let kept = state.history.clone().filter(fits).or_else(|| history(config));
    if state.step > config.steps {
        return Err(Error::value("state.step", format!("at most {}, the config's `steps`", config.steps), state.step));
    }
    // Averages of another run's weights would be none of this one's.
    let power = match (config.post_hoc_every > 0, state.power.is_some() || state.step == 0) {
        (true, false) => {
            let expected = "the averages of this run, or post_hoc_every = 0";
            return Err(Error::value("state.power", expected, format!("none after {} steps", state.step)));
        }
        (true, true) => Some(state.power.unwrap_or_else(|| PowerAverages::new(network.layout().count()))),
        (false, _) => None,
    };
    Ok(State { history: kept, power, ..state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_images_are_mirrored_and_the_others_left_alone() {
        let images = Array4::from_shape_fn((400, 3, 4, 2), |(n, h, w, c)| (n * 24 + h * 8 + w * 2 + c) as f32);
        let mut flipped = images.clone();
        flip(7, 3, 0, &mut flipped);
        let mirrored = images.slice(s![.., .., ..;-1, ..]);
        let is = |other: ndarray::ArrayView3<f32>, i: usize| flipped.index_axis(ndarray::Axis(0), i) == other;
        let count = (0..400).filter(|&i| is(mirrored.index_axis(ndarray::Axis(0), i), i)).count();
        let same = (0..400).filter(|&i| is(images.index_axis(ndarray::Axis(0), i), i)).count();
        assert_eq!(count + same, 400);
        assert!((140..=260).contains(&count), "{count} of 400: six deviations of 10 around 200");
    }
}
