//! `ancestral explain`: a reverse step, number by number; and the trace of all of them for other programs.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};

use super::built_in::BUILT_IN;
use super::progress::{Progress, note};
use super::sampling::Sampling;
use super::{Exit, class_of, flag, print, read_model};
use crate::diffusion::Process;
use crate::explain::{Explanation, Pixel, jumping, steps_from, text};
use crate::pipeline::Pipeline;
use crate::sample::{Sampler, Settings};
use crate::trace::Trace;
use crate::{Error, Result, atomic};

/// A place in a picture, as ROW,COLUMN.
#[derive(Clone, Copy, Debug)]
struct Place(usize, usize);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let place = text
            .split_once(',')
            .and_then(|(row, column)| Some(Place(row.trim().parse().ok()?, column.trim().parse().ok()?)));
        place.ok_or_else(|| "expected ROW,COLUMN, counted from 0 at the top left, such as 14,14".to_string())
    }
}

/// The flags of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The step is one of a real chain, from pure noise down: by default the chain of all T steps. Names are \
the papers': x_t the noisy picture, x_0_hat and eps_hat the picture and the noise that the network makes \
out in it, alpha_bar, beta_tilde as in Ho et al. 2020.\n\nExamples:\n  ancestral explain --t 600\n      \
600 -> 599 of the pixel in the middle\n  ancestral explain --t 600 --t-prev 0 --pixel 10,14\n      all of \
the noise taken away at once\n  ancestral explain --t 1000 --next\n      the chain from its start, a step \
at each Enter\n  ancestral explain --t 500 --sampler ddim --steps 20\n      a long step of DDIM\n  ancestral \
explain --steps 50 --trace mine.safetensors\n      every number of every step, for `ancestral golden check`")]
pub struct Args {
    /// A run, a diffusers pipeline folder, or a bare network folder; the word `built-in` is the model of digits in the program
    #[arg(long, value_name = "DIR", default_value = BUILT_IN)]
    model: PathBuf,
    /// The time of x_t, 1 to T, from which the step goes
    #[arg(long, value_name = "T", required_unless_present = "trace", conflicts_with = "trace")]
    t: Option<usize>,
    /// The time to which it goes [default: the next of the chain]
    #[arg(long, value_name = "S", requires = "t", conflicts_with = "next")]
    t_prev: Option<usize>,
    /// The pixel, counted from 0 at the top left [default: the one in the middle]
    #[arg(long, value_name = "ROW,COLUMN", conflicts_with = "trace")]
    pixel: Option<Place>,
    /// The channel of the pixel: 0 for grey; 0, 1, 2 for red, green, blue
    #[arg(long, value_name = "C", default_value_t = 0)]
    channel: usize,
    /// Which picture of the seed
    #[arg(long, value_name = "I", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..1 << 48))]
    index: u64,
    /// The class of the picture, by number or name, for a conditional model [default: that of its index]
    #[arg(long, value_name = "K")]
    class: Option<String>,
    #[command(flatten)]
    sampling: Sampling,
    /// Go on with the next step at each Enter, to the end of the chain; q ends
    #[arg(long, conflicts_with_all = ["trace", "json"])]
    next: bool,
    /// Write every coefficient and tensor of the chain to this file (docs/trace.md)
    #[arg(long, value_name = "FILE.safetensors|.json")]
    trace: Option<PathBuf>,
    /// Print one JSON object with all numbers
    #[arg(long)]
    json: bool,
}

/// Explains a step, or writes a trace.
pub fn run(args: &Args) -> Result<Exit> {
    let model = read_model(&args.model)?;
    let t_max = model.scheduler().schedule.t_max();
    let class = class_of("--class", &args.class, &model)?;
    if let Some(path) = &args.trace {
        let settings = args.sampling.settings(&model, class)?;
        return trace(args, path, &model, &settings);
    }
    // One step by itself is told of best: Algorithm 2 in the place of a multistep method.
    let scheduler = model.scheduler();
    let alone = scheduler.schedule.process() == Process::Betas && !scheduler.sampler.is_memoryless();
    let usual = if alone { Sampler::Ddpm } else { scheduler.sampler };
    let settings = args.sampling.with_usual(usual, t_max).settings(&model, class)?;
    let t = args.t.unwrap_or(t_max);
    if !(1..=t_max).contains(&t) {
        return Err(Error::value("--t", format!("1 to {t_max}, the model's T"), t));
    }
    let settings = match args.t_prev {
        Some(t_prev) => jumping(&model, settings, (t, t_prev))?,
        None => settings,
    };
    explain(args, &model, &settings, t)
}

