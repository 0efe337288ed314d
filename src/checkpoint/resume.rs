//! The state of a run in one file, `checkpoint.safetensors`: what it needs to go on to the same bits.
//!
//! Each parameter NAME of the model is there as `weights.NAME`, with AdamW's two means of gradients and of their squares as
//! `m.NAME` and `v.NAME` (PyTorch's `exp_avg` and `exp_avg_sq`) and perhaps averages as `ema.NAME`, `power_narrow.NAME` and
//! `power_wide.NAME`, in PyTorch's layouts.
//! Older files have a flat vector each, `weights`, `m`, `v`, `ema`, in the order of our memory; they are read, too.
//! The metadata has one key, `state`: JSON with the contract's name, the step, and the config, from which the position in
//! the data and all random streams follow, and the SHA-256 of all that, without which one flipped bit would be trained on
//! unseen. The file is replaced as a whole ([`atomic`]), so there is always a whole one.

use std::collections::HashSet;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::python_json::excerpt;
use super::weights::{serialize, tensors};
use crate::digest::hexadecimal;
use crate::layers::parameters::{Axes, Init};
use crate::layers::{Layout, ParameterVector};
use crate::models::Network;
use crate::numerics::CONTRACT;
use crate::pipeline::check_weights;
use crate::train::adamw::Moments;
use crate::train::power_ema::PowerAverages;
use crate::train::timesteps::{KEPT, LossHistory, TimestepSampler};
use crate::train::{Config, State};
use crate::{Error, Result, atomic};

/// The file's name in the folder of a run.
pub const FILE: &str = "checkpoint.safetensors";

/// The last losses of every t, shape (T, 10), where times are chosen by them: the last tensor that is digested.
const HISTORY: &str = "loss_history";

/// What there is of each parameter, in the order in which it is digested.
const VECTORS: [&str; 3] = ["weights", "m", "v"];

/// The vectors that a run of this config has.
fn vectors_of(config: &Config) -> Vec<&'static str> {
    let ema = (config.ema_decay > 0.0).then_some("ema");
    let power = (config.post_hoc_every > 0).then_some(POWER);
    VECTORS.into_iter().chain(ema).chain(power.into_iter().flatten()).collect()
}

/// The averages whose width is chosen afterwards.
const POWER: [&str; 2] = ["power_narrow", "power_wide"];

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
/// A state that is not finite, which nothing can go on from, or of another network than the config's.
pub fn to_bytes(config: &Config, state: &State) -> Result<Vec<u8>> {
    let vectors = [&state.weights, &state.moments.m, &state.moments.v].into_iter().chain(&state.ema);
    let vectors = vectors.chain(state.power.iter().flat_map(|averages| &averages.0));
    let vectors = vectors_of(config).into_iter().zip(vectors);
    let network = Network::new(config.model.clone())?;
    let mut data = Vec::new();
    for (name, vector) in vectors {
        check_weights(&network, vector, name)?;
        if vector.0.iter().any(|x| !x.is_finite()) {
            let remedy = "an earlier checkpoint, if there is one, is whole; train with a lower optimizer.lr".into();
            return Err(Error::NonFinite { step: state.step, tensor: format!("`{name}` of the checkpoint"), remedy });
        }
        data.extend(tensors(&format!("{name}."), network.layout(), vector));
    }
    if let (Some(history), Some(shape)) = (&state.history, shape_of_history(config)) {
        data.push((HISTORY.into(), shape, history.numbers().iter().flat_map(|loss| loss.to_le_bytes()).collect()));
    }
    let mut header =
        Header { contract: CONTRACT.into(), step: state.step, config: config.clone(), sha256: String::new() };
    header.sha256 = header.digest(data.iter().map(|(_, _, bytes)| bytes.as_slice()));
    Ok(serialize(&data, ("state", serde_json::to_string(&header).expect("numbers and strings are JSON"))))
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
    let names = &vectors_of(&header.config);
    let history = shape_of_history(&header.config);
    let stored = Stored { file: &file, layout: &layout_of(&file, &network), bad: &bad };
    stored.check(names, history.clone())?;
    let ema = names.contains(&"ema").then(|| stored.vector("ema")).transpose()?;
    let power = match names.contains(&POWER[0]) {
        true => Some(PowerAverages([stored.vector(POWER[0])?, stored.vector(POWER[1])?])),
        false => None,
    };
    let moments = Moments { m: stored.vector("m")?, v: stored.vector("v")? };
    let weights = stored.vector("weights")?;
    let history = history.map(|_| file.tensor(HISTORY).expect("checked").data());
    let found = header.digest(names.iter().flat_map(|name| stored.contents(name)).chain(history));
    if found != header.sha256 {
        return Err(bad(format!(
            "expected contents of SHA-256 {}, found {found}: they have changed since they were written",
            header.sha256
        )));
    }
    let history = history.map(|bytes| {
        let losses = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        LossHistory::from_numbers(losses)
            .ok_or_else(|| bad(format!("tensor `{HISTORY}`: expected losses, and -1 where there is none yet")))
    });
    Ok((header.config, State { step: header.step, weights, moments, ema, power, history: history.transpose()? }))
}

