use ancestral::layers::*;
use ancestral::models::unet::*;
use ancestral::train::adamw::*;
use ancestral::train::gradient::*;
use std::time::Instant;
fn main() {
    let v = |a: &[&str]| a.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let c = UNetConfig {
        sample_size: Some(SampleSize::Square(28)),
        in_channels: 1,
        out_channels: 1,
        block_out_channels: vec![32, 64, 64],
        layers_per_block: 1,
        norm_num_groups: 8,
        attention_head_dim: None,
        down_block_types: v(&["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"]),
        up_block_types: v(&["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"]),
        ..Default::default()
    };
    let unet = UNet::new(c).unwrap();
    println!("{} parameters", unet.layout.count());
    let threads: usize = std::env::args().nth(1).map_or(2, |s| s.parse().unwrap());
    let n: usize = std::env::args().nth(2).map_or(64, |s| s.parse().unwrap());
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let mut w = unet.layout.initial::<f32>(1);
    let x = gradient_check::normal((n, 28, 28, 1), 1).mapv(|x| x as f32);
    let b = Batch { x_t: x.clone(), target: x, t: vec![500.0; n], labels: None };
    let mut m = Moments::zeros(w.0.len());
    let a = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
    for i in 0..6 {
        let t = Instant::now();
        let (l, g) = rayon::scope(|_| loss_and_gradient(&unet, &w, &b, None)).unwrap();
        a.step(i + 1, 1e-3, 1.0, &mut w, &g, &mut m);
        println!("step {:.3} s loss {l}", t.elapsed().as_secs_f64());
        let t = Instant::now();
        rayon::scope(|_| unet.predict(&w, b.x_t.clone(), Conditions { time: Time::Steps(&b.t), labels: None }))
            .unwrap();
        println!("   forward {:.3}", t.elapsed().as_secs_f64());
    }
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", s.lines().find(|l| l.starts_with("VmHWM")).unwrap());
}
