//! The parameters as layers read them: by their place, and as panels for products.
//!
//! A product reads a weight in [`Panels`], a copy. With a bare [`ParameterVector`] every use pays for a copy.
//! [`Prepared`] keeps the copies, for as long as the weights stand still: for a training step of many microbatches, for all
//! steps of sampling. The numbers are the same, so the bits are too.

use std::collections::HashMap;
use std::ops::Index;
use std::sync::{Arc, Mutex, OnceLock};

use super::{ParameterVector, Span};
use crate::numerics::Real;
use crate::numerics::gemm::Panels;

/// What a product needs of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// y from x.
    Forward,
    /// dx from dy; a strided convolution has one such matrix a phase.
    Backward {
        /// Which.
        phase: usize,
    },
}

/// Parameters, read by layers.
pub trait Weights<F: Real>: Index<Span, Output = [F]> + Sync {
    /// The weight at `span` as the right matrix of a product; `copy` makes it.
    fn panels(&self, span: Span, usage: Use, copy: &dyn Fn(&[F]) -> Panels<F>) -> Arc<Panels<F>>;
}

impl<F: Real> Weights<F> for ParameterVector<F> {
    fn panels(&self, span: Span, _: Use, copy: &dyn Fn(&[F]) -> Panels<F>) -> Arc<Panels<F>> {
        Arc::new(copy(&self[span]))
    }
}

/// The copy of a weight for a use, or the place for it until the first use.
type Copies<F> = HashMap<(usize, Use), Arc<OnceLock<Arc<Panels<F>>>>>;

/// Weights whose panels are kept once they are made.
#[derive(Debug)]
pub struct Prepared<'a, F: Real> {
    tensors: &'a ParameterVector<F>,
    panels: Mutex<Copies<F>>,
}

impl<'a, F: Real> Prepared<'a, F> {
    /// Nothing is copied before it is used.
    pub fn new(tensors: &'a ParameterVector<F>) -> Self {
        Prepared { tensors, panels: Mutex::default() }
    }
}

impl<F: Real> Index<Span> for Prepared<'_, F> {
    type Output = [F];
    fn index(&self, span: Span) -> &[F] {
        &self.tensors[span]
    }
}

impl<F: Real> Weights<F> for Prepared<'_, F> {
    fn panels(&self, span: Span, usage: Use, copy: &dyn Fn(&[F]) -> Panels<F>) -> Arc<Panels<F>> {
        let mut panels = self.panels.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let kept = Arc::clone(panels.entry((span.start, usage)).or_default());
        drop(panels); // a use of another weight need not wait for the copy of this one
        Arc::clone(kept.get_or_init(|| Arc::new(copy(&self.tensors[span]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepared_weights_are_copied_once_a_use() {
        let tensors = ParameterVector(vec![1.0f32, 2.0, 3.0, 4.0]);
        let prepared = Prepared::new(&tensors);
        let count = std::sync::atomic::AtomicUsize::new(0);
        let copy = |w: &[f32]| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Panels::new(w, 2, 1, 1, 1)
        };
        let (first, second) = (Span { start: 0, len: 2 }, Span { start: 2, len: 2 });
        for usage in [Use::Forward, Use::Backward { phase: 0 }, Use::Forward] {
            prepared.panels(first, usage, &copy);
            prepared.panels(second, usage, &copy);
        }
        assert_eq!(count.into_inner(), 4);
        assert_eq!(&prepared[second], &tensors[second]);
    }
}
