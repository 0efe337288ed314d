use ancestral::layers::im2col::Window;
use ancestral::numerics::gemm::*;
use std::time::Instant;
fn best(mut f: impl FnMut(), flop: f64) -> f64 {
    f();
    let mut b = f64::MAX;
    let t0 = Instant::now();
    while t0.elapsed().as_secs_f64() < 0.25 {
        let t = Instant::now();
        f();
        b = b.min(t.elapsed().as_secs_f64());
    }
    flop / b / 1e9
}
fn main() {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    let peak = ancestral::numerics::peak::gflops();
    println!("peak {peak:.1}");
    println!("{:>14} {:>8} {:>8} {:>8}", "shape", "fwd", "dW", "packdy");
    for (n, side, ci, co, k) in [
        (4, 28, 1, 32, 3),
        (4, 28, 32, 32, 3),
        (4, 28, 64, 32, 3),
        (4, 28, 96, 32, 3),
        (4, 14, 32, 64, 3),
        (4, 14, 64, 64, 3),
        (4, 14, 128, 64, 3),
        (4, 7, 64, 64, 3),
        (4, 7, 128, 64, 3),
        (4, 14, 128, 64, 1),
        (4, 28, 32, 1, 3),
        (4, 7, 64, 64, 1),
        (4, 32, 128, 128, 3),
        (4, 32, 256, 128, 3),
        (4, 16, 256, 256, 3),
        (4, 16, 512, 256, 3),
        (4, 8, 256, 256, 3),
        (4, 4, 512, 256, 3),
        (1, 28, 32, 32, 3),
        (1, 7, 64, 64, 3),
    ] {
        let w = Window::square(k, 1, k / 2);
        let dim = (n, side + 2 * (k / 2), side + 2 * (k / 2), ci);
        let x: Vec<f32> = (0..dim.0 * dim.1 * dim.2 * ci).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5).collect();
        let (pixels, taps) = (w.pixels(dim), w.taps(dim.2, ci));
        let weight: Vec<f32> = (0..taps.len() * co).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5).collect();
        let panels = Panels::new(&weight, taps.len(), co, co, 1);
        let mut y = vec![0f32; pixels.len() * co];
        let flop = 2.0 * (pixels.len() * taps.len() * co) as f64;
        let fwd = best(
            || product(Gather { data: &x, rows: &pixels, steps: &taps }, &panels, &mut y, co, Start::Overwrite),
            flop,
        );
        let dy = y.clone();
        let mut dw = vec![0f32; taps.len() * co];
        let dyp = Panels::new(&dy, pixels.len(), co, co, 1);
        let bwd = best(
            || product(Gather { data: &x, rows: &taps, steps: &pixels }, &dyp, &mut dw, co, Start::Accumulate),
            flop,
        );
        let pack = best(
            || {
                std::hint::black_box(Panels::new(&dy, pixels.len(), co, co, 1));
            },
            flop,
        );
        println!("{:>14} {fwd:8.1} {bwd:8.1} {pack:8.0}", format!("{n}x{side} {ci}>{co} k{k}"));
    }
}
