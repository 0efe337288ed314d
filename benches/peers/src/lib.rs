//! What the programs in `src/bin` share: the command line, the network as a list of blocks, the timing and the check.
//!
//! Each program has the same U-Net in another framework and times it as `benches/peer_pytorch.py` does: two steps to
//! warm up, then steps for the seconds asked for, at least three. The last line of output is one JSON object with the
//! fields of `ancestral bench`. Memory is that of the whole process.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::builder::RangedU64ValueParser;
use clap::{Parser, ValueEnum};
use safetensors::SafeTensors;
use serde_json::json;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;
pub type Step = Box<dyn FnMut() -> Result<()>>;

/// Parameters of diffusers' `UNet2DModel` with the values of the preset `mnist`.
pub const PARAMETERS: usize = 1_112_801;
pub const LEARNING_RATE: f64 = 1e-3;
pub const IMAGE_SIZE: usize = 28;
pub const GROUPS: usize = 8;
pub const NORM_EPS: f64 = 1e-5;
/// Channels of the first convolution, which are also those of the time embedding's sines and cosines.
pub const FIRST: usize = 32;
pub const TIME: usize = 4 * FIRST;

/// One forward pass of one image, as `peer_pytorch.py` counts it with hooks: two for each multiply-add of convolutions,
/// linear layers and attention's two products.
const FLOP_PER_IMAGE: f64 = 380_079_104.0;
/// Greatest difference from diffusers' output that `--check` accepts.
const TOLERANCE: f32 = 1e-4;

/// What follows the residual blocks of a level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Resample {
    None,
    Down,
    Up,
}

/// The layers of one of diffusers' blocks.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The channels in and out of each residual block; on the way up those in count what is concatenated.
    pub resnets: &'static [(usize, usize)],
    /// How many of the residual blocks, from the first, are followed by attention.
    pub attentions: usize,
    pub resample: Resample,
}

/// `DownBlock2D`, `DownBlock2D`, `AttnDownBlock2D`.
pub const DOWN: [Plan; 3] = [
    Plan { resnets: &[(32, 32)], attentions: 0, resample: Resample::Down },
    Plan { resnets: &[(32, 64)], attentions: 0, resample: Resample::Down },
    Plan { resnets: &[(64, 64)], attentions: 1, resample: Resample::None },
];
/// `UNetMidBlock2D`.
pub const MIDDLE: Plan = Plan { resnets: &[(64, 64), (64, 64)], attentions: 1, resample: Resample::None };
/// `AttnUpBlock2D`, `UpBlock2D`, `UpBlock2D`.
pub const UP: [Plan; 3] = [
    Plan { resnets: &[(128, 64), (128, 64)], attentions: 2, resample: Resample::Up },
    Plan { resnets: &[(128, 64), (96, 64)], attentions: 0, resample: Resample::Up },
    Plan { resnets: &[(96, 32), (64, 32)], attentions: 0, resample: Resample::None },
];

/// What a program does with its framework.
pub trait Peer {
    /// The framework, with its backend where there are several.
    const FRAMEWORK: &'static str;
    /// The package whose version is reported.
    const PACKAGE: &'static str;

    /// Forward, MSE, backward, clipping to norm 1, Adam.
    fn training_step(batch_size: usize) -> Result<Step>;

    /// Forward without gradients.
    fn forward_pass(batch_size: usize) -> Result<Step>;

    /// The output for images (n, 1, 28, 28) at times (n) of the network with the weights of a safetensors file.
    fn output(weights: &Path, x_t: Vec<f32>, t: Vec<f32>) -> Result<Vec<f32>>;
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    Train,
    Forward,
}

