//! What is in one folder: pictures, sub-folders, and files that are left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fingerprint::list;
use super::natural;
use crate::{Error, Result};

/// The endings of files that are read as pictures, in either case.
pub(super) const PICTURES: [&str; 9] = ["png", "jpg", "jpeg", "jpe", "webp", "bmp", "gif", "tif", "tiff"];

/// What systems leave in folders without being asked, beside everything that begins with a dot.
const LEFT_BY_SYSTEMS: [&str; 4] = ["__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini"];

/// One folder, without its sub-folders' contents. Names that begin with a dot and what systems leave are not in it.
pub(super) struct Folder {
    /// The folder itself.
    pub path: PathBuf,
    /// Files that are read as pictures, in natural order.
    pub pictures: Vec<PathBuf>,
    /// Folders, and links to folders, in natural order.
    pub folders: Vec<PathBuf>,
    /// All others, in natural order.
    pub others: Vec<PathBuf>,
}

impl Folder {
    /// Lists `path`; links count as what they lead to.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn read(path: &Path) -> Result<Self> {
        let unreadable = |cause| Error::io(path, "read", &cause);
        let mut folder = Folder { path: path.into(), pictures: Vec::new(), folders: Vec::new(), others: Vec::new() };
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = last_name(&path);
            if name.starts_with('.') || LEFT_BY_SYSTEMS.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                folder.folders.push(path);
            } else if path.is_file() && PICTURES.contains(&extension(&path).as_str()) {
                folder.pictures.push(path);
            } else {
                folder.others.push(path);
            }
        }
        for paths in [&mut folder.pictures, &mut folder.folders, &mut folder.others] {
            paths.sort_unstable_by(|a, b| natural::by_name(a, b));
        }
        Ok(folder)
    }

    /// The names of everything in the folder.
    pub fn names(&self) -> Vec<String> {
        let with_slash = self.folders.iter().map(|path| last_name(path) + "/");
        with_slash.chain(self.pictures.iter().chain(&self.others).map(|path| last_name(path))).collect()
    }
}

/// One line that counts files that are not read, by the reason, if there are any.
pub(super) fn left_out(folder: &Path, others: &[PathBuf]) -> Option<String> {
    let mut reasons = BTreeMap::new();
    for path in others {
        *reasons.entry(reason(path)).or_insert(0) += 1;
    }
    let counted: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let files = if others.len() == 1 { "file is" } else { "files are" };
    (!others.is_empty()).then(|| format!("{}: {} {files} not read: {}", folder.display(), others.len(), list(&counted)))
}

fn reason(path: &Path) -> String {
    if path.is_symlink() && !path.exists() {
        "dead link".into()
    } else if !path.is_file() {
        "neither file nor folder".into()
    } else if extension(path).is_empty() {
        "without an ending".into()
    } else {
        format!(".{}", extension(path))
    }
}

/// The last part of a path.
pub(super) fn last_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The ending of a file's name, in lower case; empty if it has none.
pub(super) fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}
