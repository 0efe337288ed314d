//! Between two noises.

use ndarray::Array4;

use crate::layers::{flat, shaped};
use crate::numerics::elementary::{acos, sin};

/// The point at this share of the way on the great circle from a to b (Shoemake 1985; Song et al. 2021, Eq. 67):
///
/// ```text
/// cos θ = a·b/(|a|·|b|)        x = sin((1−share)·θ)/sin θ · a + sin(share·θ)/sin θ · b
/// ```
///
/// Noise has the length √n of its n numbers, nearly; on a straight line the middle of two noises would be shorter by √2, which
/// is no noise that a model knows. At 0 it is a, at 1 it is b, to the bit. Where a and b point the same way or in opposite ones
/// there is no such circle, and the line is taken.
///
/// # Shapes
/// `a`, `b` and the result: one image, (1, h, w, c). `share` in [0, 1].
///
/// # Panics
/// If the shapes differ.
pub fn slerp(a: &Array4<f32>, b: &Array4<f32>, share: f64) -> Array4<f32> {
    assert_eq!(a.dim(), b.dim(), "slerp: the two images differ in shape");
    if share == 0.0 || share == 1.0 {
        return if share == 0.0 { a.clone() } else { b.clone() };
    }
    let dot = |a: &Array4<f32>, b: &Array4<f32>| -> f64 {
        flat(a).iter().zip(flat(b)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let cosine = (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).clamp(-1.0, 1.0);
    let theta = acos(cosine);
    let weights = match sin(theta) {
        // The quotient would lose half of its digits.
        sine if sine.is_nan() || sine < 1e-6 => [1.0 - share, share],
        sine => [sin((1.0 - share) * theta) / sine, sin(share * theta) / sine],
    };
    let [of_a, of_b] = weights.map(|weight| weight as f32);
    shaped(a.dim(), flat(a).iter().zip(flat(b)).map(|(&a, &b)| of_a * a + of_b * b).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::rng::normal;

    fn noise(key: u64) -> Array4<f32> {
        normal((1, 5, 6, 2), key).mapv(|x| x as f32)
    }

    fn length(x: &Array4<f32>) -> f64 {
        x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
    }

    #[test]
    fn slerp_starts_and_ends_at_its_ends_to_the_bit_and_keeps_the_length_between() {
        let (a, b) = (noise(1), noise(2));
        assert_eq!((slerp(&a, &b, 0.0), slerp(&a, &b, 1.0)), (a.clone(), b.clone()));
        let b = b.mapv(|x| x * (length(&a) / length(&b)) as f32);
        for share in [0.1, 0.5, 0.8] {
            let x = slerp(&a, &b, share);
            // 60 numbers, each rounded to 6e-8 of itself.
            assert!((length(&x) / length(&a) - 1.0).abs() < 1e-6, "{share}");
            // As far from a as b is from 1 − share, seen the other way round.
            let back = slerp(&b, &a, 1.0 - share);
            assert!(x.iter().zip(&back).all(|(x, y)| (x - y).abs() < 1e-6), "{share}");
        }
    }

    #[test]
    fn slerp_between_noises_of_one_direction_is_the_line() {
        let a = noise(3);
        let twice = a.mapv(|x| 2.0 * x);
        let middle = slerp(&a, &twice, 0.5);
        assert!(middle.iter().zip(&a).all(|(x, a)| (x - 1.5 * a).abs() < 1e-6));
        let opposite = slerp(&a, &a.mapv(|x| -x), 0.25);
        assert!(opposite.iter().zip(&a).all(|(x, a)| (x - 0.5 * a).abs() < 1e-6));
        let zero = Array4::zeros((1, 5, 6, 2));
        assert_eq!(slerp(&zero, &zero, 0.5), zero);
    }
}
