//! `ancestral dialects`: where implementations differ, and which number differs first.

use std::path::PathBuf;

use serde_json::{Value, json};

mod compare;

use self::compare::{Difference, first_difference};
use super::built_in::BUILT_IN;
use super::{Exit, choices, print, read_model};
use crate::pipeline::{Pipeline, Scheduler};
use crate::report::table::table;
use crate::sample::{DIALECTS, Dialect, Sampler, Settings, questions};
use crate::{Error, Result};

/// The flags of `dialects`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Two dialects draw the same pictures from the same noise by each sampler. Compared are, in their \
order: the time that the network is fed, the level, x, x_0_hat and eps_hat, where the step goes, the \
weights of its terms. Exit status: 0 all alike, 1 something differs.\n\nExamples:\n  ancestral dialects\n      the \
questions, with each one's answer and where it is given\n  ancestral dialects ancestral diffusers \
--steps 7\n      the first number that differs, sampler by sampler")]
pub struct Args {
    /// Two dialects to run
    #[arg(value_name = "NAME", num_args = 2, value_parser = choices::dialects())]
    names: Vec<&'static Dialect>,
    /// The model that they draw with
    #[arg(long, value_name = "DIR", default_value = BUILT_IN)]
    model: PathBuf,
    /// One sampler alone [default: all that the model's noise allows]
    #[arg(long, value_parser = choices::samplers())]
    sampler: Option<Sampler>,
    /// Reverse steps
    #[arg(long, value_name = "N", default_value_t = 10)]
    steps: usize,
    /// Which timesteps a shorter chain visits [default: the model's]
    #[arg(long, value_parser = choices::spacings())]
    spacing: Option<crate::sample::Spacing>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints the questions, or compares two dialects.
pub fn run(args: &Args) -> Result<Exit> {
    let [a, b] = args.names[..] else { return list(args.json) };
    let model = read_model(&args.model)?;
    let t_max = model.scheduler().schedule.t_max();
    if !(1..=t_max).contains(&args.steps) {
        return Err(Error::value("--steps", format!("1 to {t_max}, the model's T"), args.steps));
    }
    let samplers: Vec<Sampler> = match args.sampler {
        Some(sampler) => vec![sampler],
        None => Sampler::ALL.iter().copied().filter(|sampler| *sampler != Sampler::DdimInverse).collect(),
    };
    let mut found: Vec<(&'static str, std::result::Result<Option<Difference>, String>)> = Vec::new();
    for sampler in samplers {
        let settings = |dialect: &Dialect| settings(args, &model, sampler, dialect);
        let difference = match (settings(a), settings(b)) {
            (Ok(a), Ok(b)) => first_difference(&model, &a, &b).map_err(|error| error.to_string()),
            (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
        };
        found.push((sampler.entry().name, difference));
    }
    if args.json {
        let rows: Vec<Value> = found.iter().map(|(name, difference)| to_json(name, difference)).collect();
        print(json!({ "dialects": [a.name, b.name], "steps": args.steps, "samplers": rows }))?;
    } else {
        print(format!("{} against {}, {} steps: the first number that differs", a.name, b.name, args.steps))?;
        let head = [
            "sampler",
            "first difference",
            "step",
            "t",
            &format!("{} has", a.name),
            &format!("{} has", b.name),
            "pictures off by",
        ];
        let rows: Vec<Vec<String>> = found.iter().map(|(name, difference)| row(name, difference)).collect();
        print(table(&head, &rows))?;
    }
    Ok(if found.iter().all(|(_, found)| matches!(found, Ok(None))) { Exit::Passed } else { Exit::Failed })
}

/// Four pictures by a sampler in a dialect.
fn settings(args: &Args, model: &Pipeline, sampler: Sampler, dialect: &Dialect) -> Result<Settings> {
    let own = model.scheduler().clone();
    let spacing = args.spacing.unwrap_or(own.spacing);
    let mut scheduler = Scheduler { sampler, spacing, ..own };
    scheduler.options.conventions = dialect.conventions;
    let chain = scheduler.chain(args.steps)?;
    let guidance = dialect.conventions.guidance_of_none;
    Ok(Settings {
        seed: 42,
        sampler,
        options: scheduler.options,
        chain,
        class: None,
        guidance,
        guidance_interval: None,
    })
}

fn row(name: &str, difference: &std::result::Result<Option<Difference>, String>) -> Vec<String> {
    let dash = || "-".to_string();
    let cells = match difference {
        Ok(None) => ["nothing".into(), dash(), dash(), dash(), dash(), "0".into()],
        Ok(Some(found)) => [
            found.what.clone(),
            found.step.to_string(),
            format!("{}", found.t),
            format!("{:.6}", found.values[0]),
            format!("{:.6}", found.values[1]),
            format!("{:.2e}", found.pictures),
        ],
        Err(error) => [format!("does not run: {}", error.replace('\n', ";")), dash(), dash(), dash(), dash(), dash()],
    };
    [vec![name.to_string()], cells.to_vec()].concat()
}

fn to_json(name: &str, difference: &std::result::Result<Option<Difference>, String>) -> Value {
    match difference {
        Ok(None) => json!({ "sampler": name, "difference": null }),
        Ok(Some(found)) => json!({
            "sampler": name, "difference": found.what, "step": found.step, "t": found.t, "values": found.values,
            "pictures_off_by": found.pictures,
        }),
        Err(error) => json!({ "sampler": name, "error": error }),
    }
}

/// The questions and everyone's answers.
fn list(json: bool) -> Result<Exit> {
    let answers = |question: &crate::sample::Question| {
        DIALECTS.iter().zip(question.answers()).map(|(dialect, answer)| (dialect.name, answer)).collect::<Vec<_>>()
    };
    if json {
        let rows = questions().map(|question| {
            let answers: serde_json::Map<String, Value> = answers(question)
                .into_iter()
                .map(|(name, answer)| (name.to_string(), json!({ "does": answer.does, "place": answer.place })))
                .collect();
            json!({
                "question": question.asks, "set_by": question.set_by, "follows_dialect": question.follows_dialect(),
                "answers": answers,
            })
        });
        print(json!({ "questions": rows.collect::<Vec<_>>() }))?;
        return Ok(Exit::Passed);
    }
    for dialect in &DIALECTS {
        print(format!("{:11}  {}", dialect.name, dialect.about))?;
    }
    for question in questions() {
        let also = if question.follows_dialect() { "" } else { " (--dialect does not change it)" };
        print(format!("\n{}{also}", question.asks))?;
        let rows: Vec<Vec<String>> = answers(question)
            .into_iter()
            .map(|(name, answer)| vec![name.to_string(), answer.does.to_string(), answer.place.to_string()])
            .collect();
        print(table(&["dialect", "answer", "where"], &rows))?;
    }
    Ok(Exit::Passed)
}
