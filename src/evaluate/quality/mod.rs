//! How good the pictures of a model are: read as asked, like real ones, as varied as they, and not copies.
//!
//! | module | what it measures |
//! |---|---|
//! | [`features`] | what pictures are compared by: a classifier's features, or pixels |
//! | [`frechet`] | how far the pictures' features are from those of real ones, as Gaussians |
//! | [`neighbours`] | precision and recall: which pictures are among the real ones, which real ones among the pictures |
//! | [`nearest`] | the nearest training image of each picture |
//!
//! Everything is measured against validation images, which no model and no classifier was trained on, and beside it stands
//! the same measure of as many training images: real images, so the best that can be expected, and not 0 or 1, since sets
//! are finite. Where the model is told classes, pictures, training and validation images are taken a class at a time in
//! turn, so that all three have the same number of each. Pictures are rounded to 8 bits first, as files have them.
//!
//! # Errors of the figures
//!
//! A fraction p of n pictures is off by √(p (1 − p)/n), one standard deviation, as counts of independent pictures are. That of
//! a Fréchet distance is by the jackknife over ten parts of the pictures (Efron and Stein 1981): with d_j the distance without
//! part j, √(9/10 Σ (d_j − mean)²). Both are of the pictures' choice alone; what is measured against is the same for all models.

pub mod features;
pub mod frechet;
pub mod nearest;
pub mod neighbours;

use ndarray::{Array2, Axis};
use serde::Serialize;

use crate::data::Dataset;
use crate::numerics::parallel;
use crate::{Error, Result};
pub use features::{Features, Seen};
use frechet::{Gaussian, Reference};
pub use nearest::{Distances, Nearest};
use neighbours::{K, Manifold};

/// Parts of the jackknife.
const PARTS: usize = 10;

/// The fewest pictures that are measured: two for each part of the jackknife.
pub const FEWEST: usize = 2 * PARTS;

/// A figure and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The figure.
    pub value: f64,
    /// Its standard deviation over other pictures of the same model.
    pub standard_error: f64,
}

/// How like the validation images some images are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Likeness {
    /// The Fréchet distance, squared as is usual: at least 0.
    pub frechet_distance: Figure,
    /// The fraction that is among the real ones.
    pub precision: Figure,
    /// The fraction of the real ones that they cover.
    pub recall: Figure,
}

/// The measures of one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct OfClass {
    /// The class.
    pub class: usize,
    /// The fraction read as this class of the pictures that were asked to be of it.
    pub class_accuracy: Option<Figure>,
    /// Of these pictures, against the validation images of the class.
    pub pictures: Likeness,
    /// Of as many training images of the class.
    pub training: Likeness,
}

/// The measures of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// Pictures measured.
    pub count: usize,
    /// Validation images that they are measured against.
    pub against: usize,
    /// The fraction of pictures that are read as the class that was asked for.
    pub class_accuracy: Option<Figure>,
    /// Of the pictures.
    pub pictures: Likeness,
    /// Of as many training images, or of all if there are fewer: what is to be expected of real ones.
    pub training: Likeness,
    /// Class by class, where there are classes with enough images.
    pub classes: Vec<OfClass>,
}

/// The images that a quality is of.
#[derive(Clone, Copy, Debug)]
pub struct Sets<'a> {
    /// The model's pictures; their labels are what was asked for, if the model is told classes.
    pub pictures: &'a Dataset,
    /// What it was trained on.
    pub training: &'a Dataset,
    /// What it was not trained on.
    pub validation: &'a Dataset,
}

/// Some images of a set, as they are seen.
struct Part {
    indices: Vec<usize>,
    seen: Seen,
}

