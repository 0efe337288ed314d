//! `ancestral sample`: pictures from noise, and how they came about.

use std::path::PathBuf;

use ndarray::Array4;
use serde_json::{Value, json};

mod edit;
mod outputs;
mod sources;

use self::edit::{Edits, Plan};
use super::built_in::BUILT_IN;
use super::pictures::{Batches, check_count, columns_for, in_batches, scale_for};
use super::sampling::Sampling;
use super::steered_by::SteeredBy;
use super::{Exit, class_of, flag, print, read_model};
use crate::cluster::Ranks;
use crate::digest::sha256;
use crate::layers::flat;
use crate::npy;
use crate::report::Picture;
use crate::report::animation::save_gif;
use crate::report::film::Film;
use crate::report::grid;
use crate::report::sheet::sheet;
use crate::sample::Moment;
use crate::{Error, Result};

/// The flags that the library names as fields.
const FLAGS: [&str; 4] = ["class", "guidance", "guidance_interval", "sampler"];

/// The flags of `sample`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Picture i of a seed is one fixed picture: alone or among others, whatever the batch size and the \
threads.\n\nExamples:\n  ancestral sample\n      60 digits from the model in the program, one column per \
digit\n  ancestral sample --sampler unipc --steps 8\n      the same digits in less than half of the \
time\n  ancestral sample --count 1 --first-index 17 --out 17.png\n      the 18th of them alone\n  ancestral \
sample --class 7 --guidance 3\n      sevens, and nothing like other digits\n  ancestral sample --sampler ddpm \
--steps 1000\n      Algorithm 2 in full\n  ancestral sample --npy pictures.npy\n      float32 (n, c, h, w) \
for numpy.load\n  ancestral sample --count 8 --strip strip.png --animation film.gif\n      the reverse \
process")]
pub struct Args {
    /// A run, a diffusers pipeline folder, or a bare network folder; the word `built-in` is the model of digits in the program
    #[arg(long, value_name = "DIR", default_value = BUILT_IN)]
    model: PathBuf,
    /// Pictures to draw, or of each picture that is edited [default: 60; 4 of an edit, 8 on the way to another picture]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    count: Option<u32>,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    steered: SteeredBy,
    /// The index of the first picture
    #[arg(long, value_name = "I", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..1 << 48))]
    first_index: u64,
    /// The class of every picture, by number or name, for a conditional model [default: all in turn; none of an edit]
    #[arg(long, value_name = "K")]
    class: Option<String>,
    /// The grid of all pictures
    #[arg(long, value_name = "FILE.png", default_value = "samples.png")]
    out: PathBuf,
    /// Also write each picture at its own size into this folder, as INDEX.png
    #[arg(long, value_name = "DIR")]
    singles: Option<PathBuf>,
    /// Also write the pictures as numbers, float32 (n, c, h, w), for numpy.load
    #[arg(long, value_name = "FILE.npy")]
    npy: Option<PathBuf>,
    /// Also draw x_t and the predicted x_0 of the first 8 pictures along the reverse process
    #[arg(long, value_name = "FILE.png")]
    strip: Option<PathBuf>,
    /// Also animate the grid of the first 64 pictures along the reverse process
    #[arg(long, value_name = "FILE.gif")]
    animation: Option<PathBuf>,
    /// Pictures in a row of the grid [default: one column per class, or near square]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    columns: Option<u32>,
    /// Screen pixels for each pixel of a picture [default: 1 to 4 by size]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    scale: Option<u8>,
    /// Print one JSON object: settings, files, the SHA-256 of the pictures
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    edits: Edits,
}

impl Args {
    fn batches(&self) -> Batches {
        let watched = Film::first_pictures(self.strip.is_some(), self.animation.is_some());
        Batches { batch: self.sampling.batch_size as usize, watched }
    }
}

/// Pictures, and what is written of them.
struct Drawn {
    /// The class that was asked for.
    class: Option<usize>,
    /// Shape (n, h, w, c).
    pictures: Array4<f32>,
    /// The settings.
    json: Value,
    /// Of an edit: the images of the grid row by row, the names of its columns, and how many rows.
    sheet: Option<(Array4<f32>, Vec<String>, usize)>,
}

