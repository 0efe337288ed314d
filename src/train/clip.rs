//! Clipping by the global norm (Pascanu et al. 2013), as PyTorch's `clip_grad_norm_` computes it.

use crate::layers::{Layout, ParameterVector};
use crate::numerics::sum::sum_of_squares;
use crate::numerics::{Real, parallel};

/// √Σ g² over all parameters: each tensor by [`sum_of_squares`], then the tensors in their order, all in f64.
pub fn global_norm<F: Real>(layout: &Layout, grads: &ParameterVector<F>) -> f64 {
    let squares = parallel::map(layout.entries.len(), |i| sum_of_squares(&grads[layout.entries[i].span]));
    squares.iter().fold(0.0, |total, s| total + s).sqrt()
}

/// The factor that makes a gradient of norm `norm` no longer than `max_norm`: min(1, max_norm/(norm + 10⁻⁶)).
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    let factor = max_norm / (norm + 1e-6);
    if factor < 1.0 { factor } else { 1.0 }
}

/// The name of the first parameter whose gradient is not finite.
pub fn first_non_finite<F: Real>(layout: &Layout, grads: &ParameterVector<F>) -> Option<String> {
    let entry = layout.entries.iter().find(|entry| grads[entry.span].iter().any(|g| !g.is_finite()))?;
    Some(entry.name.clone())
}
