//! The ranks that do not lead: they take every step, and write nothing.

use super::run::{goes_on, stop_on_signal};
use crate::Result;
use crate::cluster::Ranks;
use crate::data::Fingerprint;
use crate::digest::sha256;
use crate::train::{State, Trainer};

/// Steps until the leading rank stops.
///
/// # Errors
/// As [`Trainer::step`].
pub(super) fn train(trainer: &mut Trainer, ranks: &Ranks, stop_at: u64) -> Result<()> {
    let stop = stop_on_signal();
    while goes_on(trainer, ranks, stop_at, &stop) {
        ranks.install(|| trainer.step())?;
    }
    Ok(())
}

/// What has to be the same for all ranks: each field of the config, the images, and what is learned so far.
pub(super) fn things(trainer: &Trainer, data: &Fingerprint) -> Vec<(String, String)> {
    let config: serde_json::Value = serde_json::from_str(&trainer.config().to_json()).expect("our own JSON");
    let fields = config.as_object().into_iter().flatten();
    // The images may be in another place on another machine.
    let mut things: Vec<_> =
        fields.filter(|(name, _)| *name != "data").map(|(name, value)| (name.clone(), value.to_string())).collect();
    things.push(("the images".into(), format!("{} of SHA-256 {}", data.images, data.files_sha256)));
    let State { step, weights, moments, ema, .. } = trainer.state();
    let mut bytes = Vec::new();
    for vector in [weights, &moments.m, &moments.v].into_iter().chain(ema) {
        bytes.extend(vector.0.iter().flat_map(|x| x.to_le_bytes()));
    }
    things.push(("the checkpoint".into(), format!("step {step} of SHA-256 {}", sha256(&bytes))));
    things
}
