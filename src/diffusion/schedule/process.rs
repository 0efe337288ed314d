//! What makes the levels of a schedule: a table of β, or σ as a function of t.

use super::{MAX_T, Schedule};
use crate::diffusion::{Form, Level};
use crate::numerics::elementary::{exp, ln, pow};
use crate::{Error, Result};

/// Where the level of time t comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Process {
    /// ᾱ_t, a product of 1 − β. The network is fed t − 1.
    Betas,
    /// Flow matching: x = (1−σ)·x₀ + σ·ε with σ_t = s·u/(1 + (s−1)·u) at u = t/T (Esser et al. 2024, Eq. 23, with s for the shift).
    /// The network is fed T·σ.
    Flow {
        /// s, above 0; 1 keeps t/T, more spends more of the times in noise.
        shift: f64,
    },
    /// EDM: x = x₀ + σ·ε with σ from `sigma_min` at t = 1 to `sigma_max` at t = T, even in σ^(1/ρ), or in ln σ without a ρ
    /// (Karras et al. 2022, Eq. 5). The network is fed ¼·ln σ.
    Edm {
        /// The least σ, above 0.
        sigma_min: f64,
        /// The largest, above the least.
        sigma_max: f64,
        /// ρ, above 0; `None` spreads ln σ.
        rho: Option<f64>,
    },
}

impl Process {
    /// The time that the network is fed where sigma/signal is `ratio`, `index` being its place in the table of T, from 0.
    pub fn fed(self, t_max: usize, index: f64, ratio: f64) -> f64 {
        match self {
            Process::Betas => index,
            Process::Flow { .. } if ratio.is_infinite() => t_max as f64,
            Process::Flow { .. } => t_max as f64 * (ratio / (1.0 + ratio)),
            Process::Edm { .. } => 0.25 * ln(ratio),
        }
    }

    fn level(self, t_max: usize, t: usize) -> Level {
        match self {
            Process::Betas => unreachable!("its levels are a table"),
            Process::Flow { shift } => {
                let sigma = shifted(shift, t as f64 / t_max as f64);
                Level::new(Form::Flow, t_max as f64 * sigma, 1.0 - sigma, sigma)
            }
            Process::Edm { sigma_min, sigma_max, rho } => {
                let share = if t_max == 1 { 0.0 } else { (t_max - t) as f64 / (t_max - 1) as f64 };
                let sigma = between(sigma_max, sigma_min, rho, share);
                Level::new(Form::VarianceExploding, 0.25 * ln(sigma), 1.0, sigma)
            }
        }
    }
}

/// s·u/(1 + (s−1)·u), in [0, 1] as u is.
pub(crate) fn shifted(shift: f64, u: f64) -> f64 {
    shift * u / (1.0 + (shift - 1.0) * u)
}

/// σ at this share of the way from `from` to `to`, even in σ^(1/ρ), or in ln σ without a ρ.
pub(crate) fn between(from: f64, to: f64, rho: Option<f64>, share: f64) -> f64 {
    match rho {
        Some(rho) => {
            let (from, to) = (pow(from, 1.0 / rho), pow(to, 1.0 / rho));
            pow(from + share * (to - from), rho)
        }
        None => exp(ln(from) + share * (ln(to) - ln(from))),
    }
}

