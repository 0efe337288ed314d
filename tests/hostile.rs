//! Hostile input to the real binary: each is refused with status 2 and a message that names the place, and nothing that
//! was there is lost.

#![cfg(unix)]

mod run;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use run::{Place, assert_passed, assert_refused, config};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::{Value, json};

const SAMPLE: &str = "sample --model run --count 1 --steps 1 --out new.png";
const RESUME: &str = "train --resume --out run";
const CHECKPOINT: &str = "run/checkpoint.safetensors";
const CONFIG: &str = "run/model/unet/config.json";
const SCHEDULER: &str = "run/model/scheduler/scheduler_config.json";
const WEIGHTS: &str = "run/model/unet/diffusion_pytorch_model.safetensors";

/// The JSON file with one field set.
fn with(json: &[u8], field: &str, value: &Value) -> Vec<u8> {
    let mut fields: Value = serde_json::from_slice(json).expect("our own file");
    fields[field] = value.clone();
    fields.to_string().into_bytes()
}

/// The safetensors file with its first tensor (by name) changed: dtype, shape and bytes, or left out.
fn with_first_tensor(
    file: &[u8],
    change: impl Fn(&str, Vec<usize>, Vec<u8>) -> Option<(Dtype, Vec<usize>, Vec<u8>)>,
) -> Vec<u8> {
    let (_, metadata) = SafeTensors::read_metadata(file).expect("our own file");
    let file = SafeTensors::deserialize(file).expect("our own file");
    let first = file.names().into_iter().min().expect("a tensor").to_string();
    let tensors: Vec<_> = file
        .iter()
        .filter_map(|(name, view)| {
            let (shape, bytes) = (view.shape().to_vec(), view.data().to_vec());
            let changed = if name == first { change(name, shape, bytes) } else { Some((Dtype::F32, shape, bytes)) };
            changed.map(|tensor| (name.to_string(), tensor))
        })
        .collect();
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as the shape says"))
    });
    serialize(views, metadata.metadata().clone()).expect("a file")
}

/// Damaged versions of a safetensors file, each with what the message has to say.
fn damaged(file: &[u8]) -> Vec<(Vec<u8>, &'static str)> {
    let claims = |header: &str, length: u64| [&length.to_le_bytes()[..], header.as_bytes()].concat();
    let huge = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1099511627776],\"data_offsets\":[0,4398046511104]}}";
    let overflows = "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}";
    let nested = format!("{{\"a\":{}", "[".repeat(1 << 20));
    let as_i32 = |_: &str, shape: Vec<usize>, bytes: Vec<u8>| Some((Dtype::I32, shape, bytes));
    let longer =
        |_: &str, _: Vec<usize>, bytes: Vec<u8>| Some((Dtype::F32, vec![2 * bytes.len() / 4], bytes.repeat(2)));
    let nan = |_: &str, shape: Vec<usize>, mut bytes: Vec<u8>| {
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        Some((Dtype::F32, shape, bytes))
    };
    vec![
        (vec![], "whole"),
        (file[..7].to_vec(), "whole"),
        (file[..file.len() / 2].to_vec(), "whole"),
        (file[..file.len() - 1].to_vec(), "whole"),
        ([file, b"more"].concat(), "whole"),
        (vec![0xff; 4096], "whole"),
        (b"\x80\x04\x95 a pickle".to_vec(), "whole"),
        (claims("{}", 1 << 50), "whole"),
        (claims(huge, huge.len() as u64), "whole"),
        (claims(overflows, overflows.len() as u64), "whole"),
        (claims(&nested, nested.len() as u64), "whole"),
        (claims("{}", 2), "run"),
        (with_first_tensor(file, as_i32), "I32"),
        (with_first_tensor(file, longer), "expected"),
        (with_first_tensor(file, |_, _, _| None), "missing"),
        (with_first_tensor(file, nan), "holds"),
    ]
}

#[test]
fn weights_that_are_damaged_are_refused_by_file() {
    let place = Place::new();
    let whole = place.read(WEIGHTS);
    for (bytes, says) in damaged(&whole) {
        place.write(WEIGHTS, &bytes);
        place.refuses(SAMPLE, &[WEIGHTS, says]);
    }
    assert!(!place.path("new.png").exists());
    place.write(WEIGHTS, &whole);
    assert_passed(&place.run(SAMPLE), "the weights as they were");
}

