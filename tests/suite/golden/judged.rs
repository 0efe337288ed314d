//! What is right passes, and what is wrong is named.

use ancestral::golden::check::{Outcome, Selection, check};
use ancestral::golden::format::Format;
use ancestral::golden::judge::{Scope, Verdict, judge};
use ancestral::golden::kit::{SIZES, drafts};
use ancestral::golden::mutants::{add_mutant, mutants};

use super::*;

#[test]
fn bits_of_the_contract_pass_the_kit_exactly() {
    let report = check(&kit(), results().path(), &Selection::default(), |_| ()).expect("a report");
    assert_eq!(report.outcome, Outcome::Pass);
    assert_eq!(report.totals.keys().collect::<Vec<_>>(), [&Verdict::Exact]);
    assert_eq!(report.orders.expect("probes"), ["blocks_of_256_fused"]);
}

/// The mistakes of a case, each of which has to be rejected and named.
fn named_mistakes(id: &str, case: &Case) -> std::collections::BTreeSet<String> {
    let stored = case.tensors.keys().filter_map(|key| key.strip_prefix("mutant.")?.split_once('.'));
    let names: std::collections::BTreeSet<String> = stored.map(|(mutant, _)| mutant.to_string()).collect();
    for mutant in &names {
        let mut wrong = bits(case);
        for (name, values) in &mut wrong {
            if let Some(mistaken) = case.tensors.get(&format!("mutant.{mutant}.{name}")) {
                *values = mistaken.clone();
            }
        }
        let judgement = judge(case, &wrong, Scope::Whole);
        assert!(judgement.verdict >= Verdict::LikeTf32, "{id}: {mutant} is accepted: {judgement:?}");
        let named = judgement.mistake.expect("a known mistake");
        let of_precision = named.ends_with("_inputs");
        assert_eq!(judgement.verdict != Verdict::Fail, of_precision, "{id}: {mutant} is called {named}");
        // Two mistakes may give the same numbers here, as TF32 and float16 inputs do.
        let same = mutant == "f16_inputs" && named == "tf32_inputs";
        assert!(named == *mutant || same, "{id}: {mutant} taken for {named}");
    }
    names
}

#[test]
fn every_mutant_is_rejected_and_named() {
    let mut seen: std::collections::BTreeSet<String> =
        cases().iter().flat_map(|(id, case)| named_mistakes(id, case)).collect();
    // Of the real sizes those with mistakes, but for the largest: all of them take 400 MB.
    for draft in drafts(&[SIZES.to_string()], Format::F32).into_iter().filter(|draft| !draft.mutants.is_empty()) {
        let (id, mut case) = (format!("{SIZES}/{}", draft.name), draft.case);
        if case.tensors.get("input.x").map_or(&[][..], Tensor::shape).iter().product::<usize>() > 1 << 20 {
            continue;
        }
        complete(&mut case, None).expect("golden values");
        assert_eq!(judge(&case, &bits(&case), Scope::Whole).verdict, Verdict::Exact, "{id}");
        draft.mutants.iter().for_each(|mutant| add_mutant(&mut case, mutant).expect("a mistake"));
        seen.extend(named_mistakes(&id, &case));
    }
    let all: Vec<&str> = mutants().map(|mutant| mutant.name).filter(|name| !seen.contains(*name)).collect();
    assert!(all.is_empty(), "in no case: {all:?}");
    assert!(seen.len() >= 110, "{} kinds", seen.len());
}

