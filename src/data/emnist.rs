//! EMNIST (Cohen et al. 2017): handwritten letters and digits, 28x28 grey, in six selections.
//!
//! The files are MNIST's with the selection in their names: `emnist-letters-train-images-idx3-ubyte`, and `test` for
//! `t10k`. Images are stored transposed, columns first; they are turned upright here. The labels of `letters` begin at
//! 1; they are counted from 0 here.

use std::path::Path;

use super::idx::{self, Images};
use super::{Dataset, Shape, Split, mnist};
use crate::{Error, Result};

/// A part of EMNIST: its name in the files' names, its smallest label, and one character for each class.
struct Selection {
    name: &'static str,
    first_label: u8,
    classes: &'static str,
}

const ALL: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Without the small letters that look like their capitals.
const MERGED: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt";

const SELECTIONS: [Selection; 6] = [
    Selection { name: "balanced", first_label: 0, classes: MERGED },
    Selection { name: "byclass", first_label: 0, classes: ALL },
    Selection { name: "bymerge", first_label: 0, classes: MERGED },
    Selection { name: "digits", first_label: 0, classes: "0123456789" },
    Selection { name: "letters", first_label: 1, classes: "abcdefghijklmnopqrstuvwxyz" },
    Selection { name: "mnist", first_label: 0, classes: "0123456789" },
];

/// Where the files may lie from the folder that a user gives.
pub(super) const FOLDERS: [&str; 6] = ["", "EMNIST/raw", "EMNIST/raw/gzip", "raw", "raw/gzip", "gzip"];

/// Whether `folder` has files of any selection.
pub fn is_in(folder: &Path) -> bool {
    SELECTIONS.iter().any(|selection| selection.is_in(folder))
}

/// Whether `path` is no file or folder but names one selection in a folder, such as `data/EMNIST/raw/emnist-letters`.
pub(super) fn is_named_by(path: &Path) -> bool {
    !path.exists() && named(path).is_some()
}

/// The images and labels of the one selection in `folder`, or of the one that `folder` names as its last part:
/// `data/EMNIST/raw/emnist-letters`. Borders as [`mnist::load`] adds them.
///
/// # Errors
/// If there are several selections to choose from, a file is missing or damaged, the counts of images and labels differ,
/// or `shape` cannot be reached with a border.
pub fn load(folder: &Path, split: Split, shape: Shape) -> Result<Dataset> {
    let (folder, selection) = if let Some((parent, selection)) = named(folder) {
        (parent, selection)
    } else {
        let found: Vec<&Selection> = SELECTIONS.iter().filter(|selection| selection.is_in(folder)).collect();
        match found[..] {
            [selection] => (folder, selection),
            _ => return Err(several(folder, &found)),
        }
    };
    selection.load(folder, split, shape)
}

fn several(folder: &Path, found: &[&Selection]) -> Error {
    let names: Vec<&str> = found.iter().map(|selection| selection.name).collect();
    let problem = format!("expected files of one part of EMNIST, found those of {}: {}", names.len(), names.join(", "));
    let example = folder.join(format!("emnist-{}", names.last().unwrap_or(&"letters")));
    Error::file(folder, problem, format!("name one, for example: {}", example.display()))
}

/// The folder and the selection that `path` names.
fn named(path: &Path) -> Option<(&Path, &'static Selection)> {
    let (folder, name) = (path.parent()?, path.file_name()?.to_str()?);
    let selection = SELECTIONS.iter().find(|selection| name == format!("emnist-{}", selection.name))?;
    selection.is_in(folder).then_some((folder, selection))
}

impl Selection {
    fn prefix(&self, split: Split) -> String {
        let split = match split {
            Split::Train => "train",
            Split::Validation => "test",
        };
        format!("emnist-{}-{split}", self.name)
    }

    fn is_in(&self, folder: &Path) -> bool {
        mnist::find(folder, &self.prefix(Split::Train), "images", 3).is_ok()
    }

