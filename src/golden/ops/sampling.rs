//! Samplers: single reverse steps, with what earlier steps saw, and whole chains.

use ndarray::{Array4, ArrayD, Axis, IxDyn};
use serde_json::{Map, Value, json};

use super::diffusion::{row, scheduler_of, tables};
use super::{Request, Results, named};
use crate::Result;
use crate::denoise::{Estimate, Output};
use crate::diffusion::{Form, Level, Prediction, Process};
use crate::golden::precision::Precision;
use crate::layers::{flat, shaped};
use crate::numerics::{Real, elementary};
use crate::pipeline::Scheduler;
use crate::sample::{Choice, Conventions, Sampler, Step, Transition, Walk, weighted_sum};

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

/// One step from t to t_prev, both 0-based; −1 after the last. Of a sampler that looks back, `history` is what earlier steps saw.
pub fn reverse_step<F: Precision>(request: &Request) -> Result<Results<F>> {
    let mut scheduler = sampler::<F>(request)?;
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
    let form = scheduler.sampler.entry().form;
    let level = |t: i64| schedule.level((t + 1) as usize).in_form(form);
    let ends_short =
        t_prev < 0 && scheduler.sampler.takes(Choice::SetAlphaToOne) && !scheduler.options.set_alpha_to_one;
    let last = Transition { from: level(t), to: if ends_short { level(0) } else { level(t_prev) } };
    let like_x = |x: &Array4<F>| shaped(x_t.raw_dim(), flat(x).to_vec());
    let Past { times, seen, x_before } = past::<F>(request, &scheduler, t, x_t.shape())?;
    let mut chain: Vec<Transition> =
        times.windows(2).map(|pair| Transition { from: level(pair[0]), to: level(pair[1]) }).collect();
    chain.push(last);
    if !seen.is_empty() {
        // A step in the midst of a chain, whatever is given of it.
        (scheduler.options.lower_order_final, scheduler.options.euler_at_final) = (false, false);
    }
    let mut walk = Recalled {
        past: seen.into_iter(),
        x_before: x_before.map(|x| in_rows(&x)),
        x_t: in_rows(&x_t),
        steps_before: chain.len() - 1,
        corrected: None,
        now: Recorded::new(&scheduler, vec![in_rows(&output)], vec![in_rows(&noise); chain.len()]),
    };
    let start = walk.x_before.clone().filter(|_| chain.len() > 1).unwrap_or_else(|| in_rows(&x_t));
    let x_s = scheduler.sampler.run(&chain, start, &scheduler.options, &mut walk)?;
    let mut results = vec![
        named("output.prev_sample", like_x(&x_s)),
        named("output.pred_original_sample", like_x(&walk.now.x_0_hats[0])),
    ];
    results.extend(walk.corrected.map(|x| named("output.corrected", like_x(&x))));
    Ok(results)
}

/// What a sampler that looks back remembers.
struct Past<F> {
    /// The times of the steps before, the earliest (noisiest) first, and t.
    times: Vec<i64>,
    /// What each of them saw: x̂₀ or ε̂, whichever the sampler integrates.
    seen: Vec<Array4<F>>,
    /// x at the last of them, where the sampler takes that step again.
    x_before: Option<ArrayD<F>>,
}

/// The inputs `history` (k, ...), the newest first, and `x_before`; the attribute `t_history`.
fn past<F: Precision>(request: &Request, scheduler: &Scheduler, t: i64, shape: &[usize]) -> Result<Past<F>> {
    let mut times: Vec<i64> = request.attribute("t_history", Vec::new())?;
    let looks_back = matches!(
        scheduler.sampler,
        Sampler::Lms | Sampler::DpmMultistep | Sampler::EdmDpm | Sampler::UniPc | Sampler::Deis
    );
    let (most, t_max) = (if looks_back { 3 } else { 0 }, scheduler.schedule.t_max() as i64);
    if times.len() > most || times.iter().any(|&past| past <= t || past >= t_max) || !times.is_sorted_by(|a, b| a < b) {
        let expected = format!("at most {most} times of earlier steps, the newest first: t < t_history < {t_max}");
        return Err(request.refuse("attribute t_history", expected, json!(times)));
    }
    if times.is_empty() {
        return Ok(Past { times: vec![t], seen: Vec::new(), x_before: None });
    }
    let history = request.array::<F>("history")?;
    request.check_shape("input.history", &[&[times.len()], shape].concat(), history.shape())?;
    let corrects = scheduler.sampler == Sampler::UniPc;
    let x_before = if corrects { Some(request.array::<F>("x_before")?) } else { None };
    if let Some(x_before) = &x_before {
        request.check_shape("input.x_before", shape, x_before.shape())?;
    }
    times.reverse();
    times.push(t);
    let mut seen: Vec<Array4<F>> = history.axis_iter(Axis(0)).map(|x| in_rows(&x.to_owned())).collect();
    seen.reverse();
    Ok(Past { times, seen, x_before })
}

