//! A scale and a shift for each channel, the same for all rows: y = γ x + β.
//!
//! # Derivation
//!
//! γ_c and β_c meet every row: dγ_c = Σ_r dy_rc x_rc, dβ_c = Σ_r dy_rc, and dx_rc = γ_c dy_rc. The forward pass is one fused
//! multiply-add; the sums are [`column_sums`](crate::numerics::sum::column_sums), that of dγ with a fused multiply-add, rounded
//! once. The cache is x itself, kept by who made it. Proven by central differences.
//!
//! Next in the [course](super#the-course): [`activation`](super::activation).

use ndarray::{Array2, Ix2};

use super::parameters::{Axes, Init};
use super::{Kept, Layout, ParameterVector, Span, Weights, flat, flat_mut};
use crate::numerics::instruction_set::every_instruction_set;
use crate::numerics::sum::map_columns;
use crate::numerics::{Real, buffer_pool};

/// A scale and a shift for each channel.
#[derive(Clone, Debug)]
pub struct Affine {
    weight: Span,
    bias: Span,
}

impl Affine {
    /// Parameters `NAME.weight` = γ = 1 and `NAME.bias` = β = 0.
    pub fn new(layout: &mut Layout, name: &str, channels: usize) -> Self {
        let weight = layout.add(format!("{name}.weight"), Axes::Same(vec![channels]), Init::Ones);
        let bias = layout.add(format!("{name}.bias"), Axes::Same(vec![channels]), Init::Zeros);
        Affine { weight, bias }
    }

    /// y = γ x + β.
    ///
    /// # Shapes
    /// x (rows, channels) to the same shape.
    pub fn forward<F: Real>(&self, w: &dyn Weights<F>, x: impl Into<Kept<F, Ix2>>) -> Array2<F> {
        let x = x.into();
        let mut y = buffer_pool::take(x.len()).into_array(x.dim());
        scale_and_shift(flat(&x), flat_mut(&mut y), [&w[self.weight], &w[self.bias]]);
        y
    }

    /// dx, with dγ and dβ added into `grads`.
    ///
    /// # Shapes
    /// x and dy (rows, channels) to the same shape.
    ///
    /// # Panics
    /// If dy has another shape than x.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        x: impl Into<Kept<F, Ix2>>,
        dy: impl Into<Kept<F, Ix2>>,
        grads: &mut ParameterVector<F>,
    ) -> Array2<F> {
        let (x, mut dy) = (x.into(), dy.into().into_owned());
        assert_eq!(x.dim(), dy.dim(), "affine: dy has the shape of x");
        let [dgamma, dbeta] = gradients(flat(&x), flat_mut(&mut dy), &w[self.weight]);
        grads[self.weight].iter_mut().zip(dgamma).for_each(|(g, d)| *g += F::from_f64(d));
        grads[self.bias].iter_mut().zip(dbeta).for_each(|(g, d)| *g += F::from_f64(d));
        dy
    }
}

every_instruction_set! {
    /// y = γ x + β.
    fn scale_and_shift<F>(x: &[F], y: &mut [F], gamma_and_beta: [&[F]; 2]) {
        map_columns(x, y, gamma_and_beta, [], |x, _, [gamma, beta], []| x.fma::<P>(gamma, beta));
    }
}

every_instruction_set! {
    /// [dγ, dβ], and dy becomes dx.
    fn gradients<F>(x: &[F], dy: &mut [F], gamma: &[F]) -> [Vec<f64>; 2] {
        let [mut dgamma, mut dbeta] = [(); 2].map(|()| vec![0.0; gamma.len()]);
        map_columns(x, dy, [gamma], [&mut dgamma, &mut dbeta], |x, dy, [gamma], [dgamma, dbeta]| {
            *dgamma = dy.fma::<P>(x, *dgamma);
            *dbeta += dy;
            dy * gamma
        });
        [dgamma, dbeta]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradient_check::check;
    use crate::numerics::rng::normal;

    #[test]
    fn affine_gradients_equal_central_differences() {
        let mut layout = Layout::default();
        let affine = Affine::new(&mut layout, "norm", 7);
        let w = ParameterVector(normal(layout.count(), 9).to_vec());
        let forward = |w: &ParameterVector<f64>, x: &Array2<f64>| (affine.forward(w, x), x.clone());
        check(&w, &normal((5, 7), 1), 2, forward, |w, x, dy, grads| affine.backward(w, x, dy, grads))
            .expect("the gradients are right");
    }
}
