//! `ancestral bench`: how fast this machine trains and predicts, against its own peak.

use std::time::Instant;

use clap::ValueEnum;
use serde_json::json;

use super::{Outcome, print};
use crate::layers::gradient_check::normal;
use crate::layers::stopwatch;
use crate::layers::{Prepared, Tensors};
use crate::models::UNet;
use crate::models::unet::{Conditions, Time};
use crate::numerics::{path, peak, shards};
use crate::report::breakdown::Breakdown;
use crate::train::adamw::Moments;
use crate::train::clip::{clip_factor, global_norm};
use crate::train::gradient::{Batch, SHARD, loss_and_gradient};
use crate::train::{Config, Preset};
use crate::{Error, Result};

/// The flags of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The last line of output is one JSON object: median_s, min_s (seconds a step), gflops, peak_fraction (of the FMA peak
measured in the same minute, on as many threads), peak_mb (of the whole process).

Examples:
  ancestral bench --preset mnist --batch-size 64 --mode train --threads 2
  ancestral bench --preset cifar10 --batch-size 4 --mode forward
  ancestral bench --batch-size 1 --mode forward --layers       # where the time of a sampling step goes")]
pub struct Args {
    /// Whose network
    #[arg(long, value_enum, default_value = "mnist")]
    preset: Preset,
    /// Images in a step [default: the preset's]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: Option<u32>,
    /// A training step (forward, MSE, backward, clip, Adam) or one prediction
    #[arg(long, value_enum, default_value = "train")]
    mode: Mode,
    /// Seconds to measure for, after one step to warm up
    #[arg(long, value_name = "X", default_value_t = 10.0)]
    seconds: f64,
    /// Also time each layer on its own, and print where the time goes
    #[arg(long, conflicts_with = "json")]
    layers: bool,
    /// Print nothing but the JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Train,
    Forward,
}

/// Measures steps and prints them.
pub fn run(args: &Args) -> Result<Outcome> {
    if !args.seconds.is_finite() || args.seconds < 0.0 {
        return Err(Error::value("--seconds", "a number of seconds, 0 or more", args.seconds));
    }
    let config = args.preset.config();
    let unet = UNet::new(config.model.clone())?;
    let batch_size = args.batch_size.map_or(config.batch_size, |b| b as usize);
    let (h, w) = config.model.image_size().expect("presets have sizes");
    let images = normal((batch_size, h, w, config.model.in_channels), 1).mapv(|x| x as f32);
    let labels = config.model.num_class_embeds.map(|_| vec![0; batch_size]);
    let batch = Batch { target: images.clone(), x_t: images, t: vec![500.0; batch_size], labels };
    let flop = 2 * unet.multiply_adds((h, w)) * batch_size as u64 * if args.mode == Mode::Train { 3 } else { 1 };

    let w: Tensors<f32> = unet.layout.initial(config.seed);
    let (still, prepared);
    let mut step: Box<dyn FnMut() -> Result<()>> = match args.mode {
        Mode::Train => Box::new(training_step(&unet, w, &config, &batch)),
        Mode::Forward => {
            still = w;
            prepared = Prepared::new(&still);
            Box::new(|| prediction(&unet, &prepared, &batch))
        }
    };
    step()?;
    let mut seconds = Vec::new();
    let start = Instant::now();
    while seconds.len() < 3 || start.elapsed().as_secs_f64() < args.seconds {
        let start = Instant::now();
        step()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let (median, min) = (seconds[seconds.len() / 2], seconds[0]);
    let peak_mb = peak_megabytes();
    let (gflops, peak) = (flop as f64 / median / 1e9, peak::gflops());
    if !args.json {
        let mode = if args.mode == Mode::Train { "training step" } else { "prediction" };
        let (threads, path, gflop) = (rayon::current_num_threads(), path::current().name(), flop as f64 / 1e9);
        print(format!("{mode} of {:?}, batch {batch_size}, {threads} threads, path {path}", args.preset))?;
        print(format!("{gflop:.1} GFLOP in {median:.4} s (median of {}), {min:.4} s (fastest)", seconds.len()))?;
        print(format!("{gflops:.1} GFLOP/s of a measured peak of {peak:.1}: {:.0} %", 100.0 * gflops / peak))?;
    }
    if args.layers {
        let steps = seconds.len().min(10);
        let start = Instant::now();
        let (done, times) = stopwatch::record(|| (0..steps).try_for_each(|_| step()));
        done?;
        // Of a lone shard the parts are timed by the thread that deals them out, so their times are those of all threads.
        let threads = if batch_size <= SHARD { 1.0 } else { rayon::current_num_threads() as f64 };
        let thread_seconds = start.elapsed().as_secs_f64() * threads;
        let breakdown = Breakdown { times: &times, steps, thread_seconds, peak_of_a_thread: peak / threads };
        print(breakdown.by_layer(&unet.layout))?;
        print(breakdown.by_part())?;
    }
    print(json!({
        "preset": format!("{:?}", args.preset).to_lowercase(), "mode": format!("{:?}", args.mode).to_lowercase(),
        "batch_size": batch_size, "threads": rayon::current_num_threads(), "path": path::current().name(),
        "steps": seconds.len(), "median_s": median, "min_s": min, "gflop": flop as f64 / 1e9, "gflops": gflops,
        "peak_gflops": peak, "peak_fraction": gflops / peak, "peak_mb": peak_mb,
    }))?;
    Ok(Outcome::Passed)
}

/// Forward, MSE, backward, clip, Adam.
fn training_step(unet: &UNet, mut w: Tensors<f32>, config: &Config, batch: &Batch<f32>) -> impl FnMut() -> Result<()> {
    let mut moments = Moments::zeros(w.0.len());
    let mut n = 0;
    move || {
        n += 1;
        let (_, grads) = loss_and_gradient(unet, &w, batch, None)?;
        let clip = clip_factor(global_norm(&unet.layout, &grads), 1.0);
        config.optimizer.adamw().step(n, config.optimizer.lr, clip, &mut w, &grads, &mut moments);
        grads.recycle();
        Ok(())
    }
}

/// The network's output for the batch, in shards as sampling has them.
fn prediction(unet: &UNet, w: &Prepared<f32>, batch: &Batch<f32>) -> Result<()> {
    let parts = shards::ranges(batch.t.len(), SHARD);
    let outputs = shards::map(parts.len(), |i| {
        let x = batch.x_t.slice_axis(ndarray::Axis(0), parts[i].clone().into()).to_owned();
        let labels = batch.labels.as_ref().map(|labels| &labels[parts[i].clone()]);
        unet.predict(w, x, Conditions { time: Time::Steps(&batch.t[parts[i].clone()]), labels })
    });
    outputs.into_iter().try_for_each(|output| output.map(|_| ()))
}

/// The most memory that this process has held, in MB of 10⁶ bytes, where the system says (Linux).
fn peak_megabytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}
