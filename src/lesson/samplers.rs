//! Chapter 7: one x_T, many samplers, one step to all.

use ndarray::{Array4, Axis, concatenate};
use serde::Serialize;

use super::chain::{INDEX, start};
use super::numbers::Numbers;
use super::subject::{SEED, Subject};
use crate::Result;
use crate::denoise::{Estimate, check_finite};
use crate::diffusion::{Level, Variance};
use crate::layers::flat;
use crate::numerics::parallel;
use crate::numerics::sum::sum_of_squares;
use crate::pipeline::Scheduler;
use crate::sample::{Sampler, SamplerOptions, Settings, Spacing, Walk, draw};

/// One sampler, in chains of several lengths.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name with what it is told.
    pub name: &'static str,
    /// The steps of each chain.
    pub steps: Vec<usize>,
    /// The pictures at their ends, as bytes (n, h, w, c).
    pub pictures: Numbers,
    /// How far each is from that of the deterministic chain of all steps: the root of the mean square.
    pub distance: Vec<f64>,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub struct Samplers {
    /// The samplers.
    pub rows: Vec<Row>,
    /// Of the deterministic chain: the distance of ten steps, or of as many as there are.
    pub ten: f64,
    /// So many steps those are.
    pub ten_steps: usize,
    /// All steps over those.
    pub fewer: f64,
    /// SNR(T)/SNR(t) at the shown t: the share of its noise's variance that a chain from T without fresh noise still has there,
    /// if x̂₀ is right.
    pub quiet_left: f64,
}

/// Lengths of chains.
const LENGTHS: [usize; 8] = [1, 2, 3, 5, 10, 20, 50, 100];

/// The samplers of the chapter: name, sampler, η, and whether it also takes all T steps.
const SAMPLERS: [(&str, Sampler, f64, bool); 5] = [
    ("DDPM", Sampler::Ddpm, 0.0, false),
    ("DDIM, η = 0", Sampler::Ddim, 0.0, true),
    ("DDIM, η = 0.5", Sampler::Ddim, 0.5, false),
    ("DPM-Solver++ 2M", Sampler::DpmMultistep, 0.0, false),
    (QUIET, Sampler::Ddpm, 0.0, false),
];

/// The name of ancestral sampling with its noise left out, which is no sampler.
const QUIET: &str = "DDPM with z = 0, a mistake";

/// A walk that draws no noise, and sees as the network does.
struct Quiet<'a> {
    subject: &'a Subject<'a>,
    label: Option<usize>,
}

impl Walk<f32> for Quiet<'_> {
    fn see(&mut self, x: &Array4<f32>, level: Level) -> Result<Estimate<f32>> {
        let output = self.subject.see(x, level, self.label)?;
        check_finite(flat(&output.value), level)?;
        Ok(self.subject.estimate(x, level, &output))
    }

    fn noise(&mut self, _: Level) -> Array4<f32> {
        Array4::zeros(start(self.subject, INDEX).dim())
    }
}

/// Pictures of one x_T.
///
/// # Errors
/// Whatever the network or the schedule refuses.
pub fn samplers(subject: &Subject) -> Result<Samplers> {
    let t_max = subject.schedule().t_max();
    let lengths = |all: bool| {
        let mut lengths: Vec<usize> = LENGTHS.into_iter().filter(|&n| n < t_max).collect();
        if all || lengths.is_empty() {
            lengths.push(t_max);
        }
        lengths
    };
    let jobs: Vec<(usize, usize)> = SAMPLERS
        .iter()
        .enumerate()
        .flat_map(|(row, &(_, _, _, all))| lengths(all).into_iter().map(move |n| (row, n)))
        .collect();
    // The longest first: two of them side by side.
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|&job| std::cmp::Reverse(jobs[job].1));
    let drawn = parallel::map(jobs.len(), |place| {
        let (row, n) = jobs[order[place]];
        picture(subject, &SAMPLERS[row], n)
    });
    let mut pictures: Vec<Option<Array4<f32>>> = vec![None; jobs.len()];
    for (place, drawn) in drawn.into_iter().enumerate() {
        pictures[order[place]] = Some(drawn?);
    }
    let pictures: Vec<Array4<f32>> = pictures.into_iter().flatten().collect();
    let reference = jobs.iter().rposition(|&(row, _)| row == 1).expect("the deterministic chain");
    let distance = |job: usize| {
        let difference = &pictures[job] - &pictures[reference];
        (sum_of_squares(flat(&difference)) / difference.len() as f64).sqrt()
    };
    let row = |(row, &(name, ..)): (usize, &(&'static str, Sampler, f64, bool))| {
        let of: Vec<usize> = (0..jobs.len()).filter(|&job| jobs[job].0 == row).collect();
        let views: Vec<_> = of.iter().map(|&job| pictures[job].view()).collect();
        Row {
            name,
            steps: of.iter().map(|&job| jobs[job].1).collect(),
            pictures: Numbers::picture(concatenate(Axis(0), &views).expect("pictures of one shape").view()),
            distance: of.iter().map(|&job| distance(job)).collect(),
        }
    };
    let snr = |t: usize| subject.schedule().snr(t);
    let shown_snr = snr(subject.shown_t());
    let rows: Vec<Row> = SAMPLERS.iter().enumerate().map(row).collect();
    let ten = rows[1].steps.iter().position(|&n| n == 10).unwrap_or(rows[1].steps.len() - 1);
    Ok(Samplers {
        ten: rows[1].distance[ten],
        ten_steps: rows[1].steps[ten],
        fewer: t_max as f64 / rows[1].steps[ten] as f64,
        quiet_left: if shown_snr > 0.0 { snr(t_max) / shown_snr } else { 0.0 },
        rows,
    })
}

/// The picture of the chapter by a chain of `n` steps.
fn picture(subject: &Subject, &(name, sampler, eta, _): &(&str, Sampler, f64, bool), n: usize) -> Result<Array4<f32>> {
    let model = subject.model;
    let options = SamplerOptions { eta, ..SamplerOptions::default() };
    let learned = model.scheduler().options.variance.is_learned();
    let variance = if learned { model.scheduler().options.variance } else { Variance::FixedSmall };
    let options = SamplerOptions { variance, ..options };
    let scheduler =
        Scheduler { sampler, options, spacing: Spacing::Trailing, steps_offset: 0, ..model.scheduler().clone() };
    let class = subject.model.classes().filter(|&classes| classes > 0).map(|classes| INDEX as usize % classes);
    if name == QUIET {
        let mut quiet = Quiet { subject, label: model.label(class) };
        return sampler.run(&scheduler.chain(n)?, start(subject, INDEX), &options, &mut quiet);
    }
    let settings = Settings {
        seed: SEED,
        sampler,
        options,
        chain: scheduler.chain(n)?,
        class,
        guidance: 1.0,
        guidance_interval: None,
    };
    draw(model, &settings, INDEX..INDEX + 1, |_| Ok(()))
}
