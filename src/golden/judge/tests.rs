//! Every verdict, on a product of 32 terms.

use super::*;
use crate::golden::oracle::complete;
use ndarray::{Array, IxDyn};

/// A product of 32 terms with its results, and those results as a backend would have them.
fn product() -> (Case, BTreeMap<String, Tensor>) {
    let numbers = |shape: &[usize], key| {
        let x = crate::numerics::rng::normal(IxDyn(shape), key);
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

fn changed(results: &BTreeMap<String, Tensor>, name: &str, change: impl Fn(f32) -> f32) -> BTreeMap<String, Tensor> {
    let mut results = results.clone();
    let Some(Tensor::F32(x)) = results.get_mut(name) else { panic!("no float32 {name}") };
    x.mapv_inplace(change);
    results
}

#[test]
fn bits_of_the_contract_are_exact_and_a_neighbour_of_them_is_within_f32() {
    let (case, results) = product();
    assert_eq!(judge(&case, &results, Scope::Whole).verdict, Verdict::Exact);
    let near = changed(&results, "output", |x| f32::from_bits(x.to_bits() + 1));
    assert_eq!(judge(&case, &near, Scope::Whole).verdict, Verdict::WithinF32);
}

#[test]
fn weight_gradient_of_zero_or_a_thousandth_too_large_fails_and_is_named() {
    let (case, results) = product();
    for wrong in [changed(&results, "grad.weight", |_| 0.0), changed(&results, "grad.weight", |x| 1.001 * x)] {
        let judgement = judge(&case, &wrong, Scope::Whole);
        assert_eq!(judgement.verdict, Verdict::Fail);
        assert_eq!(judgement.first_wrong.as_deref(), Some("grad.weight"));
    }
}

#[test]
fn results_with_nan_of_another_shape_or_missing_are_no_pass() {
    let (case, results) = product();
    let nan = judge(&case, &changed(&results, "output", |_| f32::NAN), Scope::Whole);
    assert_eq!((nan.verdict, nan.worst.expect("an element").tolerances), (Verdict::Fail, f64::INFINITY));
    let mut other = results.clone();
    other.insert("output".into(), Tensor::F32(Array::zeros(IxDyn(&[5, 6]))));
    assert_eq!(judge(&case, &other, Scope::Whole).verdict, Verdict::Fail);
    other.remove("output");
    assert_eq!(judge(&case, &other, Scope::Whole).verdict, Verdict::Incomplete);
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
    assert_eq!(judge(&case, &keep(10), Scope::Whole).verdict, Verdict::LikeTf32);
    assert_eq!(judge(&case, &keep(7), Scope::Whole).verdict, Verdict::LikeHalf);
}

#[test]
fn gradients_are_asked_of_the_whole_and_not_of_the_forward_pass() {
    let (case, mut results) = product();
    results.retain(|name, _| name == "output");
    assert_eq!(judge(&case, &results, Scope::Whole).verdict, Verdict::Incomplete);
    assert_eq!(judge(&case, &results, Scope::Forward).verdict, Verdict::Exact);
    let wrong = changed(&results, "output", |x| x + 1.0);
    assert_eq!(judge(&case, &wrong, Scope::Forward).verdict, Verdict::Fail);
}