/// Times the network of the preset `mnist` in another framework; the last line of output is one JSON object.
#[derive(Debug, Parser)]
struct Args {
    /// What a step is.
    #[arg(long, value_enum, default_value = "train")]
    mode: Mode,
    /// Images in a step, 1 to 4096.
    #[arg(long, default_value = "64", value_parser = RangedU64ValueParser::<usize>::new().range(1..=4096))]
    batch_size: usize,
    /// 1 to 1024; default: all cores.
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: Option<usize>,
    /// To measure for, after the warm-up.
    #[arg(long, default_value = "10", value_parser = duration)]
    seconds: f64,
    /// Instead of timing, compare with the output that a folder has: unet/diffusion_pytorch_model.safetensors, and
    /// check.safetensors with x_t (n, 1, 28, 28), t (n) and output (n, 1, 28, 28), all f32.
    #[arg(long, value_name = "FOLDER")]
    check: Option<PathBuf>,
}

fn duration(text: &str) -> std::result::Result<f64, String> {
    let seconds = text.parse().map_err(|_| "not a number of seconds")?;
    if (0.0..1e6).contains(&seconds) { Ok(seconds) } else { Err("not in 0..1000000".into()) }
}

/// A program's `main`: reads the command line, then times or checks.
///
/// # Errors
/// What the framework reports, files of `--check` that are not as they should be, a difference that is too large.
pub fn run<P: Peer>() -> Result<()> {
    let args = Args::parse();
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    // SAFETY: this is still the only thread. Both frameworks take their threads from rayon, which reads this variable.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
    let (framework, version) = (P::FRAMEWORK, version(P::PACKAGE));

    if let Some(folder) = args.check {
        let difference = difference::<P>(&folder)?;
        println!("{}", json!({ "framework": framework, "version": version, "max_abs_difference": difference }));
        let close = difference < TOLERANCE;
        return if close { Ok(()) } else { Err(format!("not below {TOLERANCE:e}").into()) };
    }

    let (mode, passes, mut step) = match args.mode {
        Mode::Train => ("train", 3.0, P::training_step(args.batch_size)?),
        Mode::Forward => ("forward", 1.0, P::forward_pass(args.batch_size)?),
    };
    for _ in 0..2 {
        step()?;
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 3 || start.elapsed().as_secs_f64() < args.seconds {
        let before = Instant::now();
        step()?;
        times.push(before.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    let median = if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2.0 };
    let gflop = FLOP_PER_IMAGE * passes * args.batch_size as f64 / 1e9;
    let result = json!({
        "preset": "mnist", "mode": mode, "batch_size": args.batch_size, "threads": threads, "steps": times.len(),
        "median_s": median, "min_s": times[0], "gflop": gflop, "gflops": gflop / median,
        "peak_mb": peak_megabytes(), "framework": framework, "version": version,
    });
    println!("{result}");
    Ok(())
}

/// The greatest difference, NaN if there is one, between a network's output and that of the folder.
fn difference<P: Peer>(folder: &Path) -> Result<f32> {
    let path = folder.join("check.safetensors");
    let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    let read = |name: &str, sizes: &[usize]| -> Result<Vec<f32>> {
        let tensor = file.tensor(name)?;
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        if dtype != safetensors::Dtype::F32 || shape.get(1..) != Some(sizes) {
            return Err(format!("{name}: expected f32 of n by {sizes:?}, found {dtype} {shape:?}").into());
        }
        Ok(tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    };
    let image = [1, IMAGE_SIZE, IMAGE_SIZE];
    let (x_t, t, expected) = (read("x_t", &image)?, read("t", &[])?, read("output", &image)?);
    if t.is_empty() || x_t.len() != t.len() * IMAGE_SIZE * IMAGE_SIZE || expected.len() != x_t.len() {
        return Err(format!("{}: expected as many images as times, at least one", path.display()).into());
    }
    let weights = folder.join("unet/diffusion_pytorch_model.safetensors");
    let found = P::output(&weights, x_t, t).map_err(|e| format!("{}: {e}", weights.display()))?;
    let distances = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    Ok(distances.fold(0.0, |most: f32, d| if d.is_nan() { d } else { most.max(d) }))
}

/// The most memory that this process has held, in MB of 10⁶ bytes, where Linux says it.
fn peak_megabytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// The version of a package that this crate was built with.
fn version(package: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let after = lock.split_once(&format!("name = \"{package}\"\nversion = \"")).map_or("unknown", |(_, rest)| rest);
    after.split('"').next().unwrap_or(after)
}
