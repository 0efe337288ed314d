//! `ancestral convergence`: how fast each sampler comes to the solution of its equation.

use std::path::PathBuf;

use serde_json::json;

use super::choices::samplers;
use super::{Exit, flag, print};
use crate::evaluate::convergence::{Convergence, Measure, STEPS, images, methods};
use crate::report::plot::{ErrorBySteps, error_by_steps};
use crate::report::table::table;
use crate::sample::Sampler;
use crate::{Error, Result, atomic};

/// The flags of `convergence`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A deterministic sampler solves an equation, the probability-flow ODE, in n steps. Where images are a mixture of Gaussians the noise \
in x is known exactly and the solution is had to 1e-12, so all of a sampler's error is of its steps. It falls as \
n^-p: p is the order, the slope of the error over the steps on logarithmic axes, here over the last three numbers of steps. At order \
1 twice the steps halve the error; at order 3 they divide it by 8.\n\nThe chain ends at the last level that has some noise: the step \
from there to the clean image is of first order in every sampler. Orders are not lowered at the end, and the chain begins so deep \
in noise that the first steps of a multistep method, which know no past, do no harm. A network is not exact: there, orders above 3 are \
of no use, and of few steps the error counts, not the order.\n\nExamples:\n  ancestral convergence\n  ancestral convergence --sampler \
dpm-multistep --sampler unipc --plot orders.svg\n  ancestral convergence --steps 10,20,40 --json")]
pub struct Args {
    /// This sampler alone; may be given several times [default: all that are deterministic]
    #[arg(long, value_name = "NAME", value_parser = samplers(), hide_possible_values = true)]
    sampler: Vec<Sampler>,
    /// Numbers of steps, ascending
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = STEPS)]
    steps: Vec<usize>,
    /// Also draw the errors: one line a sampler, in the way that ends with the least error, or every way of those that are named
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Measures.
pub fn run(args: &Args) -> Result<Exit> {
    if args.steps.len() < 2 || args.steps.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(Error::value("--steps", "two or more numbers, ascending", format!("{:?}", args.steps)));
    }
    if let Some(stochastic) = args.sampler.iter().find(|&&sampler| methods().iter().all(|m| m.sampler != sampler)) {
        let expected = "a deterministic sampler that goes from noise to the image";
        return Err(Error::value("--sampler", expected, stochastic.entry().name));
    }
    args.plot.as_deref().map_or(Ok(()), atomic::probe)?;
    let measure = Measure::new(images())?;
    let wanted = methods().into_iter().filter(|m| args.sampler.is_empty() || args.sampler.contains(&m.sampler));
    let found = wanted
        .map(|method| measure.convergence(&method, &args.steps).map_err(|error| flag(error, &["steps"])))
        .collect::<Result<Vec<Convergence>>>()?;
    if let Some(path) = &args.plot {
        let title = "Error against the exact solution";
        error_by_steps(title, &lines(&found, args.sampler.is_empty()), path)?;
    }
    print(if args.json { json!({"methods": found}).to_string() } else { in_words(&found, &args.steps) }.trim_end())?;
    Ok(Exit::Passed)
}

/// The lines of the plot.
fn lines(found: &[Convergence], one_a_sampler: bool) -> Vec<ErrorBySteps> {
    let last = |c: &Convergence| c.errors.last().map_or(f64::INFINITY, |last| last.1);
    let best = |c: &&Convergence| found.iter().all(|other| other.sampler != c.sampler || last(c) <= last(other));
    let shown = found.iter().filter(|c| !one_a_sampler || best(c));
    let name = |c: &Convergence| format!("{} {}", c.sampler, c.variant).trim().to_string();
    shown.map(|c| ErrorBySteps { name: name(c), errors: c.errors.clone() }).collect()
}

fn in_words(found: &[Convergence], steps: &[usize]) -> String {
    let columns: Vec<String> = steps.iter().map(|n| format!("n = {n}")).collect();
    let headers: Vec<&str> = ["sampler", "way", "eval/step", "stated", "order"]
        .into_iter()
        .chain(columns.iter().map(String::as_str))
        .collect();
    let row = |c: &Convergence| {
        let words = [c.sampler.to_string(), c.variant.clone(), c.evaluations.to_string()];
        let numbers = [c.stated.to_string(), format!("{:.2}", c.order)];
        words.into_iter().chain(numbers).chain(c.errors.iter().map(|(_, error)| format!("{error:.1e}"))).collect()
    };
    let rows: Vec<Vec<String>> = found.iter().map(row).collect();
    format!("Error of x after n steps, and its order; images are a mixture of Gaussians\n{}", table(&headers, &rows))
}
