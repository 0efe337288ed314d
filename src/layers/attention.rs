//! Multi-head scaled dot-product attention (Vaswani et al. 2017, Eq. 1).
//!
//! # Derivation
//!
//! For each image and head, with q, k, v of shape (tokens, d) and d the channels of a head:
//!
//! ```text
//! S = q kᵀ / √d      P = softmax(S), row by row      o = P v
//! ```
//!
//! Given do:
//!
//! 1. o = P v is a product: dv = Pᵀ do, dP = do vᵀ.
//! 2. dS from dP by softmax's rule ([`softmax`](super::softmax)).
//! 3. S = q kᵀ/√d is a product: dq = dS k/√d, dk = dSᵀ q/√d.
//!
//! Heads are runs of d channels and do not meet. The cache keeps q, k, v and P. Each product is in the order of
//! [`gemm`](crate::numerics::gemm); the factor 1/√d is applied to S and to dS, each product rounded once. Hazard: a constant added to every
//! row of k adds the same to all scores of a row, which softmax does not see, so the gradient of a key's bias is zero up
//! to rounding. Proven by central differences and PyTorch's numbers.
//!
//! Next in the [course](super#the-course): [`patch`](super::patch).

use std::ops::Range;

use ndarray::{Array3, Ix3};

use super::softmax::{softmax, softmax_backward};
use super::{Kept, flat};
use crate::numerics::buffer_pool::{self, Aligned};
use crate::numerics::gemm::{Epilogue, Matrix, matrix_product};
use crate::numerics::{Real, parallel};

/// What the backward pass needs: q, k, v, and P of each image and head.
#[derive(Debug)]
pub struct Cache<F: Real> {
    qkv: [Kept<F, Ix3>; 3],
    p: Aligned<F>,
    heads: usize,
}

/// o = softmax(q kᵀ / √d) v for each head.
///
/// # Shapes
/// q (n, tokens, c), k and v (n, tokens of the keys, c), to o of q's shape.
///
/// # Panics
/// If the shapes do not agree, an axis has length 0, or `heads` does not divide c.
pub fn attention<F: Real>(
    q: impl Into<Kept<F, Ix3>>,
    k: impl Into<Kept<F, Ix3>>,
    v: impl Into<Kept<F, Ix3>>,
    heads: usize,
) -> (Array3<F>, Cache<F>) {
    let (q, k, v) = (q.into(), k.into(), v.into());
    let (n, tokens, c) = q.dim();
    assert!(
        k.dim() == v.dim() && k.dim().0 == n && k.dim().2 == c,
        "attention: q {:?}, k {:?}, v {:?}",
        q.dim(),
        k.dim(),
        v.dim()
    );
    assert!(heads > 0 && c.is_multiple_of(heads), "attention: {heads} heads of {c} channels");
    let (keys, d) = (k.dim().1, c / heads);
    let scale = F::from_f64(1.0 / (d as f64).sqrt());
    let (mut o, mut p) = (buffer_pool::take(q.len()), buffer_pool::take(n * heads * tokens * keys));
    let images = o.chunks_mut(tokens * c).zip(p.chunks_mut(heads * tokens * keys)).enumerate();
    parallel::deal(images.collect(), |(image, (o, p))| {
        for (head, p) in p.chunks_mut(tokens * keys).enumerate() {
            let of = |x| matrix_of_head(x, image, head * d..(head + 1) * d);
            matrix_product(of(&q), of(&k).t(), p, keys, Epilogue::Overwrite);
            p.iter_mut().for_each(|s| *s *= scale);
            softmax(p, keys);
            matrix_product(Matrix::new(p, tokens, keys), of(&v), &mut o[head * d..], c, Epilogue::Overwrite);
        }
    });
    (o.into_array((n, tokens, c)), Cache { qkv: [q, k, v], p, heads })
}

