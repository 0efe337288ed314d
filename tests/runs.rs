//! Runs as people have them: started twice, lengthened, changed, stopped by a signal, continued from another model.

#![cfg(unix)]

mod run;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ancestral::checkpoint::resume;
use run::{Place, assert_passed, assert_refused};
use serde_json::Value;

/// A config of steps so short that a run of them takes a second, with a checkpoint only where one is asked for.
const CONFIG: &str = "steps = 100000\nbatch_size = 1\ncheckpoint_every = 100000\nsample_count = 1\nsample_steps = 1\n\
    sample_every = 0\nevaluation_images = 1\n";

fn place() -> Place {
    let place = Place::new();
    place.write("long.toml", CONFIG.as_bytes());
    place.write("short.toml", CONFIG.replace("steps = 100000\n", "steps = 4\n").as_bytes());
    place
}

fn spawn(place: &Place, line: &str) -> Child {
    let mut command = place.command();
    command.args(line.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("a process")
}

/// Waits until the run has taken steps.
fn under_way(place: &Place, folder: &str) {
    let start = Instant::now();
    while !place.path(&format!("{folder}/train.json")).exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the run does not start");
        sleep(Duration::from_millis(20));
    }
    sleep(Duration::from_millis(300));
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.expect("kill").success());
}

fn messages(place: &Place, line: &str) -> String {
    let output = place.run(line);
    assert_passed(&output, line);
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&place.read(name)).expect("JSON")
}

/// Pictures of 16 x 16 grey pixels in `folder`, one for each name.
fn pictures(place: &Place, names: &[&str]) {
    for (i, name) in names.iter().enumerate() {
        let path = place.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let level = |x: u32, y: u32| image::Luma([((x * 13 + y * 7 + 40 * i as u32) % 256) as u8]);
        image::ImageBuffer::from_fn(16, 16, level).save(path).expect("a picture");
    }
}

#[test]
fn second_run_in_the_same_folder_is_refused_while_the_first_lives() {
    let place = place();
    let mut first = spawn(&place, "train --preset tiny --config long.toml --out both");
    under_way(&place, "both");
    for line in ["train --preset tiny --config short.toml --out both", "train --resume --out both"] {
        let output = place.run(line);
        assert_refused(&output, line, &["both"]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains("another run is training here, process"), "{message}");
    }
    first.kill().expect("SIGKILL");
    first.wait().expect("its end");
    messages(&place, "train --preset tiny --config short.toml --out both");
}

#[test]
fn signals_to_stop_leave_a_checkpoint_and_a_model_that_can_be_sampled() {
    for name in ["TERM", "HUP", "INT"] {
        let place = place();
        let child = spawn(&place, "train --preset tiny --config long.toml --out new");
        under_way(&place, "new");
        signal(&child, name);
        let output = child.wait_with_output().expect("its end");
        assert_passed(&output, name);
        let (_, state) = resume::read(&place.path("new/checkpoint.safetensors")).expect("a whole checkpoint");
        assert!(state.step > 0);
        messages(&place, "sample --model new --count 1 --steps 1 --out a.png");
        let judged = messages(&place, "eval --model new --images 1 --json");
        assert!(!judged.contains("mnist"), "{judged}");
    }
}

#[test]
fn checkpoint_by_minutes_comes_without_one_by_steps() {
    let place = place();
    let mut child = spawn(&place, "train --preset tiny --config long.toml --out new --checkpoint-minutes 0.002");
    under_way(&place, "new");
    let start = Instant::now();
    while !place.path("new/model/model_index.json").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint");
        sleep(Duration::from_millis(20));
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
    assert!(resume::read(&place.path("new/checkpoint.safetensors")).expect("a whole checkpoint").1.step > 0);
}

#[test]
fn finished_run_is_lengthened_and_its_rate_changed_openly() {
    let place = place();
    messages(&place, "train --preset tiny --config short.toml --out new");
    let said = messages(&place, "train --resume --out new --steps 6 --lr 0.001");
    for words in
        ["changed from step 5 on: steps from 4 to 6", "optimizer.lr from 0.002 to 0.001", "learning rate of step 5"]
    {
        assert!(said.contains(words), "no `{words}` in {said}");
    }
    let (config, state) = resume::read(&place.path("new/checkpoint.safetensors")).expect("a whole checkpoint");
    assert_eq!((config.steps, config.optimizer.lr, state.step), (6, 0.001, 6));
    assert_eq!(json(&place, "new/train.json")["changes"][0]["steps"], serde_json::json!([4, 6]));
    place.refuses("train --resume --out new --steps 5", &["--steps", "at least the 6 steps taken"]);
}

