//! Pointers of Git LFS: what a clone holds in the place of a large file that was not fetched.

use std::path::Path;

use crate::{Error, Result};

/// Refuses a pointer by its name.
///
/// # Errors
/// Contents that begin as a pointer does.
pub(super) fn refuse_pointer(contents: &[u8], path: &Path) -> Result<()> {
    if !contents.starts_with(b"version https://git-lfs") {
        return Ok(());
    }
    let remedy = "run `git lfs pull` in that folder, or download the file itself";
    Err(Error::file(path, "expected the file itself, found a pointer of Git LFS to it", remedy))
}
