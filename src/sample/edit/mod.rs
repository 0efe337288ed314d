//! Pictures that start from pictures.
//!
//! | function | what it does | source |
//! |---|---|---|
//! | [`renoise`] | a picture is noised to the level t and drawn from there: image to image | Meng et al. 2022, SDEdit |
//! | [`invert`], [`draw_from`] | from a picture back to its noise, and down again | Song et al. 2021, § 4.3 |
//! | [`slerp`] | noise between the noises of two pictures | Song et al. 2021, Eq. 67 (§ D.5) |
//! | [`inpaint`] | a part of a picture is drawn anew to fit the rest | Lugmayr et al. 2022, RePaint |
//!
//! How far back a picture goes is the length of the chain: [`Scheduler::last_of_chain`] keeps the last steps of one.
//!
//! Whatever the batch, a result depends on its picture, its index and its class alone. [`Settings::class`] is here the class of
//! every picture, and `None` asks for no class: a picture has its own.
//!
//! [`Scheduler::last_of_chain`]: crate::pipeline::Scheduler::last_of_chain

mod repaint;
mod slerp;

use ndarray::{Array3, Array4};

use self::repaint::{Known, repaint};
use super::draw::{Walkers, first_noise, first_x, times, walk};
use super::{Choice, Moment, Sampler, SamplerOptions, Settings};
use crate::diffusion::{Level, Prediction, q_sample};
use crate::layers::{flat, shaped};
use crate::pipeline::Pipeline;
use crate::{Error, Result};

pub use repaint::{Resampling, evaluations};
pub use slerp::slerp;

/// Pictures, and the index that keys the noise of each: the same picture may stand there with several.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// Shape (n, h, w, c), in [−1, 1]; of [`draw_from`] noise, as x_T is.
    pub pictures: &'a Array4<f32>,
    /// Shape (n).
    pub indices: &'a [u64],
}

impl Sources<'_> {
    /// Refuses pictures that are not the model's, and settings that it cannot follow.
    fn check(&self, model: &Pipeline, settings: &Settings) -> Result<()> {
        settings.check(model, self.indices.len())?;
        let (h, w, c) = model.image_shape()?;
        let expected = (self.indices.len(), h, w, c);
        if self.pictures.dim() != expected {
            let found = format!("{:?}", self.pictures.dim());
            return Err(Error::value("pictures", format!("{expected:?}, one for each index"), found));
        }
        if let Some(x) = self.pictures.iter().find(|x| !x.is_finite()) {
            return Err(Error::value("pictures", "finite numbers", x));
        }
        if settings.class.is_none() && model.classes().is_some() && model.null_class().is_none() {
            let expected = "the class of the picture: the model was not trained with hidden labels (label_dropout)";
            return Err(Error::value("class", expected, "none"));
        }
        Ok(())
    }

    fn walkers(&self, model: &Pipeline, settings: &Settings) -> Walkers {
        let labels = self.indices.iter().map(|_| model.label(settings.class)).collect();
        Walkers { indices: self.indices.to_vec(), labels }
    }

    /// x at a level, in the noise that a drawing of these indices starts from.
    fn noised(&self, level: Level, seed: u64) -> Array4<f32> {
        let (_, h, w, c) = self.pictures.dim();
        let eps = first_noise(seed, self.indices, (h, w, c));
        shaped(eps.dim(), q_sample(level, flat(self.pictures), flat(&eps)))
    }
}

/// Noises pictures to the first level t of the chain and draws from there (Meng et al. 2022, Algorithm 1): what t still shows of
/// a picture is kept, what is lost in its noise is the model's.
///
/// ```text
/// x_t = signal_t·x₀ + sigma_t·ε
/// ```
///
/// ε is the noise x_T of the index, so a chain that starts from noise alone draws what [`draw`](super::draw()) draws.
///
/// # Errors
/// Pictures of another shape than the model's, or not finite; a class that is needed and missing; as [`draw`](super::draw()).
pub fn renoise(
    model: &Pipeline,
    settings: &Settings,
    sources: Sources,
    watch: impl FnMut(&Moment) -> Result<()>,
) -> Result<Array4<f32>> {
    sources.check(model, settings)?;
    let x_t = sources.noised(settings.chain[0].from, settings.seed);
    run(model, settings, sources, x_t, watch)
}

