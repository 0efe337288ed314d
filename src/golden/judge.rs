//! Is a backend's result right, nearly right, of another precision, or wrong: and where, and like which known mistake.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use ndarray::ArrayD;
use serde::Serialize;

use super::case::{Case, Tensor};
use super::precision::U;
use super::tolerance::ulp;

/// What is said of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// Every result has the bits of the contract.
    #[serde(rename = "exact")]
    Exact,
    /// Every result is as near to the truth as float32 can be expected to be.
    #[serde(rename = "within f32")]
    WithinF32,
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
    /// |found − expected| in units of the last place of float32 at the expected value.
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

/// Operations with products, in which a lower precision of the inputs can show.
const PRODUCTS: [&str; 7] = ["linear", "conv2d", "attention", "res_block", "attention_block", "unet", "training"];

/// The mutants that are precisions of inputs.
const PRECISIONS: [&str; 3] = ["tf32_inputs", "f16_inputs", "bf16_inputs"];

/// One result beside the truth.
struct Comparison<'a> {
    name: &'a str,
    truth: ArrayD<f64>,
    found: ArrayD<f64>,
    tolerance: ArrayD<f64>,
    exact: bool,
}

impl Comparison<'_> {
    fn errors(&self) -> impl Iterator<Item = (f64, f64)> {
        let errors = self.found.iter().zip(&self.truth).map(|(f, t)| error(*f, *t));
        errors.zip(self.tolerance.iter().copied())
    }

    fn is_right(&self) -> bool {
        self.exact || self.errors().all(|(error, tolerance)| error <= tolerance)
    }

    fn worst(&self) -> Option<Worst> {
        let ratio = |(error, tolerance): (f64, f64)| match error / tolerance {
            _ if error == 0.0 => 0.0,
            ratio if ratio.is_nan() => 1.0, // an overflow where one is allowed
            ratio => ratio,
        };
        let (at, tolerances) =
            self.errors().map(ratio).enumerate().fold(None, |worst: Option<(usize, f64)>, (i, r)| {
                if worst.is_some_and(|(_, w)| r <= w) { worst } else { Some((i, r)) }
            })?;
        let (expected, found) = (self.truth.iter().nth(at).copied()?, self.found.iter().nth(at).copied()?);
        let (mut index, mut rest) = (Vec::new(), at);
        for &axis in self.truth.shape().iter().rev() {
            index.insert(0, rest % axis);
            rest /= axis;
        }
        let error = error(found, expected);
        let relative = if error == 0.0 { 0.0 } else { error / expected.abs() };
        Some(Worst {
            tensor: self.name.into(),
            index,
            expected,
            found,
            tolerances,
            ulp: error / ulp(expected),
            relative,
        })
    }

    /// Which precision's errors these are.
    fn class(&self, op: &str) -> Verdict {
        // See the tolerance of products; a hundredth more for products of two roundings.
        const TF32: f64 = 8192.0 * 1.01;
        const BF16: f64 = 65536.0 * 1.01;
        let wrong = self.errors().filter(|(error, tolerance)| error > tolerance).count();
        let (mut dot, mut of_errors, mut of_truth) = (0.0, 0.0, 0.0);
        for (found, truth) in self.found.iter().zip(&self.truth) {
            let e = found - truth;
            (dot, of_errors, of_truth) = (dot + e * truth, of_errors + e * e, of_truth + truth * truth);
        }
        let near = of_errors.is_finite() && of_errors <= 0.0025 * of_truth;
        // Integers and zeros are numbers of every precision: only where the truth is none of them does this tell.
        let rounded_to =
            |keep: fn(f64) -> bool| near && self.found.iter().all(|&x| keep(x)) && !self.truth.iter().all(|&x| keep(x));
        if rounded_to(is_bf16) || rounded_to(is_f16) {
            return Verdict::LikeHalf;
        }
        let systematic = dot * dot >= 0.25 * of_errors * of_truth;
        if !near || systematic || 4 * wrong < self.truth.len() || !PRODUCTS.contains(&op) {
            return Verdict::Fail;
        }
        let largest = self.errors().map(|(e, tol)| e / tol).fold(0.0, |m, x| if x > m { x } else { m });
        match largest {
            x if x <= TF32 => Verdict::LikeTf32,
            x if x <= BF16 => Verdict::LikeHalf,
            _ => Verdict::Fail,
        }
    }
}

