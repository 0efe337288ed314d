//! One reverse step in numbers.

use ndarray::Array4;
use serde::{Deserialize, Serialize};

use crate::denoise::Sight;
use crate::diffusion::{Level, Posterior};
use crate::sample::Moment;

/// A level in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Paper-time t, which counts from 1; 0 for the clean image.
    pub t: f64,
    /// What the network is fed there: t − 1.
    pub time: f64,
    /// ᾱ, the share of x's variance that is the image's.
    pub alpha_bar: f64,
    /// What x₀ is multiplied by: √ᾱ in a variance-preserving process.
    pub signal: f64,
    /// What the noise is multiplied by: √(1−ᾱ) in a variance-preserving process.
    pub sigma: f64,
    /// λ = ln(signal/sigma); `None` where it is infinite, at the clean image and at noise alone.
    pub lambda: Option<f64>,
}

impl From<Level> for Place {
    fn from(level: Level) -> Self {
        let (signal, sigma) = (level.signal(), level.sigma());
        let lambda = (signal > 0.0 && sigma > 0.0).then(|| level.lambda());
        Place { t: level.t(), time: level.time, alpha_bar: level.alpha_bar, signal, sigma, lambda }
    }
}

/// What a tensor of the step is multiplied by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    /// The tensor: `x_0_hat`, `eps_hat`, `x_t`, `z`, or one of an earlier step.
    pub name: String,
    /// Its weight, in f64; it is rounded once to f32 where the two meet.
    pub weight: f64,
}

/// One reverse step: its levels, its weights, and the tensors that they multiply.
///
/// ```text
/// x_s = Σ_k weight_k · tensor_k
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Which step of the chain, from 1: one for each evaluation of the network.
    pub number: usize,
    /// Where x_t is.
    pub from: Place,
    /// Where it goes.
    pub to: Place,
    /// Where the network looked for it: at x_t's level, but in a second look.
    pub seen: Place,
    /// β of the step, 1 − ᾱ_t/ᾱ_s; `None` where it does not go towards the image.
    pub beta: Option<f64>,
    /// β̃ of the step, β·(1−ᾱ_s)/(1−ᾱ_t) (Ho et al. 2020, Eq. 7).
    pub beta_tilde: Option<f64>,
    /// What is added up, in this order.
    pub terms: Vec<Weight>,
    /// The tensors by their names in the order of their making, each (n, h, w, c): `x_t`, `x_seen` where the network looked at
    /// something else, `output` (what it said, after guidance), `x_0_hat_unclipped`, `x_0_hat`, `eps_hat`, those of other names
    /// that the terms multiply, and `x_s`.
    #[serde(skip)]
    pub tensors: Vec<(String, Array4<f32>)>,
}

impl StepRecord {
    /// The record of a moment.
    pub fn of(moment: &Moment) -> Self {
        let step = moment.step;
        let (from, to) = (step.transition.from, step.transition.to);
        let posterior = (from.alpha_bar < to.alpha_bar).then(|| Posterior::of(from, to));
        let shown = moment.shown;
        let mut tensors = vec![("x_t".to_string(), step.x_t.clone())];
        if shown.x != step.x_t {
            tensors.push(("x_seen".into(), shown.x.clone()));
        }
        let unclipped = Sight::default().estimate(&shown.x, shown.level, &shown.output).x_0_hat;
        tensors.push(("output".into(), shown.output.value.clone()));
        tensors.push(("x_0_hat_unclipped".into(), unclipped));
        tensors.push(("x_0_hat".into(), step.estimate.x_0_hat.clone()));
        tensors.push(("eps_hat".into(), step.estimate.eps_hat.clone()));
        let mut terms = Vec::new();
        for term in step.terms {
            let there = tensors.iter().any(|(name, tensor)| name == term.name && tensor == term.value);
            if !there {
                tensors.retain(|(name, _)| name != term.name);
                tensors.push((term.name.into(), term.value.clone()));
            }
            terms.push(Weight { name: term.name.into(), weight: term.weight });
        }
        tensors.push(("x_s".into(), moment.x_s.clone()));
        StepRecord {
            number: moment.number,
            from: from.into(),
            to: to.into(),
            seen: shown.level.into(),
            beta: posterior.map(|q| q.beta),
            beta_tilde: posterior.map(|q| q.beta_tilde),
            terms,
            tensors,
        }
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&Array4<f32>> {
        self.tensors.iter().find(|(tensor, _)| tensor == name).map(|(_, tensor)| tensor)
    }

    /// The numbers beside the tensors, by their names, in the order of their making.
    pub fn coefficients(&self) -> Vec<(String, f64)> {
        let place = |end: &str, place: &Place| {
            let named = |name: &str, value| Some((format!("{end}.{name}"), value));
            [
                named("t", place.t),
                named("alpha_bar", place.alpha_bar),
                named("signal", place.signal),
                named("sigma", place.sigma),
                place.lambda.and_then(|lambda| named("lambda", lambda)),
            ]
        };
        let of_step = [self.beta.map(|x| ("beta".into(), x)), self.beta_tilde.map(|x| ("beta_tilde".into(), x))];
        let places = place("from", &self.from).into_iter().chain(place("to", &self.to));
        let weights = self.terms.iter().map(|term| Some((format!("weight of {}", term.name), term.weight)));
        places.chain(of_step).chain(weights).flatten().collect()
    }
}