impl Sets<'_> {
    /// The first `count` images of a set; where the pictures are of classes, a class at a time in turn, as long as there are
    /// images of the next.
    pub fn first(&self, data: &Dataset, count: usize) -> Vec<usize> {
        let Some(classes) = self.pictures.classes().filter(|_| data.classes().is_some()) else {
            return (0..data.len().min(count)).collect();
        };
        let of_class = |class: usize| (0..data.len()).filter(move |&i| data.label(i) == Some(class as u32));
        let mut queues: Vec<_> = (0..classes).map(of_class).collect();
        (0..count).map_while(|i| queues[i % classes].next()).collect()
    }

    /// Refuses images that cannot be compared.
    ///
    /// # Errors
    /// Images of different shapes, too few of them, or those that the features are not for.
    pub fn check(&self, features: &Features) -> Result<()> {
        for data in [self.training, self.validation] {
            if data.shape() != self.pictures.shape() {
                let expected = format!("images of {}, as the pictures are", self.pictures.shape());
                return Err(Error::value("data", expected, format!("{} in {}", data.shape(), data.name())));
            }
        }
        for data in [self.pictures, self.training, self.validation] {
            let found = self.first(data, data.len()).len();
            if found < FEWEST {
                let expected = format!("at least {FEWEST} images, as many of each class, in {}", data.name());
                return Err(Error::value("count", expected, found));
            }
        }
        features.check(self.pictures)
    }

    /// Measures the pictures.
    ///
    /// # Errors
    /// As [`check`](Sets::check); features that are not finite.
    pub fn quality(&self, features: &Features) -> Result<Quality> {
        self.check(features)?;
        let count = self.pictures.len();
        let part = |data: &Dataset, count: usize| {
            let indices = self.first(data, count);
            Part { seen: features.of(data, &indices), indices }
        };
        let pictures =
            Part { seen: features.of(self.pictures, &(0..count).collect::<Vec<_>>()), indices: (0..count).collect() };
        let (training, validation) = (part(self.training, count), part(self.validation, self.validation.len()));
        for (part, data) in [(&pictures, self.pictures), (&training, self.training), (&validation, self.validation)] {
            if let Some(i) = part.seen.features.rows().into_iter().position(|row| row.iter().any(|x| !x.is_finite())) {
                let tensor = format!("what the classifier sees in image {} of {}", part.indices[i], data.name());
                let remedy = "its weights are damaged, or it is of other images".into();
                return Err(Error::NonFinite { step: 0, tensor, remedy });
            }
        }
        let right = self.right(&pictures.seen);
        let [of_pictures, of_training] =
            likenesses([&pictures.seen, &training.seen].map(|seen| &seen.features), &validation.seen.features);
        let classes = self.classes(&pictures, &training, &validation, right.as_deref());
        let class_accuracy = right.as_deref().map(fraction);
        let against = validation.indices.len();
        Ok(Quality { count, against, class_accuracy, pictures: of_pictures, training: of_training, classes })
    }

    /// Which pictures are read as asked, if they are read and it was asked for as many classes as are read.
    fn right(&self, seen: &Seen) -> Option<Vec<bool>> {
        let log_p = seen.log_p.as_ref().filter(|log_p| Some(log_p.ncols()) == self.pictures.classes());
        let read = seen.read_as().filter(|_| log_p.is_some())?;
        Some(read.into_iter().enumerate().map(|(i, class)| self.pictures.label(i) == Some(class as u32)).collect())
    }

    /// How likely the classifier holds what was asked for, of each picture: ln p. None where it is not asked or not read.
    pub fn log_p_asked(&self, seen: &Seen) -> Option<Vec<f64>> {
        let log_p = seen.log_p.as_ref().filter(|log_p| Some(log_p.ncols()) == self.pictures.classes())?;
        (0..log_p.nrows()).map(|i| Some(log_p[[i, self.pictures.label(i)? as usize]])).collect()
    }

    fn classes(&self, pictures: &Part, training: &Part, validation: &Part, right: Option<&[bool]>) -> Vec<OfClass> {
        let known = [self.training, self.validation].iter().all(|data| data.classes().is_some());
        let classes = self.pictures.classes().filter(|_| known).unwrap_or(0);
        let of_class = |class: usize| {
            let places = |part: &Part, data: &Dataset| -> Vec<usize> {
                (0..part.indices.len()).filter(|&i| data.label(part.indices[i]) == Some(class as u32)).collect()
            };
            let places = [(pictures, self.pictures), (training, self.training), (validation, self.validation)]
                .map(|(part, data)| places(part, data));
            if places.iter().any(|places| places.len() < FEWEST) {
                return None;
            }
            let [a, b, reference] = [(pictures, &places[0]), (training, &places[1]), (validation, &places[2])]
                .map(|(part, places)| part.seen.features.select(Axis(0), places));
            let [pictures, training] = likenesses([&a, &b], &reference);
            let right = right.map(|right| places[0].iter().map(|&i| right[i]).collect::<Vec<_>>());
            Some(OfClass { class, class_accuracy: right.as_deref().map(fraction), pictures, training })
        };
        (0..classes).filter_map(of_class).collect()
    }
}

/// How like the rows of `reference` the rows of both sets are; precision and recall from as many of the reference.
fn likenesses(sets: [&Array2<f32>; 2], reference: &Array2<f32>) -> [Likeness; 2] {
    let whole = Reference::new(Gaussian::of(reference.view()));
    sets.map(|set| {
        let real = reference.slice(ndarray::s![..set.nrows().min(reference.nrows()), ..]);
        Likeness {
            frechet_distance: distance(&whole, set),
            precision: fraction(&Manifold::new(real, K).covers(set.view())),
            recall: fraction(&Manifold::new(set.view(), K).covers(real)),
        }
    })
}

