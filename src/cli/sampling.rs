//! The flags that say how pictures are drawn, for the subcommands that draw.

use serde_json::{Value, json};

use super::progress::note;
use super::{choices, flag};
use crate::diffusion::Variance;
use crate::pipeline::{Pipeline, Scheduler};
use crate::sample::{Algorithm, Choice, Dialect, FirstNoise, Sampler, Settings, Sigmas, Solver, Spacing, Transition};
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
    /// Whose conventions hold where implementations differ; `ancestral dialects` lists them
    #[arg(long, value_name = "NAME", default_value = "ancestral", value_parser = choices::dialects())]
    dialect: &'static Dialect,
    /// After clipping x_0 in ddim keep the network's eps, as diffusers does, instead of deriving it again
    #[arg(long)]
    keep_eps: bool,
    /// Guidance weight w: eps = eps(none) + w (eps(class) - eps(none)); 1 is none, or 0 in the papers' dialect [default:
    /// the model's, or 1 more than none where it was trained with hidden labels]
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    pub guidance: Option<f64>,
    /// Guide only where sigma/signal is in this interval: two numbers, as in 0.3,5 [default: the model's, or
    /// everywhere, as with a --guidance of one's own]
    #[arg(long, value_name = "LEAST,MOST", value_parser = interval)]
    guidance_interval: Option<(f64, f64)>,
    /// Pictures in memory at a time
    #[arg(long, value_name = "B", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch_size: u32,
}

impl Sampling {
    /// The same with this sampler and so many steps where none were given.
    pub fn with_usual(&self, sampler: Sampler, steps: usize) -> Self {
        Sampling { sampler: self.sampler.or(Some(sampler)), steps: self.steps.or(Some(steps)), ..self.clone() }
    }

    /// The settings for pictures of a model, of this class or of all in turn.
    ///
    /// # Errors
    /// A flag that the sampler has no use for, or a value out of its range.
    pub fn settings(&self, model: &Pipeline, class: Option<usize>) -> Result<Settings> {
        let scheduler = self.scheduler(model, None)?;
        if scheduler.sampler == Sampler::DdimInverse {
            let expected = "a sampler that goes from noise to pictures, such as ddim; `sample --from IMAGE --invert` goes the \
                            other way";
            return Err(Error::value("--sampler", expected, scheduler.sampler.entry().name));
        }
        let chain = self.chain(&scheduler, 1.0)?;
        Ok(self.settings_of(model, &scheduler, chain, class))
    }

    /// The settings for a chain of one's own.
    pub fn settings_of(
        &self,
        model: &Pipeline,
        scheduler: &Scheduler,
        chain: Vec<Transition>,
        class: Option<usize>,
    ) -> Settings {
        let none = scheduler.options.conventions.guidance_of_none;
        let guidance = self.guidance.unwrap_or(model.guidance().weight + (none - 1.0));
        Settings {
            seed: self.seed,
            sampler: scheduler.sampler,
            options: scheduler.options,
            chain,
            class,
            guidance,
            // A weight of one's own is meant everywhere.
            guidance_interval: self.guidance_interval.or(model.guidance().interval.filter(|_| self.guidance.is_none())),
        }
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
            "dialect": self.dialect.name, "keep_eps": self.keep_eps, "guidance": settings.guidance,
            "guidance_interval": settings.guidance_interval,
        })
    }

    /// The model's scheduler, but for what the flags say; where they name no sampler it is the model's, or `otherwise`.
    ///
    /// # Errors
    /// A flag that the sampler has no use for, or a value out of its range.
    pub fn scheduler(&self, model: &Pipeline, otherwise: Option<Sampler>) -> Result<Scheduler> {
        let mut scheduler = model.scheduler().clone();
        scheduler.sampler = self.sampler.or(otherwise).unwrap_or(scheduler.sampler);
        scheduler.spacing = self.spacing.unwrap_or(scheduler.spacing);
        self.check_choices(scheduler.sampler)?;
        let options = &mut scheduler.options;
        options.eta = self.eta.unwrap_or(0.0);
        options.variance = self.variance.unwrap_or(options.variance);
        options.order = self.order.map_or(options.order, usize::from);
        options.algorithm = self.algorithm.unwrap_or(options.algorithm);
        options.solver = self.solver.unwrap_or(options.solver);
        options.sigmas = self.sigmas.unwrap_or(options.sigmas);
        options.conventions = self.dialect.conventions;
        options.conventions.eps_from_clipped_x_0 &= !self.keep_eps;
        if options.conventions.first_noise == FirstNoise::BySpacing {
            let alone = scheduler.first_noise_is_alone(scheduler.sampler);
            scheduler.options.conventions.first_noise = if alone { FirstNoise::Alone } else { FirstNoise::WithImage };
        }
        let options = &scheduler.options;
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

    /// The chain of the steps that were asked for, from the first whose place from its end is within this share of it.
    ///
    /// # Errors
    /// More steps than T, or a share that leaves none.
    pub fn chain(&self, scheduler: &Scheduler, strength: f64) -> Result<Vec<Transition>> {
        let t_max = scheduler.schedule.t_max();
        let steps = self.steps.unwrap_or(scheduler.usual_steps());
        if !(1..=t_max).contains(&steps) {
            return Err(Error::value("--steps", format!("1 to {t_max}, the model's T"), steps));
        }
        // As in diffusers: the whole part of steps · strength.
        let kept = (steps as f64 * strength) as usize;
        if kept < 1 || kept > steps {
            let expected = format!("{} to 1, so that at least one of {steps} steps is taken", 1.0 / steps as f64);
            return Err(Error::value("--strength", expected, strength));
        }
        let chain = scheduler.last_of_chain(steps, kept)?;
        if kept < steps {
            return Ok(chain);
        }
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

/// Two numbers with a comma between them.
fn interval(text: &str) -> std::result::Result<(f64, f64), String> {
    let numbers = text.split_once(',').and_then(|(least, most)| Some((least.parse().ok()?, most.parse().ok()?)));
    numbers.ok_or_else(|| "expected two numbers, such as 0.3,5".into())
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
