//! Where the time goes, from one product to a training step.
//!
//! ```text
//! cargo bench --bench kernels                      all of them, minutes
//! cargo bench --bench kernels -- conv2d            those with "conv2d" in their name
//! cargo bench --bench kernels -- --test            each once, to see that they run
//! RAYON_NUM_THREADS=1 cargo bench --bench kernels  on one thread
//! ```
//!
//! An element of the throughput is a multiply-add: 20 Gelem/s are 40 GFLOP/s. `ancestral bench` measures this
//! machine's peak.

use std::hint::black_box;

use ancestral::layers::attention::{attention as attend, attention_backward};
use ancestral::layers::conv2d::Conv2d;
use ancestral::layers::im2col::Window;
use ancestral::layers::{Layout, ParameterVector};
use ancestral::models::Network;
use ancestral::numerics::gemm::{Epilogue, Matrix, matrix_product};
use ancestral::numerics::rng::normal;
use ancestral::pipeline::Pipeline;
use ancestral::sample::{Sampler, Settings, chain, draw};
use ancestral::train::gradient::{MICROBATCH, Zeros};
use ancestral::train::{Batch, Descent, Preset, State};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// C = A · B at (m, k, n): square; a 3x3 convolution's shape, im2col and all; a weight gradient's; few rows.
fn gemm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gemm");
    for (m, k, n) in [(512, 512, 512), (3136, 288, 32), (288, 3136, 32), (49, 576, 64)] {
        let [a, b] = [(m, k), (k, n)].map(|shape| normal(shape, 1).mapv(|x| x as f32).into_raw_vec_and_offset().0);
        let mut c = vec![0.0; m * n];
        group.throughput(Throughput::Elements((m * k * n) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{m}x{k}x{n}")), |bencher| {
            let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
            bencher.iter(|| matrix_product(a, b, black_box(&mut c), n, Epilogue::Overwrite));
        });
    }
}

/// 3x3 convolutions of one microbatch at the three resolutions of the `mnist` preset, and one that halves.
fn conv2d(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conv2d");
    for (side, c_in, c_out, stride) in [(28, 32, 32, 1), (14, 64, 64, 1), (7, 128, 64, 1), (28, 32, 32, 2)] {
        let mut layout = Layout::default();
        let conv = Conv2d::new(&mut layout, "conv", c_in, c_out, Window::square(3, stride, 1));
        let w: ParameterVector<f32> = layout.initial(1);
        let x = normal((MICROBATCH, side, side, c_in), 2).mapv(|x| x as f32);
        let (y, _) = conv.forward(&w, x.clone());
        let dy = normal(y.dim(), 3).mapv(|x| x as f32);
        let multiply_adds = (y.len() * 9 * c_in) as u64;
        let name = format!("{side}x{side}x{c_in} to {c_out}, stride {stride}");

        group.throughput(Throughput::Elements(multiply_adds));
        group.bench_function(BenchmarkId::new("forward", &name), |bencher| {
            bencher.iter_batched(|| x.clone(), |x| conv.forward(&w, x), BatchSize::LargeInput);
        });
        group.throughput(Throughput::Elements(2 * multiply_adds)); // dW and dx
        group.bench_function(BenchmarkId::new("backward", &name), |bencher| {
            let mut grads = ParameterVector::zeros(w.0.len());
            let cache = || conv.forward(&w, x.clone()).1;
            bencher.iter_batched(cache, |cache| conv.backward(&w, cache, &dy, &mut grads), BatchSize::LargeInput);
        });
    }
}

/// Forward, MSE, backward, clipping and AdamW at a preset's batch size.
fn training_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("training step");
    group.sample_size(10);
    for preset in [Preset::Tiny, Preset::Digits] {
        let config = preset.config();
        let network = Network::new(config.model.clone()).expect("a preset is supported");
        let (h, w) = config.model.image_size().expect("a preset has a size");
        let x_t = normal((config.batch_size, h, w, config.model.channels().0), 1).mapv(|x| x as f32);
        let time = (0..config.batch_size).map(|n| n as f64).collect();
        let labels = config.model.labels().map(|_| vec![0; config.batch_size]);
        let batch = Batch { target: x_t.clone(), x_t, time, labels, weight: None, bound: None, share: None };
        let clip_norm = config.optimizer.clip_norm;
        let descent = Descent { adamw: config.optimizer.adamw(), clip_norm, ema_decay: 0.0 };
        let (mut state, zeros) = (State::<f32>::new(network.layout().initial(config.seed), false), Zeros::default());
        group.throughput(Throughput::Elements(3 * config.batch_size as u64 * network.multiply_adds((h, w))));
        group.bench_function(BenchmarkId::from_parameter(format!("{preset:?}")), |bencher| {
            bencher.iter(|| {
                let step = state.step(&network, &batch, config.optimizer.lr, &descent, None, &zeros);
                step.expect("a batch that fits").loss
            });
        });
    }
}

/// One reverse step of the `digits` preset: one picture, cut by rows, and sixteen, cut into microbatches.
fn sampling_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sampling step");
    group.sample_size(10);
    let config = Preset::Digits.config();
    let network = Network::new(config.model.clone()).expect("a preset is supported");
    let size = config.model.image_size().expect("a preset has a size");
    let multiply_adds = network.multiply_adds(size);
    let weights = network.layout().initial(config.seed);
    let scheduler = config.scheduler().expect("a preset's schedule");
    let model = Pipeline::new(network, weights, scheduler, None).expect("parts that fit");
    let options = model.scheduler().options;
    let chain = chain(&model.scheduler().schedule, &[500], Sampler::Ddim, &options).expect("one step");
    let settings = Settings { sampler: Sampler::Ddim, chain, ..Settings::new(&model).expect("settings") };
    for pictures in [1, 16] {
        group.throughput(Throughput::Elements(pictures * multiply_adds));
        group.bench_function(BenchmarkId::new("Digits, pictures", pictures), |bencher| {
            bencher.iter(|| draw(&model, &settings, 0..pictures, |_| Ok(())).expect("pictures"));
        });
    }
}

/// One image of (tokens, heads, channels of a head): a U-Net's at a side of 32 and the transformer's S/2 at 32.
fn attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    for (tokens, heads, d) in [(1024, 1, 64), (256, 6, 64), (4096, 1, 64)] {
        let [q, k, v, d_o] = [1, 2, 3, 4].map(|key| normal((1, tokens, heads * d), key).mapv(|x| x as f32));
        let multiply_adds = (2 * tokens * tokens * heads * d) as u64;
        let name = format!("{tokens} tokens, {heads} x {d}");
        group.throughput(Throughput::Elements(multiply_adds));
        for (what, follows) in [("forward", false), ("forward that keeps P", true)] {
            group.bench_function(BenchmarkId::new(what, &name), |bencher| {
                bencher.iter(|| attend(&q, &k, &v, heads, follows));
            });
        }
        group.throughput(Throughput::Elements(2 * multiply_adds));
        for (what, follows) in [("backward", true), ("backward that computes P again", false)] {
            group.bench_function(BenchmarkId::new(what, &name), |bencher| {
                let cache = || attend(&q, &k, &v, heads, follows).1;
                bencher.iter_batched(cache, |cache| attention_backward(cache, &d_o), BatchSize::LargeInput);
            });
        }
    }
}

criterion_group!(kernels, gemm, conv2d, attention, training_step, sampling_step);
criterion_main!(kernels);