/// The shape of the last losses, where times are chosen by them.
fn shape_of_history(config: &Config) -> Option<Vec<usize>> {
    let chosen = config.objective.timesteps == TimestepSampler::LossAware;
    chosen.then(|| vec![config.schedule.num_train_timesteps, KEPT])
}

/// How the vectors lie in the file: as the network's parameters, or in an older one as a single tensor without a name.
fn layout_of(file: &SafeTensors, network: &Network) -> Layout {
    if file.tensor(VECTORS[0]).is_err() {
        return network.layout().clone();
    }
    let mut flat = Layout::default();
    flat.add(String::new(), Axes::Same(vec![network.layout().count()]), Init::Zeros);
    flat
}

/// The tensors of a checkpoint, all or none of which are believed.
struct Stored<'a> {
    file: &'a SafeTensors<'a>,
    layout: &'a Layout,
    bad: &'a dyn Fn(String) -> Error,
}

impl<'a> Stored<'a> {
    /// The tensors of a vector, in the layout's order.
    fn names(&self, vector: &str) -> impl Iterator<Item = String> {
        let name = move |parameter: &String| match parameter.as_str() {
            "" => vector.to_string(),
            parameter => format!("{vector}.{parameter}"),
        };
        self.layout.entries.iter().map(move |entry| name(&entry.name))
    }

    /// Refuses tensors that are missing, not expected, or of another type or shape than those of the layout. The file then
    /// has all the numbers that memory is asked for.
    fn check(&self, vectors: &[&str], history: Option<Vec<usize>>) -> Result<()> {
        let mut expected = HashSet::new();
        if let Some(shape) = history {
            let view = self.file.tensor(HISTORY).map_err(|_| (self.bad)(format!("tensor `{HISTORY}` is missing")))?;
            let (dtype, found) = (view.dtype(), view.shape());
            if dtype != Dtype::F32 || found != shape {
                let problem = format!("tensor `{HISTORY}`: expected F32 {shape:?}, found {dtype:?} {found:?}");
                return Err((self.bad)(problem));
            }
            expected.insert(HISTORY.to_string());
        }
        for vector in vectors {
            for (name, entry) in self.names(vector).zip(&self.layout.entries) {
                let view = self.file.tensor(&name).map_err(|_| (self.bad)(format!("tensor `{name}` is missing")))?;
                let (shape, dtype, found) = (entry.axes.shape(), view.dtype(), view.shape());
                if dtype != Dtype::F32 || found != shape {
                    let problem = format!("tensor `{name}`: expected F32 {shape:?}, found {dtype:?} {found:?}");
                    return Err((self.bad)(problem));
                }
                expected.insert(name);
            }
        }
        match self.file.names().into_iter().find(|name| !expected.contains(*name)) {
            Some(name) => Err((self.bad)(format!("tensor `{}` is not expected", excerpt(name)))),
            None => Ok(()),
        }
    }

    /// The bytes of a vector's tensors, in the layout's order.
    fn contents(&self, vector: &str) -> impl Iterator<Item = &'a [u8]> {
        self.names(vector).map(|name| self.file.tensor(&name).expect("checked").data())
    }

    /// A vector in the order of our memory.
    fn vector(&self, vector: &str) -> Result<ParameterVector<f32>> {
        let mut numbers = ParameterVector::zeros(self.layout.count());
        for ((entry, name), bytes) in self.layout.entries.iter().zip(self.names(vector)).zip(self.contents(vector)) {
            let values: Vec<f32> = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
            if values.iter().any(|v| !v.is_finite()) {
                return Err((self.bad)(format!("tensor `{name}` holds a number that is not finite")));
            }
            numbers[entry.span].copy_from_slice(&entry.axes.from_file(&values));
        }
        Ok(numbers)
    }
}
