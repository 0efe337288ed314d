//! Single layers, forward and backward.

use ndarray::{Array2, Array4, ArrayD};

use super::request::{channels_first, channels_last};
use super::{Request, Results, named};
use crate::golden::precision::Precision;
use crate::layers::embedding::ClassEmbedding;
use crate::layers::group_norm::GroupNorm;
use crate::layers::layer_norm::{layer_norm as normalise_rows, layer_norm_backward};
use crate::layers::linear::Linear;
use crate::layers::{Layout, ParameterVector, flat, resample, shaped};
use crate::numerics::Native;
use crate::numerics::sum::{column_sums, plain_column_sums};
use crate::{Error, Result};

/// x with all but its last axis taken as one.
fn rows<F: Precision>(x: &ArrayD<F>) -> Array2<F> {
    let width = x.shape().last().copied().unwrap_or(1);
    shaped((x.len() / width, width), flat(x).to_vec())
}

/// Rows with the axes of x, but for the last.
fn like<F: Precision>(x: &ArrayD<F>, rows: Array2<F>) -> ArrayD<F> {
    let mut shape = x.shape().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = rows.ncols();
    }
    shaped(ndarray::IxDyn(&shape), flat(&rows).to_vec())
}

pub fn linear<F: Precision>(request: &Request) -> Result<Results<F>> {
    let (x, weight) = (request.array::<F>("x")?, request.shaped::<F, ndarray::Ix2>("weight", "(outputs, inputs)")?);
    let (outputs, inputs) = weight.dim();
    if x.shape().last() != Some(&inputs) {
        let expected = format!("{inputs} features on the last axis, as the weight has");
        return Err(request.refuse("input.x", expected, format!("{:?}", x.shape())));
    }
    request.check_size("output", &[x.len() / inputs, outputs])?;
    request.check_work("the product", &[x.len() / inputs, inputs, outputs])?;
    let mut layout = Layout::default();
    let layer = Linear::new(&mut layout, "layer", inputs, outputs);
    let w = request.parameters(&layout)?;
    let (y, cache) = layer.forward(&w, rows(&x));
    let y = like(&x, y);
    let dy = request.grad_output(y.shape())?;
    let mut results = vec![named("output", y)];
    if let Some(dy) = dy {
        let mut grads = ParameterVector::zeros(layout.count());
        results.push(named("grad.x", like(&x, layer.backward(&w, cache, rows(&dy), &mut grads))));
        results.extend(request.gradients(&layout, &grads));
    }
    Ok(results)
}

pub fn group_norm<F: Precision>(request: &Request) -> Result<Results<F>> {
    let x = request.array::<F>("x")?;
    let &[n, c, ref rest @ ..] = x.shape() else {
        return Err(request.refuse("input.x", "a tensor of shape (n, c, ...)", format!("{:?}", x.shape())));
    };
    let (groups, eps) = (request.required::<usize>("groups")?, eps(request)?);
    if groups == 0 || !c.is_multiple_of(groups) {
        return Err(request.refuse("attribute groups", format!("a divisor of the {c} channels"), groups));
    }
    let pixels: usize = rest.iter().product();
    let images = |x: &ArrayD<F>| channels_last(shaped((n, c, 1, pixels), flat(x).to_vec()));
    let back = |y: Array4<F>| shaped(x.raw_dim(), channels_first(y).into_raw_vec_and_offset().0);
    let mut layout = Layout::default();
    let norm = GroupNorm::new(&mut layout, "layer", c, groups, eps);
    let w = request.parameters(&layout)?;
    let (y, cache) = norm.forward(&w, images(&x));
    let mut results = vec![named("output", back(y))];
    if let Some(dy) = request.grad_output(x.shape())? {
        let mut grads = ParameterVector::zeros(layout.count());
        results.push(named("grad.x", back(norm.backward(&w, cache, images(&dy), &mut grads))));
        results.extend(request.gradients(&layout, &grads));
    }
    Ok(results)
}

/// A positive number under the root of a norm.
pub fn eps(request: &Request) -> Result<f64> {
    let eps: f64 = request.attribute("eps", 1e-5)?;
    if eps.is_finite() && eps > 0.0 { Ok(eps) } else { Err(request.refuse("attribute eps", "a positive number", eps)) }
}

