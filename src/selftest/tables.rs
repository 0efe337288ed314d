//! Tables in f64: schedules, posteriors, timesteps, learning rates, the average's decay, time embeddings.

use super::Chain;
use crate::Result;
use crate::diffusion::{BetaSchedule, Posterior, Schedule};
use crate::layers::embedding::TimeEmbedding;
use crate::layers::flat;
use crate::sample::{Sampler, SamplerOptions, Spacing, chain, timesteps};
use crate::train::ema::decay_at;
use crate::train::learning_rate::{Decay, learning_rate};

pub(super) fn links(chain: &mut Chain) -> Result<()> {
    let curves = [
        ("linear", BetaSchedule::Linear),
        ("scaled_linear", BetaSchedule::ScaledLinear),
        ("cosine", BetaSchedule::Cosine),
    ];
    for (name, curve) in curves {
        let schedule = Schedule::new(curve, 1000, 1e-4, 0.02)?;
        let table: Vec<f64> =
            (1..=1000).flat_map(|t| [schedule.beta(t), schedule.alpha_bar(t), schedule.snr(t)]).collect();
        chain.numbers(format!("tables.schedule_{name}"), &table);
        let chain_of_17 = timesteps(Spacing::Trailing, 1000, 17, 0)?;
        let steps = self::chain(&schedule, &chain_of_17, Sampler::Ddpm, &SamplerOptions::default())?;
        let posteriors = steps.iter().flat_map(|step| {
            let posterior = Posterior::of(step.from, step.to);
            [posterior.weight_x_0, posterior.weight_x_t, posterior.beta, posterior.beta_tilde]
        });
        chain.numbers(format!("tables.posterior_{name}"), &posteriors.collect::<Vec<_>>());
    }
    let mut times = Vec::new();
    for spacing in [Spacing::Leading, Spacing::Trailing, Spacing::Linspace] {
        for n in [1, 7, 61, 1000] {
            times.extend(timesteps(spacing, 1000, n, 0)?.into_iter().map(|t| t as u64));
        }
    }
    chain.integers("tables.timesteps", &times);
    let rates = [Decay::Constant, Decay::Cosine]
        .map(|decay| (1..=500).map(|n| learning_rate(n, 500, 2e-3, 37, decay)).collect::<Vec<_>>());
    chain.numbers("tables.learning_rates", &rates.concat());
    chain.numbers("tables.ema_decays", &(0..500).map(|i| decay_at(i, 0.97)).collect::<Vec<_>>());
    let embedding = TimeEmbedding { dim: 33, flip_sin_to_cos: false, freq_shift: 1.0 };
    chain.numbers("tables.time_embedding", flat(&embedding.embed::<f32>(&[0.0, 1.0, 37.0, 999.0])));
    Ok(())
}
