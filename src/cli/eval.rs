//! `ancestral eval`: errors of the predicted noise, in total and by timestep, or what an image costs in bits.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::built_in::BUILT_IN;
use super::progress::{Progress, note};
use super::{Exit, Subject, bits, print, read_model};
use crate::checkpoint::resume;
use crate::cluster::Ranks;
use crate::data::{self, Dataset, Shape, Split};
use crate::evaluate::{Evaluation, evaluate};
use crate::pipeline::Pipeline;
use crate::report::plot::{ErrorByTimestep, error_by_timestep};
use crate::report::table::table;
use crate::train::{Config, State};
use crate::{Error, Result, atomic};

/// The flags of `eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every image is looked at once in each of ten bins of t, with one fixed noise: the same grid for every \
model. R2 compares with always saying 0; linear MSE is the error of the best multiple of x_t, which \
needs no network; MSE of x_0 is the error of the image that the predicted noise implies.\n\nExamples:\n  ancestral \
eval\n  ancestral eval --model runs/digits --images 1000 \
--json\n  ancestral eval --bits-per-dim --images 64\n      the variational bound, by timestep\n  \
ancestral eval --bits-per-dim --steps 100")]
pub struct Args {
    /// A run (its raw and averaged weights), a diffusers pipeline folder, or a network's folder; the word `built-in` is the model
    /// of digits in the program
    #[arg(long, value_name = "DIR", default_value = BUILT_IN)]
    model: PathBuf,
    /// Where the validation images are: as for `train --data` [default: the images of the run, else data/mnist]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How many of them to look at
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    images: u32,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Also draw MSE and R2 by timestep, or the parts of the bound
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    bits: bits::Args,
}

/// Evaluates a model on validation images.
pub fn run(args: &Args) -> Result<Exit> {
    let model = read_model(&args.model)?;
    let plot_file = args.plot.as_deref().filter(|_| Ranks::current().leads());
    plot_file.map_or(Ok(()), atomic::probe)?;
    let (height, width, channels) = model.image_shape()?;
    let run = run_of(&args.model)?;
    let path = data_for(args.data.as_deref(), run.as_ref());
    let data = data::load(&path, Split::Validation, Shape { height, width, channels })?;
    data.notes().iter().for_each(|line| note(&format!("note: {line}")));
    let state = run.map(|(_, state)| state);
    let (expected, found) = (model.weights().0.len(), state.as_ref().map(|state| state.weights.0.len()));
    if let Some(found) = found.filter(|&found| found != expected) {
        let problem = format!("expected the {expected} parameters of the model beside it, found {found}");
        return Err(Error::file(
            args.model.join(resume::FILE),
            problem,
            "evaluate the model alone: give its own folder to --model",
        ));
    }
    let subjects = match &state {
        Some(state) => {
            let raw = Subject { name: "raw weights", weights: &state.weights };
            let average = state.ema.as_ref().map(|weights| Subject { name: "EMA weights", weights });
            std::iter::once(raw).chain(average).collect()
        }
        None => vec![Subject { name: "weights", weights: model.weights() }],
    };
    if args.bits.bits_per_dim {
        return args.bits.run(&model, &subjects, &data, args.images as usize, args.json, plot_file);
    }
    let results = evaluate_all(&model, &subjects, &data, args.images as usize)?;
    if let Some(path) = plot_file {
        plot(&results, path)?;
    }
    print(if args.json { to_json(&results, data.name()) } else { to_table(&results, data.name()) }.trim_end())?;
    Ok(Exit::Passed)
}

/// The config and the state of the run in a folder, if it is one.
pub fn run_of(folder: &Path) -> Result<Option<(Config, State)>> {
    let checkpoint = folder.join(resume::FILE);
    if checkpoint.is_file() { resume::read(&checkpoint).map(Some) } else { Ok(None) }
}

