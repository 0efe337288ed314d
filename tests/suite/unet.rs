//! U-Nets written by diffusers: outputs, loss and every parameter's gradient against PyTorch's float64.

use crate::peer::{Peer, fixture, worst};
use ancestral::checkpoint::weights;
use ancestral::layers::ParameterVector;
use ancestral::models::{Conditions, Time, UNet, UNetConfig};
use ancestral::numerics::Real;
use ndarray::Array4;

const NAMES: [&str; 5] = ["mnist_like", "cifar_like", "class_conditional", "resnet_blocks", "class_as_a_time"];

struct Case {
    peer: Peer,
    unet: UNet,
    weights: ParameterVector<f32>,
    time: Vec<f64>,
    labels: Option<Vec<usize>>,
}

impl Case {
    fn open(name: &str) -> Self {
        let folder = fixture(&format!("unet/{name}"));
        let text = std::fs::read_to_string(folder.join("config.json")).expect("a config");
        let unet = UNet::new(UNetConfig::from_json(&text, "config.json").expect("supported")).expect("supported");
        let weights =
            weights::read(&folder.join("diffusion_pytorch_model.safetensors"), &unet.layout).expect("weights");
        let peer = Peer::open(&format!("unet/{name}/io.safetensors"));
        let time = peer.get("t").iter().copied().collect();
        let labels = peer.tensors.get("class_labels").map(|l| l.iter().map(|&l| l as usize).collect());
        Case { peer, unet, weights, time, labels }
    }

    fn conditions(&self) -> Conditions<'_> {
        Conditions { time: Time::Steps(&self.time), labels: self.labels.as_deref() }
    }

    fn predict<F: Real>(&self) -> Array4<F> {
        let x = self.peer.images("x").mapv(F::from_f64);
        self.unet.predict(&self.weights.cast(), x, self.conditions()).expect("a prediction")
    }
}

#[test]
fn unet_in_f64_equals_pytorch_for_output_loss_and_every_gradient() {
    for name in NAMES {
        let case = Case::open(name);
        let w = case.weights.cast::<f64>();
        let (out, tape) = case.unet.forward(&w, case.peer.images("x"), case.conditions(), None).expect("a prediction");
        let expected = case.peer.images("out_f64");
        let (error, scale) = worst(out.iter().copied(), &expected);
        assert!(error <= 1e-9 * scale, "{name}: output off by {error:e} of {scale}");

        let noise = case.peer.images("noise");
        let count = out.len() as f64;
        let difference = &out - &noise;
        let loss = difference.mapv(|d| d * d).sum() / count;
        let expected = case.peer.get("loss_f64").iter().next().copied().expect("one number");
        assert!((loss - expected).abs() <= 1e-9 * expected, "{name}: loss {loss}, PyTorch {expected}");

        let mut grads = ParameterVector::zeros(w.0.len());
        let dx = case.unet.backward(&w, tape, case.labels.as_deref(), &(difference * (2.0 / count)), &mut grads);
        let (error, scale) = worst(dx.iter().copied(), &case.peer.images("grad.x"));
        assert!(error <= 1e-9 * scale, "{name}: grad.x off by {error:e} of {scale}");
        for entry in &case.unet.layout.entries {
            let expected = case.peer.parameter(&format!("grad.{}", entry.name), &entry.axes);
            let (error, scale) = worst(grads[entry.span].iter().copied(), &expected);
            // Scores that all move alike change no softmax: the gradient of a key's bias is zero but for rounding.
            let bound = if entry.name.ends_with("to_k.bias") { 1e-15 } else { 1e-9 * scale };
            assert!(error <= bound, "{name}: grad.{} off by {error:e} of {scale:e}", entry.name);
        }
    }
}

#[test]
fn unet_in_f32_is_as_near_to_the_truth_as_pytorch_in_f32() {
    for name in NAMES {
        let case = Case::open(name);
        let truth = case.peer.images("out_f64");
        let (theirs, _) = worst(case.peer.images("out_f32").iter().copied(), &truth);
        let (ours, _) = worst(case.predict::<f32>().iter().map(|&y| y as f64), &truth);
        println!("{name}: f32 error {ours:e}, PyTorch's {theirs:e}");
        assert!(ours <= 3.0 * theirs, "{name}: off by {ours:e}, PyTorch by {theirs:e}");
    }
}
