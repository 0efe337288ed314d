//! `golden check` and `golden compute`: their ends, and what they refuse.

use ancestral::golden::check::{Selection, check};
use ancestral::golden::judge::Verdict;

use super::*;

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
fn compute_refuses_what_it_does_not_know_by_name_and_says_what_it_knows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, out) = (folder.path().join("case.safetensors"), folder.path().join("out.safetensors"));
    let refused_in = |dtype: &str, op: &str, attributes: &str, tensors: &[(&str, Tensor)]| {
        let metadata = [("op", op), ("attributes", attributes), ("dtype", dtype)];
        let metadata = metadata.map(|(k, v)| (k.to_string(), v.to_string()));
        let tensors = tensors.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
        std::fs::write(&path, write_tensors(&tensors, metadata.into())).expect("a case");
        let (code, text) = golden(&["compute", "--out", out.to_str().expect("text")], &[&path]);
        assert!(code == Some(2) && !out.exists() && !text.contains("panicked"), "{text}");
        text
    };
    let refused = |op: &str, attributes: &str, tensors: &[(&str, Tensor)]| refused_in("f32", op, attributes, tensors);
    let f32s = |shape: &[usize], value: f32| Tensor::F32(ndarray::ArrayD::from_elem(shape, value));
    let x = f32s(&[2, 4, 3, 3], 0.5);
    assert!(refused("sillu", "{}", &[]).contains("op: expected exp, sigmoid,"));
    assert!(refused("silu", "{}", &[]).contains("input.x: expected a tensor, which silu needs"));
    assert!(refused("silu", "{\"slope\": 1}", &[("input.x", x.clone())]).contains("takes: none, found slope"));
    assert!(
        refused("silu", "{}", &[("input.x", x.clone()), ("input.y", x.clone())])
            .contains("expected one of the tensors that silu takes: input.x, grad_output, found input.y")
    );
    for (dtype, x) in [("bf16", 0.1), ("f16", 0.1), ("f16", 65536.0)] {
        let text = refused_in(dtype, "silu", "{}", &[("input.x", f32s(&[2], x))]);
        assert!(text.contains(&format!("input.x: expected numbers that {dtype} holds")), "{text}");
    }
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
        ("conv2d", "{\"output_padding\": 1}", "an attribute: expected one of those that conv2d takes"),
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
