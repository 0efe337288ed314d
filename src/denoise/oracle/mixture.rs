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
mod tests {
    use super::*;
    use crate::diffusion::Form;
    use crate::numerics::elementary::exp;
    use crate::numerics::rng::normal;
    use ndarray::{arr1, arr2};

    /// Three in three dimensions: one round, one along the axes, one aslant.
    fn mixture() -> GaussianMixture {
        GaussianMixture::new(vec![
            Component::new(1.0, vec![-0.6, 0.2, 0.1], vec![0.04; 3]).unwrap(),
            Component::new(0.6, vec![0.5, 0.5, -0.3], vec![0.09, 0.01, 0.25]).unwrap(),
            Component::with_covariance(0.4, vec![0.1, -0.7, 0.8], &aslant()).unwrap(),
        ])
        .unwrap()
    }

    fn aslant() -> Array2<f64> {
        arr2(&[[0.3, 0.12, -0.05], [0.12, 0.2, 0.04], [-0.05, 0.04, 0.1]])
    }

    fn levels() -> Vec<Level> {
        let forms = [Form::VariancePreserving, Form::VarianceExploding, Form::Flow];
        let ratios = [0.0, 0.05, 0.7, 3.0, 80.0];
        let noise = [Level::of_alpha_bar(9.0, 0.0), Level::new(Form::Flow, 9.0, 0.0, 1.0)];
        forms.iter().flat_map(|&form| ratios.map(|ratio| Level::new(form, 3.0, 1.0, ratio))).chain(noise).collect()
    }

    /// n points of x at a level.
    fn points(level: Level, n: usize) -> Array4<f64> {
        normal((n, 1, 3, 1), 7) * (0.8 * level.signal() + level.sigma())
    }

    /// The inverse and the determinant of a 3 × 3 matrix, by cofactors.
    fn inverse(m: &Array2<f64>) -> (Array2<f64>, f64) {
        let cofactor = |i: usize, j: usize| {
            let [p, q] = [(i + 1) % 3, (i + 2) % 3];
            let [r, s] = [(j + 1) % 3, (j + 2) % 3];
            m[[p, r]] * m[[q, s]] - m[[p, s]] * m[[q, r]]
        };
        let determinant: f64 = (0..3).map(|j| m[[0, j]] * cofactor(0, j)).sum();
        (Array2::from_shape_fn((3, 3), |(i, j)| cofactor(j, i) / determinant), determinant)
    }

    /// ln p and D as the derivation has them, with inverse matrices.
    fn direct(x: &[f64], level: Level) -> (f64, Array1<f64>) {
        let (a, b) = (level.signal(), level.sigma());
        let diagonal = |v: [f64; 3]| Array2::from_diag(&arr1(&v));
        let parts = [
            (0.5, [-0.6, 0.2, 0.1], diagonal([0.04; 3])),
            (0.3, [0.5, 0.5, -0.3], diagonal([0.09, 0.01, 0.25])),
            (0.2, [0.1, -0.7, 0.8], aslant()),
        ];
        let (mut density, mut mean) = (0.0, Array1::zeros(3));
        for (weight, mu, sigma) in parts {
            let (mu, widened) = (arr1(&mu), &sigma * (a * a) + Array2::from_diag_elem(3, b * b));
            let (precision, determinant) = inverse(&widened);
            let offset = &arr1(x) - &(&mu * a);
            let slope = precision.dot(&offset);
            let part = weight * exp(-0.5 * offset.dot(&slope)) / (TAU * TAU * TAU * determinant).sqrt();
            density += part;
            mean = mean + (mu + sigma.dot(&slope) * a) * part;
        }
        (ln(density), mean / density)
    }