#[test]
fn images_that_changed_since_the_run_began_are_refused_and_may_be_named() {
    let place = place();
    pictures(&place, &["p/cat/1.png", "p/cat/2.png", "p/dog/1.png", "p/dog/2.png"]);
    let said = messages(&place, "train --preset tiny --config short.toml --data p --out new --stop-at 2");
    assert!(said.contains("classes: 0 cat, 1 dog"), "{said}");
    assert_eq!(json(&place, "new/data.json")["classes"], serde_json::json!(["cat", "dog"]));
    pictures(&place, &["p/bird/1.png", "p/bird/2.png"]);
    place.refuses("train --resume --out new", &["data.json", "the images have changed", "--resume --data"]);
    fs::remove_dir_all(place.path("p/bird")).expect("a folder");
    messages(&place, "train --resume --out new --stop-at 3");
}

#[test]
fn model_is_never_overwritten_by_a_new_run_and_can_be_started_from() {
    let place = place();
    fs::remove_file(place.path("run/checkpoint.safetensors")).expect("a file");
    place.refuses("train --preset tiny --config short.toml --out run", &["run/model", "--from run"]);

    let said =
        messages(&place, "train --from run --config short.toml --data shapes --out tuned --stop-at 1 --lr 1e-12");
    assert!(said.contains("starting from the weights of run"), "{said}");
    let model = ancestral::checkpoint::pipeline::read(&place.path("run")).expect("a model").pipeline;
    let (_, state) = resume::read(&place.path("tuned/checkpoint.safetensors")).expect("a whole checkpoint");
    let moved = state.weights.0.iter().zip(&model.weights().0).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(moved < 1e-9, "after one step of 1e-12 the weights are {moved} away");
}

#[test]
fn pictures_without_classes_train_with_a_config_that_does_not_speak_of_classes() {
    let place = place();
    pictures(&place, &["p/1.png", "p/2.png", "p/10.png"]);
    place.write("my.toml", format!("{}[model]\nsample_size = 16\n", CONFIG.replace("100000", "2")).as_bytes());
    messages(&place, "train --data p --config my.toml --out new");
    let mut asked = CONFIG.replace("100000", "2");
    asked += "[model]\nsample_size = 16\nnum_class_embeds = 11\n";
    place.write("my.toml", asked.as_bytes());
    place.refuses("train --data p --config my.toml --out other", &["num_class_embeds", "null"]);
}

#[test]
fn printed_config_is_a_config() {
    let place = place();
    let printed = place.run("train --preset tiny --print-config");
    assert_passed(&printed, "--print-config");
    place.write("all.toml", &printed.stdout);
    let again = place.run("train --preset cifar10 --config all.toml --print-config");
    assert_eq!(String::from_utf8_lossy(&printed.stdout), String::from_utf8_lossy(&again.stdout));
}

#[test]
fn sampling_refuses_files_and_options_that_it_would_get_wrong() {
    let place = place();
    let sample = "sample --model run --count 1 --steps 1";
    for (flags, words) in [
        ("--out a.jpg", &["--out", ".png"][..]),
        ("--out -", &["--out", "/dev/stdout"]),
        ("--out a.png --animation f.mp4", &["--animation", ".gif"]),
        ("--out a.png --npy none/../run", &["--npy"]),
        ("--out a.png --strip ./a.png", &["--strip", "--out"]),
        ("--out a.png --eta 0.5", &["--eta", "ddpm"]),
        ("--out a.png --sampler ddim --variance large", &["--variance", "ddim"]),
        ("--out a.png --class sun", &["--class", "sun"]),
        ("--out a.png --sampler ddim-inverse", &["--sampler", "--from IMAGE --invert"]),
    ] {
        place.refuses(&format!("{sample} {flags}"), words);
    }
    assert!(!place.path("a.png").exists());
    place.refuses(&format!("{sample} --out a.png --guidance -3"), &["--guidance", "hidden labels"]);
    let threads = place.command().env("RAYON_NUM_THREADS", "100000").args(["selftest"]).output().expect("a process");
    assert_refused(&threads, "100000 threads", &["RAYON_NUM_THREADS", "1024"]);

    let output = place.run(&format!("{sample} --out a.png --sampler ddim --eta 0.5 --json"));
    assert_passed(&output, "--json");
    let settings: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let expected = [("model", "run".into()), ("sampler", "ddim".into()), ("eta", 0.5.into()), ("guidance", 1.0.into())];
    expected.iter().for_each(|(name, value): &(_, Value)| assert_eq!(settings[name], *value, "{name}"));
    assert!(settings["variance"].is_null() && settings["class"].is_null());
}