    fn load(&self, folder: &Path, split: Split, shape: Shape) -> Result<Dataset> {
        let prefix = self.prefix(split);
        let images_path = mnist::find(folder, &prefix, "images", 3)?;
        let labels_path = mnist::find(folder, &prefix, "labels", 1)?;
        let images = upright(&idx::parse_images(&super::read(&images_path)?, &images_path)?);
        let expected = self.first_label..=self.first_label + self.classes.len() as u8 - 1;
        let mut labels = idx::parse_labels(&super::read(&labels_path)?, &labels_path, expected)?;
        mnist::same_counts((&images, &images_path), (&labels, &labels_path))?;
        labels.iter_mut().for_each(|label| *label -= u32::from(self.first_label));

        let name = super::name(&folder.join(format!("emnist-{}", self.name)), split);
        let mut notes = vec![format!("{name}: images are stored transposed; they were turned upright")];
        if self.first_label > 0 {
            notes.push(format!("{name}: labels begin at {} in the files; they are counted from 0", self.first_label));
        }
        Dataset::new(name, shape, mnist::pad(&images, folder, shape)?)?
            .with_notes(notes)
            .with_labels(labels, self.classes.len())?
            .with_class_names(self.classes.chars().map(String::from).collect())
    }
}

/// Rows for columns.
fn upright(images: &Images) -> Images {
    let Images { count, height, width, .. } = *images;
    let size = height * width;
    let transposed = images.pixels.chunks_exact(size);
    let pixels = transposed.flat_map(|image| (0..size).map(move |p| image[p % height * width + p / height])).collect();
    Images { count, height: width, width: height, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { height: 3, width: 2, channels: 1 };

    /// Writes images of 2 stored rows and 3 stored columns, and their labels.
    fn write(folder: &Path, prefix: &str, labels: &[u8]) {
        let count = labels.len() as u8;
        let pixels = (1..=6 * count).collect::<Vec<_>>();
        let images = [&[0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 2, 0, 0, 0, 3], &pixels[..]].concat();
        let labels = [&[0, 0, 8, 1, 0, 0, 0, count], labels].concat();
        std::fs::write(folder.join(format!("{prefix}-images-idx3-ubyte")), images).expect("a file");
        std::fs::write(folder.join(format!("{prefix}-labels-idx1-ubyte")), labels).expect("a file");
    }

    #[test]
    fn letters_are_turned_upright_and_counted_from_zero_and_both_are_said() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(folder.path(), "emnist-letters-train", &[1, 26]);
        let letters = crate::data::load(folder.path(), Split::Train, SHAPE).expect("valid");
        assert_eq!(letters.bytes(0), Some(&[1, 4, 2, 5, 3, 6][..]));
        assert_eq!((letters.labels_of(&[0, 1]), letters.classes()), (Some(vec![0, 25]), Some(26)));
        assert_eq!(letters.class_names().map(|names| names[25].as_str()), Some("z"));
        let notes = letters.notes().join("\n");
        assert!(notes.contains("turned upright") && notes.contains("labels begin at 1"), "{notes}");

        write(folder.path(), "emnist-letters-train", &[0, 26]);
        let error = load(folder.path(), Split::Train, SHAPE).expect_err("label 0").to_string();
        assert!(error.contains("expected labels 1 to 26, found 0 for image 0"), "{error}");
    }

    #[test]
    fn several_selections_are_listed_and_one_can_be_named() {
        let data = tempfile::tempdir().expect("a temporary folder");
        let folder = data.path().join("EMNIST/raw");
        std::fs::create_dir_all(&folder).expect("a folder");
        write(&folder, "emnist-letters-train", &[1]);
        write(&folder, "emnist-balanced-train", &[46]);
        let error = crate::data::load(data.path(), Split::Train, SHAPE).expect_err("two").to_string();
        assert!(error.contains("found those of 2: balanced, letters") && error.contains("emnist-letters"), "{error}");
        let chosen = crate::data::load(&folder.join("emnist-balanced"), Split::Train, SHAPE).expect("named");
        assert_eq!((chosen.labels_of(&[0]), chosen.class_names().map(<[_]>::len)), (Some(vec![46]), Some(47)));
        assert_eq!(chosen.class_names().map(|names| names[46].as_str()), Some("t"));
    }
}
