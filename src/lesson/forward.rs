//! Chapters 0 to 3: pictures in noise that is known, and what the network makes of it.

use serde::Serialize;

use super::numbers::Numbers;
use super::subject::Subject;
use crate::Result;
use crate::diffusion::q_sample;
use crate::layers::{flat, shaped};
use crate::numerics::sum::sum_by;

/// Pictures of the page.
const PICTURES: usize = 4;

/// Pictures whose noise is measured.
const MEASURED: usize = 32;

/// A picture, its noise, and what is seen in both together.
#[derive(Clone, Debug, Serialize)]
pub struct Noised {
    /// Its index among the pictures that the model was not trained on.
    pub index: usize,
    /// What the network is told of it.
    pub label: Option<usize>,
    /// The picture, in [-1, 1].
    pub x_0: Numbers,
    /// The noise.
    pub eps: Numbers,
    /// x at the shown t.
    pub x_t: Numbers,
    /// What the network said at some t.
    pub seen: Vec<Seen>,
}

/// What the network said at one t.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// The time.
    pub t: usize,
    /// The network's output, as it is.
    pub output: Numbers,
}

/// One step of the forward process of the first picture, with the noise of that step alone.
#[derive(Clone, Debug, Serialize)]
pub struct StepNoise {
    /// The step leads to this t.
    pub t: usize,
    /// What is multiplied by x before the step: √α_t.
    pub root_alpha: f64,
    /// The deviation of the noise that the step adds: √β_t.
    pub root_beta: f64,
    /// The deviation of all noise in x_t: √(1−ᾱ_t).
    pub sigma: f64,
    /// Its square.
    pub variance: f64,
    /// √β_t/√(1−ᾱ_t): the correlation of a step's noise with all of it, and the factor from one to the other.
    pub correlation: f64,
    /// β_t/(1−ᾱ_t): the most of the step's noise, in variance, that can be known from x_t.
    pub share: f64,
    /// √ᾱ_{t−1}: what is left of the picture before the step.
    pub signal_before: f64,
    /// √ᾱ_{t−1}·β_t/(1−ᾱ_t): what x₀ counts in one step.
    pub weight_x_0: f64,
    /// Pictures that the rest was measured on.
    pub pictures: usize,
    /// The correlation that they have.
    pub measured_correlation: f64,
    /// 1 − Σ(z − √β/σ ε̂)²/Σz²: how much of the step's noise the network's ε̂ explains.
    pub measured_share: f64,
    /// 1 − Σ(ε − ε̂)²/Σε²: how much of all noise it explains.
    pub measured_r2: f64,
    /// Of the first picture: x before the step.
    pub x_before: Numbers,
    /// The noise of the step, z.
    pub z: Numbers,
    /// x after the step.
    pub x_after: Numbers,
    /// All noise in it.
    pub eps: Numbers,
    /// The network's ε̂ of it.
    pub eps_hat: Numbers,
}

/// The pictures of the page in their noise.
///
/// # Errors
/// Whatever the network refuses.
pub fn pictures(subject: &Subject) -> Result<Vec<Noised>> {
    let schedule = subject.schedule();
    let count = PICTURES.min(subject.data.len());
    let of = |i: usize| {
        let (x_0, eps) = (subject.picture(i), subject.noise("eps", i as u64));
        let at = |t: usize| shaped(x_0.dim(), q_sample(schedule.level(t), flat(&x_0), flat(&eps)));
        let label = subject.label(i);
        let see = |&t: &usize| {
            let output = subject.see(&at(t), schedule.level(t), label)?;
            Ok(Seen { t, output: Numbers::image(output.value.view()) })
        };
        Ok(Noised {
            index: i,
            label,
            x_t: Numbers::image(at(subject.shown_t()).view()),
            seen: subject.some_times().iter().map(see).collect::<Result<_>>()?,
            x_0: Numbers::image(x_0.view()),
            eps: Numbers::image(eps.view()),
        })
    };
    (0..count).map(of).collect()
}

/// The last step of the forward process before the shown t, and how much of its noise can be known.
///
/// # Errors
/// Whatever the network refuses.
pub fn step_noise(subject: &Subject) -> Result<StepNoise> {
    let (schedule, t) = (subject.schedule(), subject.shown_t());
    let (before, level) = (schedule.level(t - 1), schedule.level(t));
    let (alpha_bar, beta) = (level.alpha_bar, schedule.beta(t));
    let (root_alpha, root_beta) = (schedule.alpha(t).sqrt(), beta.sqrt());
    let correlation = root_beta / level.sigma();
    let pictures = MEASURED.min(subject.data.len());
    let (mut all, mut shown) = (Vec::new(), None);
    for i in 0..pictures {
        let (x_0, eps, z) = (subject.picture(i), subject.noise("before", i as u64), subject.noise("step", i as u64));
        let x_before = shaped(x_0.dim(), q_sample(before, flat(&x_0), flat(&eps)));
        let (keep, add) = (root_alpha as f32, root_beta as f32);
        let mut x_after = x_before.clone();
        x_after.zip_mut_with(&z, |x, &z| *x = keep * *x + add * z);
        let mut eps = x_after.clone();
        let (signal, sigma) = (level.signal(), level.sigma());
        eps.zip_mut_with(&x_0, |x, &x_0| *x = ((*x as f64 - signal * x_0 as f64) / sigma) as f32);
        let output = subject.see(&x_after, level, subject.label(i))?;
        let hat = output.prediction.eps_hat(level.marginal(), flat(&x_after), flat(&output.value));
        all.extend((0..hat.len()).map(|k| [flat(&z)[k] as f64, flat(&eps)[k] as f64, hat[k] as f64]));
        if i == 0 {
            let hat = Numbers::image(shaped(x_0.dim(), hat).view());
            shown = Some([&x_before, &z, &x_after, &eps].map(|x| Numbers::image(x.view())).into_iter().chain([hat]));
        }
    }
    let mut shown = shown.into_iter().flatten();
    let mut next = || shown.next().expect("five arrays of the first picture");
    let over = |of: fn([f64; 3]) -> f64| sum_by(&all, of);
    let [z_squared, eps_squared] = [over(|[z, ..]| z * z), over(|[_, eps, _]| eps * eps)];
    let missed = sum_by(&all, |[z, _, hat]| (z - correlation * hat) * (z - correlation * hat));
    Ok(StepNoise {
        t,
        root_alpha,
        root_beta,
        sigma: level.sigma(),
        variance: 1.0 - alpha_bar,
        correlation,
        share: beta / (1.0 - alpha_bar),
        signal_before: before.signal(),
        weight_x_0: crate::diffusion::Posterior::at(schedule, t, t - 1).weight_x_0,
        pictures,
        measured_correlation: over(|[z, eps, _]| z * eps) / (z_squared * eps_squared).sqrt(),
        measured_share: 1.0 - missed / z_squared,
        measured_r2: 1.0 - over(|[_, eps, hat]| (eps - hat) * (eps - hat)) / eps_squared,
        x_before: next(),
        z: next(),
        x_after: next(),
        eps: next(),
        eps_hat: next(),
    })
}
