//! One seed, one result: whatever the threads, the batch, the build, and however often a run was stopped (contract N1).

use std::path::Path;
use std::process::Command;

use ancestral::checkpoint::{resume, weights};
use ancestral::data::{self, Dataset, Shape, Split};
use ancestral::sample::{Algorithm, Sampler, SamplerOptions, Settings, Spacing, draw, spread};
use ancestral::train::{Config, Preset, State, Trainer};
use ndarray::{Array4, Axis, concatenate};

/// SHA-256 of the averaged weights after the 50 steps of `tiny`: on every machine, from a debug or a release build.
const TINY: &str = "61f4720d479aa7d9d624faf12f6ddacaed44e2b4a8432055b65a9b9e893e7da9";

fn trainer(state: Option<State>) -> Trainer {
    let config = Preset::Tiny.config();
    let shape = Shape { height: 16, width: 16, channels: 1 };
    let data = data::load(Path::new("shapes"), Split::Train, shape).expect("shapes need no file");
    Trainer::new(config, data, state).expect("a preset holds")
}

fn train(trainer: &mut Trainer, until: u64) {
    while trainer.state().step < until {
        trainer.step().expect("a finite step");
    }
}

fn hash(trainer: &Trainer) -> String {
    ancestral::digest::sha256(&weights::to_bytes(trainer.network().layout(), trainer.state().best()))
}

fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads").install(work)
}

#[test]
fn weights_of_tiny_have_the_published_hash_with_any_number_of_threads() {
    for threads in [1, 2, 3, 7, 16] {
        let found = with_threads(threads, || {
            let mut trainer = trainer(None);
            train(&mut trainer, 50);
            hash(&trainer)
        });
        assert_eq!(found, TINY, "{threads} threads");
    }
}

#[test]
fn weights_of_a_run_stopped_and_resumed_are_those_of_an_uninterrupted_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for stop in [1, 17, 49] {
        let path = folder.path().join(format!("{stop}.safetensors"));
        let mut first = trainer(None);
        train(&mut first, stop);
        resume::write(&path, first.config(), first.state()).expect("a checkpoint");
        let (config, state) = resume::read(&path).expect("our own checkpoint");
        assert_eq!((&config, state.step), (first.config(), stop));
        let mut second = trainer(Some(state));
        train(&mut second, 50);
        assert_eq!(hash(&second), TINY, "stopped after step {stop}");
    }
}

#[test]
fn weights_of_a_run_resumed_in_the_middle_of_any_epoch_are_those_of_an_uninterrupted_run() {
    let config = || Config { batch_size: 9, steps: 12, ..Preset::Tiny.config() };
    let shape = Shape { height: 16, width: 16, channels: 1 };
    let images = || {
        Dataset::new("31 images", shape, (0..31 * 256).map(|i| (i * i / 7 % 251) as u8).collect()).expect("31 images")
    };
    let run = |state: Option<State>, until: u64| {
        let mut trainer = Trainer::new(config(), images(), state).expect("a config that holds");
        train(&mut trainer, until);
        trainer
    };
    let whole = hash(&run(None, 12));
    for stop in [2, 3, 4, 7, 11] {
        let first = run(None, stop); // after 18, 27, 36 ... of 31 images an epoch
        let bytes = resume::to_bytes(first.config(), first.state()).expect("finite weights");
        let (_, state) = resume::from_bytes(&bytes, Path::new("checkpoint")).expect("our own checkpoint");
        assert_eq!(hash(&run(Some(state), 12)), whole, "stopped after step {stop}");
    }
}

#[test]
fn picture_17_of_every_sampler_is_the_same_alone_and_among_others() {
    let mut trainer = trainer(None);
    train(&mut trainer, 5);
    let model = trainer.pipeline().expect("a model");
    for &sampler in Sampler::ALL.iter().filter(|sampler| **sampler != Sampler::DdimInverse) {
        let stochastic =
            SamplerOptions { eta: 0.7, algorithm: Algorithm::SdeDpmSolverPlusPlus, ..SamplerOptions::default() };
        let chain = spread(&model.scheduler().schedule, (5, Spacing::Trailing, 0), sampler, &stochastic).expect("five");
        let settings = Settings { sampler, options: stochastic, chain, ..Settings::new(&model).expect("settings") };
        let of = |indices: std::ops::Range<u64>, threads| {
            with_threads(threads, || draw(&model, &settings, indices.clone(), |_| Ok(())).expect("pictures"))
        };
        let (alone, among) = (of(17..18, 1), of(11..20, 2));
        assert_eq!(alone.index_axis(Axis(0), 0), among.index_axis(Axis(0), 6), "{sampler:?}");
        assert_ne!(among.index_axis(Axis(0), 5), among.index_axis(Axis(0), 6), "{sampler:?}");
    }
}

#[test]
fn pictures_are_the_same_in_batches_of_1_3_and_64_and_from_any_index() {
    let mut trainer = trainer(None);
    train(&mut trainer, 5);
    let model = trainer.pipeline().expect("a model");
    let options = SamplerOptions { eta: 0.7, ..SamplerOptions::default() };
    let four = (4, Spacing::Leading, 0);
    let settings = Settings {
        sampler: Sampler::Ddim,
        options,
        chain: spread(&model.scheduler().schedule, four, Sampler::Ddim, &options).expect("four of a thousand"),
        ..Settings::new(&model).expect("settings")
    };
    let pictures = |batch: u64, threads: usize| {
        with_threads(threads, || {
            let parts: Vec<Array4<f32>> = (0..64)
                .step_by(batch as usize)
                .map(|start| draw(&model, &settings, start..(start + batch).min(64), |_| Ok(())).expect("pictures"))
                .collect();
            let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
            concatenate(Axis(0), &views).expect("equal shapes")
        })
    };
    let all = pictures(64, 2);
    assert_eq!(pictures(1, 3), all);
    assert_eq!(pictures(3, 1), all);
    let seventeenth = draw(&model, &settings, 17..18, |_| Ok(())).expect("a picture");
    assert_eq!(seventeenth.index_axis(Axis(0), 0), all.index_axis(Axis(0), 17));
}

/// The last word of the command's last line but one: the hash that `train` prints.
fn printed_hash(portable: bool, out: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ancestral"));
    command.args(["train", "--preset", "tiny", "--steps", "3", "--threads", "2", "--out"]).arg(out);
    if portable {
        command.env("ANCESTRAL_PATH", "portable");
    }
    let output = command.output().expect("the command runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find(|line| line.starts_with("SHA-256")).expect("a hash");
    line.split_whitespace().nth(1).expect("a hash").to_string()
}

#[test]
fn weights_are_the_same_without_the_processors_fast_instructions() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (fast, portable) = (folder.path().join("fast"), folder.path().join("portable"));
    assert_eq!(printed_hash(true, &portable), printed_hash(false, &fast));
    let read = |run: &Path| std::fs::read(run.join("model/unet/diffusion_pytorch_model.safetensors")).expect("weights");
    assert_eq!(read(&fast), read(&portable));
}