    #[test]
    fn mean_and_density_equal_the_sums_as_written_at_any_level_of_any_form() {
        for level in levels() {
            let x = points(level, 5);
            let known = mixture().know(&x, &[level; 5]).unwrap();
            for (i, x) in flat(&x).chunks(3).enumerate() {
                let (log_density, mean) = direct(x, level);
                let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-11 * (1.0 + b.abs()), "{level:?}: {a} {b}");
                near(known.log_density[i], log_density);
                mean.iter().zip(&flat(&known.x_0_hat)[i * 3..]).for_each(|(&mean, &found)| near(found, mean));
            }
        }
    }

    #[test]
    fn score_is_the_gradient_of_the_log_density_and_meets_tweedies_formula() {
        for level in levels() {
            let x = points(level, 3);
            let known = mixture().know(&x, &[level; 3]).unwrap();
            // A step in units of x's own scale; an error of its square and of rounding over it.
            let h = 1e-5 * (0.1 * level.signal() + level.sigma());
            for i in 0..9 {
                let nudged = |by: f64| {
                    let mut x = x.clone();
                    x[[i / 3, 0, i % 3, 0]] += by;
                    mixture().know(&x, &[level; 3]).unwrap().log_density[i / 3]
                };
                let score = known.score[[i / 3, 0, i % 3, 0]];
                let difference = (nudged(h) - nudged(-h)) / (2.0 * h);
                let scale = 1.0 / (0.1 * level.signal() + level.sigma());
                assert!(
                    (difference - score).abs() < 1e-8 * (score.abs() + 10.0 * scale),
                    "{level:?}: {difference} {score}"
                );
            }
            let (a, b) = (level.signal(), level.sigma());
            let tweedie = &x + &(&known.score * (b * b));
            assert!((known.x_0_hat * a - tweedie).iter().all(|e| e.abs() < 1e-12 * (1.0 + b)), "{level:?}");
        }
    }

    #[test]
    fn mean_of_x_without_noise_is_x_and_of_noise_alone_the_mixtures_own() {
        let x = points(Level::CLEAN, 4);
        let found = mixture().know(&x, &[Level::CLEAN; 4]).unwrap().x_0_hat;
        assert!((found - &x).iter().all(|e| e.abs() < 1e-14));
        let noise = Level::of_alpha_bar(9.0, 0.0);
        let found = mixture().know(&x, &[noise; 4]).unwrap().x_0_hat;
        let mean = mixture().moments(Level::CLEAN).0;
        assert!(flat(&found).chunks(3).all(|row| row.iter().zip(&mean).all(|(a, b)| (a - b).abs() < 1e-15)));
        // Of one component it is linear, and of a narrow one a point.
        let point = GaussianMixture::new(vec![Component::new(3.0, vec![0.3], vec![1e-30]).unwrap()]).unwrap();
        let known = point.know(&normal((2, 1, 1, 1), 2), &[Level::of_alpha_bar(3.0, 0.5); 2]).unwrap();
        assert!(known.x_0_hat.iter().all(|x| (x - 0.3).abs() < 1e-15));
    }

    #[test]
    fn moments_at_a_level_are_those_of_points_drawn_from_it() {
        let level = Level::of_alpha_bar(3.0, 0.7);
        let (mean, covariance) = mixture().moments(level);
        // ∫ p·f over a grid that holds all but 1e-9 of p: of step h = 0.2, the trapezoid rule errs by e^(−2π²·c/h²).
        let (h, n) = (0.2, 44);
        let mut sums = (0.0, Array1::<f64>::zeros(3), Array2::<f64>::zeros((3, 3)));
        for at in 0..n * n * n {
            let x: Vec<f64> = [at % n, at / n % n, at / n / n].map(|i| (i as f64 - n as f64 / 2.0) * h).to_vec();
            let p = exp(direct(&x, level).0) * h * h * h;
            sums.0 += p;
            for i in 0..3 {
                sums.1[i] += p * x[i];
                for j in 0..3 {
                    sums.2[[i, j]] += p * (x[i] - mean[i]) * (x[j] - mean[j]);
                }
            }
        }
        assert!((sums.0 - 1.0).abs() < 1e-7 && (sums.1 - mean).iter().all(|e| e.abs() < 1e-7));
        assert!((sums.2 - covariance).iter().all(|e| e.abs() < 1e-7));
    }

    #[test]
    fn images_have_the_same_bits_alone_and_among_others_at_levels_of_their_own() {
        let (x, levels) = (normal((5, 1, 3, 1), 4).mapv(|x| x as f32), levels());
        let together = mixture().know(&x, &levels[2..7]).unwrap();
        for (i, level) in levels[2..7].iter().enumerate() {
            let alone = mixture().know(&x.slice(ndarray::s![i..i + 1, .., .., ..]).to_owned(), &[*level]).unwrap();
            assert_eq!(flat(&alone.x_0_hat), &flat(&together.x_0_hat)[i * 3..][..3]);
            assert_eq!(
                (flat(&alone.score), alone.log_density[0]),
                (&flat(&together.score)[i * 3..][..3], together.log_density[i])
            );
        }
    }

    #[test]
    fn components_and_images_that_are_none_are_refused_by_name() {
        let component =
            |weight, mean: &[f64], variances: &[f64]| Component::new(weight, mean.to_vec(), variances.to_vec());
        let refused = |result: Result<Component>| result.unwrap_err().to_string();
        assert!(refused(component(0.0, &[0.0], &[1.0])).starts_with("weight"));
        assert!(refused(component(f64::NAN, &[0.0], &[1.0])).starts_with("weight"));
        assert!(refused(component(1.0, &[], &[])).starts_with("variances"));
        assert!(refused(component(1.0, &[0.0, 1.0], &[1.0])).starts_with("variances"));
        assert!(refused(component(1.0, &[f64::INFINITY], &[1.0])).starts_with("mean"));
        assert!(refused(component(1.0, &[0.0], &[-1.0])).starts_with("variances: expected numbers above 0"));
        let covariance = |m: Array2<f64>| refused(Component::with_covariance(1.0, vec![0.0, 0.0], &m));
        assert!(covariance(arr2(&[[1.0]])).starts_with("covariance: expected 2 x 2"));
        assert!(covariance(arr2(&[[1.0, f64::NAN], [f64::NAN, 1.0]])).contains("finite"));
        assert!(covariance(arr2(&[[1.0, 0.1], [0.2, 1.0]])).contains("symmetric"));
        assert!(covariance(arr2(&[[1.0, 2.0], [2.0, 1.0]])).starts_with("variances"));
        let [one, two] = [1, 2].map(|d| component(1.0, &vec![0.0; d], &vec![1.0; d]).unwrap());
        assert!(GaussianMixture::new(vec![]).unwrap_err().to_string().starts_with("components"));
        assert!(GaussianMixture::new(vec![one, two]).unwrap_err().to_string().starts_with("components"));
        let x = Array4::<f64>::zeros((1, 1, 2, 1));
        assert!(mixture().know(&x, &[Level::CLEAN]).unwrap_err().to_string().starts_with("x: expected 1 images of 3"));
        let x = Array4::<f64>::zeros((1, 1, 3, 1));
        assert!(mixture().predict(&x, &[Level::CLEAN], Some(&[0])).unwrap_err().to_string().starts_with("labels"));
    }
}
