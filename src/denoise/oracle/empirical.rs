//! The posterior mean of a finite set of images.

use ndarray::Array4;

use super::{check_images, check_numbers};
use crate::denoise::{Denoiser, Output};
use crate::diffusion::{Level, Prediction};
use crate::layers::softmax::{greatest, softmax};
use crate::layers::{flat, shaped};
use crate::numerics::Real;
use crate::numerics::gemm::{Epilogue, Matrix, Panels, panel_product};
use crate::numerics::sum::sum_of_squares;
use crate::{Error, Result};

/// A finite set of images, each as likely as another: the best that a network can learn of a training set is to say what this
/// says, and its samplers then draw nothing but that set.
///
/// Twice the set is held in memory.
#[derive(Debug)]
pub struct Empirical<F: Real> {
    /// (size, N) and (N, size): the images as columns, by which x is compared, and as rows, of which the mean is made.
    keys: Panels<F>,
    values: Panels<F>,
    /// (N): ½·|y_k|².
    half_squares: Vec<F>,
    size: usize,
    classes: Option<Classes>,
}

#[derive(Debug)]
struct Classes {
    /// (N)
    of_images: Vec<usize>,
    count: usize,
}

impl<F: Real> Empirical<F> {
    /// The set of these images.
    ///
    /// # Shapes
    /// (N, h, w, c).
    ///
    /// # Errors
    /// No image, or one with a NaN or an infinity.
    pub fn new(images: &Array4<F>) -> Result<Self> {
        let (n, h, w, c) = images.dim();
        let size = h * w * c;
        if n == 0 || size == 0 {
            return Err(Error::value("images", "at least one image", format!("{:?}", images.dim())));
        }
        check_numbers("images", images)?;
        let numbers = flat(images);
        let matrix = Matrix::new(numbers, n, size);
        let half_squares = numbers.chunks(size).map(|image| F::from_f64(0.5 * sum_of_squares(image))).collect();
        Ok(Empirical { keys: matrix.t().panels(), values: matrix.panels(), half_squares, size, classes: None })
    }

    /// The same set where images may be asked for by class: a label below `classes` means the images of that class, the label
    /// `classes` means all of them, as with a network that was trained with hidden labels.
    ///
    /// # Errors
    /// Another number of labels than of images, a label beyond the last class, a class without images.
    pub fn with_classes(self, labels: Vec<usize>, classes: usize) -> Result<Self> {
        if labels.len() != self.half_squares.len() {
            return Err(Error::value("labels", format!("{} labels", self.half_squares.len()), labels.len()));
        }
        if let Some(label) = labels.iter().find(|label| **label >= classes) {
            return Err(Error::value("labels", format!("classes below {classes}"), label));
        }
        if let Some(empty) = (0..classes).find(|class| !labels.contains(class)) {
            return Err(Error::value("labels", "an image of every class", format!("none of class {empty}")));
        }
        Ok(Empirical { classes: Some(Classes { of_images: labels, count: classes }), ..self })
    }

    fn check(&self, x: &Array4<F>, levels: &[Level], labels: Option<&[usize]>) -> Result<()> {
        check_images(x, levels, self.size)?;
        if levels.iter().any(|level| level.is_clean()) {
            return Err(Error::value("level", "some noise: without any, x is the image", "sigma = 0"));
        }
        let Some(labels) = labels else { return Ok(()) };
        let Some(classes) = &self.classes else {
            return Err(Error::value("labels", "none: the images of the set have no classes", "some"));
        };
        if labels.len() != levels.len() {
            return Err(Error::value("labels", format!("{} labels", levels.len()), labels.len()));
        }
        match labels.iter().find(|label| **label > classes.count) {
            Some(label) => {
                Err(Error::value("labels", format!("0 to {}, the last for all classes", classes.count), label))
            }
            None => Ok(()),
        }
    }

    /// The share of each image of the set in the mean, in the place of its product with x.
    fn shares(&self, products: &mut [F], level: Level, label: Option<usize>) {
        let signal = F::from_f64(level.signal());
        for (product, &half) in products.iter_mut().zip(&self.half_squares) {
            *product -= signal * half;
        }
        // No infinity: the golden kit's noisy numbers would make it a NaN.
        let never = F::from_f64(-1e38);
        if let (Some(label), Some(classes)) = (label, &self.classes)
            && label < classes.count
        {
            let others = products.iter_mut().zip(&classes.of_images).filter(|(_, of_image)| **of_image != label);
            others.for_each(|(product, _)| *product = never);
        }
        let most = greatest(products);
        // Beyond all bounds of F it makes no difference: the greatest stays at 0, all others vanish.
        let sharpness = level.signal() / (level.sigma() * level.sigma());
        let sharpness = F::from_f64(if sharpness < f32::MAX as f64 { sharpness } else { f32::MAX as f64 });
        for product in products.iter_mut() {
            *product = if *product == never { never } else { (*product - most) * sharpness };
        }
        let count = products.len();
        softmax(products, count);
    }
}

