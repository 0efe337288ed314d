//! The idx format, plain or gzipped, of MNIST and its relatives (Fashion-MNIST, KMNIST, ...).
//!
//! An idx file is a magic number `00 00 08 d`, where 08 says unsigned bytes and d is the number of dimensions; d sizes,
//! each a big-endian u32; and the bytes, last dimension fastest. Images have d = 3 (count, rows, columns), labels 1.
//! Whether a file is gzipped is told from its first bytes, not from its name, since downloads are often unpacked on
//! their way under the same name.

use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::{Error, Result};

/// Deflate never makes more than this many bytes out of one: 258 for a copy of two bits.
const DEFLATE_RATIO: usize = 1032;

/// Images as an idx file holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// How many, at least 1.
    pub count: usize,
    /// Rows of each, at least 1.
    pub height: usize,
    /// Columns of each, at least 1.
    pub width: usize,
    /// (count, height, width), 0 (background) to 255.
    pub pixels: Vec<u8>,
}

/// The images of one idx file, plain or gzipped; `path` is for messages.
///
/// # Errors
/// If the bytes are not exactly such a file.
pub fn parse_images(file: &[u8], path: &Path) -> Result<Images> {
    let ([count, height, width], pixels) = parse(file, path)?;
    Ok(Images { count, height, width, pixels })
}

/// The labels of one idx file, plain or gzipped, each one of `expected`; `path` is for messages.
///
/// # Errors
/// If the bytes are not exactly such a file, or a label is not one of `expected`.
pub fn parse_labels(file: &[u8], path: &Path, expected: RangeInclusive<u8>) -> Result<Vec<u32>> {
    let ([_], labels) = parse(file, path)?;
    if let Some(i) = labels.iter().position(|label| !expected.contains(label)) {
        let (first, last) = expected.into_inner();
        let problem = format!("expected labels {first} to {last}, found {} for image {i} (from 0)", labels[i]);
        return Err(damaged(path, problem));
    }
    Ok(labels.into_iter().map(u32::from).collect())
}

/// The sizes and the bytes of an idx file with `D` dimensions.
fn parse<const D: usize>(file: &[u8], path: &Path) -> Result<([usize; D], Vec<u8>)> {
    if !file.starts_with(&[0x1f, 0x8b]) {
        return parse_stream(&mut &file[..], file.len(), path);
    }
    let mut unpacked = GzDecoder::new(file);
    let parsed = parse_stream(&mut unpacked, file.len().saturating_mul(DEFLATE_RATIO), path)?;
    match unpacked.into_inner().len() {
        0 => Ok(parsed),
        rest => {
            Err(damaged(path, format!("expected the end of the file after the gzip stream, found {rest} bytes more")))
        }
    }
}

