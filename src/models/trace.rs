//! What a forward pass computes on its way, module by module: for finding the layer in which two programs part.

use ndarray::{Array, ArrayD, Dimension};

use crate::layers::{Layout, Span};
use crate::numerics::Real;

/// The results of the modules of one forward pass in the order of their making; or nothing, where nobody asks.
#[derive(Debug)]
pub struct Trace<F>(Option<Vec<(Module, ArrayD<F>)>>);

/// What came out of each module, by its name, in the order of execution.
pub type Taps<F> = Vec<(String, ArrayD<F>)>;

/// A module, told by the place of one of its parameters, or, where it has none, by its name.
#[derive(Clone, Debug)]
enum Module {
    /// The layer whose weight it is.
    Layer(Span),
    /// The block that has the layer.
    Block(Span),
    /// The module of this name.
    Named(String),
}

impl<F: Real> Trace<F> {
    /// A trace that keeps nothing.
    pub(crate) fn off() -> Self {
        Trace(None)
    }

    /// A trace that keeps everything.
    pub(crate) fn on() -> Self {
        Trace(Some(Vec::new()))
    }

    /// y came out of the layer with this weight.
    pub(crate) fn layer<D: Dimension>(&mut self, weight: Span, y: &Array<F, D>) {
        self.keep(Module::Layer(weight), y);
    }

    /// The same for a y that is only made to be kept.
    pub(crate) fn layer_of<D: Dimension>(&mut self, weight: Span, y: impl FnOnce() -> Array<F, D>) {
        if self.0.is_some() {
            self.layer(weight, &y());
        }
    }

    /// y came out of the block that has the layer with this weight.
    pub(crate) fn block<D: Dimension>(&mut self, weight: Span, y: &Array<F, D>) {
        self.keep(Module::Block(weight), y);
    }

    /// y came out of the module of this name; both are only made to be kept.
    pub(crate) fn module<D: Dimension>(&mut self, made: impl FnOnce() -> (String, Array<F, D>)) {
        if self.0.is_some() {
            let (name, y) = made();
            self.keep(Module::Named(name), &y);
        }
    }

    fn keep<D: Dimension>(&mut self, module: Module, y: &Array<F, D>) {
        if let Some(taps) = &mut self.0 {
            taps.push((module, y.clone().into_dyn()));
        }
    }

    /// What was kept, under the names that diffusers gives the modules, channels last.
    pub(crate) fn named(self, layout: &Layout) -> Taps<F> {
        let name = |module: Module| {
            let (span, segments) = match module {
                Module::Layer(span) => (span, 1),
                Module::Block(span) => (span, 2),
                Module::Named(name) => return name,
            };
            let entry = layout.entries.iter().find(|entry| entry.span == span).expect("a weight of this network");
            let parts: Vec<&str> = entry.name.split('.').collect();
            parts[..parts.len() - segments].join(".")
        };
        self.0.into_iter().flatten().map(|(module, y)| (name(module), y)).collect()
    }
}
