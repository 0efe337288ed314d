//! Which pictures of a folder are for training and which for validation, and which class each is of.
//!
//! ```text
//! photos/*.png                              images without labels
//! photos/<class>/*.png                      images with one label each
//! photos/train/..., photos/validation/...   either of these, split as the two folders say
//! ```
//!
//! Names of folders that say which split they are, in either case: `train`, `training`; `validation`, `val`, `valid`;
//! `test`, `testing`. They are never classes. `test` serves as validation where there is no `validation`. Without
//! either, pictures are held out of those for training, each class for itself: every tenth, which is the 10th, the 20th,
//! ... in order; the last one of a class with 2 to 9 pictures; none of a class with one picture. Pictures without
//! classes are held out as one class.
//!
//! Files and classes are in natural order: 2 before 10, else by their names' bytes. Classes are numbered from 0.

use std::path::{Path, PathBuf};

use super::Split;
use super::fingerprint::list;
use super::folder::{Folder, last_name, left_out};
use super::foreign::some_pictures;
use crate::{Error, Result};

/// One image in this many is kept for validation where the folder does not say which.
const HELD_OUT: usize = 10;

const TRAIN: [&str; 2] = ["train", "training"];
const VALIDATION: [&str; 3] = ["validation", "val", "valid"];
const TEST: [&str; 2] = ["test", "testing"];

/// Pictures in order, each with its class; no classes where the pictures have no labels.
#[derive(Debug)]
pub(super) struct Listing {
    pub files: Vec<(PathBuf, u32)>,
    pub classes: Vec<String>,
    pub notes: Vec<String>,
}

/// The pictures of one split.
///
/// # Errors
/// If there is no picture for the split, pictures and classes are mixed, folders are nested deeper than classes, a class
/// is empty, splits have different classes, or it is not clear which folders are splits.
pub(super) fn listing(folder: &Path, split: Split) -> Result<Listing> {
    let root = Folder::read(folder)?;
    let [train, validation, test] = [named(&root, &TRAIN)?, named(&root, &VALIDATION)?, named(&root, &TEST)?];
    let Some(train) = train else {
        return match validation.or(test) {
            None => hold_out(classes(&root)?, folder, split),
            Some(alone) => {
                let alone = last_name(alone);
                let problem = format!("expected the sub-folder `train` beside `{alone}`, found only `{alone}`");
                Err(Error::file(folder, problem, format!("add `train`; or rename `{alone}` if it is a class")))
            }
        };
    };
    let held = validation.or(test);
    let mut notes = beside(&root, train, held)?;
    let training = classes(&Folder::read(train)?)?;
    let mut listing = match held {
        None => hold_out(training, folder, split)?,
        Some(held) => {
            let measured = classes(&Folder::read(held)?)?;
            same_classes(folder, (train, &training), (held, &measured))?;
            match (validation, test) {
                (Some(_), Some(test)) => {
                    notes.push(format!("{}: not read, {} is for validation", test.display(), held.display()))
                }
                (None, _) => {
                    notes.push(format!("{}: used for validation, since there is no `validation`", held.display()))
                }
                _ => {}
            }
            if split == Split::Train { training } else { measured }
        }
    };
    notes.append(&mut listing.notes);
    Ok(Listing { notes, ..listing })
}

/// The one sub-folder that has one of the `names`.
fn named<'a>(root: &'a Folder, names: &[&str]) -> Result<Option<&'a PathBuf>> {
    let mut found = root.folders.iter().filter(|path| is_one_of(path, names));
    let first = found.next();
    match (first, found.next()) {
        (Some(first), Some(second)) => {
            let problem = format!(
                "expected one sub-folder for one split, found `{}` and `{}`",
                last_name(first),
                last_name(second)
            );
            Err(Error::file(&root.path, problem, "put their pictures into one, or move one away"))
        }
        (first, _) => Ok(first),
    }
}

fn is_one_of(path: &Path, names: &[&str]) -> bool {
    names.iter().any(|name| last_name(path).eq_ignore_ascii_case(name))
}

fn is_split(path: &Path) -> bool {
    is_one_of(path, &TRAIN) || is_one_of(path, &VALIDATION) || is_one_of(path, &TEST)
}

