//! Every gradient against central differences: ∂L/∂x_i ≈ (L(x + h e_i) − L(x − h e_i)) / 2h, in f64.
//!
//! L = Σ dy · y with a random dy, never Σ y: softmax and norms are blind to a constant dy. The truncation error is
//! h² L‴/6 and the rounding error about 2⁻⁵³ |L| / h; with h = 10⁻⁵ and values of order 1 both lie below 10⁻⁹, so a
//! tolerance of 10⁻⁷ of the largest gradient is loose by a hundred and still catches a wrong sign or a lost term.

use ndarray::{Array, Dimension};

use super::{ParameterVector, flat, flat_mut};
use crate::numerics::rng::normal;
use crate::numerics::sum::sum_by;

/// Half the distance of a central difference.
const H: f64 = 1e-5;

/// The largest difference accepted, as a fraction of the largest gradient.
const TOLERANCE: f64 = 1e-7;

/// Compares a layer's backward pass with central differences, for its input and for every parameter.
///
/// `forward` gives (y, cache); `backward` takes (weights, cache, dy, gradients to add into) and gives dx. dy is drawn from
/// `key`.
///
/// # Errors
/// A sentence that names the first element that is wrong, in `x` or in the flat parameters, with both values.
pub fn check<D: Dimension, E: Dimension, C>(
    w: &ParameterVector<f64>,
    x: &Array<f64, D>,
    key: u64,
    forward: impl Fn(&ParameterVector<f64>, &Array<f64, D>) -> (Array<f64, E>, C),
    backward: impl Fn(&ParameterVector<f64>, C, &Array<f64, E>, &mut ParameterVector<f64>) -> Array<f64, D>,
) -> Result<(), String> {
    let (y, cache) = forward(w, x);
    let dy = normal(y.raw_dim(), key);
    let mut grads = ParameterVector::zeros(w.0.len());
    let dx = backward(w, cache, &dy, &mut grads);
    let loss = |w: &ParameterVector<f64>, x: &Array<f64, D>| {
        let y = forward(w, x).0;
        let products: Vec<f64> = flat(&y).iter().zip(flat(&dy)).map(|(y, dy)| y * dy).collect();
        sum_by(&products, |p| p)
    };
    compare("x", flat(&dx), |i, h| {
        let mut moved = x.clone();
        flat_mut(&mut moved)[i] += h;
        loss(w, &moved)
    })?;
    compare("parameter", &grads.0, |i, h| {
        let mut moved = w.clone();
        moved.0[i] += h;
        loss(&moved, x)
    })
}

fn compare(name: &str, gradient: &[f64], loss_at: impl Fn(usize, f64) -> f64) -> Result<(), String> {
    let scale = gradient.iter().fold(1e-3, |m: f64, g| if g.abs() > m { g.abs() } else { m });
    for (i, &found) in gradient.iter().enumerate() {
        let expected = (loss_at(i, H) - loss_at(i, -H)) / (2.0 * H);
        let close = (found - expected).abs() <= TOLERANCE * scale; // false for NaN too
        if !close {
            return Err(format!("gradient of {name}[{i}]: central difference {expected:e}, backward pass {found:e}"));
        }
    }
    Ok(())
}
