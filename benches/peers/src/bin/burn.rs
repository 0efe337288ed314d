//! What burn takes for the work that `ancestral bench` measures: the same network, batch and threads.
//!
//! ```text
//! cargo build --release
//! target/release/burn --mode train --batch-size 64 --threads 2
//! target/release/burn --check FOLDER
//! ```
//!
//! - The backend is Flex, burn's pure Rust one for CPUs, with SIMD and threads. It replaces NdArray, which burn 0.22
//!   calls deprecated and which took 3.6 times as long for a forward pass of 64 images on two cores. burn's other CPU
//!   backend compiles through a bundled LLVM library and was not tried.
//! - Modules have diffusers' names, so that burn's own store loads diffusers' files.
//! - burn clips each tensor's gradient to norm 1 by itself, where PyTorch clips all together: as much work.
//! - A forward pass runs on the device without autodiff.

use std::path::Path;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::interpolate::{Interpolate2dConfig, InterpolateMode};
use burn::nn::loss::{MseLoss, Reduction};
use burn::nn::{GroupNorm, GroupNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{AdamConfig, GradientsParams};
use burn::store::{ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore};
use burn::tensor::activation::silu;
use burn::tensor::module::attention;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use peers::{
    DOWN, FIRST, GROUPS, IMAGE_SIZE, LEARNING_RATE, MIDDLE, NORM_EPS, PARAMETERS, Peer, Plan, Resample, TIME, UP,
};

fn conv3x3(c_in: usize, c_out: usize, stride: usize, device: &Device) -> Conv2d {
    let config = Conv2dConfig::new([c_in, c_out], [3, 3]).with_stride([stride, stride]);
    config.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device)
}

fn norm(channels: usize, device: &Device) -> GroupNorm {
    GroupNormConfig::new(GROUPS, channels).with_epsilon(NORM_EPS).init(device)
}

fn linear(c_in: usize, c_out: usize, device: &Device) -> Linear {
    LinearConfig::new(c_in, c_out).init(device)
}

#[derive(Module, Debug)]
struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    fn new(c_in: usize, c_out: usize, device: &Device) -> Self {
        ResnetBlock {
            norm1: norm(c_in, device),
            conv1: conv3x3(c_in, c_out, 1, device),
            time_emb_proj: linear(TIME, c_out, device),
            norm2: norm(c_out, device),
            conv2: conv3x3(c_out, c_out, 1, device),
            conv_shortcut: (c_in != c_out).then(|| Conv2dConfig::new([c_in, c_out], [1, 1]).init(device)),
        }
    }

    /// `silu_time` (n, 128) is the time embedding after the nonlinearity that all blocks begin with.
    fn forward(&self, x: Tensor<4>, silu_time: Tensor<2>) -> Tensor<4> {
        let h = self.conv1.forward(silu(self.norm1.forward(x.clone())));
        let time = self.time_emb_proj.forward(silu_time);
        let [n, c] = time.dims();
        let h = silu(self.norm2.forward(h + time.reshape([n, c, 1, 1])));
        let h = self.conv2.forward(h);
        match &self.conv_shortcut {
            Some(conv) => conv.forward(x) + h,
            None => x + h,
        }
    }
}

/// One head over all channels, with a residual connection.
#[derive(Module, Debug)]
struct Attention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Vec<Linear>,
}

impl Attention {
    fn new(channels: usize, device: &Device) -> Self {
        let project = || linear(channels, channels, device);
        Attention {
            group_norm: norm(channels, device),
            to_q: project(),
            to_k: project(),
            to_v: project(),
            to_out: vec![project()],
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [n, c, height, width] = x.dims();
        let h = self.group_norm.forward(x.clone()).reshape([n, 1, c, height * width]).swap_dims(2, 3);
        let (q, k, v) = (self.to_q.forward(h.clone()), self.to_k.forward(h.clone()), self.to_v.forward(h));
        let h = self.to_out[0].forward(attention(q, k, v, None, None, Default::default()));
        x + h.swap_dims(2, 3).reshape([n, c, height, width])
    }
}

#[derive(Module, Debug)]
struct Sampler {
    conv: Conv2d,
}

#[derive(Module, Debug)]
struct Block {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Attention>,
    downsamplers: Vec<Sampler>,
    upsamplers: Vec<Sampler>,
}

impl Block {
    fn new(plan: &Plan, device: &Device) -> Self {
        let channels = plan.resnets[0].1;
        let samplers = |kind: Resample, stride: usize| {
            let sampler = || Sampler { conv: conv3x3(channels, channels, stride, device) };
            (plan.resample == kind).then(sampler).into_iter().collect()
        };
        Block {
            resnets: plan.resnets.iter().map(|&(c_in, c_out)| ResnetBlock::new(c_in, c_out, device)).collect(),
            attentions: (0..plan.attentions).map(|_| Attention::new(channels, device)).collect(),
            downsamplers: samplers(Resample::Down, 2),
            upsamplers: samplers(Resample::Up, 1),
        }
    }

