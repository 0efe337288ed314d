//! The posterior mean, the score and the density of a mixture of Gaussians.

use std::f64::consts::TAU;

use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::{Array1, Array2, Array4};

use super::check_images;
use crate::denoise::{Denoiser, Output};
use crate::diffusion::{Level, Prediction};
use crate::layers::softmax::{greatest, softmax};
use crate::layers::{flat, shaped};
use crate::numerics::Real;
use crate::numerics::elementary::ln;
use crate::numerics::gemm::{Epilogue, Matrix, matrix_product};
use crate::numerics::sum::sum;
use crate::{Error, Result};

/// One Gaussian of a mixture.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    weight: f64,
    /// (d)
    mean: Vec<f64>,
    /// (d): the eigenvalues of the covariance.
    variances: Vec<f64>,
    /// (d, d): its eigenvectors as columns; `None` where they are the axes.
    axes: Option<Array2<f64>>,
}

impl Component {
    /// One whose numbers are independent, each of its own variance.
    ///
    /// # Shapes
    /// mean and variances (d).
    ///
    /// # Errors
    /// A weight or a variance that is not above 0, a mean that is not finite, no number, or another number of variances.
    pub fn new(weight: f64, mean: Vec<f64>, variances: Vec<f64>) -> Result<Self> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        if !positive(weight) {
            return Err(Error::value("weight", "a number above 0", weight));
        }
        if mean.is_empty() || variances.len() != mean.len() {
            return Err(Error::value("variances", format!("{} numbers, one or more", mean.len()), variances.len()));
        }
        if let Some(x) = mean.iter().find(|x| !x.is_finite()) {
            return Err(Error::value("mean", "finite numbers", x));
        }
        match variances.iter().find(|v| !positive(**v)) {
            Some(v) => Err(Error::value("variances", "numbers above 0", v)),
            None => Ok(Component { weight, mean, variances, axes: None }),
        }
    }

    /// One of any covariance; d² numbers are held and d³ computed with, so d is small.
    ///
    /// # Shapes
    /// mean (d), covariance (d, d).
    ///
    /// # Errors
    /// As [`new`](Component::new), and a covariance that is not symmetric or not positive definite.
    pub fn with_covariance(weight: f64, mean: Vec<f64>, covariance: &Array2<f64>) -> Result<Self> {
        let d = mean.len();
        if covariance.dim() != (d, d) {
            return Err(Error::value("covariance", format!("{d} x {d} numbers"), format!("{:?}", covariance.dim())));
        }
        if let Some(x) = covariance.iter().find(|x| !x.is_finite()) {
            return Err(Error::value("covariance", "finite numbers", x));
        }
        if *covariance != covariance.t() {
            return Err(Error::value("covariance", "a symmetric matrix", "one that is not"));
        }
        let eigen = SymmetricEigen::new(DMatrix::from_fn(d, d, |i, j| covariance[[i, j]]));
        let axes = Array2::from_shape_fn((d, d), |(i, j)| eigen.eigenvectors[(i, j)]);
        let plain = Component::new(weight, mean, eigen.eigenvalues.iter().copied().collect())?;
        Ok(Component { axes: Some(axes), ..plain })
    }

    /// Rows times the matrix of the axes, or times its transpose.
    fn turned<F: Real>(&self, rows: Vec<F>, back: bool) -> Vec<F> {
        let Some(axes) = &self.axes else { return rows };
        let d = self.mean.len();
        let axes: Vec<F> = axes.iter().map(|&x| F::from_f64(x)).collect();
        let axes = Matrix::new(&axes, d, d);
        let mut turned = vec![F::zero(); rows.len()];
        let rows = Matrix::new(&rows, rows.len() / d, d);
        matrix_product(rows, if back { axes.t() } else { axes }, &mut turned, d, Epilogue::Overwrite);
        turned
    }

    /// The eigenvalues of C_k = a²·Σ_k + b²·I, (d).
    fn widened(&self, level: Level) -> impl Iterator<Item = f64> {
        let (a, b) = (level.signal(), level.sigma());
        self.variances.iter().map(move |v| a * a * v + b * b)
    }

    /// ln w_k − ½·Σ ln(2π·c).
    fn log_height(&self, level: Level) -> f64 {
        ln(self.weight) - 0.5 * self.widened(level).map(|c| ln(TAU * c)).sum::<f64>()
    }
}

/// What is known of x exactly, where images are a mixture of Gaussians.
#[derive(Clone, Debug, PartialEq)]
pub struct Known<F> {
    /// E[x₀ | x], of x's shape.
    pub x_0_hat: Array4<F>,
    /// ∇ ln p(x), of x's shape.
    pub score: Array4<F>,
    /// ln p(x), one an image, in nats.
    pub log_density: Vec<F>,
}

/// Images that are a mixture of Gaussians: a world in which all of diffusion is known in closed form.
#[derive(Clone, Debug, PartialEq)]
pub struct GaussianMixture {
    components: Vec<Component>,
}

impl GaussianMixture {
    /// The mixture; weights are divided by their sum.
    ///
    /// # Errors
    /// No component, or components of different sizes.
    pub fn new(components: Vec<Component>) -> Result<Self> {
        let Some(first) = components.first() else {
            return Err(Error::value("components", "at least one", "none"));
        };
        let size = first.mean.len();
        if let Some(other) = components.iter().find(|component| component.mean.len() != size) {
            return Err(Error::value("components", format!("means of {size} numbers all"), other.mean.len()));
        }
        let total: f64 = components.iter().map(|component| component.weight).sum();
        let weighted = |component: Component| Component { weight: component.weight / total, ..component };
        Ok(GaussianMixture { components: components.into_iter().map(weighted).collect() })
    }

