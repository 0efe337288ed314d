//! CIFAR-10, binary version (Krizhevsky 2009): 32x32 colour images in ten classes.
//!
//! A file is a row of records of 1 + 3072 bytes: the label, 0 to 9, then the image as three planes of 32 rows of 32
//! bytes, red, green, blue. Training images are `data_batch_1.bin` to `data_batch_5.bin` in that order, validation
//! images `test_batch.bin`.

use std::path::{Path, PathBuf};

use super::{Dataset, Shape, Split};
use crate::{Error, Result};

/// The shape of every image.
pub const SHAPE: Shape = Shape { height: 32, width: 32, channels: 3 };

/// The number of classes.
pub const CLASSES: usize = 10;

const TRAIN: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
const VALIDATION: [&str; 1] = ["test_batch.bin"];
const PLANE: usize = 32 * 32;
const RECORD: usize = 1 + 3 * PLANE;

/// The folder with CIFAR-10's files: `data`, or the `cifar-10-batches-bin` in it that the archive unpacks to.
pub fn find(data: &Path) -> Option<PathBuf> {
    [data.to_path_buf(), data.join("cifar-10-batches-bin")].into_iter().find(|folder| folder.join(TRAIN[0]).is_file())
}

/// The images and labels in `folder`.
///
/// # Errors
/// If `shape` is not 32x32x3, or a file is missing or damaged.
pub fn load(folder: &Path, split: Split, shape: Shape) -> Result<Dataset> {
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
        let (more_pixels, more_labels) = parse(&super::read(&path)?, &path)?;
        pixels.extend(more_pixels);
        labels.extend(more_labels);
    }
    Ok(Dataset::new(super::name(folder, split), SHAPE, pixels).with_labels(labels, CLASSES))
}

/// Pixels and labels of one file; `path` is for messages.
///
/// # Shapes
/// Returns (n, 32, 32, 3), channels last, 0 to 255, and (n), each 0 to 9; n ≥ 1.
///
/// # Errors
/// If the file is not a whole number of records, at least one, or a label is above 9.
pub fn parse(file: &[u8], path: &Path) -> Result<(Vec<u8>, Vec<u32>)> {
    let remedy = "it is damaged, or not CIFAR-10's binary version: unpack cifar-10-binary.tar.gz again";
    if file.is_empty() || !file.len().is_multiple_of(RECORD) {
        let problem = format!("expected one or more records of {RECORD} bytes, found {} bytes", file.len());
        return Err(Error::file(path, problem, remedy));
    }
    let (mut pixels, mut labels) = (Vec::with_capacity(file.len()), Vec::with_capacity(file.len() / RECORD));
    for (i, record) in file.chunks_exact(RECORD).enumerate() {
        let (label, planes) = (record[0], &record[1..]);
        if usize::from(label) >= CLASSES {
            let problem = format!("expected labels 0 to 9, found {label} in record {i} (from 0)");
            return Err(Error::file(path, problem, remedy));
        }
        labels.push(u32::from(label));
        pixels.extend((0..PLANE).flat_map(|p| [planes[p], planes[PLANE + p], planes[2 * PLANE + p]]));
    }
    Ok((pixels, labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A record whose red, green and blue at pixel p are p, p + 1 and p + 2 modulo 251.
    fn record(label: u8) -> Vec<u8> {
        let planes = (0..3).flat_map(|c| (0..PLANE).map(move |p| ((p + c) % 251) as u8));
        std::iter::once(label).chain(planes).collect()
    }

    #[test]
    fn parse_turns_planes_into_channels_last() {
        let (pixels, labels) = parse(&[record(3), record(9)].concat(), Path::new("a.bin")).expect("valid");
        assert_eq!(labels, [3, 9]);
        assert_eq!(pixels.len(), 2 * SHAPE.elements());
        for p in [0, 1, 31, 32, 1023] {
            assert_eq!(pixels[3 * p..3 * p + 3], [p, p + 1, p + 2].map(|x| (x % 251) as u8));
        }
    }

    #[test]
    fn parse_of_a_damaged_file_names_it_and_what_was_found() {
        let valid = [record(0), record(1)].concat();
        for length in [0, 1, RECORD - 1, RECORD + 1, 2 * RECORD - 1] {
            let error = parse(&valid[..length], Path::new("cut.bin")).expect_err("cut").to_string();
            assert!(error.contains("cut.bin") && error.contains(&format!("found {length} bytes")), "{error}");
        }
        let error = parse(&[record(0), record(10)].concat(), Path::new("a.bin")).expect_err("label 10").to_string();
        assert!(error.contains("found 10 in record 1"), "{error}");
    }

    #[test]
    fn load_reads_five_files_in_order_and_refuses_another_shape() {
        let data = tempfile::tempdir().expect("a temporary folder");
        let folder = data.path().join("cifar-10-batches-bin");
        std::fs::create_dir(&folder).expect("a folder");
        for (i, file) in TRAIN.iter().enumerate() {
            std::fs::write(folder.join(file), record(i as u8)).expect("a file");
        }
        let train = crate::data::load(data.path(), Split::Train, SHAPE).expect("valid");
        assert_eq!(train.labels_of(&[0, 1, 2, 3, 4]), Some(vec![0, 1, 2, 3, 4]));
        assert_eq!(train.classes(), Some(10));

        let error = load(&folder, Split::Validation, SHAPE).expect_err("no test batch").to_string();
        assert!(error.contains("test_batch.bin"), "{error}");
        let error = load(&folder, Split::Train, Shape { channels: 1, ..SHAPE }).expect_err("grey").to_string();
        assert!(error.contains("32x32x1") && error.contains("found 32x32x3"), "{error}");
    }

    proptest! {
        #[test]
        fn parse_of_any_bytes_does_not_panic(
            mut file in prop::collection::vec(any::<u8>(), 0..3 * RECORD), whole: bool
        ) {
            if whole {
                file.truncate(file.len() / RECORD * RECORD);
            }
            let _ = parse(&file, Path::new("random"));
        }

        #[test]
        fn parse_of_a_mutated_file_does_not_panic(at in 0..2 * RECORD, byte: u8, length in 0..=2 * RECORD) {
            let mut file = [record(4), record(7)].concat();
            file[at] = byte;
            let _ = parse(&file, Path::new("mutated"));
            let _ = parse(&file[..length], Path::new("mutated"));
        }
    }
}
