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
//! Heads are runs of d channels and do not meet.
//!
//! # Block by block
//!
//! A row of S, of P and of dS needs one row of q and of do. So 48 rows at a time go all the way to o, and to dq, and the matrix
//! of all scores is never there. dv and dk add up over the queries, in blocks of 256 rows as every product does, and the sum of a
//! block goes on from strip to strip (`over_queries`), so a strip of P and of dS is what the backward pass holds. It computes P
//! again from q and k, to the same bits; a P that is small is kept, which is faster: `WORTH_KEEPING`.
//!
//! The cache keeps q, k, v and perhaps P. Each product is in the order of
//! [`gemm`](crate::numerics::gemm); the factor 1/√d is applied to S and to dS, each product rounded once. Hazard: a constant added to every
//! row of k adds the same to all scores of a row, which softmax does not see, so the gradient of a key's bias is zero up
//! to rounding. Proven by central differences and PyTorch's numbers.
//!
//! Next in the [course](super#the-course): [`patch`](super::patch).

use ndarray::{Array3, Ix3};

use super::softmax::{scaled_softmax, scaled_softmax_backward};
use super::{Kept, flat};
use crate::numerics::buffer_pool::{self, Aligned};
use crate::numerics::gemm::{BLOCK, Epilogue, Matrix, Readable, Rectangle, Right, panel_product_in};
use crate::numerics::{Real, parallel};
use over_queries::OverQueries;

/// Rows of scores that are computed at once: few enough for them to stay in the second cache beside the keys and the values.
const ROWS: usize = 48;

/// The most bytes of P that are kept for a backward pass: what is larger takes longer to compute again, but memory ends.
const WORTH_KEEPING: usize = 32 << 20;

/// What the backward pass needs: q, k, v, and P of each image and head, where it is kept.
#[derive(Debug)]
pub struct Cache<F: Real> {
    qkv: [Kept<F, Ix3>; 3],
    p: Option<Aligned<F>>,
    heads: usize,
}

/// o = softmax(q kᵀ / √d) v for each head. Where a backward pass `follows`, P is kept for it if it is small; it may follow
/// anyway.
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
    follows: bool,
) -> (Array3<F>, Cache<F>) {
    let (q, k, v) = (q.into(), k.into(), v.into());
    assert!(
        k.dim() == v.dim() && k.dim().0 == q.dim().0 && k.dim().2 == q.dim().2,
        "attention: q {:?}, k {:?}, v {:?}",
        q.dim(),
        k.dim(),
        v.dim()
    );
    assert!(heads > 0 && q.dim().2.is_multiple_of(heads), "attention: {heads} heads of {} channels", q.dim().2);
    let (tokens, scores) = (q.dim().1, Scores::new(&k, heads));
    let of_a_head = tokens * scores.stride;
    let numbers = q.dim().0 * heads * of_a_head;
    let keeps = follows && numbers * size_of::<F>() <= WORTH_KEEPING;
    let (mut o, mut p) = (buffer_pool::take(q.len()), keeps.then(|| buffer_pool::take(numbers)));
    let parts = by_head(&mut o, q.dim(), heads).into_iter().zip(in_chunks(p.as_deref_mut(), of_a_head));
    parallel::deal(parts.enumerate().collect(), |(head, (o, p))| {
        let [q, k, v] = [&q, &k, &v].map(|x| matrix_of(x, head, heads));
        let (k_t, v) = (Readable::new(k.t()), Readable::new(v));
        let at_once = rows_at_once(tokens, scores.keys);
        let parts = o.by_rows(at_once).into_iter().zip(in_chunks(p, at_once * scores.stride));
        parallel::deal(parts.enumerate().collect(), |(part, (o, mut p))| {
            let q = q.rows(part * at_once, o.shape().0);
            let mut strip = p.is_none().then(|| buffer_pool::take(ROWS * scores.stride));
            for (i, o) in o.by_rows(ROWS).into_iter().enumerate() {
                let (first, rows) = (i * ROWS, o.shape().0);
                let p = match &mut p {
                    Some(p) => &mut p[first * scores.stride..],
                    None => strip.as_deref_mut().expect("taken where P is not kept"),
                };
                scores.probabilities(q.rows(first, rows), k_t.as_right(), p);
                panel_product_in(scores.matrix(p, rows), v.as_right(), o, Epilogue::Overwrite);
            }
        });
    });
    (o.into_array(q.dim()), Cache { qkv: [q, k, v], p, heads })
}

