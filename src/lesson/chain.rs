//! Chapters 3, 4 and 7: one picture on its way from noise, every step as the sum that it is.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ndarray::{Array4, Axis, concatenate};
use serde::Serialize;

use super::numbers::Numbers;
use super::pixel::{PixelStep, tensor};
use super::subject::{SEED, Subject};
use crate::Result;
use crate::diffusion::Variance;
use crate::layers::flat_mut;
use crate::numerics::rng::Stream;
use crate::report::grid;
use crate::sample::{Sampler, SamplerOptions, Settings, Spacing, chain, draw, timesteps};
use crate::trace::StepRecord;

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
    /// Whether the variance of its steps is β̃.
    pub small: bool,
    /// Whether the page can compute x̂₀ from the output: without thresholding.
    pub plain: bool,
    /// x_T.
    pub x_start: Numbers,
    /// The steps, from noise to the image.
    pub steps: Vec<Recorded>,
    /// How many there are.
    pub count: usize,
    /// How far the first of them goes.
    pub stride: usize,
    /// The index of the step that leads from the shown t to t − 1.
    pub shown: usize,
    /// One number of the image in that step.
    pub pixel: PixelStep,
    /// The command that shows that step in a terminal; none where no chain of the model's own spacing has it.
    pub command: Option<String>,
}

/// One step: what `explain` and a trace have of it, and the tensors that the page computes with.
#[derive(Clone, Debug, Serialize)]
pub struct Recorded {
    /// Its levels and the weights of its terms.
    #[serde(flatten)]
    pub step: StepRecord,
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
    let (model, schedule) = (subject.model, subject.schedule());
    let (t_max, shown) = (schedule.t_max(), subject.shown_t());
    let steps = (MOST_NUMBERS / subject.size()).clamp(4, 50).min(t_max);
    let mut times = timesteps(Spacing::Trailing, t_max, steps, 0)?;
    let command = command(subject, (shown, steps), &times);
    times.extend([shown, shown - 1].into_iter().filter(|&t| t > 0));
    times.sort_unstable_by(|a, b| b.cmp(a));
    times.dedup();
    let (scheduler, sampler) = (model.scheduler(), Sampler::Ddpm);
    let options = SamplerOptions { variance: scheduler.options.variance, ..SamplerOptions::default() };
    let class = model.classes().filter(|&classes| classes > 0).map(|classes| INDEX as usize % classes);
    let chain = chain(schedule, &times, sampler, &options)?;
    let settings = Settings { seed: SEED, sampler, options, chain, class, guidance: 1.0, guidance_interval: None };

    let (mut steps, mut of_shown) = (Vec::new(), None);
    draw(model, &settings, INDEX..INDEX + 1, |moment| {
        let step = StepRecord::of(moment);
        if step.from.t == shown as f64 {
            of_shown = Some((PixelStep::of(&step, subject.first_pixel()), still(&step)));
        }
        let [output, z, x_s] = ["output", "z", "x_s"].map(|name| Numbers::image(tensor(&step, name).view()));
        steps.push(Recorded { step, output, z, x_s });
        Ok(())
    })?;
    let (pixel, still) = of_shown.expect("the shown t is among the times");
    let chain = Chain {
        seed: SEED,
        index: INDEX,
        class,
        sampler: sampler.entry().name,
        clip: subject.clip(),
        small: matches!(options.variance, Variance::FixedSmall | Variance::FixedSmallLog),
        plain: scheduler.threshold.is_none() || subject.clip().is_some(),
        x_start: Numbers::image(start(subject, INDEX).view()),
        pixel,
        command,
        count: steps.len(),
        stride: steps.first().map_or(0, |of| (of.step.from.t - of.step.to.t) as usize),
        shown: steps.iter().position(|of| of.step.from.t == shown as f64).expect("the shown t is among the times"),
        steps,
    };
    Ok((chain, still))
}

/// `ancestral explain` of the shown step: the same x_t, for noise goes by t, and the step goes to t − 1 whatever comes next.
fn command(subject: &Subject, (shown, steps): (usize, usize), times: &[usize]) -> Option<String> {
    let (model, scheduler) = (subject.model, subject.model.scheduler());
    if scheduler.spacing != Spacing::Trailing || !times.contains(&shown) {
        return None;
    }
    let other = scheduler.sampler.is_memoryless() && scheduler.sampler != Sampler::Ddpm;
    let sampler = if other { " --sampler ddpm" } else { "" };
    let guidance = if model.guides() { " --guidance 1" } else { "" };
    let before = shown - 1;
    Some(format!("ancestral explain --t {shown} --t-prev {before} --index {INDEX} --steps {steps}{guidance}{sampler}"))
}

/// x_t, x̂₀ and x_s of a step side by side, as base64 of a PNG file.
fn still(step: &StepRecord) -> String {
    let views = ["x_t", "x_0_hat", "x_s"].map(|name| tensor(step, name).view());
    let three = concatenate(Axis(0), &views).expect("three images of one shape");
    let scale = (168 / three.dim().1).max(1);
    BASE64_STANDARD.encode(grid(&three, Some(3), 8, scale).to_png())
}

/// x_T of a picture: that of `sample`.
pub fn start(subject: &Subject, index: u64) -> Array4<f32> {
    let (h, w, c) = subject.shape();
    let mut x = Array4::zeros((1, h, w, c));
    Stream::keyed(SEED, "sample.x_T", &[index]).fill_normal(flat_mut(&mut x));
    x
}
