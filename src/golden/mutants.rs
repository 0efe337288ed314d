//! Known mistakes, each with the values that it gives: what a tolerance has to reject, and a backend's error to be named.

mod attention;
mod layers;
mod likelihood;
mod norms;
mod processes;
mod rounding;
mod samplers;
mod sizes;
mod stored;
mod training;
mod transformer;
mod unet;

use ndarray::ArrayD;
use serde_json::{Value, json};

use super::case::{Case, Tensor};
use super::format::Format;
use super::ops::{Results, evaluate};
use crate::Result;
use crate::evaluate::quality::frechet::{Gaussian, Reference};
use rounding::{half_inputs, rounded_inputs};
pub use stored::add_mutant;
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
    mutant("flipped_kernel", "a convolution in the sense of mathematics: the kernel mirrored", layers::flipped_kernel),
    mutant("dilation_ignored", "a dilated kernel without its gaps, and as much less padding", |case| {
        with_attributes(case, &[("dilation", json!(1)), ("padding", json!(1))])
    }),
    mutant("output_padding_on_the_wrong_side", "the output padding at the top and left", |case| {
        with_attribute(case, "padding", json!([0, 2, 0, 2]))
    }),
    mutant("norm_eps_1e-5", "eps = 1e-5 for 1e-6", |case| with_attribute(case, "eps", json!(1e-5))),
    mutant("norm_eps_1e-6", "eps = 1e-6 for 1e-5", |case| with_attribute(case, "eps", json!(1e-6))),
    mutant("unbiased_variance", "the variance divides by N - 1", layers::unbiased_variance),
    mutant("eps_outside_the_root", "x / (sigma + eps) for x / sqrt(sigma^2 + eps)", norms::eps_outside),
    mutant("one_pass_variance", "the variance as E[x^2] - E[x]^2 in float32", norms::one_pass),
    mutant("groups_interleaved", "channel c belongs to group c mod groups for c / (channels of a group)", |case| {
        match case.op.as_str() {
            "conv2d" => layers::groups_interleaved(case),
            _ => norms::groups_interleaved(case),
        }
    }),
    mutant("softmax_of_columns", "softmax over the other axis", norms::softmax_of_columns),
    mutant("heads_reversed", "the heads' results joined from the last to the first", norms::heads_reversed),
    mutant("one_group_a_channel", "every channel is a group of its own", |case| {
        with_attribute(case, "groups", json!(case.tensors["input.x"].shape()[1]))
    }),
    mutant("exact_gelu", "the GELU of the normal distribution for its tanh form", |case| match case.op.as_str() {
        "gelu_tanh" => layers::exact_gelu(case),
        _ => transformer::exact_gelu(case),
    }),
    mutant("tanh_gelu", "the GELU's tanh form for that of the normal distribution", |case| {
        evaluate(&Case { op: "gelu_tanh".into(), ..case.clone() })
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
    mutant("scores_not_scaled", "attention scores without 1/sqrt(d)", |case| layers::scores_times(case, f64::sqrt)),
    mutant("scores_scaled_by_d", "attention scores times 1/d for 1/sqrt(d)", |case| {
        layers::scores_times(case, |d| 1.0 / d.sqrt())
    }),
    mutant("mask_ignored", "every query sees every key", |case| {
        let mut wrong = case.clone();
        wrong.tensors.remove("input.mask");
        evaluate(&wrong)
    }),
    mutant(
        "mask_after_softmax",
        "probabilities of hidden keys set to zero, the others as they were beside them",
        attention::mask_after_softmax,
    ),
    mutant("hidden_score_of_minus_20", "a hidden score is -20, and visible ones may be less", |case| {
        attention::hidden_score(case, -20.0)
    }),
    mutant("hidden_score_of_minus_10000", "a hidden score is -10000, and visible ones may be less", |case| {
        attention::hidden_score(case, -10_000.0)
    }),
    mutant(
        "key_blocks_not_rescaled",
        "softmax over blocks of 32 keys, each beside its own maximum",
        attention::not_rescaled,
    ),
    mutant(
        "rest_of_the_terms_dropped",
        "the terms of a sum beyond the last whole 16 are left out",
        sizes::without_rest,
    ),
    mutant("columns_beyond_32_zero", "columns after the 32nd are never written", |case| sizes::zero_beyond(case, 1)),
    mutant("channels_beyond_32_zero", "channels after the 32nd are never written", |case| sizes::zero_beyond(case, 1)),
    mutant("pixels_beyond_32_zero", "rows of pixels after the 32nd are never written", |case| {
        sizes::zero_beyond(case, 2)
    }),
    mutant(
        "group_statistics_of_a_part",
        "mean and variance of the first 4096 numbers of a group",
        sizes::statistics_of_a_part,
    ),
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
    mutant("timestep_off_by_one", "the network is fed t = 1..=T for 0..T", processes::later_by_one),
    mutant("alpha_bar_off_by_one", "alpha_bar of the next timestep", processes::later_by_one),
    mutant("alpha_bar_of_the_step_before", "alpha_bar of t - 1", |case| {
        let mut wrong = case.clone();
        if let Some(Tensor::I64(t)) = wrong.tensors.get_mut("input.t") {
            t.mapv_inplace(|t| (t - 1).max(0));
        }
        evaluate(&wrong)
    }),
    mutant("cosine_without_cap", "the cosine schedule's last betas above 0.999", processes::cosine_without_cap),
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
    mutant("noise_at_the_last_step", "the last step adds noise", processes::noise_at_the_last_step),
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
        processes::l2,
    ),
    mutant("decay_without_lr", "the weight decay is not multiplied by the learning rate", |case| {
        let number = |name: &str| case.attributes[name].as_f64().expect("a number");
        with_attribute(case, "weight_decay", json!(number("weight_decay") / number("lr")))
    }),
    mutant("ema_without_warm_up", "the average has its final decay from the first step on", |case| {
        with_attribute(case, "step", json!(100_000_000))
    }),
    mutant(
        "adam_eps_inside_the_root",
        "Adam with eps under the root of the second moment",
        processes::eps_inside_the_root,
    ),
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
