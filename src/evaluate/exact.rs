//! What an image costs exactly, by the probability-flow ODE ([`exact`](crate::diffusion::likelihood::exact)).
//!
//! An image is bytes and has no density; x₁, the image with the noise of the first step, has one, p₁(x₁). With the decoder of the
//! bound,
//!
//! ```text
//! −ln P(x₀) ≤ E[ −ln P(x₀|x₁) − ln p₁(x₁) + ln q(x₁|x₀) ],     x₁ ~ q(x₁|x₀)
//! ```
//!
//! is what the bound becomes where its prior and its KL terms are replaced by the density itself. The last is minus the entropy of
//! the noise, −½·(1 + ln 2πσ₁²) a number.
//!
//! # Hazard
//! The flow and the reverse steps have the same density only where ε̂ is exact. A network that has learned little may have a flow
//! that costs more than its bound, which is of the reverse steps.
//!
//! Noise and signs come from the streams (seed, "eval.bits.noise", [image, 1]), the noise that the bound has there, and
//! (seed, "eval.exact.signs", [image]).

use ndarray::Array4;
use serde::Serialize;

use super::bits::{BitsSettings, Mean, SEED, check_process};
use super::noise::check_subject;
use super::shared::of_images;
use crate::Result;
use crate::data::Dataset;
use crate::denoise::Output;
use crate::diffusion::likelihood::exact::{Levels, Sight, log_density};
use crate::diffusion::likelihood::{BITS, Reading, Said, steps};
use crate::diffusion::{Level, Prediction, q_sample};
use crate::layers::{ParameterVector, Prepared, Weights, flat, shaped};
use crate::models::{Conditions, Network, Time};
use crate::numerics::elementary::ln;
use crate::numerics::ode::Tolerance;
use crate::numerics::rng::Stream;
use crate::pipeline::Pipeline;

/// Images between two calls of `progress`.
const AT_ONCE: usize = 4;

/// The exact cost, in bits per dimension.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExactBits {
    /// Images looked at.
    pub images: usize,
    /// All of it.
    pub total: Mean,
    /// Of it −log₂ p₁(x₁), with the entropy of the noise taken off.
    pub density: Mean,
    /// Of it the decoder.
    pub decoder: Mean,
    /// Passes forward and back that an image took.
    pub evaluations: f64,
}

/// The exact cost of validation images under `weights` of the model's network, whose estimates are not clipped on the way;
/// `progress` hears of each image done. Of the settings the times are not used.
///
/// # Errors
/// As [`bits_per_dim`](super::bits_per_dim); a tolerance that cannot be kept.
pub fn exact_bits(
    model: &Pipeline,
    weights: &ParameterVector<f32>,
    data: &Dataset,
    settings: &BitsSettings,
    tolerance: Tolerance,
    progress: impl FnMut(usize),
) -> Result<ExactBits> {
    check_subject(model, weights, data)?;
    check_process(model)?;
    let prepared = Prepared::new(weights);
    let images = settings.images.min(data.len());
    let asked = Asked { model, weights: &prepared, data, settings, tolerance };
    let found = of_images(images, AT_ONCE, progress, |image| asked.image(image).map(Vec::from))?;
    let mean = |of: &dyn Fn(&[f64]) -> f64| Mean::of(&found.iter().map(|image| of(image)).collect::<Vec<_>>());
    Ok(ExactBits {
        images,
        total: mean(&|image| image[0] + image[1]),
        density: mean(&|image| image[0]),
        decoder: mean(&|image| image[1]),
        evaluations: mean(&|image| image[2]).mean,
    })
}

struct Asked<'a> {
    model: &'a Pipeline,
    weights: &'a dyn Weights<f32>,
    data: &'a Dataset,
    settings: &'a BitsSettings,
    tolerance: Tolerance,
}

impl Asked<'_> {
    /// Density, decoder and evaluations of one image.
    fn image(&self, image: usize) -> Result<[f64; 3]> {
        let scheduler = self.model.scheduler();
        let (schedule, prediction) = (&scheduler.schedule, scheduler.prediction);
        let x_0 = self.data.batch::<f64>(&[image]);
        let (dim, size) = (x_0.dim(), x_0.len());
        let mut eps = vec![0.0f32; size];
        Stream::keyed(SEED, "eval.bits.noise", &[image as u64, 1]).fill_normal(&mut eps);
        let eps: Vec<f64> = eps.into_iter().map(f64::from).collect();
        let mut signs = Stream::keyed(SEED, "eval.exact.signs", &[image as u64]);
        let v: Vec<f64> = (0..size).map(|_| if signs.below(2) == 0 { 1.0 } else { -1.0 }).collect();
        let label = self.model.label(self.data.label(image).map(|class| class as usize));
        let labels = label.map(|label| vec![label]);
        let seen = Seen { network: self.model.network(), weights: self.weights, prediction, dim, labels };

        let first = schedule.level(1);
        let x_1 = q_sample(first, flat(&x_0), &eps);
        let see = |x: &[f64], level: Level, v: &[f64]| seen.with_product(x, level, v);
        let (log_density, statistics) = log_density(see, &Levels::new(schedule)?, &x_1, &v, self.tolerance)?;
        let entropy = 0.5 * (1.0 + ln(std::f64::consts::TAU) + 2.0 * ln(first.sigma()));

        let of_both = if schedule.t_max() > 1 { vec![1, 2] } else { vec![1] };
        let output = seen.output(&x_1, first)?;
        let wide = |x: &Array4<f32>| -> Vec<f64> { flat(x).iter().map(|&x| x.into()).collect() };
        let variance = output.log_variance.as_ref().map(wide).unwrap_or_default();
        let reading = Reading {
            prediction,
            variance: self.settings.variance,
            clip: scheduler.clip_range(),
            cdf: self.settings.cdf,
        };
        let said = Said { mean: &wide(&output.value), variance: &variance };
        let decoder = steps(schedule, &of_both)[0].term(&reading, flat(&x_0), &eps, said).bits;
        Ok([(-log_density / size as f64 - entropy) * BITS, decoder, statistics.evaluations as f64])
    }
}

