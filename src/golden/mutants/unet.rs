//! Mistakes on the U-Net's way up, which is computed here from the operations of its blocks.

use std::collections::BTreeMap;

use ndarray::{ArrayD, Axis, concatenate};
use serde_json::{Value, json};

use super::{Case, Mutant, Result, Results, Tensor, evaluate, mutant, scaled};
use crate::atomic;
use crate::golden::case::read_tensors;

/// The mistakes, in words.
pub(super) const MUTANTS: &[Mutant] = &[
    mutant("skips_swapped", "a skip's channels before those of what comes from below", skips_swapped),
    mutant("skips_at_the_wrong_depth", "two skips of the same size exchanged", skips_at_the_wrong_depth),
    mutant("gradients_of_the_sum", "the gradients of the sum of squares, not of their mean", |case| {
        let count = case.tensors["input.noise"].shape().iter().product::<usize>() as f64;
        scaled(case, "grad.", count)
    }),
];

/// The skip's channels before those of what comes from below.
fn skips_swapped(case: &Case) -> Result<Results<f64>> {
    way_up(case, |h, skip| [skip, h], |_| ())
}

/// The two skips of the last block exchanged: both have its channels and its size.
fn skips_at_the_wrong_depth(case: &Case) -> Result<Results<f64>> {
    way_up(case, |h, skip| [h, skip], |skips| skips.swap(0, 1))
}

type Join = fn(ArrayD<f64>, ArrayD<f64>) -> [ArrayD<f64>; 2];

/// One operation of the parameters that begin so, on inputs that are given.
struct Blocks<'a> {
    case: &'a Case,
    weights: BTreeMap<String, Tensor>,
    groups: usize,
}

impl Blocks<'_> {
    fn run(&self, op: &str, module: &str, attributes: Value, inputs: &[(&str, &ArrayD<f64>)]) -> Result<ArrayD<f64>> {
        let Value::Object(attributes) = attributes else { panic!("attributes are an object") };
        let mut case = Case { op: op.into(), attributes, path: self.case.path.clone(), ..Case::default() };
        for (name, tensor) in &self.weights {
            if let Some(name) = name.strip_prefix(&format!("{module}.")) {
                case.tensors.insert(format!("input.{name}"), tensor.clone());
            }
        }
        for (name, x) in inputs {
            case.tensors.insert(format!("input.{name}"), Tensor::F32(x.mapv(|x| x as f32)));
        }
        Ok(evaluate::<f64>(&case)?.remove(0).1)
    }

    fn conv(&self, module: &str, x: &ArrayD<f64>) -> Result<ArrayD<f64>> {
        self.run("conv2d", module, json!({"padding": 1}), &[("x", x)])
    }
}

/// The network of two levels of `plain`: attention in the lower one, two residual blocks a level on the way up.
fn way_up(case: &Case, join: Join, change: fn(&mut Vec<ArrayD<f64>>)) -> Result<Results<f64>> {
    let right = evaluate::<f64>(case)?;
    let tap = |name: &str| right.iter().find(|(n, _)| *n == format!("taps.{name}")).expect("a tap").1.clone();
    let folder = case.path.with_file_name(case.attributes["model"].as_str().expect("a folder"));
    let path = folder.join("diffusion_pytorch_model.safetensors");
    let (weights, _) = read_tensors(&atomic::read(&path)?, &path)?;
    let blocks = Blocks { case, weights, groups: 2 };
    let norm = json!({"groups": blocks.groups});
    let skips =
        ["conv_in", "down_blocks.0.resnets.0", "down_blocks.0.downsamplers.0.conv", "down_blocks.1.attentions.0"];
    let mut skips: Vec<ArrayD<f64>> = skips.map(tap).into();
    change(&mut skips);
    let (temb, mut h) = (tap("time_embedding"), tap("mid_block.resnets.1"));
    for block in 0..2 {
        for resnet in 0..2 {
            let parts = join(h, skips.pop().expect("a skip for each residual block"));
            let x = concatenate(Axis(1), &parts.each_ref().map(|part| part.view())).expect("images of one size");
            let module = format!("up_blocks.{block}.resnets.{resnet}");
            h = blocks.run("res_block", &module, norm.clone(), &[("x", &x), ("temb", &temb)])?;
            if block == 0 {
                let module = format!("up_blocks.0.attentions.{resnet}");
                h = blocks.run("attention_block", &module, norm.clone(), &[("x", &h)])?;
            }
        }
        if block == 0 {
            h = blocks.run("upsample_nearest_2x", "none", json!({}), &[("x", &h)])?;
            h = blocks.conv("up_blocks.0.upsamplers.0.conv", &h)?;
        }
    }
    h = blocks.run("group_norm", "conv_norm_out", norm, &[("x", &h)])?;
    h = blocks.run("silu", "none", json!({}), &[("x", &h)])?;
    let out = blocks.conv("conv_out", &h)?;
    let noise = case.numbers("input.noise");
    let loss = (&out - &noise).mapv(|d| d * d).sum() / noise.len() as f64;
    let loss = ArrayD::from_elem(ndarray::IxDyn(&[]), loss);
    Ok(vec![("output.out".into(), out), ("output.loss".into(), loss)])
}
