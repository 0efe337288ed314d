//! The loss of a batch and its gradient, microbatch by microbatch.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::objective::Batch;
use crate::Result;
use crate::cluster::Ranks;
use crate::cluster::collect::Collector;
use crate::layers::dropout::Key;
use crate::layers::stopwatch::timed;
use crate::layers::{GradientSink, ParameterVector, Prepared, Weights, flat, shaped};
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
    /// Of each image its time, as the network is fed it, and its loss without what it counts; empty where all count alike.
    pub by_image: Vec<(f64, f64)>,
    /// ∂L/∂w.
    pub grads: ParameterVector<F>,
}

/// The images of a batch whose gradients the current rank computes: whole microbatches, all of them if it is alone.
pub fn own_images(images: usize) -> Range<usize> {
    let own = Ranks::current().share(images.div_ceil(MICROBATCH));
    (own.start * MICROBATCH).min(images)..(own.end * MICROBATCH).min(images)
}

/// The loss of the batch and ∂L/∂w. Inside of [`Ranks::install`] each rank computes its part of both ([`own_images`]), which have
/// to be among the images of the batch, and all get the whole.
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
    let (count, first) = (batch.elements(), batch.share.map_or(0, |share| share.first));
    let sum = over_microbatches(batch.images(), w, zeros, |w, images, grads| {
        let range = images.start - first..images.end - first;
        let (x_t, target) = batch.slice(&range);
        let labels = batch.labels.as_ref().map(|labels| &labels[range.clone()]);
        let conditions = Conditions { time: Time::Steps(&batch.time[range.clone()]), labels };
        let key = key.map(|key| Key { first_image: images.start, ..key });
        let (output, tape) = network.forward(w, x_t, conditions, key)?;
        let part = batch.loss(&range, flat(&output), flat(&target));
        network.parameter_gradients(w, tape, labels, shaped(output.dim(), part.gradient), grads);
        Ok((part.sum, batch.time[range].iter().copied().zip(part.by_image).collect()))
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

/// The loss of a microbatch, and the time and the loss of each of its images, where they count differently.
type Losses = (f64, Vec<(f64, f64)>);

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
    of: impl Fn(&dyn Weights<F>, Range<usize>, &mut dyn GradientSink<F>) -> Result<Losses> + Sync,
) -> Result<Gradient<F>> {
    let microbatches = parallel::ranges(images, MICROBATCH);
    let (count, prepared) = (w.0.len(), Prepared::new(w)); // one copy for all microbatches
    let w: &dyn Weights<F> = if microbatches.len() > 1 { &prepared } else { w };
    let of = |i: usize, grads: &mut dyn GradientSink<F>| {
        timed(None, "between layers", 0, || of(w, microbatches[i].clone(), grads))
    };
    let ranks = Ranks::current();
    if ranks.count() > 1 {
        return over_ranks(&ranks, microbatches.len(), count, zeros, of);
    }
    let of_microbatch = |i: usize| -> Result<Gradient<F>> {
        let mut grads = zeros.take(count);
        let (loss, by_image) = of(i, &mut grads)?;
        Ok(Gradient { loss, by_image, grads })
    };
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

/// The same over the microbatches of all ranks.
fn over_ranks<F: Real>(
    ranks: &Ranks,
    microbatches: usize,
    count: usize,
    zeros: &Zeros<F>,
    of: impl Fn(usize, &mut dyn GradientSink<F>) -> Result<Losses> + Sync,
) -> Result<Gradient<F>> {
    let summed = ranks.tree_sum(microbatches, count, |collector| {
        let own = collector.leaves();
        let losses = parallel::map(own.len(), |i| -> Result<Losses> {
            let left = collector.pieces().len();
            let mut handing = Handing { grads: zeros.take(count), collector, leaf: own.start + i, left };
            let losses = of(own.start + i, &mut handing)?;
            handing.finished(0);
            zeros.give(handing.grads);
            Ok(losses)
        });
        losses.into_iter().collect::<Result<Vec<_>>>().map(|losses| to_note(&losses))
    })?;
    let mut grads = zeros.take(count);
    summed.write(&mut grads.0);
    let losses: Vec<Losses> = summed.notes.iter().flat_map(|note| from_note(note)).collect();
    let (losses, by_image): (Vec<f64>, Vec<_>) = losses.into_iter().unzip();
    Ok(Gradient { loss: tree(&losses), by_image: by_image.concat(), grads })
}

/// A gradient whose pieces are handed over to the sum as soon as they are final, while the backward pass goes on with earlier
/// layers.
struct Handing<'a, F> {
    grads: ParameterVector<F>,
    collector: &'a Collector<F>,
    leaf: usize,
    /// Pieces that are not handed over yet: the first so many.
    left: usize,
}

impl<F: Real> GradientSink<F> for Handing<'_, F> {
    fn grads(&mut self) -> &mut ParameterVector<F> {
        &mut self.grads
    }

    fn finished(&mut self, from: usize) {
        let pieces = self.collector.pieces();
        while let Some(range) = pieces[..self.left].last().filter(|piece| piece.start >= from) {
            self.left -= 1;
            self.collector.add(self.leaf, self.left, &mut self.grads.0[range.clone()]);
        }
    }
}

