//! Known mistakes of samplers, of their levels, and of what is known of images exactly.

use ndarray::{ArrayD, Axis};
use serde_json::json;

use super::{Mutant, mutant, with_attribute, with_config, with_input};
use crate::Result;
use crate::checkpoint::scheduler;
use crate::diffusion::Level;
use crate::golden::case::Case;
use crate::golden::ops::{Results, evaluate};
use crate::numerics::elementary::{exp, expm1};
use crate::pipeline::Scheduler;

/// The mistakes, in words.
pub(super) const MUTANTS: &[Mutant] = &[
    mutant("spread_in_time", "levels at the timesteps, where sigmas are to be spread", spread_in_time),
    mutant("other_end", "the chain ends at the clean image for one step before, or the reverse", |case| {
        other_word(case, "final_sigmas_type", "zero", ["zero", "sigma_min"])
    }),
    mutant("flow_not_shifted", "flow matching's sigmas without their shift", |case| {
        with_config(case, "shift", json!(1.0))
    }),
    mutant("threshold_that_only_clips", "x_0 clipped to [-1, 1], where it is to be divided by its quantile", |case| {
        with_config(case, "thresholding", json!(false))
    }),
    mutant("up_and_down_swapped", "sigma_up for sigma_down in an ancestral step", up_and_down_swapped),
    mutant("history_forgotten", "a multistep method of first order", history_forgotten),
    mutant("history_reversed", "the oldest of the earlier outputs for the newest", |case| {
        history_in_order(case, |k, n| n - 1 - k)
    }),
    mutant("history_shifted_by_one", "each of the earlier outputs of one step before its own", |case| {
        history_in_order(case, |k, n| (k + 1).min(n - 1))
    }),
    mutant("sigma_for_lambda", "the length of a step in sigma for that in lambda", |case| {
        first_order(case, |_, from, to| crate::numerics::elementary::expm1(to.ratio() - from.ratio()))
    }),
    mutant("no_expm1", "h for e^h - 1", |case| first_order(case, |h, _, _| h)),
    mutant("other_solver", "midpoint for heun, or the reverse", |case| {
        other_word(case, "solver_type", "midpoint", ["midpoint", "heun"])
    }),
    mutant("other_b", "bh1 for bh2, or the reverse", |case| other_word(case, "solver_type", "bh2", ["bh1", "bh2"])),
    mutant("whole_d2", "the second derivative whole, of which the class takes half", whole_d2),
    mutant("order_2_for_3", "a step of second order, where two earlier outputs allow a third", |case| {
        with_config(case, "solver_order", json!(2))
    }),
    mutant("x_0_for_noise", "the integral of x_0 for that of the noise", |case| {
        with_config(case, "algorithm_type", json!("dpmsolver++"))
    }),
    mutant("noise_of_one_h", "a stochastic step with the noise of half its length", noise_of_one_h),
    mutant("corrector_skipped", "UniPC's predictor without its corrector", corrector_skipped),
    mutant("output_for_noise", "EDM's output taken for the noise", output_for_noise),
    mutant("second_slope_of_the_start", "Heun's second slope is the first again", second_slope_of_the_start),
    mutant("order_kept_to_the_end", "the last steps of a short chain at full order", |case| {
        with_config(case, "lower_order_final", json!(false))
    }),
    mutant("order_lowered_at_the_end", "the last steps of lower order, where that was not asked for", |case| {
        with_config(case, "lower_order_final", json!(true))
    }),
    mutant("exponent_without_half", "e^(-d^2/sigma^2) for e^(-d^2/(2 sigma^2))", exponent_without_half),
    mutant("class_ignored", "all images of the set, whatever class is asked for", class_ignored),
    mutant("weights_ignored", "every component of the mixture as likely as another", weights_ignored),
];

/// Levels as the timesteps have them, where sigmas are to be spread.
fn spread_in_time(case: &Case) -> Result<Results<f64>> {
    let fields = ["use_karras_sigmas", "use_exponential_sigmas", "use_lu_lambdas"];
    let set = fields.iter().find(|field| case.attributes["config"][**field] == true).expect("a spread");
    with_config(case, set, json!(false))
}

