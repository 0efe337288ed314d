//! `ancestral bench`: how fast this machine trains and predicts, against its own peak.

mod messages;
mod workload;

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use self::workload::{Mode, with_step};
use super::{Exit, choices, print};
use crate::cluster::Ranks;
use crate::layers::stopwatch::{self, Times};
use crate::models::Network;
use crate::numerics::{instruction_set, peak};
use crate::report::breakdown::Breakdown;
use crate::train::Preset;
use crate::train::gradient::MICROBATCH;
use crate::{Error, Result};

/// The flags of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The last line of output is one JSON object: median_s, min_s (seconds per step), gflops, peak_fraction (of \
the highest FMA peak measured between the steps, on as many threads), usual_peak_fraction (of the \
median of those peaks: what the machine gave in the same seconds, neighbours and clock included), \
peak_mb (of the whole process); of several ranks also waiting (the share of the time in which the first \
waited for the sum of all). With --layers --json it also has layers, a list: layer, part, thread_ms \
(per step), share, gflops (null where there is no product).\n\nExamples:\n  ancestral bench --preset \
mnist --batch-size 64 --mode train --threads 2\n  ancestral bench --preset cifar10 --batch-size 4 \
--mode forward\n  ancestral bench --batch-size 1 --mode forward --layers\n      where the time of \
a sampling step goes\n  ancestral bench --batch-size 1 --mode sample --seconds 0\n      one digit, \
a thousand steps\n  ancestral bench --config wider.toml\n      a network of your own\n  mpirun -n 2 ancestral \
bench --messages\n      latency and bandwidth between two processes")]
pub struct Args {
    /// Whose network
    #[arg(long, value_parser = choices::presets(), default_value = "mnist")]
    preset: Preset,
    /// A TOML or JSON file with the fields to change, as for `ancestral train`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Images in a step [default: the config's]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: Option<u32>,
    /// What a step is
    #[arg(long, value_enum, default_value = "train")]
    mode: Mode,
    /// Seconds to measure for, after one step to warm up, and at least three steps; a chain is not warmed up, and one is enough
    #[arg(long, value_name = "X", default_value_t = 10.0)]
    seconds: f64,
    /// Measure messages between two ranks instead: under mpirun -n 2
    #[arg(long, conflicts_with_all = ["preset", "config", "batch_size", "mode", "layers"])]
    messages: bool,
    /// Also time each layer on its own, and print where the time goes
    #[arg(long)]
    layers: bool,
    /// Print nothing but the JSON object
    #[arg(long)]
    json: bool,
}

