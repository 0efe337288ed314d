//! Twenty training steps of a diffusers U-Net on MNIST digits, against PyTorch's float64.

use crate::peer::{Peer, channels_last, fixture, worst};
use ancestral::checkpoint::weights;
use ancestral::diffusion::{BetaSchedule, Prediction, Schedule};
use ancestral::layers::{Layout, ParameterVector};
use ancestral::models::unet::{UNet, UNetConfig};
use ancestral::numerics::Real;
use ancestral::train::adamw::{AdamW, Moments};
use ancestral::train::clip::{clip_factor, global_norm};
use ancestral::train::ema;
use ancestral::train::gradient::{Zeros, loss_and_gradient};
use ancestral::train::trainer::noised;

/// The twenty losses, gradient norms, last weights and last averages in precision F.
fn twenty_steps<F: Real>(peer: &Peer) -> (Vec<f64>, Vec<f64>, ParameterVector<F>, ParameterVector<F>, Layout) {
    let folder = fixture("unet/mnist_like");
    let text = std::fs::read_to_string(folder.join("config.json")).expect("a config");
    let unet = UNet::new(UNetConfig::from_json(&text, "config.json").expect("supported")).expect("supported");
    let start = weights::read(&folder.join("diffusion_pytorch_model.safetensors"), &unet.layout).expect("weights");
    let mut w = start.cast::<F>();
    let (mut average, mut moments) = (w.clone(), Moments::zeros(w.0.len()));
    let schedule = Schedule::new(BetaSchedule::Linear, 1000, 1e-4, 0.02).expect("the schedule of the paper");
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
    let (mut losses, mut norms, zeros) = (Vec::new(), Vec::new(), Zeros::default());
    for n in 0..20 {
        let row = |name: &str| peer.get(name).index_axis(ndarray::Axis(0), n).to_owned();
        let x_0 = channels_last(&row("images")).mapv(F::from_f64);
        let eps = channels_last(&row("noise")).mapv(F::from_f64);
        let t: Vec<usize> = row("t").iter().map(|&t| t as usize + 1).collect();
        let batch = noised(&schedule, Prediction::Epsilon, &x_0, &t, &eps, None);
        let (loss, mut grads) = loss_and_gradient(&unet, &w, &batch, None, &zeros).expect("a step");
        let norm = global_norm(&unet.layout, &grads);
        adamw.step(n as u64 + 1, 1e-3, clip_factor(norm, 1.0), &mut w, &mut grads, &mut moments);
        zeros.give(grads);
        ema::update(&mut average, &w, n as u64, 0.999);
        losses.push(loss);
        norms.push(norm);
    }
    (losses, norms, w, average, unet.layout)
}

/// The largest |found − expected| relative to expected.
fn relative(found: &[f64], expected: impl IntoIterator<Item = f64>) -> f64 {
    found.iter().zip(expected).map(|(f, e)| ((f - e) / e).abs()).fold(0.0, f64::max)
}

#[test]
fn twenty_training_steps_in_f32_have_pytorchs_losses_and_weights() {
    let peer = Peer::open("training/mnist_like_20_steps.safetensors");
    let (losses, norms, w, average, layout) = twenty_steps::<f32>(&peer);
    let loss = relative(&losses, peer.get("loss_f64").iter().copied());
    let norm = relative(&norms, peer.get("grad_norm_f64").iter().copied());
    println!("losses off by {loss:e}, norms by {norm:e} (relative)");
    assert!(loss <= 1e-6, "losses off by {loss:e}");
    // PyTorch's own float32 weights are off by up to 2.3e-5: Adam divides by small roots, which magnifies rounding.
    for (prefix, found) in [("weight_f64", &w), ("ema_f64", &average)] {
        for entry in &layout.entries {
            let expected = peer.parameter(&format!("{prefix}.{}", entry.name), &entry.axes);
            let (error, _) = worst(found[entry.span].iter().map(|&x| x as f64), &expected);
            // A key's bias has a gradient of rounding errors alone, which Adam blows up to steps of the learning rate.
            let bound = if entry.name.ends_with("to_k.bias") { 20.0 * 1e-3 } else { 7e-5 };
            assert!(error <= bound, "{prefix}.{}: off by {error:e}", entry.name);
        }
    }
}