fn explain(args: &Args, model: &Pipeline, settings: &Settings, t: usize) -> Result<Exit> {
    let most = if args.next { settings.chain.len() } else { 1 };
    let mut progress = Progress::new("to this step", settings.chain.len() as u64, "steps");
    let steps = steps_from(model, settings, args.index, (t, most), |number| progress.set(number as u64, ""))
        .map_err(|error| flag(error, &["class", "guidance", "guidance_interval"]))?;
    progress.finish("done");
    let (height, width, _) = model.image_shape()?;
    let Place(row, column) = args.pixel.unwrap_or(Place(height / 2, width / 2));
    let pixel = Pixel { row, column, channel: args.channel };
    let first = steps.iter().position(|step| step.from.t == t as f64).expect("the chain leaves t");
    for (i, step) in steps.iter().enumerate().skip(first) {
        let before = i.checked_sub(1).map(|before| &steps[before]);
        let explanation = Explanation::new(model, settings, args.index, (before, step), pixel)?;
        if args.json {
            let Value::Object(mut object) = json!(explanation) else { unreachable!("a struct is an object") };
            object.insert("settings".into(), described(args, model, settings));
            print(Value::Object(object))?;
        } else {
            print(head(args, settings, &explanation) + text(&explanation.sections).trim_end())?;
        }
        let last = i + 1 == steps.len();
        if !args.next || last || !wants_more()? {
            break;
        }
    }
    Ok(Exit::Passed)
}

/// Waits for Enter.
fn wants_more() -> Result<bool> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        note("[Enter: the next step, q: the end]");
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line).map_err(|cause| Error::io("standard input", "read", &cause))?;
    Ok(read > 0 && line.trim().is_empty())
}

fn head(args: &Args, settings: &Settings, explanation: &Explanation) -> String {
    let (step, pixel) = (&explanation.step, explanation.pixel);
    let class = match explanation.asked {
        Some(asked) => format!(", class {}, guidance {}", asked.label, asked.weight),
        None => settings.class.map(|class| format!(", class {class}")).unwrap_or_default(),
    };
    let correction = if step.from == step.to { ", a correction" } else { "" };
    format!(
        "x_{} -> x_{}, step {} of {}{correction}: {}{class}\nrow {}, column {}, channel {} of picture {} of seed {}; {}\n",
        step.from.t,
        step.to.t,
        step.number,
        settings.chain.len(),
        settings.sampler.entry().name,
        pixel.row,
        pixel.column,
        pixel.channel,
        args.index,
        settings.seed,
        args.model.display(),
    )
}

fn trace(args: &Args, path: &std::path::Path, model: &Pipeline, settings: &Settings) -> Result<Exit> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    if !matches!(ending.as_deref(), Some("safetensors" | "json")) {
        return Err(Error::value("--trace", "a file that ends in .safetensors or .json", path.display()));
    }
    atomic::probe(path)?;
    let mut progress = Progress::new("trace", settings.chain.len() as u64, "steps");
    let (mut trace, _) = Trace::of_picture(model, settings, args.index, |step| progress.set(step.number as u64, ""))
        .map_err(|error| flag(error, &["class", "guidance", "guidance_interval"]))?;
    progress.finish("done");
    let Value::Object(described) = described(args, model, settings) else { unreachable!("an object") };
    trace.settings = described;
    trace.write(path)?;
    if args.json {
        print(json!({ "file": path.to_string_lossy(), "steps": trace.steps.len(), "settings": trace.settings }))?;
    } else {
        print(format!("{} steps in {}", trace.steps.len(), path.display()))?;
    }
    Ok(Exit::Passed)
}

/// What made the chain.
fn described(args: &Args, model: &Pipeline, settings: &Settings) -> Value {
    let mut object = args.sampling.to_json(model, settings);
    object["model"] = json!(args.model.to_string_lossy());
    object["index"] = json!(args.index);
    object["class"] = json!(settings.class);
    object["steps"] = json!(settings.chain.len());
    object["prediction_type"] = json!(model.scheduler().prediction);
    object
}
