//! Chapter 2: the schedule, as tables that a page computes again.

use serde::Serialize;

use super::numbers::Numbers;
use super::subject::Subject;
use crate::diffusion::{BetaSchedule, Posterior, Schedule};

/// The schedule of the model.
#[derive(Clone, Debug, Serialize)]
pub struct Tables {
    /// The curve of β.
    pub curve: BetaSchedule,
    /// T.
    pub t_max: usize,
    /// β_1.
    pub beta_start: f64,
    /// β_T.
    pub beta_end: f64,
    /// Whether β follows from the curve, T, and both ends alone.
    pub by_formula: bool,
    /// β_t for t = 0..=T; that of 0 is 0.
    pub beta: Numbers,
    /// ᾱ_t for t = 0..=T.
    pub alpha_bar: Numbers,
    /// √ᾱ_t for t = 0..=T.
    pub signal: Numbers,
    /// √(1−ᾱ_t) for t = 0..=T.
    pub sigma: Numbers,
    /// w₀ of the step from t to t − 1, for t = 1..=T.
    pub weight_x_0: Numbers,
    /// w_t of that step.
    pub weight_x_t: Numbers,
    /// β̃ of that step.
    pub beta_tilde: Numbers,
    /// ᾱ at the last step.
    pub alpha_bar_end: f64,
    /// √ᾱ at the last step: how much of the picture is left in x_T.
    pub signal_end: f64,
    /// √((1−ᾱ)/ᾱ) at the last step: by how much x̂₀ magnifies an error of ε̂ there. None where ᾱ_T is 0.
    pub amplification_end: Option<f64>,
    /// The first t at which there is less signal than noise.
    pub first_below_one: Option<usize>,
    /// ᾱ there.
    pub alpha_bar_there: Option<f64>,
}

/// The tables of the subject's schedule.
pub fn tables(subject: &Subject) -> Tables {
    let schedule: &Schedule = subject.schedule();
    let t_max = schedule.t_max();
    let over = |of: &dyn Fn(usize) -> f64| Numbers::f64(&(0..=t_max).map(of).collect::<Vec<_>>());
    let step = |of: &dyn Fn(Posterior) -> f64| {
        Numbers::f64(&(1..=t_max).map(|t| of(Posterior::at(schedule, t, t - 1))).collect::<Vec<_>>())
    };
    let last = schedule.level(t_max);
    let first_below_one = (1..=t_max).find(|&t| schedule.snr(t) < 1.0);
    let plain = schedule.trained_betas().is_none() && !schedule.zero_terminal_snr();
    Tables {
        curve: schedule.curve(),
        t_max,
        beta_start: schedule.beta_start(),
        beta_end: schedule.beta_end(),
        by_formula: plain && matches!(schedule.curve(), BetaSchedule::Linear | BetaSchedule::ScaledLinear),
        beta: over(&|t| schedule.beta(t)),
        alpha_bar: over(&|t| schedule.alpha_bar(t)),
        signal: over(&|t| schedule.level(t).signal()),
        sigma: over(&|t| schedule.level(t).sigma()),
        weight_x_0: step(&|posterior| posterior.weight_x_0),
        weight_x_t: step(&|posterior| posterior.weight_x_t),
        beta_tilde: step(&|posterior| posterior.beta_tilde),
        alpha_bar_end: last.alpha_bar,
        signal_end: last.signal(),
        amplification_end: Some(last.ratio()).filter(|ratio| ratio.is_finite()),
        first_below_one,
        alpha_bar_there: first_below_one.map(|t| schedule.alpha_bar(t)),
    }
}
