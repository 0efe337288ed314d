//! Chapter 9: a world in which the truth is known: a mixture of Gaussians, its exact denoiser, and a small network that learns it.

use ndarray::{Array2, Array4};
use serde::Serialize;

use super::subject::SEED;
use crate::Result;
use crate::denoise::{Component, Denoiser, Estimate, GaussianMixture, Sight};
use crate::diffusion::loss::l_simple;
use crate::diffusion::{Form, Level};
use crate::layers::activation::{silu, silu_backward};
use crate::layers::linear::Linear;
use crate::layers::{Kept, Layout, ParameterVector, flat, shaped};
use crate::numerics::elementary::{exp, ln};
use crate::numerics::rng::Stream;
use crate::sample::{Sampler, SamplerOptions, Transition, Walk};
use crate::train::adamw::{AdamW, Moments};

/// Means, deviations and shares of the three parts.
const PARTS: [(f64, f64, f64); 3] = [(-1.2, 0.12, 0.45), (0.2, 0.2, 0.35), (1.3, 0.1, 0.2)];

/// The noisiest and the least noisy level, as σ over signal.
const RATIOS: (f64, f64) = (20.0, 0.02);

/// Numbers inside of each hidden layer of the network.
const HIDDEN: usize = 24;

/// Steps of its training, pairs in each, and its rate at the start.
const TRAINING: (u64, usize, f64) = (2500, 128, 1e-2);

/// Chains, each of twice the steps of the one before.
const LENGTHS: [usize; 8] = [5, 10, 20, 40, 80, 160, 320, 640];

/// The world of one number.
#[derive(Clone, Debug, Serialize)]
pub struct World {
    /// Mean of each part.
    pub means: Vec<f64>,
    /// Its deviation.
    pub deviations: Vec<f64>,
    /// Its share.
    pub shares: Vec<f64>,
    /// The greatest σ/signal.
    pub ratio_most: f64,
    /// The least.
    pub ratio_least: f64,
    /// The network: its weights, layer after layer, (inputs, outputs) and then the bias.
    pub network: Vec<Vec<f64>>,
    /// Numbers inside of it.
    pub hidden: usize,
    /// Its training steps.
    pub steps: u64,
    /// Pairs in each.
    pub batch: usize,
    /// The last loss, as a mean over a hundred steps.
    pub loss: f64,
    /// The loss of the exact denoiser on the same pairs.
    pub exact_loss: f64,
    /// Errors of samplers by steps.
    pub orders: Vec<Order>,
    /// DDIM's error in 160 steps.
    pub error_160: f64,
    /// What it predicts for 200 steps, the error being as one over the number of steps.
    pub error_200: f64,
    /// What it is.
    pub measured_200: f64,
}

/// A sampler's error by the number of its steps, with the exact denoiser.
#[derive(Clone, Debug, Serialize)]
pub struct Order {
    /// The sampler.
    pub name: &'static str,
    /// Steps.
    pub steps: Vec<usize>,
    /// The root of the mean squared difference from the limit, over some starts.
    pub errors: Vec<f64>,
    /// log₂ of the last error but one over the last.
    pub order: f64,
}

/// The world and all that is measured in it.
///
/// # Errors
/// None that a user could bring about.
pub fn world() -> Result<World> {
    let part =
        |&(mean, deviation, share): &(f64, f64, f64)| Component::new(share, vec![mean], vec![deviation * deviation]);
    let mixture = GaussianMixture::new(PARTS.iter().map(part).collect::<Result<_>>()?)?;
    let learned = learn(&mixture)?;
    let limit = walk(&mixture, Sampler::DpmMultistep, 10_240)?;
    let error = |sampler, n| -> Result<f64> {
        let end = walk(&mixture, sampler, n)?;
        let squares = end.iter().zip(&limit).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        Ok((squares / end.len() as f64).sqrt())
    };
    let order = |(name, sampler)| -> Result<Order> {
        let errors = LENGTHS.iter().map(|&n| error(sampler, n)).collect::<Result<Vec<_>>>()?;
        let [.., before, last] = errors[..] else { unreachable!("eight lengths") };
        Ok(Order { name, steps: LENGTHS.to_vec(), order: ln(before / last) / ln(2.0), errors })
    };
    let orders = [("DDIM, η = 0", Sampler::Ddim), ("DPM-Solver++ 2M", Sampler::DpmMultistep)];
    let orders = orders.into_iter().map(order).collect::<Result<Vec<_>>>()?;
    let error_160 = orders[0].errors[5];
    Ok(World {
        means: PARTS.map(|part| part.0).to_vec(),
        deviations: PARTS.map(|part| part.1).to_vec(),
        shares: PARTS.map(|part| part.2).to_vec(),
        ratio_most: RATIOS.0,
        ratio_least: RATIOS.1,
        network: learned.layers,
        hidden: HIDDEN,
        steps: TRAINING.0,
        batch: TRAINING.1,
        loss: learned.loss,
        exact_loss: learned.exact_loss,
        error_200: error_160 * 160.0 / 200.0,
        measured_200: error(Sampler::Ddim, 200)?,
        error_160,
        orders,
    })
}

/// The level at a share of the way from the noisiest to the least noisy, even in ln σ/signal.
fn level(share: f64) -> Level {
    let ratio = exp(ln(RATIOS.0) + share * (ln(RATIOS.1) - ln(RATIOS.0)));
    Level::new(Form::VariancePreserving, 1000.0 * (1.0 - share), 1.0, ratio)
}

