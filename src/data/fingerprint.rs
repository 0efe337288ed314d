//! What tells one data set from another: kept with a run, so that it goes on with the images it began with.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The most names that one sentence lists.
const LISTED: usize = 8;

/// A data set in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Where the images came from and which split they are: `data/mnist (train)`. A folder may move: two data sets that
    /// differ in this alone are the same.
    pub name: String,
    /// The number of images.
    pub images: usize,
    /// The name of each class in the order of the labels, or its number where it has no name; empty without labels.
    pub classes: Vec<String>,
    /// SHA-256 in hexadecimal. Of a folder of pictures: for each picture in order, its path from the folder on, a byte 0,
    /// its label (four bytes, little-endian) and the SHA-256 of its file. Of all other images: their pixels, then their
    /// labels, so that a file that was unpacked is the same.
    pub files_sha256: String,
}

impl Fingerprint {
    /// Reads one from JSON; `path` is for messages.
    ///
    /// # Errors
    /// Text that is no JSON of these fields.
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        let remedy = "remove it: images are then not compared with those of before";
        serde_json::from_str(text).map_err(|e| Error::file(path, format!("expected what was trained on: {e}"), remedy))
    }

    /// What changed from `self` to `now`, in words, or nothing if the images and their labels are the same.
    pub fn difference(&self, now: &Fingerprint) -> Option<String> {
        let mut changes = Vec::new();
        if self.classes != now.classes {
            let missing = |from: &[String], of: &[String]| -> Vec<String> {
                of.iter().filter(|name| !from.contains(name)).cloned().collect()
            };
            let (added, removed) = (missing(&self.classes, &now.classes), missing(&now.classes, &self.classes));
            changes.extend((!added.is_empty()).then(|| format!("new classes: {}", list(&added))));
            changes.extend((!removed.is_empty()).then(|| format!("classes that are gone: {}", list(&removed))));
            if added.is_empty() && removed.is_empty() {
                changes.push(format!("classes in another order: {}, not {}", list(&now.classes), list(&self.classes)));
            }
        }
        if self.images != now.images {
            changes.push(format!("{} images, not {}", now.images, self.images));
        }
        if changes.is_empty() && self.files_sha256 != now.files_sha256 {
            changes.push(format!("as many images as before, {}, but other files, names or labels", self.images));
        }
        (!changes.is_empty()).then(|| changes.join("; "))
    }
}

/// At most eight of the names, and how many they are.
pub(super) fn list(names: &[String]) -> String {
    let shown = names.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > LISTED { format!("{shown}, ... ({} in all)", names.len()) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(images: usize, classes: &[&str], files: &str) -> Fingerprint {
        let classes = classes.iter().map(ToString::to_string).collect();
        Fingerprint { name: "pets (train)".into(), images, classes, files_sha256: files.into() }
    }

    #[test]
    fn difference_says_what_changed_and_is_none_for_a_folder_that_only_moved() {
        let before = fingerprint(20, &["cat", "dog"], "a");
        let moved = Fingerprint { name: "elsewhere (train)".into(), ..before.clone() };
        assert_eq!(before.difference(&moved), None);
        let cases = [
            (fingerprint(21, &["cat", "dog"], "b"), "21 images, not 20"),
            (fingerprint(20, &["cat", "dog"], "b"), "as many images as before, 20, but other files, names or labels"),
            (fingerprint(20, &["dog", "cat"], "b"), "classes in another order: dog, cat, not cat, dog"),
            (fingerprint(20, &["cat", "hound"], "b"), "new classes: hound; classes that are gone: dog"),
            (fingerprint(25, &["ant", "cat", "dog"], "b"), "new classes: ant; 25 images, not 20"),
            (fingerprint(20, &[], "b"), "classes that are gone: cat, dog"),
        ];
        for (now, expected) in cases {
            assert_eq!(before.difference(&now).as_deref(), Some(expected));
        }
    }

    #[test]
    fn list_shows_eight_names_and_counts_the_rest() {
        let names: Vec<String> = (0..9).map(|i| i.to_string()).collect();
        assert_eq!(list(&names[..8]), "0, 1, 2, 3, 4, 5, 6, 7");
        assert_eq!(list(&names), "0, 1, 2, 3, 4, 5, 6, 7, ... (9 in all)");
    }

    #[test]
    fn fingerprint_survives_json() {
        let fingerprint = fingerprint(3, &["a"], "c");
        let json = serde_json::to_string(&fingerprint).expect("JSON");
        assert_eq!(serde_json::from_str::<Fingerprint>(&json).expect("its own"), fingerprint);
    }
}
