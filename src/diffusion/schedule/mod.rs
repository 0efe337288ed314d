//! How much noise each step adds: β_t, α_t = 1 − β_t, ᾱ_t = α₁·α₂ ⋯ α_t; and the noise of flow matching and EDM, at T levels.

pub(crate) mod process;

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::numerics::elementary;
use crate::{Error, Result};

pub use process::Process;

/// The most steps a schedule may have, so that a file cannot ask for a table of any size.
pub const MAX_T: usize = 100_000;

/// The largest β of the cosine schedule (Nichol and Dhariwal 2021, § 3.2).
const MAX_COSINE_BETA: f64 = 0.999;

/// The curve of β over t, under the names that `diffusers` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// β evenly spaced from `beta_start` to `beta_end`, whatever T (Ho et al. 2020, § 4). It is not scaled by 1000/T:
    /// from 1e-4 to 0.02 in T = 100 steps, ᾱ_T is 0.364 and the end is far from noise.
    Linear,
    /// √β evenly spaced from √`beta_start` to √`beta_end` (Rombach et al. 2022).
    ScaledLinear,
    /// β_t = min(1 − f(t/T) / f((t−1)/T), 0.999) with f(s) = cos²((s + 0.008)/1.008 · π/2), and ᾱ recomputed from these
    /// clipped β (Nichol and Dhariwal 2021, Eq. 17). `beta_start` and `beta_end` have no effect.
    #[serde(rename = "squaredcos_cap_v2")]
    Cosine,
    /// β = `beta_start` + (`beta_end` − `beta_start`)·sigmoid(u), u evenly spaced from −6 to 6 (Xu et al. 2022, GeoDiff). Other
    /// programs give this name to a curve of ᾱ.
    Sigmoid,
}

/// The noise schedule: tables over t = 0..=T in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    curve: BetaSchedule,
    beta_start: f64,
    beta_end: f64,
    /// (T): a table of one's own, before it was rescaled.
    trained_betas: Option<Vec<f64>>,
    zero_terminal_snr: bool,
    process: Process,
    /// (T + 1): beta[0] = 0, since nothing is added to reach the clean image.
    beta: Vec<f64>,
    /// (T + 1): alpha_bar[0] = 1.
    alpha_bar: Vec<f64>,
}

impl Schedule {
    /// The schedule of `t_max` = T steps; ᾱ is multiplied up in f64 with t ascending.
    ///
    /// A `beta_end` of 1 gives ᾱ_T = 0, a last state without any signal: see [`Prediction::check`].
    ///
    /// # Errors
    /// If T is not in 1..=[`MAX_T`], a β is not in (0, 1), the last in (0, 1], or the signal vanishes before step T.
    ///
    /// [`Prediction::check`]: super::Prediction::check
    pub fn new(curve: BetaSchedule, t_max: usize, beta_start: f64, beta_end: f64) -> Result<Self> {
        if !(1..=MAX_T).contains(&t_max) {
            return Err(Error::value("num_train_timesteps", format!("1 to {MAX_T} steps"), t_max));
        }
        if !(beta_start > 0.0 && beta_start < 1.0) {
            return Err(Error::value("beta_start", "a variance above 0 and below 1", beta_start));
        }
        if !(beta_end > 0.0 && beta_end <= 1.0) {
            return Err(Error::value("beta_end", "a variance above 0 and at most 1", beta_end));
        }
        let beta = match curve {
            BetaSchedule::Linear => linspace(beta_start, beta_end, t_max),
            BetaSchedule::ScaledLinear => {
                linspace(beta_start.sqrt(), beta_end.sqrt(), t_max).into_iter().map(|root| root * root).collect()
            }
            BetaSchedule::Cosine => cosine(t_max),
            BetaSchedule::Sigmoid => linspace(-6.0, 6.0, t_max)
                .into_iter()
                .map(|u| elementary::sigmoid(u) * (beta_end - beta_start) + beta_start)
                .collect(),
        };
        let (beta, alpha_bar) = tables(beta);

        // Both are divided by: 1 − ᾱ_t from t = 1 on, ᾱ_t up to t = T − 1.
        if alpha_bar[1] == 1.0 {
            return Err(Error::value("beta_start", "a variance that 1 − β can hold, at least 2e-16", beta_start));
        }
        if let Some(t) = signal_lost(&alpha_bar) {
            let expected = format!("smaller variances: after {t} of {t_max} steps no signal is left");
            return Err(Error::value("beta_end", expected, beta_end));
        }
        let (trained_betas, zero_terminal_snr, process) = (None, false, Process::Betas);
        Ok(Schedule { curve, beta_start, beta_end, trained_betas, zero_terminal_snr, process, beta, alpha_bar })
    }

