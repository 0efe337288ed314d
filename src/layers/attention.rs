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

use ndarray::Array3;

use super::softmax::{softmax, softmax_backward};
use super::{flat, flat_mut, shaped};
use crate::numerics::Real;
use crate::numerics::gemm::{Matrix, Start, matrix_product};

/// What the backward pass needs: q, k, v, and P of each image and head.
#[derive(Debug)]
pub struct Cache<F> {
    qkv: [Array3<F>; 3],
    p: Vec<F>,
    heads: usize,
}

/// o = softmax(q kᵀ / √d) v for each head.
///
/// # Shapes
/// q (n, tokens, c), k and v (n, tokens of the keys, c), to o of q's shape. `heads` divides c.
pub fn attention<F: Real>(q: Array3<F>, k: Array3<F>, v: Array3<F>, heads: usize) -> (Array3<F>, Cache<F>) {
    let (n, tokens, c) = q.dim();
    assert!(
        k.dim() == v.dim() && k.dim().0 == n && k.dim().2 == c,
        "attention: q {:?}, k {:?}, v {:?}",
        q.dim(),
        k.dim(),
        v.dim()
    );
    assert!(heads > 0 && c.is_multiple_of(heads), "attention: {heads} heads of {c} channels");
    let keys = k.dim().1;
    let scale = F::from_f64(1.0 / ((c / heads) as f64).sqrt());
    let mut o = Array3::zeros((n, tokens, c));
    let mut p = vec![F::zero(); n * heads * tokens * keys];
    for (index, p) in p.chunks_mut(tokens * keys).enumerate() {
        let head = Head { image: index / heads, head: index % heads, heads };
        matrix_product(head.of(&q), head.of(&k).t(), p, keys, Start::Overwrite);
        p.iter_mut().for_each(|s| *s *= scale);
        softmax(p, keys);
        matrix_product(Matrix::new(p, tokens, keys), head.of(&v), head.of_mut(&mut o), c, Start::Overwrite);
    }
    (o, Cache { qkv: [q, k, v], p, heads })
}

/// (dq, dk, dv).
pub fn attention_backward<F: Real>(Cache { qkv: [q, k, v], p, heads }: Cache<F>, d_o: &Array3<F>) -> [Array3<F>; 3] {
    let ((_, tokens, c), keys) = (q.dim(), k.dim().1);
    assert_eq!(d_o.dim(), q.dim(), "attention: do has the shape of q");
    let scale = F::from_f64(1.0 / ((c / heads) as f64).sqrt());
    let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|x| shaped(x.dim(), vec![F::zero(); x.len()]));
    let mut ds = vec![F::zero(); tokens * keys];
    for (index, p) in p.chunks(tokens * keys).enumerate() {
        let head = Head { image: index / heads, head: index % heads, heads };
        let probabilities = Matrix::new(p, tokens, keys);
        matrix_product(probabilities.t(), head.of(d_o), head.of_mut(&mut dv), c, Start::Overwrite);
        matrix_product(head.of(d_o), head.of(&v).t(), &mut ds, keys, Start::Overwrite);
        softmax_backward(p, &mut ds, keys);
        ds.iter_mut().for_each(|ds| *ds *= scale);
        let ds = Matrix::new(&ds, tokens, keys);
        matrix_product(ds, head.of(&k), head.of_mut(&mut dq), c, Start::Overwrite);
        matrix_product(ds.t(), head.of(&q), head.of_mut(&mut dk), c, Start::Overwrite);
    }
    [dq, dk, dv]
}

/// One head of one image in a (n, tokens, c) array.
#[derive(Clone, Copy)]
struct Head {
    image: usize,
    head: usize,
    heads: usize,
}

impl Head {
    fn start(self, (_, tokens, c): (usize, usize, usize)) -> usize {
        self.image * tokens * c + self.head * (c / self.heads)
    }

    /// Its (tokens, d) matrix, row after row c apart.
    fn of<F>(self, x: &Array3<F>) -> Matrix<'_, F> {
        let (_, tokens, c) = x.dim();
        Matrix { data: &flat(x)[self.start(x.dim())..], shape: (tokens, c / self.heads), row: c, column: 1 }
    }

    /// Where that matrix starts, to be written with a stride of c.
    fn of_mut<F>(self, x: &mut Array3<F>) -> &mut [F] {
        let start = self.start(x.dim());
        &mut flat_mut(x)[start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Tensors;
    use crate::layers::gradient_check::{check, normal};

    #[test]
    fn attention_gradients_equal_central_differences() {
        // q, k, v as three planes of one input; 5 queries, 7 keys cannot share planes, so 6 of each.
        let plane = |x: &ndarray::Array4<f64>, i: usize| x.index_axis(ndarray::Axis(0), i).to_owned();
        for heads in [1, 2, 4] {
            let forward =
                |_: &Tensors<f64>, x: &ndarray::Array4<f64>| attention(plane(x, 0), plane(x, 1), plane(x, 2), heads);
            let backward = |_: &Tensors<f64>, cache: Cache<f64>, dy: &Array3<f64>, _: &mut Tensors<f64>| {
                let planes = attention_backward(cache, dy);
                ndarray::stack(ndarray::Axis(0), &[planes[0].view(), planes[1].view(), planes[2].view()])
                    .expect("equal shapes")
            };
            check(&Tensors(vec![]), &normal((3, 2, 6, 8), 1), 2, forward, backward)
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
