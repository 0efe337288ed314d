//! The lesson: of the model in the tree it is the file that the tree has; of any other model it has no hole.

#![cfg(unix)]

mod run;

use std::path::Path;

use ancestral::checkpoint::pipeline;
use ancestral::data::{Dataset, Shape, Split, shapes};
use ancestral::lesson::{Sources, page, record};
use ancestral::models::NetworkConfig;
use ancestral::pipeline::Pipeline;
use ancestral::train::Config;
use ancestral::train::config::PredictionType;
use ancestral::train::metrics::Losses;
use run::{Place, config, model_of};
use serde_json::Value;

/// A lesson without training pictures and without the network.
fn sources<'a>(model: &'a Pipeline, data: &'a Dataset, losses: Option<&'a Losses>) -> Sources<'a> {
    Sources { model, data, training: None, losses, with_network: false }
}

/// The page and the record of an untrained model, with the synthetic pictures of its shape.
fn lesson_of(config: &Config) -> (String, Value) {
    let model = model_of(config);
    let (height, width, channels) = model.image_shape().expect("a shape");
    let data = shapes::draw(0, Split::Validation, Shape { height, width, channels }).expect("pictures");
    let (page, json) = page::render(&record(sources(&model, &data, None)).expect("a record")).expect("a page");
    (page, serde_json::from_str(&json).expect("JSON"))
}

/// A chain of a few steps of a network that takes no time.
fn few_steps(prediction_type: PredictionType, t_max: usize) -> Config {
    let mut config = config();
    config.schedule.prediction_type = prediction_type;
    config.schedule.num_train_timesteps = t_max;
    config
}

/// The keys that hold nothing.
fn nothing(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(key.to_string()),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| nothing(value, &format!("{key}.{i}"), found))
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| nothing(value, &format!("{key}.{name}"), found))
        }
        _ => {}
    }
}

/// A number that is not finite is null in JSON, so all that is null has to be what may be left out.
fn assert_whole(record: &Value, what: &str) {
    const MAY_BE_LEFT_OUT: [&str; 18] = [
        ".about.classes",
        ".chain.class",
        ".chain.clip",
        ".chain.command",
        ".guidance",
        ".guidance.own_times",
        ".inside.unet",
        ".inside.unet.attention",
        ".judged.exact",
        ".judged.exact_from",
        ".judged.exact_of",
        ".judged.mean_from",
        ".losses",
        ".paid.total.margin",
        ".learning",
        ".learning.input",
        ".network",
        ".tables.first_below_one",
    ];
    let mut found = Vec::new();
    nothing(record, "", &mut found);
    found.retain(|key| {
        let of_many = key.starts_with(".pictures.") && key.ends_with(".label")
            || (key.starts_with(".judged.at.") || key.starts_with(".judged.end."))
                && ["exact_rmse", "mean_rmse", "above_exact", "above_mean"].iter().any(|end| key.ends_with(end))
            || key.starts_with(".chain.steps.") && key.ends_with(".lambda") // infinite at the image
            || key == ".tables.alpha_bar_there";
        !of_many && !MAY_BE_LEFT_OUT.contains(&key.as_str())
    });
    assert!(found.is_empty(), "{what}: not a number: {found:?}");
}

#[test]
fn lesson_of_every_prediction_and_of_a_single_step_has_no_hole() {
    for (prediction, t_max) in [(PredictionType::V, 12), (PredictionType::Sample, 12), (PredictionType::Epsilon, 1)] {
        let (page, record) = lesson_of(&few_steps(prediction, t_max));
        assert_whole(&record, &format!("{prediction:?}, T = {t_max}"));
        assert_eq!(record["chain"]["steps"].as_array().expect("steps").len(), t_max);
        assert!(page.contains("so there is nothing to guide by"));
        assert!(page.contains("The exact mean is left out: there are no training pictures"));
        assert!(!page.contains("NaN<") && !page.contains(">inf<"), "{prediction:?}");
    }
}