/// What made the pictures, in a line.
fn caption(settings: &Value) -> String {
    let word = |name: &str| settings[name].as_str().map_or(settings[name].to_string(), String::from);
    let mut caption = format!("{}, {} steps, seed {}", word("sampler"), word("steps"), word("seed"));
    if settings["guidance"] != json!(1.0) {
        caption += &format!(", guidance {}", word("guidance"));
    }
    if let [least, most] = settings["guidance_interval"].as_array().map_or(&[][..], Vec::as_slice) {
        caption += &format!(" where sigma/signal is in {least} to {most}");
    }
    caption
}

/// Draws pictures and writes what was asked for.
pub fn run(args: &Args) -> Result<Exit> {
    let model = args.steered.attach(read_model(&args.model)?)?;
    let (height, width, channels) = model.image_shape()?;
    if channels != 1 && channels != 3 {
        return Err(Error::value("in_channels", "1 (grey) or 3 (colour), for pictures", channels));
    }
    let scale = args.scale.map_or(scale_for(height), usize::from);
    let check = |count: usize| {
        check_count(count, (height, width, channels), scale)?;
        outputs::check(args)
    };
    let new_film = |steps: usize| Film::new(steps, args.strip.is_some(), args.animation.is_some());
    let (drawn, film) = if args.edits.from.is_empty() {
        let settings = args.sampling.settings(&model, class_of("--class", &args.class, &model)?)?;
        let count = args.count.unwrap_or(60);
        check(count as usize)?;
        let mut film = new_film(settings.chain.len());
        let indices = args.first_index..args.first_index + u64::from(count);
        let watch = |first: usize, moment: &Moment| film.watch(first, moment);
        let pictures = in_batches(&model, &settings, indices, args.batches(), watch).map_err(|e| flag(e, &FLAGS))?;
        let json = args.sampling.to_json(&model, &settings);
        (Drawn { class: settings.class, pictures, json, sheet: None }, film)
    } else {
        let plan = Plan::new(&model, args)?;
        check(plan.pictures())?;
        let mut film = new_film(plan.steps());
        (plan.run(|first, moment| film.watch(first, moment)).map_err(|e| flag(e, &FLAGS))?, film)
    };
    let Drawn { class, pictures, json, sheet: named } = drawn;
    if !Ranks::current().leads() {
        return Ok(Exit::Passed);
    }
    let all_classes = if args.class.is_none() && named.is_none() { columns_for(&model) } else { None };
    let columns = args.columns.map(|n| n as usize).or(all_classes);
    let mut files = vec![args.out.clone()];
    match named {
        None => grid(&pictures, columns, 2, scale).save_png(&args.out)?,
        Some((images, names, rows)) => {
            sheet(&images, "", &names, &vec![String::new(); rows], scale).save_png(&args.out)?;
        }
    }
    if let Some(folder) = &args.singles {
        for (picture, index) in pictures.outer_iter().zip(args.first_index..) {
            let file = folder.join(format!("{index:06}.png"));
            Picture::new(picture).save_png(&file)?;
            files.push(file);
        }
    }
    if let Some(path) = &args.npy {
        npy::write_images(pictures.view(), path)?;
        files.push(path.clone());
    }
    if let Some(path) = &args.strip {
        film.strip(&pictures, &caption(&json), scale).save_png(path)?;
        files.push(path.clone());
    }
    if let Some(path) = &args.animation {
        save_gif(&film.frames(&pictures, columns, scale), 60, 2500, path)?;
        files.push(path.clone());
    }

    let bytes: Vec<u8> = flat(&pictures).iter().flat_map(|x| x.to_le_bytes()).collect();
    let sha256 = sha256(&bytes);
    if args.json {
        let (n, h, w, c) = pictures.dim();
        let files: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
        let mut settings_of = json;
        let object = settings_of.as_object_mut().expect("an object");
        let others = json!({
            "model": args.model.to_string_lossy(), "count": n, "height": h, "width": w, "channels": c,
            "first_index": args.first_index, "class": class, "files": files, "sha256": sha256,
        });
        for more in [others, args.steered.to_json()] {
            object.extend(more.as_object().expect("an object").clone());
        }
        print(settings_of)?;
    } else {
        files.iter().try_for_each(|file| print(file.display()))?;
        print(format!("SHA-256 of the pictures, float32 (n, h, w, c): {sha256}"))?;
    }
    Ok(Exit::Passed)
}