/// (dq, dk, dv).
///
/// # Panics
/// If do has another shape than o.
pub fn attention_backward<F: Real>(cache: Cache<F>, d_o: impl Into<Kept<F, Ix3>>) -> [Array3<F>; 3] {
    let (Cache { qkv: [q, k, v], p, heads }, d_o) = (cache, d_o.into());
    assert_eq!(d_o.dim(), q.dim(), "attention: do has the shape of q");
    let (tokens, scores) = (q.dim().1, Scores::new(&k, heads));
    let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|x| buffer_pool::take(x.len()));
    let of_keys = by_head(&mut dk, k.dim(), heads).into_iter().zip(by_head(&mut dv, k.dim(), heads));
    let parts = by_head(&mut dq, q.dim(), heads).into_iter().zip(of_keys);
    parallel::deal(parts.enumerate().collect(), |(head, (dq, (dk, dv)))| {
        let [q, k, v, d_o] = [&q, &k, &v, &d_o].map(|x| matrix_of(x, head, heads));
        let at_once = scores.queries_at_once();
        let of_a_strip = at_once.min(tokens) * scores.stride;
        let mut again = p.is_none().then(|| (Readable::new(k.t()), buffer_pool::take(of_a_strip)));
        let (k, v_t, mut ds) = (Readable::new(k), Readable::new(v.t()), buffer_pool::take(of_a_strip));
        let [mut dk, mut dv] = [dk, dv].map(OverQueries::new);
        for (block, dq) in dq.by_rows(BLOCK).into_iter().enumerate() {
            for (strip, dq) in dq.by_rows(at_once).into_iter().enumerate() {
                let (first, rows) = (block * BLOCK + strip * at_once, dq.shape().0);
                let (q, d_o) = (q.rows(first, rows), d_o.rows(first, rows));
                let p: &[F] = match (&p, &mut again) {
                    (Some(p), _) => &p[(head * tokens + first) * scores.stride..],
                    (None, Some((k_t, p))) => {
                        scores.of_rows(q, k_t.as_right(), p);
                        p
                    }
                    (None, None) => unreachable!("computed again where it is not kept"),
                };
                scores.gradients(p, d_o, v_t.as_right(), k.as_right(), &mut ds, dq);
                dv.add(first, scores.matrix(p, rows), d_o);
                dk.add(first, scores.matrix(&ds, rows), q);
            }
        }
        [dk, dv].iter_mut().for_each(OverQueries::end_block);
    });
    [dq.into_array(q.dim()), dk.into_array(k.dim()), dv.into_array(v.dim())]
}

/// How rows of scores, P or dS lie in memory.
#[derive(Clone, Copy)]
struct Scores<F> {
    keys: usize,
    /// From a row to the next: an odd number of cache lines, or a column of 256 rows would drive itself out of the first cache.
    stride: usize,
    scale: F,
}

impl<F: Real> Scores<F> {
    fn new(k: &Array3<F>, heads: usize) -> Self {
        const LINE: usize = 16; // numbers of f32
        let (_, keys, c) = k.dim();
        assert!(keys > 0 && c > 0, "attention: k {:?}", k.dim());
        let scale = F::from_f64(1.0 / ((c / heads) as f64).sqrt());
        Scores { keys, stride: (keys.div_ceil(LINE) | 1) * LINE, scale }
    }

    /// Queries whose P and dS are there at once in a backward pass: whole blocks where there are threads that share them, or
    /// where they stay in the second cache, else as many strips as do.
    fn queries_at_once(&self) -> usize {
        const IN_CACHE: usize = 72 << 10; // numbers: twice that in f32 are half a megabyte
        match IN_CACHE / self.stride {
            _ if parallel::may_cut() => BLOCK,
            BLOCK.. => BLOCK,
            rows => (rows / ROWS * ROWS).max(ROWS),
        }
    }

