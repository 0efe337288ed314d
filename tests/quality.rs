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
        other => other,
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

#[test]
fn a_classifier_of_noisy_images_steers_and_clean_ones_are_refused() {
    let place = Place::new(); // a model that is told no classes
    let noisy = TRAIN.replace("--out c", "--noisy --out n");
    let trained = json(&place, &noisy);
    let levels = trained["noisy"].as_array().expect("levels");
    assert_eq!(levels.len(), 5);
    // Of four classes, alike often: in ten times as much noise as image there is little but guessing.
    let accuracy = levels[4]["accuracy"].as_f64().expect("a number");
    assert!((0.1..0.45).contains(&accuracy), "{trained}");
    let again = json(&place, &format!("{} --threads 3", noisy.replace("--out n", "--out m")));
    assert_eq!(trained["sha256"], again["sha256"], "whatever the threads");
    assert_eq!(json(&place, "classify eval --model n --data shapes --json")["noisy"], trained["noisy"]);

    let sample = "sample --model run --count 6 --steps 3 --json";
    let sha256 = |line: &str| json(&place, line)["sha256"].clone();
    let steered = format!("{sample} --classifier n");
    let found = json(&place, &steered);
    assert_eq!((&found["classifier"], found["classifier_scale"].as_f64()), (&Value::from("n"), Some(1.0)));
    assert_ne!(found["sha256"], sha256(sample));
    assert_eq!(sha256(&format!("{steered} --classifier-scale 0")), sha256(sample));
    assert_eq!(sha256(&format!("{steered} --threads 1 --batch-size 4")), found["sha256"]);
    assert_ne!(sha256(&format!("{steered} --class 3")), found["sha256"]);
    let quality =
        json(&place, "quality --model run --count 40 --steps 2 --json --features n --classifier n --data shapes");
    assert!(quality["quality"]["class_accuracy"]["value"].is_number(), "{quality}");

    json(&place, TRAIN);
    place.refuses(&format!("{sample} --classifier c"), &["--classifier", "classify train --noisy"]);
    place.refuses(&format!("{steered} --class 4"), &["--class", "0 to 3"]);
    place.refuses(&format!("{sample} --classifier-scale 2"), &["--classifier"]);
    place.refuses(&format!("{steered} --classifier-scale inf"), &["--classifier-scale", "finite"]);
    place.refuses(&format!("{sample} --class 3"), &["not conditional"]);
}
