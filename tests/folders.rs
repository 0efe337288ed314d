//! Model folders as people have them: one network of diffusers in many forms, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use ancestral::checkpoint::pipeline::{self, Loaded};
use ancestral::pipeline::Pipeline;
use ancestral::sample::{Sampler, Sigmas};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
const INDEX: &str = "diffusion_pytorch_model.safetensors.index.json";
const ASSUMED: &str = "no scheduler_config.json: assumed linear, T = 1000, epsilon";

/// A pipeline of diffusers 0.42.1: 45,000 parameters, a cosine schedule with T = 200, the prediction v, the trailing spacing.
fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/reference")
}

static REFERENCE: LazyLock<Pipeline> = LazyLock::new(|| pipeline::read(&reference()).expect("the reference").pipeline);

/// A file of the reference.
fn part(name: &str) -> Vec<u8> {
    fs::read(reference().join(name)).expect("a file of the reference")
}

fn scheduler() -> Vec<u8> {
    part("scheduler/scheduler_config.json")
}

/// A JSON file with some fields set.
fn with(json: &[u8], fields: &Value) -> Vec<u8> {
    let mut all: Value = serde_json::from_slice(json).expect("JSON");
    all.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    all.to_string().into_bytes()
}

/// A temporary folder with forms of the reference.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().expect("a temporary folder"))
    }

    /// The reference as it is, in `model`.
    fn pipeline() -> Self {
        let place = Place::new().network("model/unet").file("model/model_index.json", &part("model_index.json"));
        place.file("model/scheduler/scheduler_config.json", &scheduler())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(self, name: &str, contents: &[u8]) -> Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, contents).expect("a file");
        self
    }

    /// The reference's network in the folder `name`.
    fn network(self, name: &str) -> Self {
        self.file(&format!("{name}/config.json"), &part("unet/config.json"))
            .file(&format!("{name}/{WEIGHTS}"), &part(&format!("unet/{WEIGHTS}")))
    }

    fn without(self, name: &str) -> Self {
        fs::remove_file(self.path(name)).expect("a file");
        self
    }

    fn read(&self, name: &str) -> Loaded {
        pipeline::read(&self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Reads the folder `name`, asserts that it is the reference, and returns the notes.
    fn is_reference(&self, name: &str) -> Vec<String> {
        let Loaded { pipeline, notes } = self.read(name);
        assert!(pipeline.weights() == REFERENCE.weights(), "{name}: other weights");
        assert_eq!(pipeline.scheduler(), REFERENCE.scheduler(), "{name}");
        notes
    }

    fn refuses(&self, name: &str, says: &[&str]) {
        let path = self.path(name);
        let refusal = pipeline::read(&path).map(|loaded| loaded.notes).expect_err(name).to_string();
        for word in says {
            assert!(refusal.contains(word), "{name}: no `{word}` in: {refusal}");
        }
        assert!(refusal.len() < 1000, "{name}: a message that nobody reads: {refusal}");
    }
}

/// The tensors of the reference that `keep` keeps, as a file, each changed by `change`.
fn tensors(keep: impl Fn(&str) -> bool, change: impl Fn(&[f32]) -> (Dtype, Vec<u8>)) -> Vec<u8> {
    let file = part(&format!("unet/{WEIGHTS}"));
    let file = SafeTensors::deserialize(&file).expect("the reference");
    let kept = file.iter().filter(|(name, _)| keep(name)).map(|(name, view)| {
        let numbers: Vec<f32> = view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        let (dtype, bytes) = change(&numbers);
        (name.to_string(), view.shape().to_vec(), dtype, bytes)
    });
    let kept: Vec<_> = kept.collect();
    let views = kept.iter().map(|(name, shape, dtype, bytes)| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as the shape says"))
    });
    serialize(views, None).expect("a file")
}

