//! The inputs of a case of the kit, from keyed streams: case by case the same on every machine.

use ndarray::{ArrayD, IxDyn};
use serde_json::Value;

use crate::golden::case::{Case, Tensor};
use crate::numerics::rng::Stream;

/// A case of the kit before its results are computed.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The level it belongs to.
    pub level: &'static str,
    /// Its name within the level.
    pub name: String,
    /// Its operation, attributes and inputs.
    pub case: Case,
    /// The known mistakes whose values it holds.
    pub mutants: Vec<&'static str>,
    /// Whether it tells orders of addition apart.
    pub probe: bool,
}

impl Draft {
    /// A case without inputs.
    pub fn new(level: &'static str, name: &str, op: &str, attributes: Value) -> Self {
        let Value::Object(attributes) = attributes else { panic!("attributes are an object") };
        let case = Case { op: op.into(), attributes, ..Case::default() };
        Draft { level, name: name.into(), case, mutants: Vec::new(), probe: false }
    }

    fn tensor(mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Self {
        let values = ArrayD::from_shape_vec(IxDyn(shape), values).expect("as many as the shape says");
        let name = if name == "grad_output" { name.to_string() } else { format!("input.{name}") };
        self.case.tensors.insert(name, Tensor::F32(values));
        self
    }

    fn stream(&self, name: &str) -> Stream {
        Stream::keyed(0, &format!("golden.{}/{}.{name}", self.level, self.name), &[])
    }

    /// Standard normal numbers.
    pub fn normal(self, name: &str, shape: &[usize]) -> Self {
        self.normal_around(name, shape, 0.0, 1.0)
    }

    /// Normal numbers of a mean and a deviation.
    pub fn normal_around(self, name: &str, shape: &[usize], mean: f32, deviation: f32) -> Self {
        let mut values = vec![0.0f32; shape.iter().product()];
        self.stream(name).fill_normal(&mut values);
        values.iter_mut().for_each(|x| *x = mean + deviation * *x);
        self.tensor(name, shape, values)
    }

    /// Numbers that are given.
    pub fn values(self, name: &str, values: impl IntoIterator<Item = f32>) -> Self {
        let values: Vec<f32> = values.into_iter().collect();
        self.tensor(name, &[values.len()], values)
    }

    /// `count` numbers from `first` to `last`. Those between are drawn, each from its part of the way, and zero stays if
    /// an even grid has it: the numbers of the grid itself have so few digits that a backend in bf16 would pass.
    pub fn range(self, name: &str, first: f32, last: f32, count: usize) -> Self {
        let mut stream = self.stream(name);
        let step = (last - first) / (count - 1) as f32;
        let number = |i: usize| {
            let (even, moved) = (first + i as f32 * step, (stream.uniform() - 0.5) as f32 * step);
            if i == 0 || i + 1 == count || even == 0.0 { even } else { even + moved }
        };
        let values: Vec<f32> = (0..count).map(number).collect();
        self.values(name, values)
    }

    /// Numbers drawn evenly from `least` to `most`.
    pub fn spread(self, name: &str, shape: &[usize], least: f64, most: f64) -> Self {
        let mut stream = self.stream(name);
        let values = (0..shape.iter().product()).map(|_| (least + (most - least) * stream.uniform()) as f32).collect();
        self.tensor(name, shape, values)
    }

    /// `count` covariances of d numbers, (count, d, d): symmetric, with eigenvalues from 0.1 on.
    pub fn covariances(self, name: &str, count: usize, d: usize) -> Self {
        let mut root = vec![0.0f32; count * d * d];
        self.stream(name).fill_normal(&mut root);
        let element = |k: usize, i: usize, j: usize| {
            let product: f64 =
                (0..d).map(|m| root[(k * d + i) * d + m] as f64 * root[(k * d + j) * d + m] as f64).sum();
            (0.2 * product + if i == j { 0.1 } else { 0.0 }) as f32
        };
        let values = (0..count * d * d).map(|at| element(at / d / d, at / d % d, at % d)).collect();
        self.tensor(name, &[count, d, d], values)
    }

    /// Integers that are given.
    pub fn integers(mut self, name: &str, shape: &[usize], values: &[i64]) -> Self {
        let values = ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).expect("as many as the shape says");
        self.case.tensors.insert(format!("input.{name}"), Tensor::I64(values));
        self
    }

    /// Integers drawn evenly from 0..end.
    pub fn drawn(self, name: &str, shape: &[usize], end: u64) -> Self {
        let mut stream = self.stream(name);
        let values: Vec<i64> = (0..shape.iter().product()).map(|_| stream.below(end) as i64).collect();
        self.integers(name, shape, &values)
    }

    /// Whole numbers from 0 to `end` - 1, as floats.
    pub fn whole(self, name: &str, shape: &[usize], end: u64) -> Self {
        let mut stream = self.stream(name);
        let values = (0..shape.iter().product()).map(|_| stream.below(end) as f32).collect();
        self.tensor(name, shape, values)
    }

    /// Bytes as pixels in [−1, 1], black and white among them.
    pub fn pixels(self, name: &str, shape: &[usize]) -> Self {
        let mut stream = self.stream(name);
        let byte = |i: usize| match i {
            0 => 0,
            1 => 255,
            _ => stream.below(256),
        };
        let values = (0..shape.iter().product()).map(byte).map(|byte| byte as f32 / 127.5 - 1.0).collect();
        self.tensor(name, shape, values)
    }

    /// A random gradient of the output.
    pub fn grad(self, shape: &[usize]) -> Self {
        self.normal("grad_output", shape)
    }

    /// With the values of these known mistakes.
    pub fn mutants(mut self, names: &[&'static str]) -> Self {
        self.mutants.extend(names);
        self
    }
}
