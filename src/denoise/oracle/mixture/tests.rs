//! The mixture against sums as they are written, and its laws.

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
    let component = |weight, mean: &[f64], variances: &[f64]| Component::new(weight, mean.to_vec(), variances.to_vec());
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
