//! One reverse step at one pixel: each formula with its numbers put in, its result, and where it is computed.
//!
//! ```text
//! x_t → what the network says → x̂₀ and ε̂ → the weights of the step → x_s
//! ```
//!
//! The numbers are those of the step that is computed ([`StepRecord`]): nothing here computes a second time what it shows,
//! but for the differences within a formula.

mod line;
mod sections;
#[cfg(test)]
mod tests;
mod weights;

use ndarray::Array4;
use serde::Serialize;

pub use line::{Line, Section, text};

use crate::denoise::Denoiser;
use crate::diffusion::Level;
use crate::layers::Prepared;
use crate::pipeline::Pipeline;
use crate::sample::{Settings, Transition, draw};
use crate::trace::{Place, StepRecord};
use crate::{Error, Result};

/// Which pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pixel {
    /// From the top, from 0.
    pub row: usize,
    /// From the left, from 0.
    pub column: usize,
    /// 0 in grey pictures; red, green, blue in colour.
    pub channel: usize,
}

/// One step at one pixel.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The step, without its tensors.
    pub step: StepRecord,
    /// The pixel.
    pub pixel: Pixel,
    /// The tensors of the step at the pixel, by their names.
    pub values: Vec<(String, f32)>,
    /// What the network says of the class and of no class, where it was asked for both.
    pub asked: Option<Asked>,
    /// What is computed, in order.
    pub sections: Vec<Section>,
}

/// The two answers of a guided network at one pixel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Asked {
    /// The label of the class.
    pub label: usize,
    /// Of the class.
    pub class: f32,
    /// Of no class.
    pub none: f32,
    /// w of none + w·(class − none).
    pub weight: f64,
}

/// The steps of a picture that leave `t` or come after it, at most `most` of them.
///
/// # Errors
/// A t that the chain does not visit, with the nearest that it does; as [`draw`](fn@draw).
pub fn steps_from(
    model: &Pipeline,
    settings: &Settings,
    index: u64,
    (t, most): (usize, usize),
    mut watch: impl FnMut(usize),
) -> Result<Vec<StepRecord>> {
    let at = place_of(&settings.chain, t)?;
    let mut settings = settings.clone();
    if settings.sampler.is_memoryless() {
        settings.chain.truncate(at + most);
    }
    let mut steps: Vec<StepRecord> = Vec::new();
    draw(model, &settings, index..index + 1, |moment| {
        watch(moment.number);
        // The step before is kept, too: multistep methods look back at it.
        if (at..at + most + 1).contains(&moment.number) {
            steps.push(StepRecord::of(moment));
        }
        Ok(())
    })?;
    Ok(steps)
}

/// The settings whose chain goes from `t` to `t_prev` at once, whatever lies between.
///
/// # Errors
/// A time that is not before t; a sampler in whose chain times are not those of the schedule, or which remembers.
pub fn jumping(model: &Pipeline, mut settings: Settings, (t, t_prev): (usize, usize)) -> Result<Settings> {
    let at = place_of(&settings.chain, t)?;
    if t_prev >= t {
        return Err(Error::value("--t-prev", format!("0 to {}: a step goes towards the image", t - 1), t_prev));
    }
    if !settings.sampler.is_memoryless() {
        let expected =
            format!("no such flag with {}, whose steps depend on those before", settings.sampler.entry().name);
        return Err(Error::value("--t-prev", expected, t_prev));
    }
    let form = settings.sampler.entry().form;
    settings.chain.truncate(at + 1);
    settings.chain[at].to = model.scheduler().schedule.level(t_prev).in_form(form);
    Ok(settings)
}

