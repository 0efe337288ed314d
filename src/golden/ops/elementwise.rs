//! Operations on single numbers and rows of them, and the loss.

use ndarray::{ArrayD, IxDyn};

use super::{Request, Results, named};
use crate::Result;
use crate::diffusion::loss::l_simple;
use crate::golden::precision::Precision;
use crate::layers::{activation, flat, flat_mut, shaped, softmax as rows};
use crate::numerics::{Native, elementary};

/// An elementary function of the operation's name.
pub fn elementary<F: Precision>(request: &Request) -> Result<Results<F>> {
    let in_f64 = |f: fn(f64) -> f64| move |x: F| F::from_f64(f(x.to_f64()));
    let x = request.array::<F>("x")?;
    let y = match request.op() {
        "exp" => x.mapv(F::exp::<Native>),
        "sigmoid" => x.mapv(F::sigmoid::<Native>),
        "tanh" => x.mapv(F::tanh::<Native>),
        "ln" => x.mapv(in_f64(elementary::ln)),
        "sin" => x.mapv(in_f64(elementary::sin)),
        _ => x.mapv(in_f64(elementary::cos)),
    };
    Ok(vec![named("output", y)])
}

/// An activation and its backward pass.
fn with_gradient<F: Precision>(
    request: &Request,
    y: ArrayD<F>,
    backward: impl FnOnce(ArrayD<F>) -> ArrayD<F>,
) -> Result<Results<F>> {
    let dy = request.grad_output(y.shape())?;
    let mut results = vec![named("output", y)];
    results.extend(dy.map(|dy| named("grad.x", backward(dy))));
    Ok(results)
}

pub fn silu<F: Precision>(request: &Request) -> Result<Results<F>> {
    let x = request.array::<F>("x")?;
    with_gradient(request, activation::silu(&x), |dy| activation::silu_backward(x, dy))
}

/// x Φ(x), with the distribution function Φ of the normal distribution (Hendrycks and Gimpel 2016): dx = dy (Φ(x) + x φ(x)).
pub fn gelu<F: Precision>(request: &Request) -> Result<Results<F>> {
    let (x, half, root) = (request.array::<F>("x")?, F::from_f64(0.5), std::f64::consts::FRAC_1_SQRT_2);
    // As 1 + erf it loses digits far below zero; float32 functions take it so.
    let cdf = |x: F| match F::NOISY {
        true => half * (F::one() + F::from_f64(libm::erf(x.to_f64() * root))),
        false => F::from_f64(0.5 * libm::erfc(-x.to_f64() * root)),
    };
    let density = |x: F| (-half * x * x).exp::<Native>() * F::from_f64(1.0 / (2.0 * std::f64::consts::PI).sqrt());
    with_gradient(request, x.mapv(|x| x * cdf(x)), |dy| {
        let slope = x.mapv(|x| cdf(x) + x * density(x));
        slope * dy
    })
}

pub fn gelu_tanh<F: Precision>(request: &Request) -> Result<Results<F>> {
    let x = request.array::<F>("x")?;
    with_gradient(request, activation::gelu_tanh(&x), |dy| activation::gelu_tanh_backward(x, dy))
}

/// Over the last axis.
pub fn softmax<F: Precision>(request: &Request) -> Result<Results<F>> {
    let mut p = request.array::<F>("x")?;
    let width = p.shape().last().copied().unwrap_or(1);
    rows::softmax(flat_mut(&mut p), width);
    with_gradient(request, p.clone(), |mut dp| {
        rows::softmax_backward(flat(&p), flat_mut(&mut dp), width);
        dp
    })
}

/// The mean of squares, and its gradient.
pub fn mse_loss<F: Precision>(request: &Request) -> Result<Results<F>> {
    let (prediction, target) = (request.array::<F>("prediction")?, request.array::<F>("target")?);
    request.check_shape("input.target", prediction.shape(), target.shape())?;
    let (squares, gradient) = l_simple(flat(&prediction), flat(&target), prediction.len());
    let loss = F::from_f64(squares / prediction.len() as f64);
    Ok(vec![
        named("output.loss", ArrayD::from_elem(IxDyn(&[]), loss)),
        named("grad.prediction", shaped(prediction.raw_dim(), gradient)),
    ])
}
