//! Sampling, Algorithm 2 of Ho et al. 2020, with any sampler.
//!
//! ```text
//! x_T ~ N(0, I)
//! for t = T, ..., 1 (or the steps of a shorter chain)
//!   z ~ N(0, I)
//!   x_{t−1} = the sampler's step from x_t, what is seen in it, and z
//! return x_0
//! ```
//!
//! x_T is multiplied by the first level's [`scale`](crate::diffusion::Level::scale), 1 in a variance-preserving chain: all
//! samplers begin with the same picture (but see [`FirstNoise`]).
//!
//! Picture i of a seed has its own streams: x_T is `(seed, "sample.x_T", [i])` and z is `(seed, "sample.noise", [i, t])`, or
//! `[i, t, visit]` where a chain comes back to t, visit counting from 1 for the second time; noise that [`edit`](super::edit)
//! adds to what was seen before is `(seed, "sample.renoise", ...)`, keyed alike. So the picture is the same alone or among
//! others, whatever the batch and the threads.

use std::collections::BTreeMap;
use std::ops::Range;

use ndarray::{Array4, Axis, concatenate};

use super::{Entry, FirstNoise, Sampler, SamplerOptions, Step, Transition, Walk, weighted_sum};
use crate::denoise::{Denoiser, Estimate, Guidance, Guided, Output, Sight, Steered, check_finite};
use crate::diffusion::{Form, Level};
use crate::layers::{Prepared, flat, flat_mut};
use crate::numerics::rng::Stream;
use crate::numerics::{environment, parallel};
use crate::pipeline::Pipeline;
use crate::{Error, Result};

/// Pictures that one task takes through the network together; fewer or more give the same bits.
const MICROBATCH: usize = 4;

/// The most pictures of one call: they are in memory together.
const MOST: usize = 4096;

/// What pictures to draw, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The seed.
    pub seed: u64,
    /// The rule of a step.
    pub sampler: Sampler,
    /// What the sampler is told beside.
    pub options: SamplerOptions,
    /// The levels visited: [`Scheduler::chain`](crate::pipeline::Scheduler::chain) of some steps, or [`chain`](fn@super::chain) of
    /// times of one's own.
    pub chain: Vec<Transition>,
    /// The class of every picture; `None` takes the classes in turn, picture i getting class i mod classes.
    pub class: Option<usize>,
    /// w of ε̂ = ε̂(no class) + w (ε̂(class) − ε̂(no class)), or one less (Ho and Salimans 2022, w of their Eq. 6): as
    /// `options.conventions.guidance_of_none` says which w is no guidance.
    pub guidance: f64,
    /// The least and the largest sigma/signal at which there is guidance (Kynkäänniemi et al. 2024); `None` is everywhere.
    pub guidance_interval: Option<(f64, f64)>,
}

impl Settings {
    /// Those that a model was published with: its sampler with that sampler's usual number of steps, all classes in turn,
    /// its usual guidance, and seed 42.
    ///
    /// # Errors
    /// A scheduler whose steps cannot be spread.
    pub fn new(model: &Pipeline) -> Result<Self> {
        let scheduler = model.scheduler();
        Ok(Settings {
            seed: 42,
            sampler: scheduler.sampler,
            options: scheduler.options,
            chain: scheduler.chain(scheduler.usual_steps())?,
            class: None,
            guidance: model.guidance().weight + (scheduler.options.conventions.guidance_of_none - 1.0),
            guidance_interval: model.guidance().interval,
        })
    }

    /// How pictures of this model are guided; `None` where it knows no label for "no class".
    pub fn guidance_of(&self, model: &Pipeline) -> Option<Guidance> {
        let weight = self.guidance + (1.0 - self.options.conventions.guidance_of_none);
        let interval = self.guidance_interval;
        model.null_class().map(|null_class| Guidance { weight, null_class, interval })
    }

