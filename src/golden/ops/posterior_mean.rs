//! What is known of x exactly: of a finite set of images, and of a mixture of Gaussians.

use ndarray::{Array1, Array2, Array4, ArrayD};

use super::{Request, Results, named};
use crate::denoise::{Component, Denoiser, Empirical, GaussianMixture};
use crate::diffusion::{Form, Level};
use crate::golden::precision::Precision;
use crate::layers::{flat, shaped};
use crate::numerics::Real;
use crate::{Error, Result};

/// Operation `oracle`.
pub fn oracle<F: Precision>(request: &Request) -> Result<Results<F>> {
    let level = level(request)?;
    let x = request.array::<F>("x_t")?;
    let (n, size) = rows(request, "x_t", &x)?;
    let images = shaped((n, 1, 1, size), flat(&x).to_vec());
    let levels = vec![level; n];
    let like_x = |y: &Array4<F>| shaped(x.raw_dim(), flat(y).to_vec());
    let at_input = |error: Error| match error {
        Error::Value { field, expected, found } => request.refuse(&format!("input.{field}"), expected, found),
        other => other,
    };
    match (request.has("data"), request.has("means")) {
        (true, false) => {
            let data = request.array::<F>("data")?;
            let count = rows_of(request, "data", &data, size)?;
            request.check_work("the products", &[n, count, size])?;
            let (set, labels) = empirical(request, shaped((count, 1, 1, size), flat(&data).to_vec()), n)?;
            let seen = set.predict(&images, &levels, labels.as_deref()).map_err(at_input)?;
            Ok(vec![named("output.x_0", like_x(&seen.value))])
        }
        (false, true) => {
            let known = mixture::<F>(request, size)?.know(&images, &levels).map_err(at_input)?;
            Ok(vec![
                named("output.x_0", like_x(&known.x_0_hat)),
                named("output.score", like_x(&known.score)),
                named("output.log_density", Array1::from(known.log_density).into_dyn()),
            ])
        }
        _ => Err(request.refuse("inputs", "either data or means", "both or none")),
    }
}

/// The level at which the noise is `sigma` in this form.
fn level(request: &Request) -> Result<Level> {
    let form: String = request.attribute("form", "variance_preserving".to_string())?;
    let sigma: f64 = request.required("sigma")?;
    let (form, most, signal) = match form.as_str() {
        "variance_preserving" => (Form::VariancePreserving, 1.0, ((1.0 - sigma) * (1.0 + sigma)).sqrt()),
        "flow" => (Form::Flow, 1.0, 1.0 - sigma),
        "variance_exploding" => (Form::VarianceExploding, f32::MAX as f64, 1.0),
        other => {
            let known = "variance_preserving, variance_exploding or flow";
            return Err(request.refuse("attribute form", known, other));
        }
    };
    if !(f32::MIN_POSITIVE as f64..=most).contains(&sigma) {
        return Err(request.refuse("attribute sigma", format!("above 0, and at most {most:e} in this form"), sigma));
    }
    Ok(Level::new(form, 0.0, signal, sigma))
}

/// Rows, and numbers of a row.
fn rows<F: Real>(request: &Request, name: &str, x: &ArrayD<F>) -> Result<(usize, usize)> {
    match x.shape() {
        [n, rest @ ..] => Ok((*n, rest.iter().product())),
        [] => Err(request.refuse(&format!("input.{name}"), "a tensor of shape (n, ...)", "one number")),
    }
}

/// Rows of as many numbers as x has.
fn rows_of<F: Real>(request: &Request, name: &str, x: &ArrayD<F>, size: usize) -> Result<usize> {
    match rows(request, name, x)? {
        (count, found) if found == size => Ok(count),
        (_, found) => Err(request.refuse(&format!("input.{name}"), format!("rows of {size} numbers, as x_t"), found)),
    }
}

/// The set, and the classes that are asked for.
fn empirical<F: Precision>(request: &Request, data: Array4<F>, n: usize) -> Result<(Empirical<F>, Option<Vec<usize>>)> {
    let (count, set) = (data.dim().0, Empirical::new(&data)?);
    if !request.has("data_labels") && !request.has("labels") {
        return Ok((set, None));
    }
    let of_data = request.one_an_image("data_labels", count, 1 << 16)?;
    let classes = of_data.iter().max().map_or(0, |most| most + 1);
    let labels = request.one_an_image("labels", n, classes + 1)?;
    let refuse = |error: Error| request.refuse("input.data_labels", "an image of every class from 0 on", error);
    Ok((set.with_classes(of_data, classes).map_err(refuse)?, Some(labels)))
}

fn mixture<F: Precision>(request: &Request, size: usize) -> Result<GaussianMixture> {
    let means = request.array::<f64>("means")?;
    let count = rows_of(request, "means", &means, size)?;
    let weights =
        if request.has("weights") { request.array::<f64>("weights")? } else { Array1::ones(count).into_dyn() };
    request.check_shape("input.weights", &[count], weights.shape())?;
    // Others widen them in their own precision, and take roots or inverses of that.
    let rounded = |v: f64| if F::NOISY { F::from_f64(F::from_f64(v).to_f64()).to_f64() } else { v };
    let variances = request.array::<f64>("variances")?.mapv(rounded);
    let shape = [count, size, size];
    let axes = variances.ndim();
    if !(1..=3).contains(&axes) || variances.shape() != &shape[..axes] {
        let expected = format!("variances ({count}) or ({count}, {size}), or covariances ({count}, {size}, {size})");
        return Err(request.refuse("input.variances", expected, format!("{:?}", variances.shape())));
    }
    if axes == 3 && size > 256 {
        return Err(request.refuse("input.variances", "covariances of at most 256 numbers", size));
    }
    let component = |k: usize| {
        let (weight, mean) = (flat(&weights)[k], flat(&means)[k * size..][..size].to_vec());
        let of_k = &flat(&variances)[k * variances.len() / count..][..variances.len() / count];
        match axes {
            1 => Component::new(weight, mean, vec![of_k[0]; size]),
            2 => Component::new(weight, mean, of_k.to_vec()),
            _ => Component::with_covariance(
                weight,
                mean,
                &Array2::from_shape_fn((size, size), |(i, j)| of_k[i * size + j]),
            ),
        }
        .map_err(|error| request.refuse("inputs means, variances, weights", "a Gaussian", format!("{error} ({k})")))
    };
    GaussianMixture::new((0..count).map(component).collect::<Result<_>>()?)
}
