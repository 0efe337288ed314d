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
//!
//! Next in the [course](super#the-course): [`layer_norm`](super::layer_norm).

use ndarray::{Array4, Ix4};

use super::activation::{silu_gradient_of, silu_of};
use super::parameters::{Axes, Init};
use super::stopwatch::timed;
use super::{Kept, Layout, ParameterVector, Span, Weights, flat, flat_mut};
use crate::numerics::Real;
use crate::numerics::instruction_set::every_instruction_set;
use crate::numerics::sum::{column_sums, map_columns};
use crate::numerics::{buffer_pool, parallel};

/// A scale and a shift for each channel, and the number of groups.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    pub(crate) weight: Span,
    bias: Span,
    channels: usize,
    groups: usize,
    norm_eps: f64,
}

/// What the backward pass needs: x, and the mean and r of each image and channel.
#[derive(Debug)]
pub struct Cache<F: Real> {
    x: Kept<F, Ix4>,
    moments: Vec<[Vec<F>; 2]>,
}

/// `affine_gradients` or `silu_and_affine_gradients`: (x, dy, [mean, r, γ, β] of each channel) to [dβ, dγ], dy to dz.
type AffineGradients<F> = fn(&[F], &mut [F], [&[F]; 4]) -> [Vec<f64>; 2];

impl<F: Real> Cache<F> {
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
    ///
    /// # Panics
    /// If x has another number of channels than the norm.
    pub fn forward<F: Real>(&self, w: &dyn Weights<F>, x: impl Into<Kept<F, Ix4>>) -> (Array4<F>, Cache<F>) {
        self.forward_with(w, x.into(), [0; 4], normalise)
    }

    /// y = silu(γ x̂ + β): the bits of [`forward`](Self::forward) and [`silu`](super::activation::silu), and what comes
    /// between them is not stored.
    pub fn forward_silu<F: Real>(&self, w: &dyn Weights<F>, x: impl Into<Kept<F, Ix4>>) -> (Array4<F>, Cache<F>) {
        self.forward_with(w, x.into(), [0; 4], normalise_silu)
    }

    /// The same with zeros around it: left, right, top and bottom, as the convolution that follows wants it.
    ///
    /// # Shapes
    /// x (n, h, w, c) to y (n, top + h + bottom, left + w + right, c).
    pub fn forward_silu_padded<F: Real>(
        &self,
        w: &dyn Weights<F>,
        x: impl Into<Kept<F, Ix4>>,
        padding: [usize; 4],
    ) -> (Array4<F>, Cache<F>) {
        self.forward_with(w, x.into(), padding, normalise_silu)
    }

    /// `normalise` or `normalise_silu`: (x, y, [mean, r, γ, β] of each channel).
    fn forward_with<F: Real>(
        &self,
        w: &dyn Weights<F>,
        x: Kept<F, Ix4>,
        [left, right, top, bottom]: [usize; 4],
        normalise: fn(&[F], &mut [F], [&[F]; 4]),
    ) -> (Array4<F>, Cache<F>) {
        let (n, h, width, c) = x.dim();
        assert_eq!(c, self.channels, "group_norm: x has {c} channels, the norm {}", self.channels);
        let (size, height, row) = (h * width * c, top + h + bottom, (left + width + right) * c);
        let (mut y, mut moments) = (buffer_pool::take(n * height * row), vec![Default::default(); n]);
        timed(Some(self.weight), "norm", 0, || {
            let images = flat(&x).chunks(size).zip(y.chunks_mut(height * row)).zip(&mut moments);
            parallel::deal(images.collect(), |((x, y), moments)| {
                *moments = per_channel(&image_moments(x, c, self.groups, self.norm_eps), c);
                let [mean, r] = &*moments;
                parallel::in_parts(y, height * row, row, |at, rows| {
                    for (i, y) in rows.chunks_mut(row).enumerate() {
                        let line = at / row + i;
                        if !(top..top + h).contains(&line) {
                            y.fill(F::zero());
                            continue;
                        }
                        let (before, y) = y.split_at_mut(left * c);
                        let (y, after) = y.split_at_mut(width * c);
                        let x = &x[(line - top) * width * c..][..y.len()];
                        normalise(x, y, [mean, r, &w[self.weight], &w[self.bias]]);
                        before.fill(F::zero());
                        after.fill(F::zero());
                    }
                });
            });
        });
        (y.into_array((n, height, left + width + right, c)), Cache { x, moments })
    }

