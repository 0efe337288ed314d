//! Noise: streams, schedules, the forward process, single reverse steps and whole chains.

use ndarray::{Array2, Array4, ArrayD, Axis, IxDyn};
use serde_json::{Map, Value, json};

use super::{Request, Results, named};
use crate::Result;
use crate::checkpoint::scheduler;
use crate::denoise::{Estimate, Output};
use crate::diffusion::{Level, Posterior, Schedule};
use crate::golden::precision::Precision;
use crate::layers::embedding::TimeEmbedding;
use crate::layers::{flat, shaped};
use crate::numerics::rng::Stream;
use crate::numerics::{Native, Real, elementary};
use crate::pipeline::Scheduler;
use crate::sample::{Choice, Conventions, Sampler, Step, Transition, Walk, weighted_sum};

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
    let mut beta = (1..=schedule.t_max()).map(|t| F::from_f64(schedule.beta(t)));
    schedule.map_alpha_bar(|_| {
        product *= F::one() - beta.next().expect("a beta for each alpha_bar");
        product.to_f64()
    })
}

/// The posterior of the full chain; others compute it from β itself, and 1 − ᾱ in the precision of their tables.
fn posterior<F: Precision>(exact: &Schedule, schedule: &Schedule, t: usize) -> Posterior {
    let posterior = Posterior::at(schedule, t, t - 1);
    if !F::NOISY {
        return posterior;
    }
    let (beta, before) = (F::from_f64(exact.beta(t)).to_f64(), schedule.alpha_bar(t - 1));
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
        table("betas", &|t| exact.beta(t)),
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

/// The scheduler that `class`, `config`, `eta` and `use_clipped_model_output` describe, as diffusers steps with it.
fn sampler<F: Precision>(request: &Request) -> Result<Scheduler> {
    let (class, config): (String, Map<String, Value>) = (request.required("class")?, request.required("config")?);
    let mut scheduler = scheduler_of(request, Some(&class), &config)?;
    let eta: f64 = request.attribute("eta", 0.0)?;
    if !scheduler.sampler.takes(Choice::Eta) && eta != 0.0 {
        return Err(request.refuse("attribute eta", format!("0 for {class}"), eta));
    }
    if !(0.0..=1.0).contains(&eta) {
        return Err(request.refuse("attribute eta", "0 to 1", eta));
    }
    scheduler.options.eta = eta;
    // DDPM's and DDIM's classes keep the network's noise; all others derive theirs from the image.
    let keeps = matches!(scheduler.sampler, Sampler::Ddpm | Sampler::Ddim | Sampler::DdimInverse);
    let eps_from_clipped_x_0 = request.attribute("use_clipped_model_output", !keeps)?;
    scheduler.options.conventions = Conventions { eps_from_clipped_x_0, ..Conventions::DIFFUSERS };
    scheduler.schedule = tables::<F>(&scheduler.schedule);
    Ok(scheduler)
}

/// A walk in which the outputs of the network and the noise are given, in the order in which they are asked for.
struct Recorded<'a, F> {
    scheduler: &'a Scheduler,
    outputs: std::vec::IntoIter<Array4<F>>,
    noise: std::vec::IntoIter<Array4<F>>,
    /// x̂₀ of each sight, and x after each step.
    x_0_hats: Vec<Array4<F>>,
    states: Vec<Array4<F>>,
}

impl<'a, F: Precision> Recorded<'a, F> {
    fn new(scheduler: &'a Scheduler, outputs: Vec<Array4<F>>, noise: Vec<Array4<F>>) -> Self {
        let (x_0_hats, states) = (Vec::new(), Vec::new());
        Recorded { scheduler, outputs: outputs.into_iter(), noise: noise.into_iter(), x_0_hats, states }
    }
}

impl<F: Precision> Walk<F> for Recorded<'_, F> {
    fn see(&mut self, x: &Array4<F>, level: Level) -> Result<Estimate<F>> {
        let value = self.outputs.next().expect("an output for each time that the network is asked");
        let output = Output::of_network(self.scheduler.prediction, value, x.dim().3);
        let estimate = self.scheduler.sight().estimate(x, level, &output);
        self.x_0_hats.push(estimate.x_0_hat.clone());
        Ok(estimate)
    }

    fn noise(&mut self, _: Level) -> Array4<F> {
        self.noise.next().expect("noise for each step")
    }

    fn step(&mut self, step: Step<F>) -> Result<Array4<F>> {
        let x_s = weighted_sum(step.terms);
        self.states.push(x_s.clone());
        Ok(x_s)
    }
}

