//! Parameters by name, in one fixed order, in one flat vector.
//!
//! The optimizer, the average, clipping, checkpoints and microbatch gradients all see a slice of numbers; layers see their own
//! [`Span`] of it; files see names and shapes. The names are `diffusers`' names, in the order of construction.

use std::collections::HashSet;
use std::ops::{Index, IndexMut};

use crate::numerics::instruction_set::every_instruction_set;
use crate::numerics::rng::Stream;
use crate::numerics::{Real, parallel};

/// Where one parameter tensor lies in the flat vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The index of its first number.
    pub start: usize,
    /// How many numbers it has.
    pub len: usize,
}

/// What the axes of a tensor mean, which says how a file orders them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axes {
    /// Held as (kh, kw, c_in, c_out), the (K, c_out) matrix of the product; a file has (c_out, c_in, kh, kw).
    Conv {
        /// Kernel height and width.
        kernel: (usize, usize),
        /// Input channels.
        c_in: usize,
        /// Output channels.
        c_out: usize,
    },
    /// Held as (inputs, outputs); a file has (outputs, inputs).
    Linear {
        /// Input features.
        inputs: usize,
        /// Output features.
        outputs: usize,
    },
    /// Held as a file has it: biases, the scale and shift of norms, embedding tables.
    Same(Vec<usize>),
}

/// The distribution of a tensor's first values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in (−bound, bound); PyTorch's default for a layer is bound = 1/√fan_in, weight and bias alike.
    Uniform(f64),
    /// Standard normal: embedding tables.
    Normal,
    /// Normal with mean 0.
    NormalOf {
        /// Its standard deviation: a standard normal number, rounded, times this, rounded.
        deviation: f64,
    },
    /// All 1: the scale of norms.
    Ones,
    /// All 0: the last layer of each residual branch (Ho et al. 2020, released code), which then starts as the identity.
    Zeros,
}

/// One parameter tensor.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name in a diffusers file, `down_blocks.0.resnets.0.conv1.weight`.
    pub name: String,
    /// Its axes.
    pub axes: Axes,
    /// Its place.
    pub span: Span,
    /// Its first values.
    pub init: Init,
}

/// The names, shapes and places of all parameters of a model.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// The tensors in their fixed order.
    pub entries: Vec<Entry>,
    names: HashSet<String>,
    len: usize,
}

impl Layout {
    /// Adds a tensor behind the others. Sizes saturate: a layout holds no numbers, and what builds one from a file
    /// refuses a count out of reach before it allocates them.
    ///
    /// # Panics
    /// If there is a tensor of this name: both would get the same first values, and a file could hold only one.
    pub fn add(&mut self, name: String, axes: Axes, init: Init) -> Span {
        assert!(self.names.insert(name.clone()), "layout: two tensors are called {name}");
        let len = axes.shape().into_iter().fold(1, usize::saturating_mul);
        let span = Span { start: self.len, len };
        self.len = self.len.saturating_add(len);
        self.entries.push(Entry { name, axes, span, init });
        span
    }

    /// The number of parameters.
    pub fn count(&self) -> usize {
        self.len
    }

    /// First values, each tensor from the stream (seed, "init.NAME").
    pub fn initial<F: Real>(&self, seed: u64) -> ParameterVector<F> {
        let mut tensors = ParameterVector::zeros(self.len);
        for entry in &self.entries {
            let mut stream = Stream::keyed(seed, &format!("init.{}", entry.name), &[]);
            let values = &mut tensors[entry.span];
            match entry.init {
                Init::Uniform(bound) => {
                    values.iter_mut().for_each(|v| *v = F::from_f64(bound * (2.0 * stream.uniform() - 1.0)))
                }
                Init::Normal => stream.fill_normal(values),
                Init::NormalOf { deviation } => {
                    stream.fill_normal(values);
                    values.iter_mut().for_each(|v| *v *= F::from_f64(deviation));
                }
                Init::Ones => values.fill(F::one()),
                Init::Zeros => {}
            }
        }
        tensors
    }
}

impl Axes {
    /// The shape as files have it.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Axes::Conv { kernel: (kh, kw), c_in, c_out } => vec![*c_out, *c_in, *kh, *kw],
            Axes::Linear { inputs, outputs } => vec![*outputs, *inputs],
            Axes::Same(shape) => shape.clone(),
        }
    }

    /// Numbers in the order of our memory, in the order of a file.
    pub fn to_file<F: Copy>(&self, ours: &[F]) -> Vec<F> {
        let (rows, columns, taps) = self.matrix();
        // Ours (taps, columns, rows) to the file's (rows, columns, taps).
        let at = |i: usize| ((i % taps) * columns + i / taps % columns) * rows + i / (taps * columns);
        (0..ours.len()).map(|i| ours[at(i)]).collect()
    }

    /// Numbers in the order of a file, in the order of our memory.
    pub fn from_file<F: Copy>(&self, file: &[F]) -> Vec<F> {
        let (rows, columns, taps) = self.matrix();
        let at = |i: usize| ((i % rows) * columns + i / rows % columns) * taps + i / (rows * columns);
        (0..file.len()).map(|i| file[at(i)]).collect()
    }

    /// The file's shape as (rows, columns, taps): the axis that we put last, that which stays, those that we put first.
    fn matrix(&self) -> (usize, usize, usize) {
        match self {
            Axes::Conv { kernel: (kh, kw), c_in, c_out } => (*c_out, *c_in, kh * kw),
            Axes::Linear { inputs, outputs } => (*outputs, *inputs, 1),
            Axes::Same(shape) => (1, shape.iter().product(), 1),
        }
    }
}