/// A walk that remembers steps that were taken elsewhere, and takes one more.
struct Recalled<'a, F> {
    past: std::vec::IntoIter<Array4<F>>,
    x_before: Option<Array4<F>>,
    x_t: Array4<F>,
    /// Steps that are not to be taken, but remembered.
    steps_before: usize,
    corrected: Option<Array4<F>>,
    now: Recorded<'a, F>,
}

impl<F: Precision> Walk<F> for Recalled<'_, F> {
    fn see(&mut self, x: &Array4<F>, level: Level) -> Result<Estimate<F>> {
        match self.past.next() {
            Some(seen) => Ok(Estimate {
                x_0_hat: seen.clone(),
                eps_hat: seen,
                prediction: Prediction::Epsilon, // not asked for by those that look back
                log_variance: None,
            }),
            None => self.now.see(x, level),
        }
    }

    fn noise(&mut self, level: Level) -> Array4<F> {
        self.now.noise(level)
    }

    fn step(&mut self, step: Step<F>) -> Result<Array4<F>> {
        if self.steps_before == 0 {
            return self.now.step(step);
        }
        self.steps_before -= 1;
        Ok(self.x_t.clone())
    }

    fn correct(&mut self, step: Step<F>) -> Result<Array4<F>> {
        if self.steps_before > 0 {
            return Ok(self.x_before.clone().expect("x before the last step, of a sampler that corrects"));
        }
        let corrected = weighted_sum(step.terms);
        self.corrected = Some(corrected.clone());
        Ok(corrected)
    }
}

/// The time that the network is fed at a level. EDM's is ¼ ln σ; others take σ to the power ρ in float32 before.
fn fed<F: Precision>(scheduler: &Scheduler, level: Level) -> F {
    match scheduler.schedule.process() {
        Process::Edm { rho: Some(rho), .. } if F::NOISY => {
            let root = F::from_f64(elementary::exp(elementary::ln(level.sigma()) / rho));
            F::from_f64(0.25 * rho * elementary::ln(root.to_f64()))
        }
        _ => F::from_f64(level.time),
    }
}

/// The levels of a chain: the times that are fed, and σ of each evaluation and of the end.
pub fn levels<F: Precision>(request: &Request) -> Result<Results<F>> {
    let scheduler = sampler::<F>(request)?;
    let chain = scheduler.chain(request.required("steps")?)?;
    if matches!(scheduler.sampler, Sampler::Ddpm | Sampler::Ddim | Sampler::DdimInverse | Sampler::Pndm) {
        return Err(request.refuse("attribute class", "a class of levels in sigma", scheduler.sampler.entry().class));
    }
    let sigma = |level: Level| if scheduler.sampler.entry().form == Form::Flow { level.sigma() } else { level.ratio() };
    let ends = chain.iter().map(|step| step.from).chain(chain.last().map(|step| step.to));
    Ok(vec![
        named("output.timesteps", row(chain.iter().map(|step| fed(&scheduler, step.from)).collect())),
        named("output.sigmas", row(ends.map(|level| F::from_f64(sigma(level))).collect())),
    ])
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
    let fed = chain.iter().map(|step| fed(&scheduler, step.from)).collect();
    let states = flat(&start).iter().chain(walk.states.iter().flat_map(|x| flat(x))).copied().collect();
    let states = shaped(IxDyn(&[&[evaluations + 1], start.shape()].concat()), states);
    Ok(vec![named("output.timesteps", row(fed)), named("output.x", states)])
}
