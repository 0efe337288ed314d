//! L_simple and its gradient (Ho et al. 2020, Eq. 14).
//!
//! With y the network's output, y* its target and N the number of elements of the whole batch,
//!
//! ```text
//! L = 1/N · Σ_i (y_i − y*_i)²          dL/dy_i = 2/N · (y_i − y*_i)
//! ```
//!
//! since y_i is in one term alone, and d(u²)/du = 2u. The mean runs over pixels and channels as well as images. A batch
//! that is cut into microbatches adds up the sums of their squares and gives each the N of all, so 1/N enters once.

use crate::numerics::Real;
use crate::numerics::sum::sum_of_squares;

/// Σ_i (output_i − target_i)².
///
/// # Shapes
/// `output`, `target`: any number of elements, in the same order.
///
/// # Order
/// Each element is widened to f64; difference, square and sum are rounded in f64. Element i is added to lane i mod 16
/// with i ascending, then lanes 8–15 to lanes 0–7, 4–7 to 0–3, 2–3 to 0–1, and 1 to 0.
///
/// # Panics
/// If the lengths differ.
fn squared_error<F: Real>(output: &[F], target: &[F]) -> f64 {
    assert_eq!(output.len(), target.len(), "squared_error: output and target differ in length");
    if F::SEQUENTIAL {
        let difference: Vec<F> = output.iter().zip(target).map(|(&y, &target)| y - target).collect();
        return sum_of_squares(&difference);
    }
    let difference: Vec<f64> = output.iter().zip(target).map(|(&y, &target)| y.to_f64() - target.to_f64()).collect();
    sum_of_squares(&difference)
}

/// A microbatch's part of L_simple, and its gradient with respect to the output (Ho et al. 2020, Eq. 14).
///
/// The first is Σ_i (y_i − y*_i)² over the microbatch: the parts of a batch add up, and their sum divided by `count`, the
/// number of elements of the whole batch, is L_simple, 1 for a guess of 0 where the target is standard noise. The second
/// is 2/`count` · (y − y*): the difference is rounded in `F` and multiplied by 2/`count`, which is computed in f64 and
/// rounded once to `F`.
///
/// # Shapes
/// `output`, `target` and the gradient: all elements of a batch or of a microbatch of it, in the same order.
///
/// # Panics
/// If the lengths differ or exceed `count`.
pub fn l_simple<F: Real>(output: &[F], target: &[F], count: usize) -> (f64, Vec<F>) {
    weighted(output, target, 1.0, count)
}

/// [`l_simple`] of elements that count `weight` times: the gradient is 2·`weight`/`count` · (y − y*), and the sum of squares that of
/// the elements themselves.
///
/// # Panics
/// If the lengths differ or exceed `count`.
pub fn weighted<F: Real>(output: &[F], target: &[F], weight: f64, count: usize) -> (f64, Vec<F>) {
    let squares = squared_error(output, target);
    assert!(output.len() <= count, "l_simple: {} elements in a batch of {count}", output.len());
    let factor = F::from_f64(2.0 * weight / count as f64);
    let gradient = output.iter().zip(target).map(|(&output, &target)| factor * (output - target)).collect();
    (squares, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::rng::Stream;

    fn normals(n: usize, purpose: &str) -> Vec<f64> {
        let mut z = vec![f64::NAN; n];
        Stream::keyed(23, purpose, &[]).fill_normal(&mut z);
        z
    }

    #[test]
    fn gradient_of_the_loss_equals_central_differences() {
        let n = 37;
        let (output, target) = (normals(n, "output"), normals(n, "target"));
        let grad = l_simple(&output, &target, n).1;
        let h = 1e-5;
        for i in 0..n {
            let nudged = |by: f64| {
                let mut output = output.clone();
                output[i] += by;
                l_simple(&output, &target, n).0 / n as f64
            };
            // Exact for a parabola but for rounding, about 1e-16/h.
            let difference = (nudged(h) - nudged(-h)) / (2.0 * h);
            assert!((grad[i] - difference).abs() < 1e-10, "element {i}: {} {difference}", grad[i]);
        }
    }

    #[test]
    fn loss_of_microbatches_with_the_count_of_the_batch_equals_the_loss_of_the_batch() {
        let (output, target) = (normals(48, "output"), normals(48, "target"));
        let (squares, whole) = l_simple(&output, &target, 48);
        let parts = [0..16, 16..48].map(|r| l_simple(&output[r.clone()], &target[r], 48));
        assert_eq!(whole, [&*parts[0].1, &parts[1].1].concat());
        assert!((parts[0].0 + parts[1].0 - squares).abs() < 1e-13);
    }

    #[test]
    fn squared_error_adds_in_sixteen_lanes_and_a_tree() {
        // 2⁵⁴ + 1 rounds to 2⁵⁴: in the lane of element 0 ones are lost one by one, in the next they add up to 4 first.
        let with_ones_at = |places: [usize; 4]| {
            let mut output = [0.0; 65];
            output[0] = (1u64 << 27) as f64;
            places.into_iter().for_each(|i| output[i] = 1.0);
            squared_error(&output, &[0.0; 65]) - (1u64 << 54) as f64
        };
        assert_eq!(with_ones_at([16, 32, 48, 64]), 0.0);
        assert_eq!(with_ones_at([1, 17, 33, 49]), 4.0);
        // Lanes 1 and 9 meet in the first round of the tree, lanes 0 and 8 too.
        assert_eq!(with_ones_at([1, 17, 9, 25]), 4.0);
        assert_eq!(with_ones_at([8, 24, 1, 17]), 0.0);
    }

    #[test]
    fn loss_in_f32_is_summed_in_f64() {
        let output = vec![1e-4f32; 100_000];
        let square = 1e-4f32 as f64 * 1e-4f32 as f64;
        let (squares, _) = l_simple(&output, &vec![0.0; 100_000], 100_000);
        assert!((squares / 1e5 / square - 1.0).abs() < 1e-12);
        assert_eq!(l_simple(&[3.0f32], &[1.0], 3).1, [2.0f32 * (2.0f64 / 3.0) as f32]);
    }
}
