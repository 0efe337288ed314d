//! Two traces, step by step, to the first number in which they part.

use std::fmt;

use serde::Serialize;

use super::{StepRecord, Trace};
use crate::layers::flat;

/// Half a unit in the last place of f32, relative.
const ROUNDING: f64 = 1.0 / (1u64 << 24) as f64;

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Quantities that both traces hold and that were compared.
    pub compared: usize,
    /// Names that the second trace does not hold, each once.
    pub missing: Vec<String>,
    /// The first quantity that differs, in the order of execution.
    pub first: Option<Difference>,
}

/// Where two traces part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The step, from 1.
    pub step: usize,
    /// Its time in the first trace.
    pub t: f64,
    /// The coefficient or the tensor.
    pub quantity: String,
    /// The element that differs most, (image, channel, row, column), of a tensor.
    pub index: Option<[usize; 4]>,
    /// The number in the first trace.
    pub expected: f64,
    /// The number in the second.
    pub found: f64,
    /// By how much the two may differ.
    pub allowed: f64,
    /// In words, where the two cannot be compared as numbers.
    pub note: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Difference { step, t, quantity, index, expected, found, allowed, note } = self;
        write!(f, "step {step}, t = {t}: {quantity}")?;
        if let Some([n, c, h, w]) = index {
            write!(f, ", image {n}, channel {c}, row {h}, column {w}")?;
        }
        match note {
            Some(note) => write!(f, ": {note}"),
            None => write!(
                f,
                ": expected {expected:e}, found {found:e} (off by {:.2e}, allowed {allowed:.2e})",
                found - expected
            ),
        }
    }
}

/// Compares `theirs` with `ours`, quantity by quantity in the order of execution.
///
/// # Tolerances
/// With u = 2⁻²⁴, a coefficient may differ by 4 u·max(|ours|, 1)·(1 + 1/σ²) with σ² the smaller variance above 0 of the two levels,
/// because a table in float32 holds ᾱ to u and 1−ᾱ to no more. A tensor may differ by 256 u times its largest element, which two
/// right float32 networks keep, and x̂₀ by (1 + σ/signal) times as much, the factor that Eq. 15 of Ho et al. 2020 amplifies
/// errors of ε̂ by. From the first difference on all that follows differs, so only the first is named.
pub fn compare(ours: &Trace, theirs: &Trace) -> Comparison {
    let mut comparison = Comparison { compared: 0, missing: Vec::new(), first: None };
    for (i, step) in ours.steps.iter().enumerate() {
        let Some(other) = theirs.steps.get(i) else {
            let note = format!("the second trace has {} steps, the first {}", theirs.steps.len(), ours.steps.len());
            comparison.first = Some(difference(step, "steps", note));
            return comparison;
        };
        comparison.first = first_of_step(step, other, &mut comparison);
        if comparison.first.is_some() {
            return comparison;
        }
    }
    if let Some(more) = theirs.steps.get(ours.steps.len()) {
        let note = format!("the second trace has {} steps, the first {}", theirs.steps.len(), ours.steps.len());
        comparison.first = Some(difference(more, "steps", note));
    }
    comparison
}

fn difference(step: &StepRecord, quantity: &str, note: String) -> Difference {
    let note = (!note.is_empty()).then_some(note);
    let (step, t, quantity) = (step.number, step.from.t, quantity.to_string());
    Difference { step, t, quantity, index: None, expected: 0.0, found: 0.0, allowed: 0.0, note }
}

