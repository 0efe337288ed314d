//! The mean over the pixels of an image, a vector of its channels.
//!
//! # Derivation
//!
//! y_c = 1/P Σ_p x_pc over the P pixels of an image, so each of them has the same share of dy: dx_pc = dy_c / P.
//!
//! The sum is [`column_sums`](crate::numerics::sum::column_sums), in f64 but for groups of 16 rows; sum · 1/P is rounded once.
//! Proven by central differences.
//!
//! Next in the [course](super#the-course): [`group_norm`](super::group_norm).

use ndarray::{Array2, Array4, Ix2, Ix4};

use super::{Kept, flat, shaped};
use crate::numerics::sum::plain_column_sums;
use crate::numerics::{Real, parallel};

/// y.
///
/// # Shapes
/// x (n, h, w, c) to y (n, c).
pub fn mean_pool<F: Real>(x: impl Into<Kept<F, Ix4>>) -> Array2<F> {
    let x = x.into();
    let (n, h, w, c) = x.dim();
    let (size, x) = (h * w * c, flat(&x));
    let means = parallel::map(n, |i| {
        let mut totals = vec![0.0; c];
        plain_column_sums(&x[i * size..(i + 1) * size], &mut totals);
        totals
    });
    shaped((n, c), means.into_iter().flatten().map(|total| F::from_f64(total / (h * w) as f64)).collect())
}

/// dx for images of h x w pixels.
///
/// # Shapes
/// dy (n, c) to dx (n, h, w, c).
pub fn mean_pool_backward<F: Real>((h, w): (usize, usize), dy: impl Into<Kept<F, Ix2>>) -> Array4<F> {
    let dy = dy.into();
    let (n, c) = dy.dim();
    let share = F::from_f64(1.0 / (h * w) as f64);
    let rows = flat(&dy).chunks_exact(c);
    let dx = rows.flat_map(|row| (0..h * w).flat_map(move |_| row.iter().map(move |&d| d * share))).collect();
    shaped((n, h, w, c), dx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::ParameterVector;
    use crate::layers::gradient_check::check;
    use crate::numerics::rng::normal;

    #[test]
    fn mean_pool_gradient_equals_central_differences() {
        check(
            &ParameterVector(vec![]),
            &normal((2, 3, 5, 4), 1),
            2,
            |_, x| (mean_pool(x.clone()), ()),
            |_, (), dy, _| mean_pool_backward((3, 5), dy.clone()),
        )
        .expect("the gradient is right");
    }
}
