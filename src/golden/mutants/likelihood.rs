//! Known mistakes of the variational bound and of the losses that teach a variance.

use ndarray::{ArrayD, Axis, Slice, concatenate};
use serde_json::json;

use super::{Mutant, mutant, with_attribute, with_input};
use crate::Result;
use crate::diffusion::likelihood::decoder::surprise;
use crate::diffusion::likelihood::{BITS, Said, Step};
use crate::golden::case::{Case, Tensor};
use crate::golden::ops::{Chain, Request, Results, evaluate};
use crate::layers::flat;
use crate::numerics::elementary::ln;

/// The mistakes, in words.
pub(super) const MUTANTS: &[Mutant] = &[
    mutant("without_t_over_1000", "the bound's part of the hybrid loss without T/1000", without_t_over_1000),
    mutant("mean_not_detached", "the bound's part of the hybrid loss teaches the mean", mean_not_detached),
    mutant("range_reversed", "log beta and log beta_tilde swapped: v = 1 gives beta_tilde", range_reversed),
    mutant("halves_swapped", "the first half of the channels is taken for the variance", halves_swapped),
    mutant("bins_off_by_one", "the decoder's bins are 2/256 wide for 2/255", bins_off_by_one),
    mutant("nats_for_bits", "the terms are not divided by ln 2", nats_for_bits),
    mutant("stride_ignored", "a chain that skips times keeps the beta of every single step", stride_ignored),
    mutant(
        "min_snr_without_plus_1",
        "min-SNR's weight of epsilon for v, whose has SNR + 1 in the denominator",
        min_snr_without_plus_1,
    ),
];

/// Both halves of the channels of an output, (steps, n, 2c, h, w).
fn halves(output: &ArrayD<f64>) -> [ArrayD<f64>; 2] {
    let channels = output.shape()[2] as isize / 2;
    [Slice::from(..channels), Slice::from(channels..)].map(|half| output.slice_axis(Axis(2), half).to_owned())
}

fn joined([mean, variance]: [ArrayD<f64>; 2]) -> ArrayD<f64> {
    concatenate(Axis(2), &[mean.view(), variance.view()]).expect("halves of one output")
}

/// L_simple + L_t for L_simple + T/1000·L_t.
fn without_t_over_1000(case: &Case) -> Result<Results<f64>> {
    let mut results = evaluate::<f64>(case)?;
    let factor = 1000.0 / case.tensors["input.timesteps"].shape()[0] as f64;
    let bound = evaluate::<f64>(&bound_of(case))?;
    let [mean, variance] = halves(&results[1].1);
    results[0].1 = &results[0].1 + &(&bound[0].1 * (1.0 - 1.0 / factor));
    results[1].1 = joined([mean, variance * factor]);
    Ok(results)
}

/// The gradient of the whole hybrid loss: the bound teaches the mean, too.
fn mean_not_detached(case: &Case) -> Result<Results<f64>> {
    let mut results = evaluate::<f64>(case)?;
    let chain = Chain::<f64>::read(&Request::new(case)?, false)?;
    let count = case.tensors["input.timesteps"].shape()[0] as f64;
    let slopes = chain
        .table(|step: &Step, x_0, eps, said: Said<f64>| step.term_and_slopes(&chain.reading, x_0, eps, said).1.mean);
    let [mut mean, variance] = halves(&results[1].1);
    // Channels last to channels first, image by image.
    let (channels, pixels) = (mean.shape()[2], mean.shape()[3] * mean.shape()[4]);
    let size = channels * pixels;
    for (image, slopes) in slopes.iter().enumerate() {
        for (i, slope) in slopes.iter().enumerate() {
            let at = image * size + i % channels * pixels + i / channels;
            crate::layers::flat_mut(&mut mean)[at] += count / 1000.0 * slope;
        }
    }
    results[1].1 = joined([mean, variance]);
    Ok(results)
}

/// v interpolates from ln β to ln β̃.
fn range_reversed(case: &Case) -> Result<Results<f64>> {
    let mut results = with_input(case, "model_output", |output| {
        let channels = output.shape()[2] as isize / 2;
        output.slice_axis_mut(Axis(2), Slice::from(channels..)).mapv_inplace(|v| -v);
    })?;
    if let Some((_, gradient)) = results.iter_mut().find(|(name, _)| name == "grad.model_output") {
        let [mean, variance] = halves(gradient);
        *gradient = joined([mean, -variance]);
    }
    Ok(results)
}

