//! The golden kit: made again to the byte, agreeing with PyTorch, refusing known mistakes, naming the layer that is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ancestral::golden::case::{Case, Tensor, write_tensors};
use ancestral::golden::check::{Outcome, Selection, check};
use ancestral::golden::format::Format;
use ancestral::golden::judge::{Scope, Verdict, judge};
use ancestral::golden::kit::{Manifest, SIZES, drafts, export};
use ancestral::golden::mutants::{add_mutant, mutants};
use ancestral::golden::oracle::complete;
use serde_json::json;

use crate::peer::{Peer, fixture, worst};

fn kit() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/golden")
}

fn cases() -> Vec<(String, Case)> {
    let manifest = Manifest::read(&kit()).expect("a whole kit");
    manifest.cases.iter().map(|entry| (entry.id.clone(), entry.read(&kit()).expect("a whole case"))).collect()
}

/// All files of a folder, by their path in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = PathBuf::from(path.file_name().expect("a name"));
        if name.as_os_str() == "__pycache__" {
            continue; // what Python leaves beside golden.py
        }
        match path.is_dir() {
            true => found.extend(files(&path).into_iter().map(|(inner, bytes)| (name.join(inner), bytes))),
            false => drop(found.insert(name, std::fs::read(&path).expect("a file"))),
        }
    }
    found
}

/// What the contract computes, as the results of a backend.
fn bits(case: &Case) -> BTreeMap<String, Tensor> {
    case.order.iter().map(|name| (name.clone(), case.tensors[&format!("bits.{name}")].clone())).collect()
}

/// Results of the contract for every case, in a folder.
fn results() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (id, case) in cases() {
        write(&folder.path().join(format!("{id}.safetensors")), &bits(&case));
    }
    folder
}

fn write(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a new folder");
    std::fs::write(path, write_tensors(tensors, Default::default())).expect("a new file");
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a new folder");
        std::fs::write(path, bytes).expect("a new file");
    }
}

#[test]
fn kit_in_the_tree_is_made_again_to_the_byte_and_has_at_most_5_mb() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    export(folder.path(), &[], Format::F32, |_| ()).expect("a kit");
    let (again, here) = (files(folder.path()), files(&kit()));
    assert_eq!(again.keys().collect::<Vec<_>>(), here.keys().collect::<Vec<_>>());
    for (name, bytes) in &again {
        assert!(bytes == &here[name], "{} differs: `ancestral golden export --out data/golden`", name.display());
    }
    let size: usize = here.values().map(Vec::len).sum();
    assert!(size <= 5_000_000, "{size} bytes");
}

#[test]
fn oracle_in_f64_equals_pytorch_on_its_fixtures() {
    let cases = [
        ("conv2d_1x1", "conv2d", json!({"stride": 1, "padding": 0})),
        ("conv2d_3x3", "conv2d", json!({"stride": 1, "padding": 1})),
        ("conv2d_3x3_stride2", "conv2d", json!({"stride": 2, "padding": [1, 1, 1, 1]})),
        ("group_norm", "group_norm", json!({"groups": 4, "eps": 1e-5})),
        ("layer_norm", "layer_norm", json!({"eps": 1e-6})),
        ("linear", "linear", json!({})),
        ("silu", "silu", json!({})),
        ("gelu_tanh", "gelu_tanh", json!({})),
        ("attention", "attention", json!({"heads": 2})),
        ("upsample_nearest_2x", "upsample_nearest_2x", json!({})),
    ];
    for (name, op, attributes) in cases {
        let file = format!("layers/{name}.safetensors");
        let peer = Peer::open(&file);
        let bytes = std::fs::read(fixture(&file)).expect("a fixture");
        let mut case = Case::from_bytes(&bytes, Path::new(&file)).expect("a case");
        (case.op, case.attributes) = (op.into(), attributes.as_object().expect("attributes").clone());
        complete(&mut case, None).expect("golden values");
        for name in &case.order {
            let (error, scale) = worst(case.numbers(name), peer.get(name));
            assert!(error <= 1e-11 * scale, "{file}: {name} off by {error:e} of {scale}");
        }
    }
}

