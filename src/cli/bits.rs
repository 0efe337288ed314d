//! `ancestral eval --bits-per-dim`: what an image costs, in parts and by timestep.

use std::path::Path;

use serde_json::json;

use super::choices::{cdfs, variances};
use super::progress::Progress;
use super::{Exit, Subject, flag, print};
use crate::Result;
use crate::data::Dataset;
use crate::diffusion::Variance;
use crate::diffusion::likelihood::Cdf;
use crate::evaluate::{Bits, BitsSettings, ExactBits, Mean, bits_per_dim, exact_bits};
use crate::numerics::ode::Tolerance;
use crate::pipeline::Pipeline;
use crate::report::cost::{Part, cost_of_an_image};
use crate::report::table::table;
use crate::sample::timesteps;

/// The flags of the bound.
#[derive(Debug, clap::Args)]
#[group(id = "bits")]
pub struct Args {
    /// The variational bound in bits per dimension instead: every image is looked at at every t
    #[arg(long)]
    pub bits_per_dim: bool,
    /// How many steps the chain of the bound has [default: all]
    #[arg(long, value_name = "N", requires = "bits_per_dim", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// The variance of its steps [default: what the model says]
    #[arg(long, requires = "bits_per_dim", value_parser = variances())]
    variance: Option<Variance>,
    /// The decoder's normal distribution
    #[arg(long, requires = "bits_per_dim", value_parser = cdfs(), default_value = "erf")]
    cdf: Cdf,
    /// Also the exact likelihood by the probability-flow ODE: passes forward and back
    #[arg(long, requires = "bits_per_dim")]
    exact: bool,
    /// What error a step of the ODE may have
    #[arg(long, requires = "exact", value_name = "X", default_value_t = 1e-4, value_parser = tolerance)]
    tolerance: f64,
}

/// A tolerance that float32 networks can keep.
fn tolerance(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (1e-6..=0.1).contains(&number) => Ok(number),
        _ => Err("expected a number from 1e-6 to 0.1".into()),
    }
}

/// What is known of one set of weights.
struct Found {
    name: &'static str,
    bits: Bits,
    exact: Option<ExactBits>,
}

impl Args {
    /// Computes, prints and draws the bound of every subject.
    ///
    /// # Errors
    /// As [`bits_per_dim`]; whatever the operating system refuses.
    pub fn run(
        &self,
        model: &Pipeline,
        subjects: &[Subject],
        data: &Dataset,
        images: usize,
        as_json: bool,
        plot: Option<&Path>,
    ) -> Result<Exit> {
        let settings = self.settings(model, images.min(data.len()))?;
        let results = self.all(model, subjects, data, &settings)?;
        if let (Some(path), Some(Found { name, bits, .. })) = (plot, results.last()) {
            let title = format!("Bits per dimension of {} images of {}, {name}", bits.images, data.name());
            let nearest: Vec<_> =
                bits.times.iter().copied().zip(bits.terms.iter().map(|term| term.mean)).take(10).collect();
            cost_of_an_image(&title, &parts(bits), &nearest, path)?;
        }
        let text = if as_json { to_json(&results, &settings, data.name()) } else { to_table(&results, data.name()) };
        print(text.trim_end())?;
        Ok(Exit::Passed)
    }

    fn all(
        &self,
        model: &Pipeline,
        subjects: &[Subject],
        data: &Dataset,
        settings: &BitsSettings,
    ) -> Result<Vec<Found>> {
        let of_all = |title: &'static str| Progress::new(title, (settings.images * subjects.len()) as u64, "images");
        let mut found = Vec::new();
        let mut progress = of_all("bits per dimension");
        for (i, &Subject { name, weights }) in subjects.iter().enumerate() {
            let done = |done| progress.set((i * settings.images + done) as u64, name);
            found.push(Found { name, bits: bits_per_dim(model, weights, data, settings, done)?, exact: None });
        }
        progress.finish("done");
        if self.exact {
            let tolerance = Tolerance { relative: self.tolerance, absolute: self.tolerance };
            let mut progress = of_all("exact likelihood");
            for (i, (&Subject { name, weights }, found)) in subjects.iter().zip(&mut found).enumerate() {
                let done = |done| progress.set((i * settings.images + done) as u64, name);
                found.exact = Some(exact_bits(model, weights, data, settings, tolerance, done)?);
            }
            progress.finish("done");
        }
        Ok(found)
    }

    fn settings(&self, model: &Pipeline, images: usize) -> Result<BitsSettings> {
        let scheduler = model.scheduler();
        let t_max = scheduler.schedule.t_max();
        let steps = self.steps.map_or(t_max, |steps| steps as usize);
        let times = timesteps(scheduler.spacing, t_max, steps, if steps == t_max { 0 } else { scheduler.steps_offset });
        let mut times = times.map_err(flag_of_steps)?;
        times.reverse();
        Ok(BitsSettings { images, times, variance: self.variance.unwrap_or(scheduler.options.variance), cdf: self.cdf })
    }
}