fn same(numbers: &[f32]) -> (Dtype, Vec<u8>) {
    (Dtype::F32, numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// The half of the tensors that a shard has.
fn shard_of(name: &str) -> &'static str {
    if name.starts_with("down") { "a-00001-of-00002.safetensors" } else { "a-00002-of-00002.safetensors" }
}

fn index(file_of: impl Fn(&str) -> String) -> Value {
    let bytes = part(&format!("unet/{WEIGHTS}"));
    let names = SafeTensors::deserialize(&bytes).expect("the reference");
    let map: serde_json::Map<String, Value> =
        names.names().into_iter().map(|name| (name.to_string(), file_of(name).into())).collect();
    json!({"metadata": {"total_size": 179_876}, "weight_map": map})
}

/// The reference with its weights in two shards.
fn sharded() -> Place {
    let place = Place::pipeline().without(&format!("model/unet/{WEIGHTS}"));
    let shard = |part: &str| tensors(|name| shard_of(name) == part, same);
    let (first, second) = (shard_of("down"), shard_of("up"));
    let index = index(|name| shard_of(name).into());
    place
        .file(&format!("model/unet/{first}"), &shard(first))
        .file(&format!("model/unet/{second}"), &shard(second))
        .file(&format!("model/unet/{INDEX}"), index.to_string().as_bytes())
}

/// What the command prints for five steps: its lines to standard error, and the SHA-256 of the picture.
fn sample(model: &Path) -> (String, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ancestral"));
    command.args(["sample", "--count", "1", "--steps", "5", "--out", "a.png", "--model"]).arg(model);
    let output = command.current_dir(folder.path()).output().expect("a process");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    (err.into(), out.trim().rsplit(' ').next().expect("a SHA-256").into())
}

#[test]
fn pictures_of_a_hub_folder_are_those_of_the_pipeline() {
    let root = Place::new().network("hub").file("hub/scheduler_config.json", &scheduler());
    for model in [reference(), root.path("hub")] {
        let (said, sha256) = sample(&model);
        assert_eq!(sha256, "24e58779516399751754c59b6df0580ad00859e199e9bdc89f8392bd007d8469", "{}", model.display());
        assert!(!said.contains("note"), "{said}");
    }
    let (said, sha256) = sample(&Place::new().network("hub").path("hub"));
    assert_ne!(sha256, "24e58779516399751754c59b6df0580ad00859e199e9bdc89f8392bd007d8469");
    assert!(said.contains(&format!("hub: {ASSUMED}")), "{said}");
}

#[test]
fn scheduler_is_found_wherever_it_lies_beside_the_network() {
    let config = scheduler();
    assert_eq!(Place::pipeline().is_reference("model"), [""; 0]);
    for (network, given, scheduler) in [
        ("hub", "hub", "hub/scheduler_config.json"),
        ("hub", "hub", "hub/scheduler/scheduler_config.json"),
        ("a/unet", "a/unet", "a/scheduler/scheduler_config.json"),
        ("a/unet", "a/unet/", "a/scheduler_config.json"),
        ("a/unet", "a/unet/../unet/.", "a/scheduler/scheduler_config.json"),
        ("out/checkpoint-9/unet", "out/checkpoint-9", "out/scheduler/scheduler_config.json"),
        ("out/checkpoint-9/unet", "out/checkpoint-9/unet", "out/scheduler/scheduler_config.json"),
    ] {
        let place = Place::new().network(network).file(scheduler, &config);
        let notes = place.is_reference(given);
        assert_eq!(notes.len(), usize::from(!scheduler.starts_with(given)), "{given}: {notes:?}");
        assert!(notes.iter().all(|note| note.contains("the scheduler is that of")), "{notes:?}");

        let flow = json!({"_class_name": "FlowMatchHeunDiscreteScheduler", "num_train_timesteps": 1000, "shift": 1.0});
        let place = place.file(scheduler, flow.to_string().as_bytes());
        place.refuses(given, &["scheduler_config.json", "_class_name", "FlowMatchHeunDiscreteScheduler"]);
    }
    // Beside a folder that is no part of a pipeline, another model's scheduler is none of its business.
    let notes = Place::new().network("a/mine").file("a/scheduler_config.json", &config).read("a/mine").notes;
    assert!(notes.len() == 1 && notes[0].ends_with(ASSUMED), "{notes:?}");
}

#[test]
fn scheduler_that_a_pipeline_promises_and_does_not_have_is_missed() {
    let place = Place::pipeline().without("model/scheduler/scheduler_config.json");
    place.refuses("model", &["scheduler/scheduler_config.json", "cannot read"]);
    let notes = place.without("model/model_index.json").read("model").notes;
    assert!(notes.len() == 1 && notes[0].ends_with(ASSUMED), "{notes:?}");
}

#[test]
fn scheduler_without_a_sampler_gives_its_noise_and_says_what_draws() {
    let fields = r#"{"_class_name": "DDPMParallelScheduler", "beta_schedule": "squaredcos_cap_v2",
        "num_train_timesteps": 200, "prediction_type": "v_prediction", "lambda_min_clipped": -Infinity}"#;
    let place = Place::pipeline().file("model/scheduler/scheduler_config.json", fields.as_bytes());
    let Loaded { pipeline, notes } = place.read("model");
    let (found, expected) = (pipeline.scheduler(), REFERENCE.scheduler());
    assert_eq!((&found.schedule, found.prediction), (&expected.schedule, expected.prediction));
    assert!(notes.len() == 1 && notes[0].contains("DDPMParallelScheduler"), "{notes:?}");
    assert!(notes[0].contains(found.sampler.entry().name), "{notes:?}");
}

