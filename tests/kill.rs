//! Training that is killed at any moment: the checkpoint is whole, the step never goes back, the result is the same.

#![cfg(unix)]

mod run;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ancestral::checkpoint::resume;
use run::{Place, assert_passed, leftovers};

const CONFIG: &str = "steps = 300\nbatch_size = 1\ncheckpoint_every = 1\nsample_count = 1\nsample_steps = 1\n\
    evaluation_images = 1\n";

/// A folder without a run, with the config.
fn place() -> Place {
    let place = Place::new();
    fs::remove_dir_all(place.path("run")).expect("a folder");
    place.write("c.toml", CONFIG.as_bytes());
    place
}

/// Starts the run, or goes on with it.
fn start(place: &Place) -> Child {
    let line = if place.path("run/checkpoint.safetensors").exists() {
        "train --resume --out run"
    } else {
        "train --preset tiny --config c.toml --out run"
    };
    place
        .command()
        .args(line.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process")
}

fn step(place: &Place) -> Option<u64> {
    let path = place.path("run/checkpoint.safetensors");
    path.exists().then(|| resume::read(&path).expect("a whole checkpoint").1.step)
}

fn sha256(stdout: &[u8]) -> String {
    let text = String::from_utf8_lossy(stdout);
    text.lines().find(|line| line.starts_with("SHA-256")).expect("the digest of the weights").to_string()
}

#[test]
fn run_killed_fifty_times_loses_no_step_and_ends_with_the_same_bits() {
    let whole = place();
    let uninterrupted = start(&whole).wait_with_output().expect("its end");
    assert_passed(&uninterrupted, "the uninterrupted run");

    let place = place();
    let (mut last, mut moments) = (None, std::collections::BTreeSet::new());
    for kill in 0..50u64 {
        // 0 to 208 ms, spread by a step that shares no factor with their number.
        let delay = Duration::from_millis(kill * 29 % 53 * 4);
        let child = start(&place);
        sleep(delay);
        // By turns what cannot be caught, and what Slurm and docker send.
        let signal = if kill % 2 == 0 { "KILL" } else { "TERM" };
        let _ = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).output();
        let output = child.wait_with_output().expect("its end");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), None | Some(0)), "after {delay:?}: {message}");
        let now = step(&place);
        assert!(now >= last, "kill {kill}: from step {last:?} to {now:?}");
        last = now;
        moments.insert(now);
    }
    assert!(moments.len() >= 8, "too few steps at which it was killed to prove anything: {moments:?}");

    place.write("run/.checkpoint.safetensors.4000000.partial", b"as a killed process leaves it");
    let resumed = start(&place).wait_with_output().expect("its end");
    assert_passed(&resumed, "the run resumed at last");
    assert_eq!(sha256(&resumed.stdout), sha256(&uninterrupted.stdout));
    assert_eq!(step(&place), Some(300));
    assert!(place.read("run/metrics.jsonl") == whole.read("run/metrics.jsonl"), "a line for each step");
    assert_eq!(leftovers(&place.path("run")), [""; 0].map(std::path::PathBuf::from));
}

#[test]
fn run_interrupted_by_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on() {
    let place = place();
    let child = start(&place);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !place.path("run/checkpoint.safetensors").exists() {
        assert!(Instant::now() < deadline, "no checkpoint after 30 s");
        sleep(Duration::from_millis(2));
    }
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
    let output = child.wait_with_output().expect("its end");
    assert_passed(&output, "Ctrl-C");
    let step = step(&place).expect("a checkpoint");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(step < 300, "it ran to its end: {message}");
    assert!(message.contains(&format!("stopped after step {step}")), "{message}");
    assert!(message.contains("ancestral train --resume --out run"), "{message}");
    let metrics = String::from_utf8(place.read("run/metrics.jsonl")).expect("text");
    assert_eq!(metrics.lines().count() as u64, step);
    assert!(leftovers(&place.path("run")).is_empty());
}
