//! Mistakes in training, each of which changes all that follows: the loop by hand.

use serde_json::json;

use super::{Mutant, mutant, with_attribute, with_config};
use crate::Result;
use crate::golden::case::Case;
use crate::golden::ops::{Lessons, Request, Results, evaluate, learned};
use crate::layers::{Layout, ParameterVector};
use crate::numerics::sum::sum_of_squares;
use crate::train::adamw::Moments;
use crate::train::clip::{clip_factor, global_norm};
use crate::train::ema::update;
use crate::train::gradient::{Gradient, Zeros, loss_and_gradient};

/// The mistakes, in words.
pub(super) const MUTANTS: &[Mutant] = &[
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
    mutant("weights_untouched", "the weights are never updated", untouched),
    mutant("ema_before_the_step", "the average takes the weights from before the step", |case| {
        taught(case, Wrong::AverageBefore)
    }),
    mutant("ema_forgotten", "the weights for their average", average_forgotten),
    mutant("ema_untouched", "the average stays what it was", average_untouched),
];

/// What is wrong in a step.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wrong {
    /// The network is told t + 1.
    LaterTimes,
    /// Every tensor of the gradient is clipped by its own norm.
    EachClipped,
    /// The learning rate rises to its value in the last step.
    WarmedUp,
    /// The average takes the weights from before the step.
    AverageBefore,
}

/// The training with one of these.
fn taught(case: &Case, wrong: Wrong) -> Result<Results<f64>> {
    let Lessons { network, mut weights, batches, lr, descent } = Lessons::<f64>::read(&Request::new(case)?)?;
    let (layout, steps, zeros) = (network.layout(), batches.len(), Zeros::default());
    let (mut average, mut moments) = (weights.clone(), Moments::zeros(weights.0.len()));
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for (i, mut batch) in batches.into_iter().enumerate() {
        if wrong == Wrong::LaterTimes {
            batch.time.iter_mut().for_each(|t| *t += 1.0);
        }
        let Gradient { loss, mut grads, .. } = loss_and_gradient(&network, &weights, &batch, None, &zeros)?;
        losses.push(loss);
        norms.push(global_norm(layout, &grads));
        let mut clip = clip_factor(norms[i], descent.clip_norm);
        if wrong == Wrong::EachClipped {
            clip = 1.0;
            clip_each(layout, &mut grads, descent.clip_norm);
        }
        if wrong == Wrong::AverageBefore {
            update(&mut average, &weights, i as u64, descent.ema_decay);
        }
        let lr = if wrong == Wrong::WarmedUp { lr * (i + 1) as f64 / steps as f64 } else { lr };
        descent.adamw.step(i as u64 + 1, lr, clip, &mut weights, &mut grads, &mut moments);
        if wrong != Wrong::AverageBefore {
            update(&mut average, &weights, i as u64, descent.ema_decay);
        }
    }
    Ok(learned(layout, losses, norms, &weights, &average))
}

fn clip_each(layout: &Layout, grads: &mut ParameterVector<f64>, max_norm: f64) {
    for entry in &layout.entries {
        let factor = clip_factor(sum_of_squares(&grads[entry.span]).sqrt(), max_norm);
        grads[entry.span].iter_mut().for_each(|g| *g *= factor);
    }
}

/// The optimizer is never called: the weights stay what they were, in every step.
fn untouched(case: &Case) -> Result<Results<f64>> {
    with_attribute(case, "lr", 0.0.into())
}

/// The average is the weights.
fn average_forgotten(case: &Case) -> Result<Results<f64>> {
    with_averages_of(case, evaluate(case)?)
}

/// The average stays what it was.
fn average_untouched(case: &Case) -> Result<Results<f64>> {
    with_averages_of(case, untouched(case)?)
}

/// The right results, with the weights of others as averages.
fn with_averages_of(case: &Case, others: Results<f64>) -> Result<Results<f64>> {
    let mut results = evaluate::<f64>(case)?;
    for (name, values) in &mut results {
        if let Some(parameter) = name.strip_prefix("output.ema.") {
            let weight = format!("output.weight.{parameter}");
            *values = others.iter().find(|(name, _)| *name == weight).expect("a weight for each average").1.clone();
        }
    }
    Ok(results)
}