#[test]
fn folder_saved_with_a_sampler_opens_with_it_and_its_options() {
    // Euler's classes have no order: one that another class left there is unread.
    for (class, sampler, order) in [
        ("DPMSolverMultistepScheduler", Sampler::DpmMultistep, 3),
        ("UniPCMultistepScheduler", Sampler::UniPc, 3),
        ("EulerDiscreteScheduler", Sampler::Euler, 2),
        ("FlowMatchEulerDiscreteScheduler", Sampler::FlowEuler, 2),
    ] {
        let fields =
            json!({"_class_name": class, "num_train_timesteps": 200, "solver_order": 3, "use_karras_sigmas": true});
        let place = Place::pipeline().file("model/scheduler/scheduler_config.json", fields.to_string().as_bytes());
        let Loaded { pipeline, notes } = place.read("model");
        let scheduler = pipeline.scheduler();
        let options = &scheduler.options;
        assert_eq!((scheduler.sampler, options.sigmas, options.order), (sampler, Sigmas::Karras, order));
        assert!(notes.is_empty(), "{notes:?}");
    }
}

#[test]
fn pipeline_with_other_parts_is_refused_by_their_names() {
    let index = part("model_index.json");
    for name in ["vae", "vqvae", "text_encoder", "bert", "transformer", "image_normalizer"] {
        let with_part = with(&index, &json!({name: ["diffusers", "SomeModel"]}));
        let place = Place::pipeline().file("model/model_index.json", &with_part);
        for given in ["model", "model/unet"] {
            place.refuses(given, &["model_index.json", &format!("{name} (SomeModel)")]);
        }
    }
    let idle = json!({
        "safety_checker": [null, null], "vae": [null, null], "feature_extractor": ["transformers", "CLIP"],
        "requires_safety_checker": false, "_name_or_path": "x"
    });
    let place = Place::pipeline().file("model/model_index.json", &with(&index, &idle));
    assert_eq!(place.is_reference("model"), [""; 0]);
    // An index that was not copied: the folders tell.
    let place = place.without("model/model_index.json").file("model/vae/config.json", b"{}");
    place.refuses("model", &["model", "vae"]);
    place.refuses("model/unet", &["vae"]);
    let latent = json!({
        "_class_name": "DiTPipeline", "transformer": ["diffusers", "DiTTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"], "id2label": {"0": "tench"}
    });
    let place = Place::new().file("dit/model_index.json", latent.to_string().as_bytes());
    place.refuses("dit", &["DiTPipeline", "vae (AutoencoderKL)"]);
}

