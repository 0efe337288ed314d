//! The loss of a batch and its gradient, microbatch by microbatch.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::objective::Batch;
use crate::Result;
use crate::diffusion::loss::l_simple;
use crate::layers::dropout::Key;
use crate::layers::stopwatch::timed;
use crate::layers::{ParameterVector, Prepared, Weights, flat, shaped};
use crate::models::{Conditions, Network, Time};
use crate::numerics::{Real, parallel};

/// Images in a microbatch: part of what fixes the bits of a run (contract N1, rule 5).
pub const MICROBATCH: usize = 4;

/// Memory for gradients: sums that start from zero. Whatever adds one to another, or to the weights, leaves zeros in it while
/// it is in the cache; clearing it later would fetch it once more.
#[derive(Debug)]
pub struct Zeros<F>(Mutex<Vec<ParameterVector<F>>>);

impl<F> Default for Zeros<F> {
    fn default() -> Self {
        Zeros(Mutex::default())
    }
}

impl<F: Real> Zeros<F> {
    /// As many zeros.
    fn take(&self, count: usize) -> ParameterVector<F> {
        let given = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        given.filter(|zeros| zeros.0.len() == count).unwrap_or_else(|| ParameterVector::zeros(count))
    }

    /// Gives zeros back for the next gradient; other numbers would be part of it.
    ///
    /// # Panics
    /// In a debug build, if they are not zeros.
    pub fn give(&self, zeros: ParameterVector<F>) {
        debug_assert!(zeros.0.iter().all(|&x| x == F::zero()), "a gradient that was not added to anything");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(zeros);
    }
}

/// L_simple of the batch and ∂L/∂w.
///
/// # Errors
/// Images or labels that the network does not take.
pub fn loss_and_gradient<F: Real>(
    network: &Network,
    w: &ParameterVector<F>,
    batch: &Batch<F>,
    key: Option<Key>,
    zeros: &Zeros<F>,
) -> Result<(f64, ParameterVector<F>)> {
    let count = batch.target.len();
    let (sum, grads) = over_microbatches(batch.time.len(), w, zeros, |w, range, grads| {
        let (x_t, target) = batch.slice(&range);
        let labels = batch.labels.as_ref().map(|labels| &labels[range.clone()]);
        let conditions = Conditions { time: Time::Steps(&batch.time[range.clone()]), labels };
        let key = key.map(|key| Key { first_image: range.start, ..key });
        let (output, tape) = network.forward(w, x_t, conditions, key)?;
        let (loss, d_output) = l_simple(flat(&output), flat(&target), count);
        network.parameter_gradients(w, tape, labels, &shaped(output.dim(), d_output), grads);
        Ok(loss)
    })?;
    Ok((sum / count as f64, grads))
}

/// The sum of the losses of all microbatches of so many images, and of their gradients, as a tree over the microbatches.
///
/// `of` takes the weights, the images of a microbatch and zeros to add its gradient to, and returns its loss.
///
/// # Errors
/// That of a microbatch.
pub(super) fn over_microbatches<F: Real>(
    images: usize,
    w: &ParameterVector<F>,
    zeros: &Zeros<F>,
    of: impl Fn(&dyn Weights<F>, Range<usize>, &mut ParameterVector<F>) -> Result<f64> + Sync,
) -> Result<(f64, ParameterVector<F>)> {
    let microbatches = parallel::ranges(images, MICROBATCH);
    let (count, prepared) = (w.0.len(), Prepared::new(w)); // one copy for all microbatches
    let w: &dyn Weights<F> = if microbatches.len() > 1 { &prepared } else { w };
    let of_microbatch = |i: usize| -> Result<(f64, ParameterVector<F>)> {
        let mut grads = zeros.take(count);
        let loss = of(w, microbatches[i].clone(), &mut grads)?;
        Ok((loss, grads))
    };
    let of_microbatch = |i: usize| timed(None, "between layers", 0, || of_microbatch(i));
    parallel::tree_sum(microbatches.len(), of_microbatch, |left, right| match (left, right) {
        (Ok((loss, grads)), Ok((right_loss, mut right_grads))) => {
            *loss += right_loss;
            grads.drain(&mut right_grads);
            zeros.give(right_grads);
        }
        (left, Err(error)) => *left = Err(error),
        (Err(_), Ok(_)) => {}
    })
}
