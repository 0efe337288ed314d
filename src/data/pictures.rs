//! A folder of PNG and JPEG files, by the extensions `.png`, `.jpg`, `.jpeg` in either case.
//!
//! ```text
//! photos/*.png                          images without labels; every tenth is kept for validation
//! photos/<class>/*.png                  the same, with a label each
//! photos/train/..., photos/validation/...   either of these, split as the two folders say
//! ```
//!
//! Files and classes are in the order of their names' bytes, never in the folder's own. Classes are numbered from 0.
//! "Every tenth" is file 9, 19, 29, ... (from 0) of the sorted files, the classes one after another. Other files, and
//! names that begin with a dot, are passed over. What happens to each picture is said in [`picture`].

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Dataset, Shape, Split, picture};
use crate::{Error, Result};

/// One image in this many is kept for validation where the folder does not say which.
const HELD_OUT: usize = 10;

const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// The pictures in `folder`, decoded in parallel and brought to `shape`.
///
/// # Errors
/// If the folder has no picture for the split, mixes pictures and sub-folders, or nests them deeper than classes; if
/// only one of `train` and `validation` is there, or their classes differ; or if a picture cannot be decoded (of
/// several, the first in order is named).
pub fn load(folder: &Path, split: Split, shape: Shape) -> Result<Dataset> {
    let Listing { files, classes } = list_split(folder, split)?;
    let size = files.len().saturating_mul(shape.elements());
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(size).map_err(|_| {
        let problem = format!("expected pictures that fit into memory, found {} of {shape}, {size} bytes", files.len());
        Error::file(folder, problem, "give fewer pictures, or a model for smaller ones")
    })?;
    pixels.resize(size, 0);
    let outcomes: Vec<Result<()>> = pixels
        .par_chunks_exact_mut(shape.elements())
        .zip(&files)
        .map(|(image, (path, _))| {
            image.copy_from_slice(&picture::decode(&super::read(path)?, path, shape)?);
            Ok(())
        })
        .collect();
    outcomes.into_iter().collect::<Result<()>>()?;

    let dataset = Dataset::new(super::name(folder, split), shape, pixels);
    Ok(if classes.is_empty() {
        dataset
    } else {
        dataset.with_labels(files.into_iter().map(|(_, class)| class).collect(), classes.len())
    })
}

/// Pictures in order, each with its class; no classes where the pictures have no labels.
struct Listing {
    files: Vec<(PathBuf, u32)>,
    classes: Vec<PathBuf>,
}

fn list_split(folder: &Path, split: Split) -> Result<Listing> {
    let [train, validation] = ["train", "validation"].map(|name| folder.join(name));
    match (train.is_dir(), validation.is_dir()) {
        (false, false) => hold_out(list(folder)?, folder, split),
        (true, true) => {
            let (train, validation) = (list(&train)?, list(&validation)?);
            let names = |listing: &Listing| -> Vec<_> {
                listing.classes.iter().filter_map(|class| class.file_name().map(OsStr::to_owned)).collect()
            };
            let (expected, found) = (names(&train), names(&validation));
            if expected != found {
                let problem = format!("expected the classes of `train` in `validation`: {expected:?}, found {found:?}");
                return Err(Error::file(folder, problem, "give both folders the same sub-folders"));
            }
            Ok(match split {
                Split::Train => train,
                Split::Validation => validation,
            })
        }
        (has_train, _) => {
            let (there, missing) = if has_train { ("train", "validation") } else { ("validation", "train") };
            let problem = format!("expected the sub-folder `{missing}` beside `{there}`, found only `{there}`");
            Err(Error::file(folder, problem, format!("add `{missing}`; or rename `{there}` if it is a class")))
        }
    }
}

fn hold_out(listing: Listing, folder: &Path, split: Split) -> Result<Listing> {
    let found = listing.files.len();
    let is_held_out = |i: usize| i % HELD_OUT == HELD_OUT - 1;
    let files = listing.files.into_iter().enumerate();
    let files: Vec<_> =
        files.filter(|(i, _)| is_held_out(*i) == (split == Split::Validation)).map(|(_, f)| f).collect();
    if files.is_empty() {
        return Err(Error::file(
            folder,
            format!("expected at least {HELD_OUT} pictures, of which one is kept for validation, found {found}"),
            "add pictures; or put them into the sub-folders `train` and `validation`",
        ));
    }
    Ok(Listing { files, classes: listing.classes })
}

/// The pictures in a folder, or in the classes that are its sub-folders.
fn list(folder: &Path) -> Result<Listing> {
    let (pictures, classes) = entries(folder)?;
    if classes.is_empty() {
        some_pictures(folder, &pictures)?;
        return Ok(Listing { files: pictures.into_iter().map(|path| (path, 0)).collect(), classes });
    }
    if let Some(picture) = pictures.first() {
        return Err(Error::file(
            picture,
            "expected pictures or sub-folders that are classes, found both",
            "move it into the sub-folder that is its class, or move the sub-folders away",
        ));
    }
    let mut files = Vec::new();
    for (class, sub_folder) in (0..).zip(&classes) {
        let (pictures, deeper) = entries(sub_folder)?;
        if let Some(deeper) = deeper.first() {
            let problem = format!("expected only pictures in the class {}, found a folder", sub_folder.display());
            return Err(Error::file(deeper, problem, "move its pictures up, or move it away"));
        }
        some_pictures(sub_folder, &pictures)?;
        files.extend(pictures.into_iter().map(|path| (path, class)));
    }
    Ok(Listing { files, classes })
}