#[test]
fn weights_that_overflow_while_sampling_are_refused() {
    let place = Place::new();
    let largest = |_: &str, shape: Vec<usize>, bytes: Vec<u8>| {
        Some((Dtype::F32, shape, f32::MAX.to_le_bytes().repeat(bytes.len() / 4)))
    };
    place.write(WEIGHTS, &with_first_tensor(&place.read(WEIGHTS), largest));
    place.refuses(SAMPLE, &["the network's output", "weights are damaged"]);
}

#[test]
fn checkpoint_that_is_damaged_is_refused_by_file_and_left_alone() {
    let place = Place::new();
    let whole = place.read(CHECKPOINT);
    let mut cases = damaged(&whole);
    let mut flipped = whole.clone();
    *flipped.last_mut().expect("bytes") ^= 1; // the lowest exponent bit of a small number: another finite number
    cases.push((flipped, "SHA-256"));
    for (old, new, says) in [
        ("\\\"contract\\\":\\\"N1", "\\\"contract\\\":\\\"N0", "cannot be continued"),
        ("\\\"step\\\":1,", "\\\"step\\\":2,", "SHA-256"),
        ("\\\"step\\\":1,", "\\\"step\\\":9,", "step"),
        ("\\\"seed\\\":42,", "\\\"seed\\\":43,", "SHA-256"),
        ("\\\"seed\\\":42,", "\\\"sead\\\":42,", "sead"),
        ("\\\"batch_size\\\":2,", "\\\"batch_size\\\":0,", "batch_size"),
        ("\"state\"", "\"stale\"", "state"),
    ] {
        let at = whole.windows(old.len()).position(|bytes| bytes == old.as_bytes());
        let at = at.unwrap_or_else(|| panic!("no {old} in the header"));
        let mut bytes = whole.clone();
        bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
        cases.push((bytes, says));
    }
    for (bytes, says) in cases {
        place.write(CHECKPOINT, &bytes);
        place.refuses(RESUME, &[CHECKPOINT, says]);
        assert!(place.read(CHECKPOINT) == bytes, "{says}: the checkpoint was changed");
    }
    place.write(CHECKPOINT, &whole);
    place.refuses("train --preset tiny --out run", &["run", "--resume"]);
    assert!(place.read(CHECKPOINT) == whole);
    assert_passed(&place.run(RESUME), "the checkpoint as it was");
}

#[test]
fn checkpoint_of_another_model_is_not_evaluated() {
    let place = Place::new();
    let mut other = config();
    other.model.unet_mut().expect("a U-Net").block_out_channels = vec![4, 8];
    place.write(CHECKPOINT, &Place::of(&other).read(CHECKPOINT));
    place.refuses("eval --model run --data shapes --images 1", &[CHECKPOINT, "parameters"]);
}

#[test]
fn model_config_out_of_reach_or_unknown_is_refused_by_file_and_field() {
    let place = Place::new();
    let whole = place.read(CONFIG);
    let many = |name: &str| json!(vec![name; 16]);
    for (field, value) in [
        ("new_field", json!(1)),
        ("sample_size", json!(16384)),
        ("sample_size", json!(u64::MAX)),
        ("sample_size", json!(-1)),
        ("sample_size", json!("large")),
        ("sample_size", json!([16, 16, 16])),
        ("sample_size", json!(17)),
        ("sample_size", Value::Null),
        ("num_class_embeds", json!(0)),
        ("num_class_embeds", json!(1_u64 << 40)),
        ("layers_per_block", json!(65)),
        ("layers_per_block", json!("two")),
        ("block_out_channels", json!([])),
        ("block_out_channels", json!([65536, 65537])),
        ("block_out_channels", json!(vec![8; 1 << 16])),
        ("down_block_types", many("DownBlock2D")),
        ("up_block_types", json!(["x".repeat(1 << 20)])),
        ("time_embedding_dim", json!(1 << 20)),
        ("attention_head_dim", json!(0)),
        ("in_channels", json!(65537)),
        ("out_channels", json!(3)),
        ("norm_num_groups", json!(0)),
        ("norm_eps", json!(0)),
        ("act_fn", json!("mish")),
        ("dropout", json!(1)),
        ("freq_shift", json!(1e300)),
        ("_class_name", json!("UNet2DConditionModel")),
        ("_null_class", json!(3)),
        ("_null_class", json!("none")),
    ] {
        place.write(CONFIG, &with(&whole, field, &value));
        let file = match field {
            "out_channels" => "unet",
            _ if value.is_null() => "UNet2DModel",
            _ => CONFIG,
        };
        let field = if field == "out_channels" { "conv_out" } else { field };
        place.refuses(SAMPLE, &[file, field]);
    }
    for text in ["", "[", "null", "{\"act_fn\": NaN}", &"[".repeat(1 << 20), &"{\"a\":".repeat(1 << 20)] {
        place.write(CONFIG, text.as_bytes());
        place.refuses(SAMPLE, &[CONFIG]);
    }
    place.write(CONFIG, b"{\"act_fn\": \"\xff\"}");
    place.refuses(SAMPLE, &[CONFIG, "UTF-8"]);
}