#[test]
fn lesson_of_a_run_has_the_curve_of_its_loss_and_that_of_a_model_says_why_it_has_none() {
    let config = few_steps(PredictionType::Epsilon, 12);
    let model = model_of(&config);
    let (height, width, channels) = model.image_shape().expect("a shape");
    let data = shapes::draw(0, Split::Validation, Shape { height, width, channels }).expect("pictures");
    let losses = Losses { training: (1..=500).map(|n| (n, 1.0 / n as f64)).collect(), validation: vec![(500, 0.1)] };
    let of = |losses| page::render(&record(sources(&model, &data, losses)).expect("a record")).expect("a page");
    let ((with, json), (without, _)) = (of(Some(&losses)), of(None));
    let record: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(record["losses"]["steps_in_a_point"], 3);
    assert_eq!(record["losses"]["training"].as_array().map(Vec::len), Some(167));
    assert!(with.contains("id=\"f11c\"") && !with.contains("its curve cannot be shown here"));
    assert!(without.contains("its curve cannot be shown here") && !without.contains("id=\"f11c\""));
}

#[test]
fn lesson_command_of_a_run_reads_its_losses_and_names_a_damaged_line_of_them() {
    let place = Place::new();
    run::assert_passed(&place.run("lesson --model run --json lesson.json"), "a lesson of a run");
    let record: Value = serde_json::from_slice(&place.read("lesson.json")).expect("JSON");
    assert_eq!(record["losses"]["training"], serde_json::json!([[1, 1.0]]));
    place.write("run/metrics.jsonl", b"{\"step\":1,\n");
    place.refuses("lesson --model run", &["metrics.jsonl", "line 1"]);
}

#[test]
fn lesson_of_a_colour_model_and_of_a_transformer_has_no_hole_and_says_what_it_leaves_out() {
    let mut colour = few_steps(PredictionType::Epsilon, 12);
    colour.model.set_images((16, 16), 3).expect("a size");
    let (page, record) = lesson_of(&colour);
    assert_whole(&record, "colour");
    assert_eq!(record["chain"]["x_start"]["shape"], serde_json::json!([16, 16, 3]));
    assert!(!page.contains("\\("), "LaTeX is left in the page");

    let mut transformer = few_steps(PredictionType::Epsilon, 12);
    let fields = r#"{"_class_name": "DiTTransformer2DModel", "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1,
        "patch_size": 4, "sample_size": 16, "in_channels": 1, "num_embeds_ada_norm": 0}"#;
    transformer.model = NetworkConfig::from_json(fields, "a test").expect("a transformer");
    let (page, record) = lesson_of(&transformer);
    assert_whole(&record, "a transformer");
    assert!(
        record["inside"]["unet"].is_null()
            && page.contains("the figures of a U-Net (levels, skips, one convolution) are left out")
    );
}

#[test]
fn page_in_the_tree_is_of_the_model_in_the_tree_and_its_numbers_are_those_of_its_record() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = std::fs::read_to_string(root.join("docs/lesson.html")).expect("docs/lesson.html");
    assert!(kept.len() <= 1_600_000, "docs/lesson.html has {} bytes", kept.len());
    let model = pipeline::read(&root.join("data/models/digits")).expect("the model").pipeline;
    let digest: Vec<u8> = model.weights().0.iter().flat_map(|x| x.to_le_bytes()).collect();
    let digest = ancestral::digest::sha256(&digest);
    assert!(kept.contains(&digest), "docs/lesson.html is of another model: ancestral lesson --out docs/lesson.html");
    // Its numbers are those of the record that it holds; .ci/lesson makes it anew and compares the bytes.
    let json = kept.split_once("id=\"record\"").and_then(|(_, rest)| rest.split_once('>')).map(|(_, rest)| rest);
    let json = json.and_then(|rest| rest.split_once("</script>")).expect("a record").0;
    let record: Value = serde_json::from_str(json).expect("JSON");
    assert_whole(&record, "docs/lesson.html");
    let numbers: Vec<&str> = kept.split("<data data-key=\"").skip(1).collect();
    assert!(numbers.len() > 100, "{} numbers in the text", numbers.len());
    for number in numbers {
        let (key, rest) = number.split_once("\" value=\"").expect("a value");
        let value = rest.split_once('"').expect("the end of a value").0;
        let pointer = format!("/{}", key.replace('.', "/"));
        assert_eq!(record.pointer(&pointer).map(Value::to_string).as_deref(), Some(value), "{key}");
    }
}

#[test]
fn lesson_of_what_it_is_not_about_is_refused_by_name() {
    let place = Place::new();
    place.refuses("lesson --model nowhere", &["nowhere"]);
    place.refuses("lesson --model run --data nowhere", &["nowhere"]);
    place.refuses("lesson --model run --out run", &["expected the name of a file, found a folder"]);
    let mut long = config();
    long.schedule.num_train_timesteps = 5000;
    Place::of(&long).refuses("lesson --model run", &["num_train_timesteps: expected at most 4000 steps"]);
}