    pub(super) fn check(&self, model: &Pipeline, count: usize) -> Result<()> {
        if !(1..=MOST).contains(&count) {
            return Err(Error::value("indices", format!("1 to {MOST} pictures at a time"), count));
        }
        if self.chain.is_empty() {
            return Err(Error::value("chain", "at least one transition", "none"));
        }
        let Entry { name, form, .. } = self.sampler.entry();
        let fits = |level: Level| (level.in_form(form).scale() - level.scale()).abs() <= 1e-9 * level.scale();
        if let Some(step) = self.chain.iter().find(|step| !fits(step.from) || !fits(step.to)) {
            let expected = format!("levels of the sampler {name} ({form:?})");
            return Err(Error::value("chain", expected, format!("another form at t = {}", step.from.t())));
        }
        if !self.guidance.is_finite() {
            return Err(Error::value("guidance", "a finite number", self.guidance));
        }
        if let Some((least, most)) = self.guidance_interval.filter(|(least, most)| !(0.0 <= *least && least < most)) {
            let expected = "two numbers from 0 on, the least sigma/signal and a larger one";
            return Err(Error::value("guidance_interval", expected, format!("{least} and {most}")));
        }
        let none = self.options.conventions.guidance_of_none;
        if self.guidance != none && !model.guides() {
            let expected = format!("{none}: the model was not trained with hidden labels (label_dropout)");
            return Err(Error::value("guidance", expected, self.guidance));
        }
        match (model.classes(), self.class) {
            (None, Some(class)) => Err(Error::value("class", "none: the model is not conditional", class)),
            (Some(0), _) => Err(Error::value("num_class_embeds", "at least one class beside the one for none", 1)),
            (Some(real), Some(class)) if class >= real => {
                Err(Error::value("class", format!("0 to {}", real - 1), class))
            }
            _ => Ok(()),
        }
    }
}

/// The pictures of a batch while noise leaves them.
#[derive(Debug)]
pub struct Moment<'a> {
    /// Steps taken, from 1.
    pub number: usize,
    /// The step: where from, where to, what was seen, and what was added up.
    pub step: &'a Step<'a, f32>,
    /// What the denoiser was last shown, and what it said of it.
    pub shown: &'a Shown,
    /// The pictures after it.
    pub x_s: &'a Array4<f32>,
}

/// What a denoiser was shown, and what it said of it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The pictures: x_t, but where a method looks from somewhere else for the same step.
    pub x: Array4<f32>,
    /// Their level.
    pub level: Level,
    /// What was said in the denoiser's own words: after guidance, before clipping.
    pub output: Output<f32>,
}

/// Draws the pictures with these indices, 1 to 4096 at a time, calling `watch` at each step of the chain.
///
/// # Shapes
/// Returns (indices, h, w, c), in [−1, 1] where the model's scheduler clips.
///
/// # Errors
/// Settings that the model cannot follow: no pictures or too many, no transition, an unknown class,
/// guidance without a label for "no class", η outside of [0, 1]; a prediction that is not finite; a thread whose
/// arithmetic is not the contract's; whatever `watch` refuses.
pub fn draw(
    model: &Pipeline,
    settings: &Settings,
    indices: Range<u64>,
    watch: impl FnMut(&Moment) -> Result<()>,
) -> Result<Array4<f32>> {
    let indices: Vec<u64> = indices.take(MOST + 1).collect();
    settings.check(model, indices.len())?;
    let x_t = first_x(model, settings, &indices)?;
    let class_of = |i: u64| Some(settings.class.unwrap_or((i % model.classes()? as u64) as usize));
    let labels = indices.iter().map(|&i| model.label(class_of(i))).collect();
    walk(model, settings, Walkers { indices, labels }, watch, |walk| {
        settings.sampler.run(&settings.chain, x_t, &settings.options, walk)
    })
}

/// x_T of pictures of a seed, standard normal, shape (indices, h, w, c).
pub(super) fn first_noise(seed: u64, indices: &[u64], (h, w, c): (usize, usize, usize)) -> Array4<f32> {
    let mut x_t = Array4::zeros((indices.len(), h, w, c));
    for (&i, image) in indices.iter().zip(flat_mut(&mut x_t).chunks_mut(h * w * c)) {
        Stream::keyed(seed, "sample.x_T", &[i]).fill_normal(image);
    }
    x_t
}

