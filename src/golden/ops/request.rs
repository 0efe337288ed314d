//! What a case asks for, checked: names against the signature of its operation, types and shapes where they are read.

use ndarray::{Array, Array4, ArrayD, Dimension};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::super::case::{Case, Tensor};
use super::super::precision::Precision;
use super::{SIGNATURES, Signature};
use crate::layers::{Layout, ParameterVector};
use crate::numerics::Real;
use crate::{Error, Result};

/// The most numbers that an input or a result may have: 512 MiB of float64.
const MAX_NUMBERS: usize = 1 << 26;

/// The most multiply-adds of a product: some seconds of float64.
const MAX_WORK: usize = 1 << 38;

/// A case whose names are known.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    case: &'a Case,
}

impl<'a> Request<'a> {
    /// Checks the names of a case.
    ///
    /// # Errors
    /// An operation, input or attribute that is not known or missing, with the list of what is known; an input without
    /// numbers, or that holds NaN or an infinity.
    pub fn new(case: &'a Case) -> Result<Self> {
        let request = Request { case };
        let Some(signature) = SIGNATURES.iter().find(|s| s.op == case.op) else {
            let known: Vec<&str> = SIGNATURES.iter().map(|s| s.op).collect();
            return Err(request.refuse("op", known.join(", "), &case.op));
        };
        request.check_names(signature)?;
        for (name, tensor) in case.tensors.iter().filter(|(name, _)| is_input(name)) {
            if !(1..=MAX_NUMBERS).contains(&product(tensor.shape())) {
                return Err(request.refuse(name, "a tensor with 1 to 2^26 numbers", format!("{:?}", tensor.shape())));
            }
            if let Tensor::F32(x) = tensor
                && let Some(x) = x.iter().find(|x| !x.is_finite())
            {
                return Err(request.refuse(name, "finite numbers", x));
            }
        }
        Ok(request)
    }

    fn check_names(&self, signature: &Signature) -> Result<()> {
        let Signature { op, inputs, optional, attributes, differentiable } = *signature;
        for name in self.case.tensors.keys().filter(|name| is_input(name)) {
            let short = name.strip_prefix("input.").unwrap_or(name);
            let known = inputs.contains(&short) || optional.contains(&short);
            if !(known || differentiable && name == "grad_output") {
                let gradient = if differentiable { ", grad_output" } else { "" };
                let list: Vec<String> = inputs.iter().chain(optional).map(|name| format!("input.{name}")).collect();
                let known = format!("one of the tensors that {op} takes: {}{gradient}", list.join(", "));
                return Err(self.refuse("a tensor", known, name));
            }
        }
        if let Some(name) = inputs.iter().find(|name| !self.has(name)) {
            return Err(self.refuse(&format!("input.{name}"), format!("a tensor, which {op} needs"), "none"));
        }
        if let Some(name) = self.case.attributes.keys().find(|name| !attributes.contains(&name.as_str())) {
            let list = if attributes.is_empty() { "none".to_string() } else { attributes.join(", ") };
            return Err(self.refuse("an attribute", format!("one of those that {op} takes: {list}"), name));
        }
        Ok(())
    }

    /// The case's own name of its operation.
    pub fn op(&self) -> &str {
        &self.case.op
    }

    /// The folder that relative paths start from.
    pub fn folder(&self) -> &std::path::Path {
        self.case.path.parent().unwrap_or(std::path::Path::new(""))
    }

    /// Where the case is from, for messages.
    pub fn path(&self) -> &std::path::Path {
        &self.case.path
    }

    /// An error at a place of the case.
    pub fn refuse(&self, place: &str, expected: impl Into<String>, found: impl ToString) -> Error {
        Error::value(format!("{}: {place}", self.case.path.display()), expected, found)
    }

    /// Whether there is an input of this name.
    pub fn has(&self, name: &str) -> bool {
        self.case.tensors.contains_key(&format!("input.{name}"))
    }

