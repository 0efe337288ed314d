//! The training image nearest to a picture: is it learned by heart?
//!
//! A distance is the root of the mean squared difference of two images' numbers in [−1, 1], 0 for the same image and at
//! most 2. Alone it says nothing: images that were never trained on have near neighbours, too. So pictures are compared
//! with validation images: a model that copies has distances below theirs.
//!
//! The nearest is found by |a|² + |b|² − 2 a·b with the contract's products in f32; its distance is then that of the
//! definition, in f64. Of two images equally near the first counts.

use serde::Serialize;

use crate::cluster::Ranks;
use crate::data::Dataset;
use crate::layers::flat;
use crate::numerics::Real;
use crate::numerics::gemm::{Epilogue, Matrix, matrix_product};
use crate::numerics::sum::{sum_by, sum_of_squares};

/// Training images that are compared with all pictures at a time.
const AT_ONCE: usize = 1024;

/// Pictures that are compared at a time.
const PICTURES: usize = 2048;

/// The nearest training image of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Nearest {
    /// Its index.
    pub index: usize,
    /// How far it is, 0 to 2.
    pub distance: f64,
}

/// Distances in short.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Distances {
    /// The least.
    pub least: f64,
    /// A hundredth of all are below this one.
    pub hundredth: f64,
    /// A tenth.
    pub tenth: f64,
    /// Half.
    pub median: f64,
}

/// The nearest training image of each picture of these indices, which are shared out among the current ranks; `progress` hears
/// how many training images were compared, of
/// [`comparisons`].
///
/// # Panics
/// If the images are not of one shape, or an index is out of range.
pub fn nearest(pictures: &Dataset, indices: &[usize], training: &Dataset, progress: impl FnMut(usize)) -> Vec<Nearest> {
    assert_eq!(pictures.shape(), training.shape(), "nearest: images of one shape");
    let ranks = Ranks::current();
    let own = nearest_of(pictures, &indices[ranks.share(indices.len())], training, progress);
    if ranks.count() == 1 {
        return own;
    }
    let mut words = Vec::new();
    for Nearest { index, distance } in own {
        words.push(index as u32);
        f64::to_words(&[distance], &mut words);
    }
    let nearest = |words: &[u32]| {
        let mut distance = [0.0];
        f64::from_words(&words[1..], &mut distance);
        Nearest { index: words[0] as usize, distance: distance[0] }
    };
    ranks.all_gather(words).iter().flat_map(|said| said.chunks_exact(3)).map(nearest).collect()
}

/// The same of the current rank's pictures.
fn nearest_of(
    pictures: &Dataset,
    indices: &[usize],
    training: &Dataset,
    mut progress: impl FnMut(usize),
) -> Vec<Nearest> {
    let (size, mut found, mut done) = (training.shape().elements(), Vec::with_capacity(indices.len()), 0);
    for indices in indices.chunks(PICTURES) {
        let batch = pictures.batch::<f32>(indices);
        let left = Matrix::new(flat(&batch), indices.len(), size);
        let mut best = vec![(f64::INFINITY, 0); indices.len()];
        for first in (0..training.len()).step_by(AT_ONCE) {
            let others: Vec<usize> = (first..training.len().min(first + AT_ONCE)).collect();
            let images = training.batch::<f32>(&others);
            let squares: Vec<f64> = flat(&images).chunks_exact(size).map(sum_of_squares).collect();
            let mut products = vec![0.0; indices.len() * others.len()];
            let right = Matrix::new(flat(&images), others.len(), size).t();
            matrix_product(left, right, &mut products, others.len(), Epilogue::Overwrite);
            for (best, products) in best.iter_mut().zip(products.chunks_exact(others.len())) {
                for ((&other, square), &product) in others.iter().zip(&squares).zip(products) {
                    let distance = square - 2.0 * f64::from(product); // but for |a|², the same for all
                    if distance < best.0 {
                        *best = (distance, other);
                    }
                }
            }
            done += others.len();
            progress(done);
        }
        let images = flat(&batch).chunks_exact(size);
        found.extend(images.zip(best).map(|(image, (_, index))| {
            let pairs: Vec<[f32; 2]> =
                image.iter().zip(flat(&training.batch::<f32>(&[index]))).map(|(&a, &b)| [a, b]).collect();
            let squared = sum_by(&pairs, |[a, b]| (f64::from(a) - f64::from(b)) * (f64::from(a) - f64::from(b)));
            Nearest { index, distance: (squared / size as f64).sqrt() }
        }));
    }
    found
}

/// How many training images are compared for so many pictures.
pub fn comparisons(pictures: usize, training: usize) -> usize {
    pictures.div_ceil(PICTURES) * training
}

impl Distances {
    /// # Panics
    /// If there is none.
    pub fn of(nearest: &[Nearest]) -> Self {
        let mut sorted: Vec<f64> = nearest.iter().map(|nearest| nearest.distance).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |part: usize| sorted[(sorted.len() - 1) * part / 100];
        Distances { least: at(0), hundredth: at(1), tenth: at(10), median: at(50) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Shape;

    #[test]
    fn a_copy_is_found_at_distance_zero_and_others_at_theirs() {
        let shape = Shape { height: 1, width: 2, channels: 1 };
        let bytes = |i: usize| [(i * 7 % 251) as u8, (i * 13 % 241) as u8];
        let training = Dataset::new("t", shape, (0..3000).flat_map(bytes).collect()).expect("images");
        let pictures = Dataset::new("p", shape, [bytes(2500), [0, 0], [255, 255]].concat()).expect("images");
        let mut heard = Vec::new();
        let found = nearest(&pictures, &[0, 1, 2], &training, |done| heard.push(done));
        assert_eq!((found[0].distance, training.bytes(found[0].index)), (0.0, Some(&bytes(2500)[..])));
        assert_eq!(found[1], Nearest { index: 0, distance: 0.0 });
        let definition = |i: usize| {
            let difference = |x: u8| (255.0 - f64::from(x)) / 127.5;
            let [a, b] = bytes(i).map(difference);
            ((a * a + b * b) / 2.0).sqrt()
        };
        let least = (0..3000).map(definition).fold(f64::INFINITY, f64::min);
        assert!((found[2].distance - least).abs() < 1e-6, "{found:?}, {least}"); // levels are f32 there
        assert_eq!((heard, comparisons(3, 3000)), (vec![1024, 2048, 3000], 3000));
    }

    #[test]
    fn distances_in_short_are_quantiles() {
        let all: Vec<Nearest> = (0..=200).rev().map(|i| Nearest { index: 0, distance: f64::from(i) }).collect();
        assert_eq!(Distances::of(&all), Distances { least: 0.0, hundredth: 2.0, tenth: 20.0, median: 100.0 });
    }
}