/// What a chain from noise begins with: x_T times what its first level has for noise.
pub(super) fn first_x(model: &Pipeline, settings: &Settings, indices: &[u64]) -> Result<Array4<f32>> {
    let level = settings.chain[0].from;
    let explodes = settings.sampler.entry().form == Form::VarianceExploding;
    let factor = match settings.options.conventions.first_noise {
        FirstNoise::Alone if explodes => level.sigma(),
        FirstNoise::BySpacing if explodes && model.scheduler().first_noise_is_alone(settings.sampler) => level.sigma(),
        _ => level.scale(),
    };
    Ok(times(first_noise(settings.seed, indices, model.image_shape()?), factor))
}

/// x times a factor, rounded once.
pub(super) fn times(mut x: Array4<f32>, factor: f64) -> Array4<f32> {
    if factor != 1.0 {
        x.mapv_inplace(|x| x * factor as f32);
    }
    x
}

/// Whose noise and whose classes pictures have that walk together.
pub(super) struct Walkers {
    /// The index of each picture, which its noise is keyed by.
    pub indices: Vec<u64>,
    /// What the network is told of each; `None` where it is told nothing.
    pub labels: Option<Vec<usize>>,
}

/// Hands `run` the walk of these pictures under settings that were checked.
pub(super) fn walk(
    model: &Pipeline,
    settings: &Settings,
    Walkers { indices, labels }: Walkers,
    watch: impl FnMut(&Moment) -> Result<()>,
    run: impl FnOnce(&mut dyn Walk<f32>) -> Result<Array4<f32>>,
) -> Result<Array4<f32>> {
    environment::check_current()?;
    let (h, w, c) = model.image_shape()?;
    let weights = Prepared::new(model.weights());
    let guided = Guided { denoiser: model.denoiser(&weights), guidance: settings.guidance_of(model) };
    let by = model.classifier().map(|classifier| (classifier, classifier.scale()));
    let denoiser = Steered { denoiser: guided, by, told: model.told() };
    let eps_from_clipped_x_0 = settings.options.conventions.eps_from_clipped_x_0;
    let sight = Sight { eps_from_clipped_x_0, ..model.scheduler().sight() };
    let dim = (indices.len(), h, w, c);
    let (visits, number, seed, shown) = (BTreeMap::new(), 0, settings.seed, None);
    run(&mut Drawing { denoiser: &denoiser, sight, labels, seed, indices, dim, visits, number, shown, watch })
}

/// Pictures on their way, as their sampler knows them.
struct Drawing<'a, W> {
    denoiser: &'a dyn Denoiser<f32>,
    sight: Sight,
    labels: Option<Vec<usize>>,
    seed: u64,
    indices: Vec<u64>,
    dim: (usize, usize, usize, usize),
    /// How often each time has been asked for noise, by what for and the key of its noise.
    visits: BTreeMap<(&'static str, u64), u64>,
    number: usize,
    shown: Option<Shown>,
    watch: W,
}

impl<W> Drawing<'_, W> {
    /// Noise of a purpose at a level, new at each visit.
    fn drawn(&mut self, purpose: &'static str, level: Level) -> Array4<f32> {
        // Paper-time where it is whole, as all times of a schedule are.
        let t = if level.t().fract() == 0.0 { level.t() as u64 } else { level.time.to_bits() };
        let visit = self.visits.entry((purpose, t)).or_default();
        let key = |i: u64| if *visit == 0 { vec![i, t] } else { vec![i, t, *visit] };
        let mut z = Array4::zeros(self.dim);
        let size = z.len() / self.indices.len();
        let images: Vec<_> = self.indices.iter().zip(flat_mut(&mut z).chunks_mut(size)).collect();
        let fill = |(&i, z): (&u64, &mut [f32])| Stream::keyed(self.seed, purpose, &key(i)).fill_normal(z);
        // Few pictures are drawn before other threads would wake up.
        if images.len() <= MICROBATCH {
            images.into_iter().for_each(fill)
        } else {
            parallel::deal(images, fill)
        }
        *visit += 1;
        z
    }
}

