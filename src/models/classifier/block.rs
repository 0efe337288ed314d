//! A residual block without time (He et al. 2016, "Identity Mappings in Deep Residual Networks").
//!
//! ```text
//! h = conv1(silu(norm1(x)))                     every second pixel, where the block halves
//! y = shortcut(x) + conv2(silu(norm2(h)))       shortcut: a 1x1 convolution where size or channels change
//! ```
//!
//! # Derivation
//!
//! Each line is a layer with its own rule. x goes two ways, so dx is the sum of both: dy through the shortcut, and dy back
//! through conv2, norm2, conv1, norm1. Proven by central differences and by PyTorch's gradients.

use ndarray::{Array4, Ix4};

use crate::layers::conv2d::{self, Conv2d};
use crate::layers::group_norm::{self, GroupNorm};
use crate::layers::im2col::Window;
use crate::layers::parameters::Init;
use crate::layers::{Kept, Layout, ParameterVector, Weights, add_to};
use crate::numerics::Real;

/// Two norms, two convolutions, perhaps a shortcut.
#[derive(Clone, Debug)]
pub struct Block {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

/// What the backward pass needs, in the order of the forward pass.
#[derive(Debug)]
pub struct Cache<F: Real> {
    shortcut: Option<conv2d::Cache<F>>,
    norm1: group_norm::Cache<F>,
    conv1: conv2d::Cache<F>,
    norm2: group_norm::Cache<F>,
    conv2: conv2d::Cache<F>,
}

impl Block {
    /// A block from `c_in` to `c_out` channels; `stride` 2 halves height and width, rounded up.
    ///
    /// # Panics
    /// If `groups` divides not both numbers of channels, or `stride` is 0.
    pub fn new(
        layout: &mut Layout,
        name: &str,
        (c_in, c_out): (usize, usize),
        stride: usize,
        groups: usize,
        norm_eps: f64,
    ) -> Self {
        let mut conv = |part: &str, c_in, window| Conv2d::new(layout, &format!("{name}.{part}"), c_in, c_out, window);
        let conv_shortcut =
            (stride > 1 || c_in != c_out).then(|| conv("conv_shortcut", c_in, Window::square(1, stride, 0)));
        let conv1 = conv("conv1", c_in, Window::square(3, stride, 1));
        Block {
            conv_shortcut,
            conv1,
            norm1: GroupNorm::new(layout, &format!("{name}.norm1"), c_in, groups, norm_eps),
            norm2: GroupNorm::new(layout, &format!("{name}.norm2"), c_out, groups, norm_eps),
            conv2: Conv2d::with_init(
                layout,
                &format!("{name}.conv2"),
                c_out,
                c_out,
                Window::square(3, 1, 1),
                Init::Zeros,
            ),
        }
    }

    /// Where its parameters begin.
    pub(super) fn place(&self) -> usize {
        self.norm1.weight.start
    }

    /// y.
    ///
    /// # Shapes
    /// x (n, h, w, c_in) to y (n, ⌈h/stride⌉, ⌈w/stride⌉, c_out).
    ///
    /// # Panics
    /// If x has other channels than the block.
    pub fn forward<F: Real>(&self, w: &dyn Weights<F>, x: impl Into<Kept<F, Ix4>>) -> (Array4<F>, Cache<F>) {
        let x = x.into();
        let (shortcut, of_shortcut) = match &self.conv_shortcut {
            Some(conv) => {
                let (y, cache) = conv.forward(w, x.clone());
                (Kept::from(y), Some(cache))
            }
            None => (x.clone(), None),
        };
        let (h, norm1) = self.norm1.forward_silu_padded(w, x, self.conv1.window.padding());
        let (h, conv1) = self.conv1.forward_padded(w, h);
        let (h, norm2) = self.norm2.forward_silu_padded(w, h, self.conv2.window.padding());
        let (mut y, conv2) = self.conv2.forward_padded(w, h);
        add_to(&mut y, &shortcut);
        (y, Cache { shortcut: of_shortcut, norm1, conv1, norm2, conv2 })
    }

    /// dx; the gradients of the parameters are added into `grads`.
    ///
    /// # Panics
    /// If dy has another shape than y.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        cache: Cache<F>,
        dy: impl Into<Kept<F, Ix4>>,
        grads: &mut ParameterVector<F>,
    ) -> Array4<F> {
        let dy = dy.into();
        let dh = self.conv2.backward(w, cache.conv2, dy.clone(), grads);
        let dh = self.norm2.backward_silu(w, cache.norm2, dh, grads);
        let dh = self.conv1.backward(w, cache.conv1, dh, grads);
        let mut dx = self.norm1.backward_silu(w, cache.norm1, dh, grads);
        let direct = match (&self.conv_shortcut, cache.shortcut) {
            (Some(conv), Some(cache)) => conv.backward(w, cache, dy, grads).into(),
            _ => dy,
        };
        add_to(&mut dx, &direct);
        dx
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradient_check::check;
    use crate::numerics::rng::normal;

    #[test]
    fn block_gradients_equal_central_differences_with_and_without_a_shortcut() {
        for (channels, stride) in [((4, 4), 1), ((4, 6), 1), ((4, 4), 2)] {
            let mut layout = Layout::default();
            let block = Block::new(&mut layout, "block", channels, stride, 2, 1e-5);
            // conv2 begins with zeros, behind which nothing could be seen.
            let w = ParameterVector(normal(layout.count(), 1).mapv(|x| 0.5 * x).to_vec());
            check(
                &w,
                &normal((2, 5, 4, channels.0), 2),
                3,
                |w, x| block.forward(w, x),
                |w, cache, dy, grads| block.backward(w, cache, dy, grads),
            )
            .unwrap_or_else(|problem| panic!("{channels:?} by {stride}: {problem}"));
        }
    }
}