#[test]
fn model_config_of_terabytes_is_refused_by_its_parameters() {
    let place = Place::new();
    let whole = place.read(CONFIG);
    let set =
        |fields: &[(&str, Value)]| fields.iter().fold(whole.clone(), |json, (field, value)| with(&json, field, value));
    for (bytes, tensor) in [
        (set(&[("num_class_embeds", json!(65536)), ("time_embedding_dim", json!(65536))]), "time_embed"),
        (set(&[("block_out_channels", json!([65536, 65536])), ("layers_per_block", json!(64))]), "up_blocks"),
        (
            set(&[
                ("block_out_channels", json!(vec![65536; 16])),
                ("down_block_types", json!(vec!["AttnDownBlock2D"; 16])),
                ("up_block_types", json!(vec!["AttnUpBlock2D"; 16])),
                ("layers_per_block", json!(64)),
                ("sample_size", Value::Null),
            ]),
            "up_blocks",
        ),
    ] {
        place.write(CONFIG, &bytes);
        place.refuses(SAMPLE, &[CONFIG, tensor]);
    }
}

#[test]
fn scheduler_config_out_of_range_is_refused_by_file_and_field() {
    let place = Place::new();
    let whole = place.read(SCHEDULER);
    for (field, value) in [
        ("new_field", json!(1)),
        ("num_train_timesteps", json!(1_000_000_000)),
        ("num_train_timesteps", json!(0)),
        ("beta_start", json!(-1)),
        ("beta_end", json!(2)),
        ("beta_schedule", json!("laplace")),
        ("trained_betas", json!([0.1, 0.2])),
        ("prediction_type", json!("flow")),
        ("_class_name", json!("ScoreSdeVeScheduler")),
        ("_class_name", json!("FlowMatchHeunDiscreteScheduler")),
        ("use_flow_sigmas", json!(true)),
        ("timestep_type", json!("continuous")),
        ("predict_epsilon", json!(false)),
        ("clip_sample_range", json!(0)),
    ] {
        place.write(SCHEDULER, &with(&whole, field, &value));
        place.refuses(SAMPLE, &[SCHEDULER, field]);
    }
    for bytes in [&b""[..], b"{\"beta_end\": \"\xff\"}", "[".repeat(1 << 20).as_bytes()] {
        place.write(SCHEDULER, bytes);
        place.refuses(SAMPLE, &[SCHEDULER]);
    }
    fs::remove_file(place.path(SCHEDULER)).expect("a file");
    place.refuses(SAMPLE, &[SCHEDULER, "check the path"]);
}

