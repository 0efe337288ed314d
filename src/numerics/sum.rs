//! Sums with a fixed order of addition (contract N1, rule 4).

use super::Real;
use super::instruction_set::every_instruction_set;

/// Lanes of a sum over a row of numbers, whatever the width of the machine's registers.
const LANES: usize = 16;

/// Rows of a sum down the columns that are added in the working precision before they join the f64 total.
const ROWS: usize = 16;

/// Σ term(x) over `x` in f64: element i is added to lane i mod 16 in ascending order, then the lanes as a tree 8-4-2-1.
///
/// Every term is widened exactly before it is added, so that a sum over millions of elements keeps f32's precision.
#[inline(always)]
pub fn sum_by<T: Copy>(x: &[T], term: impl Fn(T) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += term(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += term(x);
    }
    tree(lanes)
}

/// Σ term(x) over numbers of F: [`sum_by`], but for an F that adds one after another.
#[inline(always)]
pub fn sum_of<F: Real>(x: &[F], term: impl Fn(F) -> f64) -> f64 {
    F::one_by_one(x.iter().map(|&x| term(x))).unwrap_or_else(|| sum_by(x, term))
}

/// Σ x y in f64, each product rounded to f64 before it is added: the order is that of [`sum_by`].
#[inline(always)]
pub fn sum_of_products<F: Real>(x: &[F], y: &[F]) -> f64 {
    if let Some(sum) = F::one_by_one(x.iter().zip(y).map(|(x, y)| x.to_f64() * y.to_f64())) {
        return sum;
    }
    let mut lanes = [0.0; LANES];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter().zip(y) {
        for i in 0..LANES {
            lanes[i] += x[i].to_f64() * y[i].to_f64();
        }
    }
    for (lane, (x, y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *lane += x.to_f64() * y.to_f64();
    }
    tree(lanes)
}

/// Lanes 8 to 15 are added to 0 to 7, 4 to 7 to 0 to 3, 2 and 3 to 0 and 1, and 1 to 0.
#[inline(always)]
fn tree(mut lanes: [f64; LANES]) -> f64 {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

/// Σ x.
pub fn sum<F: Real>(x: &[F]) -> f64 {
    sum_of(x, F::to_f64)
}

/// Σ x².
pub fn sum_of_squares<F: Real>(x: &[F]) -> f64 {
    sum_of(x, |x| x.to_f64() * x.to_f64())
}

/// Adds term(p, c) of every row p into `totals[c]`, for matrices of `totals.len()` columns: rows ascending, 16 at a time
/// in F from +0, each group of 16 then into the f64 total.
///
/// `add(s, x, v)` is s + term, of the element x of each matrix and the number v of each vector that has one a column. The
/// partial sums of 16 columns stay in registers while their 16 rows go by.
///
/// # Panics
/// If a matrix or a vector is shorter than the first matrix says, or that has no whole rows.
#[inline(always)]
pub fn column_sums<F: Real, const M: usize, const V: usize>(
    matrices: [&[F]; M],
    vectors: [&[F]; V],
    totals: &mut [f64],
    add: impl Fn(F, [F; M], [F; V]) -> F,
) {
    let columns = totals.len();
    let wide = columns - columns % LANES;
    for first in (0..matrices[0].len()).step_by(ROWS * columns.max(1)) {
        let rows = matrices.map(|matrix| &matrix[first..matrices[0].len().min(first + ROWS * columns)]);
        for at in (0..wide).step_by(LANES) {
            strip::<F, M, V, LANES>(rows, vectors, totals, at, &add);
        }
        for at in wide..columns {
            strip::<F, M, V, 1>(rows, vectors, totals, at, &add);
        }
    }
}

/// The columns at..at + N of at most 16 rows.
#[inline(always)]
fn strip<F: Real, const M: usize, const V: usize, const N: usize>(
    matrices: [&[F]; M],
    vectors: [&[F]; V],
    totals: &mut [f64],
    at: usize,
    add: &impl Fn(F, [F; M], [F; V]) -> F,
) {
    let columns = totals.len();
    let mut partial = [F::zero(); N];
    if F::SEQUENTIAL {
        partial = std::array::from_fn(|j| F::from_f64(std::mem::take(&mut totals[at + j])));
    }
    let mut v = [[F::zero(); N]; V];
    for i in 0..V {
        v[i].copy_from_slice(&vectors[i][at..at + N]);
    }
    for row in (0..matrices[0].len()).step_by(columns) {
        let mut x = [[F::zero(); N]; M];
        for i in 0..M {
            x[i].copy_from_slice(&matrices[i][row + at..row + at + N]);
        }
        for j in 0..N {
            partial[j] = add(partial[j], std::array::from_fn(|i| x[i][j]), std::array::from_fn(|i| v[i][j]));
        }
    }
    for (total, part) in totals[at..at + N].iter_mut().zip(partial) {
        *total += part.to_f64();
    }
}

/// y ← f(x, y, v, s), element by element of two matrices of as many columns as the vectors have numbers; v has those of
/// the element's column, and s its sums so far: what f adds to them goes into `totals` in the order of [`column_sums`].
///
/// Row after row, since what is long to compute is read from afar best in the order in which it lies.
///
/// # Panics
/// If a vector is shorter than the first, which says how many columns there are, or there is none.
#[inline(always)]
pub fn map_columns<F: Real, const V: usize, const S: usize>(
    x: &[F],
    y: &mut [F],
    vectors: [&[F]; V],
    mut totals: [&mut [f64]; S],
    f: impl Fn(F, F, [F; V], &mut [F; S]) -> F,
) {
    let columns = vectors[0].len();
    let wide = columns - columns % LANES;
    let mut partial: [Vec<F>; S] = std::array::from_fn(|_| vec![F::zero(); columns]);
    for (x, y) in x.chunks(ROWS * columns.max(1)).zip(y.chunks_mut(ROWS * columns.max(1))) {
        for (x, y) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)) {
            for at in (0..wide).step_by(LANES) {
                map_strip::<F, V, S, LANES>(x, y, vectors, &mut partial, at, &f);
            }
            for at in wide..columns {
                map_strip::<F, V, S, 1>(x, y, vectors, &mut partial, at, &f);
            }
        }
        for (totals, partial) in totals.iter_mut().zip(&mut partial).filter(|_| !F::SEQUENTIAL) {
            for (total, part) in totals.iter_mut().zip(partial) {
                *total += std::mem::replace(part, F::zero()).to_f64();
            }
        }
    }
    for (totals, partial) in totals.iter_mut().zip(&partial).filter(|_| F::SEQUENTIAL) {
        totals.iter_mut().zip(partial).for_each(|(total, part)| *total += part.to_f64());
    }
}