/// (dq, dk, dv).
///
/// # Panics
/// If do has another shape than o.
pub fn attention_backward<F: Real>(cache: Cache<F>, d_o: impl Into<Kept<F, Ix3>>) -> [Array3<F>; 3] {
    let (Cache { qkv: [q, k, v], p, heads }, d_o) = (cache, d_o.into());
    let ((_, tokens, c), keys) = (q.dim(), k.dim().1);
    assert_eq!(d_o.dim(), q.dim(), "attention: do has the shape of q");
    let d = c / heads;
    let scale = F::from_f64(1.0 / (d as f64).sqrt());
    let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|x| buffer_pool::take(x.len()));
    let gradients = dk.chunks_mut(keys * c).zip(dv.chunks_mut(keys * c));
    let images = dq.chunks_mut(tokens * c).zip(gradients).zip(p.chunks(heads * tokens * keys)).enumerate();
    parallel::deal(images.collect(), |(image, ((dq, (dk, dv)), p))| {
        let mut ds = buffer_pool::take(tokens * keys);
        for (head, p) in p.chunks(tokens * keys).enumerate() {
            let of = |x| matrix_of_head(x, image, head * d..(head + 1) * d);
            matrix_product(Matrix::new(p, tokens, keys).t(), of(&d_o), &mut dv[head * d..], c, Epilogue::Overwrite);
            matrix_product(of(&d_o), of(&v).t(), &mut ds, keys, Epilogue::Overwrite);
            softmax_backward(p, &mut ds, keys);
            ds.iter_mut().for_each(|ds| *ds *= scale);
            let ds = Matrix::new(&ds, tokens, keys);
            matrix_product(ds, of(&k), &mut dq[head * d..], c, Epilogue::Overwrite);
            matrix_product(ds.t(), of(&q), &mut dk[head * d..], c, Epilogue::Overwrite);
        }
    });
    [dq.into_array(q.dim()), dk.into_array(k.dim()), dv.into_array(v.dim())]
}

/// The (tokens, d) matrix of one head of one image in a (n, tokens, c) array: row after row, c apart.
fn matrix_of_head<F>(x: &Array3<F>, image: usize, channels: Range<usize>) -> Matrix<'_, F> {
    let (_, tokens, c) = x.dim();
    Matrix { data: &flat(x)[image * tokens * c + channels.start..], shape: (tokens, channels.len()), row: c, column: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradient_check::check;
    use crate::layers::{ParameterVector, shaped};
    use crate::numerics::rng::normal;

    #[test]
    fn attention_gradients_equal_central_differences() {
        // q, k, v as three planes of one input; 5 queries, 7 keys cannot share planes, so 6 of each.
        let plane = |x: &ndarray::Array4<f64>, i: usize| x.index_axis(ndarray::Axis(0), i).to_owned();
        for heads in [1, 2, 4] {
            let forward = |_: &ParameterVector<f64>, x: &ndarray::Array4<f64>| {
                attention(plane(x, 0), plane(x, 1), plane(x, 2), heads)
            };
            let backward =
                |_: &ParameterVector<f64>, cache: Cache<f64>, dy: &Array3<f64>, _: &mut ParameterVector<f64>| {
                    let planes = attention_backward(cache, dy);
                    ndarray::stack(ndarray::Axis(0), &[planes[0].view(), planes[1].view(), planes[2].view()])
                        .expect("equal shapes")
                };
            check(&ParameterVector(vec![]), &normal((3, 2, 6, 8), 1), 2, forward, backward)
                .unwrap_or_else(|e| panic!("{heads} heads: {e}"));
        }
    }

    #[test]
    fn attention_to_one_key_copies_its_value() {
        let (q, k, v) = (normal((2, 5, 4), 1), normal((2, 1, 4), 2), normal((2, 1, 4), 3));
        let o = attention(q, k, v.clone(), 2).0;
        assert_eq!(o, v.broadcast((2, 5, 4)).expect("one token to five"));
    }

    #[test]
    fn attention_with_logits_of_400_stays_finite() {
        let q = Array3::from_elem((1, 3, 4), 20.0f32);
        let k = shaped((1, 2, 4), vec![20.0, 20.0, 20.0, 20.0, -20.0, -20.0, -20.0, -20.0]);
        let v = shaped((1, 2, 4), (0..8).map(|i| i as f32).collect());
        assert_eq!(flat(&attention(q, k, v, 1).0), [0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0]);
    }
}
