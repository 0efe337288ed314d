//! The folder of a run: one run at a time, what it was made from, and what has changed since.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::data::{Dataset, Fingerprint};
use crate::train::Config;
use crate::{Error, Result, atomic};

/// What a run was trained on.
const DATA: &str = "data.json";

/// Locks the folder for as long as the file lives, which is made if there is none.
///
/// # Errors
/// Another run in the same folder; whatever the operating system refuses.
pub(super) fn lock(out: &Path) -> Result<File> {
    fs::create_dir_all(out).map_err(|e| Error::io(out, "create", &e))?;
    let path = out.join(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let mut file = file.map_err(|e| Error::io(&path, "open", &e))?;
    match file.try_lock() {
        Ok(()) => {
            // For people who wonder; the lock itself is the system's, and goes with the process.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let process = fs::read_to_string(&path).unwrap_or_default();
            let problem = format!("another run is training here, process {}", process.trim());
            Err(Error::file(out, problem, "wait for it, or choose another folder with --out"))
        }
        // A file system without locks: nothing is known, so nothing is refused.
        Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Removes what a killed run left half written.
pub(super) fn sweep(out: &Path) {
    for folder in ["", "samples", "averages", "model", "model/unet", "model/transformer", "model/scheduler"] {
        atomic::sweep(&out.join(folder));
    }
}

/// Refuses to go on with images that are not those that the run was trained on so far.
///
/// # Errors
/// What has changed, in words.
pub(super) fn check_data(out: &Path, data: &Dataset, resumes: bool) -> Result<()> {
    let path = out.join(DATA);
    if !resumes || !path.is_file() {
        return Ok(());
    }
    let text = atomic::read_text(&path)?;
    let remedy = "put the images back, or go on with these by naming them: --resume --data";
    match Fingerprint::from_json(&text, &path)?.difference(&data.fingerprint()) {
        Some(change) => Err(Error::file(&path, format!("the images have changed: {change}"), remedy)),
        None => Ok(()),
    }
}

/// Writes train.json, the whole config with the changes that were made when the run was resumed, and data.json.
///
/// # Errors
/// Whatever the operating system refuses.
pub(super) fn record(out: &Path, config: &Config, data: &Fingerprint, changes: Vec<Value>) -> Result<()> {
    let path = out.join("train.json");
    let mut file: Value = serde_json::from_str(&config.to_json()).expect("our own JSON");
    let before = atomic::read_text(&path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let mut all =
        before.map(|before| before["changes"].clone()).and_then(|c| c.as_array().cloned()).unwrap_or_default();
    all.extend(changes);
    if !all.is_empty() {
        file["changes"] = all.into();
    }
    atomic::write(&path, format!("{file:#}\n").as_bytes())?;
    atomic::write(&out.join(DATA), format!("{:#}\n", json!(data)).as_bytes())
}