/// |found − truth|; infinite where either is no number and the other is.
fn error(found: f64, truth: f64) -> f64 {
    let error = if found == truth { 0.0 } else { (found - truth).abs() };
    if error.is_nan() { f64::INFINITY } else { error }
}

/// Whether float32 x has at most 8 significant bits, as bfloat16 has.
fn is_bf16(x: f64) -> bool {
    x.is_finite() && (x as f32).to_bits() & 0xffff == 0
}

/// Whether x has at most 11 significant bits and the range of float16.
fn is_f16(x: f64) -> bool {
    let scaled = x * (1 << 24) as f64; // the smallest float16 is 2⁻²⁴
    x.abs() <= 65504.0 && scaled == scaled.trunc() && x.to_bits() & ((1 << 42) - 1) == 0
}

/// Judges the results of one case of a kit.
pub fn judge(case: &Case, results: &BTreeMap<String, Tensor>) -> Judgement {
    let mut comparisons = Vec::new();
    let mut missing = Vec::new();
    for name in &case.order {
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
        let tolerance = case.numbers(&format!("tol.{name}"));
        comparisons.push(Comparison { name, truth, found, tolerance, exact });
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
            (true, false) => Verdict::WithinF32,
        };
        return Judgement { verdict, worst, first_wrong: None, mistake: None, note };
    };
    let mistake = known_mistake(case, &comparisons);
    let verdict = match &mistake {
        Some(name) if name == PRECISIONS[0] => Verdict::LikeTf32,
        Some(name) if PRECISIONS.contains(&name.as_str()) => Verdict::LikeHalf,
        Some(_) => Verdict::Fail,
        None => class_of_all(&case.op, &wrong),
    };
    Judgement { verdict, worst, first_wrong: Some(first.name.into()), mistake, note }
}

/// Another precision shows in most of the wrong tensors, and its largest errors tell which; what has fewer than 8 numbers
/// tells nothing. Of a traced network the first wrong tensor tells: what follows has its errors mixed.
fn class_of_all(op: &str, wrong: &[&Comparison]) -> Verdict {
    let wrong = if wrong[0].name.starts_with("taps.") { &wrong[..1] } else { wrong };
    let classes: Vec<Verdict> = wrong.iter().filter(|c| c.truth.len() >= 8).map(|c| c.class(op)).collect();
    let others: Vec<Verdict> = classes.iter().copied().filter(|class| *class != Verdict::Fail).collect();
    match others.iter().max() {
        Some(class) if 2 * others.len() > classes.len() => *class,
        _ => Verdict::Fail,
    }
}

