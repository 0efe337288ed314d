//! Every path to a product against its definition, bit for bit.

use super::*;
use crate::numerics::instruction_set::{InstructionSet, skipped};
use crate::numerics::rng::Stream;

fn normal<F: Real>(n: usize, key: u64) -> Vec<F> {
    let mut x = vec![F::zero(); n];
    Stream::keyed(key, "test", &[]).fill_normal(&mut x);
    x
}

fn bits<F: Real>(x: &[F]) -> Vec<u64> {
    x.iter().map(|x| x.to_f64().to_bits()).collect()
}

/// (m, k, n): below, at and above the tile's 6 or 8 rows and 16 to 64 columns, the block's 256, the strip's 384, and the empty
/// product. The tiles of AVX-512 have 1 to 4 panels and any number of rows up to 8: all of them come up here.
const SHAPES: [(usize, usize, usize); 18] = [
    (1, 1, 1),
    (5, 27, 3),
    (6, 255, 16),
    (7, 256, 17),
    (13, 257, 15),
    (12, 576, 32),
    (3, 4608, 5),
    (4, 0, 6),
    (50, 70, 40),
    (200, 1030, 33),
    (1, 300, 64),
    (2, 20, 48),
    (3, 20, 50),
    (4, 20, 63),
    (5, 20, 100),
    (14, 20, 112),
    (17, 20, 130),
    (800, 260, 20),
];

