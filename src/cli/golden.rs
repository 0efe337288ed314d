//! `ancestral golden`: the right answers for other implementations, and where theirs are wrong.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::json;

use super::progress::{Progress, note};
use super::{Exit, choices, print};
use crate::golden::case::Case;
use crate::golden::check::{self, Checked, Report, Selection, check};
use crate::golden::format::Format;
use crate::golden::judge::{Scope, Verdict};
use crate::golden::kit::{LEVELS, Manifest, drafts, export};
use crate::golden::mutants::mutants;
use crate::golden::oracle::{Only, complete};
use crate::trace::{self, Comparison, Trace};
use crate::{Error, Result, atomic};

/// The flags of `golden`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compute the results of any case: the truth, the bits, the tolerances
    Compute(Compute),
    /// Write the kit: cases with their golden values, and what runs them
    Export(Export),
    /// Judge what a backend computed for the cases of a kit
    Check(Check),
}

/// The flags of `golden compute`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
A case is a safetensors file: `op` and `attributes` (JSON) in its metadata, tensors input.NAME (float32, \
PyTorch's layouts; int64 for timesteps and labels) and, where gradients are wanted, grad_output. \
Added are output and grad.NAME (float64, the truth), bits.NAME (float32, what this program computes), \
tol.NAME (what float32 may be off by).\n\nExample, with Python's safetensors:\n  save_file({\"input.x\": \
x, \"grad_output\": g}, \"case.safetensors\", {\"op\": \"silu\", \"attributes\": \"{}\"})\n  ancestral \
golden compute case.safetensors --out result.safetensors")]
struct Compute {
    /// The case: a safetensors file with inputs
    #[arg(value_name = "CASE")]
    case: PathBuf,
    /// Where the completed case goes
    #[arg(long, value_name = "RESULT")]
    out: PathBuf,
    /// Compute the float64 truth or the float32 bits alone, without tolerances [default: everything]
    #[arg(long, value_parser = choices::precisions())]
    precision: Option<Only>,
}

/// The flags of `golden export`.
#[derive(Debug, ClapArgs)]
struct Export {
    /// The folder of the kit; of a kit that stands there the folders cases and models are removed first
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Only this level; may be repeated [default: all but sizes, which takes 400 MB]
    #[arg(long, value_name = "LEVEL", value_parser = clap::builder::PossibleValuesParser::new(LEVELS))]
    level: Vec<String>,
    /// The format of the backend's numbers: inputs that it holds, and tolerances of its roundings
    #[arg(long, default_value = "f32", value_parser = choices::formats())]
    dtype: Format,
}

/// The flags of `golden check`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
RESULTS holds for each case a file LEVEL/NAME.safetensors with the tensors output, grad.x, ... that \
the backend computed, or a folder LEVEL/NAME with output.npy, grad.x.npy, ... Errors are printed \
in units of the tolerance. Exit status: 0 the backend passes, 1 it is wrong somewhere, 2 not all \
cases were seen, or the kit is damaged.\n\nTwo traces of a reverse process (docs/trace.md) are compared \
in the same way: the first quantity and step in which they part is named.\n\nExamples:\n  ancestral golden \
check data/golden results --level ops\n  ancestral golden check ours.safetensors theirs.safetensors")]
struct Check {
    /// The kit, or a trace of `ancestral explain --trace`
    #[arg(value_name = "DIR")]
    kit: PathBuf,
    /// What the backend computed, or its trace
    #[arg(value_name = "RESULTS")]
    results: PathBuf,
    /// Only this level; may be repeated [default: all]
    #[arg(long, value_name = "LEVEL")]
    level: Vec<String>,
    /// Only this operation; may be repeated [default: all]
    #[arg(long, value_name = "OP")]
    op: Vec<String>,
    /// Ask for no gradients and for nothing that trains: for backends that only predict
    #[arg(long)]
    forward: bool,
    /// Print one JSON object instead of one line for each case
    #[arg(long)]
    json: bool,
}

/// Runs a subcommand.
pub fn run(args: &Args) -> Result<Exit> {
    match &args.command {
        Command::Compute(args) => compute(args),
        Command::Export(args) => export_kit(args),
        Command::Check(args) => check_results(args),
    }
}

fn compute(args: &Compute) -> Result<Exit> {
    let mut case = Case::read(&args.case)?;
    atomic::probe(&args.out)?;
    complete(&mut case, args.precision)?;
    atomic::write(&args.out, &case.to_bytes())?;
    Ok(Exit::Passed)
}

fn export_kit(args: &Export) -> Result<Exit> {
    let count = drafts(&args.level, args.dtype).len();
    let other = |there: &Manifest| there.dtype != args.dtype || there.cases.len() != count;
    if let Some(there) = Manifest::read(&args.out).ok().filter(other) {
        let (out, dtype) = (args.out.display(), there.dtype.name());
        note(&format!("{out}: replacing the kit of {dtype} that stands there, {} cases", there.cases.len()));
    }
    let (mut progress, mut done) = (Progress::new("export", count as u64, "cases"), 0);
    let manifest = export(&args.out, &args.level, args.dtype, |entry| {
        done += 1;
        progress.set(done, &entry.id);
    })?;
    progress.finish("done");
    print(format!("{} cases in {}", manifest.cases.len(), args.out.display()))?;
    Ok(Exit::Passed)
}

/// Compares two traces.
fn check_trace(args: &Check) -> Result<Exit> {
    let Comparison { compared, missing, first } =
        trace::compare(&Trace::read(&args.kit)?, &Trace::read(&args.results)?);
    if args.json {
        print(json!({ "compared": compared, "missing": missing, "first": first }))?;
    } else {
        if !missing.is_empty() {
            print(format!("not in the second trace: {}", missing.join(", ")))?;
        }
        print(match &first {
            None => format!("{compared} quantities agree\nPASS"),
            Some(difference) => format!("{difference}\n{compared} quantities were compared\nFAIL"),
        })?;
    }
    match (first, compared) {
        (Some(_), _) => Ok(Exit::Failed),
        (None, 0) => Err(Error::value(args.results.display().to_string(), "quantities of a trace", "none")),
        (None, _) => Ok(Exit::Passed),
    }
}

fn check_results(args: &Check) -> Result<Exit> {
    if args.kit.is_file() {
        return check_trace(args);
    }
    let scope = if args.forward { Scope::Forward } else { Scope::Whole };
    let selection = Selection { levels: args.level.clone(), ops: args.op.clone(), scope };
    let mut printed = Ok(());
    let report = check(&args.kit, &args.results, &selection, |case| {
        if !args.json && printed.is_ok() {
            printed = print(line(case));
        }
    })?;
    printed?;
    if args.json {
        print(json!(report))?;
    } else {
        print(totals(&report))?;
    }
    match report.outcome {
        check::Outcome::Pass => Ok(Exit::Passed),
        check::Outcome::Fail => Ok(Exit::Failed),
        check::Outcome::Incomplete => Err(Error::value(
            args.results.display().to_string(),
            "results for every case",
            report.incomplete.join("; "),
        )),
    }
}

/// One case in one line, and what a person would ask next under it.
fn line(case: &Checked) -> String {
    let judgement = &case.judgement;
    let mut text = format!("{:<44} {:<20}", case.id, judgement.verdict.to_string());
    if let Some(worst) = &judgement.worst {
        let tolerances = match worst.tolerances {
            x if x < 1e4 => format!("{x:.3}"),
            x => format!("{x:.2e}"),
        };
        text += &format!("{tolerances:>9} tol {:9.2e} ulp {:9.2e} rel", worst.ulp, worst.relative);
        text += &format!("  {}{:?}", worst.tensor, worst.index);
    }
    if judgement.verdict >= Verdict::LikeTf32 {
        if let Some(worst) = &judgement.worst {
            text += &format!("\n    expected {:e}, found {:e}", worst.expected, worst.found);
        }
        if let Some(first) = &judgement.first_wrong {
            text += &format!("\n    the first wrong tensor in the order of execution: {first}");
        }
        if let Some(mutant) = judgement.mistake.as_ref().and_then(|name| mutants().find(|m| m.name == name)) {
            text += &format!("\n    this is what yours looks like: {} ({})", mutant.mistake, mutant.name);
        }
    }
    if let Some(note) = &judgement.note {
        text += &format!("\n    {note}");
    }
    text.trim_end().to_string()
}

fn totals(report: &Report) -> String {
    let counts: Vec<String> = report.totals.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
    let mut text = format!("\n{}", counts.join(", "));
    if let Some(orders) = &report.orders {
        let list = if orders.is_empty() { "none of the known ones".to_string() } else { orders.join(", ") };
        text += &format!("\norder of addition in products: {list}");
    }
    text + match report.outcome {
        check::Outcome::Pass => "\nPASS",
        check::Outcome::Fail => "\nFAIL",
        check::Outcome::Incomplete => "\nINCOMPLETE",
    }
}
