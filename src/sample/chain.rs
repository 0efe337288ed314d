//! From a list of times to the transitions that a sampler walks.

use super::conventions::Next;
use super::{Choice, Sampler, SamplerOptions, Transition};
use crate::diffusion::{Level, Schedule};
use crate::{Error, Result};

/// The transitions of a chain that visits `timesteps`, descending paper-times in 1..=T, and ends at the clean image, or
/// one step short of it (`options.set_alpha_to_one`).
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
    // The classes of diffusers that may end one step short are those that step by strides.
    let by_strides = sampler.takes(Choice::SetAlphaToOne);
    let stride = match options.conventions.ddim_goes_to {
        Next::OneStrideBefore if by_strides => Some(t_max / timesteps.len()),
        _ => None,
    };
    let end = if by_strides && !options.set_alpha_to_one { schedule.level(1) } else { Level::CLEAN };
    let next = timesteps.iter().skip(1).copied().chain([0]);
    Ok(timesteps
        .iter()
        .zip(next)
        .map(|(&t, next)| {
            let t_prev = stride.map_or(next, |stride| t.saturating_sub(stride));
            Transition { from: schedule.level(t), to: if t_prev == 0 { end } else { schedule.level(t_prev) } }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::BetaSchedule;
    use crate::sample::Conventions;

    fn schedule() -> Schedule {
        Schedule::new(BetaSchedule::Linear, 10, 1e-3, 0.2).unwrap()
    }

    fn times(options: &SamplerOptions, sampler: Sampler) -> Vec<(f64, f64)> {
        let chain = chain(&schedule(), &[10, 7, 4, 1], sampler, options).unwrap();
        chain.iter().map(|step| (step.from.t(), step.to.t())).collect()
    }

    #[test]
    fn chain_leads_from_each_time_to_the_next_and_to_the_image() {
        let options = SamplerOptions::default();
        assert_eq!(times(&options, Sampler::Ddpm), [(10.0, 7.0), (7.0, 4.0), (4.0, 1.0), (1.0, 0.0)]);
        let short = SamplerOptions { set_alpha_to_one: false, ..options };
        assert_eq!(times(&short, Sampler::Ddim)[3], (1.0, 1.0));
    }

    #[test]
    fn chain_of_ddim_in_diffusers_dialect_goes_one_stride_whatever_the_list_says() {
        let options = SamplerOptions { conventions: Conventions::DIFFUSERS, ..SamplerOptions::default() };
        assert_eq!(times(&options, Sampler::Ddim), [(10.0, 8.0), (7.0, 5.0), (4.0, 2.0), (1.0, 0.0)]);
        assert_eq!(times(&options, Sampler::Ddpm)[0], (10.0, 7.0));
    }

    #[test]
    fn chain_of_times_that_no_sampler_can_visit_is_refused() {
        for (list, word) in [(&[][..], "empty"), (&[11, 3], "1..=10"), (&[3, 0], "1..=10"), (&[3, 7], "3 before 7")] {
            let refusal = chain(&schedule(), list, Sampler::Ddpm, &SamplerOptions::default()).unwrap_err().to_string();
            assert!(refusal.starts_with("timesteps: ") && refusal.contains(word), "{refusal}");
        }
    }
}
