//! What candle takes for the work that `ancestral bench` measures: the same network, batch and threads.
//!
//! ```text
//! cargo build --release
//! target/release/candle --mode train --batch-size 64 --threads 2
//! target/release/candle --check FOLDER
//! ```
//!
//! - Products of matrices are candle's default, the pure Rust crate gemm. Its feature `mkl` is not used: that is a
//!   closed library for one maker's processors.
//! - Layers are those of candle_nn, the gradients those of `Tensor::backward`. candle has no clipping by the global
//!   norm, so it is written out here as PyTorch's `clip_grad_norm_` does it.
//! - A forward pass uses weights that are plain tensors: candle records nothing where no variable takes part.

use std::collections::HashMap;
use std::path::Path;

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Module, Result, Tensor, Var};
use candle_nn::ops::softmax;
use candle_nn::{AdamW, Conv2d, Conv2dConfig, GroupNorm, Linear, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use candle_nn::{conv2d, group_norm, linear};
use peers::{
    DOWN, FIRST, GROUPS, IMAGE_SIZE, LEARNING_RATE, MIDDLE, NORM_EPS, PARAMETERS, Peer, Plan, Resample, TIME, UP,
};

fn conv3x3(c_in: usize, c_out: usize, stride: usize, vb: VarBuilder) -> Result<Conv2d> {
    conv2d(c_in, c_out, 3, Conv2dConfig { padding: 1, stride, ..Default::default() }, vb)
}

fn norm(channels: usize, vb: VarBuilder) -> Result<GroupNorm> {
    group_norm(GROUPS, channels, NORM_EPS, vb)
}

struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    fn new(c_in: usize, c_out: usize, vb: VarBuilder) -> Result<Self> {
        let shortcut = || conv2d(c_in, c_out, 1, Conv2dConfig::default(), vb.pp("conv_shortcut"));
        Ok(ResnetBlock {
            norm1: norm(c_in, vb.pp("norm1"))?,
            conv1: conv3x3(c_in, c_out, 1, vb.pp("conv1"))?,
            time_emb_proj: linear(TIME, c_out, vb.pp("time_emb_proj"))?,
            norm2: norm(c_out, vb.pp("norm2"))?,
            conv2: conv3x3(c_out, c_out, 1, vb.pp("conv2"))?,
            conv_shortcut: (c_in != c_out).then(shortcut).transpose()?,
        })
    }

    /// `silu_time` (n, 128) is the time embedding after the nonlinearity that all blocks begin with.
    fn forward(&self, x: &Tensor, silu_time: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward(x)?.silu()?)?;
        let time = self.time_emb_proj.forward(silu_time)?.unsqueeze(2)?.unsqueeze(3)?;
        let h = self.norm2.forward(&h.broadcast_add(&time)?)?.silu()?;
        let h = self.conv2.forward(&h)?;
        match &self.conv_shortcut {
            Some(conv) => conv.forward(x)? + h,
            None => x + h,
        }
    }
}

