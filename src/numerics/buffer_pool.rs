//! Memory that activations leave and take again.
//!
//! A pass makes hundreds of arrays of a few dozen sizes, the same at every step. To ask the system for each again costs
//! a page fault every 4 KiB, and zeros that nobody reads. So what is no longer needed is put on a pool of its thread
//! (`give`), and taken from there (`take`) with its old numbers, so all of them have to be written before any is read.
//!
//! What lies in the pool while hundreds of others are taken belongs to work that is over, and goes back to the allocator.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use ndarray::{Array, Dimension, IntoDimension, s};

use super::Real;

/// Arrays of fewer bytes are left to the allocator, which is good at those.
const WORTH_KEEPING: usize = 16 << 10;

/// Takings after which what was not taken is given back: about what a microbatch of a small network has.
const STALE: usize = 400;

/// From this many bytes on, allocators hand memory back to the system. Smaller arrays they keep themselves, and cut up: so
/// when a small one is missing and more than [`SPARE`] of them lie here, twice as much of the oldest is left to them.
const LARGE: usize = 1 << 20;

/// Bytes of small arrays that stay whatever is missing: about what a pass without gradients takes in turn.
const SPARE: usize = 8 << 20;

/// What was given, the oldest first, each with the number of takings before.
struct Pool<F> {
    given: VecDeque<(usize, Vec<F>)>,
    takings: usize,
}

thread_local! {
    static POOLS: RefCell<HashMap<TypeId, Box<dyn Any>>> = RefCell::default();
}

fn with_pool<F: Real, T>(work: impl FnOnce(&mut Pool<F>) -> T) -> T {
    POOLS.with_borrow_mut(|pools| {
        let pool = pools
            .entry(TypeId::of::<F>())
            .or_insert_with(|| Box::new(Pool::<F> { given: VecDeque::new(), takings: 0 }));
        work(pool.downcast_mut().expect("the pool of this type"))
    })
}

/// `len` numbers of no meaning, the first of them where a cache line begins.
pub(crate) fn take<F: Real>(len: usize) -> Aligned<F> {
    let slack = LINE / size_of::<F>();
    let data: Vec<F> = numbers(len + slack);
    let start = data.as_ptr().align_offset(LINE).min(slack);
    Aligned { data, place: start..start + len }
}

/// At least `len` numbers of no meaning, wherever they lie.
fn numbers<F: Real>(len: usize) -> Vec<F> {
    let mut x = fitting(len).unwrap_or_default();
    x.resize(len.max(x.len()), F::zero());
    if cfg!(debug_assertions) {
        x.fill(F::from_f64(f64::NAN)); // shows where something is read before it is written
    }
    x
}

/// A copy of `x`, contiguous whether or not `x` is.
pub(crate) fn clone<F: Real, D: Dimension>(x: &Array<F, D>) -> Array<F, D> {
    let Some(numbers) = x.as_slice() else { return x.as_standard_layout().into_owned() };
    let mut copy = take(numbers.len());
    copy.copy_from_slice(numbers);
    copy.into_array(x.raw_dim())
}

/// The smallest that was given and has room for `len`, but not for much more; of equals the newest, which is still warm.
fn fitting<F: Real>(len: usize) -> Option<Vec<F>> {
    if len * size_of::<F>() < WORTH_KEEPING {
        return None;
    }
    with_pool(|pool: &mut Pool<F>| {
        pool.takings += 1;
        while pool.given.front().is_some_and(|(when, _)| pool.takings - when > STALE) {
            pool.given.pop_front();
        }
        let fits = |x: &Vec<F>| (len..=len + len / 4).contains(&x.capacity());
        let fitting = (0..pool.given.len()).rev().filter(|&i| fits(&pool.given[i].1));
        let best = fitting.min_by_key(|&i| pool.given[i].1.capacity());
        let bytes = |x: &Vec<F>| x.capacity() * size_of::<F>();
        if best.is_none() && len * size_of::<F>() < LARGE {
            let small: usize = pool.given.iter().map(|(_, x)| bytes(x)).filter(|&bytes| bytes < LARGE).sum();
            let mut too_much = small.saturating_sub(SPARE).min(2 * len * size_of::<F>());
            pool.given.retain(|(_, x)| {
                let stays = too_much == 0 || bytes(x) >= LARGE;
                too_much = if stays { too_much } else { too_much.saturating_sub(bytes(x)) };
                stays
            });
        }
        best.and_then(|i| pool.given.remove(i)).map(|(_, x)| x)
    })
}

/// Puts the memory of `x` on the pool.
pub(crate) fn give<F: Real, D: Dimension>(x: Array<F, D>) {
    give_numbers(x.into_raw_vec_and_offset().0);
}

/// Puts `x` on the pool.
fn give_numbers<F: Real>(x: Vec<F>) {
    if x.capacity() * size_of::<F>() >= WORTH_KEEPING {
        with_pool(|pool| pool.given.push_back((pool.takings, x)));
    }
}

/// Numbers that begin where a cache line does: a register of them is not read out of two lines, and two threads that write
/// some rows each, or some columns, do not write into one.
#[derive(Debug)]
pub(crate) struct Aligned<F: Real> {
    data: Vec<F>,
    place: Range<usize>,
}

/// Bytes of a cache line; nothing but speed depends on it.
const LINE: usize = 64;

