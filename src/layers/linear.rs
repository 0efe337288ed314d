//! Linear: y = x W + b.
//!
//! # Derivation
//!
//! Forward, for row r, input i, output o: y_ro = Σ_i x_ri W_io + b_o. Given dy_ro = ∂L/∂y_ro:
//!
//! 1. W_io meets every row: dW_io = Σ_r x_ri dy_ro, that is dW = xᵀ dy.
//! 2. b_o is added in every row: db_o = Σ_r dy_ro.
//! 3. x_ri meets every output: dx_ri = Σ_o dy_ro W_io, that is dx = dy Wᵀ.
//!
//! The cache keeps x, for step 1. All three are products in the order of [`gemm`](crate::numerics::gemm); the sum of
//! step 2 is [`column_sums`](crate::numerics::sum::column_sums). Derived here; proven by `linear_gradients_equal_central_differences` and PyTorch's numbers.
//!
//! Next in the [course](super#the-course): [`affine`](super::affine).

use ndarray::{Array2, Ix2};

use super::parameters::{Axes, Init};
use super::stopwatch::timed;
use super::weights::Use;
use super::{Kept, Layout, ParameterVector, Span, Weights, flat};
use crate::numerics::Real;
use crate::numerics::buffer_pool;
use crate::numerics::gemm::{Epilogue, Matrix, matrix_product, panel_product};
use crate::numerics::sum::plain_column_sums;

/// A matrix and, mostly, a bias.
#[derive(Clone, Debug)]
pub struct Linear {
    pub(crate) weight: Span,
    bias: Option<Span>,
    inputs: usize,
    outputs: usize,
}

/// What the backward pass needs: x.
#[derive(Debug)]
pub struct Cache<F: Real>(Kept<F, Ix2>);

impl Linear {
    /// Parameters `NAME.weight` (inputs, outputs) and `NAME.bias`, with PyTorch's first values.
    pub fn new(layout: &mut Layout, name: &str, inputs: usize, outputs: usize) -> Self {
        Self::with_init(layout, name, inputs, outputs, Init::Uniform(1.0 / (inputs as f64).sqrt()))
    }

    /// The same, with other first values.
    pub fn with_init(layout: &mut Layout, name: &str, inputs: usize, outputs: usize, init: Init) -> Self {
        let weight = layout.add(format!("{name}.weight"), Axes::Linear { inputs, outputs }, init);
        let bias = layout.add(format!("{name}.bias"), Axes::Same(vec![outputs]), init);
        Linear { weight, bias: Some(bias), inputs, outputs }
    }

    /// y = x W: the parameter `NAME.weight` alone.
    pub fn without_bias(layout: &mut Layout, name: &str, inputs: usize, outputs: usize) -> Self {
        let init = Init::Uniform(1.0 / (inputs as f64).sqrt());
        let weight = layout.add(format!("{name}.weight"), Axes::Linear { inputs, outputs }, init);
        Linear { weight, bias: None, inputs, outputs }
    }

    /// y = x W + b.
    ///
    /// # Shapes
    /// x (rows, inputs) to y (rows, outputs).
    ///
    /// # Panics
    /// If x has another number of features than the weight.
    pub fn forward<F: Real>(&self, w: &dyn Weights<F>, x: impl Into<Kept<F, Ix2>>) -> (Array2<F>, Cache<F>) {
        let x = x.into();
        let (rows, inputs) = x.dim();
        assert_eq!(inputs, self.inputs, "linear: x has {inputs} features, the weight takes {}", self.inputs);
        let mut y = buffer_pool::take(rows * self.outputs);
        timed(Some(self.weight), "forward", y.len() * inputs, || {
            let copy = |weight: &[F]| Matrix::new(weight, inputs, self.outputs).panels();
            let weight = w.panels(self.weight, Use::Forward, &copy);
            let bias = self.bias.map_or(Epilogue::Overwrite, |bias| Epilogue::OverwriteWithBias(&w[bias]));
            panel_product(Matrix::new(flat(&x), rows, inputs), weight.as_right(), &mut y, self.outputs, bias);
        });
        (y.into_array((rows, self.outputs)), Cache(x))
    }

    /// dx = dy Wᵀ, with dW and db added into `grads`.
    ///
    /// # Shapes
    /// dy (rows, outputs) to dx (rows, inputs).
    ///
    /// # Panics
    /// If dy has another shape than y.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        Cache(x): Cache<F>,
        dy: impl Into<Kept<F, Ix2>>,
        grads: &mut ParameterVector<F>,
    ) -> Array2<F> {
        let (rows, dy) = (x.nrows(), dy.into());
        self.parameter_gradients(Cache(x), dy.clone(), grads);
        let dy = Matrix::new(flat(&dy), rows, self.outputs);
        let mut dx = buffer_pool::take(rows * self.inputs);
        timed(Some(self.weight), "input gradient", rows * self.inputs * self.outputs, || {
            let copy = |weight: &[F]| Matrix::new(weight, self.inputs, self.outputs).t().panels();
            let transposed = w.panels(self.weight, Use::Backward { phase: 0 }, &copy);
            panel_product(dy, transposed.as_right(), &mut dx, self.inputs, Epilogue::Overwrite);
        });
        dx.into_array((rows, self.inputs))
    }

    /// dW and db alone, for a layer whose dx nobody reads.
    ///
    /// # Panics
    /// If dy has another shape than y.
    pub fn parameter_gradients<F: Real>(
        &self,
        Cache(x): Cache<F>,
        dy: impl Into<Kept<F, Ix2>>,
        grads: &mut ParameterVector<F>,
    ) {
        let (rows, dy) = (x.nrows(), dy.into());
        assert_eq!(dy.dim(), (rows, self.outputs), "linear: dy has the shape of y");
        let dy = Matrix::new(flat(&dy), rows, self.outputs);
        let x_transposed = Matrix::new(flat(&x), rows, self.inputs).t();
        timed(Some(self.weight), "weight gradient", x.len() * self.outputs, || {
            matrix_product(x_transposed, dy, &mut grads[self.weight], self.outputs, Epilogue::Accumulate)
        });
        if let Some(bias) = self.bias {
            add_bias_gradient(dy.data, &mut grads[bias]);
        }
    }
}

/// db_o += Σ_r dy_ro, rounded once from the f64 total.
pub(super) fn add_bias_gradient<F: Real>(dy: &[F], db: &mut [F]) {
    let mut totals = vec![0.0; db.len()];
    timed(None, "bias gradients", 0, || plain_column_sums(dy, &mut totals));
    db.iter_mut().zip(totals).for_each(|(db, total)| *db += F::from_f64(total));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradient_check::check;
    use crate::numerics::rng::normal;

    #[test]
    fn linear_gradients_equal_central_differences() {
        for new in [Linear::new, Linear::without_bias] {
            let mut layout = Layout::default();
            let linear = new(&mut layout, "linear", 5, 3);
            let (w, x) = (layout.initial(1), normal((4, 5), 2));
            check(
                &w,
                &x,
                3,
                |w, x| linear.forward(w, x.clone()),
                |w, cache, dy, grads| linear.backward(w, cache, dy, grads),
            )
            .expect("the gradients are right");
        }
    }
}
