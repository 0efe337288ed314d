//! CIFAR-100 (Krizhevsky 2009): 32x32 colour images in a hundred classes, in the binary files of
//! [`cifar`](super::cifar).
//!
//! Training images are `train.bin`, validation images `test.bin`. The fine labels count; their names are the lines of
//! `fine_label_names.txt`, if it is there.

use std::path::Path;

use super::cifar::{SHAPE, parse};
use super::{Dataset, Shape, Split};
use crate::{Error, Result};

/// The number of classes.
pub const CLASSES: usize = 100;

/// Where the files may lie from the folder that a user gives: as the archives unpack, too.
pub(super) const FOLDERS: [&str; 3] = ["", "cifar-100-binary", "cifar-100-python"];

const NAMES: &str = "fine_label_names.txt";

/// Turns the files of the Python version into those of the binary version, byte for byte.
const PYTHON: &str = "\
    import pickle
    for name in [\"train\", \"test\"]:
        part = pickle.load(open(name, \"rb\"), encoding=\"bytes\")
        labels = zip(part[b\"coarse_labels\"], part[b\"fine_labels\"])
        records = [bytes(two) + pixels.tobytes() for two, pixels in zip(labels, part[b\"data\"])]
        open(name + \".bin\", \"wb\").write(b\"\".join(records))
    names = pickle.load(open(\"meta\", \"rb\"))[\"fine_label_names\"]
    open(\"fine_label_names.txt\", \"w\").write(\"\\n\".join(names) + \"\\n\")";

/// Whether `folder` has CIFAR-100's files, of the binary or of the Python version.
pub fn is_in(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has("train.bin") && (has("test.bin") || has(NAMES)) || has_pickles(folder)
}

fn has_pickles(folder: &Path) -> bool {
    ["train", "test", "meta"].iter().all(|name| folder.join(name).is_file())
}

/// The images and fine labels in `folder`.
///
/// # Errors
/// If `shape` is not 32x32x3, or a file is missing or damaged. The Python version's files are not read, as those of
/// [`cifar10`](super::cifar10::load).
pub fn load(folder: &Path, split: Split, shape: Shape) -> Result<Dataset> {
    if has_pickles(folder) && !folder.join("train.bin").is_file() {
        let problem = "expected CIFAR-100's binary version, found its Python version (pickles)";
        return Err(Error::file(folder, problem, super::foreign::python("run this in the folder", PYTHON)));
    }
    if shape != SHAPE {
        return Err(super::wrong_shape(folder, SHAPE, shape));
    }
    let path = folder.join(match split {
        Split::Train => "train.bin",
        Split::Validation => "test.bin",
    });
    let (pixels, labels) = parse(&super::read(&path)?, &path, 2, CLASSES)?;
    let data = Dataset::new(super::name(folder, split), SHAPE, pixels)?.with_labels(labels, CLASSES)?;
    let path = folder.join(NAMES);
    if !path.is_file() {
        let note = format!("{}: not there, so the classes have no names", path.display());
        return Ok(data.with_notes(vec![note]));
    }
    let text = String::from_utf8_lossy(&super::read(&path)?).into_owned();
    let names: Vec<String> = text.lines().map(|line| line.trim().to_string()).filter(|name| !name.is_empty()).collect();
    if names.len() != CLASSES {
        let problem = format!("expected {CLASSES} lines, one name each, found {}", names.len());
        return Err(Error::file(&path, problem, "unpack cifar-100-binary.tar.gz again"));
    }
    data.with_class_names(names)
}

#[cfg(test)]
mod tests {
    use super::super::cifar::tests::record;
    use super::*;

    #[test]
    fn load_takes_the_fine_label_and_its_name() {
        let data = tempfile::tempdir().expect("a temporary folder");
        let folder = data.path().join("cifar-100-binary");
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("train.bin"), [record(&[1, 99]), record(&[19, 0])].concat()).expect("a file");
        std::fs::write(folder.join("test.bin"), record(&[2, 42])).expect("a file");
        let load = |split| crate::data::load(data.path(), split, SHAPE);
        let bare = load(Split::Validation).expect("valid");
        assert_eq!((bare.labels_of(&[0]), bare.class_names()), (Some(vec![42]), None));
        assert!(bare.notes()[0].contains("fine_label_names.txt: not there"), "{:?}", bare.notes());

        let names: String = (0..100).map(|class| format!("class {class}\r\n")).collect();
        std::fs::write(folder.join(NAMES), names + "\n").expect("a file");
        let train = load(Split::Train).expect("valid");
        assert_eq!((train.labels_of(&[0, 1]), train.classes()), (Some(vec![99, 0]), Some(100)));
        assert_eq!(train.class_names().map(|names| names[99].as_str()), Some("class 99"));
        std::fs::write(folder.join(NAMES), "apple\n").expect("a file");
        assert!(load(Split::Train).expect_err("one name").to_string().contains("expected 100 lines"));
    }

    #[test]
    fn pickles_are_named_with_the_lines_that_convert_them() {
        let data = tempfile::tempdir().expect("a temporary folder");
        ["train", "test", "meta"].iter().for_each(|name| std::fs::write(data.path().join(name), "").expect("a file"));
        let error = crate::data::load(data.path(), Split::Train, SHAPE).expect_err("pickles").to_string();
        assert!(error.contains("CIFAR-100's binary version") && error.contains("coarse_labels"), "{error}");
    }
}