#[test]
fn oracle_in_f64_equals_pytorch_on_whole_networks_for_every_gradient() {
    for (op, name) in
        [("unet", "mnist_like"), ("unet", "class_conditional"), ("dit", "small"), ("dit", "learned_sigma_small")]
    {
        let folder = fixture(&format!("{op}/{name}"));
        let peer = Peer::open(&format!("{op}/{name}/io.safetensors"));
        let bytes = std::fs::read(folder.join("io.safetensors")).expect("a fixture");
        let (tensors, _) = ancestral::golden::case::read_tensors(&bytes, &folder).expect("a whole file");
        let mut case = Case { path: folder.join("case.safetensors"), op: op.into(), ..Case::default() };
        for input in ["x", "noise", "t", "class_labels"] {
            if let Some(tensor) = tensors.get(input) {
                case.tensors.insert(format!("input.{input}"), tensor.clone());
            }
        }
        case.attributes = json!({"model": ".", "gradients": true}).as_object().expect("attributes").clone();
        complete(&mut case, Some(ancestral::golden::oracle::Only::F64)).expect("golden values");
        let (loss, expected) = (case.numbers("output.loss")[[]], peer.get("loss_f64").sum());
        // The peer of the U-Nets embeds t in float32, whatever the network's precision, which moves the results by some 1e-6.
        let bound = if op == "dit" { 1e-11 } else { 1e-5 };
        assert!((loss / expected - 1.0).abs() < bound, "{name}: loss {loss}, {expected}");
        let scale = case.order.iter().filter(|n| n.starts_with("grad.")).map(|n| worst(case.numbers(n), peer.get(n)).1);
        let scale = scale.fold(0.0, f64::max);
        for name in case.order.iter().filter(|name| name.starts_with("grad.")) {
            let (error, _) = worst(case.numbers(name), peer.get(name));
            assert!(error <= 2.0 * bound * scale, "{name} off by {error:e} of {scale}");
        }
    }
}

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

