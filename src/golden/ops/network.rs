//! A whole network: its output, loss, every gradient and every module's result; and some steps of its training.

use ndarray::{Array4, ArrayD, Axis, IxDyn, Slice, concatenate};
use serde_json::{Map, Value};

use super::diffusion::{scheduler_of, sinusoids, times};
use super::optimizer::constants;
use super::request::{channels_first, channels_last};
use super::{Request, Results, named};
use crate::Result;
use crate::checkpoint::pipeline;
use crate::diffusion::loss::l_simple;
use crate::golden::precision::Precision;
use crate::layers::{Layout, ParameterVector, flat, shaped};
use crate::models::{Conditions, Network, Time};
use crate::numerics::{Real, parallel};
use crate::train::gradient::{MICROBATCH, Zeros};
use crate::train::{Batch, Descent, State};

/// The network of the folder that `model` names, relative to the case.
fn model<F: Real>(request: &Request) -> Result<(Network, ParameterVector<F>)> {
    let name: String = request.required("model")?;
    let model = pipeline::read(&request.folder().join(name))?.pipeline;
    Ok((model.network().clone(), model.weights().cast()))
}

/// A gradient or weight of each parameter, under PREFIX.NAME.
fn of_parameters<F: Real>(prefix: &str, layout: &Layout, values: &ParameterVector<F>) -> Results<F> {
    let tensor = |entry: &crate::layers::parameters::Entry| {
        let values = entry.axes.to_file(&values[entry.span]);
        (format!("{prefix}.{}", entry.name), shaped(IxDyn(&entry.axes.shape()), values))
    };
    layout.entries.iter().map(tensor).collect()
}

/// What a microbatch of the batch gives.
struct Part<F> {
    out: Array4<F>,
    squares: f64,
    dx: Array4<F>,
    grads: ParameterVector<F>,
    taps: Results<F>,
}

/// The operations `unet` and `dit`.
pub fn network<F: Precision>(request: &Request) -> Result<Results<F>> {
    let (network, w) = model::<F>(request)?;
    let (expected, found) = match (request.op(), &network) {
        ("unet", Network::Dit(_)) => ("UNet2DModel", "DiTTransformer2DModel"),
        ("dit", Network::UNet(_)) => ("DiTTransformer2DModel", "UNet2DModel"),
        _ => ("", ""),
    };
    if expected != found {
        return Err(request.refuse("attributes.model", format!("the folder of a {expected}"), found));
    }
    let (x, noise) = (request.images::<F>("x")?, request.images::<F>("noise")?);
    let (n, h, width, _) = x.dim();
    let (c_out, of_noise) = (network.config().channels().1, noise.dim());
    request.check_shape("input.noise", &[n, c_out, h, width], &[of_noise.0, of_noise.3, of_noise.1, of_noise.2])?;
    let (gradients, taps): (bool, bool) = (request.attribute("gradients", false)?, request.attribute("taps", false)?);
    let t = times(request, "t")?;
    request.check_shape("input.t", &[n], &[t.len()])?;
    let embedding = sinusoids::<F>(network.time_proj(), &t).mapv(F::to_f64);
    let classes = network.labels();
    let labels = match request.has("class_labels") {
        true => Some(request.one_an_image("class_labels", n, classes.unwrap_or(usize::MAX >> 1))?),
        false => None,
    };
    let ranges = parallel::ranges(n, MICROBATCH);
    let part = |range: std::ops::Range<usize>| -> Result<Part<F>> {
        let images = |x: &Array4<F>| x.slice_axis(Axis(0), Slice::from(range.clone())).to_owned();
        let labels = labels.as_ref().map(|labels| &labels[range.clone()]);
        let embedding = embedding.slice_axis(Axis(0), Slice::from(range.clone())).to_owned();
        let conditions = Conditions { time: Time::Embedded(&embedding), labels };
        let (out, tape, taps) = network.forward_traced(&w, images(&x), conditions)?;
        let (target, mut grads) = (images(&noise), ParameterVector::zeros(w.0.len()));
        let (squares, dy) = l_simple(flat(&out), flat(&target), noise.len());
        let dy = shaped(out.dim(), dy);
        let dx = if gradients { network.backward(&w, tape, labels, &dy, &mut grads) } else { dy };
        Ok(Part { out, squares, dx, grads, taps })
    };
    let whole = parallel::tree_sum(
        ranges.len(),
        |i| part(ranges[i].clone()),
        |left, right| match (left, right) {
            (Ok(left), Ok(right)) => left.append(right),
            (left, Err(error)) => *left = Err(error),
            (Err(_), Ok(_)) => {}
        },
    )?;

    let mut results = Results::new();
    if taps {
        results.extend(whole.taps.into_iter().map(|(name, y)| (format!("taps.{name}"), as_pytorch_has_it(&name, y))));
    }
    let loss = F::from_f64(whole.squares / noise.len() as f64);
    results.push(named("output.out", channels_first(whole.out)));
    results.push(named("output.loss", ArrayD::from_elem(IxDyn(&[]), loss)));
    if gradients {
        // In the order of the backward pass.
        results.extend(of_parameters("grad", network.layout(), &whole.grads).into_iter().rev());
        results.push(named("grad.x", channels_first(whole.dx)));
    }
    Ok(results)
}

