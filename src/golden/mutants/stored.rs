//! What a case keeps of a mistake.

use std::collections::BTreeSet;

use super::{Case, Result, Tensor, mutants};

/// Numbers of a mutant that are stored, the smallest results first: they tell it as well as all of a network's do.
const STORED: usize = 300;

/// Adds to a completed case the values of a mutant, `mutant.NAME.TENSOR`, for each result that it changes; of many the smallest
/// alone, and how the names of the others begin in `Case::partial`.
///
/// # Errors
/// As [`evaluate`](crate::golden::ops::evaluate).
///
/// # Panics
/// If there is no mutant of that name.
pub fn add_mutant(case: &mut Case, name: &str) -> Result<()> {
    let mutant = mutants().find(|m| m.name == name).unwrap_or_else(|| panic!("no mutant {name}"));
    let results = (mutant.results)(case)?;
    let unknown = case.order.iter().filter(|known| results.iter().all(|(tensor, _)| tensor != *known));
    let mut left_out: BTreeSet<String> = unknown.cloned().collect();
    let mut changed: Vec<_> = results.into_iter().filter(|(tensor, values)| case.numbers(tensor) != values).collect();
    changed.sort_by_key(|(_, values)| values.len());
    let (network, mut stored) = (["unet", "dit", "training"].contains(&case.op.as_str()), 0);
    for (tensor, values) in changed {
        stored += values.len();
        if network && stored > STORED {
            left_out.insert(tensor);
        } else {
            case.tensors.insert(format!("mutant.{name}.{tensor}"), Tensor::F32(values.mapv(|x| x as f32)));
        }
    }
    // `grad.conv_in.weight` begins with `grad.`, `output.ema.conv_in.weight` with `output.ema.`.
    let beginning = |tensor: &String| match tensor.split('.').collect::<Vec<_>>()[..] {
        ["output", group, _, ..] => format!("output.{group}."),
        [group, _, ..] if group != "output" => format!("{group}."),
        _ => tensor.clone(),
    };
    let beginnings: BTreeSet<String> = left_out.iter().map(beginning).collect();
    if !beginnings.is_empty() {
        case.partial.insert(name.into(), beginnings.into_iter().collect());
    }
    Ok(())
}
