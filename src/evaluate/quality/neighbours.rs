//! Precision and recall by nearest neighbours (Kynkäänniemi et al. 2019, Algorithm 1).
//!
//! A set of features covers the balls around each of its vectors that reach to the vector's k-th nearest other one. Then
//!
//! ```text
//! precision = the fraction of generated vectors that lie in a ball of the real ones
//! recall    = the fraction of real vectors that lie in a ball of the generated ones
//! ```
//!
//! Distances are squared, |a|² + |b|² − 2 a·b in f64, the products the contract's. A vector on the edge of a ball lies in it.

use ndarray::ArrayView2;

use crate::layers::flat;
use crate::numerics::gemm::{Epilogue, Matrix, panel_product};
use crate::numerics::sum::sum_of_squares;

/// The neighbour that a ball reaches to, the paper's choice.
pub const K: usize = 3;

/// Rows of the matrix of distances that are in memory at a time.
const ROWS: usize = 256;

/// Vectors, and the squared radius of the ball around each.
#[derive(Clone, Debug)]
pub struct Manifold {
    points: Points,
    radii: Vec<f64>,
}

impl Manifold {
    /// The balls around these vectors, (n, d), that reach to the `k`-th neighbour, or to the last where there are fewer.
    ///
    /// # Panics
    /// If n is below 2, or `k` is 0.
    pub fn new(vectors: ArrayView2<f32>, k: usize) -> Self {
        let points = Points::new(vectors);
        assert!(points.count() >= 2, "Manifold: a lone vector has no neighbour");
        let k = k.min(points.count() - 1);
        let mut radii = Vec::with_capacity(points.count());
        points.distances(&points, |i, row| {
            let mut others: Vec<f64> = row.to_vec();
            others.remove(i);
            let (_, kth, _) = others.select_nth_unstable_by(k - 1, f64::total_cmp);
            radii.push(*kth);
        });
        Manifold { points, radii }
    }

    /// Which of the vectors, (n, d), lie in a ball.
    ///
    /// # Panics
    /// If they have another length.
    pub fn covers(&self, vectors: ArrayView2<f32>) -> Vec<bool> {
        let mut covered = Vec::with_capacity(vectors.nrows());
        Points::new(vectors).distances(&self.points, |_, row| {
            covered.push(row.iter().zip(&self.radii).any(|(distance, radius)| distance <= radius));
        });
        covered
    }
}

/// Vectors in f64, and their squared lengths.
#[derive(Clone, Debug)]
struct Points {
    vectors: Vec<f64>,
    length: usize,
    squares: Vec<f64>,
}

impl Points {
    fn new(vectors: ArrayView2<f32>) -> Self {
        let length = vectors.ncols();
        let vectors: Vec<f64> =
            flat(&vectors.as_standard_layout().into_owned()).iter().map(|&x| f64::from(x)).collect();
        let squares = vectors.chunks_exact(length).map(sum_of_squares).collect();
        Points { vectors, length, squares }
    }

    fn count(&self) -> usize {
        self.squares.len()
    }

    /// Calls `with` with each row's index and its squared distances from all of `others`.
    fn distances(&self, others: &Points, mut with: impl FnMut(usize, &[f64])) {
        assert_eq!(self.length, others.length, "distances: vectors of one length");
        let (n, length) = (others.count(), self.length);
        let right = Matrix::new(&others.vectors, n, length).t().panels();
        let mut products = vec![0.0; ROWS.min(self.count()) * n];
        for (block, vectors) in self.vectors.chunks(ROWS * length).enumerate() {
            let left = Matrix::new(vectors, vectors.len() / length, length);
            panel_product(left, right.as_right(), &mut products, n, Epilogue::Overwrite);
            for (row, products) in products.chunks_exact_mut(n).take(left.shape.0).enumerate() {
                let (i, own) = (block * ROWS + row, self.squares[block * ROWS + row]);
                products.iter_mut().zip(&others.squares).for_each(|(p, other)| *p = own + other - 2.0 * *p);
                with(i, products);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::rng::normal;

    #[test]
    fn precision_and_recall_are_those_of_numpy() {
        let cast = |x: ndarray::Array2<f64>| x.mapv(|x| x as f32);
        let (real, drawn) = (cast(normal((600, 4), 8)), cast(normal((500, 4), 9) * 1.5 + 1.0));
        let count = |covered: Vec<bool>| covered.into_iter().filter(|&is| is).count();
        let precise = count(Manifold::new(real.view(), K).covers(drawn.view()));
        let recalled = count(Manifold::new(drawn.view(), K).covers(real.view()));
        assert_eq!((precise, recalled), OF_NUMPY);
    }

    /// `(((q[:, None] - r[None])**2).sum(-1) <= radii(r)).any(1).sum()`, radii the fourth smallest of each row of the distances.
    const OF_NUMPY: (usize, usize) = (283, 592);

    #[test]
    fn a_set_covers_itself_and_nothing_far_away() {
        let points = ndarray::arr2(&[[0.0f32], [1.0], [2.0], [3.0], [10.0]]);
        let manifold = Manifold::new(points.view(), K);
        assert_eq!(manifold.radii, [9.0, 4.0, 4.0, 9.0, 81.0]);
        assert_eq!(manifold.covers(points.view()), [true; 5]);
        assert_eq!(
            manifold.covers(ndarray::arr2(&[[-3.0f32], [-3.1], [19.0], [19.1]]).view()),
            [true, false, true, false]
        );
    }
}