    /// The same schedule with a table of one's own in the place of the curve: β_1..=β_T, each in (0, 1), the last at most 1.
    ///
    /// # Errors
    /// Another number of β than T, one out of range, or a signal that vanishes before step T.
    pub fn with_betas(self, betas: Vec<f64>) -> Result<Self> {
        let t_max = self.t_max();
        if betas.len() != t_max {
            let expected = format!("{t_max} variances, one for each of num_train_timesteps");
            return Err(Error::value("trained_betas", expected, betas.len()));
        }
        let possible = |i: usize, beta: f64| 1.0 - beta < 1.0 && (beta < 1.0 || beta == 1.0 && i == t_max - 1);
        if let Some((_, beta)) = betas.iter().enumerate().find(|&(i, &beta)| !possible(i, beta)) {
            return Err(Error::value("trained_betas", "variances above 0 and below 1, the last at most 1", beta));
        }
        let (beta, alpha_bar) = tables(betas.clone());
        if let Some(t) = signal_lost(&alpha_bar) {
            let expected = format!("smaller variances: after {t} of {t_max} steps no signal is left");
            return Err(Error::value("trained_betas", expected, betas[t - 1]));
        }
        Ok(Schedule { trained_betas: Some(betas), zero_terminal_snr: false, beta, alpha_bar, ..self })
    }

    /// The same schedule with √ᾱ shifted and stretched, so that it begins where it did and ᾱ_T = 0: the last state is noise
    /// alone (Lin et al. 2024, Algorithm 1).
    ///
    /// # Errors
    /// A single step, which cannot both begin where it did and end without signal; a signal that vanishes before step T.
    pub fn with_zero_terminal_snr(self) -> Result<Self> {
        let t_max = self.t_max();
        if t_max == 1 {
            return Err(Error::value("rescale_betas_zero_snr", "false, because there is one step alone", true));
        }
        let (first, last) = (self.alpha_bar[1].sqrt(), self.alpha_bar[t_max].sqrt());
        let rescaled = self.alpha_bar.iter().skip(1).map(|alpha_bar| {
            let root = (alpha_bar.sqrt() - last) * (first / (first - last));
            root * root
        });
        let rescaled: Vec<f64> = [1.0].into_iter().chain(rescaled).collect();
        let (beta, alpha_bar) = tables(rescaled.windows(2).map(|pair| 1.0 - pair[1] / pair[0]).collect());
        if let Some(t) = signal_lost(&alpha_bar) {
            let expected = format!("false, because after {t} of {t_max} steps no signal would be left");
            return Err(Error::value("rescale_betas_zero_snr", expected, true));
        }
        Ok(Schedule { zero_terminal_snr: true, beta, alpha_bar, ..self })
    }

    /// The same schedule with every ᾱ_t, t = 1..=T in order, changed a little: what another precision of the table would give.
    /// ᾱ stays in [0, 1) and does not rise.
    pub(crate) fn map_alpha_bar(&self, mut change: impl FnMut(f64) -> f64) -> Schedule {
        let mut changed = self.clone();
        for t in 1..changed.alpha_bar.len() {
            let (alpha_bar, before) = (change(changed.alpha_bar[t]), changed.alpha_bar[t - 1]);
            changed.alpha_bar[t] = if alpha_bar < before { alpha_bar } else { before };
        }
        changed
    }

