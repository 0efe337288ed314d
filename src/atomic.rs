//! Files that are whole or not there.
//!
//! A file is written beside its place under another name, flushed to the disk, renamed into place, and the folder is
//! flushed: whenever the machine or the process stops, the name leads to the old content or to the new, whole either way.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::{Error, Result};

/// Writes `bytes` to `path`.
///
/// # Errors
/// Whatever the operating system refuses; what was at `path` is then still there.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(|e| Error::io(path, "create the folder of", &e))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.{}.partial", std::process::id()));
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

/// Reads a whole file.
///
/// # Errors
/// Whatever the operating system refuses.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::io(path, "read", &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_to_a_full_disk_keeps_the_old_file_and_says_so() {
        // /dev/full is a disk that is always full; a file beside it is not, so the error is made by the folder here.
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a/b");
        write(&path, b"old").expect("a new file");
        fs::create_dir(folder.path().join("a/c")).expect("a folder in the way");
        let error = write(&folder.path().join("a/c"), b"new").unwrap_err().to_string();
        assert!(error.contains("a/c"), "{error}");
        assert_eq!(fs::read(&path).expect("the old file"), b"old");
        assert_eq!(fs::read_dir(folder.path().join("a")).expect("the folder").count(), 2, "nothing is left over");
    }
}
