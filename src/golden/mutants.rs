//! Known mistakes, each with the values that it gives: what a tolerance has to reject, and a backend's error to be named.

mod likelihood;
mod norms;
mod rounding;
mod samplers;
mod training;
mod transformer;
mod unet;

use std::collections::BTreeSet;

use ndarray::ArrayD;
use serde_json::{Value, json};

use super::case::{Case, Tensor};
use super::ops::{Results, evaluate};
use crate::Result;
use crate::evaluate::quality::frechet::{Gaussian, Reference};
use crate::numerics::elementary;
use rounding::{half_inputs, rounded_inputs};
use training::{Wrong, taught};

/// A mistake that implementations are known to make.
#[derive(Clone, Copy)]
pub struct Mutant {
    /// Its name.
    pub name: &'static str,
    /// What is wrong, in words.
    pub mistake: &'static str,
    /// The wrong results.
    results: fn(&Case) -> Result<Results<f64>>,
}

/// All mutants.
pub const MUTANTS: &[Mutant] = &[
    mutant("tf32_inputs", "products of inputs rounded to TF32's 10 bits", |case| rounded_inputs(case, 10)),
    mutant("f16_inputs", "products of inputs rounded to float16's 10 bits, subnormals and all", |case| {
        half_inputs(case)
    }),
    mutant("bf16_inputs", "products of inputs rounded to bfloat16's 7 bits", |case| rounded_inputs(case, 7)),
    mutant("weight_gradient_zero", "the gradient of the weight is never written", |case| {
        scaled(case, "grad.weight", 0.0)
    }),
    mutant("weight_gradient_x1_001", "the gradient of the weight is a thousandth too large", |case| {
        scaled(case, "grad.weight", 1.001)
    }),
    mutant("bias_gradient_mean", "the gradient of the bias is a mean over rows instead of a sum", |case| {
        let rows = case.tensors["grad_output"].shape()[0] as f64;
        scaled(case, "grad.bias", 1.0 / rows)
    }),
    mutant(
        "bias_gradient_of_the_last_image",
        "the gradient of the bias is written image after image, not added",
        |case| {
            let mut results = evaluate::<f64>(case)?;
            let dy = case.numbers("grad_output");
            let last = dy.index_axis(ndarray::Axis(0), dy.shape()[0] - 1);
            let sums = last.outer_iter().map(|channel| channel.sum()).collect::<ndarray::Array1<f64>>().into_dyn();
            results.iter_mut().filter(|(name, _)| name == "grad.bias").for_each(|(_, values)| values.assign(&sums));
            Ok(results)
        },
    ),
    mutant("upsampling_gradient_mean", "the mean over the four copies of a pixel for their sum", |case| {
        scaled(case, "grad.x", 0.25)
    }),
    mutant("padding_on_the_wrong_side", "an uneven padding at the top and left", |case| {
        let sides: [usize; 4] = serde_json::from_value(case.attributes["padding"].clone()).expect("four sides");
        let [left, right, top, bottom] = sides;
        with_attribute(case, "padding", json!([right, left, bottom, top]))
    }),
    mutant("flipped_kernel", "a convolution in the sense of mathematics: the kernel mirrored", flipped_kernel),
    mutant("norm_eps_1e-5", "eps = 1e-5 for 1e-6", |case| with_attribute(case, "eps", json!(1e-5))),
    mutant("norm_eps_1e-6", "eps = 1e-6 for 1e-5", |case| with_attribute(case, "eps", json!(1e-6))),
    mutant("unbiased_variance", "the variance divides by N - 1", unbiased_variance),
    mutant("eps_outside_the_root", "x / (sigma + eps) for x / sqrt(sigma^2 + eps)", norms::eps_outside),
    mutant("one_pass_variance", "the variance as E[x^2] - E[x]^2 in float32", norms::one_pass),
    mutant(
        "groups_interleaved",
        "channel c belongs to group c mod groups for c / (channels of a group)",
        norms::groups_interleaved,
    ),
    mutant("softmax_of_columns", "softmax over the other axis", norms::softmax_of_columns),
    mutant("heads_reversed", "the heads' results joined from the last to the first", norms::heads_reversed),
    mutant("one_group_a_channel", "every channel is a group of its own", |case| {
        with_attribute(case, "groups", json!(case.tensors["input.x"].shape()[1]))
    }),
    mutant("exact_gelu", "the GELU of the normal distribution for its tanh form", |case| match case.op.as_str() {
        "gelu_tanh" => exact_gelu(case),
        _ => transformer::exact_gelu(case),
    }),
    mutant("scale_without_one", "a modulation by scale for 1 + scale", transformer::scale_without_one),
    mutant(
        "shift_and_scale_swapped",
        "a modulation's scale for its shift, and the reverse",
        transformer::shift_for_scale,
    ),
    mutant("gate_forgotten", "a branch added without its gate", transformer::gate_forgotten),
    mutant(
        "heads_interleaved",
        "channel c belongs to head c mod heads for c / (channels of a head)",
        transformer::interleaved,
    ),
    mutant(
        "positions_transposed",
        "the row before the column in a token's position",
        transformer::positions_transposed,
    ),
    mutant(
        "patch_channels_first",
        "the numbers of a patch channel by channel for pixel by pixel",
        transformer::channels_first,
    ),
    mutant("label_dropout_at_inference", "classes are hidden outside of training, too", transformer::labels_hidden),
    mutant("scores_not_scaled", "attention scores without 1/sqrt(d)", |case| scores_times(case, f64::sqrt)),
    mutant("scores_scaled_by_d", "attention scores times 1/d for 1/sqrt(d)", |case| {
        scores_times(case, |d| 1.0 / d.sqrt())
    }),
    mutant("sin_and_cos_swapped", "cosines first where sines belong, or the reverse", |case| {
        let flip = case.attributes["flip_sin_to_cos"] == json!(true);
        with_attribute(case, "flip_sin_to_cos", json!(!flip))
    }),
    mutant(
        "half_for_half_minus_1",
        "half in the denominator of the frequencies for half - 1, or the reverse",
        |case| {
            let shift = case.attributes["freq_shift"].as_f64().expect("a number");
            with_attribute(case, "freq_shift", json!(1.0 - shift))
        },
    ),
    mutant("frequencies_over_dim", "dim in the denominator of the frequencies for dim/2", |case| {
        let half = (case.attributes["dim"].as_u64().expect("a number") / 2) as f64;
        let shift = case.attributes["freq_shift"].as_f64().expect("a number");
        with_attribute(case, "freq_shift", json!(shift - half))
    }),
    mutant("timestep_over_1000", "t / 1000 for t", training::times_over_1000),
    mutant("gradient_of_half_the_mse", "the gradient of the loss without its factor 2", |case| {
        scaled(case, "grad.prediction", 0.5)
    }),
    mutant("mean_over_classes", "the loss is divided by the classes, not by the images", |case| {
        let shape = case.tensors["input.logits"].shape();
        scaled(case, "", shape[0] as f64 / shape[1] as f64)
    }),
    mutant("cross_entropy_gradient_of_the_sum", "the gradient of the sum over images, not of their mean", |case| {
        scaled(case, "grad.logits", case.tensors["input.logits"].shape()[0] as f64)
    }),
    mutant("biased_covariance", "covariances over n for n - 1", |case| {
        let [x, y] = gaussians(case).map(|(n, mut of)| {
            of.covariance *= (n - 1.0) / n;
            of
        });
        Ok(scalar(Reference::new(x).distance(&y)))
    }),
    mutant("trace_without_the_root", "the trace of the product of the covariances, without its root", |case| {
        let [(_, x), (_, y)] = gaussians(case);
        let means = (&x.mean - &y.mean).mapv(|d| d * d).sum();
        let traces = x.covariance.diag().sum() + y.covariance.diag().sum();
        Ok(scalar(means + traces - 2.0 * x.covariance.dot(&y.covariance).diag().sum()))
    }),
    mutant("neighbour_counts_itself", "the nearest neighbour of a vector is the vector itself", |case| {
        with_attribute(case, "k", json!(case.attributes["k"].as_u64().expect("a number") - 1))
    }),
    mutant("timestep_off_by_one", "the network is fed t = 1..=T for 0..T", later_by_one),
    mutant("alpha_bar_off_by_one", "alpha_bar of the next timestep", later_by_one),
    mutant("alpha_bar_of_the_step_before", "alpha_bar of t - 1", |case| {
        let mut wrong = case.clone();
        if let Some(Tensor::I64(t)) = wrong.tensors.get_mut("input.t") {
            t.mapv_inplace(|t| (t - 1).max(0));
        }
        evaluate(&wrong)
    }),
    mutant("cosine_without_cap", "the cosine schedule's last betas above 0.999", cosine_without_cap),
    mutant("clip_range_ignored", "the predicted x_0 clipped to [-1, 1], whatever range was asked for", |case| {
        with_config(case, "clip_sample_range", json!(1.0))
    }),
    mutant("betas_scaled_by_1000_over_t", "beta_start and beta_end times 1000/T", |case| {
        let scaled = |name: &str| json!(case.attributes[name].as_f64().expect("a number") * 1000.0 / steps(case));
        with_attributes(case, &[("beta_start", scaled("beta_start")), ("beta_end", scaled("beta_end"))])
    }),
    mutant("other_variance", "the posterior variance for beta, or the reverse", |case| {
        let other =
            if case.attributes["config"]["variance_type"] == "fixed_large" { "fixed_small" } else { "fixed_large" };
        with_config(case, "variance_type", json!(other))
    }),
    mutant("noise_at_the_last_step", "the last step adds noise", noise_at_the_last_step),
    mutant("sample_not_clipped", "the predicted x_0 is not clipped", |case| {
        with_config(case, "clip_sample", json!(false))
    }),
    mutant("epsilon_for_v", "the network's output is taken for the noise", |case| {
        with_config(case, "prediction_type", json!("epsilon"))
    }),
    mutant("eta_1_for_0", "DDIM draws noise that was not asked for", |case| with_attribute(case, "eta", json!(1.0))),
    mutant("adam_eps_before_bias_correction", "Adam adds eps to the root of the uncorrected moment", |case| {
        let number = |name: &str, default: f64| case.attributes.get(name).and_then(Value::as_f64).unwrap_or(default);
        let correction = 1.0 - (0..number("step", 1.0) as usize).fold(1.0, |p, _| p * number("beta2", 0.999));
        with_attribute(case, "eps", json!(number("eps", 1e-8) / correction.sqrt()))
    }),
    mutant("adam_without_bias_correction", "Adam with the moments as they are", |case| {
        with_attribute(case, "step", json!(1_000_000))
    }),
    mutant(
        "l2_for_decoupled_decay",
        "the decay is added to the gradient (Adam) and not taken from the weight (AdamW)",
        l2,
    ),
    mutant("decay_without_lr", "the weight decay is not multiplied by the learning rate", |case| {
        let number = |name: &str| case.attributes[name].as_f64().expect("a number");
        with_attribute(case, "weight_decay", json!(number("weight_decay") / number("lr")))
    }),
    mutant("ema_without_warm_up", "the average has its final decay from the first step on", |case| {
        with_attribute(case, "step", json!(100_000_000))
    }),
    mutant("adam_eps_inside_the_root", "Adam with eps under the root of the second moment", |case| {
        let number = |name: &str, default: f64| case.attributes.get(name).and_then(Value::as_f64).unwrap_or(default);
        let (lr, eps) = (number("lr", 0.0), number("eps", 1e-8));
        let (w, grad, mut results) = (case.numbers("input.w"), case.numbers("input.grad"), evaluate::<f64>(case)?);
        // The first step, whose corrected moments are the gradient and its square.
        results[0].1 = w - grad.mapv(|g| lr * g / (g * g + eps).sqrt());
        Ok(results)
    }),
    mutant(
        "clipped_beyond_the_bound_alone",
        "gradients shorter than the bound by less than 1e-6 are left as they are",
        |case| {
            let mut results = evaluate::<f64>(case)?;
            results[1].1 = case.numbers("input.grad");
            Ok(results)
        },
    ),
    mutant("no_1e-6_when_clipping", "gradients shorter than the bound are made as long as it", |case| {
        let norm = evaluate::<f64>(case)?[0].1.sum();
        scaled(case, "output.grad", case.attributes["max_norm"].as_f64().expect("a number") / norm)
    }),
    mutant("later_times_fed", "the network is fed t + 1 for images that are noised for t", |case| {
        taught(case, Wrong::LaterTimes)
    }),
    mutant("each_tensor_clipped", "every tensor of the gradient is clipped by its own norm", |case| {
        taught(case, Wrong::EachClipped)
    }),
    mutant("learning_rate_warmed_up", "a learning rate that rises to its value in the last step", |case| {
        taught(case, Wrong::WarmedUp)
    }),
    mutant("x_0_as_target", "the network is taught x_0 for the noise", |case| {
        with_config(case, "prediction_type", json!("sample"))
    }),
    mutant("weights_untouched", "the weights are never updated", training::untouched),
    mutant("ema_before_the_step", "the average takes the weights from before the step", |case| {
        taught(case, Wrong::AverageBefore)
    }),
    mutant("ema_forgotten", "the weights for their average", training::average_forgotten),
    mutant("ema_untouched", "the average stays what it was", training::average_untouched),
    mutant("skips_swapped", "a skip's channels before those of what comes from below", unet::skips_swapped),
    mutant("skips_at_the_wrong_depth", "two skips of the same size exchanged", unet::skips_at_the_wrong_depth),
    mutant("gradients_of_the_sum", "the gradients of the sum of squares, not of their mean", |case| {
        let count = case.tensors["input.noise"].shape().iter().product::<usize>() as f64;
        scaled(case, "grad.", count)
    }),
    mutant(
        "without_t_over_1000",
        "the bound's part of the hybrid loss without T/1000",
        likelihood::without_t_over_1000,
    ),
    mutant("mean_not_detached", "the bound's part of the hybrid loss teaches the mean", likelihood::mean_not_detached),
    mutant("range_reversed", "log beta and log beta_tilde swapped: v = 1 gives beta_tilde", likelihood::range_reversed),
    mutant("halves_swapped", "the first half of the channels is taken for the variance", likelihood::halves_swapped),
    mutant("bins_off_by_one", "the decoder's bins are 2/256 wide for 2/255", likelihood::bins_off_by_one),
    mutant("nats_for_bits", "the terms are not divided by ln 2", likelihood::nats_for_bits),
    mutant(
        "stride_ignored",
        "a chain that skips times keeps the beta of every single step",
        likelihood::stride_ignored,
    ),
    mutant(
        "min_snr_without_plus_1",
        "min-SNR's weight of epsilon for v, whose has SNR + 1 in the denominator",
        likelihood::min_snr_without_plus_1,
    ),
    mutant("terminal_snr_not_zero", "betas that are to be rescaled to end in noise alone, and are not", |case| {
        with_attribute(case, "rescale_betas_zero_snr", json!(false))
    }),
    mutant("spread_in_time", "levels at the timesteps, where sigmas are to be spread", samplers::spread_in_time),
    mutant("other_end", "the chain ends at the clean image for one step before, or the reverse", |case| {
        samplers::other_word(case, "final_sigmas_type", "zero", ["zero", "sigma_min"])
    }),
    mutant("flow_not_shifted", "flow matching's sigmas without their shift", |case| {
        with_config(case, "shift", json!(1.0))
    }),
    mutant("threshold_that_only_clips", "x_0 clipped to [-1, 1], where it is to be divided by its quantile", |case| {
        with_config(case, "thresholding", json!(false))
    }),
    mutant("up_and_down_swapped", "sigma_up for sigma_down in an ancestral step", samplers::up_and_down_swapped),
    mutant("history_forgotten", "a multistep method of first order", samplers::history_forgotten),
    mutant("history_reversed", "the oldest of the earlier outputs for the newest", |case| {
        samplers::history_in_order(case, |k, n| n - 1 - k)
    }),
    mutant("history_shifted_by_one", "each of the earlier outputs of one step before its own", |case| {
        samplers::history_in_order(case, |k, n| (k + 1).min(n - 1))
    }),
    mutant("sigma_for_lambda", "the length of a step in sigma for that in lambda", |case| {
        samplers::first_order(case, |_, from, to| crate::numerics::elementary::expm1(to.ratio() - from.ratio()))
    }),
    mutant("no_expm1", "h for e^h - 1", |case| samplers::first_order(case, |h, _, _| h)),
    mutant("other_solver", "midpoint for heun, or the reverse", |case| {
        samplers::other_word(case, "solver_type", "midpoint", ["midpoint", "heun"])
    }),
    mutant("other_b", "bh1 for bh2, or the reverse", |case| {
        samplers::other_word(case, "solver_type", "bh2", ["bh1", "bh2"])
    }),
    mutant("whole_d2", "the second derivative whole, of which the class takes half", samplers::whole_d2),
    mutant("order_2_for_3", "a step of second order, where two earlier outputs allow a third", |case| {
        with_config(case, "solver_order", json!(2))
    }),
    mutant("x_0_for_noise", "the integral of x_0 for that of the noise", |case| {
        with_config(case, "algorithm_type", json!("dpmsolver++"))
    }),
    mutant("noise_of_one_h", "a stochastic step with the noise of half its length", samplers::noise_of_one_h),
    mutant("corrector_skipped", "UniPC's predictor without its corrector", samplers::corrector_skipped),
    mutant("output_for_noise", "EDM's output taken for the noise", samplers::output_for_noise),
    mutant("second_slope_of_the_start", "Heun's second slope is the first again", samplers::second_slope_of_the_start),
    mutant("order_kept_to_the_end", "the last steps of a short chain at full order", |case| {
        with_config(case, "lower_order_final", json!(false))
    }),
    mutant("order_lowered_at_the_end", "the last steps of lower order, where that was not asked for", |case| {
        with_config(case, "lower_order_final", json!(true))
    }),
    mutant("exponent_without_half", "e^(-d^2/sigma^2) for e^(-d^2/(2 sigma^2))", samplers::exponent_without_half),
    mutant("class_ignored", "all images of the set, whatever class is asked for", samplers::class_ignored),
    mutant("weights_ignored", "every component of the mixture as likely as another", samplers::weights_ignored),
];

