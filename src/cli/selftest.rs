//! `ancestral selftest`: whether this build on this machine computes what contract N1 says.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use super::{Exit, print};
use crate::numerics::environment::Environment;
use crate::numerics::{CONTRACT, instruction_set};
use crate::selftest::{self, Chain, Difference, EXPECTED};
use crate::{Result, atomic};

/// The flags of `selftest`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Computes a chain of known answers, from single operations over elementary functions, random streams, \
sums, products and layers to ten training steps and pictures, and compares the SHA-256 of each link \
with the one that every machine has to get. The first link that differs is where to look: all that \
follow stand on it. The last line says `reproduces N1` (exit status 0), or which link is the first \
that does not (1). `chain` is one hash for all links.\n\nResults do not depend on --threads, nor \
on the environment variable ANCESTRAL_PATH, which names the instruction set of the hot loops: avx512 \
or avx2 (x86-64, the latter with FMA), or portable (any processor; slow on x86-64).\n\nExamples:\n  ancestral \
selftest\n  ancestral selftest --threads 1\n  ANCESTRAL_PATH=portable ancestral selftest\n      other \
instructions, the same bits\n  ancestral selftest > here.txt\n      on one machine, and then on another:\n  ancestral \
selftest --against here.txt")]
pub struct Args {
    /// Compare with what `selftest` printed elsewhere, instead of the contract
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Print nothing but one JSON object
    #[arg(long)]
    json: bool,
}

/// Computes the chain, prints it, and says whether it is the one expected.
pub fn run(args: &Args) -> Result<Exit> {
    let expected = args.against.as_ref().map(|file| atomic::read_text(file)).transpose()?;
    let start = Instant::now();
    let chain = selftest::run()?;
    let seconds = start.elapsed().as_secs_f64();
    let reference = args.against.as_ref().map_or(CONTRACT.to_owned(), |file| file.display().to_string());
    let difference = chain.first_difference(expected.as_deref().unwrap_or(EXPECTED));
    if args.json {
        print_json(&chain, difference.as_ref(), seconds)?
    } else {
        print_text(&chain, difference.as_ref(), &reference, seconds)?
    }
    Ok(if difference.is_none() { Exit::Passed } else { Exit::Failed })
}

fn print_text(chain: &Chain, difference: Option<&Difference>, reference: &str, seconds: f64) -> Result<()> {
    let on_or_off = |on: bool| if on { "on" } else { "off" };
    let environment = Environment::of_this_thread();
    print(format!("processor {}: {}", std::env::consts::ARCH, instruction_set::instruction_sets().join(" ")))?;
    print(format!("path {}, {} threads", instruction_set::current().name(), rayon::current_num_threads()))?;
    let (ftz, daz) = (on_or_off(environment.flushes_results), on_or_off(environment.flushes_operands));
    print(format!("flush to zero: results (FTZ) {ftz}, operands (DAZ) {daz}; rounding to nearest even\n"))?;
    print(chain.lines().trim_end())?;
    print(format!("chain {}", chain.sha256()))?;
    let Some(Difference { name, expected, found, meaning }) = difference else {
        return print(format!("reproduces {reference}: all {} links, in {seconds:.1} s", chain.links.len()));
    };
    let none = "no such link";
    print(format!("  expected {}", expected.as_deref().unwrap_or(none)))?;
    print(format!("  found    {}", found.as_deref().unwrap_or(none)))?;
    print(format!("  {meaning}"))?;
    print(format!("does not reproduce {reference}: {name} is the first link that differs"))
}

fn print_json(chain: &Chain, difference: Option<&Difference>, seconds: f64) -> Result<()> {
    print(json!({
        "contract": CONTRACT, "version": env!("CARGO_PKG_VERSION"), "processor": std::env::consts::ARCH,
        "instruction_sets": instruction_set::instruction_sets(), "path": instruction_set::current().name(),
        "threads": rayon::current_num_threads(), "environment": Environment::of_this_thread(),
        "links": chain.links, "chain": chain.sha256(), "seconds": seconds,
        "reproduces": difference.is_none(), "first_difference": difference,
    }))
}
