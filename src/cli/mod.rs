//! The command: arguments to a validated config to a run; one file a subcommand.

mod bench;
mod bits;
mod built_in;
mod choices;
mod classify;
mod convergence;
mod dialects;
mod ema;
mod eval;
mod explain;
mod golden;
mod lesson;
mod pictures;
mod progress;
mod quality;
mod sample;
mod samplers;
mod sampling;
mod selftest;
mod steered_by;
mod together;
mod train;

pub use progress::note;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use clap::{Parser, Subcommand};

use crate::checkpoint::pipeline::{self, Loaded};
use crate::cluster::Ranks;
use crate::layers::ParameterVector;
use crate::numerics::{environment, instruction_set};
use crate::pipeline::Pipeline;
use crate::{Error, Result};

/// Weights to be judged.
struct Subject<'a> {
    name: &'static str,
    weights: &'a ParameterVector<f32>,
}

/// Denoising diffusion models on CPUs: the same bits everywhere, every gradient by hand.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Threads to work with; the result does not depend on it [default: all cores]
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

const AFTER_HELP: &str = "\
Exit status: 0 success, 1 a check failed, 2 an error.\n\nExamples:\n  ancestral train\n      digits \
in minutes, into runs/digits\n  ancestral sample --model runs/digits --count 16\n      pictures from \
that run\n  ancestral eval --model runs/digits\n      how well it predicts noise, by timestep\n  ancestral \
selftest\n      whether this machine gives the bits of all others";

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a network to predict the noise in images
    Train(Box<train::Args>),
    /// Draw pictures from noise
    Sample(sample::Args),
    /// One reverse step at one pixel: each formula with its numbers, and where it is computed
    Explain(explain::Args),
    /// Draw by every sampler, and measure how far each is from the exact solution
    Samplers(samplers::Args),
    /// Measure the predicted noise on images never trained on
    Eval(eval::Args),
    /// Show where implementations differ, or run two dialects and name the first number that does
    Dialects(dialects::Args),
    /// Average the weights of a run otherwise, after it has ended
    Ema(ema::Args),
    /// Measure whether pictures are read as asked, are like real ones, and are not copies
    Quality(quality::Args),
    /// Train or evaluate a classifier, by which pictures are measured
    Classify(classify::Args),
    /// Measure how fast each sampler comes to the solution of its equation
    Convergence(convergence::Args),
    /// Measure speed and memory on this machine
    Bench(bench::Args),
    /// Write a page that teaches the mathematics, step by step, from a real run
    Lesson(lesson::Args),
    /// The right answers for other implementations, and where theirs are wrong
    Golden(golden::Args),
    /// Check that this machine computes the same bits as every other
    Selftest(selftest::Args),
}

/// How a command that ran to its end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Passed,
    /// A check failed.
    Failed,
}

/// Writes a line to standard output; that its reader has gone, as `head` does, is no error.
fn print(line: impl Display) -> Result<()> {
    if progress::is_silent() {
        return Ok(());
    }
    let mut out = io::stdout();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("standard output", "write", &cause)),
        _ => Ok(()),
    }
}

/// Reads a model, and says what was assumed of it; that nobody can read it is no error.
fn read_model(folder: &Path) -> Result<Pipeline> {
    if built_in::is_built_in(folder) {
        return built_in::model();
    }
    let Loaded { pipeline, notes } = pipeline::read(folder)?;
    notes.iter().for_each(|line| note(&format!("note: {line}")));
    Ok(pipeline)
}

/// The class that a flag asks for, by its number or its name.
fn class_of(flag: &str, class: &Option<String>, model: &Pipeline) -> Result<Option<usize>> {
    let Some(class) = class else { return Ok(None) };
    let names = model.class_names().unwrap_or_default();
    let by_name = names.iter().position(|name| name == class);
    let Some(number) = by_name.or_else(|| class.parse().ok()) else {
        let names = if names.is_empty() { String::new() } else { format!(", or one of {}", names.join(", ")) };
        return Err(Error::value(flag, format!("the number of a class{names}"), class));
    };
    match model.classes() {
        Some(classes) if number >= classes => Err(Error::value(flag, format!("0 to {}", classes - 1), number)),
        None => Err(Error::value(flag, "none: the model is not conditional", number)),
        _ => Ok(Some(number)),
    }
}

/// The same error with the flag's dashes, where the library names one of these fields, which are flags here.
fn flag(error: Error, flags: &[&str]) -> Error {
    match error {
        Error::Value { field, expected, found } if flags.contains(&field.as_str()) => {
            Error::Value { field: format!("--{}", field.replace('_', "-")), expected, found }
        }
        other => other,
    }
}

/// The most threads that are started: far more than any machine has use for.
const MOST_THREADS: usize = 1024;

/// What rayon's own variable says, within reason; where it says nothing 0, all cores, or this process's part of them.
fn threads_of_environment() -> Result<usize> {
    const VARIABLE: &str = "RAYON_NUM_THREADS";
    let said = std::env::var(VARIABLE)
        .ok()
        .and_then(|said| said.parse::<usize>().ok())
        .unwrap_or_else(together::usual_threads);
    if said <= MOST_THREADS {
        return Ok(said);
    }
    Err(Error::value(VARIABLE, format!("at most {MOST_THREADS} threads"), said))
}

/// Runs the command.
///
/// # Errors
/// Whatever a file, a flag or the operating system got wrong; arithmetic that is not the contract's.
pub fn run(cli: Cli) -> Result<Exit> {
    let threads = cli.threads.map_or_else(threads_of_environment, |threads| Ok(threads.into()))?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|e| Error::value("--threads", "a number of threads that the system can start", e))?;
    instruction_set::chosen()?;
    environment::check(&pool)?;
    let ranks = Ranks::started()?;
    if !ranks.leads() {
        progress::be_silent();
    }
    let result = pool.install(|| together::check_programs(&ranks).and_then(|()| run_command(cli.command, &ranks)));
    together::end(&ranks, result)
}

/// Runs the command, with others where it can be shared out.
fn run_command(command: Command, ranks: &Ranks) -> Result<Exit> {
    match command {
        Command::Train(args) => train::run(&args, ranks),
        Command::Sample(args) => ranks.install(|| sample::run(&args)),
        Command::Eval(args) => ranks.install(|| eval::run(&args)),
        Command::Quality(args) => ranks.install(|| quality::run(&args)),
        Command::Classify(args) => ranks.install(|| classify::run(&args)),
        Command::Bench(args) => ranks.install(|| bench::run(&args)),
        _ if ranks.count() > 1 => {
            let expected = "train, sample, eval, quality, classify or bench, which are shared out, or one process";
            Err(Error::value("the command", expected, format!("another, and {} ranks", ranks.count())))
        }
        Command::Explain(args) => explain::run(&args),
        Command::Samplers(args) => samplers::run(&args),
        Command::Dialects(args) => dialects::run(&args),
        Command::Ema(args) => ema::run(&args),
        Command::Convergence(args) => convergence::run(&args),
        Command::Lesson(args) => lesson::run(&args),
        Command::Golden(args) => golden::run(&args),
        Command::Selftest(args) => selftest::run(&args),
    }
}
