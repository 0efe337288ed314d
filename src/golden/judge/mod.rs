//! Is a backend's result right, nearly right, of another precision, or wrong: and where, and like which known mistake.

mod bits;
mod budget;
mod comparison;
mod lower;

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use ndarray::ArrayD;
use serde::Serialize;

use super::case::{Case, Tensor, read_tensors};
use super::format::Format;
use crate::atomic;
pub(super) use comparison::SINGLE;
use comparison::{Comparison, error};
use lower::precision;

/// What is said of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// Every result has the bits of the contract.
    #[serde(rename = "exact")]
    Exact,
    /// Every result is as near to the truth as float32 can be expected to be.
    #[serde(rename = "within f32")]
    WithinF32,
    /// The same of a kit whose numbers are float16.
    #[serde(rename = "within f16")]
    WithinF16,
    /// The same of a kit whose numbers are bfloat16.
    #[serde(rename = "within bf16")]
    WithinBf16,
    /// Not so near, but no further than mature elementary functions allow (`judge/budget.rs`).
    #[serde(rename = "f32, loose functions")]
    LooseFunctions,
    /// No error is larger than those of the largest terms: sums of transformed inputs, as Winograd's and Fourier's.
    #[serde(rename = "f32, fast algorithm")]
    FastAlgorithm,
    /// The backend says that it does not have the operation.
    #[serde(rename = "unsupported")]
    Unsupported,
    /// Some results are missing, and the others are right.
    #[serde(rename = "incomplete")]
    Incomplete,
    /// There are no results.
    #[serde(rename = "missing")]
    Missing,
    /// The errors of products whose inputs were rounded to 10 bits.
    #[serde(rename = "looks like TF32")]
    LikeTf32,
    /// The errors or the bits of half precision.
    #[serde(rename = "looks like bf16/f16")]
    LikeHalf,
    /// Wrong.
    #[serde(rename = "FAIL")]
    Fail,
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(serde_json::to_value(self).expect("a name").as_str().expect("a string"))
    }
}

/// The element that is furthest out, in units of its tolerance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Worst {
    /// Its tensor.
    pub tensor: String,
    /// Its index.
    pub index: Vec<usize>,
    /// What it should be.
    pub expected: f64,
    /// What it is.
    pub found: f64,
    /// |found − expected| / tolerance.
    pub tolerances: f64,
    /// |found − expected| in units of the last place, of the kit's format, at the expected value.
    pub ulp: f64,
    /// |found − expected| / |expected|.
    pub relative: f64,
}

/// All that is said of a case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// In a word.
    pub verdict: Verdict,
    /// The worst element of all results that were there.
    pub worst: Option<Worst>,
    /// The first wrong tensor in the order of execution: its inputs, if they are traced, are right.
    pub first_wrong: Option<String>,
    /// The known mistake that gives these results.
    pub mistake: Option<String>,
    /// Other things that a person should know.
    pub note: Option<String>,
}

impl Judgement {
    /// A verdict without numbers.
    pub fn without_results(verdict: Verdict, note: impl Into<String>) -> Self {
        Judgement { verdict, worst: None, first_wrong: None, mistake: None, note: Some(note.into()) }
    }
}

/// The mutants that are precisions of inputs.
pub(super) const PRECISIONS: [&str; 3] = ["tf32_inputs", "f16_inputs", "bf16_inputs"];

/// What a backend is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Every result.
    #[default]
    Whole,
    /// Results without gradients, and no training: all that a backend for inference has.
    Forward,
}

impl Scope {
    /// Whether this result is asked for.
    fn asks_for(self, name: &str) -> bool {
        self == Scope::Whole || !name.starts_with("grad.")
    }
}