const fn mutant(name: &'static str, mistake: &'static str, results: fn(&Case) -> Result<Results<f64>>) -> Mutant {
    Mutant { name, mistake, results }
}

/// Numbers of a mutant that are stored, the smallest results first: they tell it as well as all of a network's do.
const STORED: usize = 300;

/// Adds to a completed case the values of a mutant, `mutant.NAME.TENSOR`, for each result that it changes; of many the smallest
/// alone, and how the names of the others begin in [`Case::partial`].
///
/// # Errors
/// As [`evaluate`].
///
/// # Panics
/// If there is no mutant of that name.
pub fn add_mutant(case: &mut Case, name: &str) -> Result<()> {
    let mutant = MUTANTS.iter().find(|m| m.name == name).unwrap_or_else(|| panic!("no mutant {name}"));
    let results = (mutant.results)(case)?;
    let unknown = case.order.iter().filter(|known| results.iter().all(|(tensor, _)| tensor != *known));
    let mut left_out: BTreeSet<String> = unknown.cloned().collect();
    let mut changed: Vec<_> = results.into_iter().filter(|(tensor, values)| case.numbers(tensor) != values).collect();
    changed.sort_by_key(|(_, values)| values.len());
    let (network, mut stored) = (["unet", "dit", "training"].contains(&case.op.as_str()), 0);
    for (tensor, values) in changed {
        stored += values.len();
        if network && stored > STORED {
            left_out.insert(tensor);
        } else {
            case.tensors.insert(format!("mutant.{name}.{tensor}"), Tensor::F32(values.mapv(|x| x as f32)));
        }
    }
    // `grad.conv_in.weight` begins with `grad.`, `output.ema.conv_in.weight` with `output.ema.`.
    let beginning = |tensor: &String| match tensor.split('.').collect::<Vec<_>>()[..] {
        ["output", group, _, ..] => format!("output.{group}."),
        [group, _, ..] if group != "output" => format!("{group}."),
        _ => tensor.clone(),
    };
    let beginnings: BTreeSet<String> = left_out.iter().map(beginning).collect();
    if !beginnings.is_empty() {
        case.partial.insert(name.into(), beginnings.into_iter().collect());
    }
    Ok(())
}

