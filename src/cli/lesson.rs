//! `ancestral lesson`: the mathematics step by step, on one page made from a real run.

use std::path::PathBuf;

use super::built_in::BUILT_IN;
use super::eval::{data_for, run_of};
use super::progress::note;
use super::{Exit, print, read_model};
use crate::data::{self, Dataset, Shape, Split, shapes};
use crate::lesson::{Sources, page, record};
use crate::train::metrics::Losses;
use crate::train::{Config, State};
use crate::{Result, atomic};

/// The flags of `lesson`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The page needs no network and no other file. Every number on it was computed by this program, and the page computes many of them \
again in the browser: it says how many agree bit for bit. The same model gives the same bytes on every machine.\n\nExamples:\n  \
ancestral lesson\n  ancestral lesson --model runs/digits --out my.html --json my.json")]
pub struct Args {
    /// A run, a diffusers pipeline folder, or a network's folder
    #[arg(long, value_name = "DIR", default_value = BUILT_IN)]
    model: PathBuf,
    /// Pictures that the model was not trained on: as for `eval --data` [default: those of the run, else data/mnist; synthetic
    /// shapes where these do not fit the model]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The page
    #[arg(long, value_name = "FILE.html", default_value = "lesson.html")]
    out: PathBuf,
    /// Also write the record, all numbers of the page, as JSON
    #[arg(long, value_name = "FILE.json")]
    json: Option<PathBuf>,
    /// Also put the network into the page, rounded to 12 bits a number, so that it draws pictures there: another 1.4 MB for the
    /// model in the tree
    #[arg(long)]
    with_network: bool,
}

/// Computes the record and writes the page.
pub fn run(args: &Args) -> Result<Exit> {
    let model = read_model(&args.model)?;
    atomic::probe(&args.out)?;
    args.json.as_deref().map_or(Ok(()), atomic::probe)?;
    let (height, width, channels) = model.image_shape()?;
    let run = run_of(&args.model)?;
    let (data, training) = pictures(args, run.as_ref(), Shape { height, width, channels })?;
    let metrics = args.model.join("metrics.jsonl");
    let losses = match &run {
        Some((_, state)) if metrics.is_file() => Some(Losses::read(&metrics, state.step)?),
        _ => None,
    };
    let (training, losses) = (training.as_ref(), losses.as_ref());
    let sources = Sources { model: &model, data: &data, training, losses, with_network: args.with_network };
    let (page, json) = page::render(&record(sources)?)?;
    atomic::write(&args.out, page.as_bytes())?;
    print(args.out.display())?;
    if let Some(path) = &args.json {
        atomic::write(path, json.as_bytes())?;
        print(path.display())?;
    }
    Ok(Exit::Passed)
}

/// The pictures that were asked for; else those of the run or MNIST, and where these do not fit, synthetic ones. Beside them the
/// training pictures of the same place, where there are some.
fn pictures(args: &Args, run: Option<&(Config, State)>, shape: Shape) -> Result<(Dataset, Option<Dataset>)> {
    let path = data_for(args.data.as_deref(), run);
    match data::load(&path, Split::Validation, shape) {
        Err(error) if args.data.is_none() => {
            note(&format!("note: synthetic shapes in the place of pictures: {error}"));
            let draw = |split| shapes::draw(shapes::SEED, split, shape);
            Ok((draw(Split::Validation)?, Some(draw(Split::Train)?)))
        }
        found => Ok((found?, data::load(&path, Split::Train, shape).ok())),
    }
}