/// Where the chain leaves t.
fn place_of(chain: &[Transition], t: usize) -> Result<usize> {
    let place = chain.iter().position(|step| step.from.t() == t as f64);
    place.ok_or_else(|| {
        let times: Vec<f64> = chain.iter().map(|step| step.from.t()).collect();
        let (most, least) = (times.iter().copied().fold(0.0, f64::max), times.iter().copied().fold(f64::MAX, f64::min));
        let above = times.iter().copied().filter(|&s| s > t as f64).fold(f64::INFINITY, f64::min);
        let below = times.iter().copied().filter(|&s| s < t as f64).fold(f64::NEG_INFINITY, f64::max);
        let nearest: Vec<String> = [below, above].iter().filter(|s| s.is_finite()).map(|s| s.to_string()).collect();
        let expected = format!(
            "a time that a chain of {} steps visits, {least} to {most}, such as {}; or other --steps",
            chain.len(),
            nearest.join(" or ")
        );
        Error::value("--t", expected, t)
    })
}

impl Explanation {
    /// Explains `step`, which follows on `before`, at a pixel.
    ///
    /// # Errors
    /// A pixel outside of the picture.
    pub fn new(
        model: &Pipeline,
        settings: &Settings,
        index: u64,
        (before, step): (Option<&StepRecord>, &StepRecord),
        pixel: Pixel,
    ) -> Result<Self> {
        let x_t = step.tensor("x_t").expect("every step starts from x_t");
        let (_, h, w, c) = x_t.dim();
        if pixel.row >= h || pixel.column >= w {
            let expected = format!("ROW,COLUMN from 0,0 to {},{}", h - 1, w - 1);
            return Err(Error::value("--pixel", expected, format!("{},{}", pixel.row, pixel.column)));
        }
        if pixel.channel >= c {
            return Err(Error::value("--channel", format!("0 to {}", c - 1), pixel.channel));
        }
        let at = |x: &Array4<f32>| x[[0, pixel.row, pixel.column, pixel.channel]];
        let values = step.tensors.iter().map(|(name, tensor)| (name.clone(), at(tensor))).collect();
        let asked = asked(model, settings, index, step, at)?;
        let mut explanation = Explanation { step: step.clone(), pixel, values, asked, sections: Vec::new() };
        explanation.sections = sections::sections(&explanation, before, model, settings);
        Ok(explanation)
    }

    /// What the network looked at: x_t, but in a second look.
    fn seen(&self) -> f32 {
        let is_second = self.step.tensor("x_seen").is_some();
        self.value(if is_second { "x_seen" } else { "x_t" })
    }

    /// The number of this tensor at the pixel.
    ///
    /// # Panics
    /// If the step has no such tensor.
    fn value(&self, name: &str) -> f32 {
        let found = self.values.iter().find(|(tensor, _)| tensor == name);
        found.unwrap_or_else(|| panic!("explain: the step has no tensor {name}")).1
    }
}

/// The level at which the network looked: one of the step's ends.
fn seen_level(settings: &Settings, step: &StepRecord) -> Level {
    let Transition { from, to } = settings.chain[step.number - 1];
    if step.seen == Place::from(to) { to } else { from }
}

/// Asks the network once more for the class and for no class, where guidance did.
fn asked(
    model: &Pipeline,
    settings: &Settings,
    index: u64,
    step: &StepRecord,
    at: impl Fn(&Array4<f32>) -> f32,
) -> Result<Option<Asked>> {
    let Some(guidance) = settings.guidance_of(model).filter(|_| model.guides()) else { return Ok(None) };
    let class = settings.class.or_else(|| Some((index % model.classes()? as u64) as usize));
    let Some(label) = model.label(class) else { return Ok(None) };
    let level = seen_level(settings, step);
    let weight = guidance.at(level);
    let weights = Prepared::new(model.weights());
    let x = step.tensor("x_seen").or(step.tensor("x_t")).expect("every step starts from x_t");
    let says = |label: usize| Ok(at(&model.denoiser(&weights).predict(x, &[level], Some(&[label]))?.value));
    Ok(Some(Asked { label, class: says(label)?, none: says(guidance.null_class)?, weight }))
}
