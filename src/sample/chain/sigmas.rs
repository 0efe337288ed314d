//! The table of a schedule as ratios σ = sigma/signal, and levels between its entries.

use crate::diffusion::schedule::linspace;
use crate::diffusion::schedule::process::between;
use crate::diffusion::{Level, Process, Schedule};
use crate::numerics::elementary::{exp, ln};
use crate::numerics::incomplete_beta::beta_quantile;
use crate::sample::{Sampler, Sigmas};

/// ᾱ of noise alone where its σ is asked for, which would be infinite: as in diffusers.
const OF_NOISE_ALONE: f64 = 1.0 / 16_777_216.0;

/// ρ of Karras et al. 2022, Eq. 5.
const RHO: f64 = 7.0;

/// σ of each time t − 1 from 0 to T − 1, ascending.
pub(super) struct Table<'a> {
    pub(super) schedule: &'a Schedule,
    sigmas: Vec<f64>,
}

impl<'a> Table<'a> {
    pub(super) fn of(schedule: &'a Schedule) -> Self {
        let sigma = |t: usize| {
            let alpha_bar = schedule.alpha_bar(t);
            let alpha_bar = if alpha_bar == 0.0 { OF_NOISE_ALONE } else { alpha_bar };
            ((1.0 - alpha_bar) / alpha_bar).sqrt()
        };
        Table { schedule, sigmas: (1..=schedule.t_max()).map(sigma).collect() }
    }

    /// σ at any time in 0..=T−1, on the line between two entries; outside, that of the nearest.
    pub(super) fn sigma(&self, time: f64) -> f64 {
        let last = self.sigmas.len() - 1;
        let below = (time.max(0.0) as usize).min(last);
        let share = time.max(0.0) - below as f64;
        let above = (below + 1).min(last);
        if share == 0.0 {
            self.sigmas[below]
        } else {
            (self.sigmas[above] - self.sigmas[below]) * share + self.sigmas[below]
        }
    }

    /// The same on the line between their logarithms.
    pub(super) fn sigma_by_log(&self, time: f64) -> f64 {
        let below = time as usize;
        match (time - below as f64, self.sigmas.get(below + 1)) {
            (share, Some(&above)) if share > 0.0 => exp((1.0 - share) * ln(self.sigmas[below]) + share * ln(above)),
            _ => self.sigmas[below],
        }
    }

    /// The level at a time, in the sampler's form.
    pub(super) fn level(&self, sampler: Sampler, time: f64) -> Level {
        self.level_at(sampler, time, self.sigma(time))
    }

    /// The level of this σ, which is that of the time, or near it.
    pub(super) fn level_at(&self, sampler: Sampler, time: f64, sigma: f64) -> Level {
        let fed = self.schedule.process().fed(self.schedule.t_max(), time, sigma);
        Level::new(sampler.entry().form, fed, 1.0, sigma)
    }

    /// EDM's levels of a chain of n steps, spread as its schedule is.
    pub(super) fn edm(&self, sampler: Sampler, n: usize) -> Vec<Level> {
        let Process::Edm { sigma_min, sigma_max, rho } = self.schedule.process() else { return Vec::new() };
        let shares = linspace(0.0, 1.0, n).into_iter();
        shares.map(|share| self.level_at(sampler, 0.0, between(sigma_max, sigma_min, rho, share))).collect()
    }

    /// The time at which the network is fed this σ, on the line between two entries in ln σ.
    pub(super) fn time(&self, sigma: f64) -> f64 {
        if self.sigmas.len() == 1 {
            return 0.0;
        }
        let above = self.sigmas.partition_point(|&entry| entry <= sigma);
        let low = above.saturating_sub(1).min(self.sigmas.len() - 2);
        let (a, b, at) = (ln(self.sigmas[low]), ln(self.sigmas[low + 1]), ln(sigma.max(1e-10)));
        let share = ((a - at) / (a - b)).clamp(0.0, 1.0);
        (1.0 - share) * low as f64 + share * (low + 1) as f64
    }

    /// How many times, from T down, have a λ below this.
    pub(super) fn below_lambda(&self, least: f64) -> usize {
        self.sigmas.iter().filter(|&&sigma| -ln(sigma) < least).count()
    }

    /// σ of t = 1.
    pub(super) fn least(&self) -> f64 {
        self.sigmas[0]
    }

    /// σ of t = T.
    pub(super) fn most(&self) -> f64 {
        self.sigmas[self.sigmas.len() - 1]
    }
}

/// The parameters of the beta distribution (Lee et al. 2024, Beta Sampling is All You Need), as in diffusers.
const BETA: (f64, f64) = (0.6, 0.6);

/// `n` ratios from `most` down to `least`; of one step alone, `most`.
pub(super) fn spread(sigmas: Sigmas, most: f64, least: f64, n: usize) -> Vec<f64> {
    if sigmas == Sigmas::Beta {
        let quantiles = linspace(0.0, 1.0, n).into_iter().map(|share| beta_quantile(1.0 - share, BETA));
        return quantiles.map(|quantile| least + quantile * (most - least)).collect();
    }
    let rho = (sigmas == Sigmas::Karras).then_some(RHO);
    linspace(0.0, 1.0, n).into_iter().map(|share| between(most, least, rho, share)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::BetaSchedule;
    use crate::numerics::elementary;

    #[test]
    fn table_gives_back_the_times_of_its_entries_and_of_those_between() {
        let schedule = Schedule::new(BetaSchedule::Linear, 50, 1e-3, 0.2).unwrap();
        let table = Table::of(&schedule);
        for t in 1..=50 {
            let time = t as f64 - 1.0;
            assert!((table.sigma(time) / schedule.level(t).ratio() - 1.0).abs() < 1e-14);
            assert!((table.time(table.sigma(time)) - time).abs() < 1e-9);
        }
        let between = table.sigma(20.5);
        assert!(table.sigma(20.0) < between && between < table.sigma(21.0));
        assert!((table.time(between) - 20.5).abs() < 0.05);
        assert_eq!((table.time(0.0), table.time(1e9)), (0.0, 49.0));
    }

    #[test]
    fn spread_ratios_start_and_end_where_they_should_and_one_step_starts_at_the_top() {
        for sigmas in [Sigmas::Karras, Sigmas::Exponential, Sigmas::Lambdas, Sigmas::Beta] {
            let list = spread(sigmas, 80.0, 0.002, 9);
            assert!((list[0] / 80.0 - 1.0).abs() < 1e-14 && (list[8] / 0.002 - 1.0).abs() < 1e-12, "{list:?}");
            assert!(list.windows(2).all(|pair| pair[0] > pair[1]));
            assert!((spread(sigmas, 80.0, 0.002, 1)[0] / 80.0 - 1.0).abs() < 1e-14);
        }
        // Karras et al. 2022, Table 1, at ρ = 7: half-way between the seventh roots.
        let middle = spread(Sigmas::Karras, 80.0, 0.002, 3)[1];
        let roots = [80.0, 0.002].map(|sigma| elementary::pow(sigma, 1.0 / 7.0));
        assert!((middle - elementary::pow((roots[0] + roots[1]) / 2.0, 7.0)).abs() < 1e-13);
    }
}