impl Schedule {
    /// The schedule of a process that is no table of β, at `t_max` = T levels. ᾱ_t is then the share of x's variance that is the
    /// image's, and β_t = 1 − ᾱ_t/ᾱ_{t−1} what a variance-preserving process with these shares would add.
    ///
    /// # Errors
    /// If T is not in 1..=[`MAX_T`], or a parameter out of its range.
    pub fn of_process(process: Process, t_max: usize) -> Result<Self> {
        if !(1..=MAX_T).contains(&t_max) {
            return Err(Error::value("num_train_timesteps", format!("1 to {MAX_T} steps"), t_max));
        }
        let positive = |x: f64| x > 0.0 && x.is_finite();
        match process {
            Process::Betas => return Err(Error::value("process", "flow or edm; betas are a curve", "betas")),
            Process::Flow { shift } if !positive(shift) => {
                return Err(Error::value("shift", "a number above 0", shift));
            }
            Process::Edm { sigma_min, .. } if !positive(sigma_min) => {
                return Err(Error::value("sigma_min", "a number above 0", sigma_min));
            }
            Process::Edm { sigma_min, sigma_max, .. } if !(sigma_max > sigma_min && sigma_max.is_finite()) => {
                return Err(Error::value("sigma_max", format!("a number above sigma_min = {sigma_min}"), sigma_max));
            }
            Process::Edm { rho: Some(rho), .. } if !positive(rho) => {
                return Err(Error::value("rho", "a number above 0", rho));
            }
            _ => {}
        }
        let shares = (1..=t_max).map(|t| process.level(t_max, t).alpha_bar);
        let alpha_bar: Vec<f64> = [1.0].into_iter().chain(shares).collect();
        let beta = [0.0].into_iter().chain(alpha_bar.windows(2).map(|pair| 1.0 - pair[1] / pair[0])).collect();
        let linear = Schedule::new(super::BetaSchedule::Linear, 1, 1e-4, 0.02)?;
        Ok(Schedule { process, beta, alpha_bar, ..linear })
    }

    /// The level at time `t` in 0..=T.
    ///
    /// # Panics
    /// If `t` > T.
    pub fn level(&self, t: usize) -> Level {
        match self.process {
            Process::Betas => Level::of_alpha_bar(t as f64 - 1.0, self.alpha_bar(t)),
            _ if t == 0 => Level::CLEAN,
            process => {
                assert!(t <= self.t_max(), "level: t = {t} is after T = {}", self.t_max());
                process.level(self.t_max(), t)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDM: Process = Process::Edm { sigma_min: 0.002, sigma_max: 80.0, rho: Some(7.0) };

    #[test]
    fn flow_goes_from_the_image_to_the_noise_on_a_straight_line_and_is_fed_its_sigma() {
        let schedule = Schedule::of_process(Process::Flow { shift: 3.0 }, 1000).unwrap();
        let (first, last) = (schedule.level(1), schedule.level(1000));
        assert!((first.sigma() - 3.0 * 0.001 / 1.002).abs() < 1e-17 && first.signal() + first.sigma() == 1.0);
        assert_eq!((last.signal(), last.sigma(), last.time), (0.0, 1.0, 1000.0));
        let middle = schedule.level(400);
        assert!((schedule.process().fed(1000, f64::NAN, middle.ratio()) - middle.time).abs() < 1e-9);
        assert!((1..=1000).all(|t| schedule.alpha_bar(t) < schedule.alpha_bar(t - 1)));
    }

    #[test]
    fn edm_has_its_sigmas_at_both_ends_and_is_fed_a_quarter_of_their_logarithm() {
        let schedule = Schedule::of_process(EDM, 18).unwrap();
        for (t, sigma) in [(1, 0.002), (18, 80.0)] {
            let level = schedule.level(t);
            assert!((level.sigma() / sigma - 1.0).abs() < 1e-13 && level.signal() == 1.0);
            assert!((level.time - 0.25 * ln(sigma)).abs() < 1e-13);
        }
        assert!(schedule.level(0).is_clean());
    }

    #[test]
    fn processes_out_of_range_are_refused_by_field() {
        let refused = |process, t_max| Schedule::of_process(process, t_max).unwrap_err().to_string();
        assert!(refused(Process::Flow { shift: 0.0 }, 10).starts_with("shift"));
        assert!(refused(EDM, 0).starts_with("num_train_timesteps"));
        let edm = |sigma_min, sigma_max, rho| Process::Edm { sigma_min, sigma_max, rho };
        assert!(refused(edm(0.0, 1.0, None), 10).starts_with("sigma_min"));
        assert!(refused(edm(2.0, 1.0, None), 10).starts_with("sigma_max"));
        assert!(refused(edm(1.0, 2.0, Some(f64::NAN)), 10).starts_with("rho"));
    }
}