/// The norm without parameters, and y = weight · x̂ + bias where they are given.
pub fn layer_norm<F: Precision>(request: &Request) -> Result<Results<F>> {
    let x = request.array::<F>("x")?;
    let Some(&width) = x.shape().last() else {
        return Err(request.refuse("input.x", "a tensor of shape (..., d)", "a scalar"));
    };
    let parameter = |name: &str| -> Result<Option<ArrayD<F>>> {
        let values = request.has(name).then(|| request.array::<F>(name)).transpose()?;
        values.iter().try_for_each(|v| request.check_shape(&format!("input.{name}"), &[width], v.shape()))?;
        Ok(values)
    };
    let (weight, bias) = (parameter("weight")?, parameter("bias")?);
    let (x_hat, cache) = normalise_rows(rows(&x), eps(request)?);
    let mut y = x_hat.clone();
    for mut row in y.rows_mut() {
        for (i, y) in row.iter_mut().enumerate() {
            let scale = weight.as_ref().map_or(F::one(), |w| w[i]);
            *y = y.fma::<Native>(scale, bias.as_ref().map_or(F::zero(), |b| b[i]));
        }
    }
    let mut results = vec![named("output", like(&x, y))];
    if let Some(dy) = request.grad_output::<F>(x.shape())? {
        let dy = rows(&dy);
        let sums = |totals: Vec<f64>| shaped(ndarray::IxDyn(&[width]), totals.into_iter().map(F::from_f64).collect());
        let of_weight = weight.as_ref().map(|_| {
            let mut totals = vec![0.0; width];
            column_sums([flat(&dy), flat(&x_hat)], [], &mut totals, |s, [dy, x_hat], []| s + dy * x_hat);
            sums(totals)
        });
        let of_bias = bias.as_ref().map(|_| {
            let mut totals = vec![0.0; width];
            plain_column_sums(flat(&dy), &mut totals);
            sums(totals)
        });
        let mut d_x_hat = dy.clone();
        for (i, mut column) in d_x_hat.columns_mut().into_iter().enumerate() {
            column.iter_mut().for_each(|d| *d *= weight.as_ref().map_or(F::one(), |w| w[i]));
        }
        results.push(named("grad.x", like(&x, layer_norm_backward(cache, d_x_hat))));
        results.extend(of_weight.map(|d| named("grad.weight", d)));
        results.extend(of_bias.map(|d| named("grad.bias", d)));
    }
    Ok(results)
}

/// A linear map of images without parameters.
fn resample<F: Precision>(
    request: &Request,
    forward: fn(Array4<F>) -> Array4<F>,
    backward: fn(Array4<F>) -> Array4<F>,
    check: impl Fn(&Array4<F>) -> std::result::Result<(), Error>,
) -> Result<Results<F>> {
    let x = request.images::<F>("x")?;
    check(&x)?;
    request.check_size("output", &[4, x.len()])?;
    let y = channels_first(forward(x));
    let dy = request.grad_output::<F>(y.shape())?;
    let mut results = vec![named("output", y)];
    if let Some(dy) = dy {
        let dy = channels_last(dy.into_dimensionality().expect("the output's four axes"));
        results.push(named("grad.x", channels_first(backward(dy))));
    }
    Ok(results)
}

pub fn upsample_nearest_2x<F: Precision>(request: &Request) -> Result<Results<F>> {
    resample(request, resample::upsample_nearest_2x, resample::upsample_nearest_2x_backward, |_| Ok(()))
}

pub fn average_pool_2x<F: Precision>(request: &Request) -> Result<Results<F>> {
    resample(request, resample::average_pool_2x, resample::average_pool_2x_backward, |x| {
        let (_, h, w, _) = x.dim();
        if h % 2 == 0 && w % 2 == 0 {
            return Ok(());
        }
        Err(request.refuse("input.x", "an even height and width", format!("{h} x {w}")))
    })
}

pub fn class_embedding<F: Precision>(request: &Request) -> Result<Results<F>> {
    let (classes, dim) = request.shaped::<F, ndarray::Ix2>("weight", "(classes, dim)")?.dim();
    let labels = request.integers("labels", 0..classes as i64)?;
    request.check_shape("input.labels", &[labels.len()], labels.shape())?;
    request.check_size("output", &[labels.len(), dim])?;
    let labels: Vec<usize> = labels.iter().map(|&label| label as usize).collect();
    let mut layout = Layout::default();
    let table = ClassEmbedding::new(&mut layout, "layer", classes, dim);
    let w = request.parameters(&layout)?;
    let mut results = vec![named("output", table.forward(&w, &labels).into_dyn())];
    if let Some(dy) = request.grad_output::<F>(&[labels.len(), dim])? {
        let mut grads = ParameterVector::zeros(layout.count());
        table.backward(&labels, dy.into_dimensionality::<ndarray::Ix2>().expect("two axes"), &mut grads);
        results.extend(request.gradients(&layout, &grads));
    }
    Ok(results)
}