/// The ends of chains of `n` steps from some starts, with the exact denoiser.
fn walk(mixture: &GaussianMixture, sampler: Sampler, n: usize) -> Result<Vec<f64>> {
    let chain: Vec<Transition> =
        (0..n).map(|i| Transition { from: level(i as f64 / n as f64), to: level((i + 1) as f64 / n as f64) }).collect();
    let starts: Vec<f64> = (0..33).map(|i| f64::from(i - 16) / 8.0).collect();
    let options = SamplerOptions { lower_order_final: false, ..SamplerOptions::default() };
    let end = sampler.run(&chain, shaped((33, 1, 1, 1), starts), &options, &mut Exact(mixture))?;
    Ok(flat(&end).to_vec())
}

/// A walk that sees exactly.
struct Exact<'a>(&'a GaussianMixture);

impl Walk<f64> for Exact<'_> {
    fn see(&mut self, x: &Array4<f64>, level: Level) -> Result<Estimate<f64>> {
        let output = self.0.predict(x, &vec![level; x.dim().0], None)?;
        Ok(Sight::default().estimate(x, level, &output))
    }

    fn noise(&mut self, _: Level) -> Array4<f64> {
        Array4::zeros((33, 1, 1, 1))
    }
}

/// What was learned.
struct Learned {
    layers: Vec<Vec<f64>>,
    loss: f64,
    exact_loss: f64,
}

/// Trains a network of two hidden layers to say ε from x and ln σ/signal.
fn learn(mixture: &GaussianMixture) -> Result<Learned> {
    let (steps, batch, rate) = TRAINING;
    let mut layout = Layout::default();
    let sizes = [2, HIDDEN, HIDDEN, 1];
    let layers: Vec<Linear> =
        (0..3).map(|i| Linear::new(&mut layout, &format!("layer{i}"), sizes[i], sizes[i + 1])).collect();
    let mut w: ParameterVector<f64> = layout.initial(SEED);
    let (adamw, mut moments) =
        (AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }, Moments::zeros(w.0.len()));
    let (mut losses, mut exact_losses) = (Vec::new(), Vec::new());
    for step in 1..=steps {
        let pairs = Pairs::draw(step, batch);
        let features =
            Array2::from_shape_fn((batch, 2), |(i, k)| if k == 0 { pairs.x[i] } else { pairs.log_ratio[i] / 2.0 });
        let (h, first) = layers[0].forward(&w, features);
        let h = Kept::from(h);
        let (g, second) = layers[1].forward(&w, silu(h.clone()));
        let g = Kept::from(g);
        let (y, third) = layers[2].forward(&w, silu(g.clone()));
        let (squares, slope) = l_simple(flat(&y), &pairs.eps, batch);
        let mut grads = ParameterVector::zeros(w.0.len());
        let dg = layers[2].backward(&w, third, shaped((batch, 1), slope), &mut grads);
        let dh = layers[1].backward(&w, second, silu_backward(g, dg), &mut grads);
        layers[0].parameter_gradients(first, silu_backward(h, dh), &mut grads);
        let lr = rate * (1.0 - (step - 1) as f64 / steps as f64);
        adamw.step(step, lr, 1.0, &mut w, &mut grads, &mut moments);
        if step + 100 > steps {
            losses.push(squares / batch as f64);
            exact_losses.push(pairs.loss_of(mixture)?);
        }
    }
    let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
    let layers = layout.entries.iter().map(|entry| w[entry.span].to_vec()).collect();
    Ok(Learned { layers, loss: mean(&losses), exact_loss: mean(&exact_losses) })
}

/// Training pairs of one step.
struct Pairs {
    levels: Vec<Level>,
    log_ratio: Vec<f64>,
    x: Vec<f64>,
    eps: Vec<f64>,
}

impl Pairs {
    fn draw(step: u64, count: usize) -> Self {
        let mut stream = Stream::keyed(SEED, "lesson.world", &[step]);
        let mut normals = vec![0.0; 2 * count];
        stream.fill_normal(&mut normals);
        let mut pairs = Pairs { levels: vec![], log_ratio: vec![], x: vec![], eps: vec![] };
        for i in 0..count {
            let mut pick = stream.uniform();
            let (mean, deviation, _) = PARTS
                .into_iter()
                .find(|part| {
                    pick -= part.2;
                    pick < 0.0
                })
                .unwrap_or(PARTS[2]);
            let (x_0, eps) = (mean + deviation * normals[2 * i], normals[2 * i + 1]);
            let level = level(stream.uniform());
            pairs.log_ratio.push(-level.lambda());
            pairs.x.push(level.signal() * x_0 + level.sigma() * eps);
            pairs.eps.push(eps);
            pairs.levels.push(level);
        }
        pairs
    }

    /// The loss of the exact denoiser.
    fn loss_of(&self, mixture: &GaussianMixture) -> Result<f64> {
        let count = self.x.len();
        let x_0_hat = mixture.predict(&shaped((count, 1, 1, 1), self.x.clone()), &self.levels, None)?.value;
        let error = |i: usize| {
            let level = self.levels[i];
            (self.x[i] - level.signal() * flat(&x_0_hat)[i]) / level.sigma() - self.eps[i]
        };
        Ok((0..count).map(|i| error(i) * error(i)).sum::<f64>() / count as f64)
    }
}
