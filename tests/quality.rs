//! A classifier and the quality of a model's pictures, by the command.

mod run;

use run::{Place, assert_passed, config};
use serde_json::Value;

use ancestral::train::Config;

/// A run that is told the classes of 16 x 16 shapes, after one step.
fn place() -> Place {
    let mut config = config();
    config.model = match config.model {
        ancestral::models::NetworkConfig::UNet(unet) => {
            ancestral::models::UNetConfig { num_class_embeds: Some(4), ..unet }.into()
        }
        other => panic!("the preset `tiny` has a U-Net, not {other:?}"),
    };
    Place::of(&Config { data: "shapes".into(), ..config })
}

fn json(place: &Place, line: &str) -> Value {
    let output = place.run(line);
    assert_passed(&output, line);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

const TRAIN: &str = "classify train --data shapes --size 16x16x1 --steps 30 --batch-size 8 --json --out c";
const QUALITY: &str = "quality --model run --count 96 --steps 2 --json";

#[test]
fn classifier_is_trained_evaluated_and_not_overwritten() {
    let place = place();
    let trained = json(&place, TRAIN);
    let again = json(&place, &format!("{} --threads 3", TRAIN.replace("--out c", "--out d")));
    assert_eq!(trained["sha256"], again["sha256"], "whatever the threads");
    let found = &trained["classification"];
    assert_eq!((found["images"].as_u64(), found["confusion"].as_array().map(Vec::len)), (Some(512), Some(4)));
    assert_eq!(&json(&place, "classify eval --model c --data shapes --json")["classification"], found);
    place.refuses(TRAIN, &["c", "which this one would overwrite"]);
    place.refuses("classify train --data shapes --size 16x16 --out e", &["--size", "28x28x1"]);
    place.refuses("classify train --data shapes --size 16x16x1 --lr 0 --out e", &["--lr"]);
    place.refuses("classify eval --model run --data shapes", &["expected a classifier", "classify train"]);
}

#[test]
fn classifier_in_the_tree_reads_the_test_digits_as_its_page_says() {
    let tree = |name: &str| format!("{}/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let line = format!("classify eval --model {} --data {} --json", tree("models/classifier"), tree("mnist"));
    let found = &json(&Place::new(), &line)["classification"];
    assert_eq!((found["images"].as_u64(), found["right"].as_u64()), (Some(10_000), Some(9954)), "{found}");
    let page = std::fs::read_to_string(tree("models/classifier/README.md")).expect("a page");
    let weights = std::fs::read(tree("models/classifier/model.safetensors")).expect("weights");
    assert!(page.contains(&ancestral::digest::sha256(&weights)) && page.contains("9,954"), "{page}");
}

#[test]
fn quality_has_the_same_bits_for_any_threads_and_batches() {
    let place = place();
    json(&place, TRAIN);
    let line = format!("{QUALITY} --features c --worst worst.png --nearest nearest.png");
    let one = json(&place, &line);
    for flags in ["--threads 1 --batch-size 5", "--threads 3 --batch-size 96"] {
        assert_eq!(json(&place, &format!("{line} {flags}")), one, "{flags}");
    }
    let quality = &one["quality"];
    assert_eq!((quality["count"].as_u64(), quality["against"].as_u64()), (Some(96), Some(512)));
    assert_eq!(quality["classes"].as_array().map(Vec::len), Some(4));
    // Noise is not read as asked, and is far from shapes, among which none of it lies.
    let distance = |of: &str| quality[of]["frechet_distance"]["value"].as_f64().expect("a number");
    assert!(distance("pictures") > 3.0 * distance("training"), "{quality}");
    assert!(quality["class_accuracy"]["value"].as_f64().expect("read") < 0.6, "{quality}");
    assert!(one["nearest"]["pictures"]["least"].as_f64() > one["nearest"]["validation"]["median"].as_f64(), "{one}");
    for file in ["worst.png", "nearest.png"] {
        image::open(place.path(file)).expect("a picture");
    }
}

#[test]
fn without_a_classifier_pixels_are_compared_and_this_is_said() {
    let place = place();
    let output = place.run(QUALITY);
    assert_passed(&output, QUALITY);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("there is no classifier of these images"), "{said}");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(found["features"] == "their pixels" && found["quality"]["class_accuracy"].is_null(), "{found}");
    place.refuses(&format!("{QUALITY} --features run"), &["run", "expected a classifier"]);
    place.refuses(&format!("{QUALITY} --worst w.png"), &["--worst", "not read"]);
    place.refuses("quality --model run --count 3", &["20"]);
}