/// A transformer and its average, in `dit`.
fn transformer() -> Place {
    let file = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dit/small");
        fs::read(folder.join(name)).expect("a file of the fixture")
    };
    let index = json!({
        "_class_name": "DiTPipeline", "scheduler": ["diffusers", "DDIMScheduler"],
        "transformer": ["diffusers", "DiTTransformer2DModel"], "vae": [null, null]
    });
    let place = Place::new().file("dit/model_index.json", index.to_string().as_bytes());
    ["transformer", "transformer_ema"]
        .iter()
        .fold(place, |place, part| {
            let place = place.file(&format!("dit/{part}/config.json"), &file("config.json"));
            place.file(&format!("dit/{part}/{WEIGHTS}"), &file(WEIGHTS))
        })
        .file("dit/scheduler/scheduler_config.json", &scheduler())
}

#[test]
fn transformer_is_found_where_a_unet_would_be_and_its_last_label_is_for_no_class() {
    let place = transformer();
    let Loaded { pipeline, notes } = place.read("dit");
    assert!(notes.len() == 1 && notes[0].contains("transformer_ema"), "{notes:?}");
    assert_eq!((pipeline.classes(), pipeline.null_class(), pipeline.guides()), (Some(10), Some(10), true));
    let place = place.without("dit/transformer_ema/config.json");
    let Loaded { pipeline: again, notes } = place.read("dit");
    assert!(notes.is_empty() && again.weights() == pipeline.weights(), "{notes:?}");
    let notes = place.read("dit/transformer").notes;
    assert!(notes.len() == 1 && notes[0].contains("the scheduler is that of"), "{notes:?}");
    let with_vae = place.file("dit/vae/config.json", b"{}");
    let index = json!({"_class_name": "DiTPipeline", "vae": ["diffusers", "AutoencoderKL"]});
    let with_vae = with_vae.file("dit/model_index.json", index.to_string().as_bytes());
    for given in ["dit", "dit/transformer"] {
        with_vae.refuses(given, &["model_index.json", "vae (AutoencoderKL)"]);
    }
}

#[test]
fn weights_of_other_precisions_are_widened_and_said() {
    let upper = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000);
    let bf16 = |x: &[f32]| (Dtype::BF16, x.iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect());
    let f64 = |x: &[f32]| (Dtype::F64, x.iter().flat_map(|x| f64::from(*x).to_le_bytes()).collect());
    let file = format!("model/unet/{WEIGHTS}");
    let place = Place::pipeline().file(&file, &tensors(|_| true, f64));
    let notes = place.is_reference("model");
    assert!(notes.len() == 1 && notes[0].contains("F64, rounded to F32"), "{notes:?}");

    let Loaded { pipeline, notes } = place.file(&file, &tensors(|_| true, bf16)).read("model");
    assert!(notes.len() == 1 && notes[0].contains("BF16, widened to F32"), "{notes:?}");
    let expected: Vec<f32> = REFERENCE.weights().0.iter().map(|&x| upper(x)).collect();
    assert!(pipeline.weights().0 == expected, "other numbers than the upper halves");

    // 1.5 in binary16 for every weight.
    let f16 = |x: &[f32]| (Dtype::F16, 0x3e00u16.to_le_bytes().repeat(x.len()));
    let Loaded { pipeline, notes } = Place::pipeline().file(&file, &tensors(|_| true, f16)).read("model");
    assert!(notes.len() == 1 && notes[0].contains("F16, widened to F32"), "{notes:?}");
    assert!(pipeline.weights().0.iter().all(|&x| x == 1.5));

    let large = |x: &[f32]| (Dtype::F64, 1e39f64.to_le_bytes().repeat(x.len()));
    let infinite = |x: &[f32]| (Dtype::F16, 0x7c00u16.to_le_bytes().repeat(x.len()));
    let whole = |x: &[f32]| (Dtype::I64, vec![0; 8 * x.len()]);
    Place::pipeline().file(&file, &tensors(|_| true, large)).refuses("model", &[&file, "tensor `", "1e39"]);
    Place::pipeline().file(&file, &tensors(|_| true, infinite)).refuses("model", &[&file, "tensor `", "inf"]);
    Place::pipeline().file(&file, &tensors(|_| true, whole)).refuses("model", &[&file, "tensor `", "found I64"]);
}

