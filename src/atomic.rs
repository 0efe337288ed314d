//! Files that are whole or not there.
//!
//! A file is written beside its place under another name, flushed to the disk, renamed into place, and the folder is
//! flushed: whenever the machine or the process stops, the name leads to the old content or to the new, whole either way.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The longest text file that is read, in bytes: a configuration is a few thousand.
const LONGEST_TEXT: u64 = 16 << 20;

/// Writes `bytes` to `path`; straight into it where it is a device or a pipe, such as /dev/stdout.
///
/// # Errors
/// Whatever the operating system refuses; what was at `path` is then still there.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if is_device(path) {
        return fs::write(path, bytes).map_err(|e| Error::io(path, "write", &e));
    }
    let (folder, beside) = place(path)?;
    let written = File::create(&beside).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    if let Err(e) = written.and_then(|()| fs::rename(&beside, path)) {
        let _ = fs::remove_file(&beside); // what is being reported matters more than a leftover
        return Err(Error::io(path, "write", &e));
    }
    // A folder can be flushed on Unix; elsewhere the rename alone has to do.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Refuses a path that [`write()`] could not write to, before hours are spent on what belongs there.
///
/// # Errors
/// Whatever the operating system refuses, or a folder of that name.
pub fn probe(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::file(path, "expected the name of a file, found a folder", "give a file in that folder"));
    }
    if is_device(path) {
        return Ok(());
    }
    let (_, beside) = place(path)?;
    let made = File::create(&beside).and_then(|_| fs::remove_file(&beside));
    made.map_err(|e| Error::io(path, "write", &e))
}

/// Removes what a process that was killed in [`write()`] left in `folder`: `.NAME.PID.partial`. Nobody else may be writing
/// there.
pub fn sweep(folder: &Path) {
    let is_leftover = |name: &str| {
        let middle = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial"));
        middle.and_then(|name| name.rsplit_once('.')).is_some_and(|(_, pid)| pid.parse::<u32>().is_ok())
    };
    // What cannot be listed or removed does no harm but to take space, and is met again where it does.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_leftover) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The folder of `path`, made if it was missing, and the name that the file has until it is whole.
fn place(path: &Path) -> Result<(&Path, PathBuf)> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(|e| Error::io(path, "create the folder of", &e))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok((folder, folder.join(format!(".{name}.{}.partial", std::process::id()))))
}

/// Whether there is something that is neither file nor folder, which a rename would replace by a file.
fn is_device(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Reads a whole file.
///
/// # Errors
/// Whatever the operating system refuses, and what is no file: a pipe may never end.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    if is_device(path) {
        return Err(Error::file(path, "expected a file, found a device or a pipe", "give a file"));
    }
    fs::read(path).map_err(|e| Error::io(path, "read", &e))
}

/// Reads a text file, of at most 16 MiB.
///
/// # Errors
/// Whatever the operating system refuses, a file that is longer, and bytes that are no UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(LONGEST_TEXT + 1).read_to_end(&mut bytes));
    file.map_err(|e| Error::io(path, "read", &e))?;
    if bytes.len() as u64 > LONGEST_TEXT {
        return Err(Error::file(path, "expected a text of at most 16 MiB, found more", "give the file that was meant"));
    }
    let not_text = |_| Error::file(path, "expected text, found bytes that are no UTF-8", "copy or download it again");
    String::from_utf8(bytes).map_err(not_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_to_a_full_disk_keeps_the_old_file_and_says_so() {
        // The error of a full disk comes from the real binary in tests/hostile.rs; here a folder makes one.
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a/b");
        write(&path, b"old").expect("a new file");
        fs::create_dir(folder.path().join("a/c")).expect("a folder in the way");
        let error = write(&folder.path().join("a/c"), b"new").unwrap_err().to_string();
        assert!(error.contains("a/c"), "{error}");
        assert_eq!(fs::read(&path).expect("the old file"), b"old");
        assert_eq!(fs::read_dir(folder.path().join("a")).expect("the folder").count(), 2, "nothing is left over");
    }
    #[test]
    fn sweep_removes_the_leftovers_of_killed_writers_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in [".a.json.17.partial", ".b.partial", "c.17.partial", ".d.x.partial", "e"] {
            fs::write(folder.path().join(name), b"").expect("a file");
        }
        sweep(folder.path());
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).expect("the folder").flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, [".b.partial", ".d.x.partial", "c.17.partial", "e"]);
        sweep(&folder.path().join("none"));
    }

    #[test]
    fn probe_leaves_nothing_and_refuses_a_folder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        probe(&folder.path().join("a.png")).expect("a place for a file");
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
        let error = probe(folder.path()).unwrap_err().to_string();
        assert!(error.contains("found a folder"), "{error}");
    }
}
