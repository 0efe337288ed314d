//! What a crate without unsafe code can do to the products: every table, matrix, stride and length that is wrong is refused
//! with a panic, and every one that is right gives the right numbers. Nothing is read or written out of bounds.
#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use ancestral::numerics::gemm::{
    Epilogue, Gather, Matrix, Panels, Right, matrix_product, panel_product, product, product_by_definition,
};

/// Entries of tables and strides: small ones, and those that wrap when they are added or multiplied.
const HOSTILE: [usize; 10] =
    [0, 1, 3, 20, 1 << 32, 1 << 60, isize::MAX as usize, isize::MAX as usize + 1, usize::MAX - 10, usize::MAX];

/// Columns that are less than a panel, one panel, and what the widest tile and a little more has.
const COLUMNS: [usize; 4] = [1, 16, 64, 65];

/// What `work` gives, or that it panicked.
fn outcome<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Small integers, so that sums are exact in any order.
fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7 % 11) as f32 - 5.0).collect()
}

/// The number at `place`, which is computed without wrapping.
fn at(data: &[f32], place: u128) -> Option<f32> {
    data.get(usize::try_from(place).ok()?).copied()
}

/// A · B by addresses that do not wrap; nothing where one of them lies outside.
fn expected(
    [m, k, n]: [usize; 3],
    a: impl Fn(usize, usize) -> Option<f32>,
    b: impl Fn(usize, usize) -> Option<f32>,
) -> Option<Vec<f32>> {
    let element = |i, j| (0..k).map(|k| Some(a(i, k)? * b(k, j)?)).sum::<Option<f32>>();
    (0..m * n).map(|place| element(place / n, place % n)).collect()
}

#[test]
fn tables_that_lead_outside_of_their_data_are_refused() {
    let data = numbers(24);
    let (mut right, mut refused) = (0, 0);
    for n in COLUMNS {
        for (row, step) in HOSTILE.iter().flat_map(|row| HOSTILE.map(|step| (*row, step))) {
            // The hostile entry at either end of a table, and alone.
            for (rows, steps) in [(vec![row], vec![step]), (vec![row, 2], vec![0, step]), (vec![2, row], vec![step, 1])]
            {
                let b = numbers(steps.len() * n);
                let panels = Panels::new(&b, steps.len(), n, n, 1);
                let a = Gather { data: &data, rows: &rows, steps: &steps };
                let fill = |work: &dyn Fn(&mut [f32])| {
                    let mut c = vec![f32::NAN; rows.len() * n];
                    outcome(|| work(&mut c)).map(|()| c)
                };
                let expected = expected(
                    [rows.len(), steps.len(), n],
                    |i, k| at(&data, rows[i] as u128 + steps[k] as u128),
                    |k, j| Some(b[k * n + j]),
                );
                let found = fill(&|c| product(a, panels.as_right(), c, n, Epilogue::Overwrite));
                assert_eq!(found, expected, "rows {rows:?}, steps {steps:?}, {n} columns");
                assert_eq!(fill(&|c| product_by_definition(a, &b, c, Epilogue::Overwrite)), expected);
                *if expected.is_some() { &mut right } else { &mut refused } += 1;
            }
        }
    }
    assert!(right > 50 && refused > 500, "{right} right, {refused} refused");
}

#[test]
fn rows_without_a_step_lead_nowhere_and_are_not_read() {
    let bias = numbers(65);
    for (n, row) in COLUMNS.iter().flat_map(|n| HOSTILE.map(|row| (*n, row))) {
        let a = Gather { data: &[], rows: &[row, row, row], steps: &[] };
        let none = Panels::<f32>::new(&[], 0, n, n, 1);
        let mut c = vec![f32::NAN; 3 * n];
        product(a, none.as_right(), &mut c, n, Epilogue::OverwriteWithBias(&bias[..n]));
        assert!(c.chunks(n).all(|c| c == &bias[..n]));
        let in_place = Matrix::new(&[], 0, n);
        matrix_product(Matrix::new(&[], 3, 0), in_place, &mut c, n, Epilogue::Overwrite);
        assert!(c.iter().all(|&c| c == 0.0));
    }
}