/// Walks from noise, whose variance is 1 (at the variance-preserving level of the chain's first ratio), down the chain.
///
/// # Errors
/// As [`renoise`].
pub fn draw_from(
    model: &Pipeline,
    settings: &Settings,
    sources: Sources,
    watch: impl FnMut(&Moment) -> Result<()>,
) -> Result<Array4<f32>> {
    sources.check(model, settings)?;
    let x_t = times(sources.pictures.clone(), settings.chain[0].from.scale());
    run(model, settings, sources, x_t, watch)
}

/// Walks from pictures up to their noise, whose chain is that of [`Sampler::DdimInverse`]; [`draw_from`] there, with the same
/// class and guidance, returns but for an error of first order in the length of a step.
///
/// # Errors
/// Another sampler; as [`renoise`].
pub fn invert(
    model: &Pipeline,
    settings: &Settings,
    sources: Sources,
    watch: impl FnMut(&Moment) -> Result<()>,
) -> Result<Array4<f32>> {
    if settings.sampler != Sampler::DdimInverse {
        return Err(Error::value("sampler", "ddim-inverse, which walks up", settings.sampler.entry().name));
    }
    sources.check(model, settings)?;
    if settings.chain[0].from.is_clean() && model.scheduler().prediction == Prediction::Sample {
        let expected = "epsilon or v_prediction: what x_0 is says nothing of the noise that a clean picture goes to";
        return Err(Error::value("prediction_type", expected, "sample"));
    }
    run(model, settings, sources, sources.pictures.clone(), watch)
}

/// What the part of a picture that is drawn anew starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Noise alone, x_T.
    Noise,
    /// What stands there in the picture, noised as in [`renoise`].
    Picture,
}

/// Draws the part of pictures anew that is not known, by RePaint along a chain that may go up again ([`Resampling::chain`]). The
/// known part comes back to the bit.
///
/// # Shapes
/// `known`: (h, w, c), true where a picture is kept.
///
/// # Errors
/// A sampler that remembers its last steps, for which going up makes no sense; a mask of another shape than one picture; as
/// [`renoise`].
pub fn inpaint(
    model: &Pipeline,
    settings: &Settings,
    sources: Sources,
    known: &Array3<bool>,
    start: Start,
    watch: impl FnMut(&Moment) -> Result<()>,
) -> Result<Array4<f32>> {
    sources.check(model, settings)?;
    let (h, w, c) = model.image_shape()?;
    if known.dim() != (h, w, c) {
        return Err(Error::value("mask", format!("{:?}", (h, w, c)), format!("{:?}", known.dim())));
    }
    if !settings.sampler.is_memoryless() {
        return Err(Error::value("sampler", Sampler::memoryless_names(), settings.sampler.entry().name));
    }
    let x_t = match start {
        Start::Noise => first_x(model, settings, sources.indices)?,
        Start::Picture => sources.noised(settings.chain[0].from, settings.seed),
    };
    let known = Known { pictures: sources.pictures, mask: known };
    walk(model, settings, sources.walkers(model, settings), watch, |walk| {
        repaint(&settings.chain, x_t, known, (settings.sampler, &settings.options), walk)
    })
}

/// Whether the same noise gives the same picture, as a way back from a picture to its noise needs.
pub fn is_deterministic(sampler: Sampler, options: &SamplerOptions) -> bool {
    let stochastic = sampler.takes(Choice::Algorithm) && options.algorithm.is_stochastic();
    let draws = sampler.takes(Choice::Eta) && options.eta != 0.0;
    !(stochastic || draws || matches!(sampler, Sampler::Ddpm | Sampler::EulerAncestral))
}

fn run(
    model: &Pipeline,
    settings: &Settings,
    sources: Sources,
    x: Array4<f32>,
    watch: impl FnMut(&Moment) -> Result<()>,
) -> Result<Array4<f32>> {
    walk(model, settings, sources.walkers(model, settings), watch, |walk| {
        settings.sampler.run(&settings.chain, x, &settings.options, walk)
    })
}