    /// dx, with dγ and dβ added into `grads`, image after image.
    ///
    /// # Shapes
    /// dy (n, h, w, c) to dx of the same shape.
    ///
    /// # Panics
    /// If dy has another shape than x.
    pub fn backward<F: Real>(
        &self,
        w: &dyn Weights<F>,
        cache: Cache<F>,
        dy: impl Into<Kept<F, Ix4>>,
        grads: &mut ParameterVector<F>,
    ) -> Array4<F> {
        self.backward_with(w, cache, dy.into(), grads, affine_gradients)
    }

    /// The same for [`forward_silu`](Self::forward_silu): what silu was given is computed again.
    pub fn backward_silu<F: Real>(
        &self,
        w: &dyn Weights<F>,
        cache: Cache<F>,
        dy: impl Into<Kept<F, Ix4>>,
        grads: &mut ParameterVector<F>,
    ) -> Array4<F> {
        self.backward_with(w, cache, dy.into(), grads, silu_and_affine_gradients)
    }

    fn backward_with<F: Real>(
        &self,
        w: &dyn Weights<F>,
        Cache { x, moments }: Cache<F>,
        dy: Kept<F, Ix4>,
        grads: &mut ParameterVector<F>,
        affine_gradients: AffineGradients<F>,
    ) -> Array4<F> {
        let mut dy = dy.into_owned();
        assert_eq!(x.dim(), dy.dim(), "group_norm: dy has the shape of x");
        let (_, h, width, c) = x.dim();
        let (size, gamma, beta) = (h * width * c, &w[self.weight], &w[self.bias]);
        let mut sums = vec![Default::default(); moments.len()];
        timed(Some(self.weight), "norm, gradient", 0, || {
            let images = flat(&x).chunks(size).zip(flat_mut(&mut dy).chunks_mut(size)).zip(&moments).zip(&mut sums);
            parallel::deal(images.collect(), |(((x, dy), [mean, r]), sums)| {
                *sums = affine_gradients(x, dy, [mean, r, gamma, beta]);
                let [m1, m2] = &self.means_over_groups(gamma, sums, size);
                input_gradient(x, dy, [mean, r, m1, m2, gamma]);
            });
            for [dbeta, dgamma] in &sums {
                grads[self.weight].iter_mut().zip(dgamma).for_each(|(g, &d)| *g += F::from_f64(d));
                grads[self.bias].iter_mut().zip(dbeta).for_each(|(g, &d)| *g += F::from_f64(d));
            }
        });
        dy
    }

    /// m₁ and m₂ of step 4 for each channel, of an image of `size` elements.
    fn means_over_groups<F: Real>(&self, gamma: &[F], [dbeta, dgamma]: &[Vec<f64>; 2], size: usize) -> [Vec<F>; 2] {
        let of_group = self.channels / self.groups;
        let mean = |sums: &[f64], group: usize| {
            let channels = group * of_group..(group + 1) * of_group;
            let total = channels.fold(0.0, |total, c| total + gamma[c].to_f64() * sums[c]);
            F::from_f64(total / (size / self.groups) as f64)
        };
        let of_groups: Vec<(F, F)> = (0..self.groups).map(|g| (mean(dbeta, g), mean(dgamma, g))).collect();
        per_channel(&of_groups, self.channels)
    }
}

/// A pair for each group, as two rows of one number per channel.
fn per_channel<F: Real>(of_groups: &[(F, F)], channels: usize) -> [Vec<F>; 2] {
    let of_group = channels / of_groups.len();
    let row = |pick: fn(&(F, F)) -> F| (0..channels).map(|c| pick(&of_groups[c / of_group])).collect();
    [row(|p| p.0), row(|p| p.1)]
}