fn product_has_the_bits_of_the_definition<F: Real>() {
    for (m, k, n) in SHAPES {
        let (a, b, bias) = (normal::<F>(m * k + 1, 1), normal::<F>(k * n, 2), normal::<F>(n, 3));
        let rows: Vec<usize> = (0..m).map(|i| i * k).collect();
        let steps: Vec<usize> = (0..k).collect();
        let a = Gather { data: &a, rows: &rows, steps: &steps };
        for start in [Epilogue::Overwrite, Epilogue::OverwriteWithBias(&bias), Epilogue::Accumulate] {
            let before = match start {
                Epilogue::Accumulate => normal::<F>(m * n, 4),
                _ => vec![F::from_f64(f64::NAN); m * n], // never read
            };
            let (mut expected, mut found) = (before.clone(), before.clone());
            product_by_definition(a, &b, &mut expected, start);
            product(a, Panels::new(&b, k, n, n, 1).as_right(), &mut found, n, start);
            assert_eq!(bits(&found), bits(&expected), "{} {m} x {k} x {n}, {start:?}", F::NAME);
            if let Some(in_place) = Right::in_place(Matrix::new(&b, k, n)) {
                found = before;
                product(a, in_place, &mut found, n, start);
                assert_eq!(bits(&found), bits(&expected), "{} {m} x {k} x {n}, {start:?}, in place", F::NAME);
            }
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
    // The second has more rows than a strip and more steps than a block.
    for (m, k, n) in [(9, 300, 20), (520, 775, 17)] {
        let (a, b) = (normal::<f32>(m * k, 1), normal::<f32>(m * n, 2));
        let (rows, steps): (Vec<usize>, Vec<usize>) = ((0..k).collect(), (0..m).map(|i| i * k).collect());
        let transposed: Vec<f32> = (0..k * m).map(|i| a[i % m * k + i / m]).collect();
        let (mut expected, mut found) = (vec![0.0; k * n], vec![0.0; k * n]);
        let plain: (Vec<usize>, Vec<usize>) = ((0..k).map(|i| i * m).collect(), (0..m).collect());
        product_by_definition(
            Gather { data: &transposed, rows: &plain.0, steps: &plain.1 },
            &b,
            &mut expected,
            Epilogue::Overwrite,
        );
        let a = Gather { data: &a, rows: &rows, steps: &steps };
        product(a, Panels::new(&b, m, n, n, 1).as_right(), &mut found, n, Epilogue::Overwrite);
        assert_eq!(bits(&found), bits(&expected), "{m} x {k} x {n}");
    }
}

#[test]
fn product_among_poisoned_and_unaligned_numbers_reads_and_writes_its_own_alone() {
    let (m, k, n) = (7, 257, 19);
    let (a, b) = (normal::<f32>(m * k, 1), normal::<f32>(k * n, 2));
    let mut expected = vec![f32::NAN; m * n];
    let (rows, steps): (Vec<usize>, Vec<usize>) = ((0..m).map(|i| i * k).collect(), (0..k).collect());
    product_by_definition(Gather { data: &a, rows: &rows, steps: &steps }, &b, &mut expected, Epilogue::Overwrite);

    // Each row lies between NaNs, at an address that no vector register is aligned to.
    let poisoned = |x: &[f32], width: usize, before: usize| {
        let gap = [f32::NAN; 3];
        let row = |row: &[f32]| [&gap, row].concat();
        [vec![f32::NAN; before], x.chunks(width).flat_map(row).collect(), gap.to_vec()].concat()
    };
    let poison = f32::from_bits(0x7fc0_1234);
    for before in 0..8 {
        let (a, b) = (poisoned(&a, k, before), poisoned(&b, n, before + 1));
        let a = Matrix { data: &a[before + 3..], shape: (m, k), row: k + 3, column: 1 };
        let b = Matrix { data: &b[before + 4..], shape: (k, n), row: n + 3, column: 1 };
        let mut c = vec![poison; before + m * (n + 3)];
        matrix_product(a, b, &mut c[before..], n + 3, Epilogue::Overwrite);
        assert!(c[..before].iter().all(|x| x.to_bits() == poison.to_bits()));
        for (row, expected) in c[before..].chunks(n + 3).zip(expected.chunks(n)) {
            assert_eq!(bits(&row[..n]), bits(expected), "{before} numbers before");
            assert!(row[n..].iter().all(|x| x.to_bits() == poison.to_bits()), "written between the rows");
        }
    }
}

#[test]
fn product_is_the_same_with_any_number_of_threads_and_each_row_alone() {
    // Rows are dealt out; in the last, whose B is the larger and can be cut evenly, columns too.
    for (m, k, n) in [(601, 300, 17), (37, 900, 200), (37, 900, 256)] {
        product_is_the_same_with_any_number_of_threads(m, k, n);
    }
}

#[test]
fn product_with_a_larger_right_matrix_is_cut_into_columns_as_many_as_leave_no_thread_idle() {
    assert_eq!(share([37, 900, 256], 37 * 900, 2), (37, 64), "four parts side by side");
    assert_eq!(share([256, 2304, 384], 256 * 2304, 2), (128, 192), "two by two, not three side by side");
    assert_eq!(share([64, 4608, 512], 64 * 4608, 6), (22, 128), "three by four");
    assert_eq!(share([37, 900, 200], 37 * 900, 2), (19, 200), "no even cut along the columns");
    assert_eq!(share([1024, 1152, 384], 1024 * 1152, 2), (256, 384), "the left matrix is the larger");
    assert_eq!(share([256, 2304, 384], 256 * 2304, 1), (256, 384), "one thread, one part");
}

fn product_is_the_same_with_any_number_of_threads(m: usize, k: usize, n: usize) {
    let (a, b) = (normal::<f32>(m * k, 1), normal::<f32>(k * n, 2));
    let of_rows = |first: usize, rows: usize| {
        let mut c = vec![f32::NAN; rows * n];
        let a = Matrix::new(&a[first * k..][..rows * k], rows, k);
        matrix_product(a, Matrix::new(&b, k, n), &mut c, n, Epilogue::Overwrite);
        bits(&c)
    };
    let whole = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
        pool.install(|| of_rows(0, m))
    };
    let alone = whole(1);
    assert!([2, 3, 7, 16].into_iter().all(|threads| whole(threads) == alone));
    for row in [0, 1, m / 2, m - 1] {
        assert_eq!(of_rows(row, 1), alone[row * n..][..n], "row {row}");
    }
}

/// Blocks in two parts: of tiles of 1 to 4 panels, of few rows and of many.
#[test]
fn product_that_continues_a_block_has_the_bits_of_the_whole_block() {
    fn in_precision<F: Real>() {
        for (m, k, n) in SHAPES.into_iter().filter(|shape| (2..=BLOCK).contains(&shape.1)) {
            let (a, b) = (normal::<F>(m * k, 1), normal::<F>(k * n, 2));
            let (mut expected, mut found, mut defined) =
                (vec![F::zero(); m * n], vec![F::zero(); m * n], vec![F::zero(); m * n]);
            let (rows, steps): (Vec<usize>, Vec<usize>) = ((0..m).map(|i| i * k).collect(), (0..k).collect());
            let whole = Gather { data: &a, rows: &rows, steps: &steps };
            product_by_definition(whole, &b, &mut expected, Epilogue::Overwrite);
            let parts = [(0..k / 3 + 1, Epilogue::Overwrite), (k / 3 + 1..k, Epilogue::Continue)];
            for (part, start) in parts {
                let (a, b) = (Gather { steps: &steps[part.clone()], ..whole }, &b[part.start * n..part.end * n]);
                product(a, Panels::new(b, part.len(), n, n, 1).as_right(), &mut found, n, start);
                product_by_definition(a, b, &mut defined, start);
            }
            assert_eq!(bits(&found), bits(&expected), "{} {m} x {k} x {n}", F::NAME);
            assert_eq!(bits(&defined), bits(&expected), "{} {m} x {k} x {n}, by definition", F::NAME);
        }
    }
    in_precision::<f32>();
    in_precision::<f64>();
}

/// `matrixmultiply` is another author's kernel; pinned, because its block size of 256 is not part of its promise.
#[cfg(target_arch = "x86_64")]
#[test]
fn product_has_the_bits_of_matrixmultiply_where_that_has_fma() {
    if InstructionSet::fastest() < InstructionSet::Avx2Fma {
        return skipped("the comparison with matrixmultiply", "without FMA it rounds every product too");
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
        product(a, Panels::new(&b, k, n, n, 1).as_right(), &mut found, n, Epilogue::Overwrite);
        assert_eq!(bits(&found), bits(&expected), "{m} x {k} x {n}");
    }
}

#[test]
#[should_panic(expected = "leads outside of A")]
fn product_with_a_step_outside_of_its_data_panics() {
    let a = Gather { data: &[1.0f32; 4], rows: &[0, 2], steps: &[0, 2] };
    product(a, Panels::new(&[1.0; 2], 2, 1, 1, 1).as_right(), &mut [0.0; 2], 1, Epilogue::Overwrite);
}