/// The format's own roundings pass, its mistakes are rejected by name, and products with fewer digits are wrong.
#[test]
fn kits_of_half_formats_take_their_roundings_and_know_their_mistakes() {
    let nearest = |results: &BTreeMap<String, Tensor>, format: Format| {
        let rounded = |values: &Tensor| Tensor::F32(values.to_f64().mapv(|x| format.nearest(x as f32)));
        results.iter().map(|(name, values)| (name.clone(), rounded(values))).collect::<BTreeMap<_, _>>()
    };
    for (format, within, fewest) in [(Format::F16, Verdict::WithinF16, 50), (Format::Bf16, Verdict::WithinBf16, 45)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let manifest = export(folder.path(), &[], format, |_| ()).expect("a kit");
        assert_eq!(Manifest::read(folder.path()).expect("a whole kit").dtype, format);
        let mut mistakes = 0;
        for entry in &manifest.cases {
            let case = entry.read(folder.path()).expect("a whole case");
            for (name, tensor) in case.tensors.iter().filter(|(name, _)| name.starts_with("input.")) {
                let Tensor::F32(x) = tensor else { continue };
                assert!(x.iter().all(|&x| format.nearest(x) == x), "{}: {name} is not of {format:?}", entry.id);
            }
            let judgement = judge(&case, &nearest(&bits(&case), format), Scope::Whole);
            assert!([Verdict::Exact, within].contains(&judgement.verdict), "{}: {judgement:?}", entry.id);
            if entry.id == "elementary/exp" && format == Format::F16 {
                // e^88 is beyond float16: infinity is right, and the largest number; no number is not.
                let with =
                    |x: f32| Tensor::F32(case.numbers("output").mapv(|y| if y > 65504.0 { x } else { y as f32 }));
                let verdict = |x: f32| judge(&case, &[("output".to_string(), with(x))].into(), Scope::Whole).verdict;
                assert_eq!((verdict(f32::INFINITY), verdict(65504.0)), (within, within));
                assert_eq!([f32::NAN, f32::NEG_INFINITY, 0.0].map(verdict), [Verdict::Fail; 3]);
            }
            if format == Format::F16 && ["linear", "conv2d"].contains(&case.op.as_str()) && case.order.len() == 4 {
                let judgement = judge(&case, &nearest(&bits(&case), Format::Bf16), Scope::Whole);
                assert_eq!(judgement.verdict, Verdict::Fail, "{}: {judgement:?}", entry.id);
            }
            mistakes += named_mistakes(&entry.id, &case).len();
        }
        assert!(mistakes >= fewest, "{format:?}: {mistakes} mistakes");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let refusal = export(folder.path(), &["optimizer".to_string()], Format::F16, |_| ()).unwrap_err().to_string();
    assert!(refusal.contains("--level: expected a level that a kit of f16 has"), "{refusal}");
}

/// A block whose numbers have few digits is of a precision only if products alone have as few.
#[test]
fn precision_of_blocks_is_that_of_products_or_none() {
    let folder = results();
    let bf16 = |x: f64| Format::Bf16.nearest(x as f32);
    let round = |wanted: &dyn Fn(&str) -> bool| {
        for (id, case) in cases().into_iter().filter(|(id, _)| wanted(id)) {
            let rounded = bits(&case).into_iter().map(|(name, values)| (name, Tensor::F32(values.to_f64().mapv(bf16))));
            write(&folder.path().join(format!("{id}.safetensors")), &rounded.collect());
        }
    };
    let verdict = || {
        let report = check(&kit(), folder.path(), &Selection::default(), |_| ()).expect("a report");
        let of_block = report.cases.iter().find(|case| case.id == "blocks/dit_block_2_heads");
        of_block.expect("the case").judgement.verdict
    };
    round(&|id| id == "blocks/dit_block_2_heads");
    assert_eq!(verdict(), Verdict::Fail);
    round(&|id| id.starts_with("ops/linear_k2"));
    assert_eq!(verdict(), Verdict::LikeHalf);
}

/// Without its mutants, a case of training knows weights and averages that were not updated by how far they moved.
#[test]
fn training_that_taught_nothing_is_no_precision_and_one_that_is_rounded_is() {
    let (_, mut case) = cases().into_iter().find(|(id, _)| id == "training/ten_steps").expect("the case");
    case.tensors.retain(|name, _| !name.starts_with("mutant."));
    let path = kit().join("models/plain/diffusion_pytorch_model.safetensors");
    let bytes = std::fs::read(&path).expect("weights");
    let (first, _) = ancestral::golden::case::read_tensors(&bytes, &path).expect("weights");
    let verdict = |change: &dyn Fn(&str, &Tensor) -> Tensor| {
        let results = bits(&case).into_iter().map(|(name, values)| (name.clone(), change(&name, &values))).collect();
        judge(&case, &results, Scope::Whole).verdict
    };
    let untouched = |start: &'static str| {
        let first = &first;
        move |name: &str, values: &Tensor| {
            name.strip_prefix(start).map_or(values.clone(), |parameter| first[parameter].clone())
        }
    };
    assert_eq!(verdict(&untouched("output.weight.")), Verdict::Fail);
    assert_eq!(verdict(&untouched("output.ema.")), Verdict::Fail);
    let bits = &bits(&case);
    let average_of = |name: &str, values: &Tensor| {
        name.strip_prefix("output.ema.").map_or(values.clone(), |of| bits[&format!("output.weight.{of}")].clone())
    };
    assert_eq!(verdict(&average_of), Verdict::Fail);
    let rounded = |_: &str, values: &Tensor| {
        let bf16 = |x: f64| f32::from_bits(((x as f32).to_bits() + 0x8000) & 0xffff_0000);
        Tensor::F32(values.to_f64().mapv(bf16))
    };
    assert_eq!(verdict(&rounded), Verdict::LikeHalf);
}

