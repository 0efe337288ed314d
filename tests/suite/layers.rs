//! Single layers against PyTorch's float64: outputs and all gradients, in f64 and in f32.

use crate::peer::{Peer, channels_last, worst};
use ancestral::layers::activation::{gelu_tanh, gelu_tanh_backward, silu, silu_backward};
use ancestral::layers::attention::{attention, attention_backward};
use ancestral::layers::conv2d::Conv2d;
use ancestral::layers::group_norm::GroupNorm;
use ancestral::layers::im2col::Window;
use ancestral::layers::layer_norm::{layer_norm, layer_norm_backward};
use ancestral::layers::linear::Linear;
use ancestral::layers::resample::{upsample_nearest_2x, upsample_nearest_2x_backward};
use ancestral::layers::{Layout, ParameterVector};
use ancestral::numerics::Real;
use ndarray::{Array, Array4, Dimension};

/// What one precision may be off by, as a fraction of the largest element of a tensor.
///
/// f64: sums of at most 90 terms, 90 · 2⁻⁵³ = 1e-14, with a thousandfold margin. f32: the same sums lose at most 90 · 2⁻²⁴ = 5e-6 if
/// every rounding went one way; norms add the cancellation of a mean, a few units more.
fn tolerance<F: Real>() -> f64 {
    if F::NAME == "f64" { 1e-11 } else { 5e-6 }
}

struct Case<F> {
    peer: Peer,
    name: String,
    precision: std::marker::PhantomData<F>,
}

impl<F: Real> Case<F> {
    fn open(name: &str) -> Self {
        Case {
            peer: Peer::open(&format!("layers/{name}.safetensors")),
            name: name.into(),
            precision: Default::default(),
        }
    }

    fn images(&self, name: &str) -> Array4<F> {
        self.peer.images(name).mapv(F::from_f64)
    }

    fn array<D: Dimension>(&self, name: &str) -> Array<F, D> {
        self.peer.get(name).mapv(F::from_f64).into_dimensionality().expect("the axes of the operation")
    }

    fn same<'a>(&self, what: &str, found: impl IntoIterator<Item = &'a F>, expected: impl IntoIterator<Item = f64>)
    where
        F: 'a,
    {
        let expected: Vec<f64> = expected.into_iter().collect();
        let (error, scale) = worst(found.into_iter().map(|f| f.to_f64()), &expected);
        assert!(error <= tolerance::<F>() * scale, "{} {what} in {}: off by {error:e} of {scale}", self.name, F::NAME);
    }

    fn same_images(&self, what: &str, found: &Array4<F>) {
        self.same(what, found, channels_last(self.peer.get(what)));
    }

    fn same_array<D: Dimension>(&self, what: &str, found: &Array<F, D>) {
        self.same(what, found, self.peer.get(what).iter().copied());
    }

    fn weights(&self, layout: &Layout) -> ParameterVector<F> {
        let mut w = ParameterVector::zeros(layout.count());
        for entry in &layout.entries {
            let values = self.peer.parameter(&entry.name.replace("layer.", "input."), &entry.axes);
            w[entry.span].iter_mut().zip(values).for_each(|(w, v)| *w = F::from_f64(v));
        }
        w
    }

    fn same_gradients(&self, layout: &Layout, grads: &ParameterVector<F>) {
        for entry in &layout.entries {
            let name = entry.name.replace("layer.", "grad.");
            self.same(&name, &grads[entry.span], self.peer.parameter(&name, &entry.axes));
        }
    }
}

fn convolutions<F: Real>() {
    for name in ["conv2d_1x1", "conv2d_3x3", "conv2d_3x3_stride2"] {
        let case = Case::<F>::open(name);
        let shape = case.peer.get("input.weight").shape().to_vec();
        let window = Window::square(shape[2], case.peer.fact("stride") as usize, case.peer.fact("padding") as usize);
        let mut layout = Layout::default();
        let conv = Conv2d::new(&mut layout, "layer", shape[1], shape[0], window);
        let w = case.weights(&layout);
        let (y, cache) = conv.forward(&w, case.images("input.x"));
        case.same_images("output", &y);
        let mut grads = ParameterVector::zeros(layout.count());
        case.same_images("grad.x", &conv.backward(&w, cache, case.images("grad_output"), &mut grads));
        case.same_gradients(&layout, &grads);
    }
}

