//! Every path to a product against its definition, bit for bit.

use super::*;
use crate::numerics::rng::Stream;

fn normal<F: Real>(n: usize, key: u64) -> Vec<F> {
    let mut x = vec![F::zero(); n];
    Stream::keyed(key, "test", &[]).fill_normal(&mut x);
    x
}

fn bits<F: Real>(x: &[F]) -> Vec<u64> {
    x.iter().map(|x| x.to_f64().to_bits()).collect()
}

/// (m, k, n): below, at and above the tile's 6 and 16, the block's 256, and the empty product.
const SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (5, 27, 3),
    (6, 255, 16),
    (7, 256, 17),
    (13, 257, 15),
    (12, 576, 32),
    (3, 4608, 5),
    (4, 0, 6),
    (50, 70, 40),
];

fn product_has_the_bits_of_the_definition<F: Real>() {
    for (m, k, n) in SHAPES {
        let (a, b, bias) = (normal::<F>(m * k + 1, 1), normal::<F>(k * n, 2), normal::<F>(n, 3));
        let rows: Vec<usize> = (0..m).map(|i| i * k).collect();
        let steps: Vec<usize> = (0..k).collect();
        let a = Gather { data: &a, rows: &rows, steps: &steps };
        for start in [Start::Overwrite, Start::OverwriteWithBias(&bias), Start::Accumulate] {
            let before = match start {
                Start::Accumulate => normal::<F>(m * n, 4),
                _ => vec![F::from_f64(f64::NAN); m * n], // never read
            };
            let (mut expected, mut found) = (before.clone(), before);
            product_by_definition(a, &b, &mut expected, start);
            product(a, &Panels::new(&b, k, n, n, 1), &mut found, n, start);
            assert_eq!(bits(&found), bits(&expected), "{} {m} x {k} x {n}, {start:?}", F::NAME);
        }
    }
}

#[test]
fn product_in_f32_has_the_bits_of_the_definition() {
    product_has_the_bits_of_the_definition::<f32>();
}

#[test]
fn product_in_f64_has_the_bits_of_the_definition() {
    product_has_the_bits_of_the_definition::<f64>();
}

#[test]
fn product_with_swapped_tables_is_the_transposed_matrix() {
    let (m, k, n) = (9, 300, 20);
    let (a, b) = (normal::<f32>(m * k, 1), normal::<f32>(m * n, 2));
    let (rows, steps): (Vec<usize>, Vec<usize>) = ((0..k).collect(), (0..m).map(|i| i * k).collect());
    let transposed: Vec<f32> = (0..k * m).map(|i| a[i % m * k + i / m]).collect();
    let (mut expected, mut found) = (vec![0.0; k * n], vec![0.0; k * n]);
    let plain: (Vec<usize>, Vec<usize>) = ((0..k).map(|i| i * m).collect(), (0..m).collect());
    product_by_definition(
        Gather { data: &transposed, rows: &plain.0, steps: &plain.1 },
        &b,
        &mut expected,
        Start::Overwrite,
    );
    let a = Gather { data: &a, rows: &rows, steps: &steps };
    product(a, &Panels::new(&b, m, n, n, 1), &mut found, n, Start::Overwrite);
    assert_eq!(bits(&found), bits(&expected));
}

/// `matrixmultiply` is another author's kernel; pinned, because its block size of 256 is not part of its promise.
#[cfg(target_arch = "x86_64")]
#[test]
fn product_has_the_bits_of_matrixmultiply_where_both_have_fma() {
    if crate::numerics::path::current() != crate::numerics::path::Path::Avx2Fma {
        return;
    }
    for (m, k, n) in SHAPES {
        let (a, b) = (normal::<f32>(m * k + 1, 1), normal::<f32>(k * n, 2));
        let (mut expected, mut found) = (vec![0.0; m * n], vec![0.0; m * n]);
        let (ks, ns) = (k as isize, n as isize);
        // SAFETY: the three pointers are of (m, k), (k, n) and (m, n) matrices with these strides.
        #[allow(unsafe_code)]
        unsafe {
            matrixmultiply::sgemm(
                m,
                k,
                n,
                1.0,
                a.as_ptr(),
                ks,
                1,
                b.as_ptr(),
                ns,
                1,
                0.0,
                expected.as_mut_ptr(),
                ns,
                1,
            );
        }
        let rows: Vec<usize> = (0..m).map(|i| i * k).collect();
        let steps: Vec<usize> = (0..k).collect();
        let a = Gather { data: &a, rows: &rows, steps: &steps };
        product(a, &Panels::new(&b, k, n, n, 1), &mut found, n, Start::Overwrite);
        assert_eq!(bits(&found), bits(&expected), "{m} x {k} x {n}");
    }
}

#[test]
#[should_panic(expected = "leads outside of A")]
fn product_with_a_step_outside_of_its_data_panics() {
    let a = Gather { data: &[1.0f32; 4], rows: &[0, 2], steps: &[0, 2] };
    product(a, &Panels::new(&[1.0; 2], 2, 1, 1, 1), &mut [0.0; 2], 1, Start::Overwrite);
}
