//! A classifier's block and loss, and the measures that pictures' features are compared by.

use ndarray::{Array2, ArrayD, Ix2, IxDyn};

use super::layers::eps;
use super::request::{channels_first, channels_last};
use super::{Request, Results, named};
use crate::Result;
use crate::evaluate::quality::frechet::{Gaussian, Reference};
use crate::evaluate::quality::neighbours::{K, Manifold};
use crate::golden::precision::Precision;
use crate::layers::cross_entropy::cross_entropy as loss_and_gradient;
use crate::layers::{Layout, ParameterVector};
use crate::models::classifier::block::{Block, BlockSettings};

/// The mean of −ln p of the labels, and its gradient.
pub fn cross_entropy<F: Precision>(request: &Request) -> Result<Results<F>> {
    let logits = request.shaped::<F, Ix2>("logits", "(n, classes)")?;
    let (n, classes) = logits.dim();
    let labels = request.one_an_image("labels", n, classes)?;
    let (sum, gradient) = loss_and_gradient(&logits, &labels, n);
    let loss = ArrayD::from_elem(IxDyn(&[]), F::from_f64(sum / n as f64));
    Ok(vec![named("output.loss", loss), named("grad.logits", gradient.into_dyn())])
}

/// A residual block without time.
pub fn classifier_block<F: Precision>(request: &Request) -> Result<Results<F>> {
    let x = request.images::<F>("x")?;
    let c_in = x.dim().3;
    let c_out = request.shaped::<F, ndarray::Ix4>("conv1.weight", "(c_out, c_in, 3, 3)")?.dim().0;
    let (groups, stride): (usize, usize) = (request.required("groups")?, request.attribute("stride", 1)?);
    if groups == 0 || !c_in.is_multiple_of(groups) || !c_out.is_multiple_of(groups) {
        return Err(request.refuse("attribute groups", format!("a divisor of {c_in} and {c_out} channels"), groups));
    }
    if !(1..=2).contains(&stride) {
        return Err(request.refuse("attribute stride", "1 or 2", stride));
    }
    let (shortcut, needed) = ("conv_shortcut.weight", stride > 1 || c_in != c_out);
    if request.has(shortcut) != needed {
        let expected = if needed { "one, as size or channels change" } else { "none, as size and channels stay" };
        return Err(request.refuse(&format!("input.{shortcut}"), expected, if needed { "none" } else { "one" }));
    }
    let mut layout = Layout::default();
    let settings = BlockSettings { groups, norm_eps: eps(request)?, level_channels: None };
    let block = Block::new(&mut layout, "layer", (c_in, c_out), stride, settings);
    let w = request.parameters(&layout)?;
    let (y, cache) = block.forward(&w, x, None);
    let y = channels_first(y);
    let dy = request.grad_output::<F>(y.shape())?;
    let mut results = vec![named("output", y)];
    if let Some(dy) = dy {
        let mut grads = ParameterVector::zeros(layout.count());
        let dy = channels_last(dy.into_dimensionality().expect("the output's four axes"));
        results.push(named("grad.x", channels_first(block.backward(&w, cache, dy, None, &mut grads))));
        results.extend(request.gradients(&layout, &grads));
    }
    Ok(results)
}

/// Of two sets of features, in float64 as everyone computes it; noise comes from the features' own rounding.
pub fn frechet_distance<F: Precision>(request: &Request) -> Result<Results<F>> {
    let [x, y] = features::<F>(request, ["x", "y"])?.map(|set| set.mapv(|x| x * F::one()));
    let distance = Reference::new(Gaussian::of(x.view())).distance(&Gaussian::of(y.view()));
    Ok(vec![named("output", ArrayD::from_elem(IxDyn(&[]), F::from_f64(distance)))])
}

/// Both fractions; distances are of the features as they are given.
pub fn precision_recall<F: Precision>(request: &Request) -> Result<Results<F>> {
    let [real, generated] = features::<f32>(request, ["real", "generated"])?;
    let k: usize = request.attribute("k", K)?;
    if k == 0 || k >= real.nrows().min(generated.nrows()) {
        return Err(request.refuse("attribute k", "at least 1, and fewer than vectors of either set", k));
    }
    let fraction = |of: &Array2<f32>, among: &Array2<f32>| {
        let covered = Manifold::new(among.view(), k).covers(of.view());
        let part = covered.iter().filter(|&&is| is).count() as f64 / covered.len() as f64;
        ArrayD::from_elem(IxDyn(&[]), F::from_f64(part))
    };
    Ok(vec![
        named("output.precision", fraction(&generated, &real)),
        named("output.recall", fraction(&real, &generated)),
    ])
}

/// Two sets of vectors of one length, at least two in each.
fn features<F: Precision>(request: &Request, names: [&str; 2]) -> Result<[Array2<F>; 2]> {
    let [a, b] = names.map(|name| request.shaped::<F, Ix2>(name, "(n, features)"));
    let (a, b) = (a?, b?);
    for (name, set) in [(names[0], &a), (names[1], &b)] {
        if set.nrows() < 2 || set.iter().any(|x| !x.is_finite()) {
            return Err(request.refuse(&format!("input.{name}"), "two or more rows of finite numbers", "another"));
        }
    }
    request.check_shape(&format!("input.{}", names[1]), &[b.nrows(), a.ncols()], &[b.nrows(), b.ncols()])?;
    request.check_work("the distances", &[a.nrows().max(a.ncols()), b.nrows().max(b.ncols()), a.ncols()])?;
    Ok([a, b])
}