/// Reads a stream to its end, which cannot be longer than `longest` bytes.
fn parse_stream<const D: usize>(stream: &mut impl Read, longest: usize, path: &Path) -> Result<([usize; D], Vec<u8>)> {
    let unreadable =
        |cause: io::Error| damaged(path, format!("expected an idx file, cannot read it to its end: {cause}"));

    let mut magic = [0; 4];
    stream.read_exact(&mut magic).map_err(unreadable)?;
    let expected_magic = [0, 0, 8, D as u8];
    if magic != expected_magic {
        return Err(damaged(
            path,
            format!("expected an idx file that begins {expected_magic:02x?}, found {magic:02x?}"),
        ));
    }

    let mut sizes = [0; D];
    for size in &mut sizes {
        let mut word = [0; 4];
        stream.read_exact(&mut word).map_err(unreadable)?;
        *size = u32::from_be_bytes(word) as usize;
    }
    let length = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let Some(length) = length.filter(|length| (1..=longest).contains(length)) else {
        return Err(damaged(path, format!("expected sizes that the file has room for, found {sizes:?}")));
    };

    let mut bytes = Vec::new();
    stream.take(length as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() != length {
        let found = if bytes.len() < length { format!("{}", bytes.len()) } else { "more".into() };
        return Err(damaged(path, format!("expected {length} bytes after the sizes {sizes:?}, found {found}")));
    }
    Ok((sizes, bytes))
}

fn damaged(path: &Path, problem: String) -> Error {
    Error::file(path, problem, "it is damaged, or not what its name says: fetch it again")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    /// Two images of 2 rows and 3 columns: 1 to 12.
    fn images() -> Vec<u8> {
        [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3][..], &Vec::from_iter(1..=12)].concat()
    }

    fn labels(labels: &[u8]) -> Vec<u8> {
        [&[0, 0, 8, 1, 0, 0, 0, labels.len() as u8][..], labels].concat()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory")
    }

    fn problem<T: std::fmt::Debug>(parsed: Result<T>) -> String {
        parsed.expect_err("damaged").to_string()
    }

    #[test]
    fn parse_of_plain_and_gzipped_files_agrees() {
        let expected = Images { count: 2, height: 2, width: 3, pixels: (1..=12).collect() };
        assert_eq!(parse_images(&images(), Path::new("a")).expect("valid"), expected);
        assert_eq!(parse_images(&gzip(&images()), Path::new("a.gz")).expect("valid"), expected);
        assert_eq!(parse_labels(&labels(&[9, 0]), Path::new("l"), 0..=9).expect("valid"), [9, 0]);
    }

    #[test]
    fn parse_of_a_file_cut_anywhere_is_an_error_that_names_it() {
        for whole in [images(), gzip(&images())] {
            for length in 0..whole.len() {
                let error = problem(parse_images(&whole[..length], Path::new("cut")));
                assert!(error.starts_with("cut: expected"), "{length}: {error}");
            }
        }
    }

    #[test]
    fn parse_of_a_file_with_bytes_too_many_is_an_error() {
        let long = [images(), vec![0]].concat();
        assert!(problem(parse_images(&long, Path::new("a"))).contains("expected 12 bytes"));
        assert!(problem(parse_images(&gzip(&long), Path::new("a"))).contains("found more"));
        let trailing = [gzip(&images()), vec![1, 2, 3]].concat();
        assert!(problem(parse_images(&trailing, Path::new("a"))).contains("found 3 bytes more"));
        let two_streams = [gzip(&images()), gzip(&[13])].concat();
        assert!(problem(parse_images(&two_streams, Path::new("a"))).contains("bytes more"));
    }

    #[test]
    fn parse_of_a_header_that_claims_too_much_or_nothing_allocates_nothing() {
        let header = |sizes: [u32; 3]| [vec![0, 0, 8, 3], sizes.map(u32::to_be_bytes).concat()].concat();
        for sizes in [[u32::MAX; 3], [u32::MAX, u32::MAX, 0], [0, 28, 28], [u32::MAX, 1, 1], [1 << 16, 1 << 16, 1]] {
            for file in [header(sizes), gzip(&header(sizes))] {
                let error = problem(parse_images(&file, Path::new("a")));
                assert!(error.contains("that the file has room for"), "{error}");
            }
        }
        let bomb = [header([1, 2, 2]), vec![0; 1 << 20]].concat();
        assert!(problem(parse_images(&gzip(&bomb), Path::new("a"))).contains("expected 4 bytes"));
    }

    #[test]
    fn parse_of_a_wrong_magic_or_checksum_is_an_error() {
        assert!(problem(parse_images(&labels(&[1, 2]), Path::new("a"))).contains("found [00, 00, 08, 01]"));
        assert!(problem(parse_labels(&images(), Path::new("a"), 0..=9)).contains("begins [00, 00, 08, 01]"));
        let mut wrong = gzip(&images());
        let checksum = wrong.len() - 8;
        wrong[checksum] ^= 1;
        assert!(problem(parse_images(&wrong, Path::new("a"))).contains("cannot read"));
    }

    #[test]
    fn labels_out_of_range_are_an_error_that_says_which() {
        let problem = |expected| problem(parse_labels(&labels(&[1, 9, 10]), Path::new("a"), expected));
        assert!(problem(0..=9).contains("expected labels 0 to 9, found 10 for image 2"));
        assert!(problem(2..=26).contains("expected labels 2 to 26, found 1 for image 0"));
    }

    proptest! {
        #[test]
        fn parse_of_any_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), gz: bool) {
            let file = if gz { gzip(&bytes) } else { bytes };
            let _ = parse_images(&file, Path::new("random"));
            let _ = parse_labels(&file, Path::new("random"), 1..=26);
        }

        #[test]
        fn parse_of_a_mutated_file_does_not_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), gz: bool, inside: bool
        ) {
            let mut file = if gz && !inside { gzip(&images()) } else { images() };
            for (at, byte) in changes {
                let at = at.index(file.len());
                file[at] = byte;
            }
            let file = if gz && inside { gzip(&file) } else { file };
            let _ = parse_images(&file, Path::new("mutated"));
        }
    }
}
