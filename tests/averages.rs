//! `ancestral ema`: averages of any width after a run, to the same bits however the run was stopped.

use std::path::Path;
use std::process::Command;

fn ancestral(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ancestral")).args(arguments).output().expect("the command runs");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}

#[test]
fn average_of_any_width_is_a_model_and_has_the_same_bits_after_a_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("c.toml");
    std::fs::write(&config, "steps = 8\nbatch_size = 2\npost_hoc_every = 3\nevaluation_images = 1\nsample_count = 1\n")
        .expect("a file");
    let train = |out: &Path, more: &[&str]| {
        let first = ["train", "--preset", "tiny", "--out", text(out)];
        let (ended, said) = ancestral(&[&first[..], more].concat());
        assert!(ended, "{said}");
    };
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    train(&whole, &["--config", text(&config)]);
    train(&stopped, &["--config", text(&config), "--stop-at", "4"]);
    let (ended, said) = ancestral(&["train", "--resume", "--out", text(&stopped)]);
    assert!(ended, "{said}");
    let weights = |run: &Path, width: &str| {
        let out = run.join(format!("at-{width}"));
        let (ended, said) = ancestral(&["ema", "--model", text(run), "--width", width, "--out", text(&out)]);
        assert!(ended && said.contains("from 6 snapshots"), "{said}");
        std::fs::read(out.join("unet/diffusion_pytorch_model.safetensors")).expect("a model")
    };
    let (narrow, wide) = (weights(&whole, "0.05"), weights(&whole, "0.2"));
    assert_eq!(weights(&stopped, "0.05"), narrow);
    assert_ne!(narrow, wide);
    // What was kept comes out again, but for the rounding of shares that are 1 and 0.
    let kept = whole.join("averages/step-000008-0.05.safetensors");
    let numbers = |bytes: &[u8]| -> Vec<f32> {
        let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        bytes[8 + header..].as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    };
    let (found, kept) = (numbers(&narrow), numbers(&std::fs::read(kept).expect("a snapshot")));
    assert!(found.iter().zip(&kept).all(|(a, b)| (a - b).abs() < 1e-6));

    let refused = |more: &[&str]| {
        let (ended, said) = ancestral(&[&["ema", "--model", text(&whole)], more].concat());
        assert!(!ended && !said.contains("panicked"), "{said}");
        said
    };
    assert!(refused(&["--width", "0.4"]).contains("--width: expected a number above 0, at most 0.288"));
    assert!(refused(&["--width", "0.1", "--step", "2"]).contains("--step"));
    let (_, said) = ancestral(&["ema", "--model", "data/models/digits", "--width", "0.1"]);
    assert!(said.contains("expected snapshots of averages, found none"), "{said}");
}