impl<W: FnMut(&Moment) -> Result<()>> Walk<f32> for Drawing<'_, W> {
    fn see(&mut self, x: &Array4<f32>, level: Level) -> Result<Estimate<f32>> {
        let parts = parallel::ranges(self.indices.len(), MICROBATCH);
        let (denoiser, sight, all_labels) = (self.denoiser, self.sight, &self.labels);
        let seen = parallel::map(parts.len(), |part| {
            let range = parts[part].clone();
            let x = x.slice_axis(Axis(0), range.clone().into()).to_owned();
            let labels = all_labels.as_ref().map(|labels| &labels[range.clone()]);
            let output = denoiser.predict(&x, &vec![level; range.len()], labels)?;
            check_finite(flat(&output.value), level)?;
            Ok((sight.estimate(&x, level, &output), output))
        });
        let seen = seen.into_iter().collect::<Result<Vec<_>>>()?;
        type Part = (Estimate<f32>, Output<f32>);
        let join = |of: fn(&Part) -> Option<&Array4<f32>>| {
            let views: Option<Vec<_>> = seen.iter().map(|part| of(part).map(|x| x.view())).collect();
            views.map(|views| concatenate(Axis(0), &views).expect("parts of one shape"))
        };
        let whole = "each part has images";
        let (x_0_hat, eps_hat) = (join(|(e, _)| Some(&e.x_0_hat)), join(|(e, _)| Some(&e.eps_hat)));
        let log_variance = join(|(e, _)| e.log_variance.as_ref());
        let value = join(|(_, said)| Some(&said.value)).expect(whole);
        let prediction = seen[0].1.prediction;
        let output = Output { prediction, value, log_variance: log_variance.clone() };
        self.shown = Some(Shown { x: x.clone(), level, output });
        Ok(Estimate { x_0_hat: x_0_hat.expect(whole), eps_hat: eps_hat.expect(whole), prediction, log_variance })
    }

    fn noise(&mut self, level: Level) -> Array4<f32> {
        self.drawn("sample.noise", level)
    }

    fn renoise(&mut self, level: Level) -> Array4<f32> {
        self.drawn("sample.renoise", level)
    }

    fn step(&mut self, step: Step<f32>) -> Result<Array4<f32>> {
        let x_s = weighted_sum(step.terms);
        check_finite(flat(&x_s), step.transition.from)?;
        check_finite(flat(&step.estimate.x_0_hat), step.transition.from)?;
        self.number += 1;
        let shown = self.shown.as_ref().expect("a sampler sees before it steps");
        (self.watch)(&Moment { number: self.number, step: &step, shown, x_s: &x_s })?;
        Ok(x_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::Prediction;

    #[test]
    fn noise_of_a_second_visit_is_new_and_that_of_the_first_is_keyed_by_picture_and_time() {
        let denoiser =
            |x: &Array4<f32>, _: &[Level], _: Option<&[usize]>| Ok(Output::new(Prediction::Sample, x.clone()));
        let mut drawing = Drawing {
            denoiser: &denoiser,
            sight: Sight::default(),
            labels: None,
            seed: 7,
            indices: vec![3, 9],
            dim: (2, 2, 3, 1),
            visits: BTreeMap::new(),
            number: 0,
            shown: None,
            watch: |_: &Moment| Ok(()),
        };
        let level = |t: f64| Level::of_alpha_bar(t - 1.0, 0.5);
        let [first, other, second] = [600.0, 599.0, 600.0].map(|t| drawing.noise(level(t)));
        let keyed = |key: &[u64]| {
            let mut z = vec![0.0f32; 6];
            Stream::keyed(7, "sample.noise", key).fill_normal(&mut z);
            z
        };
        assert_eq!(flat(&first), [keyed(&[3, 600]), keyed(&[9, 600])].concat());
        assert_eq!(flat(&other)[..6], keyed(&[3, 599]));
        assert_eq!(flat(&second), [keyed(&[3, 600, 1]), keyed(&[9, 600, 1])].concat());
    }
}