fn norms<F: Real>() {
    let case = Case::<F>::open("group_norm");
    let mut layout = Layout::default();
    let norm = GroupNorm::new(&mut layout, "layer", 12, case.peer.fact("groups") as usize, case.peer.fact("eps"));
    let w = case.weights(&layout);
    let (y, cache) = norm.forward(&w, case.images("input.x"));
    case.same_images("output", &y);
    let mut grads = ParameterVector::zeros(layout.count());
    case.same_images("grad.x", &norm.backward(&w, cache, case.images("grad_output"), &mut grads));
    case.same_gradients(&layout, &grads);

    let case = Case::<F>::open("layer_norm");
    let rows = |name: &str| case.array::<ndarray::Ix3>(name).into_shape_with_order((28, 10)).expect("4 x 7 rows of 10");
    let (y, cache) = layer_norm(rows("input.x"), case.peer.fact("eps"));
    case.same_array("output", &y);
    case.same_array("grad.x", &layer_norm_backward(cache, rows("grad_output")));
}

fn linear<F: Real>() {
    let case = Case::<F>::open("linear");
    let mut layout = Layout::default();
    let linear = Linear::new(&mut layout, "layer", 9, 7);
    let w = case.weights(&layout);
    let (y, cache) = linear.forward(&w, case.array("input.x"));
    case.same_array("output", &y);
    let mut grads = ParameterVector::zeros(layout.count());
    case.same_array("grad.x", &linear.backward(&w, cache, case.array::<ndarray::Ix2>("grad_output"), &mut grads));
    case.same_gradients(&layout, &grads);
}

fn activations<F: Real>() {
    let case = Case::<F>::open("silu");
    let (x, dy) = (case.array::<ndarray::Ix1>("input.x"), case.array::<ndarray::Ix1>("grad_output"));
    case.same_array("output", &silu(&x));
    case.same_array("grad.x", &silu_backward(&x, dy));

    let case = Case::<F>::open("gelu_tanh");
    let (x, dy) = (case.array::<ndarray::Ix1>("input.x"), case.array::<ndarray::Ix1>("grad_output"));
    case.same_array("output", &gelu_tanh(x.clone()));
    case.same_array("grad.x", &gelu_tanh_backward(&x, dy));
}

fn attentions<F: Real>() {
    let case = Case::<F>::open("attention");
    let [q, k, v] = ["input.q", "input.k", "input.v"].map(|name| case.array(name));
    let (o, cache) = attention(q, k, v, case.peer.fact("heads") as usize, true);
    case.same_array("output", &o);
    let gradients = attention_backward(cache, case.array::<ndarray::Ix3>("grad_output"));
    ["grad.q", "grad.k", "grad.v"].iter().zip(&gradients).for_each(|(name, found)| case.same_array(name, found));
}

fn upsampling<F: Real>() {
    let case = Case::<F>::open("upsample_nearest_2x");
    case.same_images("output", &upsample_nearest_2x(case.images("input.x")));
    case.same_images("grad.x", &upsample_nearest_2x_backward(case.images("grad_output")));
}

macro_rules! in_both_precisions {
    ($($f64:ident, $f32:ident: $case:ident;)*) => {
        $(#[test] fn $f64() { $case::<f64>(); }
          #[test] fn $f32() { $case::<f32>(); })*
    };
}

in_both_precisions! {
    conv2d_in_f64_equals_pytorch, conv2d_in_f32_equals_pytorch: convolutions;
    norms_in_f64_equal_pytorch, norms_in_f32_equal_pytorch: norms;
    linear_in_f64_equals_pytorch, linear_in_f32_equals_pytorch: linear;
    activations_in_f64_equal_pytorch, activations_in_f32_equal_pytorch: activations;
    attention_in_f64_equals_pytorch, attention_in_f32_equals_pytorch: attentions;
    upsample_in_f64_equals_pytorch, upsample_in_f32_equals_pytorch: upsampling;
}