fn some_pictures(folder: &Path, pictures: &[PathBuf]) -> Result<()> {
    if pictures.is_empty() {
        let problem = "expected pictures that end in .png, .jpg or .jpeg, found none";
        return Err(Error::file(folder, problem, "put pictures there, or give another folder"));
    }
    Ok(())
}

/// The pictures and the sub-folders in a folder, each sorted by name.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let unreadable = |cause| Error::io(folder, "read", &cause);
    let (mut pictures, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if path.is_dir() {
            folders.push(path);
        } else if path.is_file() && path.extension().is_some_and(is_picture) {
            pictures.push(path);
        }
    }
    pictures.sort_unstable();
    folders.sort_unstable();
    Ok((pictures, folders))
}

fn is_picture(extension: &OsStr) -> bool {
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use image::GrayImage;
    use tempfile::TempDir;

    use super::*;

    const SHAPE: Shape = Shape { height: 2, width: 3, channels: 1 };

    /// A temporary folder with one-coloured pictures: (path, grey level).
    fn folder(pictures: &[(&str, u8)]) -> TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for &(name, level) in pictures {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            let png = GrayImage::from_pixel(6, 4, image::Luma([level]));
            png.save_with_format(path, image::ImageFormat::Png).expect("a picture");
        }
        folder
    }

    fn load(folder: &TempDir, split: Split) -> Result<Dataset> {
        crate::data::load(folder.path(), split, SHAPE)
    }

    fn levels(dataset: &Dataset) -> Vec<u8> {
        (0..dataset.len()).map(|i| dataset.image(i)[0]).collect()
    }

    fn problem(folder: &TempDir, split: Split) -> String {
        load(folder, split).expect_err("not loadable").to_string()
    }

    #[test]
    fn pictures_are_sorted_by_name_and_other_files_passed_over() {
        let folder = folder(&[("b.PNG", 2), ("c.jpeg", 3), ("a.png", 1), ("B.png", 0), (".hidden.png", 9)]);
        std::fs::write(folder.path().join("notes.txt"), "not a picture").expect("a file");
        let train = load(&folder, Split::Train).expect("valid");
        assert_eq!((levels(&train), train.classes()), (vec![0, 1, 2, 3], None));
        assert_eq!(train.image(3), [3; 6]);
        assert!(problem(&folder, Split::Validation).contains("expected at least 10 pictures"));
    }

    #[test]
    fn every_tenth_picture_is_held_out_and_never_trained_on() {
        let names: Vec<String> = (0..21).map(|i| format!("{i:02}.png")).collect();
        let pictures: Vec<(&str, u8)> = names.iter().map(String::as_str).zip(0..).collect();
        let folder = folder(&pictures);
        assert_eq!(levels(&load(&folder, Split::Validation).expect("valid")), [9, 19]);
        let rest: Vec<u8> = (0..21).filter(|i| i % 10 != 9).collect();
        assert_eq!(levels(&load(&folder, Split::Train).expect("valid")), rest);
    }

    #[test]
    fn sub_folders_are_classes_in_the_order_of_their_names() {
        let folder = folder(&[("dog/a.png", 5), ("cat/z.png", 7), ("cat/y.png", 6)]);
        let train = load(&folder, Split::Train).expect("valid");
        assert_eq!((levels(&train), train.classes()), (vec![6, 7, 5], Some(2)));
        assert_eq!(train.labels_of(&[0, 1, 2]), Some(vec![0, 0, 1]));
    }

    #[test]
    fn train_and_validation_folders_are_the_split_and_must_agree_on_classes() {
        let both = folder(&[("train/dog/a.png", 1), ("train/cat/b.png", 2), ("validation/dog/c.png", 3)]);
        assert!(problem(&both, Split::Train).contains(r#"["cat", "dog"], found ["dog"]"#));
        std::fs::create_dir(both.path().join("validation/cat")).expect("a folder");
        assert!(problem(&both, Split::Train).contains("found none"), "an empty class");
        std::fs::copy(both.path().join("train/cat/b.png"), both.path().join("validation/cat/b.png")).expect("a copy");
        assert_eq!(levels(&load(&both, Split::Train).expect("valid")), [2, 1]);
        assert_eq!(levels(&load(&both, Split::Validation).expect("valid")), [2, 3]);

        let flat = folder(&[("train/a.png", 1), ("validation/b.png", 2)]);
        assert_eq!(load(&flat, Split::Validation).expect("valid").classes(), None);
        let alone = folder(&[("train/a.png", 1)]);
        assert!(problem(&alone, Split::Train).contains("`validation` beside `train`"));
    }

    #[test]
    fn folders_that_are_empty_mixed_or_too_deep_are_errors() {
        assert!(problem(&folder(&[]), Split::Train).contains("found none"));
        assert!(problem(&folder(&[("a.png", 1), ("cat/b.png", 2)]), Split::Train).contains("found both"));
        assert!(problem(&folder(&[("cat/b.png", 1), ("cat/more/c.png", 2)]), Split::Train).contains("found a folder"));
    }

    #[test]
    fn of_several_broken_pictures_the_first_by_name_is_named() {
        let folder = folder(&[("a.png", 1), ("d.png", 2)]);
        std::fs::write(folder.path().join("c.jpg"), b"GIF89a, not a JPEG").expect("a file");
        std::fs::write(folder.path().join("b.png"), b"").expect("a file");
        let error = problem(&folder, Split::Train);
        assert!(error.contains("b.png") && error.contains("found neither's first bytes"), "{error}");
    }
}