    /// The curve that β follows.
    pub fn curve(&self) -> BetaSchedule {
        self.curve
    }

    /// `beta_start` as it was given, a variance in (0, 1).
    pub fn beta_start(&self) -> f64 {
        self.beta_start
    }

    /// `beta_end` as it was given, a variance in (0, 1].
    pub fn beta_end(&self) -> f64 {
        self.beta_end
    }

    /// The table of one's own that stands in the curve's place, shape (T), as it was given.
    pub fn trained_betas(&self) -> Option<&[f64]> {
        self.trained_betas.as_deref()
    }

    /// Whether √ᾱ was rescaled to end at 0.
    pub fn zero_terminal_snr(&self) -> bool {
        self.zero_terminal_snr
    }

    /// What makes the levels.
    pub fn process(&self) -> Process {
        self.process
    }

    /// T, the number of steps.
    pub fn t_max(&self) -> usize {
        self.beta.len() - 1
    }

    /// β_t, the variance that step t adds, in (0, 1]; β₀ = 0.
    ///
    /// # Panics
    /// If `t` > T, as all that follow.
    pub fn beta(&self, t: usize) -> f64 {
        self.beta[t]
    }

    /// α_t = 1 − β_t, the share of the signal's variance that step t keeps, in [0, 1); α₀ = 1.
    pub fn alpha(&self, t: usize) -> f64 {
        1.0 - self.beta[t]
    }

    /// ᾱ_t = α₁·α₂ ⋯ α_t, the share of the image's variance left after t steps, in [0, 1); ᾱ₀ = 1.
    pub fn alpha_bar(&self, t: usize) -> f64 {
        self.alpha_bar[t]
    }

    /// The ratio of signal to noise ᾱ_t / (1 − ᾱ_t), falling in t; infinite at t = 0, and 0 where ᾱ_t = 0
    /// (Kingma et al. 2021, Eq. 2).
    pub fn snr(&self, t: usize) -> f64 {
        self.alpha_bar[t] / (1.0 - self.alpha_bar[t])
    }
}

/// β and ᾱ over t = 0..=T from β_1..=β_T.
fn tables(betas: Vec<f64>) -> (Vec<f64>, Vec<f64>) {
    let beta: Vec<f64> = [0.0].into_iter().chain(betas).collect();
    let alpha_bar = beta
        .iter()
        .scan(1.0, |product, beta| {
            *product *= 1.0 - beta;
            Some(*product)
        })
        .collect();
    (beta, alpha_bar)
}

/// The first t before T whose ᾱ_t cannot be divided by.
fn signal_lost(alpha_bar: &[f64]) -> Option<usize> {
    (1..alpha_bar.len() - 1).find(|&t| alpha_bar[t] < f64::MIN_POSITIVE)
}

/// The cosine schedule's β_1..=β_T.
fn cosine(t_max: usize) -> Vec<f64> {
    let f = |t: usize| {
        let s = t as f64 / t_max as f64;
        let root = elementary::cos((s + 0.008) / 1.008 * PI / 2.0);
        root * root
    };
    (1..=t_max)
        .map(|t| 1.0 - f(t) / f(t - 1))
        .map(|beta| if beta > MAX_COSINE_BETA { MAX_COSINE_BETA } else { beta })
        .collect()
}

/// `n` numbers evenly spaced from `start` to `end`, rounded as NumPy's `linspace`: i·step + start, the last being `end`
/// itself, and `start` alone if `n` is 1.
pub(crate) fn linspace(start: f64, end: f64, n: usize) -> Vec<f64> {
    let step = (end - start) / (n - 1) as f64;
    (0..n)
        .map(|i| match i {
            0 => start,
            i if i == n - 1 => end,
            i => i as f64 * step + start,
        })
        .collect()
}

#[cfg(test)]
mod tests;