fn first_of_step(ours: &StepRecord, theirs: &StepRecord, comparison: &mut Comparison) -> Option<Difference> {
    let smallest = [ours.from.sigma, ours.to.sigma].into_iter().filter(|sigma| *sigma > 0.0).fold(1.0, f64::min);
    let found = theirs.coefficients();
    for (name, expected) in ours.coefficients() {
        let Some((_, found)) = found.iter().find(|(other, _)| *other == name) else {
            comparison.miss(&name);
            continue;
        };
        comparison.compared += 1;
        let allowed = 4.0 * ROUNDING * expected.abs().max(1.0) * (1.0 + 1.0 / (smallest * smallest));
        if exceeds(*found - expected, allowed) {
            return Some(Difference { expected, found: *found, allowed, ..difference(ours, &name, String::new()) });
        }
    }
    for (name, expected) in &ours.tensors {
        let Some(found) = theirs.tensor(name) else {
            comparison.miss(name);
            continue;
        };
        if found.dim() != expected.dim() {
            let note = format!("shapes (n, h, w, c): expected {:?}, found {:?}", expected.dim(), found.dim());
            return Some(difference(ours, name, note));
        }
        comparison.compared += 1;
        let largest = flat(expected).iter().fold(0.0, |most: f64, x| most.max(f64::from(x.abs())));
        let amplified = if name.starts_with("x_0_hat") { 1.0 + ours.seen.sigma / ours.seen.signal } else { 1.0 };
        let allowed = 256.0 * ROUNDING * largest * amplified;
        let off = |a: f32, b: f32| if a == b { 0.0 } else { (f64::from(a) - f64::from(b)).abs() };
        let pairs = expected.indexed_iter().zip(found).map(|((at, &a), &b)| (at, a, b));
        // NaN is further off than anything.
        let key = |a, b| if off(a, b).is_nan() { f64::INFINITY } else { off(a, b) };
        let worst = pairs.max_by(|x, y| key(x.1, x.2).total_cmp(&key(y.1, y.2)));
        let worst = worst.filter(|&(_, a, b)| exceeds(off(a, b), allowed));
        if let Some(((n, h, w, c), expected, found)) = worst {
            let (expected, found) = (expected.into(), found.into());
            let nothing = difference(ours, name, String::new());
            return Some(Difference { index: Some([n, c, h, w]), expected, found, allowed, ..nothing });
        }
    }
    None
}

/// Whether a difference is more than allowed, or not a number.
fn exceeds(difference: f64, allowed: f64) -> bool {
    difference.is_nan() || difference.abs() > allowed
}