impl<F: Real> Aligned<F> {
    /// The same numbers as an array of shape `dim`, where they are.
    pub(crate) fn into_array<D: Dimension>(mut self, dim: impl IntoDimension<Dim = D>) -> Array<F, D> {
        let data = std::mem::take(&mut self.data);
        let numbers = Array::from_vec(data).slice_move(s![self.place.clone()]);
        numbers.into_shape_with_order(dim.into_dimension()).expect("as many numbers as the shape says")
    }
}

impl<F: Real> Deref for Aligned<F> {
    type Target = [F];
    fn deref(&self) -> &[F] {
        &self.data[self.place.clone()]
    }
}

impl<F: Real> DerefMut for Aligned<F> {
    fn deref_mut(&mut self) -> &mut [F] {
        &mut self.data[self.place.clone()]
    }
}

impl<F: Real> Drop for Aligned<F> {
    fn drop(&mut self) {
        give_numbers(std::mem::take(&mut self.data));
    }
}

/// An array that several may keep: a clone is the same array. When the last of them is dropped, the memory goes back to the
/// pool.
///
/// It is contiguous: an array that is not is copied on the way in.
#[derive(Debug)]
pub struct Kept<F: Real, D: Dimension>(Arc<Owned<F, D>>);

#[derive(Debug)]
struct Owned<F: Real, D: Dimension>(Option<Array<F, D>>);

impl<F: Real, D: Dimension> Kept<F, D> {
    /// The array, to be changed: itself if nobody else keeps it, else a copy.
    pub fn into_owned(self) -> Array<F, D> {
        match Arc::try_unwrap(self.0) {
            Ok(mut owned) => owned.0.take().expect("it is there until it is dropped"),
            Err(shared) => clone(&Kept(shared)),
        }
    }
}

impl<F: Real, D: Dimension> From<Array<F, D>> for Kept<F, D> {
    fn from(x: Array<F, D>) -> Self {
        let x = if x.is_standard_layout() { x } else { clone(&x) };
        Kept(Arc::new(Owned(Some(x))))
    }
}

/// A copy.
impl<F: Real, D: Dimension> From<&Array<F, D>> for Kept<F, D> {
    fn from(x: &Array<F, D>) -> Self {
        clone(x).into()
    }
}

impl<F: Real, D: Dimension> Clone for Kept<F, D> {
    fn clone(&self) -> Self {
        Kept(Arc::clone(&self.0))
    }
}

impl<F: Real, D: Dimension> Deref for Kept<F, D> {
    type Target = Array<F, D>;
    fn deref(&self) -> &Array<F, D> {
        self.0.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<F: Real, D: Dimension> Drop for Owned<F, D> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(give);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = WORTH_KEEPING;

    fn in_the_pool() -> usize {
        with_pool(|pool: &mut Pool<f32>| pool.given.iter().map(|(_, x)| x.capacity()).sum())
    }

    #[test]
    fn memory_that_is_kept_is_taken_again_where_it_fits() {
        let x = take::<f32>(LEN);
        let place = x.as_ptr();
        assert_eq!(place.align_offset(LINE), 0);
        let kept = Kept::from(x.into_array(LEN));
        drop(kept.clone());
        assert_eq!(in_the_pool(), 0);
        drop(kept);
        assert_eq!(in_the_pool(), LEN + LINE / size_of::<f32>());
        let smaller = Array::from_vec(vec![1.0f32; LEN - LEN / 8]);
        let again = clone(&smaller);
        assert_eq!((again.as_ptr(), in_the_pool()), (place, 0));
        assert_eq!(again, smaller);
    }

    #[test]
    fn kept_array_is_handed_out_itself_by_the_last_who_keeps_it_and_copied_by_the_others() {
        let kept = Kept::from(Array::from_vec(vec![1.0f32, 2.0, 3.0]));
        let place = kept.as_ptr();
        let copy = kept.clone().into_owned();
        assert_ne!(copy.as_ptr(), place);
        assert_eq!(copy, *kept);
        assert_eq!(kept.into_owned().as_ptr(), place);
    }

    #[test]
    fn kept_array_is_contiguous_whatever_it_is_made_from() {
        let x = Array::from_shape_fn((2, 3, 5), |(i, j, k)| (100 * i + 10 * j + k) as f32);
        let permuted = x.permuted_axes([2, 0, 1]);
        assert!(permuted.as_slice().is_none());
        for kept in [Kept::from(&permuted), Kept::from(permuted.clone())] {
            assert_eq!(*kept, permuted);
            assert!(kept.as_slice().is_some());
        }
    }

    #[test]
    fn small_arrays_of_other_sizes_go_back_when_there_are_many_and_one_is_missing() {
        let some = SPARE / size_of::<f32>() / LEN; // of LEN numbers each, as many as may stay
        (0..some).for_each(|_| give_numbers(vec![0.0f32; LEN]));
        give_numbers(numbers::<f32>(2 * LEN));
        assert_eq!(in_the_pool(), (some + 2) * LEN, "all may stay");
        give_numbers(numbers::<f32>(4 * LEN));
        assert_eq!(in_the_pool(), (some + 4) * LEN, "two of the oldest are too many");
    }

    #[test]
    fn what_nobody_takes_goes_back() {
        give_numbers(vec![0.0f32; 4 * LEN]);
        (0..=STALE).for_each(|_| give_numbers(numbers::<f32>(LEN)));
        assert_eq!(in_the_pool(), LEN);
    }
}