every_instruction_set! {
    /// (mean, r) of each group of one image, two-pass.
    fn image_moments<F>(x: &[F], channels: usize, groups: usize, norm_eps: f64) -> Vec<(F, F)> {
        if F::SEQUENTIAL {
            return moments_one_by_one(x, channels, groups, norm_eps);
        }
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

/// The same, for a type that adds one number of a group after another.
fn moments_one_by_one<F: Real>(x: &[F], channels: usize, groups: usize, norm_eps: f64) -> Vec<(F, F)> {
    let (of_group, count) = (channels / groups, (x.len() / groups) as f64);
    let moments = |g: usize| {
        let of = || x.chunks(channels).flat_map(|pixel| &pixel[g * of_group..(g + 1) * of_group]);
        let sum = |term: &dyn Fn(F) -> F| F::one_by_one(of().map(|&x| term(x).to_f64())).expect("such a type");
        let mean = F::from_f64(sum(&|x| x) / count);
        let variance = sum(&|x| (x - mean) * (x - mean)) / count;
        (mean, F::from_f64(1.0 / (variance + norm_eps).sqrt()))
    };
    (0..groups).map(moments).collect()
}

every_instruction_set! {
    /// y = γ (x − mean) r + β.
    fn normalise<F>(x: &[F], y: &mut [F], per_channel: [&[F]; 4]) {
        map_columns(x, y, per_channel, [], |x, _, [mean, r, gamma, beta], []| ((x - mean) * r).fma::<P>(gamma, beta));
    }
}

every_instruction_set! {
    /// y = z σ(z), z = γ (x − mean) r + β.
    fn normalise_silu<F>(x: &[F], y: &mut [F], per_channel: [&[F]; 4]) {
        map_columns(x, y, per_channel, [], |x, _, [mean, r, gamma, beta], []| {
            silu_of::<P, F>(((x - mean) * r).fma::<P>(gamma, beta))
        });
    }
}

every_instruction_set! {
    /// Step 1 of one image: [dβ, dγ].
    fn affine_gradients<F>(x: &[F], dy: &mut [F], per_channel: [&[F]; 4]) -> [Vec<f64>; 2] {
        let [mean, r, ..] = per_channel;
        let [mut dbeta, mut dgamma] = [(); 2].map(|()| vec![0.0; mean.len()]);
        map_columns(x, dy, [mean, r], [&mut dbeta, &mut dgamma], |x, dy, [mean, r], [dbeta, dgamma]| {
            *dbeta += dy;
            *dgamma = dy.fma::<P>((x - mean) * r, *dgamma);
            dy
        });
        [dbeta, dgamma]
    }
}

every_instruction_set! {
    /// The same where z = γ x̂ + β went through silu: dy becomes dz on the way.
    fn silu_and_affine_gradients<F>(x: &[F], dy: &mut [F], per_channel: [&[F]; 4]) -> [Vec<f64>; 2] {
        let [mut dbeta, mut dgamma] = [(); 2].map(|()| vec![0.0; per_channel[0].len()]);
        map_columns(x, dy, per_channel, [&mut dbeta, &mut dgamma], |x, dy, [mean, r, gamma, beta], [dbeta, dgamma]| {
            let x_hat = (x - mean) * r;
            let dz = dy * silu_gradient_of::<P, F>(x_hat.fma::<P>(gamma, beta));
            *dbeta += dz;
            *dgamma = dz.fma::<P>(x_hat, *dgamma);
            dz
        });
        [dbeta, dgamma]
    }
}

every_instruction_set! {
    /// Step 4: dy becomes dx.
    fn input_gradient<F>(x: &[F], dy: &mut [F], per_channel: [&[F]; 5]) {
        map_columns(x, dy, per_channel, [], |x, dy, [mean, r, m1, m2, gamma], []| {
            let x_hat = (x - mean) * r;
            r * (-x_hat).fma::<P>(m2, gamma.fma::<P>(dy, -m1))
        });
    }
}

#[cfg(test)]
mod tests;
