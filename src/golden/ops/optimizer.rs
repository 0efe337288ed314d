//! What is done with a gradient: clipping, AdamW, the moving average.

use ndarray::{ArrayD, IxDyn};

use super::{Request, Results, named};
use crate::Result;
use crate::golden::precision::Precision;
use crate::layers::parameters::{Axes, Init};
use crate::layers::{Layout, ParameterVector, flat, shaped};
use crate::train::adamw::{AdamW, Moments};
use crate::train::clip::{clip_factor, global_norm};
use crate::train::ema::update;

/// The last step of a run that anybody could wait for.
const MAX_STEP: u64 = 1 << 40;

/// The constants of AdamW, with PyTorch's defaults.
pub fn constants(request: &Request) -> Result<AdamW> {
    let adamw = AdamW {
        beta1: request.attribute("beta1", 0.9)?,
        beta2: request.attribute("beta2", 0.999)?,
        eps: request.attribute("eps", 1e-8)?,
        weight_decay: request.attribute("weight_decay", 0.0)?,
    };
    for (name, value) in [("beta1", adamw.beta1), ("beta2", adamw.beta2)] {
        if !(0.0..1.0).contains(&value) {
            return Err(request.refuse(&format!("attribute {name}"), "a decay, 0 or more and below 1", value));
        }
    }
    Ok(adamw)
}

/// One step for a gradient of w's shape, or a step for each along one axis more.
pub fn adamw<F: Precision>(request: &Request) -> Result<Results<F>> {
    let (w, grad) = (request.array::<F>("w")?, request.array::<F>("grad")?);
    let steps = if grad.ndim() == w.ndim() { 1 } else { grad.len() / w.len() };
    let expected = if grad.ndim() == w.ndim() { w.shape().to_vec() } else { [&[steps], w.shape()].concat() };
    request.check_shape("input.grad", &expected, grad.shape())?;
    let moment = |name: &str| -> Result<ParameterVector<F>> {
        if !request.has(name) {
            return Ok(ParameterVector::zeros(w.len()));
        }
        let moment = request.array::<F>(name)?;
        request.check_shape(&format!("input.{name}"), w.shape(), moment.shape())?;
        Ok(ParameterVector(flat(&moment).to_vec()))
    };
    let (constants, lr) = (constants(request)?, request.required("lr")?);
    let first: u64 = request.attribute("step", 1)?;
    if !(1..=MAX_STEP).contains(&first) {
        return Err(request.refuse("attribute step", format!("1 to {MAX_STEP}"), first));
    }
    let mut weights = ParameterVector(flat(&w).to_vec());
    let mut moments = Moments { m: moment("m")?, v: moment("v")? };
    for (i, grad) in flat(&grad).chunks(w.len()).enumerate() {
        constants.step(first + i as u64, lr, 1.0, &mut weights, &mut ParameterVector(grad.to_vec()), &mut moments);
    }
    let like_w = |values: ParameterVector<F>| shaped(w.raw_dim(), values.0);
    Ok(vec![
        named("output.w", like_w(weights)),
        named("output.m", like_w(moments.m)),
        named("output.v", like_w(moments.v)),
    ])
}

pub fn clip_grad_norm<F: Precision>(request: &Request) -> Result<Results<F>> {
    let grad = request.array::<F>("grad")?;
    let max_norm: f64 = request.required("max_norm")?;
    let mut layout = Layout::default();
    layout.add("grad".into(), Axes::Same(grad.shape().to_vec()), Init::Zeros);
    let norm = global_norm(&layout, &ParameterVector(flat(&grad).to_vec()));
    let factor = F::from_f64(clip_factor(norm, max_norm));
    Ok(vec![
        named("output.norm", ArrayD::from_elem(IxDyn(&[]), F::from_f64(norm))),
        named("output.grad", grad.mapv(|g| factor * g)),
    ])
}

pub fn ema<F: Precision>(request: &Request) -> Result<Results<F>> {
    let (ema, w) = (request.array::<F>("ema")?, request.array::<F>("w")?);
    request.check_shape("input.w", ema.shape(), w.shape())?;
    let decay: f64 = request.required("decay")?;
    if !(0.0..=1.0).contains(&decay) {
        return Err(request.refuse("attribute decay", "0 to 1", decay));
    }
    let step: u64 = request.attribute("step", 0)?;
    if step > MAX_STEP {
        return Err(request.refuse("attribute step", format!("at most {MAX_STEP}"), step));
    }
    let mut average = ParameterVector(flat(&ema).to_vec());
    update(&mut average, &ParameterVector(flat(&w).to_vec()), step, decay);
    Ok(vec![named("output", shaped(ema.raw_dim(), average.0))])
}
