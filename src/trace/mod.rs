//! The trace of a reverse process: every coefficient and every tensor of every step.
//!
//! It is what two implementations compare to find the first number in which they part. The step that is computed is a sum
//! of named terms ([`Term`](crate::sample::Term)); a [`StepRecord`] is that step written down, so that what is shown, traced
//! and published has one source. The format of the files is in `docs/trace.md`.

mod compare;
mod file;
mod record;

use ndarray::Array4;
use serde_json::{Map, Value};

pub use compare::{Comparison, Difference, compare};
pub use record::{Place, StepRecord, Weight};

use crate::Result;
use crate::pipeline::Pipeline;
use crate::sample::{Settings, draw};

/// A reverse process, step by step.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// What made it: model, sampler, seed and whatever else; for people, not compared.
    pub settings: Map<String, Value>,
    /// Its steps.
    pub steps: Vec<StepRecord>,
}

impl Trace {
    /// The trace of the picture of this index, and the picture, shape (1, h, w, c).
    ///
    /// # Errors
    /// As [`draw`](fn@draw).
    pub fn of_picture(
        model: &Pipeline,
        settings: &Settings,
        index: u64,
        mut watch: impl FnMut(&StepRecord),
    ) -> Result<(Self, Array4<f32>)> {
        let mut steps = Vec::new();
        let picture = draw(model, settings, index..index + 1, |moment| {
            let record = StepRecord::of(moment);
            watch(&record);
            steps.push(record);
            Ok(())
        })?;
        Ok((Trace { settings: Map::new(), steps }, picture))
    }
}
