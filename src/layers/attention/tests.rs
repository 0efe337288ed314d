//! Attention against its definition, its gradients, and its edges.

use super::*;
use crate::layers::gradient_check::check;
use crate::layers::softmax::{softmax, softmax_backward};
use crate::layers::{ParameterVector, flat_mut, shaped};
use crate::numerics::gemm::{Gather, product_by_definition};
use crate::numerics::rng::normal;
use ndarray::{Array2, s};

#[test]
fn attention_gradients_equal_central_differences() {
    // q, k, v as three planes of one input; 5 queries, 7 keys cannot share planes, so 6 of each.
    let plane = |x: &ndarray::Array4<f64>, i: usize| x.index_axis(ndarray::Axis(0), i).to_owned();
    for heads in [1, 2, 4] {
        let forward = |_: &ParameterVector<f64>, x: &ndarray::Array4<f64>| {
            attention(plane(x, 0), plane(x, 1), plane(x, 2), heads, true)
        };
        let backward = |_: &ParameterVector<f64>, cache: Cache<f64>, dy: &Array3<f64>, _: &mut ParameterVector<f64>| {
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
    let o = attention(q, k, v.clone(), 2, false).0;
    assert_eq!(o, v.broadcast((2, 5, 4)).expect("one token to five"));
}

#[test]
fn attention_with_logits_of_400_stays_finite() {
    let q = Array3::from_elem((1, 3, 4), 20.0f32);
    let k = shaped((1, 2, 4), vec![20.0, 20.0, 20.0, 20.0, -20.0, -20.0, -20.0, -20.0]);
    let v = shaped((1, 2, 4), (0..8).map(|i| i as f32).collect());
    assert_eq!(flat(&attention(q, k, v, 1, false).0), [0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0]);
}

/// A · B by definition.
fn times<F: Real>(a: &Array2<F>, b: &Array2<F>) -> Array2<F> {
    let (m, k) = a.dim();
    let (rows, steps): (Vec<usize>, Vec<usize>) = ((0..m).map(|i| i * k).collect(), (0..k).collect());
    let (a, b) = (a.as_standard_layout().into_owned(), b.as_standard_layout().into_owned());
    let mut c = Array2::zeros((m, b.ncols()));
    product_by_definition(
        Gather { data: flat(&a), rows: &rows, steps: &steps },
        flat(&b),
        flat_mut(&mut c),
        Epilogue::Overwrite,
    );
    c
}

/// o, dq, dk and dv of one head, with whole matrices: the equations of this page, line by line.
fn by_definition<F: Real>(q: Array2<F>, k: Array2<F>, v: Array2<F>, d_o: Array2<F>) -> [Array2<F>; 4] {
    let (keys, scale) = (k.nrows(), F::from_f64(1.0 / (q.ncols() as f64).sqrt()));
    let mut p = times(&q, &k.t().to_owned());
    p.mapv_inplace(|s| s * scale);
    softmax(flat_mut(&mut p), keys);
    let o = times(&p, &v);
    let dv = times(&p.t().to_owned(), &d_o);
    let mut ds = times(&d_o, &v.t().to_owned());
    softmax_backward(flat(&p), flat_mut(&mut ds), keys);
    ds.mapv_inplace(|ds| ds * scale);
    [o, times(&ds, &k), times(&ds.t().to_owned(), &q), dv]
}

/// Queries below, at and above a block of 256 and a strip of 48, and many of them; as many keys, and others.
#[test]
fn attention_has_the_bits_of_its_definition_whether_p_is_kept_or_computed_again() {
    fn in_precision<F: Real>(sizes: &[(usize, usize)]) {
        for &(tokens, keys) in sizes {
            let (n, heads, d) = (2, 2, 5);
            let numbers = |tokens, key| normal((n, tokens, heads * d), key).mapv(|x| F::from_f64(2.0 * x));
            let (q, k, v, d_o) = (numbers(tokens, 1), numbers(keys, 2), numbers(keys, 3), numbers(tokens, 4));
            for follows in [true, false] {
                let (o, cache) = attention(&q, &k, &v, heads, follows);
                let [dq, dk, dv] = attention_backward(cache, &d_o);
                for (image, head) in (0..n).flat_map(|image| (0..heads).map(move |head| (image, head))) {
                    let of = |x: &Array3<F>| x.slice(s![image, .., head * d..(head + 1) * d]).to_owned();
                    let expected = by_definition(of(&q), of(&k), of(&v), of(&d_o));
                    for (what, (found, expected)) in
                        ["o", "dq", "dk", "dv"].iter().zip([&o, &dq, &dk, &dv].map(of).iter().zip(&expected))
                    {
                        assert!(
                            found == expected,
                            "{what} of {tokens} queries, {keys} keys, {follows}, in {}",
                            F::NAME
                        );
                    }
                }
            }
        }
    }
    // On one thread dk and dv go on from strip to strip, of 48 queries where there are 1100 keys, on several from block to block.
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
        pool.install(|| {
            in_precision::<f32>(&[
                (1, 1),
                (47, 48),
                (255, 255),
                (256, 256),
                (257, 257),
                (300, 19),
                (31, 700),
                (520, 1100),
            ]);
            in_precision::<f64>(&[(1, 3), (255, 255), (256, 40), (257, 257), (300, 1100)]);
        });
    }
}