#[test]
fn an_error_in_one_layer_of_a_network_is_found_there() {
    let of_unet =
        ["conv_in", "down_blocks.1.attentions.0.to_v", "mid_block.resnets.0.conv2", "up_blocks.1.resnets.1.norm1"];
    let of_transformer = [
        ("pos_embed.proj", "pos_embed.proj"),
        ("transformer_blocks.0.norm1.linear", "transformer_blocks.0.norm1.linear"),
        ("transformer_blocks.1.attn1.to_v", "transformer_blocks.1.attn1.to_v"),
        ("transformer_blocks.1.ff.net.0.proj", "transformer_blocks.1.ff.net.0"),
        ("proj_out_2", "proj_out_2"),
    ];
    let of_unet = of_unet.iter().map(|&layer| ("plain", layer, layer));
    for (network, layer, tap) in of_unet.chain(of_transformer.map(|(layer, tap)| ("dit", layer, tap))) {
        let id = format!("network/{network}");
        let (_, golden) = cases().into_iter().find(|(found, _)| *found == id).expect("a traced network");
        let folder = tempfile::tempdir().expect("a temporary folder");
        copy(&kit().join("models").join(network), folder.path());
        let path = folder.path().join("diffusion_pytorch_model.safetensors");
        let right = std::fs::read(&path).expect("weights");
        let (mut weights, _) = ancestral::golden::case::read_tensors(&right, &path).expect("weights");
        match weights.get_mut(&format!("{layer}.weight")) {
            Some(Tensor::F32(w)) => *w *= 1.001,
            _ => panic!("no weight of {layer}"),
        }
        write(&path, &weights);
        let mut case = Case { path: folder.path().join("case.safetensors"), ..golden.clone() };
        case.attributes.insert("model".into(), json!("."));
        complete(&mut case, Some(ancestral::golden::oracle::Only::F32)).expect("results");
        let judgement = judge(&golden, &bits(&case), Scope::Whole);
        assert_eq!(judgement.verdict, Verdict::Fail, "{layer}");
        assert_eq!(judgement.first_wrong, Some(format!("taps.{tap}")));
    }
}

