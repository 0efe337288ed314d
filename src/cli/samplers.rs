//! `ancestral samplers`: every sampler on one model, beside the solution that all deterministic ones approach.

use std::path::PathBuf;

use ndarray::{Array4, s};
use serde_json::{Value, json};

use super::built_in::BUILT_IN;
use super::pictures::{Batches, in_batches, scale_for};
use super::{Exit, print, read_model};
use crate::diffusion::Process;
use crate::pipeline::{Pipeline, Scheduler};
use crate::report::sheet::sheet;
use crate::report::table::table;
use crate::sample::{Sampler, Settings, Spacing, edit};
use crate::{Error, Result, atomic};

/// Steps of the solution, or T where that is less.
const SOLUTION: usize = 1000;

/// The flags of `samplers`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each sampler draws the same pictures from the same noise. The error is the root mean square \
difference of pixels in [-1, 1] from Heun's solution of the probability-flow equation in 1000 \
steps; samplers that draw noise solve another equation and have none.\n\nExample:\n  ancestral samplers \
--model runs/digits --out samplers.png")]
pub struct Args {
    /// A run, a diffusers pipeline folder, or a bare U-Net folder
    #[arg(long, value_name = "DIR", default_value = BUILT_IN)]
    model: PathBuf,
    /// Numbers of steps
    #[arg(long, value_name = "N", num_args = 1.., default_values_t = [5, 10, 20, 50])]
    steps: Vec<usize>,
    /// Pictures of each sampler
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    count: u64,
    /// The seed
    #[arg(long, value_name = "S", default_value_t = 42)]
    seed: u64,
    /// The picture of all of them
    #[arg(long, value_name = "FILE.png", default_value = "samplers.png")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Draws by every sampler, and prints how far each is from the solution.
pub fn run(args: &Args) -> Result<Exit> {
    let model = read_model(&args.model)?;
    let t_max = model.scheduler().schedule.t_max();
    if let Some(steps) = args.steps.iter().find(|steps| !(1..=t_max).contains(*steps)) {
        return Err(Error::value("--steps", format!("1 to {t_max}, the model's T"), steps));
    }
    let channels = model.image_shape()?.2;
    if channels != 1 && channels != 3 {
        return Err(Error::value("in_channels", "1 (grey) or 3 (colour), for pictures", channels));
    }
    atomic::probe(&args.out)?;
    let draw = |sampler: Sampler, steps: usize| -> Result<(Array4<f32>, usize)> {
        let settings = settings(&model, sampler, steps, args.seed)?;
        let pictures = in_batches(
            &model,
            &settings,
            0..args.count,
            Batches { batch: args.count as usize, watched: 0 },
            |_, _| (),
        )?;
        Ok((pictures, settings.chain.len()))
    };
    let solution = draw(Sampler::Heun, SOLUTION.min(t_max))?.0;
    let samplers = samplers(model.scheduler().schedule.process());
    let (mut rows, mut cells) = (Vec::new(), vec![solution.clone(); args.steps.len()]);
    for &sampler in &samplers {
        let options = &model.scheduler().options;
        let mut row = Vec::new();
        for &steps in &args.steps {
            let (pictures, evaluations) = draw(sampler, steps)?;
            let error = edit::is_deterministic(sampler, options).then(|| rmse(&pictures, &solution));
            row.push((error, evaluations));
            cells.push(pictures);
        }
        rows.push((sampler.entry().name, row));
    }
    let names: Vec<String> = ["solution"].into_iter().chain(rows.iter().map(|row| row.0)).map(String::from).collect();
    let columns: Vec<String> = args.steps.iter().map(|steps| format!("{steps} steps")).collect();
    sheet(&side_by_side(&cells), "", &columns, &names, scale_for(solution.dim().1)).save_png(&args.out)?;
    if args.json {
        print(to_json(args, &rows))?;
    } else {
        print(to_text(args, &rows))?;
        print(args.out.display())?;
    }
    Ok(Exit::Passed)
}

/// The samplers for this noise.
fn samplers(process: Process) -> Vec<Sampler> {
    let fits = |sampler: &Sampler| match sampler {
        Sampler::DdimInverse => false,
        Sampler::FlowEuler => matches!(process, Process::Flow { .. }),
        Sampler::EdmEuler | Sampler::EdmDpm => matches!(process, Process::Edm { .. }),
        _ => true,
    };
    Sampler::ALL.iter().copied().filter(fits).collect()
}

/// Those of `sample`, from T.
fn settings(model: &Pipeline, sampler: Sampler, steps: usize, seed: u64) -> Result<Settings> {
    let scheduler = Scheduler { sampler, spacing: Spacing::Trailing, ..model.scheduler().clone() };
    Ok(Settings { seed, sampler, chain: scheduler.chain(steps)?, ..Settings::new(model)? })
}

fn rmse(a: &Array4<f32>, b: &Array4<f32>) -> f64 {
    let squares = a.iter().zip(b).map(|(&a, &b)| f64::from(a - b) * f64::from(a - b));
    (squares.sum::<f64>() / a.len() as f64).sqrt()
}

/// Each array of pictures as one wide picture.
fn side_by_side(cells: &[Array4<f32>]) -> Array4<f32> {
    let (n, h, w, c) = cells[0].dim();
    let mut wide = Array4::zeros((cells.len(), h, n * w, c));
    for (cell, pictures) in cells.iter().enumerate() {
        for (i, picture) in pictures.outer_iter().enumerate() {
            wide.slice_mut(s![cell, .., i * w..(i + 1) * w, ..]).assign(&picture);
        }
    }
    wide
}

/// The errors of a sampler, and its evaluations.
type Row = (&'static str, Vec<(Option<f64>, usize)>);

fn to_text(args: &Args, rows: &[Row]) -> String {
    let steps: Vec<String> = args.steps.iter().map(usize::to_string).collect();
    let head: Vec<&str> = ["sampler"].into_iter().chain(steps.iter().map(String::as_str)).collect();
    let cell = |(error, evaluations): &(Option<f64>, usize), steps: usize| {
        let more = if *evaluations == steps { String::new() } else { format!(" ({evaluations})") };
        error.map_or(format!("-{more}"), |error| format!("{error:.4}{more}"))
    };
    let body: Vec<Vec<String>> = rows
        .iter()
        .map(|(name, row)| {
            let cells = row.iter().zip(&args.steps).map(|(found, &steps)| cell(found, steps));
            [name.to_string()].into_iter().chain(cells).collect()
        })
        .collect();
    let best = args.steps.iter().enumerate().filter_map(|(column, steps)| {
        let of = |row: &Row| row.1[column].0.map(|error| (error, row.0));
        let (error, name) = rows.iter().filter_map(of).min_by(|a, b| a.0.total_cmp(&b.0))?;
        Some(format!("nearest at {steps} steps: {name}, {error:.4}"))
    });
    let best: Vec<String> = best.collect();
    let title = "Root mean square error against Heun's solution, by steps (evaluations where they are others)";
    format!("{title}\n{}{}", table(&head, &body), best.join("\n"))
}

fn to_json(args: &Args, rows: &[Row]) -> Value {
    let samplers = rows.iter().map(|(name, row)| {
        let (errors, evaluations): (Vec<_>, Vec<_>) = row.iter().copied().unzip();
        json!({ "sampler": name, "rmse": errors, "evaluations": evaluations })
    });
    json!({
        "model": args.model.to_string_lossy(), "seed": args.seed, "count": args.count, "steps": args.steps,
        "samplers": samplers.collect::<Vec<_>>(), "files": [args.out.to_string_lossy()],
    })
}
