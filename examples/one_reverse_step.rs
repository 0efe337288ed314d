//! One step of Algorithm 2 by hand, from public functions: its mean, its deviation, and what they are made of.

use ancestral::denoise::{Denoiser, Output, Sight};
use ancestral::diffusion::{BetaSchedule, Level, Posterior, Prediction, Schedule, Variance};
use ancestral::ndarray::Array4;
use ancestral::numerics::rng::normal;
use ancestral::sample::{Term, weighted_sum};

fn main() -> ancestral::Result<()> {
    let schedule = Schedule::new(BetaSchedule::Linear, 1000, 1e-4, 0.02)?;
    let (from, to) = (schedule.level(600), schedule.level(599));
    let x_t: Array4<f64> = normal((1, 2, 2, 1), 7);

    // Any denoiser will do; a trained one is `Pipeline::denoiser`. This one says that everything in x_t is noise.
    let all_is_noise = |x: &Array4<f64>, levels: &[Level], _: Option<&[usize]>| {
        Ok(Output::new(Prediction::Epsilon, x * levels[0].sigma()))
    };
    let output = all_is_noise.predict(&x_t, &[from], None)?;
    let estimate = Sight { clip: Some(1.0), eps_from_clipped_x_0: true }.estimate(&x_t, from, &output);

    let posterior = Posterior::of(from, to); // Ho et al. 2020, Eq. 7
    let sigma = posterior.variance(Variance::FixedSmall).sqrt();
    println!("mu = {:.6} x_0_hat + {:.6} x_t, sigma = {sigma:.6}", posterior.weight_x_0, posterior.weight_x_t);
    let mu = weighted_sum(&[
        Term::new("x_0_hat", posterior.weight_x_0, &estimate.x_0_hat),
        Term::new("x_t", posterior.weight_x_t, &x_t),
    ]);
    let x_599 = weighted_sum(&[Term::new("mu", 1.0, &mu), Term::new("z", sigma, &normal((1, 2, 2, 1), 8))]);
    for ((x_t, mu), x_599) in x_t.iter().zip(&mu).zip(&x_599) {
        println!("x_600 = {x_t:+.6}   mu = {mu:+.6}   x_599 = {x_599:+.6}");
    }
    Ok(())
}