    /// These rows as a matrix.
    fn matrix<'a>(&self, x: &'a [F], rows: usize) -> Matrix<'a, F> {
        Matrix { data: x, shape: (rows, self.keys), row: self.stride, column: 1 }
    }

    /// P of some rows of q: softmax(q kᵀ / √d).
    fn probabilities(&self, q: Matrix<F>, k_t: Right<F>, p: &mut [F]) {
        let rows = q.shape.0;
        panel_product_in(q, k_t, Rectangle::new(p, self.stride, rows, self.keys), Epilogue::Overwrite);
        scaled_softmax(&mut p[..rows * self.stride], self.keys, self.stride, Some(self.scale));
    }

    /// The same for more of them.
    fn of_rows(&self, q: Matrix<F>, k_t: Right<F>, p: &mut [F]) {
        let rows = q.shape.0;
        let at_once = rows_at_once(rows, self.keys);
        let parts = p[..rows * self.stride].chunks_mut(at_once * self.stride);
        parallel::deal(parts.enumerate().collect(), |(part, p)| {
            for (i, p) in p.chunks_mut(ROWS * self.stride).enumerate() {
                self.probabilities(q.rows(part * at_once + i * ROWS, p.len() / self.stride), k_t, p);
            }
        });
    }

    /// dS and dq = dS k / √d of such rows.
    fn gradients(&self, p: &[F], d_o: Matrix<F>, v_t: Right<F>, k: Right<F>, ds: &mut [F], dq: Rectangle<F>) {
        let at_once = rows_at_once(dq.shape().0, self.keys);
        let parts = dq.by_rows(at_once).into_iter().zip(ds.chunks_mut(at_once * self.stride));
        parallel::deal(parts.enumerate().collect(), |(part, (dq, ds))| {
            for (i, (dq, ds)) in dq.by_rows(ROWS).into_iter().zip(ds.chunks_mut(ROWS * self.stride)).enumerate() {
                let (first, rows) = (part * at_once + i * ROWS, dq.shape().0);
                let p = &p[first * self.stride..][..rows * self.stride];
                let d_p = Rectangle::new(ds, self.stride, rows, self.keys);
                panel_product_in(d_o.rows(first, rows), v_t, d_p, Epilogue::Overwrite);
                scaled_softmax_backward(p, &mut ds[..p.len()], self.keys, self.stride, Some(self.scale));
                panel_product_in(self.matrix(ds, rows), k, dq, Epilogue::Overwrite);
            }
        });
    }
}

/// Rows of scores in a task: whole strips, all of them where there are no threads for more tasks.
fn rows_at_once(rows: usize, keys: usize) -> usize {
    parallel::at_once(rows, keys).next_multiple_of(ROWS)
}

/// The parts of a (n, tokens, c) array that are a head's of an image, head after head.
fn by_head<F>(x: &mut [F], (n, tokens, c): (usize, usize, usize), heads: usize) -> Vec<Rectangle<'_, F>> {
    let whole = Rectangle::new(x, c, n * tokens, c);
    whole.by_rows(tokens).into_iter().flat_map(|image| image.by_columns(c / heads)).collect()
}

/// Chunks of x, or as many times none.
fn in_chunks<F>(x: Option<&mut [F]>, size: usize) -> impl Iterator<Item = Option<&mut [F]>> {
    let none = x.is_none().then(|| std::iter::repeat_with(|| None)).into_iter().flatten();
    x.into_iter().flat_map(move |x| x.chunks_mut(size)).map(Some).chain(none)
}

/// The (tokens, d) matrix of a head, counted through the images, in a (n, tokens, c) array: row after row, c apart.
fn matrix_of<F>(x: &Array3<F>, head: usize, heads: usize) -> Matrix<'_, F> {
    let (_, tokens, c) = x.dim();
    let (image, d) = (head / heads, c / heads);
    Matrix { data: &flat(x)[image * tokens * c + head % heads * d..], shape: (tokens, d), row: c, column: 1 }
}

mod over_queries;
#[cfg(test)]
mod tests;
