//! The files that a call of `sample` writes: checked before hours are spent on what belongs there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Args;
use crate::cluster::Ranks;
use crate::{Error, Result, atomic};

/// Refuses files that cannot be written, have the ending of another format, or are one and the same.
///
/// # Errors
/// The first such flag, with what would do.
pub(super) fn check(args: &Args) -> Result<()> {
    let single = args.singles.as_ref().map(|folder| folder.join("000000.png"));
    let files = [
        ("--out", Some(&args.out), "png"),
        ("--strip", args.strip.as_ref(), "png"),
        ("--animation", args.animation.as_ref(), "gif"),
        ("--npy", args.npy.as_ref(), "npy"),
        ("--singles", single.as_ref(), "png"),
    ];
    if !Ranks::current().leads() {
        return Ok(()); // the leading rank writes them
    }
    let mut seen: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for (flag, file, ending) in files {
        let Some(file) = file else { continue };
        check_ending(flag, file, ending)?;
        atomic::probe(file)?;
        // Devices may be written to twice; a name is one file however it is spelled.
        let place = file.canonicalize().unwrap_or_else(|_| absolute(file));
        if let Some(other) = seen.insert(place, flag).filter(|_| !is_device(file)) {
            return Err(Error::value(flag, format!("another file than that of {other}"), file.display()));
        }
    }
    Ok(())
}

fn check_ending(flag: &str, file: &Path, ending: &str) -> Result<()> {
    if file.as_os_str() == "-" {
        let expected = format!("the name of a .{ending} file; /dev/stdout is standard output");
        return Err(Error::value(flag, expected, "-"));
    }
    let found = file.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    if is_device(file) || found.as_deref() == Some(ending) {
        return Ok(());
    }
    let expected = format!("a file that ends in .{ending}, the format that is written");
    Err(Error::value(flag, expected, file.display()))
}

fn is_device(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// The place of a file that is not there yet: its folder is.
fn absolute(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    folder.join(file.file_name().unwrap_or_default())
}
