//! The levels that a class of diffusers 0.42.1 visits, where they differ from ours.
//!
//! | class | times of N steps | times of sigmas | where it ends |
//! |---|---|---|---|
//! | Euler, Heun, LMS | N; `linspace` not rounded | as they are, between the first and the last σ of the times | 0 |
//! | DPM-Solver, UniPC, DEIS | N + 1, the last left out | rounded (Karras, λ) or cut off (exponential, beta), between σ(T) and σ(1) | as its config says; DEIS at σ(1) or where it is |

use super::sigmas::{self, Table};
use crate::diffusion::schedule::linspace;
use crate::diffusion::schedule::process::shifted;
use crate::diffusion::{BetaSchedule, Level, Process};
use crate::sample::{FinalSigma, Sampler, SamplerOptions, Sigmas, Spacing, timesteps};
use crate::{Error, Result};

/// The levels of a chain, and the σ at the end.
pub(super) fn levels(
    table: &Table,
    spread: (usize, Spacing, usize),
    sampler: Sampler,
    options: &SamplerOptions,
) -> Result<(Vec<Level>, f64)> {
    let schedule = table.schedule;
    match schedule.process() {
        Process::Flow { shift } => return Ok((flow(schedule.t_max(), shift, spread.0, sampler, options), 0.0)),
        Process::Edm { sigma_min, rho, .. } => {
            let end = if options.final_sigma == FinalSigma::SigmaMin { sigma_min } else { 0.0 };
            // One step that is even in ln σ is taken from the least.
            let one_of_exponential = spread.0 == 1 && rho.is_none();
            let levels = match one_of_exponential {
                true => vec![table.level_at(sampler, 0.0, sigma_min)],
                false => table.edm(sampler, spread.0),
            };
            return Ok((levels, end));
        }
        Process::Betas => {}
    }
    let in_lambda = matches!(sampler, Sampler::DpmMultistep | Sampler::DpmSinglestep | Sampler::UniPc | Sampler::Deis);
    let times = if in_lambda {
        of_n_plus_1(table, schedule.t_max(), spread, sampler, options)?
    } else {
        real(schedule.t_max(), spread)?
    };
    let ends_short = options.final_sigma == FinalSigma::SigmaMin;
    if options.sigmas == Sigmas::OfTimes {
        let end = if ends_short && sampler != Sampler::EulerAncestral || sampler == Sampler::Deis {
            table.least()
        } else {
            0.0
        };
        return Ok((times.into_iter().map(|time| table.level(sampler, time)).collect(), end));
    }
    let n = times.len();
    let (most, least) =
        if in_lambda { (table.most(), table.least()) } else { (table.sigma(times[0]), table.sigma(times[n - 1])) };
    let ratios = sigmas::spread(options.sigmas, most, least, n);
    let cosine = sampler == Sampler::DpmMultistep && schedule.curve() == BetaSchedule::Cosine;
    let rounded = !matches!(options.sigmas, Sigmas::Exponential | Sigmas::Beta) && !cosine;
    let time = |ratio: f64| match (in_lambda, rounded) {
        (false, _) => table.time(ratio),
        (true, true) => table.time(ratio).round_ties_even(),
        (true, false) => table.time(ratio).trunc(),
    };
    let last = ratios[n - 1];
    let end = match sampler {
        Sampler::Deis => last,
        Sampler::UniPc if ends_short => last,
        _ if ends_short => table.least(),
        _ => 0.0,
    };
    Ok((ratios.into_iter().map(|ratio| table.level_at(sampler, time(ratio), ratio)).collect(), end))
}

/// Flow matching's levels: σ even between those of T and 1, which are shifted, and shifted again.
fn flow(t_max: usize, shift: f64, n: usize, sampler: Sampler, options: &SamplerOptions) -> Vec<Level> {
    let ends = [1.0, 1.0 / t_max as f64].map(|u| t_max as f64 * shifted(shift, u));
    let sigmas = linspace(ends[0], ends[1], n).into_iter().map(|time| shifted(shift, time / t_max as f64));
    let mut sigmas: Vec<f64> = sigmas.collect();
    if options.sigmas != Sigmas::OfTimes {
        sigmas = sigmas::spread(options.sigmas, sigmas[0], sigmas[n - 1], n);
    }
    let level = |sigma: f64| Level::new(sampler.entry().form, t_max as f64 * sigma, 1.0 - sigma, sigma);
    sigmas.into_iter().map(level).collect()
}

/// N times of which `linspace` is not rounded.
fn real(t_max: usize, (n, spacing, offset): (usize, Spacing, usize)) -> Result<Vec<f64>> {
    let list = timesteps(spacing, t_max, n, offset)?;
    Ok(match spacing {
        Spacing::Linspace => linspace(0.0, (t_max - 1) as f64, n).into_iter().rev().collect(),
        _ => list.into_iter().map(|t| t as f64 - 1.0).collect(),
    })
}

/// The first N of N + 1 times, none with a λ below the least that is wanted.
fn of_n_plus_1(
    table: &Table,
    t_max: usize,
    (n, spacing, offset): (usize, Spacing, usize),
    sampler: Sampler,
    options: &SamplerOptions,
) -> Result<Vec<f64>> {
    let last = match sampler {
        Sampler::DpmMultistep | Sampler::DpmSinglestep => t_max - table.below_lambda(options.lambda_min),
        _ => t_max,
    };
    if last == 0 {
        return Err(Error::value("lambda_min_clipped", "below the lambda of t = 1", options.lambda_min));
    }
    let times: Vec<f64> = match spacing {
        Spacing::Leading if sampler != Sampler::DpmSinglestep => {
            let stride = last / (n + 1);
            (1..=n).rev().map(|i| (i * stride + offset) as f64).collect()
        }
        Spacing::Trailing if sampler != Sampler::DpmSinglestep => {
            let start = last as f64;
            // NumPy's arange takes its stride from its first two entries, after their rounding.
            let stride = (start - t_max as f64 / n as f64) - start;
            let times = (0..n).map(|i| start + i as f64 * stride).take_while(|&time| time > 0.0);
            times.map(|time| time.round_ties_even() - 1.0).collect()
        }
        _ => linspace(0.0, (last - 1) as f64, n + 1).into_iter().skip(1).rev().map(f64::round_ties_even).collect(),
    };
    match times.iter().find(|&&time| time > (t_max - 1) as f64) {
        Some(time) => Err(Error::value("steps_offset", format!("times up to {}", t_max - 1), time)),
        None => Ok(times),
    }
}