#[test]
fn shards_under_an_index_are_one_network() {
    assert_eq!(sharded().is_reference("model"), [""; 0]);
    let place = sharded().file(&format!("model/unet/{WEIGHTS}"), b"of another time");
    let notes = place.is_reference("model");
    assert!(notes.len() == 1 && notes[0].contains("shards"), "{notes:?}");
}

#[test]
fn shards_that_do_not_fit_their_index_are_refused_by_name() {
    let (index_file, shard) = (format!("model/unet/{INDEX}"), format!("model/unet/{}", shard_of("up")));
    sharded().without(&shard).refuses("model", &[INDEX, shard_of("up")]);
    sharded().file(&shard, &tensors(|_| true, same)).refuses("model", &["tensor `down", "is in", shard_of("down")]);
    let fewer = tensors(|name| shard_of(name) == shard_of("up") && name != "conv_in.bias", same);
    sharded().file(&shard, &fewer).refuses("model", &["conv_in.bias", "missing"]);
    sharded().file(&shard, b"version https://git-lfs.github.com/spec/v1\n").refuses("model", &[&shard, "git lfs pull"]);
    for name in
        ["../../etc/passwd", "/etc/passwd", "../unet/a.safetensors", "a\\b.safetensors", "C:a.safetensors", "..", ""]
    {
        let hostile = index(|_| name.into()).to_string();
        sharded().file(&index_file, hostile.as_bytes()).refuses("model", &[INDEX, "weight_map", "beside it"]);
    }
    for text in ["", "[]", "{}", "{\"weight_map\": 5}", "{\"weight_map\": {}}", "{\"weight_map\": {\"a\": 5}}"] {
        sharded().file(&index_file, text.as_bytes()).refuses("model", &[INDEX]);
    }
}

#[test]
fn single_variant_is_read_and_several_are_refused() {
    let weights = part(&format!("unet/{WEIGHTS}"));
    let variant = |name: &str| format!("model/unet/diffusion_pytorch_model.{name}.safetensors");
    for name in ["fp16", "non_ema"] {
        let place = Place::pipeline().without(&format!("model/unet/{WEIGHTS}")).file(&variant(name), &weights);
        let notes = place.is_reference("model");
        assert!(notes.len() == 1 && notes[0].contains(&format!("variant {name}")), "{notes:?}");
        let place = place.file(&variant("bf16"), &weights);
        place.refuses("model", &["expected one file of weights", name, "bf16"]);
        assert_eq!(place.file(&format!("model/unet/{WEIGHTS}"), &weights).is_reference("model"), [""; 0]);
    }
}

