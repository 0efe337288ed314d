//! Training that is stopped at any moment, by a signal, another run or a full disk: the checkpoint is whole, the step
//! never goes back, the result is the same.

#![cfg(target_os = "linux")] // /dev/full, and how a process says what signals it ignores

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
    start_by(place.command(), place)
}

fn start_by(mut command: Command, place: &Place) -> Child {
    let line = if place.path("run/checkpoint.safetensors").exists() {
        "train --resume --out run"
    } else {
        "train --preset tiny --config c.toml --out run"
    };
    command.args(line.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("a process")
}

fn send(signal: &str, child: &Child) {
    let _ = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).output();
}

/// Waits for the end; returns the status, if it was not a signal, and what was said.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("its end");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What happens to a run.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// What cannot be caught.
    Kill,
    /// What Slurm and docker send.
    Term,
    /// A closed terminal; under a parent that ignores it, such as nohup, the run goes on, and is terminated.
    HangUp,
    /// Another run in the same folder.
    Second,
    /// A disk on which the next checkpoint, or the next model, has no room.
    FullDisk(&'static str),
}

const FATES: [Fate; 6] = [
    Fate::Kill,
    Fate::Second,
    Fate::Term,
    Fate::FullDisk("run/.checkpoint.safetensors.PID.partial"),
    Fate::HangUp,
    Fate::FullDisk("run/model/unet/.diffusion_pytorch_model.safetensors.PID.partial"),
];

impl Fate {
    /// Returns whether something was refused: a second run, or a file.
    fn befalls(self, child: Child, place: &Place) -> bool {
        match self {
            Fate::Kill => send("KILL", &child),
            Fate::Term => send("TERM", &child),
            Fate::HangUp => {
                send("HUP", &child);
                sleep(Duration::from_millis(20));
                send("TERM", &child); // a second signal ends the process at once, which is as good
            }
            Fate::Second => return second(child, place),
            Fate::FullDisk(file) => return full_disk(child, place, file),
        }
        let (status, message) = end(child);
        assert!(matches!(status, None | Some(0 | 130)), "{self:?}: {status:?}, {message}");
        false
    }
}

/// A second run is refused, whichever of the two is first in the folder; the first ends whole.
fn second(first: Child, place: &Place) -> bool {
    let second = start(place);
    sleep(Duration::from_millis(60));
    send("TERM", &first);
    send("TERM", &second);
    let (mut trained, mut refusals) = (0, 0);
    for (status, message) in [end(first), end(second)] {
        let refused = ["another run is training here", "a run is here already"].iter().any(|why| message.contains(why));
        assert!(matches!((status, refused), (None | Some(0), false) | (Some(2), true)), "{status:?}, {message}");
        trained += usize::from(message.contains("stopped after step"));
        refusals += usize::from(refused);
    }
    // Where the first had come to its end before, the second may have gone on.
    assert!(trained < 2 || step(place) == Some(300), "two runs trained in one folder");
    refusals > 0
}

/// Whatever is next written to `file`, while it has another name, finds no space; what was there stays.
fn full_disk(child: Child, place: &Place, file: &str) -> bool {
    let beside = place.path(&file.replace("PID", &child.id().to_string()));
    let start = Instant::now();
    // Between two writes there is no such file, and the link can be made.
    while std::os::unix::fs::symlink("/dev/full", &beside).is_err() && start.elapsed() < Duration::from_millis(200) {}
    sleep(Duration::from_millis(60));
    send("TERM", &child);
    let (status, message) = end(child);
    let _ = fs::remove_file(&beside);
    let refused = message.contains("free some space");
    assert!(matches!((status, refused), (None | Some(0), false) | (Some(2), true)), "{status:?}, {message}");
    if refused {
        let said = match step(place) {
            Some(step) => format!("the checkpoint of step {step} is whole: ancestral train --resume --out run"),
            None => "nothing was saved yet".into(),
        };
        assert!(message.contains(&said), "no `{said}` in {message}");
    }
    refused
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
fn run_befallen_by_sixty_fates_loses_no_step_and_ends_with_the_same_bits() {
    let (whole, began) = (place(), Instant::now());
    let uninterrupted = start(&whole).wait_with_output().expect("its end");
    assert_passed(&uninterrupted, "the uninterrupted run");
    // What a process takes to begin, and some steps on a machine as busy as this one is.
    let longest = Duration::from_millis(150) + began.elapsed() / 20;

    let place = place();
    let (mut last, mut moments, mut refusals) = (None, std::collections::BTreeSet::new(), 0);
    for i in 0..60 {
        // Spread by a step that shares no factor with their number.
        let delay = longest * (i * 29 % 53) / 53;
        let fate = FATES[i as usize % FATES.len()];
        let child = start(&place);
        sleep(delay);
        refusals += usize::from(fate.befalls(child, &place));
        let now = step(&place);
        assert!(now >= last, "{fate:?} after {delay:?}: from step {last:?} to {now:?}");
        last = now;
        moments.insert(now);
    }
    assert!(moments.len() >= 8, "too few steps at which it was stopped to prove anything: {moments:?}");
    assert!(refusals >= 8, "of 30 second runs and full disks, {refusals} were refused");

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

#[test]
fn a_hang_up_that_the_parent_ignores_does_not_stop_a_run() {
    let place = place();
    place.write("c.toml", CONFIG.replace("checkpoint_every = 1\n", "checkpoint_every = 300\n").as_bytes());
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_ancestral")]);
    command.current_dir(place.path("")).env("RAYON_NUM_THREADS", "2").stdin(Stdio::null());
    let child = start_by(command, &place);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !place.path("run/train.json").exists() {
        assert!(Instant::now() < deadline, "the run does not start");
        sleep(Duration::from_millis(2));
    }
    sleep(Duration::from_millis(50));
    send("HUP", &child);
    let (status, message) = end(child);
    assert!(status == Some(0) && !message.contains("stopped"), "{status:?}, {message}");
    assert_eq!(step(&place), Some(300));
}