/// One head over all channels, with a residual connection.
struct Attention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl Attention {
    fn new(channels: usize, vb: VarBuilder) -> Result<Self> {
        let project = |name: &str| linear(channels, channels, vb.pp(name));
        Ok(Attention {
            group_norm: norm(channels, vb.pp("group_norm"))?,
            to_q: project("to_q")?,
            to_k: project("to_k")?,
            to_v: project("to_v")?,
            to_out: project("to_out.0")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n, c, height, width) = x.dims4()?;
        let h = self.group_norm.forward(x)?.reshape((n, c, height * width))?.transpose(1, 2)?.contiguous()?;
        let (q, k, v) = (self.to_q.forward(&h)?, self.to_k.forward(&h)?, self.to_v.forward(&h)?);
        let scores = (q.matmul(&k.t()?)? / (c as f64).sqrt())?;
        let h = self.to_out.forward(&softmax(&scores, D::Minus1)?.matmul(&v)?)?;
        x + h.transpose(1, 2)?.reshape((n, c, height, width))?
    }
}

struct Block {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Attention>,
    downsampler: Option<Conv2d>,
    upsampler: Option<Conv2d>,
}

impl Block {
    fn new(plan: &Plan, vb: VarBuilder) -> Result<Self> {
        let channels = plan.resnets[0].1;
        let resnet = |(i, &(c_in, c_out))| ResnetBlock::new(c_in, c_out, vb.pp(format!("resnets.{i}")));
        let sampler = |stride, name| conv3x3(channels, channels, stride, vb.pp(name));
        let (down, up) = (plan.resample == Resample::Down, plan.resample == Resample::Up);
        Ok(Block {
            resnets: plan.resnets.iter().enumerate().map(resnet).collect::<Result<_>>()?,
            attentions: (0..plan.attentions)
                .map(|i| Attention::new(channels, vb.pp(format!("attentions.{i}"))))
                .collect::<Result<_>>()?,
            downsampler: down.then(|| sampler(2, "downsamplers.0.conv")).transpose()?,
            upsampler: up.then(|| sampler(1, "upsamplers.0.conv")).transpose()?,
        })
    }

