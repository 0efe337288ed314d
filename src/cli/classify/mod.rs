//! `ancestral classify`: a classifier, which `quality` sees pictures by.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::built_in::{self, BUILT_IN, is_built_in};
use super::progress::{Progress, note};
use super::{Exit, flag, print};
use crate::checkpoint::classifier::{self, Saved};
use crate::cluster::Ranks;
use crate::data::{self, Dataset, Shape, Split};
use crate::evaluate::classification::{AtLevel, Classification, classify, classify_noisy};
use crate::layers::ParameterVector;
use crate::models::Classifier;
use crate::report::table::table;
use crate::train::{ClassifierRecipe, ClassifierTrainer};
use crate::{Error, Result};

/// The flags of `classify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Train a classifier on labelled images
    Train(Train),
    /// Read validation images, and count what is read rightly
    Eval(Eval),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:\n  ancestral classify train\n      digits in minutes, into runs/classifier\n  ancestral classify train --data \
my/pictures --size 32x32x3 --out runs/mine\n      then: ancestral quality --model RUN --features runs/mine\n  ancestral classify train \
--noisy --out runs/noisy\n      then: ancestral sample --classifier runs/noisy")]
struct Train {
    /// Labelled images: as for `train --data`
    #[arg(long, value_name = "DIR", default_value = "data/mnist")]
    data: PathBuf,
    /// The size that images are brought to: height x width x channels
    #[arg(long, value_name = "HxWxC", default_value = "28x28x1", value_parser = shape)]
    size: Shape,
    /// Training steps
    #[arg(long, value_name = "N", default_value_t = ClassifierRecipe::default().steps)]
    steps: u64,
    /// Images in a step
    #[arg(long, value_name = "B", default_value_t = ClassifierRecipe::default().batch_size)]
    batch_size: usize,
    /// The highest learning rate
    #[arg(long, value_name = "X", default_value_t = ClassifierRecipe::default().lr)]
    lr: f64,
    /// The most pixels that an image is moved, each way, so that more is learned from it
    #[arg(long, value_name = "P", default_value_t = ClassifierRecipe::default().max_shift)]
    max_shift: usize,
    /// Make the images noisy and say how noisy, so that the classifier can guide: sample --classifier DIR
    #[arg(long)]
    noisy: bool,
    /// The seed of everything random
    #[arg(long, value_name = "S", default_value_t = ClassifierRecipe::default().seed)]
    seed: u64,
    /// The folder of the classifier
    #[arg(long, value_name = "DIR", default_value = "runs/classifier")]
    out: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Eval {
    /// The folder of the classifier; the word `built-in` is that of digits in the program
    #[arg(long, value_name = "DIR", default_value = BUILT_IN)]
    model: PathBuf,
    /// Labelled images: as for `train --data`
    #[arg(long, value_name = "DIR", default_value = "data/mnist")]
    data: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Height, width and channels.
fn shape(text: &str) -> std::result::Result<Shape, String> {
    let numbers: Vec<usize> = text.split('x').map_while(|number| number.parse().ok()).collect();
    match numbers[..] {
        [height, width, channels] => Ok(Shape { height, width, channels }),
        _ => Err("expected three numbers, such as 28x28x1".into()),
    }
}

/// Trains or evaluates.
pub fn run(args: &Args) -> Result<Exit> {
    match &args.what {
        What::Train(args) => train(args),
        What::Eval(args) => {
            let read =
                |folder: &Path| if is_built_in(folder) { built_in::classifier() } else { classifier::read(folder) };
            let Saved { classifier, weights, .. } = read(&args.model)?;
            let (height, width) = classifier.config.sample_size;
            let shape = Shape { height, width, channels: classifier.config.in_channels };
            let data = data::load(&args.data, Split::Validation, shape)?;
            data.notes().iter().for_each(|line| note(&format!("note: {line}")));
            let found = read_all(&classifier, &weights, &data)?;
            let of_noise = noisy_images(&classifier, &weights, &data)?;
            if args.json {
                print(json!({"data": data.name(), "classification": found, "noisy": of_noise}))?;
            } else {
                print((to_table(&found, &data) + &levels_to_table(&of_noise)).trim_end())?;
            }
            Ok(Exit::Passed)
        }
    }
}

fn train(args: &Train) -> Result<Exit> {
    if args.out.join("config.json").exists() {
        let remedy = "choose another folder with --out, or remove it";
        return Err(Error::file(&args.out, "a model is here, which this one would overwrite", remedy));
    }
    let leads = Ranks::current().leads();
    if leads {
        classifier::probe(&args.out)?;
    }
    let training = data::load(&args.data, Split::Train, args.size)?;
    let validation = data::load(&args.data, Split::Validation, args.size)?;
    training.notes().iter().for_each(|line| note(&format!("note: {line}")));
    let Train { steps, batch_size, lr, max_shift, noisy, seed, .. } = *args;
    let recipe = ClassifierRecipe { steps, batch_size, lr, max_shift, noisy, seed };
    note(&format!("{}: {} images of {}", training.name(), training.len(), training.shape()));
    let fingerprint = training.fingerprint();
    let mut trainer =
        ClassifierTrainer::new(recipe.clone(), training).map_err(|error| flag(error, &["steps", "lr"]))?;
    note(&format!("{} parameters, {steps} steps of {batch_size} images", trainer.classifier().layout.count()));
    let mut progress = Progress::new("training", steps, "steps");
    let mut smooth: Option<f64> = None;
    for step in 1..=steps {
        let loss = trainer.step()?.loss;
        let mean = smooth.map_or(loss, |mean| mean + 0.02 * (loss - mean));
        smooth = Some(mean);
        progress.set(step, &format!("cross-entropy {mean:.4}"));
    }
    progress.finish("done");
    if !leads {
        return Ok(Exit::Passed);
    }
    let sha256 = classifier::write(trainer.classifier(), trainer.weights(), &fingerprint, &args.out)?;
    let found = read_all(trainer.classifier(), trainer.weights(), &validation)?;
    let of_noise = noisy_images(trainer.classifier(), trainer.weights(), &validation)?;
    if args.json {
        let (data, folder) = (validation.name(), args.out.to_string_lossy());
        let about = json!({"recipe": recipe, "model": folder, "sha256": sha256, "data": data});
        let mut object = json!({"classification": found, "noisy": of_noise});
        object.as_object_mut().expect("an object").extend(about.as_object().expect("an object").clone());
        print(object)?;
    } else {
        print(to_table(&found, &validation) + &levels_to_table(&of_noise))?;
        print(format!("classifier  {}", args.out.display()))?;
        print(format!("SHA-256     {sha256}  model.safetensors"))?;
    }
    Ok(Exit::Passed)
}

fn read_all(classifier: &Classifier, weights: &ParameterVector<f32>, data: &Dataset) -> Result<Classification> {
    let mut progress = Progress::new("reading", data.len() as u64, "images");
    let found = classify(classifier, weights, data, |done| progress.set(done as u64, data.name()))?;
    progress.finish("done");
    Ok(found)
}

/// Images that are read at each level of noise.
const NOISY: usize = 1000;

/// How the first images are read at five levels of noise, by a classifier that reads noisy images.
fn noisy_images(classifier: &Classifier, weights: &ParameterVector<f32>, data: &Dataset) -> Result<Vec<AtLevel>> {
    if classifier.reads_noise() { classify_noisy(classifier, weights, data, NOISY) } else { Ok(Vec::new()) }
}

/// A row for each level; nothing without levels.
fn levels_to_table(levels: &[AtLevel]) -> String {
    if levels.is_empty() {
        return String::new();
    }
    let row = |at: &AtLevel| {
        vec![at.ratio.to_string(), format!("{:.1} %", 100.0 * at.accuracy), format!("{:.4}", at.cross_entropy)]
    };
    let rows: Vec<_> = levels.iter().map(row).collect();
    format!("\nof noisy images\n{}", table(&["sigma/signal", "right", "cross-entropy"], &rows))
}

/// A row for each class with what it is taken for most, the total last.
fn to_table(found: &Classification, data: &Dataset) -> String {
    let percent = |right: usize, of: usize| {
        if of == 0 { "-".into() } else { format!("{:.2} %", 100.0 * right as f64 / of as f64) }
    };
    let name =
        |class: usize| data.class_names().and_then(|names| names.get(class).cloned()).unwrap_or(class.to_string());
    let mut rows = Vec::new();
    for (class, row) in found.confusion.iter().enumerate() {
        let others = (0..row.len()).filter(|&other| other != class && row[other] > 0);
        let most = others.max_by_key(|&other| (row[other], std::cmp::Reverse(other)));
        let taken = most.map_or("-".into(), |other| format!("{} ({} times)", name(other), row[other]));
        let images = row.iter().sum::<usize>();
        rows.push(vec![name(class), images.to_string(), percent(row[class], images), taken]);
    }
    let total = percent(found.right, found.images);
    rows.push(vec!["all".into(), found.images.to_string(), total, format!("cross-entropy {:.4}", found.cross_entropy)]);
    format!("{} read\n{}", data.name(), table(&["class", "images", "right", "else mostly read as"], &rows))
}
