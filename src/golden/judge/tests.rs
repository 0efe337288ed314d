//! Every verdict, on a product of few terms.

use super::*;
use crate::golden::oracle::complete;
use ndarray::{Array, Axis, IxDyn};

/// A product of 32 terms with its results, and those results as a backend would have them.
fn product() -> (Case, BTreeMap<String, Tensor>) {
    product_of(32, Format::F32)
}

/// The same of so many terms, in a format.
fn product_of(terms: usize, format: Format) -> (Case, BTreeMap<String, Tensor>) {
    let numbers = |shape: &[usize], key| {
        let x = crate::numerics::rng::normal(IxDyn(shape), key);
        Tensor::F32(x.mapv(|x| format.nearest(x as f32)))
    };
    let mut case = Case { op: "linear".into(), format, ..Case::default() };
    case.tensors.insert("input.x".into(), numbers(&[6, terms], 1));
    case.tensors.insert("input.weight".into(), numbers(&[5, terms], 2));
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

/// The results of the product with some inputs changed, as a backend in float32 would have them.
fn with_inputs(case: &Case, change: impl Fn(&str, f32) -> f32) -> BTreeMap<String, Tensor> {
    let mut changed = case.clone();
    for (name, tensor) in &mut changed.tensors {
        let Tensor::F32(x) = tensor else { continue };
        x.mapv_inplace(|x| change(name, x));
    }
    complete(&mut changed, None).expect("a golden case");
    let single = |x: &Tensor| Tensor::F32(x.to_f64().mapv(|x| x as f32));
    case.order.iter().map(|name| (name.clone(), single(&changed.tensors[name]))).collect()
}

/// With so many bits behind the point, half a unit being added before the others are cut off, or nothing.
fn keep(x: f32, bits: u32, nearest: bool) -> f32 {
    let half = if nearest { 1 << (22 - bits) } else { 0 };
    f32::from_bits((x.to_bits() + half) & (u32::MAX << (23 - bits)))
}

#[test]
fn precisions_are_told_by_their_errors_rounded_or_cut_off_or_on_one_side() {
    let (case, _) = product();
    for nearest in [true, false] {
        for (bits, verdict) in [(10, Verdict::LikeTf32), (7, Verdict::LikeHalf)] {
            let found = judge(&case, &with_inputs(&case, |_, x| keep(x, bits, nearest)), Scope::Whole);
            assert_eq!(found.verdict, verdict, "{bits} bits, to the nearest: {nearest}");
        }
    }
    let weights_alone = |name: &str, x| if name == "input.weight" { keep(x, 7, true) } else { x };
    let found = judge(&case, &with_inputs(&case, weights_alone), Scope::Forward);
    assert_eq!(found.verdict, Verdict::LikeHalf);
}

#[test]
fn error_of_the_size_of_a_precision_without_its_pattern_or_in_one_result_of_two_kinds_is_no_precision() {
    let (case, results) = product();
    let scaled = changed(&results, "output", |x| 0.9995 * x);
    assert_eq!(judge(&case, &scaled, Scope::Whole).verdict, Verdict::Fail);
    let mut mixed = with_inputs(&case, |_, x| keep(x, 10, true));
    mixed.insert("grad.x".into(), changed(&results, "grad.x", |x| 0.9995 * x)["grad.x"].clone());
    assert_eq!(judge(&case, &mixed, Scope::Whole).verdict, Verdict::Fail);
}

#[test]
fn term_of_2048_that_was_left_out_is_no_precision() {
    let (case, _) = product_of(2048, Format::F32);
    let mut short = case.clone();
    let Some(Tensor::F32(x)) = short.tensors.get_mut("input.x") else { panic!("no float32 x") };
    x.index_axis_mut(Axis(1), 2047).fill(0.0);
    let found = judge(&case, &with_inputs(&short, |_, x| x), Scope::Forward);
    assert_eq!((found.verdict, found.worst.expect("an element").relative > 1e-3), (Verdict::Fail, true));
}

#[test]
fn sums_in_bfloat16_are_called_so_with_a_bias_behind_them() {
    let (mut case, _) = product_of(512, Format::F32);
    case.tensors.insert("input.bias".into(), Tensor::F32(Array::from_iter([0.7, -0.3, 0.1, 1.3, -2.2]).into_dyn()));
    complete(&mut case, None).expect("a golden case");
    let [x, weight, bias] = ["x", "weight", "bias"].map(|name| case.numbers(&format!("input.{name}")));
    let sum = |i: usize, o: usize| {
        (0..512).fold(0.0, |sum, k| Format::Bf16.nearest(sum + (x[[i, k]] * weight[[o, k]]) as f32))
    };
    let output = Array::from_shape_fn((6, 5), |(i, o)| sum(i, o) + bias[o] as f32).into_dyn();
    let found = judge(&case, &BTreeMap::from([("output".into(), Tensor::F32(output))]), Scope::Forward);
    assert_eq!(found.verdict, Verdict::LikeHalf);
}

#[test]
fn numbers_of_a_coarser_step_than_bfloat16s_are_no_precision() {
    let mut case = Case { op: "silu".into(), ..Case::default() };
    case.tensors.insert("input.x".into(), Tensor::F32(Array::from_iter((1..60).map(|i| 0.173 * i as f32)).into_dyn()));
    complete(&mut case, None).expect("a golden case");
    let results = BTreeMap::from([("output".to_string(), case.tensors["bits.output"].clone())]);
    let rounded = |to: fn(f32) -> f32| judge(&case, &changed(&results, "output", to), Scope::Whole).verdict;
    let [whole, bf16] = [rounded(f32::round), rounded(|x| Format::Bf16.nearest(x))];
    assert_eq!([whole, bf16], [Verdict::Fail, Verdict::LikeHalf]);
}

#[test]
fn functions_within_their_budgets_pass_and_have_their_own_verdict() {
    let mut case = Case { op: "tanh".into(), ..Case::default() };
    let x = Array::from_iter((1..60).map(|i| 0.1 * i as f32)).into_dyn();
    case.tensors.insert("input.x".into(), Tensor::F32(x));
    complete(&mut case, None).expect("a golden case");
    let off_by = |ulps: u32| {
        let results = BTreeMap::from([("output".to_string(), case.tensors["bits.output"].clone())]);
        judge(&case, &changed(&results, "output", |x| f32::from_bits(x.to_bits() - ulps)), Scope::Whole).verdict
    };
    assert_eq!([1, 4, 7].map(off_by), [Verdict::WithinF32, Verdict::LooseFunctions, Verdict::Fail]);
}

#[test]
fn errors_of_the_size_of_the_largest_term_are_a_fast_algorithm() {
    let (case, results) = product();
    let largest = case.numbers("tol.output").iter().fold(0.0, |m: f64, &tol| m.max(tol)) as f32;
    let alternating = |tolerances: f32| {
        let mut results = results.clone();
        let Some(Tensor::F32(y)) = results.get_mut("output") else { panic!("no float32 output") };
        y.iter_mut().enumerate().for_each(|(i, y)| *y += if i % 2 == 0 { tolerances } else { -tolerances } * largest);
        judge(&case, &results, Scope::Whole).verdict
    };
    // Forty of the largest tolerance are an error as large and as random as TF32's.
    assert_eq!([6.0, 40.0].map(alternating), [Verdict::FastAlgorithm, Verdict::LikeTf32]);
}

#[test]
fn fast_algorithm_of_a_half_format_is_off_by_less_than_the_largest_result_is_rounded_by() {
    let (case, results) = product_of(32, Format::Bf16);
    let tolerance = case.numbers("tol.output");
    let largest = tolerance.iter().fold(0.0, |m: f64, &tol| m.max(tol));
    assert!(tolerance.iter().any(|&tol| tol < 0.4 * largest), "all results are of one size");
    let off_by = |part: f64| {
        let sign = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
        let mut results = results.clone();
        let Some(Tensor::F32(y)) = results.get_mut("output") else { panic!("no float32 output") };
        y.iter_mut().enumerate().for_each(|(i, y)| *y += (part * largest * sign(i)) as f32);
        judge(&case, &results, Scope::Forward).verdict
    };
    assert_eq!([0.5, 1.5].map(off_by), [Verdict::FastAlgorithm, Verdict::Fail]);
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
