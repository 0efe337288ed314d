//! `ancestral quality`: whether pictures are read as asked, are like real ones, and are not copies.

use std::path::{Path, PathBuf};

use ndarray::{Array4, Axis};
use serde_json::json;

use super::built_in::{self, BUILT_IN, is_built_in};
use super::eval::{data_for, run_of};
use super::pictures::{Batches, check_count, columns_for, in_batches, scale_for};
use super::progress::{Progress, note};
use super::sampling::Sampling;
use super::steered_by::SteeredBy;
use super::{Exit, flag, print, read_model};
use crate::checkpoint::classifier::{self, Saved};
use crate::cluster::Ranks;
use crate::data::{self, Dataset, Shape, Split};
use crate::evaluate::quality::nearest::{comparisons, nearest};
use crate::evaluate::quality::{Distances, FEWEST, Features, Figure, Likeness, Nearest, Quality, Sets};
use crate::layers::flat;
use crate::pipeline::Pipeline;
use crate::report::grid;
use crate::report::pixels::level;
use crate::report::table::table;
use crate::{Error, Result, atomic};

/// The flags of `quality`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Pictures are compared with validation images, and beside each figure stands that of as many training images: real \
ones, so the best there is. +- is one standard deviation over other pictures of the same model.\n\nExamples:\n  ancestral \
quality\n      the model in the program, 2000 pictures\n  ancestral quality --model runs/digits --sampler ddim \
--steps 20 --json\n  ancestral quality --count 500 --nearest nearest.png --worst worst.png")]
pub struct Args {
    /// A run, a diffusers pipeline folder, or a bare network folder; the word `built-in` is the model of digits in the program
    #[arg(long, value_name = "DIR", default_value = BUILT_IN)]
    model: PathBuf,
    /// Pictures to draw and measure; figures of different numbers cannot be compared
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(FEWEST as i64..=65536))]
    count: u32,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    steered: SteeredBy,
    /// The images that the model was trained on, and those for validation: as for `train --data` [default: those of the
    /// run, else data/mnist]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What pictures are compared by: the folder of a classifier, or the word `pixels` [default: the classifier in the
    /// program if it was trained on these images, else pixels]
    #[arg(long, value_name = "DIR")]
    features: Option<PathBuf>,
    /// Also draw the pictures nearest to training images, each to the left of its training image
    #[arg(long, value_name = "FILE.png")]
    nearest: Option<PathBuf>,
    /// Also draw the pictures in which what was asked for is least likely
    #[arg(long, value_name = "FILE.png")]
    worst: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// Pictures in a sheet.
const SHOWN: usize = 40;

/// Draws pictures and measures them.
pub fn run(args: &Args) -> Result<Exit> {
    let model = args.steered.attach(read_model(&args.model)?)?;
    let settings = args.sampling.settings(&model, None)?;
    let run = run_of(&args.model)?;
    let path = data_for(args.data.as_deref(), run.as_ref());
    let (height, width, channels) = model.image_shape()?;
    let shape = Shape { height, width, channels };
    check_count(args.count as usize, (height, width, channels), 1)?;
    let leads = Ranks::current().leads();
    [&args.nearest, &args.worst].into_iter().flatten().filter(|_| leads).try_for_each(|file| atomic::probe(file))?;
    let [training, validation] =
        [data::load(&path, Split::Train, shape)?, data::load(&path, Split::Validation, shape)?];
    training.notes().iter().for_each(|line| note(&format!("note: {line}")));
    let (seen_by, saved) = seen_by(args, &training)?;
    let features = saved.as_ref().map_or(Features::Pixels, |s| Features::Classifier(&s.classifier, &s.weights));
    features.check(&training).map_err(|error| flag(error, &["features"]))?;
    if args.worst.is_some() && (saved.is_none() || model.classes().is_none()) {
        let expected = "not to be given: pictures are not read, or no classes are asked for";
        return Err(Error::value("--worst", expected, "a file"));
    }

    let how = Batches { batch: args.sampling.batch_size as usize, watched: 0 };
    let drawn = in_batches(&model, &settings, 0..u64::from(args.count), how, |_, _| {})
        .map_err(|error| flag(error, &["guidance", "guidance_interval"]))?;
    let pictures = as_dataset(&model, &args.model, &drawn)?;
    let sets = Sets { pictures: &pictures, training: &training, validation: &validation };
    let quality = sets.quality(&features)?;
    let (of_pictures, of_validation) = neighbours(&sets);
    if !leads {
        return Ok(Exit::Passed);
    }
    let files = sheets(args, &model, &sets, &features, &of_pictures)?;
    let distances = [&of_pictures, &of_validation].map(|nearest| Distances::of(nearest));
    let closer = of_pictures.iter().filter(|nearest| nearest.distance < distances[1].hundredth).count();
    let closer = closer as f64 / of_pictures.len() as f64;
    if args.json {
        let mut object = args.sampling.to_json(&model, &settings);
        let others = json!({
            "model": args.model.to_string_lossy(), "data": path.to_string_lossy(), "features": seen_by, "quality": quality,
            "nearest": {"pictures": distances[0], "validation": distances[1], "closer_than_a_hundredth": closer},
            "files": files.iter().map(|file| file.to_string_lossy()).collect::<Vec<_>>(),
        });
        for more in [others, args.steered.to_json()] {
            object.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        }
        print(object)?;
    } else {
        let (count, against) = (quality.count, quality.against);
        print(format!(
            "{count} pictures of {} beside {against} of {}, seen by {seen_by}",
            args.model.display(),
            validation.name()
        ))?;
        print(to_table(&quality))?;
        print(classes_to_table(&quality, &training))?;
        print(distances_to_table(distances, closer).trim_end())?;
        files.iter().try_for_each(|file| print(file.display()))?;
    }
    Ok(Exit::Passed)
}