#[test]
fn averaged_weights_are_preferred_without_the_averages_own_fields() {
    let average = json!({
        "decay": 0.9999, "inv_gamma": 1.0, "min_decay": 0.0, "optimization_step": 1, "power": 0.75,
        "update_after_step": 0, "use_ema_warmup": true
    });
    let ema = with(&part("unet/config.json"), &average);
    let other = tensors(|_| true, |x| (Dtype::F32, vec![0; 4 * x.len()]));
    let place = Place::pipeline()
        .file(&format!("model/unet/{WEIGHTS}"), &other)
        .file("model/unet_ema/config.json", &ema)
        .file(&format!("model/unet_ema/{WEIGHTS}"), &part(&format!("unet/{WEIGHTS}")));
    let notes = place.is_reference("model");
    assert!(notes.len() == 1 && notes[0].contains("not those of unet"), "{notes:?}");
    let Loaded { pipeline, notes } = place.read("model/unet");
    assert!(pipeline.weights().0.iter().all(|&x| x == 0.0));
    assert!(notes.iter().any(|note| note.contains("averaged weights are beside these")), "{notes:?}");
    place.is_reference("model/unet_ema");
    let unknown = with(&ema, &json!({"decay_of_something": 1}));
    place
        .file("model/unet_ema/config.json", &unknown)
        .refuses("model", &["unet_ema/config.json", "decay_of_something"]);
}

#[test]
fn last_checkpoint_of_a_diffusers_trainer_is_read() {
    let zeros = tensors(|_| true, |x| (Dtype::F32, vec![0; 4 * x.len()]));
    let place = Place::new().network("out/checkpoint-1000/unet").network("out/checkpoint-500/unet");
    let place = place.file(&format!("out/checkpoint-500/unet/{WEIGHTS}"), &zeros);
    let notes = place.read("out").notes;
    assert!(notes[0].contains("checkpoint-1000") && notes[1].ends_with(ASSUMED), "{notes:?}");
    let place = place.file("out/scheduler/scheduler_config.json", &scheduler());
    place.is_reference("out");
    assert!(place.read("out/checkpoint-500").pipeline.weights().0.iter().all(|&x| x == 0.0));
}

#[test]
fn json_with_a_byte_order_mark_is_read() {
    let marked = |file: &str| [b"\xef\xbb\xbf", &part(file)[..]].concat();
    let files = ["unet/config.json", "scheduler/scheduler_config.json", "model_index.json"];
    let place = files.iter().fold(Place::pipeline(), |place, file| place.file(&format!("model/{file}"), &marked(file)));
    assert_eq!(place.is_reference("model"), [""; 0]);
}

#[test]
fn folder_or_file_that_is_no_model_is_refused_with_what_is_there() {
    let place = Place::pipeline().file("model/unet/notes.txt", b"");
    for file in ["model/unet/config.json", "model/scheduler/scheduler_config.json", "model/model_index.json"] {
        place.refuses(file, &["found a file", "give the model's folder", "/model"]);
    }
    place.refuses(&format!("model/unet/{WEIGHTS}"), &["found a file", "/model"]);
    place.refuses("model/scheduler", &["which holds scheduler_config.json"]);
    place.refuses("none", &["no such folder"]);
    let place = place.without(&format!("model/unet/{WEIGHTS}"));
    place.refuses("model", &[WEIGHTS, "holds config.json, notes.txt"]);
    let place = place.file("model/unet/diffusion_pytorch_model.bin", b"\x80");
    place.refuses("model", &["Python pickle", "diffusion_pytorch_model.bin", "safe_serialization"]);
    let place =
        place.file(&format!("model/unet/{WEIGHTS}"), b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n");
    place.refuses("model", &[WEIGHTS, "git lfs pull"]);

    let place = (0..12).fold(Place::new(), |place, i| place.file(&format!("many/{i:02}.txt"), b""));
    place.refuses("many", &["00.txt, 01.txt", "07.txt and 4 more"]);
    let place =
        Place::new().file("a/model.ckpt", b"").file("b/model.safetensors", b"").file("c/checkpoint.safetensors", b"");
    place.refuses("a", &["model.ckpt", "Python pickle"]);
    place.refuses("a/model.ckpt", &["found a file", "Python pickle"]);
    place.refuses("b", &["model.safetensors", "config.json"]);
    place.refuses("c", &["no model yet"]);
}
