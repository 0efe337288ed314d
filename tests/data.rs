//! Pictures as other programs write them, and folders as other programs lay them out.

use std::path::{Path, PathBuf};

use ancestral::data::{self, Shape, Split, picture};

const SHAPE: Shape = Shape { height: 7, width: 11, channels: 3 };

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data").join(name)
}

fn decode(name: &str) -> ancestral::Result<picture::Picture> {
    let path = fixture(name);
    picture::decode(&std::fs::read(&path).expect("a fixture"), &path, SHAPE)
}

/// Decodes the file and the PNG of what Pillow read from it; returns the largest difference of two bytes.
fn difference_from_pillow(name: &str) -> u8 {
    let found = decode(name).unwrap_or_else(|error| panic!("{name}: {error}")).pixels;
    let expected = decode(&format!("{name}.expected.png")).expect("a PNG").pixels;
    found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().expect("pixels")
}

#[test]
fn pictures_of_every_format_have_the_pixels_that_pillow_reads() {
    let exact = ["lossless.webp", "palette.bmp", "true.bmp", "lzw.tif", "deflate.tif", "fax.tif", "lossy.webp"];
    for name in exact {
        assert_eq!(difference_from_pillow(name), 0, "{name}");
    }
    // Ink to light is (255 - c)(255 - k) / 255 in both, rounded differently; a JPEG's cosines are rounded before that, and in
    // YCCK its colours.
    for (name, most) in [("cmyk.tif", 1), ("cmyk.jpg", 2), ("ycck.jpg", 3)] {
        assert!(difference_from_pillow(name) <= most, "{name}: {}", difference_from_pillow(name));
    }
}

#[test]
fn the_first_frame_is_read_and_more_frames_are_said() {
    for name in ["animated.webp", "animated.gif", "pages.tif"] {
        assert_eq!(difference_from_pillow(name), 0, "{name}");
        assert!(decode(name).expect("valid").has_more_frames, "{name}");
    }
    for name in ["lossless.webp", "lzw.tif", "true.bmp"] {
        assert!(!decode(name).expect("valid").has_more_frames, "{name}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["animated.gif", "lzw.tif"] {
        std::fs::copy(fixture(name), folder.path().join(name)).expect("a copy");
    }
    let data = data::load(folder.path(), Split::Train, SHAPE).expect("valid");
    assert!(
        data.notes().iter().any(|note| note.ends_with("the first one is read: animated.gif")),
        "{:?}",
        data.notes()
    );
}

#[test]
fn pictures_that_cannot_be_read_as_they_are_meant_are_errors_that_say_why() {
    let cases = [
        ("deep.tif", "expected 8 bits a channel, found 16"),
        ("deep.png", "expected 8 bits a channel, found 16"),
        ("alpha.webp", "found a transparent one in row 1, column 4"),
        ("keyed_grey.png", "found a transparent one in row"),
        ("keyed_palette.png", "found a transparent one in row"),
        ("palette.tif", "of a kind that can be read"),
    ];
    for (name, expected) in cases {
        let error = decode(name).expect_err("refused").to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
    }
}

#[test]
fn torchvision_folders_are_found_and_the_plain_file_comes_before_the_packed_one() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let raw = root.path().join("FashionMNIST/raw");
    std::fs::create_dir_all(&raw).expect("a folder");
    let images = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4];
    for split in ["train", "t10k"] {
        std::fs::write(raw.join(format!("{split}-images-idx3-ubyte")), images).expect("a file");
        std::fs::write(raw.join(format!("{split}-images-idx3-ubyte.gz")), b"not read").expect("a file");
        std::fs::write(raw.join(format!("{split}-labels-idx1-ubyte")), [0, 0, 8, 1, 0, 0, 0, 1, 9]).expect("a file");
    }
    let shape = Shape { height: 2, width: 2, channels: 1 };
    for folder in [root.path(), &root.path().join("FashionMNIST"), &raw] {
        for split in [Split::Train, Split::Validation] {
            let data = data::load(folder, split, shape).expect("found");
            assert_eq!((data.bytes(0), data.label(0)), (Some(&[1, 2, 3, 4][..]), Some(9)));
            assert_eq!(data.class_names().map(|names| names[9].as_str()), Some("Ankle boot"));
        }
    }
}
