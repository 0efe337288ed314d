//! `ancestral sample`: pictures from noise, and how they came about.

use std::path::PathBuf;

use serde_json::json;

mod outputs;

use super::pictures::{check_count, columns_for, in_batches, scale_for};
use super::sampling::Sampling;
use super::{Exit, class_of, flag, print, read_model};
use crate::digest::sha256;
use crate::layers::flat;
use crate::npy;
use crate::report::Picture;
use crate::report::animation::save_gif;
use crate::report::film::Film;
use crate::report::grid;
use crate::{Error, Result};

/// The flags of `sample`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Picture i of a seed is one fixed picture: alone or among others, whatever the batch size and the \
threads.\n\nExamples:\n  ancestral sample\n      60 digits from the model in the tree, one column per \
digit\n  ancestral sample --sampler unipc --steps 8\n      the same digits in an eighth of the time\n  ancestral sample --count 1 --first-index 17 --out 17.png\n      the 18th of them alone\n  ancestral \
sample --class 7 --guidance 3\n      sevens, and nothing like other digits\n  ancestral sample --steps \
1000\n      Algorithm 2 in full\n  ancestral sample --npy pictures.npy\n      float32 (n, c, h, w) \
for numpy.load\n  ancestral sample --count 8 --strip strip.png --animation film.gif\n      the reverse \
process")]
pub struct Args {
    /// A run, a diffusers pipeline folder, or a bare U-Net folder
    #[arg(long, value_name = "DIR", default_value = "data/models/digits")]
    model: PathBuf,
    /// Pictures to draw
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=65536))]
    count: u32,
    #[command(flatten)]
    sampling: Sampling,
    /// The index of the first picture
    #[arg(long, value_name = "I", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..1 << 48))]
    first_index: u64,
    /// The class of every picture, by number or name, for a conditional model [default: all in turn]
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
}

/// Draws pictures and writes what was asked for.
pub fn run(args: &Args) -> Result<Exit> {
    let model = read_model(&args.model)?;
    let settings = args.sampling.settings(&model, class_of(&model, args.class.as_deref())?)?;
    let (height, width, channels) = model.image_shape()?;
    if channels != 1 && channels != 3 {
        return Err(Error::value("in_channels", "1 (grey) or 3 (colour), for pictures", channels));
    }
    let scale = args.scale.map_or(scale_for(height), usize::from);
    check_count(args.count as usize, (height, width, channels), scale)?;
    outputs::check(args)?;
    let mut film = Film::new(settings.chain.len(), args.strip.is_some(), args.animation.is_some());
    let indices = args.first_index..args.first_index + u64::from(args.count);
    let pictures =
        in_batches(&model, &settings, indices.clone(), args.sampling.batch_size as usize, |first, moment| {
            film.watch(first, moment)
        })
        .map_err(|error| flag(error, &["class", "guidance"]))?;
    let all_classes = if args.class.is_none() { columns_for(&model) } else { None };
    let columns = args.columns.map(|n| n as usize).or(all_classes);
    let mut files = vec![args.out.clone()];
    grid(&pictures, columns, 2, scale).save_png(&args.out)?;
    if let Some(folder) = &args.singles {
        for (picture, index) in pictures.outer_iter().zip(indices) {
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
        film.strip(&pictures, scale).save_png(path)?;
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
        let mut settings_of = args.sampling.to_json(&model, &settings);
        let object = settings_of.as_object_mut().expect("an object");
        let others = json!({
            "model": args.model.to_string_lossy(), "count": n, "height": h, "width": w, "channels": c,
            "first_index": args.first_index, "class": settings.class, "files": files, "sha256": sha256,
        });
        object.extend(others.as_object().expect("an object").clone());
        print(settings_of)?;
    } else {
        files.iter().try_for_each(|file| print(file.display()))?;
        print(format!("SHA-256 of the pictures, float32 (n, h, w, c): {sha256}"))?;
    }
    Ok(Exit::Passed)
}