/// The images that are asked for, or those of the run, or MNIST.
pub fn data_for(asked: Option<&Path>, run: Option<&(Config, State)>) -> PathBuf {
    let of_run = run.map(|(config, _)| config.data.as_path());
    asked.or(of_run).unwrap_or(Path::new("data/mnist")).to_path_buf()
}

/// Every subject's evaluation, with its name.
pub fn evaluate_all(
    model: &Pipeline,
    subjects: &[Subject],
    data: &Dataset,
    images: usize,
) -> Result<Vec<(&'static str, Evaluation)>> {
    let images = images.min(data.len());
    let mut progress = Progress::new("evaluating", (images * subjects.len()) as u64, "images");
    let mut results = Vec::new();
    for (i, subject) in subjects.iter().enumerate() {
        let evaluation = evaluate(model, subject.weights, data, images, |done| {
            progress.set((i * images + done) as u64, subject.name);
        })?;
        results.push((subject.name, evaluation));
    }
    progress.finish("done");
    Ok(results)
}

/// One JSON object: for each subject the total and the bins.
pub fn to_json(results: &[(&'static str, Evaluation)], data: &str) -> String {
    let bins = |evaluation: &Evaluation| -> Vec<_> {
        let bin =
            |(t, errors): &(std::ops::RangeInclusive<usize>, _)| json!({"t": [t.start(), t.end()], "errors": errors});
        evaluation.bins.iter().map(bin).collect()
    };
    let of = |(name, e): &(&'static str, Evaluation)| {
        (
            name.replace(' ', "_").to_lowercase(),
            json!({"data": data, "images": e.images, "total": e.total, "bins": bins(e)}),
        )
    };
    let object: serde_json::Map<_, _> = results.iter().map(of).collect();
    serde_json::to_string_pretty(&object).expect("numbers are JSON") + "\n"
}

/// The table that people read: one row for each bin, one block for each subject, the total last.
pub fn to_table(results: &[(&'static str, Evaluation)], data: &str) -> String {
    let headers = ["weights", "t", "MSE", "RMSE", "MAE", "R2", "linear MSE", "MSE of x_0"];
    let mut rows = Vec::new();
    for (name, evaluation) in results {
        let bins = evaluation.bins.iter().map(|(t, errors)| (format!("{}..{}", t.start(), t.end()), errors));
        for (t, e) in bins.chain([("all".to_string(), &evaluation.total)]) {
            let numbers = [e.mse, e.rmse, e.mae, e.r2, e.linear_mse, e.x_0_mse].map(|x| format!("{x:.5}"));
            rows.push([name.to_string(), t].into_iter().chain(numbers).collect());
        }
    }
    let count = results.first().map_or(0, |(_, evaluation)| evaluation.images);
    format!("Predicted noise on {count} images of {data}; R2 against always saying 0\n{}", table(&headers, &rows))
}

/// MSE and R² by timestep, with the best multiple of x_t beside the networks.
pub fn plot(results: &[(&'static str, Evaluation)], path: &Path) -> Result<()> {
    let Some((_, first)) = results.first() else { return Ok(()) };
    let bins: Vec<_> = first.bins.iter().map(|(t, _)| t.clone()).collect();
    let linear: Vec<f64> = first.bins.iter().map(|(_, e)| e.linear_mse).collect();
    let linear_r2: Vec<f64> = linear.iter().map(|mse| 1.0 - mse).collect(); // the noise has variance 1
    let curves: Vec<(Vec<f64>, Vec<f64>)> =
        results.iter().map(|(_, e)| e.bins.iter().map(|(_, errors)| (errors.mse, errors.r2)).unzip()).collect();
    let mut series = vec![ErrorByTimestep { name: "best multiple of x_t", mse: &linear, r2: &linear_r2 }];
    series.extend(results.iter().zip(&curves).map(|((name, _), (mse, r2))| ErrorByTimestep { name, mse, r2 }));
    error_by_timestep("Predicted noise on validation images", &bins, &series, path)
}
