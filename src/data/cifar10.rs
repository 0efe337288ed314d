//! CIFAR-10 (Krizhevsky 2009): 32x32 colour images in ten classes, in the binary files of [`cifar`](super::cifar).
//!
//! Training images are `data_batch_1.bin` to `data_batch_5.bin` in that order, validation images `test_batch.bin`.

use std::path::Path;

use super::cifar::{SHAPE, parse};
use super::{Dataset, Shape, Split};
use crate::{Error, Result};

/// The classes, in the order of the labels.
pub const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Where the files may lie from the folder that a user gives: as the archives unpack, too.
pub(super) const FOLDERS: [&str; 3] = ["", "cifar-10-batches-bin", "cifar-10-batches-py"];

const TRAIN: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
const VALIDATION: [&str; 1] = ["test_batch.bin"];

/// Turns the files of the Python version into those of the binary version, byte for byte.
const PYTHON: &str = "\
    import pickle
    for name in [\"data_batch_1\", \"data_batch_2\", \"data_batch_3\", \"data_batch_4\", \"data_batch_5\", \"test_batch\"]:
        batch = pickle.load(open(name, \"rb\"), encoding=\"bytes\")
        records = [bytes([label]) + pixels.tobytes() for label, pixels in zip(batch[b\"labels\"], batch[b\"data\"])]
        open(name + \".bin\", \"wb\").write(b\"\".join(records))";

/// Whether `folder` has CIFAR-10's files, of the binary or of the Python version.
pub fn is_in(folder: &Path) -> bool {
    folder.join(TRAIN[0]).is_file() || has_pickles(folder)
}

fn has_pickles(folder: &Path) -> bool {
    folder.join("data_batch_1").is_file()
}

/// The images and labels in `folder`.
///
/// # Errors
/// If `shape` is not 32x32x3, or a file is missing or damaged. The Python version's files are not read, since whoever
/// made a pickle decides how much memory and stack its reader takes: the error has the lines of Python that convert them.
pub fn load(folder: &Path, split: Split, shape: Shape) -> Result<Dataset> {
    if has_pickles(folder) && !folder.join(TRAIN[0]).is_file() {
        let problem = "expected CIFAR-10's binary version, found its Python version (pickles)";
        return Err(Error::file(folder, problem, super::foreign::python("run this in the folder", PYTHON)));
    }
    if shape != SHAPE {
        return Err(super::wrong_shape(folder, SHAPE, shape));
    }
    let files: &[&str] = match split {
        Split::Train => &TRAIN,
        Split::Validation => &VALIDATION,
    };
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for file in files {
        let path = folder.join(file);
        let (more_pixels, more_labels) = parse(&super::read(&path)?, &path, 1, CLASSES.len())?;
        pixels.extend(more_pixels);
        labels.extend(more_labels);
    }
    Dataset::new(super::name(folder, split), SHAPE, pixels)?
        .with_labels(labels, CLASSES.len())?
        .with_class_names(CLASSES.map(String::from).to_vec())
}

#[cfg(test)]
mod tests {
    use super::super::cifar::tests::record;
    use super::*;

    #[test]
    fn load_reads_five_files_in_order_and_refuses_another_shape() {
        let data = tempfile::tempdir().expect("a temporary folder");
        let folder = data.path().join("cifar-10-batches-bin");
        std::fs::create_dir(&folder).expect("a folder");
        for (i, file) in TRAIN.iter().enumerate() {
            std::fs::write(folder.join(file), record(&[i as u8])).expect("a file");
        }
        let train = crate::data::load(data.path(), Split::Train, SHAPE).expect("valid");
        assert_eq!(train.labels_of(&[0, 1, 2, 3, 4]), Some(vec![0, 1, 2, 3, 4]));
        assert_eq!(train.class_names(), Some(&CLASSES.map(String::from)[..]));

        let error = load(&folder, Split::Validation, SHAPE).expect_err("no test batch").to_string();
        assert!(error.contains("test_batch.bin"), "{error}");
        let error = load(&folder, Split::Train, Shape { channels: 1, ..SHAPE }).expect_err("grey").to_string();
        assert!(error.contains("32x32x1") && error.contains("found 32x32x3"), "{error}");
    }

    #[test]
    fn pickles_are_named_with_the_lines_that_convert_them_and_read_once_converted() {
        let data = tempfile::tempdir().expect("a temporary folder");
        let folder = data.path().join("cifar-10-batches-py");
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("data_batch_1"), b"\x80\x04}.").expect("a file");
        for shape in [SHAPE, Shape { channels: 1, ..SHAPE }] {
            let error = crate::data::load(data.path(), Split::Train, shape).expect_err("pickles").to_string();
            assert!(error.contains("Python version (pickles)") && error.contains("pickle.load"), "{error}");
        }
        TRAIN.iter().for_each(|file| std::fs::write(folder.join(file), record(&[7])).expect("a file"));
        assert_eq!(crate::data::load(data.path(), Split::Train, SHAPE).expect("converted").len(), 5);
    }
}
