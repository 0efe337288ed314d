//! A transformer wherever a U-Net can be: the command trains, goes on, samples, evaluates and measures one.

#![cfg(unix)]

mod run;

use std::fs;

use ancestral::checkpoint::pipeline;
use ancestral::models::NetworkConfig;
use ancestral::train::Preset;
use run::{Place, assert_passed};
use serde_json::{Value, json};

/// A transformer of two blocks for pictures of 16 x 16 pixels, in steps that take no time.
const CONFIG: &str = "steps = 4\nbatch_size = 5\ncheckpoint_every = 100\nsample_count = 1\nsample_steps = 1\n\
    sample_every = 0\nevaluation_images = 1\nlabel_dropout = 0.2\n\
    [model]\n_class_name = \"DiTTransformer2DModel\"\nnum_attention_heads = 2\nattention_head_dim = 8\n\
    num_layers = 2\npatch_size = 4\nsample_size = 16\ndropout = 0.1\n";

/// A folder with the config and pictures of two classes, `p`, and without classes, `q`.
fn place() -> Place {
    let place = Place::new();
    place.write("dit.toml", CONFIG.as_bytes());
    place.write("from.toml", CONFIG.split("[model]").next().expect("fields before the network's").as_bytes());
    for (i, name) in ["p/moon/1", "p/moon/2", "p/moon/3", "p/sun/1", "p/sun/2", "q/1", "q/2", "q/10"].iter().enumerate()
    {
        let path = place.path(&format!("{name}.png"));
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let level = |x: u32, y: u32| image::Luma([((x * 13 + y * 7 + 40 * i as u32) % 256) as u8]);
        image::ImageBuffer::from_fn(16, 16, level).save(path).expect("a picture");
    }
    place
}

