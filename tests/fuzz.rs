//! Damaged and random files to every reader: an error or the same contents, never a panic.

mod run;

use std::path::Path;
use std::sync::LazyLock;

use ancestral::checkpoint::pipeline::Loaded;
use ancestral::checkpoint::{pipeline, resume, scheduler, weights};
use ancestral::golden::case::{Case, Tensor};
use ancestral::golden::format::Format;
use ancestral::golden::kit::{Draft, drafts};
use ancestral::golden::oracle::{Only, complete};
use ancestral::layers::Layout;
use ancestral::models::{Conditions, Network, Time, UNet, UNetConfig};
use ancestral::train::{Config, State};
use ndarray::{Array4, ArrayD};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// A run so small that thousands of its files can be read.
static SMALL: LazyLock<(Config, State)> = LazyLock::new(|| {
    let mut config = run::config();
    let unet = config.model.unet_mut().expect("a U-Net");
    unet.block_out_channels = vec![4];
    unet.down_block_types = vec!["DownBlock2D".into()];
    unet.up_block_types = vec!["UpBlock2D".into()];
    unet.mid_block_type = None;
    unet.sample_size = Some(ancestral::models::unet::SampleSize::Square(8));
    let state = run::state(&config);
    (config, state)
});
static LAYOUT: LazyLock<Layout> =
    LazyLock::new(|| Network::new(SMALL.0.model.clone()).expect("supported").layout().clone());
static CHECKPOINT: LazyLock<Vec<u8>> = LazyLock::new(|| resume::to_bytes(&SMALL.0, &SMALL.1).expect("finite"));
static WEIGHTS: LazyLock<Vec<u8>> = LazyLock::new(|| weights::to_bytes(&LAYOUT, &SMALL.1.weights));

/// The files of a model. They are not saved as a pipeline saves them, which waits for the disk.
static MODEL: LazyLock<[(&str, Vec<u8>); 3]> = LazyLock::new(|| {
    let scheduler_json = scheduler::to_json(&SMALL.0.scheduler().expect("a preset"));
    [
        ("unet/config.json", SMALL.0.model.to_json().into_bytes()),
        ("scheduler/scheduler_config.json", scheduler_json.into_bytes()),
        ("unet/diffusion_pytorch_model.safetensors", WEIGHTS.clone()),
    ]
});

/// The cases of the golden kit that need no other file.
static CASES: LazyLock<Vec<Draft>> = LazyLock::new(|| {
    drafts(&[], Format::F32).into_iter().filter(|draft| !draft.case.attributes.contains_key("model")).collect()
});

/// What happens to files on their way.
#[derive(Clone, Debug)]
enum Damage {
    Cut(Index),
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ]
}

/// The file after the damage, which falls on the first `head` bytes.
fn damaged(file: &[u8], head: usize, damages: &[Damage]) -> Vec<u8> {
    let mut file = file.to_vec();
    for damage in damages {
        let head = head.min(file.len());
        if head == 0 {
            break;
        }
        match damage {
            Damage::Cut(at) => file.truncate(at.index(head)),
            Damage::Flip(at, bit) => file[at.index(head)] ^= 1 << bit,
            Damage::Set(at, byte) => file[at.index(head)] = *byte,
            Damage::Insert(at, bytes) => drop(file.splice(at.index(head)..at.index(head), bytes.iter().copied())),
            Damage::Repeat(from, to) => {
                let (from, to) = (from.index(head), to.index(head));
                let part = file[from.min(to)..from.max(to)].to_vec();
                drop(file.splice(to..to, part));
            }
        }
    }
    file
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec(damage(), 1..4)
}