/// Images of any number of axes as samplers take them: whatever stands in one row is one image. Of a network that learned a
/// variance, the second half of a row is that.
fn in_rows<F: Real>(x: &ArrayD<F>) -> Array4<F> {
    let n = x.shape().first().copied().unwrap_or(1).max(1);
    shaped((n, 1, 1, x.len() / n), flat(x).to_vec())
}

/// The shape of an output for images of this shape, whose channels are the axis after the first.
fn output_shape(scheduler: &Scheduler, x: &[usize]) -> Vec<usize> {
    let mut shape = x.to_vec();
    if let Some(channels) = shape.get_mut(1).filter(|_| scheduler.options.variance.is_learned()) {
        *channels *= 2;
    }
    shape
}

/// One step from t to t_prev, both 0-based; −1 after the last.
pub fn reverse_step<F: Precision>(request: &Request) -> Result<Results<F>> {
    let scheduler = sampler::<F>(request)?;
    let schedule = &scheduler.schedule;
    let (t, t_prev): (i64, i64) = (request.required("t")?, request.required("t_prev")?);
    if !(0..schedule.t_max() as i64).contains(&t) || !(-1..t).contains(&t_prev) {
        let expected = format!("-1 <= t_prev < t < {}", schedule.t_max());
        return Err(request.refuse("attributes t, t_prev", expected, json!([t, t_prev])));
    }
    let (x_t, output, noise) =
        (request.array::<F>("x_t")?, request.array::<F>("model_output")?, request.array::<F>("noise")?);
    request.check_shape("input.model_output", &output_shape(&scheduler, x_t.shape()), output.shape())?;
    request.check_shape("input.noise", x_t.shape(), noise.shape())?;
    let ends_short =
        t_prev < 0 && scheduler.sampler.takes(Choice::SetAlphaToOne) && !scheduler.options.set_alpha_to_one;
    let to = schedule.level(if ends_short { 1 } else { (t_prev + 1) as usize });
    let form = scheduler.sampler.entry().form;
    let transition = Transition { from: schedule.level(t as usize + 1).in_form(form), to: to.in_form(form) };
    let mut walk = Recorded::new(&scheduler, vec![in_rows(&output)], vec![in_rows(&noise)]);
    let x_s = scheduler.sampler.run(&[transition], in_rows(&x_t), &scheduler.options, &mut walk)?;
    let like_x = |x: &Array4<F>| shaped(x_t.raw_dim(), flat(x).to_vec());
    Ok(vec![named("output.prev_sample", like_x(&x_s)), named("output.pred_original_sample", like_x(&walk.x_0_hats[0]))])
}

/// A whole chain in which the outputs of the network and the noise are given.
pub fn trajectory<F: Precision>(request: &Request) -> Result<Results<F>> {
    let scheduler = sampler::<F>(request)?;
    let steps: usize = request.required("steps")?;
    // One output and one noise for each time that the network is asked: Heun's 2 N − 1, PNDM's N + 9.
    let chain = scheduler.chain(steps)?;
    let evaluations = chain.len();
    let start = request.array::<F>("x_T")?;
    let (outputs, noise) = (request.array::<F>("model_output")?, request.array::<F>("noise")?);
    let of_all = |shape: &[usize]| [&[evaluations], shape].concat();
    request.check_shape("input.model_output", &of_all(&output_shape(&scheduler, start.shape())), outputs.shape())?;
    request.check_shape("input.noise", &of_all(start.shape()), noise.shape())?;
    let of_steps = |x: &ArrayD<F>| x.axis_iter(Axis(0)).map(|x| in_rows(&x.to_owned())).collect();
    let mut walk = Recorded::new(&scheduler, of_steps(&outputs), of_steps(&noise));
    scheduler.sampler.run(&chain, in_rows(&start), &scheduler.options, &mut walk)?;
    let fed = chain.iter().map(|step| F::from_f64(step.from.time)).collect();
    let states = flat(&start).iter().chain(walk.states.iter().flat_map(|x| flat(x))).copied().collect();
    let states = shaped(IxDyn(&[&[evaluations + 1], start.shape()].concat()), states);
    Ok(vec![named("output.timesteps", row(fed)), named("output.x", states)])
}