/// A number for every parameter: weights, a gradient, a moment, an average.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterVector<F>(pub Vec<F>);

impl<F: Real> ParameterVector<F> {
    /// All zeros.
    pub fn zeros(count: usize) -> Self {
        ParameterVector(vec![F::zero(); count])
    }

    /// Adds `other`, element by element, and leaves zeros there for the next sum: it is at hand when it is read.
    pub fn drain(&mut self, other: &mut Self) {
        assert_eq!(self.0.len(), other.0.len(), "a sum of gradients of one network");
        let size = self.0.len().div_ceil(rayon::current_num_threads()).max(1);
        parallel::deal(self.0.chunks_mut(size).zip(other.0.chunks_mut(size)).collect(), |(sum, other)| {
            drain(sum, other)
        });
    }

    /// The same numbers in another precision, each rounded once.
    pub fn cast<G: Real>(&self) -> ParameterVector<G> {
        ParameterVector(self.0.iter().map(|&x| G::from_f64(x.to_f64())).collect())
    }
}

/// Where the backward pass of a network adds the gradients of its parameters.
pub trait GradientSink<F> {
    /// The sums so far.
    fn grads(&mut self) -> &mut ParameterVector<F>;

    /// This pass adds nothing more to what lies at `from` or behind it: later layers lie behind earlier ones, and are done first.
    fn finished(&mut self, from: usize);
}

impl<F> GradientSink<F> for ParameterVector<F> {
    fn grads(&mut self) -> &mut ParameterVector<F> {
        self
    }

    fn finished(&mut self, _: usize) {}
}

every_instruction_set! {
    /// sum + other, and zeros where `other` was.
    fn drain<F>(sum: &mut [F], other: &mut [F]) {
        for (sum, other) in sum.iter_mut().zip(other) {
            *sum += std::mem::replace(other, F::zero());
        }
    }
}

impl<F> Index<Span> for ParameterVector<F> {
    type Output = [F];
    fn index(&self, span: Span) -> &[F] {
        &self.0[span.start..span.start + span.len]
    }
}

impl<F> IndexMut<Span> for ParameterVector<F> {
    fn index_mut(&mut self, span: Span) -> &mut [F] {
        &mut self.0[span.start..span.start + span.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conv_weight_from_a_file_has_output_channels_last() {
        let axes = Axes::Conv { kernel: (2, 3), c_in: 4, c_out: 5 };
        let file: Vec<usize> = (0..120).collect();
        let ours = axes.from_file(&file);
        let (kh, kw, ci, co) = (1, 2, 3, 4);
        assert_eq!(ours[((kh * 3 + kw) * 4 + ci) * 5 + co], ((co * 4 + ci) * 2 + kh) * 3 + kw);
        assert_eq!(axes.to_file(&ours), file);
    }

    #[test]
    fn linear_weight_from_a_file_is_transposed() {
        let axes = Axes::Linear { inputs: 2, outputs: 3 };
        assert_eq!(axes.from_file(&[0, 1, 2, 3, 4, 5]), [0, 2, 4, 1, 3, 5]);
        assert_eq!(axes.to_file(&[0, 2, 4, 1, 3, 5]), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    #[should_panic(expected = "layout: two tensors are called norm.bias")]
    fn layout_with_a_second_tensor_of_one_name_panics_with_the_name() {
        let mut layout = Layout::default();
        for name in ["norm.weight", "norm.bias", "norm.bias"] {
            layout.add(name.into(), Axes::Same(vec![3]), Init::Normal);
        }
    }

    #[test]
    fn initial_values_of_a_tensor_do_not_depend_on_the_others() {
        let linear = |layout: &mut Layout, name: &str| {
            layout.add(name.into(), Axes::Linear { inputs: 3, outputs: 2 }, Init::Uniform(0.5))
        };
        let (mut one, mut two) = (Layout::default(), Layout::default());
        let alone = linear(&mut one, "b");
        linear(&mut two, "a");
        let second = linear(&mut two, "b");
        assert_eq!(one.initial::<f32>(9)[alone], two.initial::<f32>(9)[second]);
    }
}
