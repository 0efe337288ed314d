//! MNIST (LeCun, Cortes and Burges 1998): 28x28 grey images in ten classes; and its relatives of other sizes.
//!
//! The classes are the digits. Where the folder, or one above it, has a name with `fashion` or `kmnist` in it, in either
//! case, they are those of Fashion-MNIST (Xiao et al. 2017) or of KMNIST (Clanuwat et al. 2018): their files have the
//! same names as MNIST's, and nothing in them says which they are.

use std::path::{Path, PathBuf};

use super::idx::{self, Images};
use super::{Dataset, Shape, Split};
use crate::{Error, Result};

const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
const FASHION: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
const KUZUSHIJI: [&str; 10] = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"];

/// Where the files may lie from the folder that a user gives: as torchvision lays them out, too.
pub(super) const FOLDERS: [&str; 5] = ["", "MNIST/raw", "FashionMNIST/raw", "KMNIST/raw", "raw"];

const TRAIN: &str = "train";
/// Of the original, and of relatives.
const VALIDATION: [&str; 2] = ["t10k", "test"];

/// Whether `folder` has image files by MNIST's names.
pub fn is_in(folder: &Path) -> bool {
    [TRAIN].iter().chain(&VALIDATION).any(|prefix| find(folder, prefix, "images", 3).is_ok())
}

/// The images and labels in `folder`, which has `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, or for validation the
/// same two beginning with `t10k` or else with `test`; a dot may stand for the dash before `idx`, and `.gz` may follow. Where
/// both are there, the plain file is read.
///
/// Images smaller than `shape`, down to half its sides, are put in the middle of a border of zeros; an odd row or
/// column of the border goes below or to the right.
///
/// # Errors
/// If a file is missing or damaged, the counts of images and labels differ, or `shape` cannot be reached with a border.
pub fn load(folder: &Path, split: Split, shape: Shape) -> Result<Dataset> {
    let prefix = prefix(folder, split);
    let images_path = find(folder, prefix, "images", 3)?;
    let labels_path = find(folder, prefix, "labels", 1)?;
    let images = idx::parse_images(&super::read(&images_path)?, &images_path)?;
    let labels = idx::parse_labels(&super::read(&labels_path)?, &labels_path, 0..=9)?;
    same_counts((&images, &images_path), (&labels, &labels_path))?;
    let pixels = pad(&images, folder, shape)?;
    Dataset::new(super::name(folder, split), shape, pixels)?
        .with_labels(labels, DIGITS.len())?
        .with_class_names(class_names(folder).map(String::from).to_vec())
}

fn class_names(folder: &Path) -> [&'static str; 10] {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.into()).to_string_lossy().to_lowercase();
    match (folder.contains("fashion"), folder.contains("kmnist")) {
        (true, _) => FASHION,
        (_, true) => KUZUSHIJI,
        _ => DIGITS,
    }
}

/// What the names of the split's files begin with.
fn prefix(folder: &Path, split: Split) -> &'static str {
    match split {
        Split::Train => TRAIN,
        Split::Validation => {
            let there = VALIDATION.into_iter().find(|prefix| find(folder, prefix, "images", 3).is_ok());
            there.unwrap_or(VALIDATION[0])
        }
    }
}

/// The file of `what` ("images" or "labels") whose name begins with `prefix`, by any of its names.
pub(super) fn find(folder: &Path, prefix: &str, what: &str, dims: usize) -> Result<PathBuf> {
    let name = format!("{prefix}-{what}-idx{dims}-ubyte");
    let dotted = format!("{prefix}-{what}.idx{dims}-ubyte");
    [name.clone(), dotted.clone(), format!("{name}.gz"), format!("{dotted}.gz")]
        .into_iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let problem = format!("expected {what} in {name} or {name}.gz, found neither");
            Error::file(folder, problem, "put the file beside the others")
        })
}

pub(super) fn same_counts(images: (&Images, &Path), labels: (&[u32], &Path)) -> Result<()> {
    let (expected, found) = (images.0.count, labels.0.len());
    if expected == found {
        return Ok(());
    }
    let problem = format!("expected {expected} labels, one for each image, found {found}");
    Err(Error::file(labels.1, problem, format!("fetch it and {} again, from one place", images.1.display())))
}

