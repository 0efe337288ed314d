//! The networks of the kit, and their cases: forward passes with every module's result, gradients, training.

use serde_json::{Value, json};

use super::draft::Draft;
use crate::checkpoint::weights;
use crate::layers::ParameterVector;
use crate::models::unet::SampleSize;
use crate::models::{Network, NetworkConfig, UNetConfig};
use crate::numerics::rng::Stream;

/// A network of the kit: its name, its configuration and the bytes of its weights.
#[derive(Clone, Debug)]
pub struct Model {
    /// The folder in `models`.
    pub name: &'static str,
    /// The text of config.json.
    pub config: String,
    /// The safetensors file of its weights.
    pub weights: Vec<u8>,
}

/// The U-Nets: small, but with every kind of layer.
pub fn models() -> Vec<Model> {
    let names = |list: &[&str]| list.iter().map(|name| name.to_string()).collect();
    let plain = UNetConfig {
        sample_size: Some(SampleSize::Rectangle([8, 4])),
        in_channels: 1,
        out_channels: 1,
        block_out_channels: vec![4, 8],
        down_block_types: names(&["DownBlock2D", "AttnDownBlock2D"]),
        up_block_types: names(&["AttnUpBlock2D", "UpBlock2D"]),
        layers_per_block: 1,
        norm_num_groups: 2,
        attention_head_dim: None,
        ..UNetConfig::default()
    };
    let conditional = UNetConfig {
        sample_size: Some(SampleSize::Rectangle([4, 8])),
        in_channels: 3,
        out_channels: 3,
        block_out_channels: vec![4, 8],
        down_block_types: names(&["AttnDownBlock2D", "DownBlock2D"]),
        up_block_types: names(&["UpBlock2D", "AttnUpBlock2D"]),
        layers_per_block: 2,
        norm_num_groups: 4,
        attention_head_dim: Some(2),
        num_class_embeds: Some(5),
        resnet_time_scale_shift: "scale_shift".into(),
        downsample_padding: 0,
        flip_sin_to_cos: false,
        freq_shift: 1.0,
        mid_block_scale_factor: 1.25,
        center_input_sample: true,
        attn_norm_num_groups: Some(2),
        ..UNetConfig::default()
    };
    vec![model("plain", plain.into()), model("conditional", conditional.into())]
}

/// Weights that leave no branch zero: normal, of a size that keeps activations near 1; the scales of norms around 1.
pub(super) fn model(name: &'static str, config: NetworkConfig) -> Model {
    let network = Network::new(config.clone()).expect("a supported network");
    let layout = network.layout();
    let mut w = ParameterVector::<f32>::zeros(layout.count());
    for entry in &layout.entries {
        let values = &mut w[entry.span];
        Stream::keyed(0, &format!("golden.models/{name}/{}", entry.name), &[]).fill_normal(values);
        let shape = entry.axes.shape();
        let fan_in = shape[1..].iter().product::<usize>().max(4) as f64;
        let is_table = entry.name.contains("class_embedding") || entry.name.contains("embedding_table");
        let deviation = if is_table { 1.0 } else { (1.0 / fan_in.sqrt()) as f32 };
        let is_scale = entry.name.contains("norm") && entry.name.ends_with("weight") && shape.len() == 1;
        let mean = if is_scale { 1.0 } else { 0.0 };
        values.iter_mut().for_each(|x| *x = mean + deviation * *x);
    }
    Model { name, config: config.to_json(), weights: weights::to_bytes(layout, &w) }
}

fn unet(level: &'static str, name: &str, model: &str, attributes: Value) -> Draft {
    let mut all = json!({"model": format!("../../models/{model}")});
    for (key, value) in attributes.as_object().expect("attributes") {
        all[key] = value.clone();
    }
    let draft = Draft::new(level, name, "unet", all);
    if model == "plain" {
        let draft = draft.normal("x", &[2, 1, 8, 4]).normal("noise", &[2, 1, 8, 4]);
        return draft.integers("t", &[2], &[0, 500]);
    }
    // Two images show what classes add, the last class standing for none; more would only repeat it in every tap.
    let draft = draft.normal("x", &[2, 3, 4, 8]).normal("noise", &[2, 3, 4, 8]).integers("t", &[2], &[1, 999]);
    draft.integers("class_labels", &[2], &[4, 2])
}

/// Forward passes; between them, t is at both ends of the schedule and in its midst.
pub fn forward() -> Vec<Draft> {
    let traced = json!({"gradients": false, "taps": true});
    vec![
        unet("network", "plain", "plain", traced.clone()).mutants(&[
            "timestep_off_by_one",
            "timestep_over_1000",
            "skips_swapped",
            "skips_at_the_wrong_depth",
        ]),
        unet("network", "conditional", "conditional", traced),
    ]
}

/// The loss and every gradient.
pub fn gradients() -> Vec<Draft> {
    let with = json!({"gradients": true});
    vec![
        unet("gradients", "plain", "plain", with.clone()).mutants(&["gradients_of_the_sum"]),
        unet("gradients", "conditional", "conditional", with),
    ]
}

/// Ten training steps of five images, more than a microbatch.
pub fn training() -> Vec<Draft> {
    let attributes = json!({
        "model": "../../models/plain", "lr": 1e-3, "weight_decay": 0.01, "clip_norm": 1.0, "ema_decay": 0.99,
        "config": {"beta_schedule": "linear", "num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02},
    });
    let draft = Draft::new("training", "ten_steps", "training", attributes);
    let draft = draft.normal("x_0", &[10, 5, 1, 8, 4]).normal("eps", &[10, 5, 1, 8, 4]).drawn("t", &[10, 5], 1000);
    vec![draft.mutants(&[
        "later_times_fed",
        "each_tensor_clipped",
        "learning_rate_warmed_up",
        "x_0_as_target",
        "weights_untouched",
        "ema_before_the_step",
        "ema_forgotten",
        "ema_untouched",
    ])]
}
