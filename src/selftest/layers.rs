//! Each layer forward, its input gradient and its parameter gradients, in f32.

use ndarray::{Array, Dimension, IntoDimension};

use super::Chain;
use crate::Result;
use crate::layers::activation::{gelu_tanh, gelu_tanh_backward, silu, silu_backward};
use crate::layers::attention::{attention, attention_backward};
use crate::layers::conv2d::Conv2d;
use crate::layers::dropout::{Key, dropout};
use crate::layers::group_norm::GroupNorm;
use crate::layers::im2col::Window;
use crate::layers::layer_norm::{layer_norm, layer_norm_backward};
use crate::layers::linear::Linear;
use crate::layers::softmax::{softmax, softmax_backward};
use crate::layers::{Layout, ParameterVector, flat};
use crate::numerics::rng::normal;

pub(super) fn links(chain: &mut Chain) -> Result<()> {
    // (name, window, c_in): with 29 channels a window of 9 has more than one block of k.
    let windows = [
        ("conv_3x3", Window::square(3, 1, 1), 29),
        ("conv_1x1", Window::square(1, 1, 0), 5),
        ("conv_3x3_stride_2", Window::new((3, 3), 2, [0, 1, 0, 1])?, 5),
        ("conv_5x2_stride_3", Window::new((5, 2), 3, [0, 2, 4, 1])?, 5),
        ("conv_1x1_stride_2", Window::square(1, 2, 0), 5),
    ];
    for (name, window, c_in) in windows {
        convolution(chain, name, window, c_in);
    }
    linear(chain);
    norms(chain);
    softmax_and_attention(chain);
    activations(chain);
    Ok(())
}

/// Standard normals in f32.
pub(super) fn numbers<D: Dimension>(shape: impl IntoDimension<Dim = D>, key: u64) -> Array<f32, D> {
    normal(shape, key).mapv(|x| x as f32)
}

/// Weights that are all different, scales and shifts too.
pub(super) fn weights(layout: &Layout) -> ParameterVector<f32> {
    ParameterVector(numbers(layout.count(), 5).to_vec())
}

fn convolution(chain: &mut Chain, name: &str, window: Window, c_in: usize) {
    let mut layout = Layout::default();
    let conv = Conv2d::new(&mut layout, "conv", c_in, 7, window);
    let w = weights(&layout);
    let (y, cache) = conv.forward(&w, numbers((2, 6, 8, c_in), 1));
    let mut grads = ParameterVector::zeros(layout.count());
    let dx = conv.backward(&w, cache, numbers(y.dim(), 2), &mut grads);
    chain.numbers(format!("layers.{name}_forward"), flat(&y));
    chain.numbers(format!("layers.{name}_input_gradient"), flat(&dx));
    chain.numbers(format!("layers.{name}_weight_gradient"), &grads.0);
}

fn linear(chain: &mut Chain) {
    let mut layout = Layout::default();
    let linear = Linear::new(&mut layout, "linear", 37, 11);
    let w = weights(&layout);
    let (y, cache) = linear.forward(&w, numbers((9, 37), 1));
    let mut grads = ParameterVector::zeros(layout.count());
    let dx = linear.backward(&w, cache, numbers(y.dim(), 2), &mut grads);
    chain.numbers("layers.linear", &[flat(&y), flat(&dx), &grads.0].concat());
}

fn norms(chain: &mut Chain) {
    let mut layout = Layout::default();
    let norm = GroupNorm::new(&mut layout, "norm", 6, 2, 1e-5);
    let w = weights(&layout);
    let (y, cache) = norm.forward(&w, numbers((3, 5, 7, 6), 1).mapv(|x| 3.0 * x + 10.0));
    let mut grads = ParameterVector::zeros(layout.count());
    let dx = norm.backward(&w, cache, numbers(y.dim(), 2), &mut grads);
    chain.numbers("layers.group_norm_forward", flat(&y));
    chain.numbers("layers.group_norm_backward", &[flat(&dx), &grads.0].concat());

    let (y, cache) = layer_norm(numbers((5, 37), 3), 1e-5);
    let dx = layer_norm_backward(cache, numbers((5, 37), 4));
    chain.numbers("layers.layer_norm", &[flat(&y), flat(&dx)].concat());
}

fn softmax_and_attention(chain: &mut Chain) {
    let mut p = numbers(9 * 37, 1).mapv(|x| 5.0 * x).to_vec();
    softmax(&mut p, 37);
    let mut ds = numbers(p.len(), 2).to_vec();
    softmax_backward(&p, &mut ds, 37);
    chain.numbers("layers.softmax", &[p, ds].concat());

    let (y, cache) = attention(numbers((2, 19, 6), 1), numbers((2, 17, 6), 2), numbers((2, 17, 6), 3), 2, true);
    let [dq, dk, dv] = attention_backward(cache, numbers(y.dim(), 4));
    chain.numbers("layers.attention_forward", flat(&y));
    chain.numbers("layers.attention_backward", &[flat(&dq), flat(&dk), flat(&dv)].concat());
}

fn activations(chain: &mut Chain) {
    let (x, dy) = (numbers(1001, 1).mapv(|x| 4.0 * x), numbers(1001, 2));
    chain.numbers("layers.silu", &[flat(&silu(&x)), flat(&silu_backward(&x, &dy))].concat());
    let gelu = [gelu_tanh(&x), gelu_tanh_backward(x, dy)];
    chain.numbers("layers.gelu", &[flat(&gelu[0]), flat(&gelu[1])].concat());
    let key = Key { seed: 1, step: 2, first_image: 3 };
    chain.numbers("layers.dropout", flat(&dropout(numbers((2, 5, 7, 3), 1), 0.3, 4, Some(key)).0));
}