/// The columns at..at + N of a row.
#[inline(always)]
fn map_strip<F: Real, const V: usize, const S: usize, const N: usize>(
    x: &[F],
    y: &mut [F],
    vectors: [&[F]; V],
    partial: &mut [Vec<F>; S],
    at: usize,
    f: &impl Fn(F, F, [F; V], &mut [F; S]) -> F,
) {
    let mut v = [[F::zero(); N]; V];
    for i in 0..V {
        v[i].copy_from_slice(&vectors[i][at..at + N]);
    }
    let mut sums = [[F::zero(); N]; S];
    for i in 0..S {
        sums[i].copy_from_slice(&partial[i][at..at + N]);
    }
    let (x, y) = (&x[at..at + N], &mut y[at..at + N]);
    for j in 0..N {
        let mut s = std::array::from_fn(|i| sums[i][j]);
        y[j] = f(x[j], y[j], std::array::from_fn(|i| v[i][j]), &mut s);
        for i in 0..S {
            sums[i][j] = s[i];
        }
    }
    for i in 0..S {
        partial[i][at..at + N].copy_from_slice(&sums[i]);
    }
}

every_instruction_set! {
    /// Adds the sum of every column of x into `totals`, in the order of [`column_sums`].
    pub fn plain_column_sums<F>(x: &[F], totals: &mut [f64]) {
        column_sums([x], [], totals, |s, [x], []| s + x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_adds_lanes_then_a_tree() {
        let x: Vec<f32> = (0..37).map(|i| 0.1 * i as f32).collect();
        let mut lanes = [0.0f64; 16];
        x.iter().enumerate().for_each(|(i, &x)| lanes[i % 16] += x as f64);
        let eight: Vec<f64> = (0..8).map(|i| lanes[i] + lanes[i + 8]).collect();
        let four: Vec<f64> = (0..4).map(|i| eight[i] + eight[i + 4]).collect();
        assert_eq!(sum(&x).to_bits(), ((four[0] + four[2]) + (four[1] + four[3])).to_bits());
    }

    #[test]
    fn sum_of_products_has_the_order_of_a_sum() {
        let number = |i: usize| (i * 7919 % 1009) as f64 / 1009.0 - 0.4;
        let [x, y]: [Vec<f64>; 2] = [0, 1].map(|k| (0..37).map(|i| number(2 * i + k)).collect());
        let products: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x * y).collect();
        assert_eq!(sum_of_products(&x, &y).to_bits(), sum(&products).to_bits());
    }

    #[test]
    fn sum_of_squares_of_a_million_equal_floats_keeps_their_precision() {
        let x = vec![0.1f32; 1 << 20];
        let exact = (0.1f32 as f64) * (0.1f32 as f64) * (1 << 20) as f64;
        // Each lane adds 2¹⁶ equal numbers in f64: at most 2¹⁶ · 2⁻⁵³ relative.
        assert!((sum_of_squares(&x) / exact - 1.0).abs() < 1e-11);
    }

    #[test]
    fn column_sums_add_sixteen_rows_before_the_total() {
        let x: Vec<f32> = (0..2 * 37).map(|i| 0.3 * i as f32).collect();
        let mut totals = [0.0; 2];
        plain_column_sums(&x, &mut totals);
        for (c, &total) in totals.iter().enumerate() {
            let column: Vec<f32> = x.iter().skip(c).step_by(2).copied().collect();
            let expected: f64 = column.chunks(16).map(|rows| rows.iter().fold(0.0f32, |s, &x| s + x) as f64).sum();
            assert_eq!(total.to_bits(), expected.to_bits());
        }
    }

    /// 37 columns are two strips of 16 and five of one; 21 rows are a group of 16 and one of 5.
    #[test]
    fn map_columns_gives_each_element_the_numbers_of_its_column_and_sums_as_column_sums() {
        let x: Vec<f32> = (0..21 * 37).map(|i| i as f32).collect();
        let v: Vec<f32> = (0..37).map(|i| 1000.3 * i as f32).collect();
        let mut y: Vec<f32> = (0..21 * 37).map(|i| 0.5 * i as f32).collect();
        let mut totals = vec![0.25; 37];
        map_columns(&x, &mut y, [&v], [&mut totals], |x, y, [v], [sum]| {
            *sum += x * v;
            x + y + v
        });
        for (i, &y) in y.iter().enumerate() {
            assert_eq!(y, i as f32 + 0.5 * i as f32 + 1000.3 * (i % 37) as f32);
        }
        let mut expected = vec![0.25; 37];
        column_sums([&x], [&v], &mut expected, |s, [x], [v]| s + x * v);
        assert_eq!(totals, expected);
    }

    #[test]
    fn column_sums_of_two_matrices_and_a_vector_are_those_of_each_element_alone() {
        let number = |i: usize| (i * 7919 % 1009) as f32 / 1009.0 - 0.4;
        let [x, y]: [Vec<f32>; 2] = [0, 1].map(|k| (0..21 * 37).map(|i| number(2 * i + k)).collect());
        let v: Vec<f32> = (0..37).map(|i| number(i + 5)).collect();
        let mut totals = vec![0.25; 37];
        column_sums([&x, &y], [&v], &mut totals, |s, [x, y], [v]| s + x * (y - v));
        for (c, &total) in totals.iter().enumerate() {
            let group = |rows: std::ops::Range<usize>| {
                rows.fold(0.0f32, |s, row| s + x[row * 37 + c] * (y[row * 37 + c] - v[c])) as f64
            };
            assert_eq!(total.to_bits(), (0.25 + group(0..16) + group(16..21)).to_bits());
        }
    }
}