/// Judges the results of one case of a kit.
pub fn judge(case: &Case, results: &BTreeMap<String, Tensor>, scope: Scope) -> Judgement {
    let mut comparisons = Vec::new();
    let mut missing = Vec::new();
    for name in case.order.iter().filter(|name| scope.asks_for(name)) {
        let Some(result) = results.get(name) else {
            if !name.starts_with("taps.") {
                missing.push(name.as_str());
            }
            continue;
        };
        let truth = case.numbers(name);
        let found = result.to_f64();
        if found.shape() != truth.shape() {
            let note = format!("{name}: expected shape {:?}, found {:?}", truth.shape(), found.shape());
            return Judgement { first_wrong: Some(name.clone()), ..Judgement::without_results(Verdict::Fail, note) };
        }
        let bits = case.numbers(&format!("bits.{name}"));
        let same = |x: &ArrayD<f64>| x.iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits());
        let exact = same(&bits) || same(&truth);
        let (tolerance, first) = (case.numbers(&format!("tol.{name}")), Some(ArrayD::zeros(truth.raw_dim())));
        comparisons.push(Comparison { name, case, truth, found, tolerance, exact, first });
    }
    if case.op == "training" && comparisons.iter().any(|c| !c.is_right()) {
        let weights = first_weights(case);
        for c in &mut comparisons {
            if let Some(name) = ["output.weight.", "output.ema."].iter().find_map(|start| c.name.strip_prefix(start)) {
                c.first = weights.get(name).map(Tensor::to_f64).filter(|first| first.shape() == c.truth.shape());
            }
        }
    }
    let worst = comparisons.iter().filter_map(Comparison::worst).fold(None, |worst: Option<Worst>, w| match worst {
        Some(worst) if w.tolerances <= worst.tolerances => Some(worst),
        _ => Some(w),
    });
    let wrong: Vec<&Comparison> = comparisons.iter().filter(|c| !c.is_right()).collect();
    let unknown: Vec<&str> = results.keys().filter(|name| !case.order.contains(name)).map(String::as_str).collect();
    let mut notes = Vec::new();
    if !missing.is_empty() {
        notes.push(format!("no {}", missing.join(", ")));
    }
    if !unknown.is_empty() {
        notes.push(format!("no result of this case: {}", unknown.join(", ")));
    }
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    let Some(first) = wrong.first() else {
        let verdict = match (missing.is_empty(), comparisons.iter().all(|c| c.exact)) {
            (false, _) => Verdict::Incomplete,
            (true, true) => Verdict::Exact,
            (true, false) => match case.format {
                Format::F32 => Verdict::WithinF32,
                Format::F16 => Verdict::WithinF16,
                Format::Bf16 => Verdict::WithinBf16,
            },
        };
        return Judgement { verdict, worst, first_wrong: None, mistake: None, note };
    };
    let mistake = known_mistake(case, &comparisons);
    let verdict = match &mistake {
        Some(name) if name == PRECISIONS[0] => Verdict::LikeTf32,
        Some(name) if PRECISIONS.contains(&name.as_str()) => Verdict::LikeHalf,
        Some(_) => Verdict::Fail,
        // What is loose, or of fewer digits, is told apart in float32 alone.
        None if case.format == Format::F32 && wrong.iter().all(|c| c.is_loose()) => Verdict::LooseFunctions,
        None if wrong.iter().all(|c| c.is_fast()) => Verdict::FastAlgorithm,
        None if case.format != Format::F32 => Verdict::Fail,
        None => precision(&case.op, &comparisons, &wrong),
    };
    let verdict = if verdict < Verdict::Unsupported && !missing.is_empty() { Verdict::Incomplete } else { verdict };
    Judgement { verdict, worst, first_wrong: Some(first.name.into()), mistake, note }
}

/// What training starts from, by name; nothing where the model's folder cannot be read.
fn first_weights(case: &Case) -> BTreeMap<String, Tensor> {
    let model = case.attributes.get("model").and_then(serde_json::Value::as_str).unwrap_or("");
    let path = case.path.with_file_name(model).join("diffusion_pytorch_model.safetensors");
    let read = atomic::read(&path).and_then(|bytes| read_tensors(&bytes, &path));
    read.map(|(weights, _)| weights).unwrap_or_default()
}

/// The first mistake of the case whose values the results have, where it changes any, within the tolerance; in a half format
/// the only one. Of one that
/// changes much the smallest results are stored; of those that are not, `partial` has the beginnings of the names.
fn known_mistake(case: &Case, comparisons: &[Comparison]) -> Option<String> {
    let keys = case.tensors.keys().filter_map(|key| key.strip_prefix("mutant."));
    let mut names: Vec<&str> = keys.filter_map(|key| key.split_once('.').map(|(mutant, _)| mutant)).collect();
    names.dedup();
    // Inputs of usual size are the same numbers in TF32 and in float16: the first of these is named.
    names.sort_by_key(|name| PRECISIONS.iter().position(|precision| precision == name).map_or(0, |i| i + 1));
    let fits = |mutant: &str| {
        comparisons.iter().all(|c| match case.tensors.get(&format!("mutant.{mutant}.{}", c.name)) {
            None => {
                c.is_right()
                    || case.partial.get(mutant).is_some_and(|starts| starts.iter().any(|s| c.name.starts_with(s)))
            }
            Some(values) => values
                .to_f64()
                .iter()
                .zip(&c.found)
                .zip(&c.tolerance)
                // The mistaken values are of another size than the true ones: their own rounding counts, too.
                .all(|((&m, &found), &tol)| {
                    error(found, m) <= tol + case.format.ulp(m) + 8.0 * case.format.unit() * m.abs()
                }),
        })
    };
    let mut fitting = names.into_iter().filter(|mutant| fits(mutant));
    let first = fitting.next()?;
    // Few digits may be those of several mistakes: then none of them is known.
    let known = case.format == Format::F32 || fitting.next().is_none();
    known.then(|| first.to_string())
}

#[cfg(test)]
mod tests;