impl<F: Real> Part<F> {
    /// The images of both, and the sums over them.
    fn append(&mut self, mut right: Part<F>) {
        let join = |a: &ArrayD<F>, b: &ArrayD<F>| concatenate(Axis(0), &[a.view(), b.view()]).expect("equal images");
        let images = |a: &Array4<F>, b: &Array4<F>| concatenate(Axis(0), &[a.view(), b.view()]).expect("equal images");
        (self.out, self.dx) = (images(&self.out, &right.out), images(&self.dx, &right.dx));
        self.squares += right.squares;
        self.grads.drain(&mut right.grads);
        self.taps.iter_mut().zip(&right.taps).for_each(|((_, a), (_, b))| *a = join(a, b));
    }
}

/// A module's result with the axes that it has in diffusers: images (n, c, h, w), tokens (n, h·w, c), and what the norm
/// of an attention is shown, (n, c, h·w).
fn as_pytorch_has_it<F: Real>(name: &str, y: ArrayD<F>) -> ArrayD<F> {
    let &[n, h, w, c] = y.shape() else { return y };
    let reshaped = |y: ArrayD<F>, shape: &[usize]| {
        y.into_shape_with_order(IxDyn(shape)).expect("the same numbers in the same order")
    };
    if name.ends_with("to_out.0") {
        return reshaped(y, &[n, h * w, c]);
    }
    let images = channels_first(y.into_dimensionality().expect("four axes"));
    if name.ends_with("group_norm") { reshaped(images, &[n, c, h * w]) } else { images }
}

/// What a case of training teaches, and to whom.
pub(in crate::golden) struct Lessons<F> {
    pub(in crate::golden) network: Network,
    /// Before the first step.
    pub(in crate::golden) weights: ParameterVector<F>,
    /// A batch for each step.
    pub(in crate::golden) batches: Vec<Batch<F>>,
    pub(in crate::golden) lr: f64,
    pub(in crate::golden) descent: Descent,
}

impl<F: Precision> Lessons<F> {
    /// Those of a request.
    ///
    /// # Errors
    /// What the operation does not take, by name.
    pub(in crate::golden) fn read(request: &Request) -> Result<Self> {
        let (network, weights) = model::<F>(request)?;
        let config: Map<String, Value> = request.attribute("config", Map::new())?;
        let scheduler = scheduler_of(request, None, &config)?;
        let x_0 = request.shaped::<F, ndarray::Ix5>("x_0", "(steps, n, c, h, w)")?;
        let eps = request.shaped::<F, ndarray::Ix5>("eps", "(steps, n, c, h, w)")?;
        request.check_shape("input.eps", x_0.shape(), eps.shape())?;
        let (steps, n) = (x_0.dim().0, x_0.dim().1);
        let integers = |name: &str, end: usize| -> Result<Vec<usize>> {
            let values = request.integers(name, 0..end as i64)?;
            request.check_shape(&format!("input.{name}"), &[steps, n], values.shape())?;
            Ok(values.iter().map(|&x| x as usize).collect())
        };
        let t = integers("t", scheduler.schedule.t_max())?;
        let labels = match (network.labels(), request.has("class_labels")) {
            (Some(classes), true) => Some(integers("class_labels", classes)?),
            (None, true) => {
                return Err(request.refuse("input.class_labels", "none: the model has no classes", "labels"));
            }
            (_, false) => None,
        };
        let (adamw, lr) = (constants(request)?, request.required("lr")?);
        let (clip_norm, ema_decay) = (request.attribute("clip_norm", 1.0)?, request.attribute("ema_decay", 0.999)?);
        let batch = |step: usize| {
            let images = |x: &ndarray::Array5<F>| channels_last(x.index_axis(Axis(0), step).to_owned());
            let range = step * n..(step + 1) * n;
            let times: Vec<usize> = t[range.clone()].iter().map(|t| t + 1).collect();
            let labels = labels.as_ref().map(|labels| labels[range].to_vec());
            Batch::noised(&scheduler.schedule, scheduler.prediction, &images(&x_0), &times, &images(&eps), labels)
        };
        let (batches, descent) = ((0..steps).map(batch).collect(), Descent { adamw, clip_norm, ema_decay });
        Ok(Lessons { network, weights, batches, lr, descent })
    }
}

/// The results of training: a loss and a norm for each step, and what there is after the last.
pub(in crate::golden) fn learned<F: Precision>(
    layout: &Layout,
    losses: Vec<f64>,
    norms: Vec<f64>,
    weights: &ParameterVector<F>,
    average: &ParameterVector<F>,
) -> Results<F> {
    let row = |x: Vec<f64>| shaped(IxDyn(&[x.len()]), x.into_iter().map(F::from_f64).collect());
    let mut results = vec![named("output.loss", row(losses)), named("output.grad_norm", row(norms))];
    results.extend(of_parameters("output.weight", layout, weights));
    results.extend(of_parameters("output.ema", layout, average));
    results
}

/// Clipped AdamW steps on given images, noise and times, and the average of the weights.
pub fn training<F: Precision>(request: &Request) -> Result<Results<F>> {
    let Lessons { network, weights, batches, lr, descent } = Lessons::<F>::read(request)?;
    let (mut state, mut losses, mut norms) = (State::new(weights, true), Vec::new(), Vec::new());
    let zeros = Zeros::default();
    for batch in batches {
        let report = state.step(&network, &batch, lr, &descent, None, &zeros)?;
        losses.push(report.loss);
        norms.push(report.grad_norm);
    }
    Ok(learned(network.layout(), losses, norms, &state.weights, state.best()))
}
