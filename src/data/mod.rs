//! Images in: MNIST, CIFAR-10, a folder of pictures, or synthetic shapes; held as bytes, handed out in [−1, 1].
//!
//! | module | what it reads or holds |
//! |---|---|
//! | [`dataset`] | what all of them become: images of one shape, with or without labels |
//! | [`mnist`] | MNIST and its relatives, in the [`idx`] format: `train-images-idx3-ubyte`, plain or `.gz` |
//! | [`cifar10`] | CIFAR-10, binary version: `data_batch_1.bin` |
//! | [`pictures`] | a folder of PNG and JPEG files; [`picture`] decodes one, [`fit`] brings it to the model's size |
//! | [`shapes`] | nothing: circles, squares, triangles and crosses drawn from a seed |
//! | [`order`] | the order in which training visits the images |
//!
//! Nothing a file says is believed before it is held against the file's length: a damaged, foreign or hostile file is
//! an [`Error`] that names it, never a panic.

pub mod cifar10;
pub mod dataset;
pub mod fit;
pub mod idx;
pub mod mnist;
pub mod order;
pub mod picture;
pub mod pictures;
pub mod shapes;

use std::path::Path;

use crate::{Error, Result};

pub use dataset::{Dataset, Shape, Split};
pub use order::Order;

/// The images at `data`, for a model that wants images of `shape`.
///
/// | `data` | read as | validation images |
/// |---|---|---|
/// | the word `shapes` | [`shapes`] (a folder of that name is `./shapes`) | drawn from streams of their own |
/// | a folder with `train-images-idx3-ubyte` | [`mnist`] | the `t10k` files |
/// | a folder with `data_batch_1.bin`, or `cifar-10-batches-bin` in it that has it | [`cifar10`] | `test_batch.bin` |
/// | any other folder | [`pictures`] | the sub-folder `validation`, or every tenth picture |
///
/// # Errors
/// If `shape` is out of its range, nothing is at `data`, a file is missing or damaged, or the images cannot be brought
/// to `shape`.
pub fn load(data: &Path, split: Split, shape: Shape) -> Result<Dataset> {
    shape.check()?;
    if data.as_os_str() == "shapes" {
        return shapes::draw(shapes::SEED, split, shape);
    }
    if !data.is_dir() {
        let found = if data.exists() { "a file" } else { "nothing" };
        return Err(Error::file(
            data,
            format!("expected a folder of images, found {found}"),
            "give a folder of MNIST's idx files, CIFAR-10's .bin files, or PNG or JPEG pictures, or the word `shapes`",
        ));
    }
    if mnist::is_in(data) {
        mnist::load(data, split, shape)
    } else if let Some(folder) = cifar10::find(data) {
        cifar10::load(&folder, split, shape)
    } else {
        pictures::load(data, split, shape)
    }
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
    fn load_for_a_shape_out_of_range_is_an_error() {
        for (height, width, channels) in [(0, 8, 1), (8, 4097, 1), (8, 8, 2)] {
            let shape = Shape { height, width, channels };
            assert!(matches!(load(Path::new("shapes"), Split::Train, shape), Err(Error::Value { .. })), "{shape}");
        }
    }
}
