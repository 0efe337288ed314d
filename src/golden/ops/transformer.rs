//! The parts of a transformer: patches, positions, modulation, what time and class are embedded to, and the block.

use ndarray::{Array2, Array3, ArrayD, Ix2, Ix3};

use super::attention::heads;
use super::diffusion::{sinusoids, times};
use super::layers::eps;
use super::request::{channels_first, channels_last};
use super::{Request, Results, named};
use crate::Result;
use crate::golden::precision::Precision;
use crate::layers::affine::Affine;
use crate::layers::embedding::TimeEmbedding;
use crate::layers::modulate::{add_gated, add_gated_backward, modulate as scale_and_shift, modulate_backward};
use crate::layers::{Layout, ParameterVector, patch, position, shaped};
use crate::models::dit::{Block, Embedder};
use crate::models::{DitConfig, Trace};
use crate::numerics::{Native, elementary};

/// The side of a patch: it divides both sides of the images.
fn side_of_patch(request: &Request, (h, w): (usize, usize)) -> Result<usize> {
    let side: usize = request.required("patch")?;
    if side > 0 && h.is_multiple_of(side) && w.is_multiple_of(side) {
        return Ok(side);
    }
    Err(request.refuse("attribute patch", format!("a divisor of {h} and {w}"), side))
}

/// Images to patches.
pub fn patchify<F: Precision>(request: &Request) -> Result<Results<F>> {
    let x = request.images::<F>("x")?;
    let (_, h, w, _) = x.dim();
    let side = side_of_patch(request, (h, w))?;
    let y = patch::patchify(x, side).into_dyn();
    let dy = request.grad_output::<F>(y.shape())?;
    let mut results = vec![named("output", y)];
    results.extend(dy.map(|dy| {
        let dy: Array3<F> = dy.into_dimensionality().expect("the output's three axes");
        named("grad.x", channels_first(patch::unpatchify(dy, side, (h, w))))
    }));
    Ok(results)
}

/// Patches to images.
pub fn unpatchify<F: Precision>(request: &Request) -> Result<Results<F>> {
    let x = request.shaped::<F, Ix3>("x", "(n, tokens, patch * patch * c)")?;
    let (h, w): (usize, usize) = (request.required("height")?, request.required("width")?);
    let side = side_of_patch(request, (h, w))?;
    let (n, tokens, length) = x.dim();
    if !length.is_multiple_of(side * side) {
        return Err(request.refuse(
            "input.x",
            format!("{side} x {side} pixels in each patch"),
            format!("{:?}", x.dim()),
        ));
    }
    let expected = (h / side).checked_mul(w / side).unwrap_or(0);
    request.check_shape("input.x", &[n, expected, length], &[n, tokens, length])?;
    let y = channels_first(patch::unpatchify(x, side, (h, w)));
    let dy = request.grad_output::<F>(y.shape())?;
    let mut results = vec![named("output", y)];
    results.extend(dy.map(|dy| {
        let dy = channels_last(dy.into_dimensionality().expect("the output's four axes"));
        named("grad.x", patch::patchify(dy, side).into_dyn())
    }));
    Ok(results)
}

/// The vectors of the tokens of a grid. As with the times: others have frequencies and angles in float32.
pub fn positions<F: Precision>(request: &Request) -> Result<Results<F>> {
    let (rows, columns): (usize, usize) = (request.required("rows")?, request.required("columns")?);
    let (base, dim): (usize, usize) = (request.attribute("base", rows)?, request.required("dim")?);
    if dim == 0 || !dim.is_multiple_of(4) {
        return Err(request.refuse("attribute dim", "a positive multiple of 4", dim));
    }
    for (name, value) in [("rows", rows), ("columns", columns), ("base", base)] {
        if !(1..=1 << 14).contains(&value) {
            return Err(request.refuse(&format!("attribute {name}"), "1 to 16384", value));
        }
    }
    request.check_size("output", &[rows, columns, dim])?;
    let table = if F::NOISY {
        noisy_positions((rows, columns), base, dim)
    } else {
        position::positions((rows, columns), base, dim)
    };
    Ok(vec![named("output", table.into_dyn())])
}

