//! Noise: streams, schedules, the forward process.

use ndarray::{Array2, ArrayD, IxDyn};
use serde_json::{Map, Value};

use super::{Request, Results, named};
use crate::Result;
use crate::checkpoint::scheduler;
use crate::diffusion::{Posterior, Schedule};
use crate::golden::precision::Precision;
use crate::layers::embedding::TimeEmbedding;
use crate::layers::{flat, shaped};
use crate::numerics::rng::Stream;
use crate::numerics::{Native, Real, elementary};
use crate::pipeline::Scheduler;

/// The stream of a key: uniforms, and from its start again normals.
pub fn random_stream<F: Precision>(request: &Request) -> Result<Results<F>> {
    let (seed, purpose): (u64, String) = (request.required("seed")?, request.required("purpose")?);
    let indices: Vec<u64> = request.attribute("indices", Vec::new())?;
    let count: usize = request.required("count")?;
    if !(1..=1 << 20).contains(&count) {
        return Err(request.refuse("attribute count", "1 to 1048576", count));
    }
    let stream = || Stream::keyed(seed, &purpose, &indices);
    let mut uniforms = stream();
    let uniform = (0..count).map(|_| F::from_f64(uniforms.uniform())).collect();
    let mut normal = vec![F::zero(); count];
    stream().fill_normal(&mut normal);
    Ok(vec![named("output.uniform", row(uniform)), named("output.normal", row(normal))])
}

/// One axis.
pub fn row<F: Real>(values: Vec<F>) -> ArrayD<F> {
    shaped(IxDyn(&[values.len()]), values)
}

/// Sinusoids of times.
pub fn time_embedding<F: Precision>(request: &Request) -> Result<Results<F>> {
    let embedding = TimeEmbedding {
        dim: request.required("dim")?,
        flip_sin_to_cos: request.attribute("flip_sin_to_cos", true)?,
        freq_shift: request.attribute("freq_shift", 0.0)?,
    };
    let half = (embedding.dim / 2) as f64;
    if !(2..=1 << 20).contains(&embedding.dim) || half <= embedding.freq_shift || !embedding.freq_shift.is_finite() {
        let expected = "2 or more, and half of it more than freq_shift";
        return Err(request.refuse("attribute dim", expected, embedding.dim));
    }
    let t = times(request, "t")?;
    request.check_size("the embedding", &[t.len(), embedding.dim])?;
    Ok(vec![named("output", sinusoids::<F>(&embedding, &t).into_dyn())])
}

/// Times as the network is fed them, integers or not.
pub fn times(request: &Request, name: &str) -> Result<Vec<f64>> {
    match request.array::<f64>(name) {
        Ok(t) => Ok(t.into_iter().collect()),
        Err(_) => Ok(request.integers(name, 0..1 << 24)?.iter().map(|&t| t as f64).collect()),
    }
}

/// The embedding of times. Ours is float64, rounded once; others have frequencies and angles in float32, as the noisy
/// precision has them here.
pub fn sinusoids<F: Precision>(embedding: &TimeEmbedding, t: &[f64]) -> Array2<F> {
    if !F::NOISY {
        return embedding.embed(t);
    }
    let half = embedding.dim / 2;
    let step = F::from_f64(-elementary::ln(10_000.0)) / F::from_f64(half as f64 - embedding.freq_shift);
    let angle = |t: f64, i: usize| (F::exact(t as f32) * (step * F::exact(i as f32)).exp::<Native>()).to_f64();
    Array2::from_shape_fn((t.len(), embedding.dim), |(row, column)| {
        let (part, i) = (column / half, column % half);
        let sine = (part == 0) != embedding.flip_sin_to_cos;
        match part {
            2.. => F::zero(),
            _ if sine => F::from_f64(elementary::sin(angle(t[row], i))),
            _ => F::from_f64(elementary::cos(angle(t[row], i))),
        }
    })
}