#[test]
fn folders_for_files_and_files_for_folders_are_refused_by_path() {
    let place = Place::new();
    fs::create_dir_all(place.path("empty")).expect("a folder");
    fs::create_dir_all(place.path("folder.png")).expect("a folder");
    place.write("file", b"text");
    for (line, name) in [
        ("sample --model empty", "empty"),
        ("sample --model none", "none"),
        ("sample --model file", "file"),
        ("sample --model run --count 1 --steps 1 --out file/new.png", "file/new.png"),
        ("sample --model run --count 1 --steps 1 --out folder.png", "folder.png"),
        ("sample --model run --count 1 --steps 1 --out new.png --singles file", "file"),
        ("sample --model run --count 1 --steps 1 --out new.png --animation file/new.gif", "file/new.gif"),
        ("eval --model run --data empty", "empty"),
        ("eval --model run --data file", "file"),
        ("eval --model run --data shapes --images 1 --plot file/new.svg", "file/new.svg"),
        ("train --preset tiny --steps 1 --data empty --out new", "empty"),
        ("train --preset tiny --steps 1 --data none --out new", "none"),
        ("train --preset tiny --steps 1 --out file", "file"),
        ("train --preset tiny --steps 1 --out file/new", "file/new"),
        ("train --preset tiny --config empty", "empty"),
        ("train --preset tiny --config none.toml", "none.toml"),
        ("train --resume --out empty", "empty/checkpoint.safetensors"),
        ("train --resume --out none", "none/checkpoint.safetensors"),
    ] {
        place.refuses(line, &[name]);
    }
    assert_eq!(place.read("file"), b"text");
    assert!(!place.path("new.png").exists() && !place.path("new").exists());
    for (name, target) in [(WEIGHTS, "empty"), (WEIGHTS, "/dev/zero"), (CONFIG, "/dev/zero"), (CHECKPOINT, "/dev/zero")]
    {
        let (whole, target) = (place.read(name), if target == "empty" { place.path(target) } else { target.into() });
        fs::remove_file(place.path(name)).expect("a file");
        symlink(target, place.path(name)).expect("a link");
        place.refuses(if name == CHECKPOINT { RESUME } else { SAMPLE }, &[name]);
        fs::remove_file(place.path(name)).expect("a link");
        place.write(name, &whole);
    }
    fs::rename(place.path(WEIGHTS), place.path("run/model/unet/diffusion_pytorch_model.bin")).expect("a file");
    place.refuses(SAMPLE, &[WEIGHTS, "pickle", "safe_serialization"]);
}

#[test]
fn flags_out_of_range_are_refused_by_name() {
    let place = Place::new();
    place.write("big.toml", b"[model]\nsample_size = 128\n");
    for (flags, name) in [
        ("--eta 2", "--eta"),
        ("--eta NaN", "--eta"),
        ("--eta=-1", "--eta"),
        ("--steps 0", "--steps"),
        ("--steps 100000", "--steps"),
        ("--class 5", "--class"),
        ("--guidance 3", "--guidance"),
        ("--guidance NaN", "--guidance"),
        ("--count 0", "--count"),
        ("--count 65537", "--count"),
        ("--count 65536 --scale 32", "--count"),
        ("--batch-size 0", "--batch-size"),
        ("--threads 0", "--threads"),
        ("--threads 1000000", "--threads"),
        ("--seed -1", "-1"),
        ("--first-index 18446744073709551615", "--first-index"),
        ("--scale 0", "--scale"),
        ("--columns 0", "--columns"),
        ("--sampler oiler", "--sampler"),
    ] {
        place.refuses(&format!("sample --model run --out new.png {}", flags), &[name]);
    }
    for (flags, name) in [
        ("--steps 0", "steps"),
        ("--steps 18446744073709551615", "steps"),
        ("--batch-size 0", "batch_size"),
        ("--batch-size 65537", "batch_size"),
        ("--lr 0", "lr"),
        ("--lr NaN", "lr"),
        ("--lr inf", "lr"),
        ("--seed 1.5", "--seed"),
        ("--resume --steps 5", "new/checkpoint.safetensors"),
        ("--resume --batch-size 5", "--resume"),
        ("--resume --preset tiny", "--resume"),
        ("--preset none", "--preset"),
    ] {
        place.refuses(&format!("train --out new --data shapes {flags}"), &[name]);
    }
    place.refuses("eval --model run --data shapes --images 0", &["--images"]);
    place.refuses("bench --preset tiny --seconds NaN", &["--seconds"]);
    place.refuses("bench --preset tiny --seconds inf", &["--seconds"]);
    place.refuses("bench --preset tiny --seconds 0 --config none.toml", &["none.toml"]);
    place.refuses("bench --preset cifar10 --seconds 0 --config big.toml --batch-size 65536", &["batch_size"]);
    assert!(!place.path("new.png").exists() && !place.path("new").exists());
}