/// What the command prints.
fn prints(place: &Place, line: &str) -> String {
    let output = place.run(line);
    assert_passed(&output, line);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn object(place: &Place, line: &str) -> Value {
    serde_json::from_str(prints(place, line).lines().last().expect("a line")).expect("JSON")
}

fn weights(place: &Place, run: &str) -> Vec<u8> {
    place.read(&format!("{run}/model/transformer/diffusion_pytorch_model.safetensors"))
}

#[test]
fn transformer_trains_by_class_resumes_to_the_same_bits_and_leaves_a_folder_that_is_sampled_and_evaluated() {
    let place = place();
    let printed = prints(&place, "train --data p --config dit.toml --out whole");
    assert!(printed.contains("transformer/diffusion_pytorch_model.safetensors"), "{printed}");
    prints(&place, "train --data p --config dit.toml --out cut --stop-at 3 --threads 1");
    prints(&place, "train --resume --out cut --threads 2");
    assert!(weights(&place, "whole") == weights(&place, "cut"), "a resumed run has other weights");

    let index: Value = serde_json::from_slice(&place.read("whole/model/model_index.json")).expect("JSON");
    assert_eq!(index["transformer"], json!(["diffusers", "DiTTransformer2DModel"]));
    assert_eq!((&index["unet"], &index["vae"]), (&Value::Null, &Value::Null));
    let model = pipeline::read(&place.path("whole")).expect("a model").pipeline;
    assert_eq!((model.classes(), model.null_class(), model.guides()), (Some(2), Some(2), true));
    assert_eq!(model.class_names(), Some(&["moon".to_string(), "sun".to_string()][..]));

    let sample = |flags: &str| {
        let line = format!("sample --count 2 --steps 2 --out a.png --json --model whole{flags}");
        object(&place, &line)["sha256"].clone()
    };
    let all = [" --class sun", " --class 0", " --guidance 1", ""].map(sample);
    assert_eq!(all[3], sample("/model/transformer --batch-size 1 --threads 1"));
    let mut different = all.to_vec();
    different.sort_by_key(Value::to_string);
    different.dedup();
    assert_eq!(different.len(), all.len(), "classes and guidance change the pictures: {all:?}");

    for data in ["p", "q"] {
        let table = prints(&place, &format!("eval --model whole --data {data} --images 1"));
        assert!(table.contains("EMA weights"), "{table}");
    }
    prints(&place, "train --data p --from whole --config from.toml --out tuned --steps 1");
    let tuned = pipeline::read(&place.path("tuned")).expect("a model").pipeline;
    assert_eq!(tuned.network().config(), model.network().config());
}

#[test]
fn transformer_of_pictures_without_classes_is_told_that_there_are_none() {
    let place = place();
    prints(&place, "train --data q --config dit.toml --out new");
    let model = pipeline::read(&place.path("new")).expect("a model").pipeline;
    assert_eq!((model.classes(), model.null_class(), model.guides()), (None, Some(0), false));
    prints(&place, "sample --model new --count 2 --steps 2 --out a.png");
    prints(&place, "eval --model new --data q --images 1");
    place.refuses("sample --model new --count 1 --steps 1 --out a.png --class 0", &["--class", "not conditional"]);
    place.refuses("sample --model new --count 1 --steps 1 --out a.png --guidance 2", &["--guidance"]);
    place.write("ten.toml", format!("{CONFIG}num_embeds_ada_norm = 10\n").as_bytes());
    place.refuses(
        "train --data q --config ten.toml --out other",
        &["model.num_embeds_ada_norm", "expected 0", "no labels"],
    );
    place.refuses("train --data p --config ten.toml --out other", &["model.num_embeds_ada_norm", "expected 2"]);
    place.write("none.toml", format!("{CONFIG}num_embeds_ada_norm = 0\n").as_bytes());
    prints(&place, "train --data p --config none.toml --out blind");
    assert_eq!(pipeline::read(&place.path("blind")).expect("a model").pipeline.classes(), None);
}

#[test]
fn transformer_trained_without_hidden_labels_is_not_guided() {
    let place = place();
    place.write("told.toml", CONFIG.replace("label_dropout = 0.2", "label_dropout = 0.0").as_bytes());
    prints(&place, "train --data p --config told.toml --out new");
    let model = pipeline::read(&place.path("new")).expect("a model").pipeline;
    assert_eq!((model.classes(), model.null_class(), model.guides()), (Some(2), None, false));
    prints(&place, "sample --model new --count 2 --steps 1 --out a.png");
    place.refuses("sample --model new --count 1 --steps 1 --out a.png --guidance 2", &["--guidance", "hidden labels"]);
    place.refuses("eval --model new --data q --images 1", &["images with labels"]);
}

#[test]
fn transformer_config_is_printed_with_every_meaning_and_read_again() {
    let place = place();
    let printed = prints(&place, "train --config dit.toml --print-config");
    assert!(printed.contains("# transformer blocks\nnum_layers = 2\n"), "{printed}");
    place.write("all.toml", printed.as_bytes());
    assert_eq!(printed, prints(&place, "train --preset cifar10 --config all.toml --print-config"));
    // And back to a U-Net.
    place.write("unet.toml", b"[model]\n_class_name = \"UNet2DModel\"\nblock_out_channels = [32]\n");
    place.refuses("train --config unet.toml --print-config", &["down_block_types"]);
}

#[test]
fn transformer_that_cannot_be_is_refused_by_name() {
    let place = place();
    for (fields, names) in [
        ("in_channels = 1\nout_channels = 2\n", ["model.out_channels", "expected as many"]),
        ("layers_per_block = 2\n", ["model.layers_per_block", "unknown field"]),
        ("norm_type = \"ada_norm\"\n", ["norm_type", "ada_norm_zero"]),
    ] {
        place.write("bad.toml", format!("{CONFIG}{fields}").as_bytes());
        place.refuses("train --data p --config bad.toml --out new", &names);
    }
    place.write("wide.toml", CONFIG.replace("sample_size = 16", "sample_size = [16, 20]").as_bytes());
    place.refuses("train --data p --config wide.toml --out new", &["model.sample_size"]);
    let mut config = Preset::Tiny.config();
    config.model = NetworkConfig::of_class("DiTTransformer2DModel", "model").expect("a known class");
    let shape = ancestral::data::Shape { height: 16, width: 20, channels: 1 };
    let wide = ancestral::data::Dataset::new("wide", shape, vec![0; 320]).expect("one image");
    let refusal = config.for_images(&wide).unwrap_err().to_string();
    assert!(refusal.contains("16 x 20"), "{refusal}");
    assert!(!place.path("new/model").exists());
}

#[test]
fn transformer_is_measured_layer_by_layer() {
    let place = place();
    let flags = "bench --config dit.toml --batch-size 2 --seconds 0 --json";
    let object_of = |more: &str| object(&place, &format!("{flags} {more}"));
    let (forward, train) = (object_of("--mode forward"), object_of("--mode train --layers --threads 1"));
    let ratio = train["gflop"].as_f64().expect("a number") / forward["gflop"].as_f64().expect("a number");
    assert!((ratio - 3.0).abs() < 1e-9, "{ratio}");
    let layers = train["layers"].as_array().expect("a list");
    for (layer, part) in [
        ("pos_embed.proj", "forward"),
        ("transformer_blocks.1.attn1.to_q", "attention, gradient"),
        ("transformer_blocks.0.ff.net.0.proj", "weight gradient"),
        ("proj_out_2", "forward"),
    ] {
        let found = layers.iter().find(|row| row["layer"] == layer && row["part"] == part);
        assert!(found.is_some_and(|row| row["gflops"].as_f64().is_some_and(|x| x > 0.0)), "{layer}, {part}");
    }
    let shares: f64 = layers.iter().map(|part| part["share"].as_f64().expect("a share")).sum();
    assert!(shares > 0.1 && shares <= 1.0 + 1e-9, "the parts of a thread's time are at most all of it: {shares}");
}