/// The distance of a set, and its error by the jackknife.
fn distance(reference: &Reference, set: &Array2<f32>) -> Figure {
    let n = set.nrows();
    let parts = parallel::ranges(n, n.div_ceil(PARTS));
    let without: Vec<f64> = parts
        .iter()
        .map(|part| {
            let rest: Vec<usize> = (0..n).filter(|i| !part.contains(i)).collect();
            reference.distance(&Gaussian::of(set.select(Axis(0), &rest).view()))
        })
        .collect();
    let count = without.len() as f64;
    let mean = without.iter().fold(0.0, |sum, d| sum + d) / count;
    let squares = without.iter().fold(0.0, |sum, d| sum + (d - mean) * (d - mean));
    let standard_error = ((count - 1.0) / count * squares).sqrt();
    Figure { value: reference.distance(&Gaussian::of(set.view())), standard_error }
}

/// The fraction that is true, and its error.
fn fraction(of: &[bool]) -> Figure {
    let n = of.len() as f64;
    let value = of.iter().filter(|&&is| is).count() as f64 / n;
    Figure { value, standard_error: (value * (1.0 - value) / n).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Shape, Split, shapes};

    const SHAPE: Shape = Shape { height: 8, width: 8, channels: 1 };

    fn shapes_of(seed: u64, split: Split, count: usize) -> Dataset {
        let all = shapes::draw(seed, split, SHAPE).expect("drawn");
        let bytes = (0..count).flat_map(|i| all.bytes(i).expect("bytes").to_vec()).collect();
        let labels = all.labels_of(&(0..count).collect::<Vec<_>>()).expect("labels");
        Dataset::new(format!("shapes {seed}"), SHAPE, bytes).expect("images").with_labels(labels, 4).expect("labels")
    }

    #[test]
    fn pictures_from_the_same_source_are_as_like_as_training_images_and_constant_ones_are_not() {
        let (training, validation) = (shapes_of(1, Split::Train, 600), shapes_of(1, Split::Validation, 400));
        let measure = |pictures: &Dataset| {
            let sets = Sets { pictures, training: &training, validation: &validation };
            sets.quality(&Features::Pixels).expect("measured")
        };
        let same = measure(&shapes_of(2, Split::Train, 200));
        let (a, b) = (same.pictures.frechet_distance, same.training.frechet_distance);
        assert!((a.value - b.value).abs() < 4.0 * (a.standard_error + b.standard_error), "{same:?}");
        assert!((same.count, same.against, same.class_accuracy) == (200, 400, None), "pixels are not read");
        assert_eq!(same.classes.iter().map(|of| of.class).collect::<Vec<_>>(), [0, 1, 2, 3]);

        let grey = Dataset::new("grey", SHAPE, vec![128; 200 * 64]).expect("images");
        let grey = measure(&grey.with_labels((0..200).map(|i| i % 4).collect(), 4).expect("labels"));
        assert!(grey.pictures.frechet_distance.value > 5.0 * b.value, "{grey:?}");
        assert_eq!(grey.pictures.recall.value, 0.0);
    }

    #[test]
    fn images_are_taken_a_class_at_a_time_until_one_has_no_more() {
        let of = |labels: Vec<u32>| {
            let data = Dataset::new("d", SHAPE, vec![0; 64 * labels.len()]).expect("images");
            data.with_labels(labels, 2).expect("labels")
        };
        let (pictures, data) = (of(vec![0, 1]), of(vec![0, 0, 1, 0, 1, 0, 0]));
        let sets = Sets { pictures: &pictures, training: &data, validation: &data };
        assert_eq!(sets.first(&data, 3), [0, 2, 1]);
        assert_eq!(sets.first(&data, 7), [0, 2, 1, 4, 3]);
        let bare = Dataset::new("d", SHAPE, vec![0; 64 * 3]).expect("images");
        assert_eq!(Sets { pictures: &bare, ..sets }.first(&data, 5), [0, 1, 2, 3, 4]);
        let error = sets.quality(&Features::Pixels).expect_err("two pictures").to_string();
        assert!(error.contains("at least 20 images"), "{error}");
    }

    #[test]
    fn error_of_a_fraction_is_that_of_a_count() {
        let found = fraction(&[true, true, true, false]);
        assert_eq!((found.value, found.standard_error), (0.75, (0.75f64 * 0.25 / 4.0).sqrt()));
    }
}