impl Comparison {
    fn miss(&mut self, name: &str) {
        if !self.missing.iter().any(|missing| missing == name) {
            self.missing.push(name.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array4;
    use serde_json::Map;

    use super::*;
    use crate::diffusion::Level;
    use crate::numerics::rng::normal;
    use crate::trace::Weight;

    fn step(number: usize) -> StepRecord {
        let at = |t: f64, alpha_bar| Level::of_alpha_bar(t - 1.0, alpha_bar).into();
        let (t, abar) = (3.0 - number as f64, [0.2, 0.7][number - 1]);
        let to = if number == 2 { Level::CLEAN.into() } else { at(t - 1.0, 0.7) };
        let tensors = ["x_t", "x_0_hat_unclipped", "z", "x_s"];
        let tensor = |i: usize| normal((1, 3, 2, 1), (10 * number + i) as u64).mapv(|x| x as f32);
        StepRecord {
            number,
            from: at(t, abar),
            seen: at(t, abar),
            to,
            beta: Some(0.4),
            beta_tilde: Some(0.1),
            terms: vec![Weight { name: "x_t".into(), weight: 0.6 }, Weight { name: "z".into(), weight: 0.3 }],
            tensors: tensors.iter().enumerate().map(|(i, name)| (name.to_string(), tensor(i))).collect(),
        }
    }

    fn trace() -> Trace {
        let settings = Map::from_iter([("sampler".to_string(), "ddpm".into())]);
        Trace { settings, steps: vec![step(1), step(2)] }
    }

    fn with(change: impl FnOnce(&mut Trace)) -> Comparison {
        let mut theirs = trace();
        change(&mut theirs);
        compare(&trace(), &theirs)
    }

    #[test]
    fn traces_that_agree_to_rounding_agree() {
        let found = with(|theirs| {
            theirs.steps[0].from.alpha_bar = f64::from(0.2f32);
            theirs.steps[1].tensors[3].1.mapv_inplace(|x| x * (1.0 + 1e-6));
        });
        assert_eq!((found.first, found.missing.len()), (None, 0));
        assert!(found.compared > 30, "{}", found.compared);
    }

    #[test]
    fn the_first_quantity_that_differs_is_named_with_its_step_and_element() {
        let found = with(|theirs| {
            theirs.steps[1].tensors[2].1[[0, 2, 1, 0]] += 0.01;
            theirs.steps[1].tensors[3].1.fill(0.0);
        });
        let first = found.first.expect("a difference");
        assert_eq!((first.step, first.t, first.quantity.as_str(), first.index), (2, 1.0, "z", Some([0, 0, 2, 1])));
        let weight = with(|theirs| theirs.steps[0].terms[1].weight = 0.31).first.expect("a difference");
        assert_eq!((weight.step, weight.quantity.as_str()), (1, "weight of z"));
        let nan = with(|theirs| theirs.steps[0].tensors[0].1[[0, 1, 0, 0]] = f32::NAN).first.expect("NaN differs");
        assert_eq!((nan.quantity.as_str(), nan.index), ("x_t", Some([0, 0, 1, 0])));
    }

    #[test]
    fn x_0_hat_may_be_off_by_as_much_as_the_noise_amplifies() {
        let largest = trace().steps[0].tensors[1].1.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let off_by = |tolerances: f32| {
            with(|theirs| theirs.steps[0].tensors[1].1[[0, 0, 0, 0]] += tolerances * largest * 256.0 / 16777216.0)
        };
        // √0.8/√0.2 = 2: three times the tolerance of others.
        assert_eq!(off_by(2.9).first, None);
        assert_eq!(off_by(3.1).first.map(|first| first.quantity), Some("x_0_hat_unclipped".into()));
    }

    #[test]
    fn steps_tensors_and_shapes_that_are_missing_are_said() {
        let short = with(|theirs| drop(theirs.steps.pop())).first.expect("a step is missing");
        assert_eq!(short.note.as_deref(), Some("the second trace has 1 steps, the first 2"));
        let long = with(|theirs| theirs.steps.push(step(2))).first.expect("a step too many");
        assert_eq!(long.quantity, "steps");
        let without = with(|theirs| theirs.steps.iter_mut().for_each(|step| drop(step.tensors.remove(2))));
        assert_eq!((without.first, without.missing), (None, vec!["z".to_string()]));
        let shape = with(|theirs| theirs.steps[0].tensors[0].1 = Array4::zeros((1, 2, 3, 1))).first.expect("a shape");
        assert!(shape.to_string().contains("expected (1, 3, 2, 1), found (1, 2, 3, 1)"), "{shape}");
    }

    #[test]
    fn trace_of_either_format_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a.safetensors", "a.json"] {
            let path = folder.path().join(name);
            trace().write(&path).expect("written");
            let found = Trace::read(&path).expect("read");
            assert_eq!(compare(&trace(), &found), compare(&trace(), &trace()), "{name}");
            assert_eq!((found.settings, found.steps.len()), (trace().settings, 2));
            for (a, b) in found.steps.iter().zip(trace().steps) {
                assert_eq!(b.tensors.iter().map(|(name, x)| a.tensor(name) == Some(x)).filter(|same| *same).count(), 4);
            }
        }
    }

    #[test]
    fn files_that_are_no_traces_are_refused_by_what_is_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        let refusal = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            Trace::read(&path).expect_err("no trace").to_string()
        };
        assert!(refusal("a.json", b"{\"trace\": \"2\", \"steps\": []}").contains("version 1, found 2"));
        assert!(refusal("b.json", b"{\"steps\": 3}").contains("not a trace in JSON"));
        assert!(refusal("c.safetensors", b"abcdefgh").contains("not a whole safetensors file"));
        let mut value: serde_json::Value = {
            let path = folder.path().join("d.json");
            trace().write(&path).expect("written");
            serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON")
        };
        value["steps"][0]["tensors"]["z"] = serde_json::json!([[[1.0, 2.0]], [[3.0]]]);
        assert!(refusal("e.json", value.to_string().as_bytes()).contains("step 1: z is no nested list"));
        value["steps"][0]["tensors"]["z"] = serde_json::json!([1.0, 2.0]);
        assert!(refusal("f.json", value.to_string().as_bytes()).contains("z: expected shape (n, c, h, w), found [2]"));
    }
}
