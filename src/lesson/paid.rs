//! Chapter 13: what a picture costs in bits.

use serde::Serialize;

use super::numbers::Numbers;
use super::subject::Subject;
use crate::Result;
use crate::diffusion::Variance;
use crate::diffusion::likelihood::{Cdf, Reading};
use crate::evaluate::bits::{BitsSettings, Mean, bits_of_denoiser};

/// Pictures that are paid for.
const PICTURES: usize = 2;

/// The variational bound, in bits for each number of a picture.
#[derive(Clone, Debug, Serialize)]
pub struct Paid {
    /// Pictures.
    pub pictures: usize,
    /// All of it.
    pub total: Mean,
    /// What x_T still says of the picture.
    pub prior: Mean,
    /// The KL terms together.
    pub kl: Mean,
    /// The step to the picture.
    pub decoder: Mean,
    /// The term of each t, that of t = 1 being the decoder's.
    pub terms: Numbers,
    /// The first few of them.
    pub first: Vec<f64>,
    /// The t that costs most.
    pub most: usize,
    /// What it costs.
    pub most_bits: f64,
    /// The share of the whole that t up to 10 cost.
    pub first_share: f64,
}

/// What some pictures cost, at every t.
///
/// # Errors
/// Whatever the network refuses.
pub fn paid(subject: &Subject) -> Result<Paid> {
    let schedule = subject.schedule();
    let scheduler = subject.model.scheduler();
    let variance = match scheduler.options.variance {
        Variance::FixedSmallLog => Variance::FixedSmall,
        Variance::FixedLargeLog => Variance::FixedLarge,
        other => other,
    };
    let times = (1..=schedule.t_max()).collect();
    let settings = BitsSettings { images: PICTURES, times, variance, cdf: Cdf::Erf };
    let reading = Reading { prediction: scheduler.prediction, variance, clip: subject.clip(), cdf: Cdf::Erf };
    let label = |class: Option<usize>| subject.label_of(class);
    let bits = bits_of_denoiser(&subject.network(), schedule, subject.data, &label, (&settings, reading), |_| {})?;
    let terms: Vec<f64> = bits.terms.iter().map(|term| term.mean).collect();
    let most = (0..terms.len()).max_by(|&a, &b| terms[a].total_cmp(&terms[b])).expect("a term");
    let first: Vec<f64> = terms.iter().copied().take(10).collect();
    Ok(Paid {
        pictures: bits.images,
        total: bits.total,
        prior: bits.prior,
        kl: bits.kl,
        decoder: bits.decoder,
        first_share: first.iter().sum::<f64>() / bits.total.mean,
        most: most + 1,
        most_bits: terms[most],
        terms: Numbers::f64(&terms),
        first,
    })
}
