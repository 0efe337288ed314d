//! Twelve steps of clipping, AdamW and the average against PyTorch's own, which are float32.

use crate::peer::{Peer, worst};
use ancestral::layers::parameters::{Axes, Init};
use ancestral::layers::{Layout, ParameterVector};
use ancestral::train::adamw::{AdamW, Moments};
use ancestral::train::clip::{clip_factor, global_norm};
use ancestral::train::ema;

#[test]
fn twelve_steps_of_clip_adamw_and_ema_equal_pytorch() {
    let peer = Peer::open("optimizer/adamw_clip_ema.safetensors");
    let mut layout = Layout::default();
    layout.add("w".into(), Axes::Same(vec![40]), Init::Zeros);
    let adamw = AdamW {
        beta1: peer.fact("beta1"),
        beta2: peer.fact("beta2"),
        eps: peer.fact("eps"),
        weight_decay: peer.fact("weight_decay"),
    };
    let row = |name: &str, i: usize| peer.get(name).index_axis(ndarray::Axis(0), i).to_owned();
    let mut w = ParameterVector(peer.get("w0").iter().map(|&w| w as f32).collect());
    let (mut average, mut moments) = (w.clone(), Moments::zeros(40));
    for i in 0..12 {
        let mut grads = ParameterVector(row("grads", i).iter().map(|&g| g as f32).collect());
        let clip = clip_factor(global_norm(&layout, &grads), peer.fact("clip_norm"));
        adamw.step(i as u64 + 1, peer.fact("lr"), clip, &mut w, &mut grads, &mut moments);
        ema::update(&mut average, &w, i as u64, 0.999);
        // Weights of order 1 move by 3e-3 a step; each step rounds once, by at most 2⁻²³ · 2 = 2.4e-7, in either implementation.
        let bound = 2.4e-7 * (i + 1) as f64;
        for (name, found) in [("w", &w), ("ema", &average)] {
            let (error, _) = worst(found.0.iter().map(|&x| x as f64), &row(name, i));
            assert!(error <= bound, "{name} after step {}: off by {error:e}", i + 1);
        }
    }
}
