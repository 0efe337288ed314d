//! Two layers with a loss and an optimizer of one's own, the gradient checked by central differences.
//!
//! The network is y = group_norm(conv2d(x)). The loss is log cosh of the error: like a square near zero, and like its
//! absolute value far away, so that its gradient is tanh of the error.

use ancestral::layers::conv2d::Conv2d;
use ancestral::layers::gradient_check::check;
use ancestral::layers::group_norm::GroupNorm;
use ancestral::layers::im2col::Window;
use ancestral::layers::{Layout, ParameterVector};
use ancestral::ndarray::Array4;
use ancestral::numerics::elementary::{exp, ln, tanh};
use ancestral::numerics::rng::normal;

fn main() {
    let mut layout = Layout::default();
    let conv = Conv2d::new(&mut layout, "conv", 2, 4, Window::square(3, 1, 1));
    let norm = GroupNorm::new(&mut layout, "norm", 4, 2, 1e-5);

    let forward = |w: &ParameterVector<f64>, x: &Array4<f64>| {
        let (h, conv_cache) = conv.forward(w, x.clone());
        let (y, norm_cache) = norm.forward(w, h);
        (y, (conv_cache, norm_cache))
    };
    // In reverse: the gradient of a parameter is added into `grads`, the gradient of the input is returned.
    let backward = |w: &ParameterVector<f64>, (conv_cache, norm_cache), dy: &Array4<f64>, grads: &mut _| {
        let dh = norm.backward(w, norm_cache, dy.clone(), grads);
        conv.backward(w, conv_cache, &dh, grads)
    };

    let (x, target) = (normal((3, 6, 6, 2), 1), normal((3, 6, 6, 4), 2));
    let mut w: ParameterVector<f64> = layout.initial(42);
    check(&w, &x, 3, forward, backward).expect("the backward pass is that of central differences");
    println!("{} gradients agree with central differences", layout.count() + x.len());

    // Gradient descent with momentum: v <- 0.9 v + g, w <- w - lr v.
    let mut velocity: ParameterVector<f64> = ParameterVector::zeros(layout.count());
    for step in 1..=200 {
        let (y, cache) = forward(&w, &x);
        let error = &y - &target;
        let n = error.len() as f64;
        let loss: f64 = error.iter().map(|e| ln((exp(*e) + exp(-e)) / 2.0)).sum::<f64>() / n;
        let mut grads = ParameterVector::zeros(layout.count());
        backward(&w, cache, &error.mapv(|e| tanh(e) / n), &mut grads);
        for ((w, v), g) in w.0.iter_mut().zip(&mut velocity.0).zip(&grads.0) {
            *v = 0.9 * *v + g;
            *w -= 0.5 * *v;
        }
        if step % 50 == 0 {
            println!("step {step}: loss {loss:.6}");
        }
    }
}