/// What pictures are seen by, in words, and the classifier if it is one.
fn seen_by(args: &Args, training: &Dataset) -> Result<(String, Option<Saved>)> {
    let pixels = || Ok(("their pixels".to_string(), None));
    let named = |folder: &Path| format!("the classifier {}", folder.display());
    match args.features.as_deref() {
        Some(word) if word.as_os_str() == "pixels" => pixels(),
        Some(folder) => {
            let saved = if is_built_in(folder) { built_in::classifier() } else { classifier::read(folder) }?;
            match saved.data.as_ref().and_then(|data| data.difference(&training.fingerprint())) {
                Some(change) => note(&format!("note: the classifier was trained on other images: {change}")),
                None if saved.data.is_none() => note("note: the classifier does not say what it was trained on"),
                None => {}
            }
            Ok((named(folder), Some(saved)))
        }
        None => {
            let fits = |saved: &Saved| {
                saved.data.as_ref().is_some_and(|data| data.difference(&training.fingerprint()).is_none())
            };
            match Some(built_in::classifier()?).filter(fits) {
                Some(saved) => Ok((named(Path::new(BUILT_IN)), Some(saved))),
                None => {
                    note(
                        "note: there is no classifier of these images, so pictures are compared by their pixels and not \
                         read; train one on labelled images: ancestral classify train --data DIR, and name it by --features",
                    );
                    pixels()
                }
            }
        }
    }
}

/// The pictures rounded to 8 bits, as files have them; their labels are what was asked for.
fn as_dataset(model: &Pipeline, folder: &Path, drawn: &Array4<f32>) -> Result<Dataset> {
    let (count, height, width, channels) = drawn.dim();
    let bytes = flat(drawn).iter().map(|&x| level(x)).collect();
    let pictures = Dataset::new(folder.display().to_string(), Shape { height, width, channels }, bytes)?;
    match model.classes() {
        Some(classes) => pictures.with_labels((0..count).map(|i| (i % classes) as u32).collect(), classes),
        None => Ok(pictures),
    }
}

/// The nearest training images of the pictures, and of as many validation images.
fn neighbours(sets: &Sets) -> (Vec<Nearest>, Vec<Nearest>) {
    let count = sets.pictures.len();
    let others = sets.first(sets.validation, count);
    let [first, second] = [count, others.len()].map(|count| comparisons(count, sets.training.len()));
    let mut progress = Progress::new("comparing", (first + second) as u64, "training images");
    let indices: Vec<usize> = (0..count).collect();
    let of_pictures = nearest(sets.pictures, &indices, sets.training, |done| progress.set(done as u64, "pictures"));
    let of_others = nearest(sets.validation, &others, sets.training, |done| {
        progress.set((first + done) as u64, "validation images");
    });
    progress.finish("done");
    (of_pictures, of_others)
}

