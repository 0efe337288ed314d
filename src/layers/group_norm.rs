//! Group normalisation (Wu & He 2018), and with one group the layer norm of an image.
//!
//! # Derivation
//!
//! For one image, a group G of channels, over its N = h·w·|G| elements, element e = (pixel p, channel c):
//!
//! ```text
//! mean = 1/N Σ x_e      var = 1/N Σ (x_e − mean)²      r = 1/√(var + norm_eps)
//! x̂_e = (x_e − mean) r          y_e = γ_c x̂_e + β_c
//! ```
//!
//! Given dy:
//!
//! 1. β_c and γ_c meet every pixel of their channel: dβ_c = Σ_p dy_pc, dγ_c = Σ_p dy_pc x̂_pc.
//! 2. dx̂_e = γ_c dy_e.
//! 3. x_e moves x̂ of the whole group: directly by r, through the mean by −r/N each, and through r. Since Σ (x − mean) = 0,
//!    ∂var/∂x_e = 2 (x_e − mean)/N and ∂r/∂x_e = −r³ (x_e − mean)/N = −r² x̂_e/N, so ∂x̂_f/∂x_e = r (δ_ef − 1/N − x̂_f x̂_e/N).
//! 4. Summed over f: dx_e = r (dx̂_e − m₁ − x̂_e m₂), with m₁ = 1/N Σ_f dx̂_f and m₂ = 1/N Σ_f dx̂_f x̂_f.
//! 5. Both sums come from step 1 for free: Σ_f dx̂_f = Σ_c γ_c dβ_c and Σ_f dx̂_f x̂_f = Σ_c γ_c dγ_c of this image.
//!
//! The cache keeps x, mean and r: x̂ is one subtraction and one product, cheaper than to store it.
//!
//! # Orders of addition
//!
//! Sums over pixels a channel are [`column_sums`]; the channels of a group are then added in ascending order, in f64.
//! The variance is two-pass: a mean of 100 with deviation 1 costs no digits. Hazards: the variance divides by N, not
//! N − 1; norm_eps stands inside of the root. Source: derived here. Proven by central differences and PyTorch's numbers.

use ndarray::Array4;

use super::parameters::{Axes, Init};
use super::stopwatch::timed;
use super::{Layout, Span, Tensors, Weights, flat, flat_mut};
use crate::numerics::Real;
use crate::numerics::path::every_path;
use crate::numerics::sum::column_sums;

/// A scale and a shift a channel, and the number of groups.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    pub(crate) weight: Span,
    bias: Span,
    channels: usize,
    groups: usize,
    norm_eps: f64,
}

/// What the backward pass needs: x, and (mean, r) of each image and group.
#[derive(Debug)]
pub struct Cache<F> {
    x: Array4<F>,
    moments: Vec<(F, F)>,
}

impl<F> Cache<F> {
    /// What the norm was given.
    pub(crate) fn x(&self) -> &Array4<F> {
        &self.x
    }
}

impl GroupNorm {
    /// Parameters `NAME.weight` = γ = 1 and `NAME.bias` = β = 0.
    ///
    /// # Panics
    /// If `groups` does not divide `channels`.
    pub fn new(layout: &mut Layout, name: &str, channels: usize, groups: usize, norm_eps: f64) -> Self {
        assert!(groups > 0 && channels.is_multiple_of(groups), "group_norm: {groups} groups of {channels} channels");
        let weight = layout.add(format!("{name}.weight"), Axes::Same(vec![channels]), Init::Ones);
        let bias = layout.add(format!("{name}.bias"), Axes::Same(vec![channels]), Init::Zeros);
        GroupNorm { weight, bias, channels, groups, norm_eps }
    }