impl<F: Real> Denoiser<F> for Empirical<F> {
    /// E[x₀ | x], of a class where one is asked for.
    ///
    /// # Errors
    /// Images of another size, with a NaN or an infinity, or without noise; labels where the set has no classes, or beyond them.
    fn predict(&self, x: &Array4<F>, levels: &[Level], labels: Option<&[usize]>) -> Result<Output<F>> {
        self.check(x, levels, labels)?;
        let (n, count, size) = (levels.len(), self.half_squares.len(), self.size);
        let mut shares = vec![F::zero(); n * count];
        let rows = Matrix::new(flat(x), n, size);
        panel_product(rows, self.keys.as_right(), &mut shares, count, Epilogue::Overwrite);
        for (i, row) in shares.chunks_mut(count).enumerate() {
            self.shares(row, levels[i], labels.map(|labels| labels[i]));
        }
        let mut mean = vec![F::zero(); n * size];
        panel_product(Matrix::new(&shares, n, count), self.values.as_right(), &mut mean, size, Epilogue::Overwrite);
        Ok(Output::new(Prediction::Sample, shaped(x.dim(), mean)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::Form;
    use crate::numerics::elementary::exp;
    use crate::numerics::rng::normal;

    const FORMS: [Form; 3] = [Form::VariancePreserving, Form::VarianceExploding, Form::Flow];

    fn set() -> Array4<f64> {
        normal((23, 2, 3, 2), 5)
    }

    fn labels() -> Vec<usize> {
        (0..23).map(|i| i * 7 % 5 % 3).collect()
    }

    /// The sums as they are written, with the distances themselves.
    fn direct(set: &Array4<f64>, x: &[f64], level: Level, keep: impl Fn(usize) -> bool) -> Vec<f64> {
        let (a, b, size) = (level.signal(), level.sigma(), x.len());
        let images: Vec<&[f64]> =
            flat(set).chunks(size).enumerate().filter(|(k, _)| keep(*k)).map(|(_, y)| y).collect();
        let square = |y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - a * y) * (x - a * y)).sum::<f64>();
        let least = images.iter().map(|y| square(y)).fold(f64::INFINITY, f64::min);
        let shares: Vec<f64> = images.iter().map(|y| exp(-0.5 * (square(y) - least) / (b * b))).collect();
        let total: f64 = shares.iter().sum();
        (0..size).map(|j| images.iter().zip(&shares).map(|(y, share)| share / total * y[j]).sum()).collect()
    }

    fn levels(ratio: f64) -> impl Iterator<Item = Level> {
        FORMS.into_iter().map(move |form| Level::new(form, 3.0, 1.0, ratio))
    }

    #[test]
    fn mean_of_a_set_equals_the_sums_as_written_at_any_level_of_any_form() {
        let oracle = Empirical::new(&set()).unwrap();
        for level in [0.3, 0.9, 2.0, 30.0].into_iter().flat_map(levels) {
            let x = (normal((4, 2, 3, 2), 6) * level.sigma())
                + set().slice(ndarray::s![..4, .., .., ..]).to_owned() * level.signal();
            let found = oracle.predict(&x, &[level; 4], None).unwrap();
            assert_eq!(found.prediction, Prediction::Sample);
            for (found, x) in flat(&found.value).chunks(12).zip(flat(&x).chunks(12)) {
                let expected = direct(&set(), x, level, |_| true);
                // Products of size 12·3² over b² ≥ 0.05, in f64.
                assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{level:?}");
            }
        }
    }

    #[test]
    fn mean_of_a_class_is_that_of_its_images_and_the_last_label_means_all() {
        let classes = labels();
        let oracle = Empirical::new(&set()).unwrap().with_classes(classes.clone(), 3).unwrap();
        for level in [0.5, 3.0].into_iter().flat_map(levels).chain([Level::of_alpha_bar(9.0, 0.0)]) {
            let x = normal((4, 2, 3, 2), 8) * level.scale();
            let found = oracle.predict(&x, &[level; 4], Some(&[2, 3, 0, 1])).unwrap().value;
            for (i, label) in [2, 3, 0, 1].into_iter().enumerate() {
                let keep = |k: usize| label == 3 || classes[k] == label;
                let expected = direct(&set(), &flat(&x)[i * 12..][..12], level, keep);
                assert!(flat(&found)[i * 12..].iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{label}");
            }
        }
    }

    #[test]
    fn mean_at_the_extremes_is_the_mean_of_all_and_the_nearest_image() {
        let oracle = Empirical::new(&set()).unwrap();
        let x = normal((2, 2, 3, 2), 1);
        let all = oracle.predict(&x, &[Level::of_alpha_bar(9.0, 0.0); 2], None).unwrap().value;
        let mean = set().mean_axis(ndarray::Axis(0)).unwrap();
        assert!(all.outer_iter().all(|all| all.iter().zip(&mean).all(|(a, b)| (a - b).abs() < 1e-15)));
        // From the 14th image a little away, with next to no noise, in f32 as well, where a/b² is infinite.
        let x = set().slice(ndarray::s![13..14, .., .., ..]).to_owned() + 1e-3;
        for level in [1e-6, 1e-30].into_iter().flat_map(levels) {
            let nearest = oracle.predict(&x, &[level], None).unwrap().value;
            assert_eq!(flat(&nearest), &flat(&set())[13 * 12..][..12]);
            let narrow = set().mapv(|x| x as f32);
            let found = Empirical::new(&narrow).unwrap().predict(&x.mapv(|x| x as f32), &[level], None).unwrap().value;
            assert_eq!(flat(&found), &flat(&narrow)[13 * 12..][..12]);
        }
    }

    #[test]
    fn set_of_one_image_is_that_image_whatever_x_is() {
        let one = set().slice(ndarray::s![4..5, .., .., ..]).to_owned();
        let oracle = Empirical::new(&one).unwrap();
        for level in [1e-8, 1.0, 80.0].into_iter().flat_map(levels).chain([Level::of_alpha_bar(9.0, 0.0)]) {
            assert_eq!(oracle.predict(&(normal((1, 2, 3, 2), 3) * 1e3), &[level], None).unwrap().value, one);
        }
    }

    #[test]
    fn mean_in_f32_is_near_that_in_f64_and_the_same_bits_in_any_batch() {
        // 300 images of 40 numbers: more than a block of the product, and no whole number of panels.
        let (images, x) = (normal((300, 5, 8, 1), 2), normal((7, 5, 8, 1), 3));
        let narrow = |x: &Array4<f64>| x.mapv(|x| x as f32);
        let (wide, oracle) = (Empirical::new(&images).unwrap(), Empirical::new(&narrow(&images)).unwrap());
        for level in [0.7, 4.0].into_iter().flat_map(levels) {
            let together = oracle.predict(&narrow(&x), &[level; 7], None).unwrap().value;
            let truth = wide.predict(&x, &[level; 7], None).unwrap().value;
            // x·y of |x|·|y| = 40 is off by a few 2⁻²⁴ of it, times a/b² ≤ 2.
            assert!(together.iter().zip(&truth).all(|(a, b)| (*a as f64 - b).abs() < 1e-4));
            for (i, image) in x.outer_iter().enumerate() {
                let alone =
                    oracle.predict(&narrow(&image.insert_axis(ndarray::Axis(0)).to_owned()), &[level], None).unwrap();
                assert_eq!(flat(&alone.value), &flat(&together)[i * 40..][..40]);
            }
        }
    }

    #[test]
    fn images_and_labels_that_do_not_fit_are_refused_by_name() {
        let level = Level::of_alpha_bar(3.0, 0.5);
        let refused = |x: &Array4<f64>, level, labels: Option<&[usize]>| {
            let oracle = Empirical::new(&set()).unwrap().with_classes(self::labels(), 3).unwrap();
            oracle.predict(x, &[level], labels).unwrap_err().to_string()
        };
        let x = normal((1, 2, 3, 2), 1);
        assert!(refused(&normal((1, 3, 3, 2), 1), level, None).starts_with("x: expected 1 images of 12 numbers"));
        assert!(refused(&x.mapv(|_| f64::NAN), level, None).starts_with("x: expected finite"));
        assert!(refused(&x, Level::CLEAN, None).starts_with("level: expected some noise"));
        assert!(refused(&x, level, Some(&[4])).starts_with("labels: expected 0 to 3"));
        assert!(refused(&x, level, Some(&[1, 1])).starts_with("labels: expected 1 labels"));
        let plain = Empirical::new(&set()).unwrap();
        assert!(plain.predict(&x, &[level], Some(&[0])).unwrap_err().to_string().contains("no classes"));
        assert!(Empirical::new(&Array4::<f32>::zeros((0, 2, 2, 1))).unwrap_err().to_string().starts_with("images"));
        assert!(Empirical::new(&x.mapv(|_| f64::INFINITY)).unwrap_err().to_string().contains("finite"));
        let with =
            |labels, classes| Empirical::new(&set()).unwrap().with_classes(labels, classes).unwrap_err().to_string();
        assert!(with(vec![0; 4], 1).contains("23 labels"));
        assert!(with(vec![2; 23], 2).contains("classes below 2"));
        assert!(with(vec![0; 23], 2).contains("none of class 1"));
    }
}
