//! Which levels a sampler visits, and the transitions between them.
//!
//! [`chain`] takes a list of times; [`spread`] makes one of N steps, in time or in sigma. A chain has one transition for each
//! evaluation of the model, so samplers with several a step have more of them than steps: Heun's 2·N − 1, PNDM's N + 9 with
//! Runge and Kutta's steps and N + 1 without.

mod of_class;
mod sigmas;

use self::sigmas::Table;
use super::conventions::{Lists, Next};
use super::timesteps::{cut_off, respaced};
use super::{Choice, FinalSigma, Sampler, SamplerOptions, Sigmas, Spacing, Transition, timesteps};
use crate::diffusion::schedule::linspace;
use crate::diffusion::{Form, Level, Process, Schedule};
use crate::{Error, Result};

/// The transitions of a chain that visits `timesteps`, descending paper-times in 1..=T, and ends at the clean image, or
/// one step short of it (`options.set_alpha_to_one`, `options.final_sigma`). `ddim-inverse` walks the same chain the other way.
///
/// # Errors
/// A list that is empty, does not descend, or leaves 1..=T.
pub fn chain(
    schedule: &Schedule,
    timesteps: &[usize],
    sampler: Sampler,
    options: &SamplerOptions,
) -> Result<Vec<Transition>> {
    let t_max = schedule.t_max();
    if timesteps.is_empty() {
        return Err(Error::value("timesteps", "at least one time to visit", "an empty list"));
    }
    if let Some(t) = timesteps.iter().find(|t| !(1..=t_max).contains(*t)) {
        return Err(Error::value("timesteps", format!("times in 1..={t_max}"), t));
    }
    if let Some(pair) = timesteps.windows(2).find(|pair| pair[0] <= pair[1]) {
        return Err(Error::value("timesteps", "times that descend", format!("{} before {}", pair[0], pair[1])));
    }
    Ok(through(schedule, timesteps, timesteps.len(), sampler, options))
}

/// The same for times that were checked, the last of a list of `steps`.
fn through(
    schedule: &Schedule,
    timesteps: &[usize],
    steps: usize,
    sampler: Sampler,
    options: &SamplerOptions,
) -> Vec<Transition> {
    let stride = match options.conventions.ddim_goes_to {
        Next::OneStrideBefore => Some(schedule.t_max() / steps),
        Next::OfTheList => None,
    };
    match sampler {
        Sampler::Ddpm | Sampler::Ddim | Sampler::DdimInverse => in_time(schedule, timesteps, stride, sampler, options),
        Sampler::Pndm => pndm(schedule, timesteps, stride, options),
        _ => {
            let table = Table::of(schedule);
            let levels = timesteps.iter().map(|&t| match schedule.process() {
                Process::Flow { .. } if sampler.entry().form != Form::VarianceExploding => {
                    schedule.level(t).in_form(sampler.entry().form)
                }
                _ => table.level(sampler, t as f64 - 1.0),
            });
            in_sigma(sampler, levels.collect(), last_sigma(sampler, options, &table))
        }
    }
}

/// The transitions of a chain of `steps` steps, spread as `spacing` says or, where `options.sigmas` says so, in sigma from
/// t = T to t = 1; `offset` shifts the leading spacing towards T.
///
/// # Errors
/// If not 1 ≤ `steps` ≤ T, or the offset shifts the first time beyond T.
pub fn spread(
    schedule: &Schedule,
    spread: (usize, Spacing, usize),
    sampler: Sampler,
    options: &SamplerOptions,
) -> Result<Vec<Transition>> {
    spread_last(schedule, spread, spread.0, sampler, options)
}

/// The last `kept` steps of that chain, at least one: where a picture starts that is not all noise.
///
/// # Errors
/// As [`spread`](fn@spread); if not 1 ≤ `kept` ≤ `steps`.
pub fn spread_last(
    schedule: &Schedule,
    (steps, spacing, offset): (usize, Spacing, usize),
    kept: usize,
    sampler: Sampler,
    options: &SamplerOptions,
) -> Result<Vec<Transition>> {
    if kept != steps && !(1..steps).contains(&kept) {
        return Err(Error::value("number of steps that are kept", format!("1 to {steps}"), kept));
    }
    let last = |mut levels: Vec<Level>| levels.split_off(levels.len().saturating_sub(kept));
    let t_max = schedule.t_max();
    // Refuses a number of steps that no list has, before any is made.
    timesteps(Spacing::Trailing, t_max, steps, 0)?;
    let list = match options.conventions.lists {
        Lists::Respaced => respaced(t_max, steps),
        Lists::CutOff => cut_off(t_max, steps),
        Lists::Shared | Lists::OfTheClass | Lists::LinearInLogSigma => timesteps(spacing, t_max, steps, offset),
    };
    let in_time = matches!(sampler, Sampler::Ddpm | Sampler::Ddim | Sampler::DdimInverse | Sampler::Pndm);
    if !in_time && options.conventions.lists == Lists::OfTheClass {
        let table = Table::of(schedule);
        let (levels, end) = of_class::levels(&table, (steps, spacing, offset), sampler, options)?;
        return Ok(in_sigma(sampler, last(levels), end));
    }
    let list = list?;
    if options.sigmas != Sigmas::OfTimes && sampler.takes(Choice::Sigmas) {
        let table = Table::of(schedule);
        let ratios = sigmas::spread(options.sigmas, table.most(), table.least(), steps);
        let levels = ratios.into_iter().map(|ratio| table.level_at(sampler, table.time(ratio), ratio)).collect();
        return Ok(in_sigma(sampler, last(levels), last_sigma(sampler, options, &table)));
    }
    if let Process::Edm { .. } = schedule.process()
        && !in_time
    {
        let table = Table::of(schedule);
        let levels = table.edm(sampler, steps);
        return Ok(in_sigma(sampler, last(levels), last_sigma(sampler, options, &table)));
    }
    if options.conventions.lists == Lists::LinearInLogSigma && schedule.process() == Process::Betas && !in_time {
        let table = Table::of(schedule);
        let times = linspace(0.0, (t_max - 1) as f64, steps).into_iter().rev();
        let levels = times.map(|time| table.level_at(sampler, time, table.sigma_by_log(time))).collect();
        return Ok(in_sigma(sampler, last(levels), last_sigma(sampler, options, &table)));
    }
    Ok(through(schedule, &list[steps - kept..], steps, sampler, options))
}