fn with_attributes(case: &Case, changes: &[(&str, Value)]) -> Result<Results<f64>> {
    let mut wrong = case.clone();
    wrong.attributes.extend(changes.iter().map(|(name, value)| (name.to_string(), value.clone())));
    evaluate(&wrong)
}

fn with_attribute(case: &Case, name: &str, value: Value) -> Result<Results<f64>> {
    with_attributes(case, &[(name, value)])
}

/// With another field of the scheduler's config.
fn with_config(case: &Case, name: &str, value: Value) -> Result<Results<f64>> {
    let mut config = case.attributes["config"].clone();
    config[name] = value;
    with_attribute(case, "config", config)
}

fn steps(case: &Case) -> f64 {
    case.attributes["num_train_timesteps"].as_f64().expect("a number")
}

/// The results whose names start so, times a factor.
fn scaled(case: &Case, start: &str, factor: f64) -> Result<Results<f64>> {
    let mut results = evaluate::<f64>(case)?;
    results.iter_mut().filter(|(name, _)| name.starts_with(start)).for_each(|(_, values)| *values *= factor);
    Ok(results)
}

/// How many vectors each of the two sets has, and the Gaussian that it is taken for.
fn gaussians(case: &Case) -> [(f64, Gaussian); 2] {
    ["input.x", "input.y"].map(|name| {
        let set = case.numbers(name).into_dimensionality::<ndarray::Ix2>().expect("two axes");
        (set.nrows() as f64, Gaussian::of(set.view()))
    })
}

