//! The Fréchet distance of two sets of features, each taken for a Gaussian (Dowson and Landau 1982; Heusel et al. 2017).
//!
//! ```text
//! d² = |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr √(Σ₁ Σ₂)
//! ```
//!
//! # Derivation of what is computed
//!
//! Σ₁ Σ₂ is not symmetric, but has the eigenvalues of S Σ₂ S, S = √Σ₁: for if Σ₁ Σ₂ v = S S Σ₂ v = λ v, then u = S Σ₂ v has
//! S Σ₂ S u = S Σ₂ (S S Σ₂ v) = λ u. That matrix is symmetric and has no negative eigenvalues, so tr √(Σ₁ Σ₂) = Σ √λ of it,
//! and no root of a matrix that is not symmetric is ever taken. Eigenvalues that rounding makes negative are 0.
//!
//! Σ is the unbiased covariance, over n − 1, as in NumPy's `cov`. The distance of two finite sets of one distribution is
//! not 0 but grows as 1/n: it says something only beside the distance of as many real images from the same reference.
//! All of it is f64; products are the contract's, eigenvalues those of `nalgebra`, which is plain Rust and takes its roots from
//! `libm`. Proven by closed forms and by SciPy's `sqrtm`.

use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::{Array1, Array2, ArrayView2};

use crate::layers::{flat, shaped};
use crate::numerics::Real;
use crate::numerics::gemm::{Epilogue, Matrix, matrix_product};

/// The mean and the covariance of a set of features.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    /// (d).
    pub mean: Array1<f64>,
    /// (d, d), symmetric.
    pub covariance: Array2<f64>,
}

impl Gaussian {
    /// The mean and the unbiased covariance.
    ///
    /// # Shapes
    /// features (n, d), n ≥ 2.
    ///
    /// # Panics
    /// If n is below 2.
    pub fn of<F: Real>(features: ArrayView2<F>) -> Self {
        let (n, d) = features.dim();
        assert!(n >= 2, "Gaussian::of: {n} vectors have no covariance");
        let mut mean = Array1::zeros(d);
        for row in features.rows() {
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x.to_f64());
        }
        mean.mapv_inplace(|sum: f64| sum / n as f64);
        let centred: Vec<f64> = features
            .rows()
            .into_iter()
            .flat_map(|row| row.iter().zip(&mean).map(|(x, m)| x.to_f64() - m).collect::<Vec<_>>())
            .collect();
        let centred = Matrix::new(&centred, n, d);
        let mut covariance = vec![0.0; d * d];
        matrix_product(centred.t(), centred, &mut covariance, d, Epilogue::Overwrite);
        covariance.iter_mut().for_each(|sum| *sum /= (n - 1) as f64);
        Gaussian { mean, covariance: shaped((d, d), covariance) }
    }

    fn trace(&self) -> f64 {
        self.covariance.diag().iter().sum()
    }
}

/// A set to which others are compared: the root of its covariance is taken once.
#[derive(Clone, Debug)]
pub struct Reference {
    gaussian: Gaussian,
    root: Array2<f64>,
}

impl Reference {
    /// √Σ = V √Λ Vᵀ of the eigenvectors V and the eigenvalues Λ of Σ.
    ///
    /// # Panics
    /// If a number is not finite.
    pub fn new(gaussian: Gaussian) -> Self {
        let d = gaussian.mean.len();
        let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(to_nalgebra(&gaussian.covariance));
        let vectors = Array2::from_shape_fn((d, d), |(i, j)| eigenvectors[(i, j)]);
        let scaled = Array2::from_shape_fn((d, d), |(i, j)| vectors[[i, j]] * positive(eigenvalues[j]).sqrt());
        let mut root = vec![0.0; d * d];
        matrix_product(
            Matrix::new(flat(&scaled), d, d),
            Matrix::new(flat(&vectors), d, d).t(),
            &mut root,
            d,
            Epilogue::Overwrite,
        );
        Reference { gaussian, root: shaped((d, d), root) }
    }

