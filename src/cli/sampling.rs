//! The flags that say how pictures are drawn, for the subcommands that draw.

use serde_json::{Value, json};

use super::progress::note;
use super::{choices, flag};
use crate::diffusion::Variance;
use crate::pipeline::{Pipeline, Scheduler};
use crate::sample::{Algorithm, Choice, Sampler, Settings, Sigmas, Solver, Spacing, Transition};
use crate::{Error, Result};

/// How pictures are drawn.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Sampling {
    /// The seed
    #[arg(long, value_name = "S", default_value_t = 42)]
    seed: u64,
    /// The rule of a reverse step [default: the model's]
    #[arg(long, value_parser = choices::samplers())]
    sampler: Option<Sampler>,
    /// Reverse steps, at most the model's T [default: 15 to 200 by sampler]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Noise in ddim: 0 deterministic, 1 as much as ancestral sampling [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    eta: Option<f64>,
    /// The variance of ddpm [default: the model's]
    #[arg(long, value_parser = choices::variances())]
    variance: Option<Variance>,
    /// The order of a multistep or singlestep method, 1 to 3 [default: the model's, or 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=3))]
    order: Option<u8>,
    /// What DPM-Solver integrates [default: the model's, or dpmsolver++]
    #[arg(long, value_parser = choices::algorithms())]
    algorithm: Option<Algorithm>,
    /// How DPM-Solver and UniPC put a step together [default: the model's, or midpoint and bh2]
    #[arg(long, value_parser = choices::solvers())]
    solver: Option<Solver>,
    /// Which timesteps a shorter chain visits [default: the model's]
    #[arg(long, value_parser = choices::spacings())]
    spacing: Option<Spacing>,
    /// How levels are spread in sigma [default: the model's, or those of the timesteps]
    #[arg(long, value_parser = choices::sigmas())]
    sigmas: Option<Sigmas>,
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
    /// The same with so many steps where their number was not given.
    pub fn with_usual_steps(&self, steps: usize) -> Self {
        Sampling { steps: self.steps.or(Some(steps)), ..self.clone() }
    }

    /// The settings for pictures of a model, of this class or of all in turn.
    ///
    /// # Errors
    /// A flag that the sampler has no use for, or a value out of its range.
    pub fn settings(&self, model: &Pipeline, class: Option<usize>) -> Result<Settings> {
        let scheduler = self.scheduler(model)?;
        Ok(Settings {
            seed: self.seed,
            sampler: scheduler.sampler,
            options: scheduler.options,
            chain: self.chain(&scheduler)?,
            class,
            guidance: self.guidance.unwrap_or(if model.guides() { 2.0 } else { 1.0 }),
        })
    }

    /// What made the pictures, by the flags' names.
    pub fn to_json(&self, model: &Pipeline, settings: &Settings) -> Value {
        let (sampler, options) = (settings.sampler, &settings.options);
        let takes = |choice, value: Value| if sampler.takes(choice) { value } else { json!(null) };
        let usual = Scheduler { sampler, ..model.scheduler().clone() }.usual_steps();
        json!({
            "seed": self.seed, "sampler": sampler.entry().name, "steps": self.steps.unwrap_or(usual),
            "evaluations": settings.chain.len(), "spacing": self.spacing.unwrap_or(model.scheduler().spacing),
            "eta": takes(Choice::Eta, json!(options.eta)),
            "variance": takes(Choice::Variance, json!(word(options.variance))),
            "order": takes(Choice::Order, json!(options.order)),
            "algorithm": takes(Choice::Algorithm, json!(options.algorithm)),
            "solver": takes(Choice::Solver, json!(options.solver)),
            "sigmas": takes(Choice::Sigmas, json!(options.sigmas)),
            "keep_eps": self.keep_eps, "guidance": settings.guidance,
        })
    }

    /// The model's scheduler, but for what the flags say.
    fn scheduler(&self, model: &Pipeline) -> Result<Scheduler> {
        let mut scheduler = model.scheduler().clone();
        scheduler.sampler = self.sampler.unwrap_or(scheduler.sampler);
        scheduler.spacing = self.spacing.unwrap_or(scheduler.spacing);
        self.check_choices(scheduler.sampler)?;
        let options = &mut scheduler.options;
        options.eta = self.eta.unwrap_or(0.0);
        options.variance = self.variance.unwrap_or(options.variance);
        options.order = self.order.map_or(options.order, usize::from);
        options.algorithm = self.algorithm.unwrap_or(options.algorithm);
        options.solver = self.solver.unwrap_or(options.solver);
        options.sigmas = self.sigmas.unwrap_or(options.sigmas);
        options.conventions.eps_from_clipped_x_0 = !self.keep_eps;
        options.validate().map_err(|error| flag(error, &["eta"]))?;
        Ok(scheduler)
    }

    /// Refuses what the sampler has no use for.
    fn check_choices(&self, sampler: Sampler) -> Result<()> {
        let given = [
            ("--eta", Choice::Eta, self.eta.map(|eta| eta.to_string())),
            ("--variance", Choice::Variance, self.variance.map(|variance| word(variance).to_string())),
            ("--order", Choice::Order, self.order.map(|order| order.to_string())),
            ("--algorithm", Choice::Algorithm, self.algorithm.map(|algorithm| format!("{algorithm:?}"))),
            ("--solver", Choice::Solver, self.solver.map(|solver| format!("{solver:?}"))),
            ("--sigmas", Choice::Sigmas, self.sigmas.map(|sigmas| format!("{sigmas:?}"))),
        ];
        let idle = given.into_iter().find(|(_, choice, found)| found.is_some() && !sampler.takes(*choice));
        match idle {
            Some((flag, _, found)) => {
                let name = sampler.entry().name;
                let expected = format!("not to be given: the sampler {name} has no use for it");
                Err(Error::value(flag, expected, found.unwrap_or_default()))
            }
            None => Ok(()),
        }
    }

    fn chain(&self, scheduler: &Scheduler) -> Result<Vec<Transition>> {
        let t_max = scheduler.schedule.t_max();
        let steps = self.steps.unwrap_or(scheduler.usual_steps());
        if !(1..=t_max).contains(&steps) {
            return Err(Error::value("--steps", format!("1 to {t_max}, the model's T"), steps));
        }
        let chain = scheduler.chain(steps)?;
        // From pure noise, a chain that starts far below T takes the noise for more image than there is.
        let first = chain[0].from.t();
        if scheduler.spacing == Spacing::Leading && first + (t_max / steps.max(10)) as f64 <= t_max as f64 - 1.0 {
            note(&format!(
                "note: leading spacing with {steps} steps starts at t = {first} of {t_max}; --spacing trailing starts at T"
            ));
        }
        Ok(chain)
    }
}

/// What the flag calls a variance.
fn word(variance: Variance) -> &'static str {
    match variance {
        Variance::FixedSmall | Variance::FixedSmallLog => "small",
        Variance::FixedLarge | Variance::FixedLargeLog => "large",
        Variance::Learned => "learned",
        Variance::LearnedRange => "learned_range",
    }
}
