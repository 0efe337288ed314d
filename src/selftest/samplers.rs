//! Pictures of every sampler, from a small network whose weights are given; and what is known of images exactly.

use super::Chain;
use super::network::{SIDE, config};
use crate::Result;
use crate::denoise::{Component, Denoiser, Empirical, GaussianMixture, Known};
use crate::diffusion::{BetaSchedule, Form, Level, Prediction, Schedule};
use crate::layers::{ParameterVector, flat};
use crate::models::Network;
use crate::numerics::rng::normal;
use crate::pipeline::{Pipeline, Scheduler};
use crate::sample::{Algorithm, FinalSigma, Sampler, SamplerOptions, Settings, Spacing, draw, spread};

pub(super) fn links(chain: &mut Chain) -> Result<()> {
    known_images(chain)?;
    let network = Network::new(config().model)?;
    let w = ParameterVector(normal(network.layout().count(), 7).mapv(|x| 0.2 * x as f32).to_vec());
    let schedule = Schedule::new(BetaSchedule::Linear, 1000, 1e-4, 0.02)?;
    let scheduler = Scheduler::new(schedule, Prediction::Epsilon, Some(1.0))?;
    let model = Pipeline::new(network, w, scheduler, Some(4))?;
    let mut pictures = |name: String, sampler: Sampler, options: SamplerOptions| -> Result<()> {
        let steps = spread(&model.scheduler().schedule, (6, Spacing::Trailing, 0), sampler, &options)?;
        let settings =
            Settings { seed: 42, sampler, options, chain: steps, class: None, guidance: 1.5, guidance_interval: None };
        chain.numbers(format!("samplers.{name}_pictures"), flat(&draw(&model, &settings, 3..5, |_| Ok(()))?));
        Ok(())
    };
    for &sampler in Sampler::ALL {
        pictures(sampler.entry().name.replace('-', "_"), sampler, SamplerOptions::default())?;
    }
    for (name, algorithm) in
        [("sde_dpmsolver", Algorithm::SdeDpmSolver), ("sde_dpmsolver_of_x_0", Algorithm::SdeDpmSolverPlusPlus)]
    {
        let options = SamplerOptions { algorithm, final_sigma: FinalSigma::SigmaMin, ..SamplerOptions::default() };
        pictures(name.into(), Sampler::DpmMultistep, options)?;
    }
    Ok(())
}

/// The posterior mean of a set and of a mixture, and the mixture's score and density, in both precisions.
fn known_images(chain: &mut Chain) -> Result<()> {
    let levels: Vec<Level> =
        [0.2, 1.0, 9.0].map(|ratio| Level::new(Form::VariancePreserving, 0.0, 1.0, ratio)).to_vec();
    let (images, x) = (normal((21, SIDE, SIDE, 1), 1), normal((3, SIDE, SIDE, 1), 2));
    let narrow = |x: &ndarray::Array4<f64>| x.mapv(|x| x as f32);
    let wide = Empirical::new(&images)?.predict(&x, &levels, None)?.value;
    chain.numbers("samplers.mean_of_a_set", flat(&wide));
    let narrow_mean = Empirical::new(&narrow(&images))?.predict(&narrow(&x), &levels, None)?.value;
    chain.numbers("samplers.mean_of_a_set_in_f32", flat(&narrow_mean));
    let covariance = ndarray::arr2(&[[0.3, 0.1], [0.1, 0.2]]);
    let mixture = GaussianMixture::new(vec![
        Component::new(0.7, vec![-0.5, 0.3], vec![0.1, 0.05])?,
        Component::with_covariance(0.3, vec![0.6, -0.2], &covariance)?,
    ])?;
    let x = normal((3, 1, 2, 1), 3);
    let Known { x_0_hat, score, log_density } = mixture.know(&x, &levels)?;
    chain.numbers("samplers.known_of_a_mixture", &[flat(&x_0_hat), flat(&score), &log_density].concat());
    let Known { x_0_hat, score, log_density } = mixture.know(&narrow(&x), &levels)?;
    chain.numbers("samplers.known_of_a_mixture_in_f32", &[flat(&x_0_hat), flat(&score), &log_density].concat());
    Ok(())
}