    /// d², at least 0.
    ///
    /// # Panics
    /// If `other` has another number of features, or a number that is not finite.
    pub fn distance(&self, other: &Gaussian) -> f64 {
        let (ours, d) = (&self.gaussian, self.gaussian.mean.len());
        assert_eq!(d, other.mean.len(), "Fréchet distance: features of one network");
        let square = |x: &[f64], y: &[f64]| {
            let mut product = vec![0.0; d * d];
            matrix_product(Matrix::new(x, d, d), Matrix::new(y, d, d), &mut product, d, Epilogue::Overwrite);
            product
        };
        let half = square(flat(&self.root), flat(&other.covariance));
        let whole = square(&half, flat(&self.root));
        let symmetric = DMatrix::from_fn(d, d, |i, j| 0.5 * (whole[i * d + j] + whole[j * d + i]));
        assert!(symmetric.iter().all(|x| x.is_finite()), "Fréchet distance: features are finite");
        let root_trace = symmetric.symmetric_eigenvalues().iter().fold(0.0, |sum, &x| sum + positive(x).sqrt());
        let means = ours.mean.iter().zip(&other.mean).fold(0.0, |sum, (a, b)| sum + (a - b) * (a - b));
        positive(means + ours.trace() + other.trace() - 2.0 * root_trace)
    }
}

fn to_nalgebra(matrix: &Array2<f64>) -> DMatrix<f64> {
    assert!(matrix.iter().all(|x| x.is_finite()), "Fréchet distance: features are finite");
    DMatrix::from_fn(matrix.nrows(), matrix.ncols(), |i, j| matrix[[i, j]])
}

/// x, or 0 where it is negative.
fn positive(x: f64) -> f64 {
    if x > 0.0 { x } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::rng::normal;

    fn gaussian(mean: &[f64], covariance: Array2<f64>) -> Gaussian {
        Gaussian { mean: Array1::from_vec(mean.to_vec()), covariance }
    }

    #[test]
    fn distance_of_gaussians_with_diagonal_covariances_is_the_closed_form() {
        let diagonal = |d: &[f64]| Array2::from_diag(&Array1::from_vec(d.to_vec()));
        let (a, b) = (gaussian(&[1.0, 0.0], diagonal(&[4.0, 0.0])), gaussian(&[0.0, 2.0], diagonal(&[1.0, 9.0])));
        // |μ|² = 1 + 4; (2 − 1)² + (0 − 3)² = 10.
        for (a, b) in [(&a, &b), (&b, &a)] {
            assert!((Reference::new(a.clone()).distance(b) - 15.0).abs() < 1e-12);
        }
        assert!(Reference::new(a.clone()).distance(&a).abs() < 1e-12);
    }

    /// `scipy.linalg.sqrtm(numpy.cov(x.T) @ numpy.cov(y.T))` of the same numbers.
    #[test]
    fn distance_is_that_of_scipy() {
        let mix = normal((3, 3), 7);
        let (x, y) = (normal((40, 3), 5), normal((30, 3), 6).dot(&mix) + 0.5);
        let found = Reference::new(Gaussian::of(x.view())).distance(&Gaussian::of(y.view()));
        assert!((found - OF_SCIPY).abs() < 1e-9, "{found}");
    }

    const OF_SCIPY: f64 = 8.081_215_478_301_32;

    #[test]
    fn covariance_is_over_n_minus_one() {
        let found = Gaussian::of(ndarray::arr2(&[[1.0f32, 0.0], [3.0, 0.0], [5.0, 3.0]]).view());
        assert_eq!(
            (found.mean, found.covariance),
            (ndarray::arr1(&[3.0, 1.0]), ndarray::arr2(&[[4.0, 3.0], [3.0, 3.0]]))
        );
    }
}
