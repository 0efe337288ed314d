//! A kit of a half format: the same cases, with inputs and weights that the format holds.

use super::networks::Model;
use super::{Draft, SIZES};
use crate::golden::case::{Case, Tensor, read_tensors, write_tensors};
use crate::golden::format::Format;
use crate::golden::judge::{PRECISIONS, Scope, Verdict, judge};

/// Levels of networks' layers: optimizers, schedules and samplers are computed in float32 whatever the network is.
const LEVELS: [&str; 6] = ["elementary", "ops", "blocks", "network", "gradients", SIZES];

/// Of them what no backend computes in half precision.
const IN_FLOAT32: [&str; 6] =
    ["random_stream", "time_embedding", "positions", "dit_embedding", "frechet_distance", "precision_recall"];

/// Whether a kit of the format has this case.
pub fn has(format: Format, draft: &Draft) -> bool {
    format == Format::F32 || LEVELS.contains(&draft.level) && !IN_FLOAT32.contains(&draft.case.op.as_str())
}

/// The case with the nearest inputs of the format.
pub fn rounded(mut draft: Draft, format: Format) -> Draft {
    draft.case.format = format;
    draft.case.tensors.values_mut().for_each(|tensor| round(tensor, format));
    if let ("ln", Some(Tensor::F32(x))) = (draft.case.op.as_str(), draft.case.tensors.get_mut("input.x")) {
        x.mapv_inplace(|x| x.clamp(format.smallest() as f32, format.largest() as f32)); // some are zero by now
    }
    if format != Format::F32 {
        draft.mutants.retain(|name| !PRECISIONS.contains(name));
    }
    draft
}

fn round(tensor: &mut Tensor, format: Format) {
    if let Tensor::F32(x) = tensor {
        x.mapv_inplace(|x| format.nearest(x));
    }
}

/// The file of a model's weights, rounded to the format.
pub fn weights(model: &Model, format: Format) -> Vec<u8> {
    if format == Format::F32 {
        return model.weights.clone();
    }
    let read = read_tensors(&model.weights, std::path::Path::new(model.name));
    let (mut tensors, metadata) = read.expect("the weights that were just written");
    tensors.values_mut().for_each(|tensor| round(tensor, format));
    write_tensors(&tensors, metadata.into_iter().collect())
}

/// Takes out of a case of a half format the mistakes that its digits tell neither from what is right nor from one another.
pub fn keep_named(case: &mut Case, mutants: &[&str]) {
    for mutant in mutants {
        let start = format!("mutant.{mutant}.");
        let results = case.order.iter().map(|name| {
            let right = || &case.tensors[&format!("bits.{name}")];
            (name.clone(), case.tensors.get(&format!("{start}{name}")).unwrap_or_else(right).clone())
        });
        let judgement = judge(case, &results.collect(), Scope::Whole);
        if judgement.verdict < Verdict::LikeTf32 || judgement.mistake.as_deref() != Some(*mutant) {
            case.tensors.retain(|name, _| !name.starts_with(&start));
            case.partial.remove(*mutant);
        }
    }
}