/// The command with these arguments: its exit status and everything it said.
fn golden(arguments: &[&str], paths: &[&Path]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ancestral"));
    let output = command.arg("golden").args(arguments).args(paths).output().expect("the command runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

#[test]
fn check_ends_with_0_for_right_1_for_wrong_and_2_for_missing_results() {
    let results = results();
    let file = results.path().join("ops/silu.safetensors");
    let (code, text) = golden(&["check"], &[&kit(), results.path()]);
    assert_eq!((code, text.trim_end().lines().last()), (Some(0), Some("PASS")), "{text}");

    let right = std::fs::read(&file).expect("results");
    let (mut tensors, _) = ancestral::golden::case::read_tensors(&right, &file).expect("results");
    tensors.insert("grad.x".into(), tensors["output"].clone());
    write(&file, &tensors);
    let (code, text) = golden(&["check", "--json"], &[&kit(), results.path()]);
    assert_eq!(code, Some(1), "{text}");
    let report: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
    let silu = report["cases"].as_array().expect("cases").iter().find(|c| c["id"] == "ops/silu").expect("the case");
    assert_eq!(
        (&silu["verdict"], &silu["first_wrong"], &report["outcome"]),
        (&json!("FAIL"), &json!("grad.x"), &json!("fail"))
    );

    std::fs::remove_file(&file).expect("results");
    let (code, text) = golden(&["check"], &[&kit(), results.path()]);
    assert!(code == Some(2) && text.contains("INCOMPLETE") && text.contains("1 missing"), "{text}");
    let empty = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(golden(&["check"], &[&kit(), empty.path()]).0, Some(2));
    assert_eq!(golden(&["check", "--level", "opps"], &[&kit(), results.path()]).0, Some(2));
    std::fs::write(&file, &right[..right.len() - 1]).expect("a file cut off");
    let (code, text) = golden(&["check"], &[&kit(), results.path()]);
    assert!(code == Some(2) && text.contains("ops/silu.safetensors: not a whole safetensors file"), "{text}");
}

#[test]
fn backend_for_inference_passes_the_forward_part() {
    let results = tempfile::tempdir().expect("a temporary folder");
    for (id, case) in cases() {
        let mut forward = bits(&case);
        forward.retain(|name, _| !name.starts_with("grad."));
        let trains = ["gradients/", "optimizer/", "training/"].iter().any(|level| id.starts_with(level));
        if !trains {
            write(&results.path().join(format!("{id}.safetensors")), &forward);
        }
    }
    let (code, text) = golden(&["check"], &[&kit(), results.path()]);
    assert!(code == Some(2) && text.contains("incomplete") && text.contains("missing"), "{text}");
    let (code, text) = golden(&["check", "--forward"], &[&kit(), results.path()]);
    assert_eq!((code, text.trim_end().lines().last()), (Some(0), Some("PASS")), "{text}");
}

#[test]
fn check_refuses_a_kit_that_was_changed_and_one_with_cases_taken_out() {
    let (folder, results) = (tempfile::tempdir().expect("a temporary folder"), results());
    copy(&kit(), folder.path());
    let case = folder.path().join("cases/ops/silu.safetensors");
    let mut bytes = std::fs::read(&case).expect("a case");
    *bytes.last_mut().expect("a byte") ^= 1;
    std::fs::write(&case, bytes).expect("a damaged case");
    let (code, text) = golden(&["check"], &[folder.path(), results.path()]);
    assert!(code == Some(2) && text.contains("ops/silu.safetensors: expected SHA-256"), "{text}");

    let path = folder.path().join("MANIFEST.json");
    let text = std::fs::read_to_string(kit().join("MANIFEST.json")).expect("a manifest");
    let mut manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    manifest["cases"].as_array_mut().expect("cases").retain(|case| case["id"] != "ops/silu");
    let write_manifest = |manifest: &serde_json::Value| {
        let text = manifest.to_string();
        std::fs::write(&path, &text).expect("a manifest");
        let sums = format!("{}  MANIFEST.json\n", ancestral::digest::sha256(text.as_bytes()));
        std::fs::write(folder.path().join("SHA256SUMS"), sums).expect("its hash");
    };
    std::fs::write(&path, manifest.to_string()).expect("a manifest");
    let (code, text) = golden(&["check"], &[folder.path(), results.path()]);
    assert!(code == Some(2) && text.contains("not that of SHA256SUMS"), "{text}");
    write_manifest(&manifest);
    let (code, text) = golden(&["check"], &[folder.path(), results.path()]);
    assert!(code == Some(2) && text.contains("cases of level ops, and should have"), "{text}");
    for (field, value, expected) in
        [("id", "../evil", "expected LEVEL/NAME"), ("path", "../../evil", "in the folder of the kit")]
    {
        let mut wrong = manifest.clone();
        wrong["cases"][3][field] = json!(value);
        write_manifest(&wrong);
        let (code, text) = golden(&["check"], &[folder.path(), results.path()]);
        assert!(code == Some(2) && text.contains(expected), "{text}");
    }
}

#[test]
fn results_as_npy_files_and_as_unsupported_are_read() {
    let results = tempfile::tempdir().expect("a temporary folder");
    let (_, case) = cases().into_iter().find(|(id, _)| id == "ops/softmax_of_400").expect("a case");
    let folder = results.path().join("ops/softmax_of_400");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, tensor) in bits(&case) {
        let header = format!("{:<117}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }");
        let numbers = tensor.to_f64().into_iter().flat_map(|x| (x as f32).to_le_bytes());
        let bytes =
            b"\x93NUMPY\x01\x00\x76\x00".iter().copied().chain(header.bytes()).chain(numbers).collect::<Vec<u8>>();
        std::fs::write(folder.join(format!("{name}.npy")), bytes).expect("an array");
    }
    std::fs::create_dir_all(results.path().join("ops/silu")).expect("a folder");
    std::fs::write(results.path().join("ops/silu/unsupported"), "no activations\n").expect("a note");
    let selection = Selection { levels: vec![], ops: vec!["softmax".into(), "silu".into()], ..Selection::default() };
    let report = check(&kit(), results.path(), &selection, |_| ()).expect("a report");
    let verdict = |id: &str| report.cases.iter().find(|c| c.id == id).expect("the case").judgement.clone();
    assert_eq!(verdict("ops/softmax_of_400").verdict, Verdict::Exact);
    assert_eq!(verdict("ops/silu").note.as_deref(), Some("no activations"));
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

#[test]
fn compute_refuses_what_it_does_not_know_by_name_and_says_what_it_knows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, out) = (folder.path().join("case.safetensors"), folder.path().join("out.safetensors"));
    let refused = |op: &str, attributes: &str, tensors: &[(&str, Tensor)]| {
        let metadata = [("op", op), ("attributes", attributes)].map(|(k, v)| (k.to_string(), v.to_string()));
        let tensors = tensors.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
        std::fs::write(&path, write_tensors(&tensors, metadata.into())).expect("a case");
        let (code, text) = golden(&["compute", "--out", out.to_str().expect("text")], &[&path]);
        assert!(code == Some(2) && !out.exists() && !text.contains("panicked"), "{text}");
        text
    };
    let f32s = |shape: &[usize], value: f32| Tensor::F32(ndarray::ArrayD::from_elem(shape, value));
    let x = f32s(&[2, 4, 3, 3], 0.5);
    assert!(refused("sillu", "{}", &[]).contains("op: expected exp, sigmoid,"));
    assert!(refused("silu", "{}", &[]).contains("input.x: expected a tensor, which silu needs"));
    assert!(refused("silu", "{\"slope\": 1}", &[("input.x", x.clone())]).contains("attribute slope"));
    assert!(
        refused("silu", "{}", &[("input.x", x.clone()), ("input.y", x.clone())])
            .contains("input.y: expected of the tensors")
    );
    assert!(refused("silu", "{}", &[("input.x", f32s(&[2], f32::NAN))]).contains("input.x: expected finite numbers"));
    assert!(refused("silu", "{}", &[("input.x", Tensor::F64(ndarray::ArrayD::zeros(vec![2])))]).contains("type F32"));
    assert!(
        refused("silu", "{}", &[("input.x", x.clone()), ("grad_output", f32s(&[2], 1.0))])
            .contains("shape of the output")
    );
    assert!(refused("ln", "{}", &[("input.x", f32s(&[2], 0.0))]).contains("expected a finite result"));
    assert!(
        refused("group_norm", "{\"groups\": 3}", &[("input.x", x.clone())]).contains("a divisor of the 4 channels")
    );
    assert!(refused("group_norm", "{}", &[("input.x", x.clone())]).contains("attribute groups"));
    let weight = ("input.weight", f32s(&[2, 4, 5, 5], 1.0));
    assert!(refused("conv2d", "{}", &[("input.x", x.clone()), weight.clone()]).contains("at least the kernel's 5 x 5"));
    assert!(refused("conv2d", "{\"padding\": -1}", &[("input.x", x.clone()), weight]).contains("attribute padding"));
    let weight = ("input.weight", f32s(&[4, 4, 3, 3], 1.0));
    for (op, attributes, said) in [
        ("conv2d", "{\"groups\": 3}", "attribute groups: expected a divisor of the 4 output channels, found 3"),
        ("conv2d", "{\"groups\": 2}", "input.weight: expected a tensor of shape [4, 2, 3, 3]"),
        ("conv2d", "{\"dilation\": 0}", "attribute dilation: expected 1 to 4096, found 0"),
        ("conv2d", "{\"dilation\": 2}", "at least the kernel's 5 x 5"),
        ("conv2d", "{\"stride\": [1, 2, 3]}", "attribute stride: expected a number, or 2 of them"),
        ("conv2d", "{\"output_padding\": 1}", "attribute output_padding: expected an attribute of conv2d"),
        ("conv_transpose2d", "{\"output_padding\": 1}", "attribute output_padding: expected less than the stride"),
        ("conv_transpose2d", "{\"padding\": 3}", "attribute padding: expected less than the size of the output"),
        ("conv_transpose2d", "{\"stride\": 4000, \"dilation\": 4000, \"padding\": 0}", "at most 2^26"),
    ] {
        let text = refused(op, attributes, &[("input.x", x.clone()), weight.clone()]);
        assert!(text.contains(said), "{text}");
    }
    let qkv = ["input.q", "input.k", "input.v"].map(|name| (name, f32s(&[1, 2, 4], 1.0)));
    let mask = |shape: Vec<usize>, seen: i64| ("input.mask", Tensor::I64(ndarray::ArrayD::from_elem(shape, seen)));
    for (heads, mask, said) in [
        (2, mask(vec![2, 3], 1), "input.mask: expected a tensor of shape [2, 2] or [1, 2, 2], found [2, 3]"),
        (2, mask(vec![2, 2], 0), "expected a key that each query sees, found none for query 0 of image 0"),
        (2, mask(vec![2, 2], 2), "input.mask: expected 0 to 1, found 2"),
        (3, mask(vec![2, 2], 1), "attribute heads: expected a divisor of the 4 channels, found 3"),
    ] {
        let tensors: Vec<_> = qkv.iter().cloned().chain([mask]).collect();
        let text = refused("attention", &format!("{{\"heads\": {heads}}}"), &tensors);
        assert!(text.contains(said), "{text}");
    }
    let labels = ("input.labels", Tensor::I64(ndarray::ArrayD::from_elem(vec![1], 7)));
    assert!(refused("class_embedding", "{}", &[("input.weight", f32s(&[4, 2], 1.0)), labels]).contains("0 to 3"));
    let t = ("input.t", Tensor::I64(ndarray::ArrayD::from_elem(vec![2], 1000)));
    assert!(
        refused("q_sample", "{}", &[("input.x_0", x.clone()), ("input.eps", x.clone()), t.clone()])
            .contains("0 to 999")
    );
    let unet = [("input.x", x.clone()), ("input.noise", x.clone()), t];
    assert!(refused("unet", "{\"model\": \"nowhere\"}", &unet).contains("there is no such folder"));
    let transformer = format!("{{\"model\": {:?}}}", fixture("dit/small"));
    assert!(refused("unet", &transformer, &unet).contains("the folder of a UNet2DModel"));
    assert!(refused("dit", &transformer, &unet).contains("input.class_labels: expected a tensor"));
    assert!(refused("schedule", "{\"beta_start\": 2}", &[]).contains("beta_start"));
    let big = ("input.weight", f32s(&[1 << 18, 4, 1, 1], 1.0));
    assert!(refused("conv2d", "{\"padding\": 4096}", &[("input.x", x.clone()), big]).contains("at most 2^26"));
    let kernel = ("input.weight", f32s(&[1, 4, 900, 900], 1.0));
    assert!(refused("conv2d", "{\"padding\": 1024}", &[("input.x", x.clone()), kernel]).contains("2^38 multiply-adds"));
    let tokens = f32s(&[1, 1 << 14, 1], 1.0);
    let qkv = ["input.q", "input.k", "input.v"].map(|name| (name, tokens.clone()));
    assert!(refused("attention", "{}", &qkv).contains("the scores: expected at most"));
    assert!(refused("layer_norm", "{}", &[("input.x", f32s(&[], 1.0))]).contains("a scalar"));
    let header = br#"{"input.x":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}}"#;
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header].concat()).expect("a case");
    let (code, text) = golden(&["compute", "--out", out.to_str().expect("text")], &[&path]);
    assert!(code == Some(2) && !text.contains("panicked"), "{text}");
    assert!(refused("time_embedding", "{\"dim\": 1}", &[("input.t", f32s(&[1], 1.0))]).contains("attribute dim"));
}

/// A backend that rounds its inputs must not pass because they are round already. TF32 and float16 keep 10 of the 23 bits
/// behind the point and bfloat16 keeps 7, so a number with any of the last 13 bits is in none of them.
#[test]
fn inputs_have_digits_that_tf32_f16_and_bf16_lack() {
    // Zeros, and scores of ±400 that overflow exp.
    let meant = [
        ("ops/gate_closed", "input.gate"),
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