/// The sheets that were asked for.
fn sheets(
    args: &Args,
    model: &Pipeline,
    sets: &Sets,
    features: &Features,
    nearest: &[Nearest],
) -> Result<Vec<PathBuf>> {
    let scale = scale_for(sets.pictures.shape().height);
    let mut files = Vec::new();
    if let Some(file) = &args.nearest {
        let mut order: Vec<usize> = (0..nearest.len()).collect();
        order.sort_by(|&a, &b| nearest[a].distance.total_cmp(&nearest[b].distance));
        order.truncate(SHOWN / 2);
        let pairs = order.iter().map(|&i| (sets.pictures.batch(&[i]), sets.training.batch(&[nearest[i].index])));
        let images: Vec<Array4<f32>> = pairs.flat_map(|(picture, training)| [picture, training]).collect();
        let views: Vec<_> = images.iter().map(|image| image.view()).collect();
        let sheet = ndarray::concatenate(Axis(0), &views).expect("images of one shape");
        grid(&sheet, Some(8), 2, scale).save_png(file)?;
        files.push(file.clone());
    }
    if let Some(file) = &args.worst {
        let indices: Vec<usize> = (0..sets.pictures.len()).collect();
        let log_p = sets.log_p_asked(&features.of(sets.pictures, &indices));
        let log_p = log_p
            .ok_or_else(|| Error::value("--worst", "a classifier of as many classes as the model has", "another"))?;
        let columns = columns_for(model);
        let order = worst_first(sets.pictures, &log_p, columns);
        grid(&sets.pictures.batch(&order), columns, 2, scale).save_png(file)?;
        files.push(file.clone());
    }
    Ok(files)
}

/// The pictures in which what was asked for is least likely; a column a class, if there are so many columns.
fn worst_first(pictures: &Dataset, log_p: &[f64], columns: Option<usize>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..log_p.len()).collect();
    order.sort_by(|&a, &b| log_p[a].total_cmp(&log_p[b]));
    let Some(columns) = columns else {
        order.truncate(SHOWN);
        return order;
    };
    let mut classes = vec![Vec::new(); columns];
    for i in order {
        classes[pictures.label(i).map_or(0, |label| label as usize)].push(i);
    }
    let fewest = classes.iter().map(Vec::len).fold(usize::MAX, usize::min);
    (0..fewest.min(SHOWN.div_ceil(columns))).flat_map(|row| classes.iter().map(move |class| class[row])).collect()
}

fn percent(figure: Figure) -> String {
    format!("{:.1} +- {:.1} %", 100.0 * figure.value, 100.0 * figure.standard_error)
}

fn number(figure: Figure) -> String {
    format!("{:.4} +- {:.4}", figure.value, figure.standard_error)
}

/// The measures of the pictures and of training images, a row each.
fn to_table(quality: &Quality) -> String {
    let row = |name: &str, of: fn(&Likeness) -> String| vec![name.into(), of(&quality.pictures), of(&quality.training)];
    let mut rows = vec![
        row("Frechet distance", |likeness| number(likeness.frechet_distance)),
        row("precision", |likeness| percent(likeness.precision)),
        row("recall", |likeness| percent(likeness.recall)),
    ];
    if let Some(accuracy) = quality.class_accuracy {
        rows.insert(0, vec!["read as asked".into(), percent(accuracy), "-".into()]);
    }
    table(&["measure", "pictures", "training images"], &rows)
}

fn classes_to_table(quality: &Quality, data: &Dataset) -> String {
    let name =
        |class: usize| data.class_names().and_then(|names| names.get(class).cloned()).unwrap_or(class.to_string());
    let rows: Vec<Vec<String>> = quality
        .classes
        .iter()
        .map(|of| {
            let read = of.class_accuracy.map_or("-".into(), percent);
            let [distance, best] = [of.pictures, of.training].map(|likeness| number(likeness.frechet_distance));
            vec![name(of.class), read, distance, best, percent(of.pictures.precision), percent(of.pictures.recall)]
        })
        .collect();
    table(&["class", "read as asked", "Frechet distance", "of training images", "precision", "recall"], &rows)
}

fn distances_to_table([pictures, validation]: [Distances; 2], closer: f64) -> String {
    let row = |name: &str, d: Distances| {
        let numbers = [d.least, d.hundredth, d.tenth, d.median].map(|x| format!("{x:.4}"));
        std::iter::once(name.to_string()).chain(numbers).collect()
    };
    let rows = [row("pictures", pictures), row("validation images", validation)];
    let headers = ["distance to the nearest training image", "least", "1 % below", "10 % below", "50 % below"];
    let closer = 100.0 * closer;
    format!(
        "{}{closer:.1} % of the pictures are nearer than 99 % of validation images are; copies would be more than 1 %\n",
        table(&headers, &rows)
    )
}