/// One number as the output.
fn scalar(x: f64) -> Results<f64> {
    vec![("output".to_string(), ArrayD::from_elem(ndarray::IxDyn(&[]), x))]
}

/// With another input.
fn with_input(case: &Case, name: &str, change: impl Fn(&mut ArrayD<f32>)) -> Result<Results<f64>> {
    let mut wrong = case.clone();
    change(input(&mut wrong, name));
    evaluate(&wrong)
}

/// The float32 input of this name.
fn input<'a>(case: &'a mut Case, name: &str) -> &'a mut ArrayD<f32> {
    match case.tensors.get_mut(&format!("input.{name}")) {
        Some(Tensor::F32(x)) => x,
        _ => panic!("no float32 input {name}"),
    }
}

/// The kernel mirrored, and its gradient mirrored back.
fn flipped_kernel(case: &Case) -> Result<Results<f64>> {
    let mut results = with_input(case, "weight", |w| {
        w.invert_axis(ndarray::Axis(2));
        w.invert_axis(ndarray::Axis(3));
    })?;
    for (_, values) in results.iter_mut().filter(|(name, _)| name == "grad.weight") {
        values.invert_axis(ndarray::Axis(2));
        values.invert_axis(ndarray::Axis(3));
        *values = values.as_standard_layout().into_owned();
    }
    Ok(results)
}