/// A scheduler from the fields of its config.
pub fn scheduler_of(request: &Request, class: Option<&str>, fields: &Map<String, Value>) -> Result<Scheduler> {
    let mut fields = fields.clone();
    if let Some(class) = class.or((!fields.contains_key("_class_name")).then_some("DDPMScheduler")) {
        fields.insert("_class_name".into(), class.into());
    }
    scheduler::from_json(&Value::Object(fields).to_string(), request.path())
}

/// The schedule; in the noisy precision its ᾱ is a product of factors 1 − β of that precision.
pub fn tables<F: Precision>(schedule: &Schedule) -> Schedule {
    if !F::NOISY {
        return schedule.clone();
    }
    let mut product = F::one();
    let mut beta = (1..=schedule.t_max()).map(|t| beta(schedule, t));
    schedule.map_alpha_bar(|_| {
        product *= F::one() - beta.next().expect("a beta for each alpha_bar");
        product.to_f64()
    })
}

/// β_t. Where √ᾱ is rescaled it is 1 less a ratio of squares, which loses the digits that a small β has.
fn beta<F: Precision>(exact: &Schedule, t: usize) -> F {
    if !(F::NOISY && exact.zero_terminal_snr()) {
        return F::from_f64(exact.beta(t));
    }
    let root = F::from_f64(exact.alpha(t).sqrt());
    F::one() - root * root
}

/// The posterior of the full chain; others compute it from β itself, and 1 − ᾱ in the precision of their tables.
fn posterior<F: Precision>(exact: &Schedule, schedule: &Schedule, t: usize) -> Posterior {
    let posterior = Posterior::at(schedule, t, t - 1);
    if !F::NOISY {
        return posterior;
    }
    let (beta, before) = (beta::<F>(exact, t).to_f64(), schedule.alpha_bar(t - 1));
    let share = beta / (F::one() - F::from_f64(schedule.alpha_bar(t))).to_f64();
    Posterior { weight_x_0: before.sqrt() * share, beta, beta_tilde: (1.0 - before) * share, ..posterior }
}

pub fn schedule<F: Precision>(request: &Request) -> Result<Results<F>> {
    let exact = scheduler_of(request, None, request.attributes())?.schedule;
    let schedule = tables::<F>(&exact);
    let table = |name: &str, of: &dyn Fn(usize) -> f64| {
        named(&format!("output.{name}"), row((1..=schedule.t_max()).map(|t| F::from_f64(of(t))).collect()))
    };
    let level = |t| schedule.level(t);
    let posterior = |t| posterior::<F>(&exact, &schedule, t);
    Ok(vec![
        table("betas", &|t| beta::<F>(&exact, t).to_f64()),
        table("alphas_cumprod", &|t| schedule.alpha_bar(t)),
        table("sqrt_alphas_cumprod", &|t| level(t).signal()),
        table("sqrt_one_minus_alphas_cumprod", &|t| level(t).sigma()),
        table("posterior_variance", &|t| posterior(t).beta_tilde),
        table("posterior_mean_coef1", &|t| posterior(t).weight_x_0),
        table("posterior_mean_coef2", &|t| posterior(t).weight_x_t),
    ])
}

pub fn q_sample<F: Precision>(request: &Request) -> Result<Results<F>> {
    let schedule = tables::<F>(&scheduler_of(request, None, request.attributes())?.schedule);
    let (x_0, eps) = (request.array::<F>("x_0")?, request.array::<F>("eps")?);
    request.check_shape("input.eps", x_0.shape(), eps.shape())?;
    let n = x_0.shape().first().copied().unwrap_or(1);
    let t = request.one_an_image("t", n, schedule.t_max())?;
    let size = x_0.len() / n;
    let images = flat(&x_0).chunks(size).zip(flat(&eps).chunks(size)).zip(t);
    let x_t = images.flat_map(|((x_0, eps), t)| crate::diffusion::q_sample(schedule.level(t + 1), x_0, eps)).collect();
    Ok(vec![named("output", shaped(x_0.raw_dim(), x_t))])
}
