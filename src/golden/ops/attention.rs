//! Attention: the layer's, and with a mask or values of another width.

use ndarray::{Array3, ArrayD, Ix3, s};

use super::{Request, Results, named};
use crate::Result;
use crate::golden::precision::Precision;
use crate::layers::attention::{attention as of_layer, attention_backward};
use crate::layers::flat;
use crate::layers::softmax::{softmax, softmax_backward};
use crate::numerics::gemm::{Epilogue, Matrix, matrix_product};

/// A score that no softmax sees: its exponential is zero beside any other's.
const HIDDEN: f32 = -1e30;

pub fn attention<F: Precision>(request: &Request) -> Result<Results<F>> {
    let read = |name: &str| request.shaped::<F, Ix3>(name, "(n, tokens, channels)");
    let (q, k, v): (Array3<F>, Array3<F>, Array3<F>) = (read("q")?, read("k")?, read("v")?);
    let ((n, tokens, c), keys, values) = (q.dim(), k.dim().1, v.dim().2);
    request.check_shape("input.k", &[n, keys, c], k.shape())?;
    request.check_shape("input.v", &[n, keys, values], v.shape())?;
    let heads = heads(request, c)?;
    if !values.is_multiple_of(heads) {
        let expected = format!("channels that the {heads} heads divide");
        return Err(request.refuse("input.v", expected, values));
    }
    request.check_size("the scores", &[n, heads, tokens, keys])?;
    request.check_work("the scores", &[n, tokens, keys, c.max(values)])?;
    let mask = mask(request, [n, tokens, keys])?;
    let d_o = request.grad_output::<F>(&[n, tokens, values])?;
    let d_o = d_o.map(|d_o| d_o.into_dimensionality::<Ix3>().expect("three axes"));
    let (o, gradients) = if mask.is_none() && values == c {
        let (o, cache) = of_layer(q, k, v, heads, true);
        (o, d_o.map(|d_o| attention_backward(cache, d_o)))
    } else {
        by_head([&q, &k, &v], heads, mask.as_ref(), d_o.as_ref())
    };
    let names = ["grad.q", "grad.k", "grad.v"];
    let gradients = gradients.into_iter().flatten().zip(names);
    let results = gradients.map(|(gradient, name)| named(name, gradient.into_dyn()));
    Ok(std::iter::once(named("output", o.into_dyn())).chain(results).collect())
}

/// A number of heads that divides the channels.
pub fn heads(request: &Request, channels: usize) -> Result<usize> {
    let heads: usize = request.attribute("heads", 1)?;
    if heads == 0 || !channels.is_multiple_of(heads) {
        return Err(request.refuse("attribute heads", format!("a divisor of the {channels} channels"), heads));
    }
    Ok(heads)
}

/// Which keys each query sees, 1 or 0, in every image; every query sees one.
fn mask(request: &Request, [n, tokens, keys]: [usize; 3]) -> Result<Option<Array3<i64>>> {
    if !request.has("mask") {
        return Ok(None);
    }
    let mask: ArrayD<i64> = request.integers("mask", 0..2)?;
    if mask.shape() != [tokens, keys] && mask.shape() != [n, tokens, keys] {
        let expected = format!("a tensor of shape {:?} or {:?}", [tokens, keys], [n, tokens, keys]);
        return Err(request.refuse("input.mask", expected, format!("{:?}", mask.shape())));
    }
    let mask = mask.broadcast((n, tokens, keys)).expect("one of these shapes").to_owned();
    match mask.rows().into_iter().position(|row| row.iter().all(|&seen| seen == 0)) {
        Some(row) => {
            let place = format!("query {} of image {}", row % tokens, row / tokens);
            Err(request.refuse("input.mask", "a key that each query sees", format!("none for {place}")))
        }
        None => Ok(Some(mask)),
    }
}

/// C = A · B, of (rows, steps) by (steps, columns).
fn product<F: Precision>(a: Matrix<F>, b: Matrix<F>) -> Vec<F> {
    let mut c = vec![F::zero(); a.shape.0 * b.shape.1];
    matrix_product(a, b, &mut c, b.shape.1, Epilogue::Overwrite);
    c
}

/// o, and dq, dk, dv where do is given: the layer's derivation, head after head, with hidden scores.
fn by_head<F: Precision>(
    [q, k, v]: [&Array3<F>; 3],
    heads: usize,
    mask: Option<&Array3<i64>>,
    d_o: Option<&Array3<F>>,
) -> (Array3<F>, Option<[Array3<F>; 3]>) {
    let ((n, tokens, c), keys, values) = (q.dim(), k.dim().1, v.dim().2);
    let (d, d_v) = (c / heads, values / heads);
    let scale = F::from_f64(1.0 / (d as f64).sqrt());
    let mut o = Array3::zeros((n, tokens, values));
    let mut gradients = d_o.map(|_| [q, k, v].map(|x| Array3::zeros(x.dim())));
    for (image, head) in (0..n).flat_map(|image| (0..heads).map(move |head| (image, head))) {
        let of = |d: usize| s![image, .., head * d..(head + 1) * d];
        let part = |x: &Array3<F>, d: usize| x.slice(of(d)).as_standard_layout().into_owned();
        let (q, k, v) = (part(q, d), part(k, d), part(v, d_v));
        let [q, k] = [&q, &k].map(|x| Matrix::new(flat(x), x.nrows(), d));
        let v = Matrix::new(flat(&v), keys, d_v);
        let mut p = product(q, k.t());
        p.iter_mut().for_each(|score| *score *= scale);
        if let Some(mask) = mask {
            let mask = mask.index_axis(ndarray::Axis(0), image);
            let hidden = p.iter_mut().zip(mask).filter(|(_, seen)| **seen == 0);
            hidden.for_each(|(score, _)| *score = F::exact(HIDDEN));
        }
        softmax(&mut p, keys);
        let p = Matrix::new(&p, tokens, keys);
        let matrix = |numbers: Vec<F>, d: usize| crate::layers::shaped((numbers.len() / d, d), numbers);
        o.slice_mut(of(d_v)).assign(&matrix(product(p, v), d_v));
        if let (Some([dq, dk, dv]), Some(d_o)) = (&mut gradients, d_o) {
            let d_o = part(d_o, d_v);
            let d_o = Matrix::new(flat(&d_o), tokens, d_v);
            let mut ds = product(d_o, v.t());
            softmax_backward(p.data, &mut ds, keys);
            ds.iter_mut().for_each(|ds| *ds *= scale);
            let ds = Matrix::new(&ds, tokens, keys);
            dq.slice_mut(of(d)).assign(&matrix(product(ds, k), d));
            dk.slice_mut(of(d)).assign(&matrix(product(ds.t(), q), d));
            dv.slice_mut(of(d_v)).assign(&matrix(product(p.t(), d_o), d_v));
        }
    }
    (o, gradients)
}
