//! Samplers that draw noise, where images are a mixture of Gaussians: the pictures have its mean and its covariance.
//!
//! # The bound
//! Of N independent pictures the mean of a number has a standard error √(C_ii/N), and a covariance √(m_ij/N), m_ij being the
//! variance of the products of both deviations, which is taken from the pictures themselves. Six of them are allowed, which
//! chance exceeds twice in 10⁹.
//!
//! A chain of n steps errs in such a number by e(n) = C/nᵖ, p ≥ 1, to leading order (Talay and Tubaro 1990: weak errors have an
//! expansion in the step). Half as many steps err by 2ᵖ as much, so that what halving changes, e(n/2) − e(n) = (2ᵖ − 1) e(n), is at
//! least e(n). That much is allowed besides, as both chains were seen to differ.

use ndarray::Array4;

use super::*;
use crate::Result;
use crate::denoise::{Denoiser, Estimate, GaussianMixture, Sight};
use crate::diffusion::{BetaSchedule, Level, Schedule, Variance};
use crate::evaluate::convergence::images;
use crate::layers::{flat, flat_mut};
use crate::numerics::rng::Stream;

const PICTURES: usize = 1500;
const STEPS: usize = 120;

struct Drawing<'a> {
    images: &'a GaussianMixture,
    draws: u64,
}

impl Drawing<'_> {
    fn normal(&mut self) -> Array4<f64> {
        let mut z = Array4::zeros((PICTURES, 1, 2, 1));
        Stream::keyed(5, "known_images", &[self.draws]).fill_normal(flat_mut(&mut z));
        self.draws += 1;
        z
    }
}

impl Walk<f64> for Drawing<'_> {
    fn see(&mut self, x: &Array4<f64>, level: Level) -> Result<Estimate<f64>> {
        let output = self.images.predict(x, &[level; PICTURES], None)?;
        Ok(Sight::default().estimate(x, level, &output))
    }

    fn noise(&mut self, _: Level) -> Array4<f64> {
        self.normal()
    }
}

/// Mean and covariance of the pictures, each with its standard error: (found, error) of (0), (1), (0, 0), (0, 1), (1, 1).
fn statistics(pictures: &Array4<f64>) -> [(f64, f64); 5] {
    let rows: Vec<[f64; 2]> = flat(pictures).chunks(2).map(|row| [row[0], row[1]]).collect();
    let n = rows.len() as f64;
    let of = |f: &dyn Fn(&[f64; 2]) -> f64| {
        let mean = rows.iter().map(f).sum::<f64>() / n;
        let variance = rows.iter().map(|row| (f(row) - mean) * (f(row) - mean)).sum::<f64>() / n;
        (mean, (variance / n).sqrt())
    };
    let mean = [0, 1].map(|i| of(&|row| row[i]));
    let product = |i: usize, j: usize| of(&|row| (row[i] - mean[i].0) * (row[j] - mean[j].0));
    [mean[0], mean[1], product(0, 0), product(0, 1), product(1, 1)]
}

#[test]
fn samplers_that_draw_noise_reach_the_mean_and_the_covariance_of_the_images() {
    let images = images();
    let schedule = Schedule::new(BetaSchedule::Linear, 1000, 1e-4, 0.02).unwrap();
    let options = SamplerOptions::default();
    let dpm = |algorithm, order| SamplerOptions {
        algorithm,
        order,
        final_sigma: if algorithm == Algorithm::SdeDpmSolver { FinalSigma::SigmaMin } else { FinalSigma::Zero },
        sigmas: Sigmas::Karras,
        ..options
    };
    let (sde, sde_of_x_0) = (Algorithm::SdeDpmSolver, Algorithm::SdeDpmSolverPlusPlus);
    let cases = [
        (Sampler::Ddpm, options),
        (Sampler::Ddpm, SamplerOptions { variance: Variance::FixedLarge, ..options }),
        (Sampler::Ddim, SamplerOptions { eta: 1.0, ..options }),
        (Sampler::Ddim, SamplerOptions { eta: 0.5, ..options }),
        (Sampler::EulerAncestral, options),
        (Sampler::DpmMultistep, dpm(sde_of_x_0, 1)),
        (Sampler::DpmMultistep, dpm(sde_of_x_0, 2)),
        (Sampler::DpmMultistep, dpm(sde_of_x_0, 3)),
        (Sampler::DpmMultistep, dpm(sde, 1)),
        (Sampler::DpmMultistep, dpm(sde, 2)),
        (Sampler::DpmSinglestep, dpm(sde_of_x_0, 2)),
    ];
    for (sampler, options) in cases {
        let drawn = |steps: usize| {
            let chain = spread(&schedule, (steps, Spacing::Trailing, 0), sampler, &options).unwrap();
            let mut drawing = Drawing { images: &images, draws: 0 };
            let x = drawing.normal() * chain[0].from.scale();
            let pictures = sampler.run(&chain, x, &options, &mut drawing).unwrap();
            (statistics(&pictures), chain[chain.len() - 1].to)
        };
        let ((half, _), (whole, end)) = (drawn(STEPS / 2), drawn(STEPS));
        let (mean, covariance) = images.moments(end);
        let truth = [mean[0], mean[1], covariance[[0, 0]], covariance[[0, 1]], covariance[[1, 1]]];
        for (((found, error), (of_half, _)), truth) in whole.into_iter().zip(half).zip(truth) {
            let (off, halving) = ((found - truth).abs(), (found - of_half).abs());
            assert!(off < 6.0 * error + halving, "{sampler:?} {options:?}: {found} +- {error}, not {truth}; {halving}");
        }
    }
}