/// Where a chain in sigma ends.
fn last_sigma(sampler: Sampler, options: &SamplerOptions, table: &Table) -> f64 {
    // ln σ and the integral of the noise do not reach the clean image.
    let short = sampler == Sampler::Deis || sampler.takes(Choice::Algorithm) && options.algorithm.of_noise();
    if short || sampler.takes(Choice::FinalSigma) && options.final_sigma == FinalSigma::SigmaMin {
        table.least()
    } else {
        0.0
    }
}

/// The chain through these levels to one of this ratio.
fn in_sigma(sampler: Sampler, mut levels: Vec<Level>, end: f64) -> Vec<Transition> {
    levels.push(Level::new(sampler.entry().form, if end == 0.0 { -1.0 } else { 0.0 }, 1.0, end));
    let pairs = levels.windows(2).map(|pair| Transition { from: pair[0], to: pair[1] });
    if sampler != Sampler::Heun {
        return pairs.collect();
    }
    pairs
        .flat_map(|step| {
            let correction = Transition { from: step.to, to: step.to };
            [Some(step), (!step.to.is_clean()).then_some(correction)]
        })
        .flatten()
        .collect()
}

/// The chain of a sampler that speaks of ᾱ.
fn in_time(
    schedule: &Schedule,
    timesteps: &[usize],
    stride: Option<usize>,
    sampler: Sampler,
    options: &SamplerOptions,
) -> Vec<Transition> {
    // The classes of diffusers that may end one step short are those that step by strides.
    let by_strides = sampler.takes(Choice::SetAlphaToOne);
    let stride = stride.filter(|_| by_strides);
    let level = |t: usize| schedule.level(t).in_form(Form::VariancePreserving);
    let end = if by_strides && !options.set_alpha_to_one { level(1) } else { Level::CLEAN };
    let next = timesteps.iter().skip(1).copied().chain([0]);
    let down = timesteps.iter().zip(next).map(|(&t, next)| {
        let t_prev = stride.map_or(next, |stride| t.saturating_sub(stride));
        Transition { from: level(t), to: if t_prev == 0 { end } else { level(t_prev) } }
    });
    if sampler != Sampler::DdimInverse {
        return down.collect();
    }
    // The network is fed the time that the step leads to: nothing is known of x at its start but that it is less noisy, and
    // the clean image has no time.
    let up = |step: Transition| Transition { from: step.to.fed(step.from.time), to: step.from };
    let mut up: Vec<Transition> = down.map(up).collect();
    up.reverse();
    up
}

/// PNDM's chain: a transition for each evaluation.
fn pndm(schedule: &Schedule, timesteps: &[usize], stride: Option<usize>, options: &SamplerOptions) -> Vec<Transition> {
    let n = timesteps.len();
    let level = |t: usize| schedule.level(t).in_form(Form::VariancePreserving);
    let end = if options.set_alpha_to_one { Level::CLEAN } else { level(1) };
    let before = |t: usize, less: usize| if t > less { level(t - less) } else { end };
    let next = |i: usize| match (stride, timesteps.get(i + 1)) {
        (Some(stride), _) => before(timesteps[i], stride),
        (None, Some(&next)) => level(next),
        (None, None) => end,
    };
    let simple = |i: usize| Transition { from: level(timesteps[i]), to: next(i) };
    if !options.runge_kutta {
        let mut chain: Vec<Transition> = (0..n).map(simple).collect();
        if n > 1 {
            // The second evaluation takes the first step again, from where that began.
            let start = level(stride.map_or(timesteps[0], |stride| (timesteps[1] + stride).min(schedule.t_max())));
            let again = Transition { from: start.fed(level(timesteps[1]).time), to: level(timesteps[1]) };
            chain.insert(1, again);
            chain[0].to = chain[0].to.fed(again.from.time);
        }
        return chain;
    }
    let whole = 3.min(n - 1);
    let mut chain = Vec::new();
    for i in 0..whole {
        let (t, t_next) = (timesteps[i], timesteps[i + 1]);
        let half = stride.unwrap_or(t - t_next) / 2;
        // In strides the network is fed half a stride above the next time, whatever ᾱ is.
        let middle = before(t, half).fed(level((t_next + half).min(t)).time);
        let middle_again = level((t_next + half).min(t));
        let to = level(t_next);
        chain.extend([
            Transition { from: level(t), to: middle },
            Transition { from: middle, to: middle_again },
            Transition { from: middle_again, to },
            Transition { from: to, to },
        ]);
    }
    chain.extend((whole..n).map(simple));
    chain
}

#[cfg(test)]
mod tests;