#[test]
fn matrices_that_do_not_fit_into_their_data_are_refused_on_either_side() {
    let data = numbers(200);
    let (mut right, mut refused) = (0, 0);
    for (row, column) in HOSTILE.iter().flat_map(|row| HOSTILE.map(|column| (*row, column))) {
        for shape in [(1, 1), (2, 3), (3, 2), (2, 16), (16, 2), (9, 17), (1, 64)] {
            let matrix = Matrix { data: &data, shape, row, column };
            let element = |i: usize, j: usize| at(&data, i as u128 * row as u128 + j as u128 * column as u128);
            let other = numbers(shape.0.max(shape.1) * 5);

            let (m, k, n) = (shape.0, shape.1, 5);
            let as_left = expected([m, k, n], element, |k, j| Some(other[k * n + j]));
            let mut c = vec![f32::NAN; m * n];
            let b = Matrix::new(&other, k, n);
            let found = outcome(|| matrix_product(matrix, b, &mut c, n, Epilogue::Overwrite)).map(|()| c);
            assert_eq!(found, as_left, "left {shape:?} by {row} and {column}");

            let (m, k, n) = (5, shape.0, shape.1);
            let as_right = expected([m, k, n], |i, k| Some(other[i * shape.0 + k]), element);
            let mut c = vec![f32::NAN; m * n];
            let a = Matrix::new(&other, m, k);
            let found = outcome(|| matrix_product(a, matrix, &mut c, n, Epilogue::Overwrite)).map(|()| c);
            assert_eq!(found, as_right, "right {shape:?} by {row} and {column}");
            let mut c = vec![f32::NAN; m * n];
            let copied = || panel_product(a, matrix.panels().as_right(), &mut c, n, Epilogue::Overwrite);
            assert_eq!(outcome(copied).map(|()| c), as_right, "copied {shape:?} by {row} and {column}");
            *if as_right.is_some() { &mut right } else { &mut refused } += 1;
        }
    }
    assert!(right > 50 && refused > 300, "{right} right, {refused} refused");
}

#[test]
fn matrix_too_short_by_one_number_is_refused_where_it_is_read_in_place() {
    let whole = numbers(40 * 16);
    for (len, fits) in [(whole.len(), true), (whole.len() - 1, false), (0, false)] {
        let found = outcome(|| Right::in_place(Matrix::new(&whole[..len], 40, 16)).is_some());
        assert_eq!(found, fits.then_some(true), "{len} numbers");
    }
}

#[test]
fn result_that_does_not_fit_into_its_memory_is_refused_and_what_lies_around_it_stays() {
    const MARK: f32 = 1234.5;
    let (a, b) = (numbers(3 * 4), numbers(4 * 65));
    for (n, stride) in COLUMNS.iter().flat_map(|n| [0, *n - 1, *n, *n + 1, *n + 7].map(|stride| (*n, stride))) {
        let needed = 2 * stride + n;
        for len in [0, n, needed - 1, needed, needed + 3] {
            let mut memory = vec![MARK; len + 8];
            let (a, b) = (Matrix::new(&a, 3, 4), Matrix { data: &b, shape: (4, n), row: 65, column: 1 });
            let found = outcome(|| matrix_product(a, b, &mut memory[4..4 + len], stride, Epilogue::Overwrite));
            assert_eq!(found.is_some(), stride >= n && len >= needed, "{n} columns, stride {stride}, {len} numbers");
            let written = |place: usize| found.is_some() && place / stride < 3 && place % stride < n;
            let stays = |place: &usize| *place < 4 || !written(place - 4);
            assert!((0..memory.len()).filter(stays).all(|place| memory[place] == MARK));
        }
    }
    for stride in HOSTILE.into_iter().filter(|&stride| stride > 20) {
        let mut c = vec![MARK; 400];
        let (a, b) = (Matrix::new(&a, 3, 4), Matrix::new(&b, 4, 5));
        assert!(outcome(|| matrix_product(a, b, &mut c, stride, Epilogue::Overwrite)).is_none(), "stride {stride}");
        assert!(c.iter().all(|&c| c == MARK));
    }
}