/// √(var N/(N−1) + eps) = √(N/(N−1)) √(var + eps (N−1)/N): another eps, and a smaller scale.
fn unbiased_variance(case: &Case) -> Result<Results<f64>> {
    let shape = case.tensors["input.x"].shape();
    let groups = case.attributes["groups"].as_u64().expect("a number of groups") as usize;
    let n = (shape[1..].iter().product::<usize>() / groups) as f64;
    let (share, eps) = ((n - 1.0) / n, case.attributes["eps"].as_f64().expect("a number"));
    let mut wrong = case.clone();
    wrong.attributes.insert("eps".into(), json!(eps * share));
    let mut results = evaluate::<f64>(&wrong)?;
    let bias = case.numbers("input.bias");
    for (name, values) in &mut results {
        match name.as_str() {
            "grad.bias" => {}
            "output" => {
                for (c, mut channel) in values.axis_iter_mut(ndarray::Axis(1)).enumerate() {
                    channel.mapv_inplace(|y| (y - bias[c]) * share.sqrt() + bias[c]);
                }
            }
            _ => *values *= share.sqrt(),
        }
    }
    Ok(results)
}

/// Φ, of the normal distribution.
fn cdf(x: f64) -> f64 {
    0.5 * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

/// y = x Φ(x), dx = dy (Φ(x) + x φ(x)).
fn exact_gelu(case: &Case) -> Result<Results<f64>> {
    let x = case.numbers("input.x");
    let density = |x: f64| libm::exp(-0.5 * x * x) / (2.0 * std::f64::consts::PI).sqrt();
    let mut results = vec![("output".to_string(), x.mapv(|x| x * cdf(x)))];
    if case.tensors.contains_key("grad_output") {
        let slope = x.mapv(|x| cdf(x) + x * density(x));
        results.push(("grad.x".to_string(), slope * case.numbers("grad_output")));
    }
    Ok(results)
}

/// Scores times a function of the channels of a head: the same as queries times it, and their gradient times it.
fn scores_times(case: &Case, factor: fn(f64) -> f64) -> Result<Results<f64>> {
    let heads = case.attributes.get("heads").and_then(Value::as_u64).unwrap_or(1);
    let factor = factor(case.tensors["input.q"].shape()[2] as f64 / heads as f64);
    let mut results = with_input(case, "q", |q| *q *= factor as f32)?;
    results.iter_mut().filter(|(name, _)| name == "grad.q").for_each(|(_, dq)| *dq *= factor);
    Ok(results)
}

/// All timesteps one later, where there is a later one.
fn later_by_one(case: &Case) -> Result<Results<f64>> {
    let mut wrong = case.clone();
    if let Some(Tensor::I64(t)) = wrong.tensors.get_mut("input.t") {
        let last = if ["unet", "dit"].contains(&case.op.as_str()) { i64::MAX } else { steps(case) as i64 - 1 };
        t.mapv_inplace(|t| (t + 1).min(last));
    } else {
        let t = case.attributes["t"].as_i64().expect("a timestep");
        wrong.attributes.insert("t".into(), json!(t + 1));
        let t_prev = case.attributes["t_prev"].as_i64().expect("a timestep");
        wrong.attributes.insert("t_prev".into(), json!(t_prev + 1));
    }
    evaluate(&wrong)
}

/// σ z with σ² = β of the first timestep.
fn noise_at_the_last_step(case: &Case) -> Result<Results<f64>> {
    let beta = case.attributes["config"]["beta_start"].as_f64().expect("a number");
    let mut results = evaluate::<f64>(case)?;
    results[0].1.scaled_add(beta.sqrt(), &case.numbers("input.noise"));
    Ok(results)
}

/// β = 1 − ᾱ(t)/ᾱ(t − 1) of ᾱ ∝ cos²((t/T + 0.008)/1.008 · π/2) to the end, and the tables that follow from it.
fn cosine_without_cap(case: &Case) -> Result<Results<f64>> {
    let steps = steps(case);
    let cosine = |t: f64| elementary::cos((t / steps + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2);
    let curve = |t: f64| cosine(t) * cosine(t);
    let mut alpha_bar = 1.0;
    let mut results = evaluate::<f64>(case)?;
    for t in 0..steps as usize {
        let beta = 1.0 - curve(t as f64 + 1.0) / curve(t as f64);
        let before = alpha_bar;
        alpha_bar *= 1.0 - beta;
        let row = [
            beta,
            alpha_bar,
            alpha_bar.sqrt(),
            (1.0 - alpha_bar).sqrt(),
            beta * (1.0 - before) / (1.0 - alpha_bar),
            beta * before.sqrt() / (1.0 - alpha_bar),
            (1.0 - before) * (1.0 - beta).sqrt() / (1.0 - alpha_bar),
        ];
        results.iter_mut().zip(row).for_each(|((_, table), value)| table[t] = value);
    }
    Ok(results)
}

/// Adam with the decay in the gradient, of a single step.
fn l2(case: &Case) -> Result<Results<f64>> {
    let decay = case.attributes["weight_decay"].as_f64().expect("a number");
    let w = case.numbers("input.w");
    let mut wrong = case.clone();
    wrong.attributes.insert("weight_decay".into(), json!(0.0));
    if let Some(Tensor::F32(grad)) = wrong.tensors.get_mut("input.grad") {
        grad.zip_mut_with(&w, |g, w| *g = (*g as f64 + decay * w) as f32);
    }
    evaluate(&wrong)
}