#[test]
fn classes_of_a_run_are_asked_for_by_name() {
    let place = place();
    pictures(&place, &["p/moon/1.png", "p/moon/2.png", "p/sun/1.png", "p/sun/2.png"]);
    let config = CONFIG.replace("100000", "2") + "label_dropout = 0.1\n[model]\nsample_size = 16\n";
    place.write("my.toml", config.as_bytes());
    messages(&place, "train --data p --config my.toml --out new");
    let sha256 = |class: &str| {
        let output = place.run(&format!("sample --model new --count 1 --steps 1 --out a.png --json --class {class}"));
        assert_passed(&output, class);
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")["class"].clone()
    };
    assert_eq!((sha256("sun"), sha256("1"), sha256("moon")), (1.into(), 1.into(), 0.into()));
    place.refuses("sample --model new --count 1 --steps 1 --out a.png --class star", &["star", "moon, sun"]);
}

#[test]
fn a_step_is_explained_its_chain_traced_and_two_traces_compared() {
    let place = place();
    let explain = "explain --model run --steps 5 --sampler ddim --eta 0.5";
    let output = place.run(&format!("{explain} --t 1000 --pixel 3,4"));
    assert_passed(&output, "explain");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.starts_with("x_1000 -> x_800, step 1 of 5: ddim"), "{text}");
    assert!(text.contains("sample/ddim.rs: ddim") && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let output = place.run(&format!("{explain} --t 1000 --t-prev 0 --json"));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["step"]["to"]["t"], &json["settings"]["sampler"]), (&0.0.into(), &"ddim".into()));

    for (flags, words) in [
        ("--t 0", &["--t", "1 to 1000"][..]),
        ("--t 1001", &["--t", "1 to 1000"]),
        ("--t 999", &["--t", "800 or 1000"]),
        ("--t 800 --t-prev 800", &["--t-prev", "0 to 799"]),
        ("--t 800 --pixel 16,0", &["--pixel", "15,15"]),
        ("--t 800 --pixel 16", &["--pixel", "14,14"]),
        ("--t 800 --channel 1", &["--channel", "0 to 0"]),
        ("--trace a.txt", &["--trace", ".safetensors"]),
        ("", &["--t <T>"]),
    ] {
        place.refuses(&format!("{explain} {flags}"), words);
    }

    for (flags, file) in [("", "a.safetensors"), ("", "a.json"), ("--seed 7", "b.safetensors")] {
        assert_passed(&place.run(&format!("{explain} {flags} --trace {file}")), file);
    }
    assert_passed(&place.run("golden check a.safetensors a.json"), "one chain in two formats");
    let other = place.run("golden check a.json b.safetensors");
    let said = String::from_utf8_lossy(&other.stdout).into_owned();
    assert_eq!((other.status.code(), said.starts_with("step 1, t = 1000: x_t, image 0")), (Some(1), true), "{said}");
    place.refuses("golden check a.json run/metrics.jsonl", &["run/metrics.jsonl", "trace"]);
}

#[test]
fn model_in_the_program_draws_in_any_folder_and_training_says_where_digits_are_to_be_had() {
    let place = Place::new();
    let drawn = |line: &str| {
        let output = place.run(&format!("sample --count 2 --out a.png --json {line}"));
        assert_passed(&output, line);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
    };
    let built_in = drawn("");
    assert_eq!((&built_in["model"], &built_in["sampler"]), (&"built-in".into(), &"dpm-multistep".into()));
    assert_eq!((&built_in["steps"], &built_in["guidance"]), (&20.into(), &2.1.into()));
    let tree = concat!(env!("CARGO_MANIFEST_DIR"), "/data/models/digits");
    assert_eq!(drawn(&format!("--model {tree}"))["sha256"], built_in["sha256"]);
    // A weight of one's own is meant everywhere.
    assert_ne!(drawn("--guidance 2.1")["sha256"], built_in["sha256"]);
    assert_eq!(drawn("--guidance 2.1 --guidance-interval 0.9,20")["sha256"], built_in["sha256"]);
    place.refuses("sample --guidance-interval 3,1 --out b.png", &["--guidance-interval", "a larger one"]);
    place.refuses("sample --guidance-interval 3 --out b.png", &["--guidance-interval", "two numbers"]);
    place.refuses(
        "train --out new",
        &["data/mnist", "four files of MNIST", "curl -fo data/mnist/", "the word `shapes`"],
    );
}