#[test]
fn bias_of_another_length_and_shapes_that_disagree_are_refused() {
    let (a, b, bias) = (numbers(3 * 4), numbers(5 * 65), numbers(70));
    for n in COLUMNS {
        for len in [0, n - 1, n, n + 1] {
            let (a, b, mut c) = (Matrix::new(&a, 3, 4), Matrix::new(&b[..4 * n], 4, n), vec![0.0; 3 * n]);
            let start = Epilogue::OverwriteWithBias(&bias[..len]);
            assert_eq!(outcome(|| matrix_product(a, b, &mut c, n, start)).is_some(), len == n, "{len} for {n}");
            let (rows, steps) = ([0, 4, 8], [0, 1, 2, 3]);
            let a = Gather { data: a.data, rows: &rows, steps: &steps };
            assert_eq!(outcome(|| product_by_definition(a, b.data, &mut c, start)).is_some(), len == n);
        }
        let (mut c, five) = (vec![0.0; 3 * n], Panels::new(&b, 5, n, n, 1));
        assert!(
            outcome(|| panel_product(Matrix::new(&a, 3, 4), five.as_right(), &mut c, n, Epilogue::Overwrite)).is_none()
        );
        let a = Gather { data: &a, rows: &[0], steps: &[0, 1, 2, 3] };
        assert!(outcome(|| product_by_definition(a, &b[..4 * n - 1], &mut c[..n], Epilogue::Overwrite)).is_none());
    }
}

#[test]
fn panels_whose_rows_lie_anywhere_are_right_or_refused() {
    let b = numbers(300);
    for (columns, column) in [1, 16, 17].into_iter().flat_map(|columns| HOSTILE.map(|column| (columns, column))) {
        for start in HOSTILE {
            for (name, row) in [
                ("the same", (|start, _| start) as fn(usize, usize) -> usize),
                ("ascending", |start, k| start.wrapping_add(k)),
                ("descending", |start, k| start.wrapping_sub(k)),
                ("the last elsewhere", |start, k| if k == 19 { start } else { k }),
            ] {
                let k = 20;
                let place = |k: usize, j: usize| row(start, k) as u128 + j as u128 * column as u128;
                let ones = vec![1.0; k];
                let expected = expected([1, k, columns], |_, _| Some(1.0), |k, j| at(&b, place(k, j)));
                let found = outcome(|| {
                    let mut c = vec![f32::NAN; columns];
                    let panels = Panels::from_rows(&b, k, columns, column, |k| row(start, k));
                    panel_product(Matrix::new(&ones, 1, k), panels.as_right(), &mut c, columns, Epilogue::Overwrite);
                    c
                });
                assert_eq!(found, expected, "{name} {start}, {columns} columns {column} apart");
            }
        }
    }
}

#[test]
fn panels_whose_rows_are_elsewhere_at_every_question_read_nothing_outside() {
    let b = numbers(300);
    for column in [1, 7] {
        let asked = AtomicUsize::new(0);
        let restless = |_| HOSTILE[asked.fetch_add(1, Ordering::Relaxed) % 4]; // 0, 1, 3, 20
        let panels = outcome(|| Panels::from_rows(&b, 200, 17, column, restless)).expect("all lie inside");
        let (ones, mut c) = (vec![1.0; 200], vec![f32::NAN; 17]);
        panel_product(Matrix::new(&ones, 1, 200), panels.as_right(), &mut c, 17, Epilogue::Overwrite);
        assert!(c.iter().all(|c| c.abs() <= 200.0 * 5.0), "{c:?}");
    }
}

#[test]
fn panels_of_nothing_or_of_more_than_there_is_are_made_or_refused_at_once() {
    for huge in [1 << 60, usize::MAX] {
        assert!(outcome(|| Panels::<f32>::new(&[], huge, 0, 1, 1)).is_some());
        assert!(outcome(|| Panels::<f32>::new(&[], huge, 0, huge, huge)).is_some());
        assert!(outcome(|| Panels::<f32>::new(&[1.0], huge, 16, 0, 0)).is_none());
        assert!(outcome(|| Panels::<f32>::new(&[1.0], huge, huge, 0, 0)).is_none());
    }
}