    /// Residual block and attention `i`.
    fn layer(&self, i: usize, x: Tensor<4>, silu_time: &Tensor<2>) -> Tensor<4> {
        let h = self.resnets[i].forward(x, silu_time.clone());
        match self.attentions.get(i) {
            Some(attention) => attention.forward(h),
            None => h,
        }
    }
}

#[derive(Module, Debug)]
struct TimeEmbedding {
    linear_1: Linear,
    linear_2: Linear,
}

#[derive(Module, Debug)]
struct UNet {
    conv_in: Conv2d,
    time_embedding: TimeEmbedding,
    down_blocks: Vec<Block>,
    mid_block: Block,
    up_blocks: Vec<Block>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl UNet {
    fn new(device: &Device) -> Self {
        let blocks = |plans: &[Plan]| plans.iter().map(|plan| Block::new(plan, device)).collect();
        let model = UNet {
            conv_in: conv3x3(1, FIRST, 1, device),
            time_embedding: TimeEmbedding {
                linear_1: linear(FIRST, TIME, device),
                linear_2: linear(TIME, TIME, device),
            },
            down_blocks: blocks(&DOWN),
            mid_block: Block::new(&MIDDLE, device),
            up_blocks: blocks(&UP),
            conv_norm_out: norm(FIRST, device),
            conv_out: conv3x3(FIRST, 1, 1, device),
        };
        assert_eq!(model.num_params(), PARAMETERS, "not the network of diffusers");
        model
    }

    /// Images (n, 1, 28, 28) at times (n).
    fn forward(&self, x_t: Tensor<4>, t: Tensor<1>) -> Tensor<4> {
        let time = silu(self.time_embedding.linear_1.forward(sinusoids(t)));
        let silu_time = silu(self.time_embedding.linear_2.forward(time));

        let mut h = self.conv_in.forward(x_t);
        let mut kept = vec![h.clone()];
        for block in &self.down_blocks {
            for i in 0..block.resnets.len() {
                h = block.layer(i, h, &silu_time);
                kept.push(h.clone());
            }
            for sampler in &block.downsamplers {
                h = sampler.conv.forward(h);
                kept.push(h.clone());
            }
        }
        for i in 0..self.mid_block.resnets.len() {
            h = self.mid_block.layer(i, h, &silu_time);
        }
        let mode = InterpolateMode::Nearest;
        let twice = Interpolate2dConfig::new().with_scale_factor(Some([2.0, 2.0])).with_mode(mode).init();
        for block in &self.up_blocks {
            for i in 0..block.resnets.len() {
                let skip = kept.pop().expect("one for each residual block on the way up");
                h = block.layer(i, Tensor::cat(vec![h, skip], 1), &silu_time);
            }
            for sampler in &block.upsamplers {
                h = sampler.conv.forward(twice.forward(h));
            }
        }
        self.conv_out.forward(silu(self.conv_norm_out.forward(h)))
    }
}

/// diffusers' `Timesteps` with `flip_sin_to_cos`: cosines, then sines, of t times 16 frequencies from 1 to 1/10000.
fn sinusoids(t: Tensor<1>) -> Tensor<2> {
    let half = FIRST / 2;
    let exponent = -4.0 * std::f64::consts::LN_10 / half as f64;
    let indices: Vec<f32> = (0..half).map(|i| i as f32).collect();
    let frequencies = (Tensor::<1>::from_floats(indices.as_slice(), &t.device()) * exponent).exp();
    let angles = t.unsqueeze_dim::<2>(1) * frequencies.unsqueeze_dim::<2>(0);
    Tensor::cat(vec![angles.clone().cos(), angles.sin()], 1)
}

/// Random images, and times.
fn batch(batch_size: usize, device: &Device) -> (Tensor<4>, Tensor<1>) {
    let sizes = [batch_size, 1, IMAGE_SIZE, IMAGE_SIZE];
    (Tensor::random(sizes, Distribution::Normal(0.0, 1.0), device), Tensor::full([batch_size], 500.0, device))
}

struct Burn;

impl Peer for Burn {
    const FRAMEWORK: &'static str = "burn (Flex)";
    const PACKAGE: &'static str = "burn";

    fn training_step(batch_size: usize) -> peers::Result<peers::Step> {
        let device = Device::flex().autodiff();
        let mut model = Some(UNet::new(&device));
        let (x_t, t) = batch(batch_size, &device);
        let target = x_t.clone();
        let adam = AdamConfig::new().with_epsilon(1e-8);
        let mut optimizer = adam.with_grad_clipping(Some(GradientClippingConfig::Norm(1.0))).init();
        Ok(Box::new(move || {
            let before = model.take().ok_or("the step before did not end")?;
            let output = before.forward(x_t.clone(), t.clone());
            let grads = MseLoss::new().forward(output, target.clone(), Reduction::Mean).backward();
            let grads = GradientsParams::from_grads(grads, &before);
            model = Some(optimizer.step(LEARNING_RATE, before, grads));
            Ok(())
        }))
    }

    fn forward_pass(batch_size: usize) -> peers::Result<peers::Step> {
        let device = Device::flex();
        let model = UNet::new(&device);
        let (x_t, t) = batch(batch_size, &device);
        Ok(Box::new(move || {
            model.forward(x_t.clone(), t.clone());
            Ok(())
        }))
    }

    fn output(weights: &Path, x_t: Vec<f32>, t: Vec<f32>) -> peers::Result<Vec<f32>> {
        let device = Device::flex();
        let mut model = UNet::new(&device);
        let mut store = SafetensorsStore::from_file(weights).with_from_adapter(PyTorchToBurnAdapter);
        model.load_from(&mut store).map_err(|e| e.to_string())?;
        let n = t.len();
        let x_t = Tensor::from_data(TensorData::new(x_t, [n, 1, IMAGE_SIZE, IMAGE_SIZE]), &device);
        let t = Tensor::from_data(TensorData::new(t, [n]), &device);
        Ok(model.forward(x_t, t).into_data().try_to_vec().map_err(|e| e.to_string())?)
    }
}

fn main() -> peers::Result<()> {
    peers::run::<Burn>()
}