fn flag_of_steps(error: crate::Error) -> crate::Error {
    match error {
        crate::Error::Value { expected, found, .. } => crate::Error::value("--steps", expected, found),
        other => flag(other, &[]),
    }
}

/// First and last index of the terms behind the decoder's that are told of together: to t = 10, to 100, and then hundreds.
fn groups(bits: &Bits) -> Vec<std::ops::Range<usize>> {
    let last = bits.times.last().copied().unwrap_or(1);
    let ends = [10, 100].into_iter().chain((2..=last.div_ceil(100)).map(|hundred| hundred * 100));
    let (mut groups, mut from) = (Vec::new(), 1);
    for end in ends {
        let to = bits.times.partition_point(|&t| t <= end).max(1);
        if to > from {
            groups.push(from..to);
            from = to;
        }
    }
    groups
}

/// The parts of the plot, from the image outwards.
fn parts(bits: &Bits) -> Vec<Part> {
    let sum = |from: usize, to: usize| -> f64 {
        bits.times
            .iter()
            .zip(&bits.terms)
            .skip(1)
            .filter(|(t, _)| (from..=to).contains(*t))
            .fold(0.0, |sum, (_, term)| sum + term.mean)
    };
    let part = |name: &str, bits: f64| Part { name: name.into(), bits };
    vec![
        part("decoder", bits.decoder.mean),
        part("t to 10", sum(0, 10)),
        part("t 11 to 100", sum(11, 100)),
        part("t above 100", sum(101, usize::MAX)),
        part("prior", bits.prior.mean),
    ]
}

/// One JSON object: for each subject the parts, and all terms.
fn to_json(results: &[Found], settings: &BitsSettings, data: &str) -> String {
    let of = |Found { name, bits, exact }: &Found| {
        let mut value = serde_json::to_value(bits).expect("numbers are JSON");
        if let Some(exact) = exact {
            value["exact"] = json!(exact);
        }
        (value["data"], value["variance"], value["cdf"]) = (json!(data), json!(settings.variance), json!(settings.cdf));
        (name.replace(' ', "_").to_lowercase(), value)
    };
    let object: serde_json::Map<_, _> = results.iter().map(of).collect();
    serde_json::to_string_pretty(&object).expect("numbers are JSON") + "\n"
}

/// The table that people read: for each subject the parts from the noise to the image, and the total last.
fn to_table(results: &[Found], data: &str) -> String {
    let headers = ["weights", "part", "t", "bits/dim", "+-", "of all", "RMSE of x_0"];
    let mut rows = Vec::new();
    for Found { name, bits, exact } in results {
        let mut row = |part: &str, t: String, mean: f64, margin: Option<f64>, rmse: Option<f64>| {
            let optional = |number: Option<f64>| number.map_or(String::new(), |x| format!("{x:.5}"));
            let share = format!("{:.2} %", 100.0 * mean / bits.total.mean);
            rows.push(vec![
                name.to_string(),
                part.into(),
                t,
                format!("{mean:.5}"),
                optional(margin),
                share,
                optional(rmse),
            ]);
        };
        let whole = |mean: &Mean| (mean.mean, mean.margin);
        let (prior, decoder, total) = (whole(&bits.prior), whole(&bits.decoder), whole(&bits.total));
        let last = bits.times.last().copied().unwrap_or(0);
        row("prior", last.to_string(), prior.0, prior.1, None);
        for group in groups(bits).into_iter().rev() {
            let (first, last) = (bits.times[group.start], bits.times[group.end - 1]);
            let sum = bits.terms[group.clone()].iter().map(|term| term.mean).sum();
            let mse = bits.x_0_mse[group.clone()].iter().sum::<f64>() / group.len() as f64;
            row("KL", format!("{first}..{last}"), sum, None, Some(mse.sqrt()));
        }
        row("decoder", bits.times[0].to_string(), decoder.0, decoder.1, Some(bits.x_0_mse[0].sqrt()));
        row("all", String::new(), total.0, total.1, None);
        if let Some(exact) = exact {
            row("exact", String::new(), exact.total.mean, exact.total.margin, None);
        }
    }
    let (count, steps) = results.first().map_or((0, 0), |found| (found.bits.images, found.bits.times.len()));
    let head = format!("Variational bound of {count} images of {data} in {steps} steps; +- is half of a 95 % interval");
    let passes = results.iter().filter_map(|found| found.exact.as_ref()).map(|exact| exact.evaluations);
    let tail: String =
        passes.map(|passes| format!("exact: {passes:.0} passes forward and back for an image\n")).collect();
    format!("{head}\n{}{tail}", table(&headers, &rows))
}
