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
            Ok(Read { sha256: Sha256::digest(&file).into(), has_more_frames: picture.has_more_frames })
        })
        .collect();

    let mut hash = Sha256::new();
    let mut with_more = Vec::new();
    for (outcome, (path, class)) in outcomes.into_iter().zip(&files) {
        let read = outcome?;
        hash.update(path.strip_prefix(folder).unwrap_or(path).as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(class.to_le_bytes());
        hash.update(read.sha256);
        with_more.extend(read.has_more_frames.then(|| last_name(path)));
    }
    if !with_more.is_empty() {
        notes.push(format!("of pictures with several frames or pages the first one is read: {}", list(&with_more)));
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
}