#[test]
fn config_file_that_asks_for_what_cannot_be_is_refused_by_file_and_field() {
    let place = Place::new();
    for (text, name) in [
        ("stepz = 1", "stepz"),
        ("steps = \"many\"", "steps"),
        ("seed = -1", "seed"),
        ("model = 5", "model"),
        ("[optimizer]\nlr = \"high\"", "optimizer.lr"),
        ("[optimizer]\nlr = nan", "optimizer.lr"),
        ("[optimizer]\nbeta1 = 1.0", "optimizer.beta1"),
        ("[schedule]\nnum_train_timesteps = 1000000000", "num_train_timesteps"),
        ("[schedule]\nprediction_type = \"flow\"", "prediction_type"),
        ("[model]\nsample_size = 16384", "sample_size"),
        ("[model]\nblock_out_channels = [65536, 65536]\nlayers_per_block = 64\nsample_size = 32", "block_out_channels"),
        ("batch_size = 65536\n[model]\nsample_size = 256", "batch_size"),
        ("sample_count = 4097", "sample_count"),
        ("ema_decay = 1.0", "ema_decay"),
        ("steps = ", "TOML"),
    ] {
        place.write("c.toml", text.as_bytes());
        place.refuses("train --preset tiny --config c.toml --out new", &[name]);
    }
    place.write(
        "c.toml",
        b"[model]\nsample_size = 4096\nblock_out_channels = [4, 4]\nadd_attention = false\n\
        down_block_types = [\"DownBlock2D\", \"DownBlock2D\"]\nup_block_types = [\"UpBlock2D\", \"UpBlock2D\"]",
    );
    place.refuses("train --preset tiny --config c.toml --batch-size 1 --out new", &["sample_size", "512"]);
    place.write("c.toml", b"a = \"\xff\"");
    place.refuses("train --preset tiny --config c.toml --out new", &["c.toml", "UTF-8"]);
    for (name, text) in [("c.toml", "a = ".to_string() + &"[".repeat(1 << 16)), ("c.json", "[".repeat(1 << 20))] {
        place.write(name, text.as_bytes());
        place.refuses(&format!("train --preset tiny --config {name} --out new"), &[name]);
    }
    place.refuses("train --preset tiny --config /dev/zero --out new", &["/dev/zero", "16 MiB"]);
    assert!(!place.path("new").exists());
}