/// The variance first, then the mean.
fn halves_swapped(case: &Case) -> Result<Results<f64>> {
    let mut results = with_input(case, "model_output", |output| {
        let [mean, variance] = halves(&output.mapv(f64::from));
        *output = joined([variance, mean]).mapv(|x| x as f32);
    })?;
    if let Some((_, gradient)) = results.iter_mut().find(|(name, _)| name == "grad.model_output") {
        let [mean, variance] = halves(gradient);
        *gradient = joined([variance, mean]);
    }
    Ok(results)
}

/// Bins of 2/256 for 2/255: as wide as if 256 bytes were 256 intervals. A bin of k times the width has the probability of the bin
/// of the usual width under a distance and a deviation that are k times smaller.
fn bins_off_by_one(case: &Case) -> Result<Results<f64>> {
    let mut results = evaluate::<f64>(case)?;
    let request = Request::new(case)?;
    let chain = Chain::<f64>::read(&request, request.attribute("clip_sample", true)?)?;
    let (reading, k) = (chain.reading, 255.0 / 256.0);
    for image in 0..chain.x_0.dim().0 {
        results[0].1[[0, image]] = chain.at(0, image, |step, x_0, eps, said| {
            let x_t = crate::diffusion::q_sample(step.from, x_0, eps);
            let x_0_hat = reading.prediction.x_0_hat(step.from.marginal(), &x_t, said.mean);
            let nats = |i: usize| {
                let mean = reading.clip.map_or(x_0_hat[i], |range| x_0_hat[i].clamp(-range, range));
                let s = step.range.log_variance(reading.variance, said.variance.get(i).copied().unwrap_or(0.0));
                surprise(reading.cdf, x_0[i], x_0[i] - (x_0[i] - mean) / k, s - 2.0 * ln(k)).nats
            };
            (0..x_0.len()).map(nats).sum::<f64>() / x_0.len() as f64 * BITS
        });
    }
    Ok(results)
}

/// The terms and the prior in nats.
fn nats_for_bits(case: &Case) -> Result<Results<f64>> {
    let mut results = evaluate::<f64>(case)?;
    results.iter_mut().filter(|(name, _)| name != "output.x_0_mse").for_each(|(_, bits)| *bits /= BITS);
    Ok(results)
}

/// Every step as if the chain went from t to t − 1.
fn stride_ignored(case: &Case) -> Result<Results<f64>> {
    let mut results = evaluate::<f64>(case)?;
    let times = case.numbers("input.timesteps");
    for (row, &t) in flat(&times).iter().enumerate() {
        // A chain of two steps; the image's own step is the first of them.
        let (times, at) = if t == 0.0 { ([0, 1], 0) } else { ([t as i64 - 1, t as i64], 1) };
        let mut pair = case.clone();
        pair.tensors.insert("input.timesteps".into(), Tensor::I64(ndarray::arr1(&times).into_dyn()));
        for name in ["input.noise", "input.model_output"] {
            let Some(Tensor::F32(x)) = pair.tensors.get_mut(name) else { continue };
            let one = x.index_axis(Axis(0), row).insert_axis(Axis(0));
            *x = concatenate(Axis(0), &[one.view(), one.view()]).expect("twice the same");
        }
        let of_pair = evaluate::<f64>(&pair)?;
        for (name, values) in &mut results {
            if let Some((_, right)) = of_pair.iter().find(|(other, _)| other == name)
                && name != "output.prior"
            {
                values.index_axis_mut(Axis(0), row).assign(&right.index_axis(Axis(0), at));
            }
        }
    }
    Ok(results)
}

/// min(SNR, γ)/SNR for min(SNR, γ)/(SNR + 1), where v is predicted.
fn min_snr_without_plus_1(case: &Case) -> Result<Results<f64>> {
    with_attribute(case, "prediction_type", json!("epsilon"))
}

/// The bound without clipping, of the case of a hybrid loss.
fn bound_of(case: &Case) -> Case {
    let mut bound = Case { op: "variational_bound".into(), ..case.clone() };
    bound.attributes.insert("clip_sample".into(), json!(false));
    bound
}