fn noisy_positions<F: Precision>((rows, columns): (usize, usize), base: usize, dim: usize) -> Array2<F> {
    let exact = |n: usize| F::exact(n as f32);
    let step = F::from_f64(-elementary::ln(10_000.0)) / exact(dim / 4);
    Array2::from_shape_fn((rows * columns, dim), |(token, i)| {
        let (part, i) = (i / (dim / 4), i % (dim / 4));
        let (place, places) = if part < 2 { (token % columns, columns) } else { (token / columns, rows) };
        let at = exact(place) / (exact(places) / exact(base));
        let angle = (at * (step * exact(i)).exp::<Native>()).to_f64();
        F::from_f64(if part % 2 == 0 { elementary::sin(angle) } else { elementary::cos(angle) })
    })
}

/// Tokens of images, (n, tokens, c).
fn tokens<F: Precision>(request: &Request, name: &str) -> Result<Array3<F>> {
    request.shaped::<F, Ix3>(name, "(n, tokens, c)")
}

/// As the rows of one matrix.
fn rows<F: Precision>(x: Array3<F>) -> Array2<F> {
    let (n, tokens, c) = x.dim();
    x.into_shape_with_order((n * tokens, c)).expect("tokens as rows")
}

/// The rows of one matrix as tokens of that shape.
fn as_tokens<F: Precision>(x: Array2<F>, shape: &[usize]) -> ArrayD<F> {
    x.into_shape_with_order(shape).expect("rows as tokens")
}

/// Vectors of the images beside one another, (n, parts · c).
fn beside<F: Precision>(request: &Request, names: &[&str], (n, c): (usize, usize)) -> Result<Array2<F>> {
    let mut u = Array2::zeros((n, names.len() * c));
    for (part, name) in names.iter().enumerate() {
        let values = request.array::<F>(name)?;
        request.check_shape(&format!("input.{name}"), &[n, c], values.shape())?;
        let values = values.into_dimensionality::<Ix2>().expect("two axes");
        u.slice_mut(ndarray::s![.., part * c..(part + 1) * c]).assign(&values);
    }
    Ok(u)
}

/// The gradients of the parts of u.
fn apart<F: Precision>(names: &[&str], du: &Array2<F>) -> Results<F> {
    let c = du.ncols() / names.len();
    let part = |i: usize| du.slice(ndarray::s![.., i * c..(i + 1) * c]).as_standard_layout().into_owned().into_dyn();
    names.iter().enumerate().map(|(i, name)| named(&format!("grad.{name}"), part(i))).collect()
}

/// y = x (1 + scale) + shift.
pub fn modulate<F: Precision>(request: &Request) -> Result<Results<F>> {
    let names = ["shift", "scale"];
    let x = tokens::<F>(request, "x")?;
    let (n, count, c) = x.dim();
    let (shape, u) = ([n, count, c], beside(request, &names, (n, c))?);
    let x = rows(x);
    let mut results = vec![named("output", as_tokens(scale_and_shift(&x, &u, [0, 1]), &shape))];
    if let Some(dy) = request.grad_output::<F>(&shape)? {
        let mut du = Array2::zeros(u.dim());
        let dy = rows(dy.into_dimensionality().expect("the output's three axes"));
        results.push(named("grad.x", as_tokens(modulate_backward(&x, u, [0, 1], dy, &mut du), &shape)));
        results.extend(apart(&names, &du));
    }
    Ok(results)
}

/// y = x + gate · branch.
pub fn gate<F: Precision>(request: &Request) -> Result<Results<F>> {
    let (x, branch) = (tokens::<F>(request, "x")?, tokens::<F>(request, "branch")?);
    let (n, count, c) = x.dim();
    let shape = [n, count, c];
    request.check_shape("input.branch", &shape, branch.shape())?;
    let (u, branch) = (beside(request, &["gate"], (n, c))?, rows(branch));
    let mut results = vec![named("output", as_tokens(add_gated(rows(x), &branch, &u, 0), &shape))];
    if let Some(dy) = request.grad_output::<F>(&shape)? {
        let mut du = Array2::zeros(u.dim());
        let rows_of_dy = rows(dy.clone().into_dimensionality().expect("the output's three axes"));
        results.push(named("grad.x", dy));
        results.push(named("grad.branch", as_tokens(add_gated_backward(branch, u, 0, rows_of_dy, &mut du), &shape)));
        results.extend(apart(&["gate"], &du));
    }
    Ok(results)
}

