//! The binary files of CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 32x32 colour images.
//!
//! A file is a row of records: the labels, one byte each, then the image as three planes of 32 rows of 32 bytes, red,
//! green, blue. CIFAR-10 has one label, CIFAR-100 a coarse one and then a fine one.

use std::path::Path;

use super::Shape;
use crate::{Error, Result};

/// The shape of every image.
pub const SHAPE: Shape = Shape { height: 32, width: 32, channels: 3 };

const PLANE: usize = 32 * 32;

/// Pixels and labels of one file whose records have `labels` labels, of which the last counts; `path` is for messages.
///
/// # Shapes
/// Returns (n, 32, 32, 3), channels last, 0 to 255, and (n), each in 0..classes; n ≥ 1.
///
/// # Errors
/// If the file is not a whole number of records, at least one, or a label is not below `classes`.
pub fn parse(file: &[u8], path: &Path, labels: usize, classes: usize) -> Result<(Vec<u8>, Vec<u32>)> {
    let remedy = "it is damaged, or not of CIFAR's binary version: unpack cifar-10-binary.tar.gz or \
                  cifar-100-binary.tar.gz again";
    let record = labels + SHAPE.elements();
    if file.is_empty() || !file.len().is_multiple_of(record) {
        let problem = format!("expected one or more records of {record} bytes, found {} bytes", file.len());
        return Err(Error::file(path, problem, remedy));
    }
    let (mut pixels, mut labels_of_images) = (Vec::with_capacity(file.len()), Vec::with_capacity(file.len() / record));
    for (i, record) in file.chunks_exact(record).enumerate() {
        let (labels, planes) = record.split_at(labels);
        let label = labels.last().copied().unwrap_or(0);
        if usize::from(label) >= classes {
            let problem = format!("expected labels 0 to {}, found {label} in record {i} (from 0)", classes - 1);
            return Err(Error::file(path, problem, remedy));
        }
        labels_of_images.push(u32::from(label));
        pixels.extend((0..PLANE).flat_map(|p| [planes[p], planes[PLANE + p], planes[2 * PLANE + p]]));
    }
    Ok((pixels, labels_of_images))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    const RECORD: usize = 1 + 3 * PLANE;

    /// A record whose red, green and blue at pixel p are p, p + 1 and p + 2 modulo 251.
    pub fn record(labels: &[u8]) -> Vec<u8> {
        let planes = (0..3).flat_map(|c| (0..PLANE).map(move |p| ((p + c) % 251) as u8));
        labels.iter().copied().chain(planes).collect()
    }

    #[test]
    fn parse_turns_planes_into_channels_last() {
        let (pixels, labels) = parse(&[record(&[3]), record(&[9])].concat(), Path::new("a"), 1, 10).expect("valid");
        assert_eq!(labels, [3, 9]);
        assert_eq!(pixels.len(), 2 * SHAPE.elements());
        for p in [0, 1, 31, 32, 1023] {
            assert_eq!(pixels[3 * p..3 * p + 3], [p, p + 1, p + 2].map(|x| (x % 251) as u8));
        }
        let (fine_pixels, fine) = parse(&record(&[200, 99]), Path::new("a"), 2, 100).expect("valid");
        assert_eq!((fine, &fine_pixels[..]), (vec![99], &pixels[..SHAPE.elements()]));
    }

    #[test]
    fn parse_of_a_damaged_file_names_it_and_what_was_found() {
        let valid = [record(&[0]), record(&[1])].concat();
        for length in [0, 1, RECORD - 1, RECORD + 1, 2 * RECORD - 1] {
            let error = parse(&valid[..length], Path::new("cut.bin"), 1, 10).expect_err("cut").to_string();
            assert!(error.contains("cut.bin") && error.contains(&format!("found {length} bytes")), "{error}");
        }
        let error =
            parse(&[record(&[0]), record(&[10])].concat(), Path::new("a"), 1, 10).expect_err("label 10").to_string();
        assert!(error.contains("expected labels 0 to 9, found 10 in record 1"), "{error}");
    }

    proptest! {
        #[test]
        fn parse_of_any_bytes_does_not_panic(
            mut file in prop::collection::vec(any::<u8>(), 0..3 * RECORD), whole: bool, labels in 1..3usize
        ) {
            if whole {
                let record = RECORD - 1 + labels;
                file.truncate(file.len() / record * record);
            }
            let _ = parse(&file, Path::new("random"), labels, 100);
        }

        #[test]
        fn parse_of_a_mutated_file_does_not_panic(at in 0..2 * RECORD, byte: u8, length in 0..=2 * RECORD) {
            let mut file = [record(&[4]), record(&[7])].concat();
            file[at] = byte;
            let _ = parse(&file, Path::new("mutated"), 1, 10);
            let _ = parse(&file[..length], Path::new("mutated"), 1, 10);
        }
    }
}
