//! Twenty training steps of a diffusers U-Net on MNIST digits, against PyTorch's float64.

use crate::peer::{Peer, channels_last, fixture, worst};
use ancestral::checkpoint::weights;
use ancestral::diffusion::{BetaSchedule, Prediction, Schedule};
use ancestral::models::{Network, NetworkConfig};
use ancestral::numerics::Real;
use ancestral::train::adamw::AdamW;
use ancestral::train::gradient::Zeros;
use ancestral::train::{Batch, Descent, State};

/// The twenty losses and gradient norms, the last state, and the network, in precision F.
fn twenty_steps<F: Real>(peer: &Peer) -> (Vec<f64>, Vec<f64>, State<F>, Network) {
    let folder = fixture("unet/mnist_like");
    let text = std::fs::read_to_string(folder.join("config.json")).expect("a config");
    let network = Network::new(NetworkConfig::from_json(&text, "config.json").expect("supported")).expect("supported");
    let start = weights::read(&folder.join("diffusion_pytorch_model.safetensors"), network.layout()).expect("weights");
    let schedule = Schedule::new(BetaSchedule::Linear, 1000, 1e-4, 0.02).expect("the schedule of the paper");
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
    let descent = Descent { adamw, clip_norm: 1.0, ema_decay: 0.999 };
    let (mut state, zeros) = (State::new(start.cast::<F>(), true), Zeros::default());
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for n in 0..20 {
        let row = |name: &str| peer.get(name).index_axis(ndarray::Axis(0), n).to_owned();
        let x_0 = channels_last(&row("images")).mapv(F::from_f64);
        let eps = channels_last(&row("noise")).mapv(F::from_f64);
        let t: Vec<usize> = row("t").iter().map(|&t| t as usize + 1).collect();
        let batch = Batch::noised(&schedule, Prediction::Epsilon, &x_0, &t, &eps, None);
        let report = state.step(&network, &batch, 1e-3, &descent, None, &zeros).expect("a step");
        losses.push(report.loss);
        norms.push(report.grad_norm);
    }
    (losses, norms, state, network)
}

/// The largest |found − expected| relative to expected.
fn relative(found: &[f64], expected: impl IntoIterator<Item = f64>) -> f64 {
    found.iter().zip(expected).map(|(f, e)| ((f - e) / e).abs()).fold(0.0, f64::max)
}

/// The steps in precision F against the peer's: losses and norms relative, weights and averages absolute.
///
/// A key's bias has a gradient of rounding errors alone, which Adam blows up to steps of the learning rate.
fn agree<F: Real>(relative_bound: f64, weight_bound: f64) {
    let peer = Peer::open("training/mnist_like_20_steps.safetensors");
    let (losses, norms, state, network) = twenty_steps::<F>(&peer);
    let loss = relative(&losses, peer.get("loss_f64").iter().copied());
    let norm = relative(&norms, peer.get("grad_norm_f64").iter().copied());
    println!("{}: losses off by {loss:e}, norms by {norm:e} (relative)", F::NAME);
    assert!(loss <= relative_bound && norm <= 100.0 * relative_bound, "losses off by {loss:e}, norms by {norm:e}");
    for (prefix, found) in [("weight_f64", &state.weights), ("ema_f64", state.best())] {
        for entry in &network.layout().entries {
            let expected = peer.parameter(&format!("{prefix}.{}", entry.name), &entry.axes);
            let (error, _) = worst(found[entry.span].iter().map(|x| x.to_f64()), &expected);
            let bound = if entry.name.ends_with("to_k.bias") { 20.0 * 1e-3 } else { weight_bound };
            assert!(error <= bound, "{prefix}.{}: off by {error:e}", entry.name);
        }
    }
}

#[test]
fn twenty_training_steps_in_f64_are_pytorchs() {
    agree::<f64>(1e-9, 1e-9);
}

#[test]
fn twenty_training_steps_in_f32_have_pytorchs_losses_and_weights() {
    // PyTorch's own float32 weights are off by up to 2.3e-5: Adam divides by small roots, which magnifies rounding.
    agree::<f32>(1e-6, 7e-5);
}