/// The config's field, the word it has or `usual`, replaced by the other of two words.
fn other_word(case: &Case, field: &str, usual: &str, [one, two]: [&str; 2]) -> Result<Results<f64>> {
    let word = case.attributes["config"][field].as_str().unwrap_or(usual);
    with_config(case, field, json!(if word == one { two } else { one }))
}

/// The sampler remembers nothing.
fn history_forgotten(case: &Case) -> Result<Results<f64>> {
    let mut wrong = case.clone();
    wrong.attributes.remove("t_history");
    wrong.tensors.retain(|name, _| name != "input.history" && name != "input.x_before");
    evaluate(&wrong)
}

/// What was seen earlier, in another order: number k in the place that `of` says it has.
fn history_in_order(case: &Case, of: fn(usize, usize) -> usize) -> Result<Results<f64>> {
    with_input(case, "history", |history| {
        let right = history.clone();
        let n = right.len_of(Axis(0));
        for k in 0..n {
            history.index_axis_mut(Axis(0), k).assign(&right.index_axis(Axis(0), of(k, n)));
        }
    })
}

/// Heun's second slope is the first again.
fn second_slope_of_the_start(case: &Case) -> Result<Results<f64>> {
    with_input(case, "model_output", |outputs| {
        let right = outputs.clone();
        for k in (1..right.len_of(Axis(0))).step_by(2) {
            outputs.index_axis_mut(Axis(0), k).assign(&right.index_axis(Axis(0), k - 1));
        }
    })
}

/// A step as its formula has it.
struct Formula {
    scheduler: Scheduler,
    from: Level,
    to: Level,
    x: ArrayD<f64>,
    output: ArrayD<f64>,
    noise: ArrayD<f64>,
    right: Results<f64>,
}

impl Formula {
    fn of(case: &Case) -> Result<Self> {
        let mut fields = case.attributes["config"].clone();
        fields["_class_name"] = case.attributes["class"].clone();
        let scheduler = scheduler::from_json(&fields.to_string(), &case.path)?;
        let form = scheduler.sampler.entry().form;
        let time = |name: &str| case.attributes[name].as_i64().expect("a timestep") + 1;
        let level = |name: &str| scheduler.schedule.level(time(name) as usize).in_form(form);
        let (from, to) = (level("t"), level("t_prev"));
        let [x, output, noise] = ["x_t", "model_output", "noise"].map(|name| case.numbers(&format!("input.{name}")));
        Ok(Formula { from, to, x, output, noise, right: evaluate(case)?, scheduler })
    }

    /// The length of the step in λ.
    fn h(&self) -> f64 {
        self.to.lambda() - self.from.lambda()
    }

    /// x̂₀, as it should be.
    fn x_0_hat(&self) -> &ArrayD<f64> {
        &self.right.iter().find(|(name, _)| name == "output.pred_original_sample").expect("a result").1
    }

    /// The results with another x at the end of the step.
    fn with(mut self, x: ArrayD<f64>) -> Results<f64> {
        self.right[0].1 = x;
        self.right
    }
}

/// The noise up to the level for the way down, and the reverse.
fn up_and_down_swapped(case: &Case) -> Result<Results<f64>> {
    let step = Formula::of(case)?;
    let (from, to) = (step.from.sigma(), step.to.sigma());
    let up = to * (1.0 - to * to / (from * from)).sqrt();
    let x = &step.x + &(&step.output * (up - from)) + &step.noise * (to * to / from);
    Ok(step.with(x))
}

/// The network's output taken for the noise, without EDM's preconditioning.
fn output_for_noise(case: &Case) -> Result<Results<f64>> {
    let step = Formula::of(case)?;
    let x = &step.x + &(&step.output * (step.to.sigma() - step.from.sigma()));
    let x_0_hat = &step.x - &(&step.output * step.from.sigma());
    let mut results = step.with(x);
    results[1].1 = x_0_hat;
    Ok(results)
}