/// The losses of microbatches and of their images in words.
fn to_note(losses: &[Losses]) -> Vec<u32> {
    let mut words = Vec::new();
    for (loss, by_image) in losses {
        words.push(by_image.len() as u32);
        f64::to_words(&[*loss], &mut words);
        by_image.iter().for_each(|&(time, loss)| f64::to_words(&[time, loss], &mut words));
    }
    words
}

fn from_note(mut words: &[u32]) -> Vec<Losses> {
    let mut losses = Vec::new();
    while let Some((&images, rest)) = words.split_first() {
        let mut numbers = vec![0.0; 1 + 2 * images as usize];
        let (of_microbatch, rest) = rest.split_at(2 * numbers.len());
        f64::from_words(of_microbatch, &mut numbers);
        losses.push((numbers[0], numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()));
        words = rest;
    }
    losses
}

/// The sum of some losses, at least one, as the tree has it.
fn tree(losses: &[f64]) -> f64 {
    match losses {
        [loss] => *loss,
        _ => {
            let (left, right) = losses.split_at(losses.len().div_ceil(2));
            tree(left) + tree(right)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::rng::normal;

    /// What one microbatch alone gives, added by hand as rule 5 has it, is what a batch of them gives.
    #[test]
    fn batch_of_microbatches_one_after_another_has_the_bits_of_the_tree_and_few_gradients_in_memory() {
        const IMAGES: usize = 4 * 36 + 3;
        const PARAMETERS: usize = 11;
        let gradients: Vec<Vec<f32>> = (0..37).map(|i| normal(PARAMETERS, i).mapv(|x| x as f32).to_vec()).collect();
        let pool = |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let w = ParameterVector::zeros(PARAMETERS);
        let of_batch = |zeros: &Zeros<f32>| {
            over_microbatches(IMAGES, &w, zeros, |_, images, grads| {
                let gradient = &gradients[images.start / MICROBATCH];
                grads.grads().0.iter_mut().zip(gradient).for_each(|(sum, x)| *sum += x);
                Ok((images.len() as f64, Vec::new()))
            })
            .expect("no error")
        };
        fn by_hand(gradients: &[Vec<f32>]) -> Vec<f32> {
            let [gradient] = gradients else {
                let (left, right) = gradients.split_at(gradients.len().div_ceil(2));
                return by_hand(left).into_iter().zip(by_hand(right)).map(|(left, right)| left + right).collect();
            };
            gradient.clone()
        }
        let expected = by_hand(&gradients);
        for threads in [1, 3] {
            let zeros = Zeros::default();
            let found = pool(threads).install(|| of_batch(&zeros));
            assert_eq!((found.grads.0, found.loss), (expected.clone(), IMAGES as f64), "{threads} threads");
            // One for each level of a tree of 37, and one for each microbatch under way.
            let at_once = zeros.0.lock().expect("no panic").len() + 1;
            assert!(threads > 1 || at_once <= 7, "{at_once} gradients in memory at once");
        }
    }
}
