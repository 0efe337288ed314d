//! The loss of a batch and its gradient, microbatch by microbatch.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::objective::Batch;
use crate::Result;
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

/// The loss of a batch and ∂L/∂w.
#[derive(Debug)]
pub struct Gradient<F> {
    /// The loss.
    pub loss: f64,
    /// That of each image, without what it counts; empty where all count alike.
    pub by_image: Vec<f64>,
    /// ∂L/∂w.
    pub grads: ParameterVector<F>,
}

/// The loss of the batch and ∂L/∂w.
///
/// # Errors
/// Images or labels that the network does not take.
pub fn loss_and_gradient<F: Real>(
    network: &Network,
    w: &ParameterVector<F>,
    batch: &Batch<F>,
    key: Option<Key>,
    zeros: &Zeros<F>,
) -> Result<Gradient<F>> {
    let count = batch.target.len();
    let sum = over_microbatches(batch.time.len(), w, zeros, |w, range, grads| {
        let (x_t, target) = batch.slice(&range);
        let labels = batch.labels.as_ref().map(|labels| &labels[range.clone()]);
        let conditions = Conditions { time: Time::Steps(&batch.time[range.clone()]), labels };
        let key = key.map(|key| Key { first_image: range.start, ..key });
        let (output, tape) = network.forward(w, x_t, conditions, key)?;
        let part = batch.loss(&range, flat(&output), flat(&target));
        network.parameter_gradients(w, tape, labels, shaped(output.dim(), part.gradient), grads);
        Ok((part.sum, part.by_image))
    })?;
    Ok(Gradient { loss: sum.loss / count as f64, ..sum })
}

/// The loss of the batch alone.
///
/// # Errors
/// Images or labels that the network does not take.
pub fn loss<F: Real>(network: &Network, w: &ParameterVector<F>, batch: &Batch<F>) -> Result<f64> {
    let prepared = Prepared::new(w);
    let parts = parallel::ranges(batch.time.len(), MICROBATCH);
    let of_part = |i: usize| -> Result<f64> {
        let (x_t, target) = batch.slice(&parts[i]);
        let labels = batch.labels.as_ref().map(|labels| &labels[parts[i].clone()]);
        let conditions = Conditions { time: Time::Steps(&batch.time[parts[i].clone()]), labels };
        let output = network.predict(&prepared, x_t, conditions)?;
        Ok(batch.loss(&parts[i], flat(&output), flat(&target)).sum)
    };
    let sums = parallel::map(parts.len(), of_part).into_iter().collect::<Result<Vec<f64>>>()?;
    Ok(sums.iter().fold(0.0, |total, sum| total + sum) / batch.target.len() as f64)
}

/// The sum of the losses of all microbatches of so many images, and of their gradients, as a tree over the microbatches.
///
/// `of` takes the weights, the images of a microbatch and zeros to add its gradient to, and returns its loss and that of each
/// image.
///
/// # Errors
/// That of a microbatch.
pub(super) fn over_microbatches<F: Real>(
    images: usize,
    w: &ParameterVector<F>,
    zeros: &Zeros<F>,
    of: impl Fn(&dyn Weights<F>, Range<usize>, &mut ParameterVector<F>) -> Result<(f64, Vec<f64>)> + Sync,
) -> Result<Gradient<F>> {
    let microbatches = parallel::ranges(images, MICROBATCH);
    let (count, prepared) = (w.0.len(), Prepared::new(w)); // one copy for all microbatches
    let w: &dyn Weights<F> = if microbatches.len() > 1 { &prepared } else { w };
    let of_microbatch = |i: usize| -> Result<Gradient<F>> {
        let mut grads = zeros.take(count);
        let (loss, by_image) = of(w, microbatches[i].clone(), &mut grads)?;
        Ok(Gradient { loss, by_image, grads })
    };
    let of_microbatch = |i: usize| timed(None, "between layers", 0, || of_microbatch(i));
    parallel::tree_sum(microbatches.len(), of_microbatch, |left, right| match (left, right) {
        (Ok(left), Ok(mut right)) => {
            left.loss += right.loss;
            left.by_image.append(&mut right.by_image);
            left.grads.drain(&mut right.grads);
            zeros.give(right.grads);
        }
        (left, Err(error)) => *left = Err(error),
        (Err(_), Ok(_)) => {}
    })
}