#[test]
fn data_that_does_not_fit_the_model_is_refused_by_path() {
    let place = Place::new();
    let idx = |count: u32, side: u32| {
        let sizes = [count, side, side].map(u32::to_be_bytes).concat();
        [&[0, 0, 8, 3], &sizes[..], &vec![0; (count * side * side) as usize]].concat()
    };
    for split in ["train", "t10k"] {
        place.write(&format!("mnist/{split}-images-idx3-ubyte"), &idx(2, 28));
        place.write(&format!("mnist/{split}-labels-idx1-ubyte"), &[0, 0, 8, 1, 0, 0, 0, 2, 1, 2]);
    }
    place.refuses("eval --model run --data mnist", &["mnist", "16x16x1", "28x28x1"]);
    place.write("mnist/t10k-images-idx3-ubyte", &idx(2, 16)[..100]);
    place.refuses("eval --model run --data mnist", &["t10k-images-idx3-ubyte"]);
    place.write(
        "mnist/t10k-images-idx3-ubyte",
        &[0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
    );
    place.refuses("eval --model run --data mnist", &["t10k-images-idx3-ubyte"]);

    let deep = image::ImageBuffer::<image::Luma<u16>, _>::from_pixel(16, 16, image::Luma([40_000]));
    for split in ["train", "validation"] {
        fs::create_dir_all(place.path(&format!("deep/{split}"))).expect("a folder");
        deep.save(place.path(&format!("deep/{split}/a.png"))).expect("a picture");
    }
    place.refuses("eval --model run --data deep", &["a.png", "16"]);
    place.write("deep/validation/a.png", b"GIF89a");
    place.refuses("eval --model run --data deep", &["a.png", "cannot decode"]);

    let mut elsewhere = config();
    elsewhere.data = "mnist".into();
    let moved = Place::of(&elsewhere);
    let before = moved.read(CHECKPOINT);
    moved.refuses(RESUME, &["mnist"]);
    for split in ["train", "t10k"] {
        moved.write(&format!("mnist/{split}-images-idx3-ubyte"), &idx(2, 28));
        moved.write(&format!("mnist/{split}-labels-idx1-ubyte"), &[0, 0, 8, 1, 0, 0, 0, 2, 1, 2]);
    }
    moved.refuses(RESUME, &["mnist", "28x28x1"]);
    assert!(moved.read(CHECKPOINT) == before);
}

#[test]
fn metrics_that_are_damaged_are_refused_by_line_and_can_be_moved_away() {
    let place = Place::new();
    let checkpoint = place.read(CHECKPOINT);
    let other = b"{\"step\":0,\"loss\":1.0}\n";
    for bytes in
        [&b""[..], b"\n", b"{\"step\":1,", b"\xff\xfe\n", b"{\"step\":1}\n", other, &[0; 4096], &[b'['; 1 << 20]]
    {
        place.write("run/metrics.jsonl", bytes);
        place.refuses(RESUME, &["run/metrics.jsonl", "line 1", "move this file away"]);
        assert!(place.read("run/metrics.jsonl") == bytes && place.read(CHECKPOINT) == checkpoint);
    }
    fs::remove_file(place.path("run/metrics.jsonl")).expect("a file");
    assert_passed(&place.run("train --resume --out run --stop-at 2"), "without metrics");
    let metrics = String::from_utf8(place.read("run/metrics.jsonl")).expect("text");
    assert_eq!(metrics.lines().count(), 1, "{metrics}");
    assert!(metrics.starts_with("{\"step\":2,"), "{metrics}");
    place.write("run/metrics.jsonl", (metrics + "{\"step\":3,\"loss\":1.0}\n{\"step\":4,\"lo").as_bytes());
    assert_passed(&place.run(RESUME), "with lines of a killed run");
    let metrics = String::from_utf8(place.read("run/metrics.jsonl")).expect("text");
    let steps: Vec<Value> =
        metrics.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON")["step"].clone()).collect();
    assert_eq!(steps, [2, 3]);
}

#[test]
fn training_that_diverges_keeps_the_last_good_checkpoint() {
    let place = Place::new();
    place
        .write("c.toml", b"steps = 9\nbatch_size = 2\ncheckpoint_every = 1\n[optimizer]\nlr = 1e39\nwarm_up_steps = 0");
    place.refuses(
        "train --preset tiny --config c.toml --out new",
        &["step 1", "not finite", "nothing was saved yet", "--lr"],
    );
    assert!(!place.path("new/checkpoint.safetensors").exists());
}

#[test]
fn a_full_disk_is_an_error_and_a_gone_reader_is_none() {
    let place = Place::new();
    place.refuses("sample --model run --count 1 --steps 1 --out /dev/full", &["/dev/full", "free some space"]);
    fs::create_dir(place.path("new")).expect("a folder");
    symlink("/dev/full", place.path("new/metrics.jsonl")).expect("a link");
    place.refuses(
        "train --preset tiny --steps 2 --out new",
        &["new/metrics.jsonl", "free some space", "nothing was saved yet"],
    );
    assert!(!place.path("new/checkpoint.safetensors").exists());

    let full = || fs::OpenOptions::new().write(true).open("/dev/full").expect("a disk that is always full");
    let sample = |out: std::process::Stdio, err: std::process::Stdio| {
        let mut command = place.command();
        command.args(SAMPLE.split_whitespace()).stdout(out).stderr(err);
        command.spawn().expect("a process").wait_with_output().expect("its end")
    };
    assert_refused(&sample(full().into(), std::process::Stdio::piped()), "stdout on /dev/full", &["standard output"]);
    let silent = sample(std::process::Stdio::null(), full().into());
    assert_eq!(silent.status.code(), Some(0), "messages that nobody can read end no run");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    assert_passed(&sample(writer.into(), std::process::Stdio::piped()), "stdout whose reader has gone");
}

#[test]
fn paths_that_are_no_text_work_or_are_refused() {
    let place = Place::new();
    let odd = OsStr::from_bytes(b"\xff.png");
    let mut command = place.command();
    command.args(SAMPLE.split_whitespace().take(7)).arg("--json").arg("--out").arg(odd);
    assert_passed(&command.output().expect("a process"), "a picture under a name that is no text");
    assert!(place.path("").join(odd).is_file());

    let folder = place.path("").join(OsStr::from_bytes(b"data\xff"));
    fs::create_dir(&folder).expect("a folder");
    let mut command = place.command();
    command.args(["train", "--preset", "tiny", "--out", "new", "--data"]).arg(&folder);
    assert_refused(&command.output().expect("a process"), "data under a name that is no text", &["data", "UTF-8"]);
}
