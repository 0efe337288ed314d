//! Dropout (Srivastava et al. 2014), scaled while training so that sampling does nothing.
//!
//! y = x m / (1 − p) with m = 0 where a uniform number u < p and 1 elsewhere; dx = dy m / (1 − p). The cache keeps m/(1 − p).
//! The numbers of an image come from its own stream, keyed by (seed, "train.dropout", step, image of the batch, layer),
//! so they depend neither on the microbatch nor on the thread that it is in. Proven by central differences.
//!
//! Next in the [course](super#the-course): [`embedding`](super::embedding).

use ndarray::{Array4, Ix4};

use super::{Kept, flat_mut};
use crate::numerics::Real;
use crate::numerics::rng::Stream;

/// What names the random numbers of one forward pass; `None` instead of it means that nothing is dropped.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The seed of the run.
    pub seed: u64,
    /// The training step.
    pub step: u64,
    /// The place in the batch of the first image of this microbatch.
    pub first_image: usize,
}

/// y = x m / (1 − p), and the factors m / (1 − p), in place of which there is `None` if nothing is dropped.
///
/// `layer` tells this dropout from the others of the network; `p` is in 0..1.
pub fn dropout<F: Real>(
    x: impl Into<Kept<F, Ix4>>,
    p: f64,
    layer: u64,
    key: Option<Key>,
) -> (Array4<F>, Option<Array4<F>>) {
    let mut x = x.into().into_owned();
    let Some(key) = key.filter(|_| p > 0.0) else { return (x, None) };
    let kept = F::from_f64(1.0 / (1.0 - p));
    let mut factors = Array4::zeros(x.dim());
    let size = (x.len() / x.dim().0.max(1)).max(1);
    for (image, factors) in flat_mut(&mut factors).chunks_mut(size).enumerate() {
        let indices = [key.step, (key.first_image + image) as u64, layer];
        let mut stream = Stream::keyed(key.seed, "train.dropout", &indices);
        factors.iter_mut().for_each(|f| *f = if stream.uniform() < p { F::zero() } else { kept });
    }
    x *= &factors;
    (x, Some(factors))
}

/// dx = dy m / (1 − p), of the factors that [`dropout`] gave.
pub fn dropout_backward<F: Real>(factors: Option<Array4<F>>, dy: impl Into<Kept<F, Ix4>>) -> Array4<F> {
    let mut dy = dy.into().into_owned();
    if let Some(factors) = factors {
        dy *= &factors;
    }
    dy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::ParameterVector;
    use crate::layers::gradient_check::check;
    use crate::numerics::rng::normal;

    const KEY: Key = Key { seed: 1, step: 2, first_image: 3 };

    #[test]
    fn dropout_gradient_equals_central_differences() {
        check(
            &ParameterVector(vec![]),
            &normal((2, 3, 4, 5), 1),
            2,
            |_, x| dropout(x, 0.4, 0, Some(KEY)),
            |_, f, dy, _| dropout_backward(f, dy),
        )
        .expect("the gradient is right");
    }

    #[test]
    fn dropout_of_an_image_does_not_depend_on_its_microbatch() {
        let x = normal((2, 3, 4, 5), 1);
        let both = dropout(x.clone(), 0.5, 7, Some(KEY)).0;
        let second = x.slice(ndarray::s![1..2, .., .., ..]).to_owned();
        let alone = dropout(second, 0.5, 7, Some(Key { first_image: 4, ..KEY })).0;
        assert_eq!(both.slice(ndarray::s![1..2, .., .., ..]), alone);
    }

    #[test]
    fn dropout_keeps_the_mean() {
        let y = dropout(Array4::from_elem((1, 100, 100, 3), 1.0f64), 0.3, 0, Some(KEY)).0;
        assert!((y.mean().expect("not empty") - 1.0).abs() < 6.0 * (0.3 / 0.7 / 30_000.0f64).sqrt()); // six standard errors
    }
}