/// Measures steps and prints them.
pub fn run(args: &Args) -> Result<Exit> {
    if !args.seconds.is_finite() || args.seconds < 0.0 {
        return Err(Error::value("--seconds", "a number of seconds, 0 or more", args.seconds));
    }
    let ranks = Ranks::current();
    if args.messages {
        return messages::run(&ranks, args.seconds);
    }
    if ranks.count() > 1 && (args.mode != Mode::Train || args.layers) {
        let expected = "mode train, without --layers: a prediction is not shared out";
        return Err(Error::value("the command", expected, format!("another, and {} ranks", ranks.count())));
    }
    let preset = args.preset.config();
    let mut config = args.config.as_ref().map_or(Ok(preset.clone()), |file| preset.with_file(file))?;
    config.batch_size = args.batch_size.map_or(config.batch_size, |b| b as usize);
    config.validate()?;
    let network = Network::new(config.model.clone())?;
    let batch_size = config.batch_size;
    let image_size = config.model.image_size().expect("validated");
    let flop = 2 * network.multiply_adds(image_size) * batch_size as u64 * args.mode.predictions(&config);
    let measured = with_step(args.mode, &config, &network, |step| measure(args, &ranks, step))?;

    let (steps, median_s, min_s) = (measured.seconds.len(), median(&measured.seconds), measured.seconds[0]);
    let peak_mb = peak_megabytes();
    let (peak, usual_peak) = (measured.peaks[measured.peaks.len() - 1], median(&measured.peaks));
    let (threads, path, gflop) = (rayon::current_num_threads(), instruction_set::current().name(), flop as f64 / 1e9);
    let gflops = gflop / median_s;
    let mut object = json!({
        "preset": args.preset.name(), "config": args.config,
        "mode": format!("{:?}", args.mode).to_lowercase(), "batch_size": batch_size, "threads": threads, "path": path,
        "steps": steps, "median_s": median_s, "min_s": min_s, "gflop": gflop, "gflops": gflops, "peak_gflops": peak,
        "peak_fraction": gflops / peak, "usual_peak_gflops": usual_peak, "usual_peak_fraction": gflops / usual_peak,
        "peak_mb": peak_mb,
    });
    if ranks.count() > 1 {
        (object["ranks"], object["waiting"]) = (json!(ranks.count()), json!(measured.waiting));
    }
    if !args.json {
        let of = args.config.as_ref().map_or(args.preset.name().into(), |file| file.display().to_string());
        print(format!("{} of {of}, batch {batch_size}, {threads} threads, path {path}", args.mode.name()))?;
        print(format!("{gflop:.1} GFLOP in {median_s:.4} s (median of {steps}), {min_s:.4} s (fastest)"))?;
        let percent = |peak: f64| format!("{:.0} % of {peak:.1}", 100.0 * gflops / peak);
        let (best, usual) = (percent(peak), percent(usual_peak));
        print(format!("{gflops:.1} GFLOP/s: {best}, the peak measured between steps, {usual}, its median"))?;
        if ranks.count() > 1 {
            let (count, waiting) = (ranks.count(), 100.0 * measured.waiting);
            print(format!("{count} ranks; the first waited for the sum of all in {waiting:.1} % of the time"))?;
        }
    }
    if let Some((times, steps, seconds)) = measured.layers {
        // Of a lone microbatch the parts are timed by the thread that deals them out, so their times are those of all threads.
        let dealt = if batch_size <= MICROBATCH { 1.0 } else { threads as f64 };
        let (thread_seconds, peak_of_a_thread) = (seconds * dealt, peak / dealt);
        let breakdown = Breakdown { times: &times, steps, thread_seconds, peak_of_a_thread };
        if args.json {
            object["layers"] = breakdown.to_json(network.layout());
        } else {
            print(breakdown.by_layer(network.layout()))?;
            print(breakdown.by_part())?;
        }
    }
    print(object)?;
    Ok(Exit::Passed)
}

/// Seconds of the steps and GFLOP/s of the peak between them, both ascending, and with `--layers` the times of the parts
/// of some more steps with their number and seconds.
struct Measured {
    seconds: Vec<f64>,
    peaks: Vec<f64>,
    /// The share of the time in which this rank, its own work done, waited for the sum of all.
    waiting: f64,
    layers: Option<(Times, usize, f64)>,
}

fn measure(args: &Args, ranks: &Ranks, step: &mut dyn FnMut() -> Result<()>) -> Result<Measured> {
    let at_least = if args.mode == Mode::Sample { 1 } else { 3 };
    if at_least > 1 {
        step()?;
    }
    let (mut seconds, mut peaks) = (Vec::new(), Vec::new());
    let (start, waited) = (Instant::now(), ranks.seconds_waited());
    while ranks.any(seconds.len() < at_least || start.elapsed().as_secs_f64() < args.seconds) {
        let start = Instant::now();
        step()?;
        seconds.push(start.elapsed().as_secs_f64());
        peaks.push(peak::gflops());
    }
    let waiting = (ranks.seconds_waited() - waited) / seconds.iter().sum::<f64>();
    peaks.resize_with(peaks.len().max(3), peak::gflops);
    seconds.sort_by(f64::total_cmp);
    peaks.sort_by(f64::total_cmp);
    if !args.layers {
        return Ok(Measured { seconds, peaks, waiting, layers: None });
    }
    let steps = seconds.len().min(10);
    let start = Instant::now();
    let (done, times) = stopwatch::record(|| (0..steps).try_for_each(|_| step()));
    done?;
    Ok(Measured { seconds, peaks, waiting, layers: Some((times, steps, start.elapsed().as_secs_f64())) })
}

fn median(ascending: &[f64]) -> f64 {
    ascending[ascending.len() / 2]
}

/// The most memory that this process has held, in MB of 10⁶ bytes, where the system says (Linux).
fn peak_megabytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}