/// diffusers' `CombinedTimestepLabelEmbeddings`: time and class as one vector.
pub fn dit_embedding<F: Precision>(request: &Request) -> Result<Results<F>> {
    const TABLE: &str = "class_embedder.embedding_table.weight";
    let t = times(request, "t")?;
    let (c, features) = request.shaped::<F, Ix2>("timestep_embedder.linear_1.weight", "(c, sinusoids)")?.dim();
    let labels = request.shaped::<F, Ix2>(TABLE, "(labels, c)")?.nrows();
    if features < 4 {
        return Err(request.refuse("input.timestep_embedder.linear_1.weight", "at least 4 sinusoids", features));
    }
    request.check_size("output", &[t.len(), c.max(features)])?;
    let classes = request.one_an_image("class_labels", t.len(), labels)?;
    let mut layout = Layout::default();
    let embedder = Embedder::new(&mut layout, "layer", features, c, labels);
    let w = request.parameters(&layout)?;
    let waves = TimeEmbedding { dim: features, flip_sin_to_cos: true, freq_shift: 1.0 };
    let (y, cache) = embedder.forward(&w, sinusoids::<F>(&waves, &t), &classes, &mut Trace::off());
    let mut results = vec![named("output", y.into_dyn())];
    if let Some(dy) = request.grad_output::<F>(&[t.len(), c])? {
        let mut grads = ParameterVector::zeros(layout.count());
        let dy: Array2<F> = dy.into_dimensionality().expect("the output's two axes");
        embedder.backward(&w, cache, &classes, dy, &mut grads);
        results.extend(request.gradients(&layout, &grads));
    }
    Ok(results)
}

/// diffusers' `BasicTransformerBlock` with `ada_norm_zero`, but for what embeds time and class: `emb` is its result.
pub fn dit_block<F: Precision>(request: &Request) -> Result<Results<F>> {
    let x = tokens::<F>(request, "x")?;
    let (n, count, c) = x.dim();
    let emb = request.shaped::<F, Ix2>("emb", "(n, c)")?;
    request.check_shape("input.emb", &[n, c], emb.shape())?;
    let heads = heads(request, c)?;
    request.check_size("the scores", &[n, heads, count, count])?;
    let has = |names: &[&str]| names.iter().any(|name| request.has(name));
    let config = DitConfig {
        num_attention_heads: heads,
        attention_head_dim: c / heads,
        attention_bias: has(&["attn1.to_q.bias", "attn1.to_k.bias", "attn1.to_v.bias"]),
        norm_elementwise_affine: has(&["norm3.weight", "norm3.bias"]),
        norm_eps: eps(request)?,
        ..DitConfig::default()
    };
    let mut layout = Layout::default();
    let block = Block::new(&mut layout, "layer".into(), 0, &config);
    let w = request.parameters(&layout)?;
    let shape = [n, count, c];
    let (y, cache) = block.forward(&w, rows(x), (&emb).into(), None, true, &mut Trace::off());
    let mut results = vec![named("output", as_tokens(y, &shape))];
    if let Some(dy) = request.grad_output::<F>(&shape)? {
        let mut grads = ParameterVector::zeros(layout.count());
        let dy: Array3<F> = dy.into_dimensionality().expect("the output's three axes");
        let (dx, d_emb) = block.backward(&w, cache, emb.into(), rows(dy), &mut grads);
        results.push(named("grad.x", as_tokens(dx, &shape)));
        results.push(named("grad.emb", d_emb.into_dyn()));
        results.extend(request.gradients(&layout, &grads));
    }
    Ok(results)
}

/// A scale and a shift for each channel, the same for all rows.
pub fn affine<F: Precision>(request: &Request) -> Result<Results<F>> {
    let x = request.array::<F>("x")?;
    let Some(&c) = x.shape().last() else {
        return Err(request.refuse("input.x", "a tensor of shape (..., c)", "a scalar"));
    };
    let as_rows = |x: ArrayD<F>| -> Array2<F> { shaped((x.len() / c, c), x.into_raw_vec_and_offset().0) };
    let mut layout = Layout::default();
    let layer = Affine::new(&mut layout, "layer", c);
    let w = request.parameters(&layout)?;
    let shape = x.shape().to_vec();
    let x = as_rows(x);
    let mut results = vec![named("output", as_tokens(layer.forward(&w, &x), &shape))];
    if let Some(dy) = request.grad_output::<F>(&shape)? {
        let mut grads = ParameterVector::zeros(layout.count());
        results.push(named("grad.x", as_tokens(layer.backward(&w, x, as_rows(dy), &mut grads), &shape)));
        results.extend(request.gradients(&layout, &grads));
    }
    Ok(results)
}
