//! The state of a run in one file, `checkpoint.safetensors`: what it needs to go on to the same bits.
//!
//! Tensors `weights`, `m`, `v` and perhaps `ema`, flat, in the order of the model's layout. The metadata has one key,
//! `state`: JSON with the contract's name, the step, and the config, from which the position in the data and all random
//! streams follow. The file is replaced as a whole ([`atomic`]), so there is always a whole one.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::layers::Tensors;
use crate::models::UNet;
use crate::numerics::CONTRACT;
use crate::train::adamw::Moments;
use crate::train::{Config, State};
use crate::{Error, Result, atomic};

/// The file's name in the folder of a run.
pub const FILE: &str = "checkpoint.safetensors";

#[derive(Serialize, Deserialize)]
struct Header {
    contract: String,
    step: u64,
    config: Config,
}

/// Replaces the checkpoint at `path`.
///
/// # Errors
/// Whatever the operating system refuses; the old checkpoint is then still there.
pub fn write(path: &Path, config: &Config, state: &State) -> Result<()> {
    let header = Header { contract: CONTRACT.into(), step: state.step, config: config.clone() };
    let header = serde_json::to_string(&header).expect("numbers and strings are JSON");
    let bytes = |tensors: &Tensors<f32>| tensors.0.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let tensors = [
        ("weights", Some(&state.weights)),
        ("m", Some(&state.moments.m)),
        ("v", Some(&state.moments.v)),
        ("ema", state.ema.as_ref()),
    ];
    let data: Vec<(&str, Vec<u8>)> = tensors.iter().filter_map(|(name, t)| t.map(|t| (*name, bytes(t)))).collect();
    let views = data.iter().map(|(name, bytes)| {
        (*name, TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes).expect("four bytes a number"))
    });
    let file = safetensors::serialize(views, Some(HashMap::from([("state".into(), header)]))).expect("a header");
    atomic::write(path, &file)
}

/// Reads the checkpoint at `path`.
///
/// # Errors
/// A file that is cut off, foreign, of another contract, or whose tensors are not those of its config.
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
    let count = UNet::new(header.config.model.clone())?.layout.count();
    let tensor = |name: &str| -> Result<Tensors<f32>> {
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
        Ok(Tensors(values))
    };
    let ema = if header.config.ema_decay > 0.0 { Some(tensor("ema")?) } else { None };
    let moments = Moments { m: tensor("m")?, v: tensor("v")? };
    Ok((header.config, State { step: header.step, weights: tensor("weights")?, moments, ema }))
}
