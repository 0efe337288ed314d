//! A kit of a half format: the same cases, with inputs and weights that the format holds.

use ndarray::{Axis, Slice};
use serde_json::json;

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

/// Cases that only half formats have: float16 holds their results, but not what is computed on the way. Beyond its largest
/// number, 65504, are scores before they are divided by the root of a head's size, squares before their mean is taken, and
/// the sum of terms of one sign before those of the other come.
pub fn overflows() -> Vec<Draft> {
    let draft = |name: &str, op: &str, attributes| Draft::new("ops", name, op, attributes);
    let attention = ["q", "k"].iter().fold(
        draft("attention_scores_beyond_65504", "attention", json!({"heads": 1})).normal("v", &[2, 5, 64]),
        |draft, name| draft.normal_around(name, &[2, 5, 64], 0.0, 100.0),
    );
    let norm = draft("group_norm_squares_beyond_65504", "group_norm", json!({"groups": 2, "eps": 1e-5}));
    let norm = norm.normal_around("x", &[2, 4, 5, 3], 0.0, 400.0).normal("weight", &[4]).normal("bias", &[4]);
    let mut sum = draft("linear_sums_beyond_65504", "linear", json!({}))
        .normal_around("x", &[2, 64], 100.0, 10.0)
        .normal_around("weight", &[3, 64], 100.0, 10.0);
    if let Some(Tensor::F32(x)) = sum.case.tensors.get_mut("input.x") {
        x.slice_axis_mut(Axis(1), Slice::from(32..)).mapv_inplace(|x| -x);
    }
    vec![attention.grad(&[2, 5, 64]), norm.grad(&[2, 4, 5, 3]), sum]
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
