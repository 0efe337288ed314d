//! Images in: MNIST, CIFAR, a folder of pictures, synthetic shapes, or an array; handed out in [−1, 1].
//!
//! | module | what it reads or holds |
//! |---|---|
//! | [`dataset`] | what all of them become: images of one shape, with or without labels |
//! | [`fingerprint`] | what tells one data set from another |
//! | [`mnist`], [`emnist`] | MNIST and its relatives, in the [`idx`] format: `train-images-idx3-ubyte`, plain or `.gz` |
//! | [`cifar10`], [`cifar100`] | CIFAR, [binary version](cifar): `data_batch_1.bin`, `train.bin` |
//! | [`pictures`] | a folder of pictures; [`picture`] decodes one, [`fit`] brings it to the model's size |
//! | [`shapes`] | nothing: circles, squares, triangles and crosses drawn from a seed |
//! | [`order`] | the order in which training visits the images |
//!
//! Which files and folders are read, and what of them becomes of what, is in `docs/data.md`. Nothing a file says is
//! believed before it is held against the file's length: a damaged, foreign or hostile file is an [`Error`] that names
//! it, never a panic.

pub mod cifar;
pub mod cifar10;
pub mod cifar100;
pub mod dataset;
pub mod emnist;
pub mod fingerprint;
pub mod fit;
mod folder;
mod foreign;
pub mod idx;
pub mod mnist;
mod natural;
pub mod order;
pub mod picture;
pub mod pictures;
pub mod shape;
pub mod shapes;
mod splits;

use std::path::{Path, PathBuf};

use crate::{Error, Result};

pub use dataset::Dataset;
pub use fingerprint::Fingerprint;
pub use order::Order;
pub use shape::{Shape, Split};

/// Files that are told by their names.
struct Format {
    /// Where they may lie, from the folder that a user gives.
    folders: &'static [&'static str],
    is_in: fn(&Path) -> bool,
    load: fn(&Path, Split, Shape) -> Result<Dataset>,
}

const FORMATS: [Format; 4] = [
    Format { folders: &mnist::FOLDERS, is_in: mnist::is_in, load: mnist::load },
    Format { folders: &emnist::FOLDERS, is_in: emnist::is_in, load: emnist::load },
    Format { folders: &cifar10::FOLDERS, is_in: cifar10::is_in, load: cifar10::load },
    Format { folders: &cifar100::FOLDERS, is_in: cifar100::is_in, load: cifar100::load },
];

/// The images at `data`, for a model that wants images of `shape`.
///
/// | `data` | read as | validation images |
/// |---|---|---|
/// | the word `shapes` | [`shapes`] (a folder of that name is `./shapes`) | drawn from streams of their own |
/// | a folder with `train-images-idx3-ubyte` | [`mnist`] | the `t10k` files |
/// | a folder with `emnist-letters-train-images-idx3-ubyte`, or another part of EMNIST | [`emnist`] | the `test` files |
/// | a folder with `data_batch_1.bin` | [`cifar10`] | `test_batch.bin` |
/// | a folder with `train.bin` and `test.bin` | [`cifar100`] | `test.bin` |
/// | any other folder | [`pictures`] | a sub-folder `validation`, or every tenth picture of a class |
///
/// Of the second to the fifth, the folder may also be the one above, as torchvision and the archives lay them out:
/// `MNIST/raw`, `cifar-10-batches-bin`, ...
///
/// # Errors
/// If `shape` is out of its range, nothing is at `data`, it holds several data sets, a file is missing or damaged, or the
/// images cannot be brought to `shape`.
pub fn load(data: &Path, split: Split, shape: Shape) -> Result<Dataset> {
    shape.check()?;
    if data.as_os_str() == "shapes" {
        return shapes::draw(shapes::SEED, split, shape);
    }
    if emnist::is_named_by(data) {
        return emnist::load(data, split, shape);
    }
    if !data.is_dir() {
        return Err(foreign::not_a_folder(data));
    }
    let mut found = find(data, |folder| folder.is_empty());
    if found.is_empty() {
        found = find(data, |folder| !folder.is_empty());
    }
    match &found[..] {
        [] => pictures::load(data, split, shape),
        [(format, folder)] => (format.load)(folder, split, shape),
        several => {
            let folders: Vec<String> = several.iter().map(|(_, folder)| folder.display().to_string()).collect();
            let problem = format!("expected one data set, found {}: {}", folders.len(), folders.join(", "));
            Err(Error::file(data, problem, "give the folder of the one that is meant"))
        }
    }
}

/// The data sets in those of their `folders` that are `wanted`.
fn find(data: &Path, wanted: fn(&str) -> bool) -> Vec<(&'static Format, PathBuf)> {
    let places = FORMATS.iter().flat_map(|format| format.folders.iter().map(move |folder| (format, *folder)));
    let wanted = places.filter(|(_, folder)| wanted(folder));
    // Joining "" would end the path with a slash.
    let paths =
        wanted.map(|(format, folder)| (format, if folder.is_empty() { data.to_path_buf() } else { data.join(folder) }));
    paths.filter(|(format, folder)| (format.is_in)(folder)).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|cause| Error::io(path, "read", &cause))
}

fn name(data: &Path, split: Split) -> String {
    format!("{} ({split})", data.display())
}

fn wrong_shape(data: &Path, found: Shape, wanted: Shape) -> Error {
    Error::file(
        data,
        format!("expected images of {wanted} (height x width x channels), which the model wants, found {found}"),
        format!("choose a model for images of {found}, or other data"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_of_a_path_that_is_no_folder_says_what_would_do() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let shape = Shape { height: 8, width: 8, channels: 1 };
        for (path, found) in [(file.path(), "found a file"), (Path::new("no/such/place"), "found nothing")] {
            let error = load(path, Split::Train, shape).expect_err("no folder").to_string();
            assert!(error.contains(found) && error.contains("the word `shapes`"), "{error}");
        }
    }

    #[test]
    fn load_of_a_folder_with_several_data_sets_lists_them() {
        let data = tempfile::tempdir().expect("a temporary folder");
        for name in ["MNIST", "FashionMNIST"] {
            let folder = data.path().join(name).join("raw");
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join("train-images-idx3-ubyte"), "").expect("a file");
        }
        let shape = Shape { height: 8, width: 8, channels: 1 };
        let error = load(data.path(), Split::Train, shape).expect_err("two data sets").to_string();
        assert!(error.contains("found 2: ") && error.contains("/MNIST/raw, ") && error.contains("/FashionMNIST/raw"));
    }

    #[test]
    fn load_for_a_shape_out_of_range_is_an_error() {
        for (height, width, channels) in [(0, 8, 1), (8, 4097, 1), (8, 8, 2)] {
            let shape = Shape { height, width, channels };
            assert!(matches!(load(Path::new("shapes"), Split::Train, shape), Err(Error::Value { .. })), "{shape}");
        }
    }
}
