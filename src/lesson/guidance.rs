//! Chapter 12: how strongly a class is asked for.

use ndarray::{Array4, Axis, concatenate};
use serde::Serialize;

use super::numbers::Numbers;
use super::subject::{SEED, Subject};
use crate::Result;
use crate::denoise::{Denoiser, Guidance, Guided};
use crate::diffusion::q_sample;
use crate::layers::{flat, shaped};
use crate::pipeline::Scheduler;
use crate::sample::{Sampler, SamplerOptions, Settings, Spacing, draw};

/// The weights of the pictures.
const WEIGHTS: [f64; 4] = [0.0, 1.0, 3.0, 8.0];

/// The weight that the page computes again.
const CHECKED: f64 = 3.0;

/// The most classes that are shown.
const CLASSES: usize = 10;

/// Pictures by weight and class, and what the network says with and without the class.
#[derive(Clone, Debug, Serialize)]
pub struct GuidedPictures {
    /// w of each row.
    pub weights: Vec<f64>,
    /// Classes, from 0.
    pub classes: usize,
    /// Steps of each chain.
    pub steps: usize,
    /// The model's own weight: 1 for none.
    pub own: f64,
    /// The first and the last t at which it is meant; none where it is meant at all.
    pub own_times: Option<(usize, usize)>,
    /// The pictures, as bytes (weights · classes, h, w, c).
    pub pictures: Numbers,
    /// What the network says of the first picture at the shown t, told its class.
    pub with: Numbers,
    /// Told no class.
    pub without: Numbers,
    /// The weight of what follows.
    pub checked: f64,
    /// The guided output at that weight.
    pub mixed: Numbers,
}

/// None where the model was not trained with hidden labels.
///
/// # Errors
/// Whatever the network refuses.
pub fn guidance(subject: &Subject) -> Result<Option<GuidedPictures>> {
    let (Some(classes), Some(null_class)) = (subject.model.classes(), subject.model.null_class()) else {
        return Ok(None);
    };
    let classes = classes.min(CLASSES);
    if classes == 0 {
        return Ok(None);
    }
    let steps = 10.min(subject.schedule().t_max());
    let (sampler, options) = (Sampler::DpmMultistep, SamplerOptions::default());
    let scheduler = Scheduler {
        sampler,
        options,
        spacing: Spacing::Trailing,
        steps_offset: 0,
        ..subject.model.scheduler().clone()
    };
    let chain = scheduler.chain(steps)?;
    let row = |&guidance: &f64| -> Result<Array4<f32>> {
        let settings = Settings {
            seed: SEED,
            sampler,
            options,
            chain: chain.clone(),
            class: None,
            guidance,
            guidance_interval: None,
        };
        draw(subject.model, &settings, 0..classes as u64, |_| Ok(()))
    };
    let rows = WEIGHTS.iter().map(row).collect::<Result<Vec<_>>>()?;
    let views: Vec<_> = rows.iter().map(|row| row.view()).collect();

    let (own, level) = (subject.model.guidance(), subject.schedule().level(subject.shown_t()));
    let (x_0, eps) = (subject.picture(0), subject.noise("eps", 0));
    let x_t = shaped(x_0.dim(), q_sample(level, flat(&x_0), flat(&eps)));
    let label = subject.label(0).filter(|&label| label != null_class).unwrap_or(0);
    let guided = Guided {
        denoiser: subject.network(),
        guidance: Some(Guidance { weight: CHECKED, null_class, interval: None }),
    };
    Ok(Some(GuidedPictures {
        weights: WEIGHTS.to_vec(),
        classes,
        steps,
        own: own.weight,
        own_times: own.interval.and_then(|(least, most)| {
            let schedule = subject.schedule();
            let mut times = (1..=schedule.t_max()).filter(|&t| (least..=most).contains(&schedule.level(t).ratio()));
            let first = times.next()?;
            Some((first, times.next_back().unwrap_or(first)))
        }),
        pictures: Numbers::picture(concatenate(Axis(0), &views).expect("pictures of one shape").view()),
        with: Numbers::image(subject.see(&x_t, level, Some(label))?.value.view()),
        without: Numbers::image(subject.see(&x_t, level, Some(null_class))?.value.view()),
        checked: CHECKED,
        mixed: Numbers::image(guided.predict(&x_t, &[level], Some(&[label]))?.value.view()),
    }))
}
