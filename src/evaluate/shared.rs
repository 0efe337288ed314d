//! Image by image, shared out among the current ranks.

use crate::Result;
use crate::cluster::Ranks;
use crate::numerics::{Real, parallel};

/// What `of` says of each image, as many numbers of each, in their order, known to every rank; `progress` hears of images done,
/// after every `at_once` of them.
///
/// # Errors
/// That of an image.
pub(super) fn of_images(
    images: usize,
    at_once: usize,
    mut progress: impl FnMut(usize),
    of: impl Fn(usize) -> Result<Vec<f64>> + Sync,
) -> Result<Vec<Vec<f64>>> {
    let ranks = Ranks::current();
    let own = ranks.share(images);
    let mut found = Vec::with_capacity(own.len());
    for chunk in parallel::ranges(own.len(), at_once) {
        for of_image in parallel::map(chunk.len(), |i| of(own.start + chunk.start + i)) {
            found.push(of_image?);
        }
        progress(chunk.end * images / own.len()); // the other ranks have done as much
    }
    if ranks.count() == 1 {
        return Ok(found);
    }
    let mut words = Vec::new();
    found.iter().for_each(|numbers| f64::to_words(numbers, &mut words));
    let mut all = vec![0.0; 0];
    for said in ranks.all_gather(words) {
        let first = all.len();
        all.resize(first + said.len() / 2, 0.0);
        f64::from_words(&said, &mut all[first..]);
    }
    Ok(all.chunks_exact((all.len() / images).max(1)).map(<[f64]>::to_vec).collect())
}