    /// The attribute of this name, or the default.
    ///
    /// # Errors
    /// A value of another type.
    pub fn attribute<T: DeserializeOwned>(&self, name: &str, default: T) -> Result<T> {
        match self.case.attributes.get(name) {
            None => Ok(default),
            Some(value) => serde_json::from_value(value.clone()).map_err(|e| {
                self.refuse(&format!("attribute {name}"), "another type of value", format!("{value} ({e})"))
            }),
        }
    }

    /// The attribute of this name.
    ///
    /// # Errors
    /// None of that name, or a value of another type.
    pub fn required<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        if self.case.attributes.contains_key(name) {
            return self
                .attribute(name, None)?
                .ok_or_else(|| self.refuse(&format!("attribute {name}"), "a value", "null"));
        }
        Err(self.refuse(&format!("attribute {name}"), format!("a value, which {} needs", self.op()), "none"))
    }

    /// All attributes.
    pub fn attributes(&self) -> &'a Map<String, Value> {
        &self.case.attributes
    }

    /// The float32 input of this name, or `grad_output`, exactly.
    ///
    /// # Errors
    /// A tensor of another type.
    pub fn array<F: Precision>(&self, name: &str) -> Result<ArrayD<F>> {
        let full = if name == "grad_output" { name.to_string() } else { format!("input.{name}") };
        match self.case.tensors.get(&full) {
            Some(Tensor::F32(x)) => {
                let square = |x: F| if self.case.squares { x * x } else { x };
                Ok(x.mapv(|x| square(F::exact(x))).as_standard_layout().into_owned())
            }
            Some(other) => Err(self.refuse(&full, "a tensor of type F32", format!("{:?}", other.dtype()))),
            None => Err(self.refuse(&full, "a tensor", "none")),
        }
    }

    /// The same with a known number of axes.
    ///
    /// # Errors
    /// A tensor of another type or with another number of axes, which `axes` names.
    pub fn shaped<F: Precision, D: Dimension>(&self, name: &str, axes: &str) -> Result<Array<F, D>> {
        let x = self.array(name)?;
        let shape = x.shape().to_vec();
        x.into_dimensionality()
            .map_err(|_| self.refuse(name, format!("a tensor of shape {axes}"), format!("{shape:?}")))
    }

    /// An input of images, (n, c, h, w), channels last.
    ///
    /// # Errors
    /// A tensor of another type or number of axes.
    pub fn images<F: Precision>(&self, name: &str) -> Result<Array4<F>> {
        Ok(channels_last(self.shaped(name, "(n, c, h, w)")?))
    }

    /// The gradient of the output, where one is given; it has the shape of the output.
    ///
    /// # Errors
    /// Another type or shape.
    pub fn grad_output<F: Precision>(&self, shape: &[usize]) -> Result<Option<ArrayD<F>>> {
        if !self.case.tensors.contains_key("grad_output") {
            return Ok(None);
        }
        let dy = self.array("grad_output")?;
        if dy.shape() != shape {
            let expected = format!("the shape of the output, {shape:?}");
            return Err(self.refuse("grad_output", expected, format!("{:?}", dy.shape())));
        }
        Ok(Some(dy))
    }

    /// An input of integers in a range.
    ///
    /// # Errors
    /// A tensor of another type, or a number outside of the range.
    pub fn integers(&self, name: &str, range: std::ops::Range<i64>) -> Result<ArrayD<i64>> {
        let place = format!("input.{name}");
        match self.case.tensors.get(&place) {
            Some(Tensor::I64(x)) => match x.iter().find(|x| !range.contains(x)) {
                Some(x) => Err(self.refuse(&place, format!("{} to {}", range.start, range.end - 1), x)),
                None => Ok(x.clone()),
            },
            Some(other) => Err(self.refuse(&place, "a tensor of type I64", format!("{:?}", other.dtype()))),
            None => Err(self.refuse(&place, "a tensor", "none")),
        }
    }

    /// Integers below `end`, one for each of n images.
    ///
    /// # Errors
    /// A tensor of another type or shape, or a number outside of the range.
    pub fn one_an_image(&self, name: &str, n: usize, end: usize) -> Result<Vec<usize>> {
        let numbers = self.integers(name, 0..end as i64)?;
        self.check_shape(&format!("input.{name}"), &[n], numbers.shape())?;
        Ok(numbers.iter().map(|&x| x as usize).collect())
    }

    /// Refuses what would take too much memory, before it is made.
    ///
    /// # Errors
    /// More than 2²⁶ numbers.
    pub fn check_size(&self, what: &str, shape: &[usize]) -> Result<()> {
        match product(shape) <= MAX_NUMBERS {
            true => Ok(()),
            false => Err(self.refuse(what, "at most 2^26 numbers", format!("{shape:?}"))),
        }
    }

    /// Refuses a product that would take too long: rows, terms and columns.
    ///
    /// # Errors
    /// More than 2³⁸ multiply-adds.
    pub fn check_work(&self, what: &str, shape: &[usize]) -> Result<()> {
        match product(shape) <= MAX_WORK {
            true => Ok(()),
            false => Err(self.refuse(what, "at most 2^38 multiply-adds", format!("{shape:?}"))),
        }
    }

    /// Refuses a shape that is not the expected one.
    ///
    /// # Errors
    /// If they differ.
    pub fn check_shape(&self, place: &str, expected: &[usize], found: &[usize]) -> Result<()> {
        if expected == found {
            return Ok(());
        }
        Err(self.refuse(place, format!("a tensor of shape {expected:?}"), format!("{found:?}")))
    }

    /// The parameters of a layout whose names start with `layer.`, each from the input of the rest of its name; where
    /// there is none, scales are 1 and biases 0.
    ///
    /// # Errors
    /// A tensor of another type or shape.
    pub fn parameters<F: Precision>(&self, layout: &Layout) -> Result<ParameterVector<F>> {
        for entry in &layout.entries {
            let place = format!("input.{}", entry.name.trim_start_matches("layer."));
            if let Some(tensor) = self.case.tensors.get(&place) {
                self.check_shape(&place, &entry.axes.shape(), tensor.shape())?;
            }
        }
        self.check_size("the parameters", &[layout.count()])?;
        let mut w = ParameterVector::zeros(layout.count());
        for entry in &layout.entries {
            let name = entry.name.trim_start_matches("layer.");
            if self.has(name) {
                let values = self.array::<F>(name)?;
                w[entry.span].copy_from_slice(&entry.axes.from_file(crate::layers::flat(&values)));
            } else if name.ends_with("weight") {
                w[entry.span].fill(F::one());
            }
        }
        Ok(w)
    }

    /// The gradients of the parameters that were given, as `grad.NAME`.
    pub fn gradients<F: Real>(&self, layout: &Layout, grads: &ParameterVector<F>) -> super::Results<F> {
        let given = layout.entries.iter().filter(|entry| self.has(entry.name.trim_start_matches("layer.")));
        given
            .map(|entry| {
                let values = ArrayD::from_shape_vec(entry.axes.shape(), entry.axes.to_file(&grads[entry.span]));
                (
                    format!("grad.{}", entry.name.trim_start_matches("layer.")),
                    values.expect("as many as the shape says"),
                )
            })
            .collect()
    }
}

fn product(shape: &[usize]) -> usize {
    shape.iter().fold(1, |n: usize, &axis| n.saturating_mul(axis))
}

/// What a case gives, unlike what is computed of it.
pub fn is_input(name: &str) -> bool {
    name.starts_with("input.") || name == "grad_output"
}

/// (n, c, h, w) to (n, h, w, c).
pub fn channels_last<F: Real>(x: Array4<F>) -> Array4<F> {
    x.permuted_axes([0, 2, 3, 1]).as_standard_layout().into_owned()
}

/// (n, h, w, c) to (n, c, h, w).
pub fn channels_first<F: Real>(x: Array4<F>) -> ArrayD<F> {
    x.permuted_axes([0, 3, 1, 2]).as_standard_layout().into_owned().into_dyn()
}
