//! The state of a run in one file, `checkpoint.safetensors`: what it needs to go on to the same bits.
//!
//! ParameterVector `weights`, `m`, `v` and perhaps `ema`, flat, in the order of the model's layout. The metadata has one key,
//! `state`: JSON with the contract's name, the step, and the config, from which the position in the data and all random
//! streams follow, and the SHA-256 of all that, without which one flipped bit would be trained on unseen. The file is
//! replaced as a whole ([`atomic`]), so there is always a whole one.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest::hexadecimal;
use crate::layers::ParameterVector;
use crate::models::Network;
use crate::numerics::CONTRACT;
use crate::train::adamw::Moments;
use crate::train::{Config, State};
use crate::{Error, Result, atomic};

/// The file's name in the folder of a run.
pub const FILE: &str = "checkpoint.safetensors";

/// The tensors' names, in the order in which they are digested.
const TENSORS: [&str; 4] = ["weights", "m", "v", "ema"];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    contract: String,
    step: u64,
    config: Config,
    /// Of this header with an empty `sha256`, as JSON, and then the bytes of the tensors.
    sha256: String,
}

impl Header {
    fn digest<'a>(&self, tensors: impl Iterator<Item = &'a [u8]>) -> String {
        let unsigned =
            Header { contract: self.contract.clone(), config: self.config.clone(), sha256: String::new(), ..*self };
        let mut hash = Sha256::new_with_prefix(serde_json::to_string(&unsigned).expect("numbers and strings are JSON"));
        tensors.for_each(|bytes| hash.update(bytes));
        hexadecimal(&hash.finalize())
    }
}

/// Replaces the checkpoint at `path`.
///
/// # Errors
/// Whatever the operating system refuses, and a state that is not finite; the old checkpoint is then still there.
pub fn write(path: &Path, config: &Config, state: &State) -> Result<()> {
    atomic::write(path, &to_bytes(config, state)?)
}

/// What [`write()`] writes.
///
/// # Errors
/// A state that is not finite, which nothing can go on from.
pub fn to_bytes(config: &Config, state: &State) -> Result<Vec<u8>> {
    let bytes = |tensors: &ParameterVector<f32>| tensors.0.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let tensors = [Some(&state.weights), Some(&state.moments.m), Some(&state.moments.v), state.ema.as_ref()];
    let named = || TENSORS.into_iter().zip(tensors).filter_map(|(name, tensor)| tensor.map(|tensor| (name, tensor)));
    if let Some((name, _)) = named().find(|(_, tensor)| tensor.0.iter().any(|x| !x.is_finite())) {
        let remedy = "an earlier checkpoint, if there is one, is whole; train with a lower optimizer.lr".into();
        return Err(Error::NonFinite { step: state.step, tensor: format!("`{name}` of the checkpoint"), remedy });
    }
    let data: Vec<(&str, Vec<u8>)> = named().map(|(name, tensor)| (name, bytes(tensor))).collect();
    let mut header =
        Header { contract: CONTRACT.into(), step: state.step, config: config.clone(), sha256: String::new() };
    header.sha256 = header.digest(data.iter().map(|(_, bytes)| bytes.as_slice()));
    let header = serde_json::to_string(&header).expect("numbers and strings are JSON");
    let views = data.iter().map(|(name, bytes)| {
        (*name, TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes).expect("four bytes a number"))
    });
    Ok(safetensors::serialize(views, Some(HashMap::from([("state".into(), header)]))).expect("a header"))
}

/// Reads the checkpoint at `path`.
///
/// # Errors
/// A file that is cut off, foreign, of another contract, whose tensors are not those of its config, or in which a bit
/// has changed since it was written.
pub fn read(path: &Path) -> Result<(Config, State)> {
    from_bytes(&atomic::read(path)?, path)
}

/// [`read`] from memory; `path` names the file in errors.
///
/// # Errors
/// As [`read`].
pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<(Config, State)> {
    let bad = |problem: String| Error::file(path, problem, "start again without --resume, in another folder");
    let file = SafeTensors::deserialize(bytes).map_err(|e| bad(format!("not a whole checkpoint: {e}")))?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| bad(format!("not a whole checkpoint: {e}")))?;
    let header = metadata.metadata().as_ref().and_then(|m| m.get("state"));
    let header =
        header.ok_or_else(|| bad("expected metadata `state`, found none: not a checkpoint of ancestral".into()))?;
    let contract: serde_json::Value =
        serde_json::from_str(header).map_err(|e| bad(format!("metadata `state`: {e}")))?;
    if contract["contract"] != CONTRACT {
        return Err(bad(format!(
            "expected contract {CONTRACT}, found {}: its bits cannot be continued",
            contract["contract"]
        )));
    }
    let header: Header = serde_json::from_value(contract).map_err(|e| bad(format!("metadata `state`: {e}")))?;
    header.config.validate().map_err(|e| bad(format!("metadata `state`: {e}")))?;
    if header.step > header.config.steps {
        return Err(bad(format!("expected a step of 0 to {}, found {}", header.config.steps, header.step)));
    }
    let network = Network::new(header.config.model.clone()).map_err(|e| bad(format!("metadata `state`: {e}")))?;
    let count = network.layout().count();
    let tensor = |name: &str| -> Result<ParameterVector<f32>> {
        let view = file.tensor(name).map_err(|_| bad(format!("tensor `{name}` is missing")))?;
        if view.dtype() != Dtype::F32 || view.shape() != [count] {
            return Err(bad(format!(
                "tensor `{name}`: expected F32 [{count}], found {:?} {:?}",
                view.dtype(),
                view.shape()
            )));
        }
        let values: Vec<f32> = view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(bad(format!("tensor `{name}` holds a number that is not finite")));
        }
        Ok(ParameterVector(values))
    };
    let averages = header.config.ema_decay > 0.0;
    let names = &TENSORS[..if averages { 4 } else { 3 }];
    if let Some(name) = file.names().into_iter().find(|name| !names.contains(name)) {
        return Err(bad(format!("tensor `{name}` is not expected")));
    }
    let ema = if averages { Some(tensor("ema")?) } else { None };
    let moments = Moments { m: tensor("m")?, v: tensor("v")? };
    let weights = tensor("weights")?;
    let found = header.digest(names.iter().filter_map(|name| file.tensor(name).ok()).map(|view| view.data()));
    if found != header.sha256 {
        return Err(bad(format!(
            "expected contents of SHA-256 {}, found {found}: they have changed since they were written",
            header.sha256
        )));
    }
    Ok((header.config, State { step: header.step, weights, moments, ema }))
}