/// The first mistake of the case whose values the results have, where it changes any, within the tolerance.
fn known_mistake(case: &Case, comparisons: &[Comparison]) -> Option<String> {
    let keys = case.tensors.keys().filter_map(|key| key.strip_prefix("mutant."));
    let mut names: Vec<&str> = keys.filter_map(|key| key.split_once('.').map(|(mutant, _)| mutant)).collect();
    names.dedup();
    // Inputs of usual size are the same numbers in TF32 and in float16: the first of these is named.
    names.sort_by_key(|name| PRECISIONS.iter().position(|precision| precision == name).map_or(0, |i| i + 1));
    let fits = |mutant: &str| {
        comparisons.iter().all(|c| match case.tensors.get(&format!("mutant.{mutant}.{}", c.name)) {
            None => c.is_right(),
            Some(values) => values
                .to_f64()
                .iter()
                .zip(&c.found)
                .zip(&c.tolerance)
                // The mistaken values are of another size than the true ones: their own rounding counts, too.
                .all(|((&m, &found), &tol)| error(found, m) <= tol + ulp(m) + 8.0 * U * m.abs()),
        })
    };
    names.into_iter().find(|mutant| fits(mutant)).map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::oracle::complete;
    use ndarray::{Array, IxDyn};

    /// A product of 32 terms with its results, and those results as a backend would have them.
    fn product() -> (Case, BTreeMap<String, Tensor>) {
        let numbers = |shape: &[usize], key| {
            let x = crate::layers::gradient_check::normal(IxDyn(shape), key);
            Tensor::F32(x.mapv(|x| x as f32))
        };
        let mut case = Case { op: "linear".into(), ..Case::default() };
        case.tensors.insert("input.x".into(), numbers(&[6, 32], 1));
        case.tensors.insert("input.weight".into(), numbers(&[5, 32], 2));
        case.tensors.insert("grad_output".into(), numbers(&[6, 5], 3));
        complete(&mut case, None).expect("a golden case");
        let results = case.order.iter().map(|name| (name.clone(), case.tensors[&format!("bits.{name}")].clone()));
        let results = results.collect();
        (case, results)
    }

    fn changed(
        results: &BTreeMap<String, Tensor>,
        name: &str,
        change: impl Fn(f32) -> f32,
    ) -> BTreeMap<String, Tensor> {
        let mut results = results.clone();
        let Some(Tensor::F32(x)) = results.get_mut(name) else { panic!("no float32 {name}") };
        x.mapv_inplace(change);
        results
    }

    #[test]
    fn bits_of_the_contract_are_exact_and_a_neighbour_of_them_is_within_f32() {
        let (case, results) = product();
        assert_eq!(judge(&case, &results).verdict, Verdict::Exact);
        let near = changed(&results, "output", |x| f32::from_bits(x.to_bits() + 1));
        assert_eq!(judge(&case, &near).verdict, Verdict::WithinF32);
    }

    #[test]
    fn weight_gradient_of_zero_or_a_thousandth_too_large_fails_and_is_named() {
        let (case, results) = product();
        for wrong in [changed(&results, "grad.weight", |_| 0.0), changed(&results, "grad.weight", |x| 1.001 * x)] {
            let judgement = judge(&case, &wrong);
            assert_eq!(judgement.verdict, Verdict::Fail);
            assert_eq!(judgement.first_wrong.as_deref(), Some("grad.weight"));
        }
    }

    #[test]
    fn results_with_nan_of_another_shape_or_missing_are_no_pass() {
        let (case, results) = product();
        let nan = judge(&case, &changed(&results, "output", |_| f32::NAN));
        assert_eq!((nan.verdict, nan.worst.expect("an element").tolerances), (Verdict::Fail, f64::INFINITY));
        let mut other = results.clone();
        other.insert("output".into(), Tensor::F32(Array::zeros(IxDyn(&[5, 6]))));
        assert_eq!(judge(&case, &other).verdict, Verdict::Fail);
        other.remove("output");
        assert_eq!(judge(&case, &other).verdict, Verdict::Incomplete);
    }

    #[test]
    fn precisions_are_told_by_their_errors() {
        let (case, _) = product();
        let keep = |bits: u32| {
            let mut rounded = case.clone();
            for tensor in rounded.tensors.values_mut() {
                let Tensor::F32(x) = tensor else { continue };
                let half = 1 << (22 - bits);
                x.mapv_inplace(|x| f32::from_bits((x.to_bits() + half) & (u32::MAX << (23 - bits))));
            }
            complete(&mut rounded, None).expect("a golden case");
            case.order.iter().map(|name| (name.clone(), rounded.tensors[name].clone())).collect()
        };
        assert_eq!(judge(&case, &keep(10)).verdict, Verdict::LikeTf32);
        assert_eq!(judge(&case, &keep(7)).verdict, Verdict::LikeHalf);
    }
}