/// The pixels of `images` in the middle of a border of zeros.
pub(super) fn pad(images: &Images, folder: &Path, shape: Shape) -> Result<Vec<u8>> {
    let fits = |have: usize, wanted: usize| (have..=have.saturating_mul(2)).contains(&wanted);
    if shape.channels != 1 || !fits(images.height, shape.height) || !fits(images.width, shape.width) {
        let found = Shape { height: images.height, width: images.width, channels: 1 };
        return Err(super::wrong_shape(folder, found, shape));
    }
    let (top, left) = ((shape.height - images.height) / 2, (shape.width - images.width) / 2);
    let mut padded = vec![0; images.count * shape.elements()];
    for (i, row) in images.pixels.chunks_exact(images.width).enumerate() {
        let (image, y) = (i / images.height, i % images.height);
        let start = (image * shape.height + top + y) * shape.width + left;
        padded[start..start + images.width].copy_from_slice(row);
    }
    Ok(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two images of 2 rows and 3 columns: 1 to 12.
    const IMAGES: [u8; 28] = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    #[test]
    fn load_finds_files_by_either_name_and_pads_with_zeros_in_the_middle() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let labels = folder.path().join("train-labels-idx1-ubyte.gz");
        std::fs::write(folder.path().join("train-images.idx3-ubyte"), IMAGES).expect("a file");
        std::fs::write(&labels, [0, 0, 8, 1, 0, 0, 0, 2, 7, 1]).expect("a file");
        let load =
            |height, width, channels| crate::data::load(folder.path(), Split::Train, Shape { height, width, channels });
        let problem = |height, width, channels| load(height, width, channels).expect_err("not loadable").to_string();

        let padded = load(4, 6, 1).expect("valid");
        let row = |x: u8| [0, x, x + 1, x + 2, 0, 0];
        assert_eq!(padded.bytes(1), Some(&[[0; 6], row(7), row(10), [0; 6]].concat()[..]));
        assert_eq!(padded.labels_of(&[0, 1]), Some(vec![7, 1]));
        assert_eq!(load(2, 3, 1).expect("valid").bytes(0), Some(&[1, 2, 3, 4, 5, 6][..]));
        for (height, width, channels) in [(1, 3, 1), (2, 2, 1), (5, 3, 1), (2, 3, 3)] {
            assert!(problem(height, width, channels).contains("found 2x3x1"));
        }

        std::fs::write(&labels, [0, 0, 8, 1, 0, 0, 0, 1, 7]).expect("a file");
        assert!(problem(2, 3, 1).contains("expected 2 labels, one for each image, found 1"));
        std::fs::remove_file(&labels).expect("removed");
        assert!(problem(2, 3, 1).contains("expected labels in train-labels-idx1-ubyte or"));
    }

    #[test]
    fn validation_files_may_be_called_test() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("a file");
        let load = |split| crate::data::load(folder.path(), split, Shape { height: 2, width: 3, channels: 1 });
        write("test-images-idx3-ubyte", &IMAGES);
        write("test-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 2, 7, 1]);
        assert_eq!(load(Split::Validation).expect("valid").labels_of(&[0, 1]), Some(vec![7, 1]));
        let error = load(Split::Train).expect_err("no such files").to_string();
        assert!(error.contains("expected images in train-images-idx3-ubyte or"), "{error}");
        write("t10k-images-idx3-ubyte", &IMAGES);
        write("t10k-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 2, 3, 4]);
        assert_eq!(load(Split::Validation).expect("valid").labels_of(&[0, 1]), Some(vec![3, 4]));
    }

    #[test]
    fn mnist_has_its_counts_first_labels_and_mean() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist"));
        let shape = Shape { height: 28, width: 28, channels: 1 };
        let splits = [
            (Split::Train, 60_000, [5, 0, 4, 1, 9], 0.130_660),
            (Split::Validation, 10_000, [7, 2, 1, 0, 4], 0.132_515),
        ];
        for (split, count, first_labels, mean) in splits {
            let mnist = load(folder, split, shape).expect("the repository has MNIST");
            assert_eq!((mnist.len(), mnist.classes()), (count, Some(10)));
            assert_eq!(mnist.labels_of(&[0, 1, 2, 3, 4]), Some(first_labels.to_vec()));
            let bytes = (0..count).flat_map(|i| mnist.bytes(i).expect("bytes"));
            let found = bytes.map(|&x| u64::from(x)).sum::<u64>() as f64 / (count * shape.elements() * 255) as f64;
            assert!((found - mean).abs() < 1e-6, "the mean of {split} is published as {mean}, found {found}");
        }
    }
}