/// A step of first order with this in the place of e^h − 1 or e^−h − 1, of h and the two levels.
fn first_order(case: &Case, instead: fn(f64, Level, Level) -> f64) -> Result<Results<f64>> {
    let step = Formula::of(case)?;
    let (a, b, h) = (step.to.signal(), step.to.sigma(), step.h());
    let x = if step.scheduler.options.algorithm.of_noise() {
        &step.x * (a / step.from.signal()) - &step.output * (b * instead(h, step.from, step.to))
    } else {
        &step.x * (b / step.from.sigma()) - step.x_0_hat() * (a * instead(-h, step.from, step.to))
    };
    Ok(step.with(x))
}

/// The stochastic step with the noise of half its length.
fn noise_of_one_h(case: &Case) -> Result<Results<f64>> {
    let step = Formula::of(case)?;
    let (a, b, h) = (step.to.signal(), step.to.sigma(), step.h());
    let mean = &step.x * (b / step.from.sigma() * exp(-h)) - step.x_0_hat() * (a * expm1(-2.0 * h));
    let x = mean + &step.noise * (b * (-expm1(-h)).sqrt());
    Ok(step.with(x))
}

/// The second derivative whole, where the class takes half of it.
fn whole_d2(case: &Case) -> Result<Results<f64>> {
    let step = Formula::of(case)?;
    let (h, form) = (step.h(), step.scheduler.sampler.entry().form);
    let past: Vec<i64> = serde_json::from_value(case.attributes["t_history"].clone()).expect("times");
    let lambda = |t: i64| step.scheduler.schedule.level(t as usize + 1).in_form(form).lambda();
    let (r0, r1) = ((step.from.lambda() - lambda(past[0])) / h, (lambda(past[0]) - lambda(past[1])) / h);
    let history = case.numbers("input.history");
    let [m1, m2] = [0, 1].map(|k| history.index_axis(Axis(0), k).to_owned());
    let of_noise = step.scheduler.options.algorithm.of_noise();
    let m0 = if of_noise { step.output.clone() } else { step.x_0_hat().clone() };
    let bend = ((m0 - &m1) / r0 - (m1 - m2) / r1) / (r0 + r1);
    let weight = match of_noise {
        true => -step.to.sigma() * ((expm1(h) - h) / (h * h) - 0.5),
        false => -step.to.signal() * ((expm1(-h) + h) / (h * h) - 0.5),
    };
    let x = &step.right[0].1 + &(bend * weight);
    Ok(step.with(x))
}

/// The next step from x as it was predicted.
fn corrector_skipped(case: &Case) -> Result<Results<f64>> {
    let step = Formula::of(case)?;
    let of_x = match step.scheduler.options.predict_x_0 {
        true => step.to.sigma() / step.from.sigma(),
        false => step.to.signal() / step.from.signal(),
    };
    // x̂₀ is of x as it was predicted in either case.
    let (predicted, x) = (step.x.clone(), &step.right[0].1 + &((&step.x - &step.right[2].1) * of_x));
    let mut results = step.with(x);
    results[2].1 = predicted;
    Ok(results)
}

/// e^(−d²/σ²) for e^(−d²/(2σ²)): the shares of a smaller σ, where the signal is 1 at any.
fn exponent_without_half(case: &Case) -> Result<Results<f64>> {
    let sigma = case.attributes["sigma"].as_f64().expect("a number");
    with_attribute(case, "sigma", json!(sigma * std::f64::consts::FRAC_1_SQRT_2))
}

/// All images of the set, whatever class is asked for.
fn class_ignored(case: &Case) -> Result<Results<f64>> {
    let mut wrong = case.clone();
    wrong.tensors.retain(|name, _| name != "input.labels" && name != "input.data_labels");
    evaluate(&wrong)
}

/// Every component as likely as another.
fn weights_ignored(case: &Case) -> Result<Results<f64>> {
    with_input(case, "weights", |weights| weights.fill(1.0))
}