/// A network that looks at one image.
struct Seen<'a> {
    network: &'a Network,
    weights: &'a dyn Weights<f32>,
    prediction: Prediction,
    dim: (usize, usize, usize, usize),
    labels: Option<Vec<usize>>,
}

impl Seen<'_> {
    fn image(&self, x: &[f64]) -> Array4<f32> {
        shaped(self.dim, x.iter().map(|&x| x as f32).collect())
    }

    fn output(&self, x: &[f64], level: Level) -> Result<Output<f32>> {
        let time = [level.time];
        let conditions = Conditions { time: Time::Steps(&time), labels: self.labels.as_deref() };
        let said = self.network.predict(self.weights, self.image(x), conditions)?;
        Ok(Output::of_network(self.prediction, said, self.dim.3))
    }

    /// ε̂ and vᵀ·∂ε̂/∂x. ε̂ is linear in x and the output y: ε̂ = α·x + β·y, so vᵀ·∂ε̂/∂x = α·v + β·vᵀ·∂y/∂x.
    fn with_product(&self, x: &[f64], level: Level, v: &[f64]) -> Result<Sight> {
        let time = [level.time];
        let conditions = Conditions { time: Time::Steps(&time), labels: self.labels.as_deref() };
        let (said, tape) = self.network.forward(self.weights, self.image(x), conditions, None)?;
        // The half of the variance is asked for nothing.
        let (channels, mut asked) = (self.dim.3, Array4::<f32>::zeros(said.dim()));
        for (pixel, v) in crate::layers::flat_mut(&mut asked).chunks_mut(said.dim().3).zip(v.chunks(channels)) {
            pixel.iter_mut().zip(v).for_each(|(asked, &v)| *asked = v as f32);
        }
        let mut unused = ParameterVector::zeros(self.network.layout().count());
        let product = self.network.backward(self.weights, tape, self.labels.as_deref(), &asked, &mut unused);
        let said = Output::of_network(self.prediction, said, channels).value;
        let said: Vec<f64> = flat(&said).iter().map(|&said| said.into()).collect();
        let at = level.marginal::<f64>();
        let [alpha, beta] = [[1.0, 0.0], [0.0, 1.0]].map(|[x, y]| self.prediction.eps_hat(at, &[x], &[y])[0]);
        let product = v.iter().zip(flat(&product)).map(|(v, &product)| alpha * v + beta * product as f64).collect();
        Ok(Sight { eps_hat: self.prediction.eps_hat(at, x, &said), product })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::{BetaSchedule, Schedule};
    use crate::models::{Conditions, UNetConfig};
    use crate::train::Preset;

    #[test]
    fn product_with_the_jacobian_equals_differences_of_the_seen_noise() {
        let mut config = Preset::Tiny.config();
        config.model = UNetConfig { out_channels: 2, ..config.model.unet_mut().unwrap().clone() }.into();
        let network = Network::new(config.model).unwrap();
        let mut w = network.layout().initial::<f32>(3);
        w.0.iter_mut().enumerate().for_each(|(i, w)| *w += 0.05 * ((i * 37 % 19) as f32 / 9.0 - 1.0));
        let schedule = Schedule::new(BetaSchedule::Linear, 10, 1e-2, 0.3).unwrap();
        let level = schedule.level(6);
        let mut x = vec![0.0f64; 256];
        Stream::keyed(1, "x", &[]).fill_normal(&mut x);
        let v: Vec<f64> = (0..256).map(|i| if i % 3 == 0 { -1.0 } else { 1.0 }).collect();
        for prediction in [Prediction::Epsilon, Prediction::Sample, Prediction::V] {
            let seen = Seen { network: &network, weights: &w, prediction, dim: (1, 16, 16, 1), labels: None };
            let found = seen.with_product(&x, level, &v).unwrap();
            // In float64, by the same network.
            let wide = ParameterVector(w.0.iter().map(|&w| w as f64).collect());
            let of = |x: &[f64]| -> f64 {
                let time = [level.time];
                let conditions = Conditions { time: Time::Steps(&time), labels: None };
                let said = network.predict(&wide, shaped((1, 16, 16, 1), x.to_vec()), conditions).unwrap();
                let said: Vec<f64> = said.iter().step_by(2).copied().collect();
                prediction.eps_hat(level.marginal(), x, &said).iter().zip(&v).map(|(eps, v)| eps * v).sum()
            };
            for i in [0, 17, 130, 255] {
                let nudged = |by: f64| {
                    let mut x = x.clone();
                    x[i] += by;
                    of(&x)
                };
                let difference = (nudged(1e-4) - nudged(-1e-4)) / 2e-4;
                // Float32 in the network's pass forward and back.
                assert!((found.product[i] - difference).abs() < 2e-4 * (1.0 + difference.abs()), "{prediction:?} {i}");
            }
        }
    }
}
