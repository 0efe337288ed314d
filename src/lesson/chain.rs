//! Chapters 3, 4 and 7: one picture on its way from noise, every step as the sum that it is.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ndarray::{Array4, Axis, concatenate};
use serde::Serialize;

use super::numbers::Numbers;
use super::pixel::PixelStep;
use super::subject::{SEED, Subject};
use crate::Result;
use crate::denoise::{Estimate, check_finite};
use crate::diffusion::Level;
use crate::layers::{flat, flat_mut};
use crate::numerics::rng::Stream;
use crate::report::grid;
use crate::sample::{Sampler, SamplerOptions, Spacing, Step, Transition, Walk, chain, timesteps, weighted_sum};

/// The most numbers of all x of the recorded chain.
const MOST_NUMBERS: usize = 40_000;

/// The picture of the seed that is drawn.
pub const INDEX: u64 = 3;

/// A picture's way from noise.
#[derive(Clone, Debug, Serialize)]
pub struct Chain {
    /// The seed.
    pub seed: u64,
    /// The index of the picture.
    pub index: u64,
    /// The class that was asked for.
    pub class: Option<usize>,
    /// The sampler.
    pub sampler: &'static str,
    /// Whether x̂₀ is clipped, and to what.
    pub clip: Option<f64>,
    /// Whether the page can compute x̂₀ from the output: without thresholding.
    pub plain: bool,
    /// x_T.
    pub x_start: Numbers,
    /// The steps, from noise to the image.
    pub steps: Vec<Recorded>,
    /// The index of the step that leads from the shown t to t − 1.
    pub shown: usize,
    /// One number of the image in that step.
    pub pixel: PixelStep,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct Recorded {
    /// From this t.
    pub t: usize,
    /// To this one.
    pub t_prev: usize,
    /// ᾱ at t.
    pub alpha_bar: f64,
    /// ᾱ at the t that it leads to.
    pub alpha_bar_prev: f64,
    /// √ᾱ_t.
    pub signal: f64,
    /// √(1−ᾱ_t).
    pub sigma: f64,
    /// What each of x_0_hat, x_t and z is multiplied by.
    pub weights: BTreeMap<&'static str, f64>,
    /// The network's output.
    pub output: Numbers,
    /// What stands beside the last weight: the noise; where its weight is 0, as in the last step, it is not added.
    pub z: Numbers,
    /// x after the step.
    pub x_s: Numbers,
}

/// The chain of the page: the shown t and t − 1 among times that are spread evenly; and a picture of the shown step.
///
/// # Errors
/// Whatever the network or the schedule refuses.
pub fn record(subject: &Subject) -> Result<(Chain, String)> {
    let schedule = subject.schedule();
    let (t_max, shown) = (schedule.t_max(), subject.shown_t());
    let steps = (MOST_NUMBERS / subject.size()).clamp(4, 50).min(t_max);
    let mut times = timesteps(Spacing::Trailing, t_max, steps, 0)?;
    times.extend([shown, shown - 1].into_iter().filter(|&t| t > 0));
    times.sort_unstable_by(|a, b| b.cmp(a));
    times.dedup();
    let scheduler = subject.model.scheduler();
    let options = SamplerOptions { variance: scheduler.options.variance, ..SamplerOptions::default() };
    let transitions = chain(schedule, &times, Sampler::Ddpm, &options)?;
    let class = subject.model.classes().filter(|&classes| classes > 0).map(|classes| INDEX as usize % classes);
    let label = subject.model.label(class);
    let mut walk = Recorder { subject, label, index: INDEX, output: None, steps: Vec::new(), shown: None };
    let x_start = start(subject, INDEX);
    Sampler::Ddpm.run(&transitions, x_start.clone(), &options, &mut walk)?;
    let (steps, (pixel, still)) = (walk.steps, walk.shown.expect("the shown t is among the times"));
    let chain = Chain {
        seed: SEED,
        index: INDEX,
        class,
        sampler: Sampler::Ddpm.entry().name,
        clip: scheduler.clip,
        plain: scheduler.threshold.is_none(),
        x_start: Numbers::image(x_start.view()),
        pixel,
        shown: steps.iter().position(|step| step.t == shown).expect("the shown t is among the times"),
        steps,
    };
    Ok((chain, still))
}

/// x_T of a picture: that of `sample`.
pub fn start(subject: &Subject, index: u64) -> Array4<f32> {
    let (h, w, c) = subject.shape();
    let mut x = Array4::zeros((1, h, w, c));
    Stream::keyed(SEED, "sample.x_T", &[index]).fill_normal(flat_mut(&mut x));
    x
}

/// A walk that keeps what it saw and did.
struct Recorder<'a> {
    subject: &'a Subject<'a>,
    label: Option<usize>,
    index: u64,
    output: Option<Array4<f32>>,
    steps: Vec<Recorded>,
    shown: Option<(PixelStep, String)>,
}

impl Walk<f32> for Recorder<'_> {
    fn see(&mut self, x: &Array4<f32>, level: Level) -> Result<Estimate<f32>> {
        let output = self.subject.see(x, level, self.label)?;
        check_finite(flat(&output.value), level)?;
        let estimate = self.subject.estimate(x, level, &output);
        self.output = Some(output.value);
        Ok(estimate)
    }

    fn noise(&mut self, level: Level) -> Array4<f32> {
        let mut z = start(self.subject, self.index);
        Stream::keyed(SEED, "sample.noise", &[self.index, level.t() as u64]).fill_normal(flat_mut(&mut z));
        z
    }

    fn step(&mut self, step: Step<f32>) -> Result<Array4<f32>> {
        let x_s = weighted_sum(step.terms);
        let Transition { from, to } = step.transition;
        let z = step.terms.iter().find(|term| term.name == "z").expect("a step of ddpm has noise").value;
        if from.t() as usize == self.subject.shown_t() {
            let pixel = self.subject.first_pixel();
            let pixel = PixelStep::of(&step, self.output.as_ref().expect("seen before a step"), &x_s, pixel);
            let views = [step.x_t, &step.estimate.x_0_hat, &x_s].map(|x| x.view());
            let three = concatenate(Axis(0), &views).expect("three images of one shape");
            let scale = (168 / three.dim().1).max(1);
            self.shown = Some((pixel, BASE64_STANDARD.encode(grid(&three, Some(3), 8, scale).to_png())));
        }
        self.steps.push(Recorded {
            t: from.t() as usize,
            t_prev: to.t() as usize,
            alpha_bar: from.alpha_bar,
            alpha_bar_prev: to.alpha_bar,
            signal: from.signal(),
            sigma: from.sigma(),
            weights: step.terms.iter().map(|term| (term.name, term.weight)).collect(),
            output: Numbers::image(self.output.take().expect("seen before a step").view()),
            z: Numbers::image(z.view()),
            x_s: Numbers::image(x_s.view()),
        });
        Ok(x_s)
    }
}
