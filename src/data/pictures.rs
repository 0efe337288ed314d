//! A folder of pictures, read into memory.
//!
//! Which files are read, as which class and for which split is said in `docs/data.md`; what happens to each one, in
//! [`picture`].

use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::fingerprint::list;
use super::folder::last_name;
use super::splits::{Listing, listing};
use super::{Dataset, Shape, Split, picture};
use crate::digest::hexadecimal;
use crate::{Error, Result};

/// The pictures in `folder`, decoded in parallel and brought to `shape`.
///
/// # Errors
/// If the folder has no picture for the split, mixes pictures and sub-folders, or nests them deeper than classes; if a
/// class is empty, or splits have different classes; or if a picture cannot be decoded (of several, the first in order is
/// named).
pub fn load(folder: &Path, split: Split, shape: Shape) -> Result<Dataset> {
    let Listing { files, classes, mut notes } = listing(folder, split)?;
    let size = files.len().saturating_mul(shape.elements());
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(size).map_err(|_| {
        let problem = format!("expected pictures that fit into memory, found {} of {shape}, {size} bytes", files.len());
        Error::file(folder, problem, "give fewer pictures, or a model for smaller ones")
    })?;
    pixels.resize(size, 0);
    let outcomes: Vec<Result<Read>> = pixels
        .par_chunks_exact_mut(shape.elements())
        .zip(&files)
        .map(|(image, (path, _))| {
            let file = super::read(path)?;
            let picture = picture::decode(&file, path, shape)?;
            image.copy_from_slice(&picture.pixels);
            Ok(Read {
                sha256: Sha256::digest(&file).into(),
                has_more_frames: picture.has_more_frames,
                is_colour: picture.is_colour,
            })
        })
        .collect();

    let mut hash = Sha256::new();
    let mut with_more = Vec::new();
    let mut colours = 0;
    for (outcome, (path, class)) in outcomes.into_iter().zip(&files) {
        let read = outcome?;
        hash.update(path.strip_prefix(folder).unwrap_or(path).as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(class.to_le_bytes());
        hash.update(read.sha256);
        colours += usize::from(read.is_colour);
        with_more.extend(read.has_more_frames.then(|| last_name(path)));
    }
    if !with_more.is_empty() {
        notes.push(format!("of pictures with several frames or pages the first one is read: {}", list(&with_more)));
    }

    if colours > 0 && shape.channels == 1 {
        notes.push(format!(
            "{colours} of {} pictures are in colour, and are read as grey, which the model takes: model.in_channels and \
             out_channels of 3 keep the colours",
            files.len()
        ));
    }

    let dataset = Dataset::new(super::name(folder, split), shape, pixels)?
        .with_notes(notes)
        .with_files_sha256(hexadecimal(&hash.finalize()));
    if classes.is_empty() {
        return Ok(dataset);
    }
    let labels = files.into_iter().map(|(_, class)| class).collect();
    dataset.with_labels(labels, classes.len())?.with_class_names(classes)
}

/// What is kept of a file beside its pixels.
struct Read {
    sha256: [u8; 32],
    has_more_frames: bool,
    is_colour: bool,
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
        (0..dataset.len()).map(|i| dataset.bytes(i).expect("bytes")[0]).collect()
    }

    fn problem(folder: &TempDir, split: Split) -> String {
        load(folder, split).expect_err("not loadable").to_string()
    }

    #[test]
    fn pictures_are_sorted_by_name_and_other_files_passed_over() {
        let folder =
            folder(&[("b.PNG", 2), ("c.jpeg", 3), ("a.png", 1), ("B.png", 0), ("d.TIFF", 4), (".hidden.png", 9)]);
        std::fs::write(folder.path().join("notes.txt"), "not a picture").expect("a file");
        let train = load(&folder, Split::Train).expect("valid");
        assert_eq!((levels(&train), train.classes()), (vec![0, 1, 2, 3], None));
        assert_eq!(train.bytes(3), Some(&[3; 6][..]));
        assert_eq!(train.notes()[0], format!("{}: 1 file is not read: 1 .txt", folder.path().display()));
    }

    #[test]
    fn colour_pictures_for_a_grey_model_are_said() {
        let folder = folder(&[("a.png", 1), ("c.png", 3)]);
        image::RgbImage::from_pixel(6, 4, image::Rgb([9, 8, 7])).save(folder.path().join("b.png")).expect("a picture");
        let notes = load(&folder, Split::Train).expect("valid").notes().join("\n");
        assert!(notes.contains("of 2 pictures are in colour, and are read as grey"), "{notes}");
        let colour = Shape { channels: 3, ..SHAPE };
        let notes = crate::data::load(folder.path(), Split::Train, colour).expect("valid").notes().join("\n");
        assert!(!notes.contains("in colour"), "{notes}");
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
        let folder = folder(&[("dog/a.png", 5), ("cat/z.png", 7), ("cat/y.png", 6), ("cat/x.png", 4)]);
        let train = load(&folder, Split::Train).expect("valid");
        assert_eq!((levels(&train), train.classes()), (vec![4, 6, 5], Some(2)));
        assert_eq!(train.labels_of(&[0, 1, 2]), Some(vec![0, 0, 1]));
    }

    #[test]
    fn train_and_validation_folders_are_the_split_and_must_agree_on_classes() {
        let both = folder(&[("train/dog/a.png", 1), ("train/cat/b.png", 2), ("validation/dog/c.png", 3)]);
        assert!(problem(&both, Split::Train).contains(r#"["cat", "dog"], found ["dog"]"#));
        std::fs::create_dir(both.path().join("validation/cat")).expect("a folder");
        assert!(problem(&both, Split::Train).contains("found an empty folder"), "an empty class");
        std::fs::copy(both.path().join("train/cat/b.png"), both.path().join("validation/cat/b.png")).expect("a copy");
        assert_eq!(levels(&load(&both, Split::Train).expect("valid")), [2, 1]);
        assert_eq!(levels(&load(&both, Split::Validation).expect("valid")), [2, 3]);

        let flat = folder(&[("train/a.png", 1), ("validation/b.png", 2)]);
        assert_eq!(load(&flat, Split::Validation).expect("valid").classes(), None);
        let alone = folder(&[("validation/a.png", 1)]);
        assert!(problem(&alone, Split::Train).contains("`train` beside `validation`"));
    }

    #[test]
    fn folders_that_are_empty_mixed_or_too_deep_are_errors() {
        assert!(problem(&folder(&[]), Split::Train).contains("found an empty folder"));
        assert!(problem(&folder(&[("a.png", 1), ("cat/b.png", 2)]), Split::Train).contains("found both"));
        assert!(problem(&folder(&[("cat/b.png", 1), ("cat/more/c.png", 2)]), Split::Train).contains("found a folder"));
    }

    #[test]
    fn of_several_broken_pictures_the_first_by_name_is_named() {
        let folder = folder(&[("a.png", 1), ("d.png", 2)]);
        std::fs::write(folder.path().join("c.jpg"), b"not a JPEG").expect("a file");
        std::fs::write(folder.path().join("b.png"), b"").expect("a file");
        let error = problem(&folder, Split::Train);
        assert!(error.contains("b.png") && error.contains("found other first bytes"), "{error}");
    }

    #[test]
    fn numbered_pictures_and_classes_are_in_natural_order() {
        let folder = folder(&[("10/1.png", 4), ("2/10.png", 3), ("2/9.png", 2), ("2/1.png", 1)]);
        let train = load(&folder, Split::Train).expect("valid");
        assert_eq!((levels(&train), train.labels_of(&[0, 1, 2])), (vec![1, 2, 4], Some(vec![0, 0, 1])));
        assert_eq!(train.class_names(), Some(&["2".to_string(), "10".to_string()][..]));
        assert_eq!(levels(&load(&folder, Split::Validation).expect("valid")), [3]);
    }

    #[test]
    fn hold_out_is_within_each_class_and_never_takes_its_only_picture() {
        let names: Vec<String> = (0..20).map(|i| format!("many/{i}.png")).collect();
        let mut pictures: Vec<(&str, u8)> = names.iter().map(String::as_str).zip(0..).collect();
        pictures.extend([("few/0.png", 100), ("few/1.png", 101), ("few/2.png", 102), ("rare/0.png", 200)]);
        let folder = folder(&pictures);
        let [train, held] = [Split::Train, Split::Validation].map(|split| load(&folder, split).expect("valid"));
        assert_eq!(levels(&held), [102, 9, 19]);
        assert_eq!(held.labels_of(&[0, 1, 2]), Some(vec![0, 1, 1]));
        assert_eq!((train.len(), train.label(20), levels(&train)[20]), (21, Some(2), 200));
        assert!(train.notes()[0].ends_with("3 of 24; none of classes with one picture: rare"), "{:?}", train.notes());
        assert_eq!(train.notes(), held.notes());
    }

    #[test]
    fn a_single_picture_is_trained_on_and_not_held_out() {
        let folder = folder(&[("a.png", 1)]);
        assert_eq!(levels(&load(&folder, Split::Train).expect("valid")), [1]);
        assert!(problem(&folder, Split::Validation).contains("expected two pictures or more"));
    }

    #[test]
    fn names_of_splits_are_splits_in_any_case_and_never_classes() {
        let pairs = [
            ["Train", "Validation"],
            ["training", "VAL"],
            ["TRAIN", "valid"],
            ["train", "Test"],
            ["Training", "testing"],
        ];
        let pictures = |names: [&str; 2]| {
            folder(&[(&format!("{}/cat/a.png", names[0]), 1), (&format!("{}/cat/b.png", names[1]), 2)])
        };
        for names in pairs {
            let folder = pictures(names);
            let [train, held] = [Split::Train, Split::Validation].map(|split| load(&folder, split).expect("valid"));
            assert_eq!((levels(&train), levels(&held), train.classes()), (vec![1], vec![2], Some(1)), "{names:?}");
            let is_test = names[1].to_lowercase().starts_with("test");
            assert_eq!(train.notes().iter().any(|note| note.contains("used for validation")), is_test, "{names:?}");
        }
        assert!(problem(&pictures(["train", "training"]), Split::Train).contains("found `train` and `training`"));
        assert!(problem(&pictures(["test", "val"]), Split::Train).contains("`train` beside `val`"));
        let inside = folder(&[("train/test/a.png", 1), ("train/cat/a.png", 1)]);
        assert!(problem(&inside, Split::Train).contains("found a folder that is named as a split"));
        let above = folder(&[("pets/train/a.png", 1)]);
        assert!(problem(&above, Split::Train).contains("pets itself"));
    }

    #[test]
    fn beside_splits_other_folders_are_noted_and_beside_train_alone_they_may_not_be_classes() {
        let three =
            folder(&[("train/a.png", 1), ("val/b.png", 2), ("test/c.png", 3), ("masks/d.png", 4), ("e.png", 5)]);
        let notes = load(&three, Split::Validation).expect("valid").notes().join("\n");
        for expected in ["folders not read: masks", "1 file is not read: 1 .png", "test: not read, "] {
            assert!(notes.contains(expected), "{notes}");
        }
        let alone = folder(&[("train/a.png", 1), ("train/b.png", 2)]);
        assert_eq!(levels(&load(&alone, Split::Validation).expect("held out")), [2]);
        let vehicles = folder(&[("train/a.png", 1), ("bus/b.png", 2)]);
        assert!(problem(&vehicles, Split::Train).contains("`train`, which names a split, beside pictures in `bus`"));
    }

    #[test]
    fn files_that_are_left_out_are_counted_by_the_reason_and_those_of_systems_are_not() {
        let folder = folder(&[("cat/a.png", 1), ("cat/b.png", 2), ("cat/.DS_Store", 0), ("cat/Thumbs.db", 0)]);
        for name in ["a.heic", "b.HEIC", "c.txt", "README"] {
            std::fs::write(folder.path().join("cat").join(name), "").expect("a file");
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink("nowhere", folder.path().join("cat/dead.png")).expect("a link");
        let notes = load(&folder, Split::Train).expect("valid").notes().to_vec();
        let (count, link) = if cfg!(unix) { (5, "1 dead link, ") } else { (4, "") };
        let expected = format!("{count} files are not read: 2 .heic, 1 .txt, {link}1 without an ending");
        assert!(notes[0].ends_with(&expected), "{notes:?}");
    }

    #[test]
    fn fingerprint_changes_with_names_classes_and_contents_and_not_with_the_place() {
        let pictures = [("cat/a.png", 1), ("cat/b.png", 2), ("dog/c.png", 3)];
        let of = |pictures: &[(&str, u8)]| load(&folder(pictures), Split::Train).expect("valid").fingerprint();
        let first = of(&pictures);
        assert_eq!(first.difference(&of(&pictures)), None);
        let changed = |at: usize, picture| {
            let mut pictures = pictures;
            pictures[at] = picture;
            first.difference(&of(&pictures)).expect("a difference")
        };
        assert_eq!(changed(2, ("cow/c.png", 3)), "new classes: cow; classes that are gone: dog");
        for changed in [changed(2, ("dog/d.png", 3)), changed(2, ("dog/c.png", 4))] {
            assert!(changed.contains("other files, names or labels"), "{changed}");
        }
    }
}