    /// Residual block and attention `i`.
    fn layer(&self, i: usize, x: &Tensor, silu_time: &Tensor) -> Result<Tensor> {
        let h = self.resnets[i].forward(x, silu_time)?;
        self.attentions.get(i).map_or(Ok(h.clone()), |attention| attention.forward(&h))
    }
}

struct UNet {
    conv_in: Conv2d,
    time_linears: [Linear; 2],
    down: Vec<Block>,
    middle: Block,
    up: Vec<Block>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl UNet {
    fn new(vb: VarBuilder) -> Result<Self> {
        let blocks = |plans: &[Plan], name: &str| -> Result<Vec<Block>> {
            plans.iter().enumerate().map(|(i, plan)| Block::new(plan, vb.pp(format!("{name}.{i}")))).collect()
        };
        Ok(UNet {
            conv_in: conv3x3(1, FIRST, 1, vb.pp("conv_in"))?,
            time_linears: [
                linear(FIRST, TIME, vb.pp("time_embedding.linear_1"))?,
                linear(TIME, TIME, vb.pp("time_embedding.linear_2"))?,
            ],
            down: blocks(&DOWN, "down_blocks")?,
            middle: Block::new(&MIDDLE, vb.pp("mid_block"))?,
            up: blocks(&UP, "up_blocks")?,
            conv_norm_out: norm(FIRST, vb.pp("conv_norm_out"))?,
            conv_out: conv3x3(FIRST, 1, 1, vb.pp("conv_out"))?,
        })
    }

    /// Images (n, 1, 28, 28) at times (n).
    fn forward(&self, x_t: &Tensor, t: &Tensor) -> Result<Tensor> {
        let time = self.time_linears[0].forward(&sinusoids(t)?)?.silu()?;
        let silu_time = self.time_linears[1].forward(&time)?.silu()?;

        let mut h = self.conv_in.forward(x_t)?;
        let mut kept = vec![h.clone()];
        for block in &self.down {
            for i in 0..block.resnets.len() {
                h = block.layer(i, &h, &silu_time)?;
                kept.push(h.clone());
            }
            if let Some(conv) = &block.downsampler {
                h = conv.forward(&h)?;
                kept.push(h.clone());
            }
        }
        for i in 0..self.middle.resnets.len() {
            h = self.middle.layer(i, &h, &silu_time)?;
        }
        for block in &self.up {
            for i in 0..block.resnets.len() {
                let skip = kept.pop().expect("one for each residual block on the way up");
                h = block.layer(i, &Tensor::cat(&[h, skip], 1)?, &silu_time)?;
            }
            if let Some(conv) = &block.upsampler {
                let (_, _, height, width) = h.dims4()?;
                h = conv.forward(&h.upsample_nearest2d(2 * height, 2 * width)?)?;
            }
        }
        self.conv_out.forward(&self.conv_norm_out.forward(&h)?.silu()?)
    }
}

/// diffusers' `Timesteps` with `flip_sin_to_cos`: cosines, then sines, of t times 16 frequencies from 1 to 1/10000.
fn sinusoids(t: &Tensor) -> Result<Tensor> {
    let half = FIRST / 2;
    let exponent = -4.0 * std::f64::consts::LN_10 / half as f64;
    let frequencies = (Tensor::arange(0.0, half as f32, t.device())? * exponent)?.exp()?;
    let angles = t.unsqueeze(1)?.broadcast_mul(&frequencies.unsqueeze(0)?)?;
    Tensor::cat(&[angles.cos()?, angles.sin()?], 1)
}

/// Scales all gradients by min(1, max_norm / norm), as PyTorch does: without looking whether it is 1.
fn clip_grad_norm(vars: &[Var], grads: &mut GradStore, max_norm: f64) -> Result<()> {
    let mut squares = 0.0;
    for grad in vars.iter().filter_map(|var| grads.get(var)) {
        squares += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let factor = (max_norm / (squares.sqrt() + 1e-6)).min(1.0);
    for var in vars {
        if let Some(grad) = grads.remove(var) {
            grads.insert(var, (grad * factor)?);
        }
    }
    Ok(())
}

/// The network with random weights as variables, a batch, and times.
fn start(batch_size: usize) -> Result<(VarMap, UNet, Tensor, Tensor)> {
    let variables = VarMap::new();
    let model = UNet::new(VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
    let parameters: usize = variables.all_vars().iter().map(|var| var.elem_count()).sum();
    assert_eq!(parameters, PARAMETERS, "not the network of diffusers");
    let x_t = Tensor::randn(0f32, 1.0, (batch_size, 1, IMAGE_SIZE, IMAGE_SIZE), &Device::Cpu)?;
    let t = Tensor::full(500f32, batch_size, &Device::Cpu)?;
    Ok((variables, model, x_t, t))
}

/// The network with weights that are plain tensors.
fn without_gradients(tensors: HashMap<String, Tensor>) -> Result<UNet> {
    UNet::new(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))
}

struct Candle;

impl Peer for Candle {
    const FRAMEWORK: &'static str = "candle";
    const PACKAGE: &'static str = "candle-core";

    fn training_step(batch_size: usize) -> peers::Result<peers::Step> {
        let (variables, model, x_t, t) = start(batch_size)?;
        let (vars, target) = (variables.all_vars(), x_t.copy()?);
        let adam = ParamsAdamW { lr: LEARNING_RATE, weight_decay: 0.0, ..Default::default() };
        let mut optimizer = AdamW::new(vars.clone(), adam)?;
        Ok(Box::new(move || {
            let mut grads = candle_nn::loss::mse(&model.forward(&x_t, &t)?, &target)?.backward()?;
            clip_grad_norm(&vars, &mut grads, 1.0)?;
            Ok(optimizer.step(&grads)?)
        }))
    }

    fn forward_pass(batch_size: usize) -> peers::Result<peers::Step> {
        let (variables, _, x_t, t) = start(batch_size)?;
        let variables = variables.data().lock().map_err(|e| e.to_string())?;
        let plain = variables.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
        let model = without_gradients(plain)?;
        Ok(Box::new(move || Ok(model.forward(&x_t, &t).map(drop)?)))
    }

    fn output(weights: &Path, x_t: Vec<f32>, t: Vec<f32>) -> peers::Result<Vec<f32>> {
        let n = t.len();
        let x_t = Tensor::from_vec(x_t, (n, 1, IMAGE_SIZE, IMAGE_SIZE), &Device::Cpu)?;
        let t = Tensor::from_vec(t, n, &Device::Cpu)?;
        let model = without_gradients(candle_core::safetensors::load(weights, &Device::Cpu)?)?;
        Ok(model.forward(&x_t, &t)?.flatten_all()?.to_vec1()?)
    }
}

fn main() -> peers::Result<()> {
    peers::run::<Candle>()
}