#[test]
fn tolerances_of_constant_groups_and_of_tiny_numbers_are_finite_and_kept_by_the_bits() {
    let x = |value: fn(usize) -> f32| Tensor::F32(ndarray::Array::from_iter((0..96).map(value)).into_dyn());
    let shaped = |tensor: Tensor, shape: &[usize]| match tensor {
        Tensor::F32(x) => Tensor::F32(x.into_shape_with_order(shape).expect("96 numbers")),
        other => other,
    };
    let uneven = |i: usize| ((i * 37) % 19) as f32 - 9.0;
    let tiny = |i: usize| (((i * 37) % 19) as f32 - 9.0) * 1e-24;
    let cases = [
        ("group_norm", json!({"groups": 4}), [2, 4, 3, 4], x(|_| 1.0)),
        ("group_norm", json!({"groups": 4}), [2, 4, 3, 4], x(|i| if i / 12 % 4 == 1 { 0.0 } else { i as f32 })),
        ("layer_norm", json!({}), [2, 4, 3, 4], x(|_| -3.0)),
        ("silu", json!({}), [2, 4, 3, 4], x(tiny)),
    ];
    let complete_and_check = |case: &mut Case| {
        complete(case, None).expect("golden values");
        for name in &case.order {
            let tolerances = case.numbers(&format!("tol.{name}"));
            assert!(tolerances.iter().all(|tol| tol.is_finite() && *tol >= 0.0), "{}: tol.{name}", case.op);
        }
        assert_eq!(judge(case, &bits(case), Scope::Whole).verdict, Verdict::Exact, "{}", case.op);
        for name in &case.order {
            let (bits, truth) = (case.numbers(&format!("bits.{name}")), case.numbers(name));
            let tolerances = case.numbers(&format!("tol.{name}"));
            let kept = bits.iter().zip(&truth).zip(&tolerances).all(|((b, t), tol)| (b - t).abs() <= *tol);
            assert!(kept, "{}: bits.{name} are outside of tol.{name}", case.op);
        }
    };
    for (op, attributes, shape, x_values) in cases {
        let mut case = Case { op: op.into(), ..Case::default() };
        case.attributes = attributes.as_object().expect("attributes").clone();
        case.tensors.insert("input.x".into(), shaped(x_values, &shape));
        case.tensors.insert("grad_output".into(), shaped(x(uneven), &shape));
        complete_and_check(&mut case);
    }
    let mut case = Case { op: "linear".into(), ..Case::default() };
    case.tensors.insert("input.x".into(), shaped(x(uneven), &[8, 12]));
    case.tensors.insert("input.weight".into(), shaped(x(uneven), &[8, 12]));
    let dy: Vec<f32> = (0..64).map(tiny).collect();
    let dy = ndarray::ArrayD::from_shape_vec(vec![8, 8], dy).expect("64 numbers");
    case.tensors.insert("grad_output".into(), Tensor::F32(dy));
    complete_and_check(&mut case);
}

/// A backend that rounds its inputs must not pass because they are round already. TF32 and float16 keep 10 of the 23 bits
/// behind the point and bfloat16 keeps 7, so a number with any of the last 13 bits is in none of them.
#[test]
fn inputs_have_digits_that_tf32_f16_and_bf16_lack() {
    // Zeros, scores of ±400 that overflow exp, and whole numbers, whose distances tie in every order of addition.
    let meant = [
        ("ops/gate_closed", "input.gate"),
        ("ops/precision_recall_of_ties", "input.generated"),
        ("ops/precision_recall_of_ties", "input.real"),
        ("ops/softmax_of_400", "input.x"),
        ("optimizer/adamw_of_weights_of_0", "input.w"),
        ("optimizer/adamw_update_alone_of_small_gradients", "input.w"),
    ];
    for (id, case) in cases() {
        for (name, tensor) in &case.tensors {
            let Tensor::F32(x) = tensor else { continue };
            let given = name.starts_with("input.") || name == "grad_output";
            if !given || x.len() <= 4 || meant.contains(&(id.as_str(), name.as_str())) {
                continue;
            }
            let full = x.iter().filter(|x| x.to_bits() & 0x1fff != 0).count();
            assert!(2 * full >= x.len(), "{id} {name}: {full} of {} numbers have full mantissas", x.len());
        }
    }
}