    /// y = γ x̂ + β.
    ///
    /// # Shapes
    /// x (n, h, w, c) to y of the same shape.
    pub fn forward<F: Real>(&self, w: &dyn Weights<F>, x: Array4<F>) -> (Array4<F>, Cache<F>) {
        let (n, h, width, c) = x.dim();
        assert_eq!(c, self.channels, "group_norm: x has {c} channels, the norm {}", self.channels);
        let mut y = vec![F::zero(); x.len()];
        let mut moments = Vec::with_capacity(n * self.groups);
        timed(Some(self.weight), "norm", 0, || {
            for (x, y) in flat(&x).chunks(h * width * c).zip(y.chunks_mut(h * width * c)) {
                let of_image = image_moments(x, c, self.groups, self.norm_eps);
                normalise(x, y, &per_channel(&of_image, c), &w[self.weight], &w[self.bias]);
                moments.extend(of_image);
            }
        });
        (super::shaped(x.dim(), y), Cache { x, moments })
    }

    /// dx, with dγ and dβ added into `grads`, image after image.
    ///
    /// # Shapes
    /// dy (n, h, w, c) to dx of the same shape.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        Cache { x, moments }: Cache<F>,
        mut dy: Array4<F>,
        grads: &mut Tensors<F>,
    ) -> Array4<F> {
        assert_eq!(x.dim(), dy.dim(), "group_norm: dy has the shape of x");
        let (_, h, width, c) = x.dim();
        let (size, of_group) = (h * width * c, c / self.groups);
        let gamma = &w[self.weight];
        timed(Some(self.weight), "norm, gradient", 0, || {
            let images = flat(&x).chunks(size).zip(flat_mut(&mut dy).chunks_mut(size)).zip(moments.chunks(self.groups));
            for ((x, dy), moments) in images {
                let moments = per_channel(moments, c);
                let (dbeta, dgamma) = affine_gradients(x, dy, &moments);
                grads[self.weight].iter_mut().zip(&dgamma).for_each(|(g, &d)| *g += F::from_f64(d));
                grads[self.bias].iter_mut().zip(&dbeta).for_each(|(g, &d)| *g += F::from_f64(d));
                let mean_over_group = |sums: &[f64], group: usize| {
                    let channels = group * of_group..(group + 1) * of_group;
                    let total = channels.fold(0.0, |total, c| total + gamma[c].to_f64() * sums[c]);
                    F::from_f64(total / (size / self.groups) as f64)
                };
                let m: Vec<(F, F)> =
                    (0..self.groups).map(|g| (mean_over_group(&dbeta, g), mean_over_group(&dgamma, g))).collect();
                input_gradient(x, dy, &moments, &per_channel(&m, c), gamma);
            }
        });
        dy
    }
}

/// A pair a group, as two rows of a number a channel.
fn per_channel<F: Real>(of_groups: &[(F, F)], channels: usize) -> [Vec<F>; 2] {
    let of_group = channels / of_groups.len();
    let row = |pick: fn(&(F, F)) -> F| (0..channels).map(|c| pick(&of_groups[c / of_group])).collect();
    [row(|p| p.0), row(|p| p.1)]
}

every_path! {
    /// (mean, r) of each group of one image, two-pass.
    fn image_moments<F>(x: &[F], channels: usize, groups: usize, norm_eps: f64) -> Vec<(F, F)> {
        let (pixels, of_group) = (x.len() / channels, channels / groups);
        let count = (pixels * of_group) as f64;
        let mut sums = vec![0.0; channels];
        column_sums([x], [], &mut sums, |s, [x], []| s + x);
        let over_group = |sums: &[f64], g: usize| sums[g * of_group..(g + 1) * of_group].iter().fold(0.0, |t, s| t + s) / count;
        let means: Vec<F> = (0..groups).map(|g| F::from_f64(over_group(&sums, g))).collect();
        let mean_of_channel: Vec<F> = (0..channels).map(|c| means[c / of_group]).collect();
        let mut squares = vec![0.0; channels];
        column_sums([x], [&mean_of_channel], &mut squares, |s, [x], [mean]| (x - mean).fma::<P>(x - mean, s));
        let r = |g: usize| F::from_f64(1.0 / (over_group(&squares, g) + norm_eps).sqrt());
        (0..groups).map(|g| (means[g], r(g))).collect()
    }
}

