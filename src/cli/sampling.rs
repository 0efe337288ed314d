//! The flags that say how pictures are drawn, for the subcommands that draw.

use serde_json::{Value, json};

use super::progress::note;
use super::{choices, flag};
use crate::diffusion::Variance;
use crate::pipeline::Pipeline;
use crate::sample::{Choice, Conventions, Sampler, SamplerOptions, Settings, Spacing, timesteps};
use crate::{Error, Result};

/// How pictures are drawn.
#[derive(Debug, clap::Args)]
pub(super) struct Sampling {
    /// The seed
    #[arg(long, value_name = "S", default_value_t = 42)]
    seed: u64,
    /// The rule of a reverse step
    #[arg(long, value_parser = choices::samplers(), default_value = "ddpm")]
    sampler: Sampler,
    /// Reverse steps, at most the model's T [default: 200 for ddpm, 50 for ddim]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Noise in ddim: 0 deterministic, 1 as much as ancestral sampling [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    eta: Option<f64>,
    /// The variance of ddpm [default: the model's]
    #[arg(long, value_parser = choices::variances())]
    variance: Option<Variance>,
    /// Which timesteps a shorter chain visits [default: the model's]
    #[arg(long, value_parser = choices::spacings())]
    spacing: Option<Spacing>,
    /// After clipping x_0 in ddim keep the network's eps, as diffusers does, instead of deriving it again
    #[arg(long)]
    keep_eps: bool,
    /// Guidance weight w: eps = eps(none) + w (eps(class) - eps(none)); 1 is none [default: 2 where the model was
    /// trained with hidden labels, else 1]
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    guidance: Option<f64>,
    /// Pictures in memory at a time
    #[arg(long, value_name = "B", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch_size: u32,
}

impl Sampling {
    /// The settings for pictures of a model, of this class or of all in turn.
    ///
    /// # Errors
    /// A flag that the sampler has no use for, or a value out of its range.
    pub fn settings(&self, model: &Pipeline, class: Option<usize>) -> Result<Settings> {
        Ok(Settings {
            seed: self.seed,
            sampler: self.sampler,
            options: self.options(model)?,
            timesteps: self.timesteps(model)?,
            class,
            guidance: self.guidance.unwrap_or(if model.null_class().is_some() { 2.0 } else { 1.0 }),
        })
    }

    /// What made the pictures, by the flags' names.
    pub fn to_json(&self, model: &Pipeline, settings: &Settings) -> Value {
        let takes = |choice, value: Value| if self.sampler.takes(choice) { value } else { json!(null) };
        json!({
            "seed": self.seed, "sampler": self.sampler.entry().name, "steps": settings.timesteps.len(),
            "spacing": self.spacing(model), "eta": takes(Choice::Eta, json!(settings.options.eta)),
            "variance": takes(Choice::Variance, json!(word(settings.options.variance))), "keep_eps": self.keep_eps,
            "guidance": settings.guidance,
        })
    }

    fn options(&self, model: &Pipeline) -> Result<SamplerOptions> {
        let name = self.sampler.entry().name;
        let refuse = |flag: &str, given: bool, choice: Choice, found: String| match given && !self.sampler.takes(choice)
        {
            true => Err(Error::value(flag, format!("not to be given: the sampler {name} has no use for it"), found)),
            false => Ok(()),
        };
        refuse("--eta", self.eta.is_some(), Choice::Eta, format!("{}", self.eta.unwrap_or_default()))?;
        refuse("--variance", self.variance.is_some(), Choice::Variance, self.variance.map_or("", word).into())?;
        let published = model.scheduler().options;
        let conventions = Conventions { eps_from_clipped_x_0: !self.keep_eps, ..published.conventions };
        let variance = self.variance.unwrap_or(published.variance);
        let options = SamplerOptions { eta: self.eta.unwrap_or(0.0), variance, conventions, ..published };
        options.validate().map_err(|error| flag(error, &["eta"]))?;
        Ok(options)
    }

    fn timesteps(&self, model: &Pipeline) -> Result<Vec<usize>> {
        let scheduler = model.scheduler();
        let t_max = scheduler.schedule.t_max();
        let steps = self.steps.unwrap_or(t_max.min(self.sampler.entry().steps));
        if !(1..=t_max).contains(&steps) {
            return Err(Error::value("--steps", format!("1 to {t_max}, the model's T"), steps));
        }
        let offset = if steps == t_max { 0 } else { scheduler.steps_offset };
        let list = timesteps(self.spacing(model), t_max, steps, offset)?;
        // From pure noise, a chain that starts far below T takes the noise for more image than there is.
        if list[0] + t_max / steps.max(10) < t_max {
            let first = list[0];
            note(&format!(
                "note: leading spacing with {steps} steps starts at t = {first} of {t_max}; --spacing trailing starts at T"
            ));
        }
        Ok(list)
    }

    fn spacing(&self, model: &Pipeline) -> Spacing {
        self.spacing.unwrap_or(model.scheduler().spacing)
    }
}

/// What the flag calls a variance.
fn word(variance: Variance) -> &'static str {
    match variance {
        Variance::FixedSmall | Variance::FixedSmallLog => "small",
        Variance::FixedLarge | Variance::FixedLargeLog => "large",
    }
}