/// The header of a safetensors file, where structure is, or all of it.
fn head(file: &[u8], header: bool) -> usize {
    if header { 8 + u64::from_le_bytes(file[..8].try_into().expect("8 bytes")) as usize } else { file.len() }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Numbers and strings that have broken programs before.
fn nasty() -> impl Strategy<Value = Value> {
    select(vec![
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(4),
        json!(7),
        json!(8),
        json!(9),
        json!(16),
        json!(64),
        json!(65536),
        json!(65537),
        json!(1u64 << 32),
        json!(u64::MAX),
        json!(-1),
        json!(0.5),
        json!(-0.5),
        json!(1e-300),
        json!(1e300),
        json!(""),
        json!("swish"),
        json!("scale_shift"),
        json!("default"),
        json!([]),
        json!([1]),
        json!([3, 5]),
        json!([8, 4]),
        json!([4, 4, 4]),
        json!([65536, 65536]),
        json!({}),
        json!(["DownBlock2D", "AttnDownBlock2D"]),
        json!(["AttnUpBlock2D", "UpBlock2D"]),
    ])
}

proptest! {
    #[test]
    fn weights_of_any_bytes_do_not_panic(file in prop::collection::vec(any::<u8>(), 0..512), length in 0..600u64) {
        let file = [&length.to_le_bytes()[..], &file].concat();
        prop_assert!(weights::from_bytes(&file, Path::new("w"), &LAYOUT).is_err());
        prop_assert!(weights::from_bytes(&file[8..], Path::new("w"), &LAYOUT).is_err());
        prop_assert!(resume::from_bytes(&file, Path::new("c")).is_err());
    }

    #[test]
    fn weights_damaged_are_an_error_or_finite_weights(damages in damages(), header: bool) {
        let file = damaged(&WEIGHTS, head(&WEIGHTS, header), &damages);
        if let Ok(weights) = weights::from_bytes(&file, Path::new("w"), &LAYOUT) {
            prop_assert!(weights.0.len() == LAYOUT.count() && weights.0.iter().all(|w| w.is_finite()));
        }
    }

    #[test]
    fn checkpoint_damaged_is_an_error_or_the_same_state(damages in damages(), header: bool) {
        let file = damaged(&CHECKPOINT, head(&CHECKPOINT, header), &damages);
        if let Ok((config, state)) = resume::from_bytes(&file, Path::new("c")) {
            prop_assert_eq!(resume::to_bytes(&config, &state).expect("finite"), CHECKPOINT.clone());
        }
    }

    #[test]
    fn model_config_of_any_text_does_not_panic(any in "\\PC*", damages in damages()) {
        let _ = UNetConfig::from_json(&any, "c");
        let json = SMALL.0.model.to_json();
        let _ = UNetConfig::from_json(&text(damaged(json.as_bytes(), json.len(), &damages)), "c");
    }

    #[test]
    fn model_config_that_is_accepted_predicts_finite_shapes(
        changes in prop::collection::vec((any::<Index>(), nasty()), 1..4)
    ) {
        let mut config = serde_json::to_value(run::config().model).expect("JSON");
        config["block_out_channels"] = json!([4, 8]);
        config["sample_size"] = json!(4);
        let names: Vec<String> = config.as_object().expect("fields").keys().cloned().collect();
        for (at, value) in changes {
            config[at.get(&names)] = value;
        }
        let Ok(unet) = UNetConfig::from_json(&config.to_string(), "c").and_then(UNet::new) else { return Ok(()) };
        let (height, width) = unet.config.image_size().unwrap_or((4, 4));
        if unet.layout.count() > 200_000 || height * width > 64 * 64 {
            return Ok(());
        }
        let labels = unet.config.num_class_embeds.map(|_| vec![0]);
        let conditions = Conditions { time: Time::Steps(&[3.0]), labels: labels.as_deref() };
        let x = Array4::from_elem((1, height, width, unet.config.in_channels), 0.5f32);
        if let Ok(y) = unet.predict(&unet.layout.initial(1), x, conditions) {
            prop_assert_eq!(y.dim(), (1, height, width, unet.config.out_channels));
        }
    }

    #[test]
    fn train_config_of_any_text_does_not_panic(any in "\\PC*", damages in damages(), toml: bool) {
        let json = run::config().to_json();
        let json = text(damaged(json.as_bytes(), json.len(), &damages));
        let _ = Config::from_json(&json, Path::new("c"));
        let file = tempfile::Builder::new().suffix(if toml { ".toml" } else { ".json" }).tempfile().expect("a file");
        let fields = if toml { toml::to_string(&run::config()).expect("TOML") } else { json };
        for text in [text(damaged(fields.as_bytes(), fields.len(), &damages)), any] {
            std::fs::write(file.path(), text).expect("a file");
            if let Ok(config) = run::config().with_file(file.path()) {
                prop_assert!(config.validate().is_ok());
            }
        }
    }

    #[test]
    fn train_config_of_nasty_values_is_refused_or_holds(changes in prop::collection::vec((any::<Index>(), nasty()), 1..4)) {
        let mut config = serde_json::to_value(run::config()).expect("JSON");
        let tables = ["", "schedule", "optimizer"];
        for (at, value) in changes {
            let table = *at.get(&tables);
            let fields = if table.is_empty() { &mut config } else { &mut config[table] };
            let Some(fields) = fields.as_object_mut() else { continue };
            let names: Vec<String> = fields.keys().cloned().collect();
            fields.insert(at.get(&names).clone(), value);
        }
        if let Ok(config) = Config::from_json(&config.to_string(), Path::new("c")) {
            prop_assert!(config.validate().is_ok() && config.scheduler().is_ok());
        }
    }

    #[test]
    fn scheduler_config_of_any_text_does_not_panic(
        any in "\\PC*", damages in damages(), at: Index, value in nasty()
    ) {
        let _ = scheduler::from_json(&any, Path::new("s"));
        let json = scheduler::to_json(&SMALL.0.scheduler().expect("a preset"));
        let _ = scheduler::from_json(&text(damaged(json.as_bytes(), json.len(), &damages)), Path::new("s"));
        let mut fields: Value = serde_json::from_str(&json).expect("our own file");
        let names: Vec<String> = fields.as_object().expect("fields").keys().cloned().collect();
        fields[at.get(&names)] = value;
        let _ = scheduler::from_json(&fields.to_string(), Path::new("s"));
    }

    #[test]
    fn golden_case_damaged_is_an_error_or_has_finite_values(at: Index, damages in damages(), header: bool) {
        let file = at.get(&CASES).case.to_bytes();
        let file = damaged(&file, head(&file, header), &damages);
        let Ok(mut case) = Case::from_bytes(&file, Path::new("c")) else { return Ok(()) };
        if complete(&mut case, Some(Only::F64)).is_ok() {
            prop_assert!(case.order.iter().all(|name| case.numbers(name).iter().all(|x| x.is_finite())));
        }
    }

    #[test]
    fn golden_case_of_nasty_attributes_and_shapes_does_not_panic(
        at: Index,
        attribute in proptest::option::of((any::<Index>(), nasty())),
        tensor in proptest::option::of((any::<Index>(), prop::collection::vec(0..5usize, 0..5), -2f32..1000.0)),
    ) {
        let mut case = at.get(&CASES).case.clone();
        let names: Vec<String> = case.attributes.keys().cloned().collect();
        if let Some((at, value)) = attribute.filter(|_| !names.is_empty()) {
            case.attributes.insert(at.get(&names).clone(), value);
        }
        let names: Vec<String> = case.tensors.keys().cloned().collect();
        if let Some((at, shape, value)) = tensor.filter(|_| !names.is_empty()) {
            let tensor = match case.tensors[at.get(&names)] {
                Tensor::I64(_) => Tensor::I64(ArrayD::from_elem(shape, value as i64)),
                _ => Tensor::F32(ArrayD::from_elem(shape, value)),
            };
            case.tensors.insert(at.get(&names).clone(), tensor);
        }
        let _ = complete(&mut case, Some(Only::F32));
    }

    #[test]
    fn pipeline_of_damaged_files_does_not_panic(file in 0..3usize, damages in damages(), header: bool) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("unet")).expect("a folder");
        std::fs::create_dir(folder.path().join("scheduler")).expect("a folder");
        for (i, (name, bytes)) in MODEL.iter().enumerate() {
            let head = if i == 2 { head(bytes, header) } else { bytes.len() };
            let bytes = if i == file { damaged(bytes, head, &damages) } else { bytes.clone() };
            std::fs::write(folder.path().join(name), bytes).expect("a file");
        }
        if let Ok(Loaded { pipeline: model, .. }) = pipeline::read(folder.path()) {
            prop_assert_eq!(model.weights().0.len(), model.network().layout().count());
        }
    }

    #[test]
    fn shard_index_damaged_or_of_nasty_values_does_not_panic(
        damages in damages(), name in "[./a\\\\:]{0,5}", value in nasty(), at: Index, whole: bool
    ) {
        const SHARD: &str = "w-00001-of-00001.safetensors";
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut map: serde_json::Map<String, Value> =
            LAYOUT.entries.iter().map(|entry| (entry.name.clone(), SHARD.into())).collect();
        let names: Vec<String> = map.keys().cloned().collect();
        if !whole {
            map.insert(at.get(&names).clone(), if name.is_empty() { value } else { (name + ".safetensors").into() });
        }
        let index = json!({"weight_map": map}).to_string();
        let index = if whole { damaged(index.as_bytes(), index.len(), &damages) } else { index.into_bytes() };
        let files = [
            ("config.json", MODEL[0].1.clone()),
            ("diffusion_pytorch_model.safetensors.index.json", index),
            (SHARD, WEIGHTS.clone()),
        ];
        files.iter().for_each(|(name, bytes)| std::fs::write(folder.path().join(name), bytes).expect("a file"));
        if let Ok(loaded) = pipeline::read(folder.path()) {
            prop_assert!(loaded.pipeline.weights().0 == SMALL.1.weights.0);
        }
    }

    #[test]
    fn pipeline_index_and_scheduler_of_any_json_do_not_panic(
        any in "(NaN|-Infinity|[{}\\[\\]\":,a0 \\\\]|\"unet\"|null){0,12}", value in nasty(), name in "[a-z_]{0,9}"
    ) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("unet")).expect("a folder");
        std::fs::write(folder.path().join("unet/config.json"), &MODEL[0].1).expect("a file");
        for text in [any, json!({"_class_name": value, name.as_str(): value}).to_string()] {
            std::fs::write(folder.path().join("model_index.json"), &text).expect("a file");
            std::fs::write(folder.path().join("scheduler_config.json"), &text).expect("a file");
            prop_assert!(pipeline::read(folder.path()).is_err(), "no weights");
        }
    }
}