    /// The numbers of an image, d.
    pub fn size(&self) -> usize {
        self.components[0].mean.len()
    }

    /// The mean (d) and the covariance (d, d) of x at a level: a·μ and a²·Σ + b²·I of the images' own, which are
    /// Σ w_k·μ_k and Σ w_k·(Σ_k + μ_k·μ_kᵀ) less μ·μᵀ.
    pub fn moments(&self, level: Level) -> (Array1<f64>, Array2<f64>) {
        let (a, b, d) = (level.signal(), level.sigma(), self.size());
        let mut mean = Array1::zeros(d);
        let mut covariance = Array2::from_diag_elem(d, b * b);
        for Component { weight, mean: of_k, variances, axes } in &self.components {
            mean.scaled_add(a * weight, &Array1::from(of_k.clone()));
            for ((i, j), sum) in covariance.indexed_iter_mut() {
                let own: f64 = match axes {
                    Some(u) => (0..d).map(|k| u[[i, k]] * variances[k] * u[[j, k]]).sum(),
                    None if i == j => variances[i],
                    None => 0.0,
                };
                *sum += a * a * weight * (own + of_k[i] * of_k[j]);
            }
        }
        for ((i, j), sum) in covariance.indexed_iter_mut() {
            *sum -= mean[i] * mean[j];
        }
        (mean, covariance)
    }

    /// What is known of `x`, each image at its level.
    ///
    /// # Shapes
    /// x (n, h, w, c) of h·w·c = d numbers an image, levels (n).
    ///
    /// # Errors
    /// Images of another size, or with a NaN or an infinity.
    pub fn know<F: Real>(&self, x: &Array4<F>, levels: &[Level]) -> Result<Known<F>> {
        let d = self.size();
        check_images(x, levels, d)?;
        let (n, count) = (levels.len(), self.components.len());
        // Of each component: x − a·μ along its axes, and ln(w_k·N).
        let mut offsets = Vec::with_capacity(count);
        let mut logs = vec![F::zero(); n * count];
        for (k, component) in self.components.iter().enumerate() {
            let mut offset = flat(x).to_vec();
            for (row, level) in offset.chunks_mut(d).zip(levels) {
                let a = F::from_f64(level.signal());
                row.iter_mut().zip(&component.mean).for_each(|(x, &mean)| *x -= a * F::from_f64(mean));
            }
            let offset = component.turned(offset, false);
            for (i, (row, &level)) in offset.chunks(d).zip(levels).enumerate() {
                let squares: Vec<F> =
                    row.iter().zip(component.widened(level)).map(|(&y, c)| y * y / F::from_f64(c)).collect();
                let half = F::from_f64(0.5 * sum(&squares));
                logs[i * count + k] = F::from_f64(component.log_height(level)) - half;
            }
            offsets.push(offset);
        }
        let most: Vec<F> = logs.chunks(count).map(greatest).collect();
        let total = |(logs, most): (&[F], &F)| -> f64 {
            sum(&logs.iter().map(|&log| (log - *most).exp::<crate::numerics::Native>()).collect::<Vec<F>>())
        };
        let totals = logs.chunks(count).zip(&most).map(total);
        let log_density = totals.zip(&most).map(|(total, &most)| most + F::from_f64(ln(total))).collect();
        softmax(&mut logs, count);

        let (mut x_0_hat, mut score) = (vec![F::zero(); n * d], vec![F::zero(); n * d]);
        for (k, (component, mut offset)) in self.components.iter().zip(offsets).enumerate() {
            // C⁻¹·(x − a·μ) along the axes, and a·Σ·C⁻¹·(x − a·μ).
            for (row, &level) in offset.chunks_mut(d).zip(levels) {
                row.iter_mut().zip(component.widened(level)).for_each(|(y, c)| *y /= F::from_f64(c));
            }
            let mut towards = offset.clone();
            for (row, level) in towards.chunks_mut(d).zip(levels) {
                let factor = |&v: &f64| F::from_f64(level.signal() * v);
                row.iter_mut().zip(component.variances.iter().map(factor)).for_each(|(y, factor)| *y *= factor);
            }
            let (slopes, towards) = (component.turned(offset, true), component.turned(towards, true));
            for i in 0..n {
                let share = logs[i * count + k];
                for j in 0..d {
                    let at = i * d + j;
                    x_0_hat[at] += share * (F::from_f64(component.mean[j]) + towards[at]);
                    score[at] += share * -slopes[at];
                }
            }
        }
        Ok(Known { x_0_hat: shaped(x.dim(), x_0_hat), score: shaped(x.dim(), score), log_density })
    }
}

impl<F: Real> Denoiser<F> for GaussianMixture {
    /// E[x₀ | x].
    ///
    /// # Errors
    /// Images of another size, or with a NaN or an infinity; labels.
    fn predict(&self, x: &Array4<F>, levels: &[Level], labels: Option<&[usize]>) -> Result<Output<F>> {
        if labels.is_some() {
            return Err(Error::value("labels", "none: a mixture has no classes", "some"));
        }
        Ok(Output::new(Prediction::Sample, self.know(x, levels)?.x_0_hat))
    }
}

#[cfg(test)]
mod tests;