/// What else lies beside the splits and is not read. Beside a lone `train`, folders of pictures could be classes.
fn beside(root: &Folder, train: &Path, held: Option<&PathBuf>) -> Result<Vec<String>> {
    let folders: Vec<&PathBuf> = root.folders.iter().filter(|path| !is_split(path)).collect();
    if held.is_none() {
        for path in &folders {
            if !Folder::read(path)?.pictures.is_empty() {
                let train = last_name(train);
                let problem = format!(
                    "expected splits or classes, found `{train}`, which names a split, beside pictures in `{}`",
                    last_name(path)
                );
                let remedy = format!("rename `{train}` if it is a class; or move the other folders away");
                return Err(Error::file(&root.path, problem, remedy));
            }
        }
    }
    let names: Vec<String> = folders.iter().map(|path| last_name(path)).collect();
    let folders = (!names.is_empty()).then(|| format!("{}: folders not read: {}", root.path.display(), list(&names)));
    let files = [root.pictures.as_slice(), &root.others].concat();
    Ok(folders.into_iter().chain(left_out(&root.path, &files)).collect())
}

fn same_classes(folder: &Path, train: (&Path, &Listing), held: (&Path, &Listing)) -> Result<()> {
    let (expected, found) = (&train.1.classes, &held.1.classes);
    if expected == found {
        return Ok(());
    }
    let (train, held) = (last_name(train.0), last_name(held.0));
    let problem = format!("expected the classes of `{train}` in `{held}`: {expected:?}, found {found:?}");
    let remedy = format!("give both the same sub-folders; or move `{held}` away, and a part of `{train}` is held out");
    Err(Error::file(folder, problem, remedy))
}

/// The pictures in a folder, or in the classes that are its sub-folders.
fn classes(folder: &Folder) -> Result<Listing> {
    let mut notes: Vec<String> = left_out(&folder.path, &folder.others).into_iter().collect();
    if folder.folders.is_empty() {
        let files = some_pictures(folder)?.iter().map(|path| (path.clone(), 0)).collect();
        return Ok(Listing { files, classes: Vec::new(), notes });
    }
    if let Some(picture) = folder.pictures.first() {
        return Err(Error::file(
            picture,
            "expected pictures or sub-folders that are classes, found both",
            "move it into the sub-folder that is its class, or move the sub-folders away",
        ));
    }
    let (mut files, mut others) = (Vec::new(), Vec::new());
    for (class, path) in (0..).zip(&folder.folders) {
        if is_split(path) {
            let problem = "expected classes, found a folder that is named as a split";
            return Err(Error::file(path, problem, "rename it if it is a class; splits come first, classes in them"));
        }
        let mut sub_folder = Folder::read(path)?;
        if let Some(deeper) = sub_folder.folders.first() {
            let problem = format!("expected only pictures in the class {}, found a folder", path.display());
            let remedy = if is_split(deeper) {
                format!("give the folder {} itself", path.display())
            } else {
                "move its pictures up, or move it away; or give the folder that holds the classes".into()
            };
            return Err(Error::file(deeper, problem, remedy));
        }
        files.extend(some_pictures(&sub_folder)?.iter().map(|picture| (picture.clone(), class)));
        others.append(&mut sub_folder.others);
    }
    notes.extend(left_out(&folder.path.join("*"), &others));
    Ok(Listing { files, classes: folder.folders.iter().map(|path| last_name(path)).collect(), notes })
}

/// Keeps the part of `listing` that is for `split`, by the rule of the module's documentation.
fn hold_out(listing: Listing, folder: &Path, split: Split) -> Result<Listing> {
    let Listing { files, classes, mut notes } = listing;
    let mut counts = vec![0; classes.len().max(1)];
    files.iter().for_each(|&(_, class)| counts[class as usize] += 1);
    let mut seen = vec![0; counts.len()];
    let found = files.len();
    let (held, kept): (Vec<_>, Vec<_>) = files.into_iter().partition(|&(_, class)| {
        let count = counts[class as usize];
        seen[class as usize] += 1;
        let place: usize = seen[class as usize];
        place.is_multiple_of(HELD_OUT) || (2..HELD_OUT).contains(&count) && place == count
    });
    if held.is_empty() && split == Split::Validation {
        let problem =
            format!("expected two pictures or more of one kind, so that one is kept for validation, found {found}");
        return Err(Error::file(
            folder,
            problem,
            "add pictures; or put them into the sub-folders `train` and `validation`",
        ));
    }
    let of_each = if classes.is_empty() { "" } else { " of each class" };
    let mut note = format!(
        "{}: no folder `validation`, so every tenth picture{of_each} is kept for it (the last one of 2 to 9): {} of {found}",
        folder.display(),
        held.len()
    );
    let lone: Vec<String> =
        classes.iter().zip(&counts).filter(|(_, count)| **count == 1).map(|(n, _)| n.clone()).collect();
    if !lone.is_empty() {
        note += &format!("; none of classes with one picture: {}", list(&lone));
    }
    notes.push(note);
    let files = if split == Split::Train { kept } else { held };
    Ok(Listing { files, classes, notes })
}
