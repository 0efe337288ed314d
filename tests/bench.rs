//! `ancestral bench`: the object that scripts read.

#![cfg(unix)]

mod run;

use run::{Place, assert_passed};
use serde_json::Value;

/// The object that `bench --seconds 0 --json` prints with these flags, and nothing beside it.
fn bench(place: &Place, flags: &str) -> Value {
    let output = place.run(&format!("bench --preset tiny --seconds 0 --json {flags}"));
    assert_passed(&output, flags);
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn bench_counts_the_work_of_each_mode() {
    let place = Place::new();
    place.write("short.toml", b"[schedule]\nnum_train_timesteps = 10\n[model]\nsample_size = 16\n");
    let gflop = |flags: &str| bench(&place, flags)["gflop"].as_f64().expect("a number");
    let forward = gflop("--mode forward --batch-size 2");
    assert!(forward > 0.0);
    for (flags, times) in [
        ("--mode forward --batch-size 6", 3.0),
        ("--mode train --batch-size 2", 3.0),
        ("--mode sample --batch-size 2 --config short.toml", 10.0),
    ] {
        let ratio = gflop(flags) / forward;
        assert!((ratio - times).abs() < 1e-9, "{flags}: {ratio} and not {times}");
    }
}

#[test]
fn bench_measures_the_network_of_a_config_file() {
    let place = Place::new();
    place.write("side.json", br#"{"model": {"sample_size": 32}}"#);
    let [small, large] = ["--batch-size 1", "--batch-size 1 --config side.json"].map(|flags| bench(&place, flags));
    let ratio = large["gflop"].as_f64().expect("a number") / small["gflop"].as_f64().expect("a number");
    assert!((4.0..16.0).contains(&ratio), "four times the pixels, and attention as their square: {ratio}");
    assert_eq!(large["config"], "side.json");
}

#[test]
fn bench_lists_the_layers_for_scripts() {
    let object = bench(&Place::new(), "--layers --threads 1");
    let layers = object["layers"].as_array().expect("a list");
    let conv = layers.iter().find(|part| part["layer"] == "conv_in" && part["part"] == "forward").expect("conv_in");
    assert!(conv["gflops"].as_f64().expect("a product") > 0.0);
    let shares: f64 = layers.iter().map(|part| part["share"].as_f64().expect("a share")).sum();
    assert!(shares > 0.1 && shares <= 1.0 + 1e-9, "the parts of a thread's time are at most all of it: {shares}");
}