every_path! {
    /// y = γ (x − mean) r + β.
    fn normalise<F>(x: &[F], y: &mut [F], moments: &[Vec<F>; 2], gamma: &[F], beta: &[F]) {
        let c = gamma.len();
        let (mean, r, beta) = (&moments[0][..c], &moments[1][..c], &beta[..c]);
        for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
            for i in 0..c {
                y[i] = ((x[i] - mean[i]) * r[i]).fma::<P>(gamma[i], beta[i]);
            }
        }
    }
}

every_path! {
    /// Step 1 of one image: (dβ, dγ).
    fn affine_gradients<F>(x: &[F], dy: &[F], moments: &[Vec<F>; 2]) -> (Vec<f64>, Vec<f64>) {
        let (mut dbeta, mut dgamma) = (vec![0.0; moments[0].len()], vec![0.0; moments[0].len()]);
        column_sums([dy], [], &mut dbeta, |s, [dy], []| s + dy);
        let [mean, r] = moments;
        column_sums([dy, x], [mean, r], &mut dgamma, |s, [dy, x], [mean, r]| dy.fma::<P>((x - mean) * r, s));
        (dbeta, dgamma)
    }
}

every_path! {
    /// Step 4 of one image: dy becomes dx.
    fn input_gradient<F>(x: &[F], dy: &mut [F], moments: &[Vec<F>; 2], m: &[Vec<F>; 2], gamma: &[F]) {
        let c = gamma.len();
        let (mean, r, m1, m2) = (&moments[0][..c], &moments[1][..c], &m[0][..c], &m[1][..c]);
        for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact_mut(c)) {
            for i in 0..c {
                let x_hat = (x[i] - mean[i]) * r[i];
                dy[i] = r[i] * (-x_hat).fma::<P>(m2[i], gamma[i].fma::<P>(dy[i], -m1[i]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradient_check::{check, normal};

    fn norm(channels: usize, groups: usize) -> (GroupNorm, Tensors<f64>) {
        let mut layout = Layout::default();
        let norm = GroupNorm::new(&mut layout, "norm", channels, groups, 1e-5);
        let moved = normal(layout.count(), 9);
        (norm, Tensors(moved.to_vec()))
    }

    #[test]
    fn group_norm_gradients_equal_central_differences() {
        for groups in [1, 3, 6] {
            let (norm, w) = norm(6, groups);
            let x = normal((2, 3, 5, 6), 1) * 2.0 + 0.7;
            check(
                &w,
                &x,
                2,
                |w, x| norm.forward(w, x.clone()),
                |w, cache, dy, grads| norm.backward(w, cache, dy.clone(), grads),
            )
            .unwrap_or_else(|error| panic!("{groups} groups: {error}"));
        }
    }

    #[test]
    fn group_norm_of_a_constant_image_is_its_bias() {
        let (norm, w) = norm(6, 3);
        let y = norm.forward(&w, Array4::from_elem((1, 2, 3, 6), 7.5)).0;
        assert!(flat(&y).chunks(6).all(|pixel| pixel == &w[norm.bias]));
    }

    #[test]
    fn group_norm_in_f32_with_a_mean_of_100_keeps_its_digits() {
        let (norm, w) = norm(6, 3);
        let x = (normal((1, 28, 28, 6), 1) + 100.0).mapv(|x| x as f32);
        let exact = norm.forward(&w, x.mapv(f64::from)).0;
        let found = norm.forward(&w.cast::<f32>(), x).0;
        // The mean, rounded to f32, is off by at most 2⁻¹⁸ = 3.8e-6, and γ is at most about 3.
        let worst = exact.iter().zip(&found).fold(0.0, |m: f64, (e, f)| m.max((e - *f as f64).abs()));
        assert!(worst < 3.0 * 4e-6 + 1e-6, "{worst:e}");
    }

    #[test]
    fn group_norm_of_an_image_is_the_same_alone_and_in_a_batch() {
        let (norm, w) = norm(6, 2);
        let x = normal((3, 4, 5, 6), 1);
        let all = norm.forward(&w, x.clone()).0;
        let second = x.slice_axis(ndarray::Axis(0), ndarray::Slice::from(1..2)).to_owned();
        assert_eq!(norm.forward(&w, second).0.index_axis(ndarray::Axis(0), 0), all.index_axis(ndarray::Axis(0), 1));
    }
}
