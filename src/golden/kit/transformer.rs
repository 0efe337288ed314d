//! The transformer in the kit: its parts, its networks, their gradients and training. Small shapes: every number of a case is
//! stored thrice.

use serde_json::{Value, json};

use super::draft::Draft;
use super::networks::{Model, model};
use crate::models::DitConfig;

/// Two transformers: of two blocks with a learned variance, and of one with every option, whose patches are single pixels.
pub fn models() -> Vec<Model> {
    let small = DitConfig {
        num_attention_heads: 2,
        attention_head_dim: 2,
        in_channels: 1,
        out_channels: Some(2),
        num_layers: 2,
        sample_size: 4,
        num_embeds_ada_norm: 3,
        ..DitConfig::default()
    };
    let options = DitConfig {
        num_attention_heads: 1,
        attention_head_dim: 4,
        out_channels: None,
        num_layers: 1,
        sample_size: 2,
        patch_size: 1,
        attention_bias: false,
        norm_elementwise_affine: true,
        norm_eps: 1e-3,
        ..small.clone()
    };
    vec![model("dit", small.into()), model("dit_options", options.into())]
}

/// Patches, positions, modulation, gates, and norms as transformers have them.
pub fn layers() -> Vec<Draft> {
    let op = |name: &str, op: &str, attributes: Value| Draft::new("ops", name, op, attributes);
    let patches = |name: &str, patch: usize, [n, c, h, w]: [usize; 4]| {
        let draft = op(&format!("patchify_{name}"), "patchify", json!({"patch": patch}));
        draft.normal("x", &[n, c, h, w]).grad(&[n, h / patch * (w / patch), patch * patch * c])
    };
    let images = |name: &str, patch: usize, [n, c, h, w]: [usize; 4]| {
        let attributes = json!({"patch": patch, "height": h, "width": w});
        let draft = op(&format!("unpatchify_{name}"), "unpatchify", attributes);
        draft.normal("x", &[n, h / patch * (w / patch), patch * patch * c]).grad(&[n, c, h, w])
    };
    let positions = |name: &str, rows: usize, columns: usize, base: usize, dim: usize| {
        let attributes = json!({"rows": rows, "columns": columns, "base": base, "dim": dim});
        op(&format!("positions_{name}"), "positions", attributes)
    };
    let modulate = |name: &str, n: usize, tokens: usize, c: usize| {
        let draft = op(&format!("modulate_{name}"), "modulate", json!({})).normal("x", &[n, tokens, c]);
        draft.normal("shift", &[n, c]).normal("scale", &[n, c]).grad(&[n, tokens, c])
    };
    let gate = |name: &str, n: usize, tokens: usize, c: usize, deviation: f32| {
        let draft = op(&format!("gate_{name}"), "gate", json!({})).normal("x", &[n, tokens, c]);
        let draft = draft.normal("branch", &[n, tokens, c]).normal_around("gate", &[n, c], 0.0, deviation);
        draft.grad(&[n, tokens, c])
    };
    let affine = |name: &str, shape: &[usize]| {
        let (draft, c) = (op(&format!("affine_{name}"), "affine", json!({})), shape[shape.len() - 1]);
        draft.normal("x", shape).normal_around("weight", &[c], 1.0, 0.3).normal("bias", &[c]).grad(shape)
    };
    let norm = |name: &str, deviation: f32| {
        let draft = op(&format!("layer_norm_of_dit_{name}"), "layer_norm", json!({"eps": 1e-6}));
        draft.normal_around("x", &[2, 3, 8], 0.0, deviation).grad(&[2, 3, 8])
    };
    let interleaved = op("attention_of_dit", "attention", json!({"heads": 2}));
    let embedding = |name: &str, labels: &[i64]| {
        let mut draft = Draft::new("blocks", &format!("dit_embedding_{name}"), "dit_embedding", json!({}));
        let n = labels.len();
        draft = draft.integers("t", &[n], &[0, 999, 500][..n]).integers("class_labels", &[n], labels).grad(&[n, 4]);
        draft = draft.normal_around("timestep_embedder.linear_1.weight", &[4, 8], 0.0, 0.4);
        draft = draft.normal_around("timestep_embedder.linear_1.bias", &[4], 0.0, 0.3);
        draft = draft.normal_around("timestep_embedder.linear_2.weight", &[4, 4], 0.0, 0.5);
        draft = draft.normal_around("timestep_embedder.linear_2.bias", &[4], 0.0, 0.3);
        draft.normal("class_embedder.embedding_table.weight", &[4, 4])
    };
    vec![
        patches("1", 1, [1, 2, 2, 3]),
        patches("2", 2, [2, 3, 4, 2]).mutants(&["patch_channels_first"]),
        patches("3", 3, [1, 2, 3, 6]),
        patches("of_a_whole_image", 2, [2, 1, 2, 2]),
        images("1", 1, [1, 2, 3, 2]),
        images("2", 2, [2, 3, 2, 4]).mutants(&["patch_channels_first"]),
        images("3", 3, [1, 1, 6, 3]),
        positions("3x3", 3, 3, 3, 8).mutants(&["positions_transposed"]),
        positions("2x4_stretched", 2, 4, 3, 12),
        positions("4x4_of_half_the_side", 4, 4, 2, 4),
        positions("of_one_token", 1, 1, 4, 4),
        modulate("2_images", 2, 3, 4).mutants(&["scale_without_one", "shift_and_scale_swapped"]),
        modulate("one_token", 3, 1, 5),
        modulate("20_tokens", 1, 20, 2), // more than the 16 rows that are added at a time
        gate("2_images", 2, 3, 4, 1.0).mutants(&["gate_forgotten"]),
        gate("closed", 2, 2, 3, 0.0).mutants(&["gate_forgotten"]),
        affine("rows", &[5, 4]),
        affine("tokens", &[2, 3, 4]),
        norm("plain", 1.0),
        norm("small_variance", 0.003).mutants(&["norm_eps_1e-5"]),
        interleaved
            .normal("q", &[1, 3, 6])
            .normal("k", &[1, 3, 6])
            .normal("v", &[1, 3, 6])
            .grad(&[1, 3, 6])
            .mutants(&["heads_interleaved"]),
        op("time_embedding_of_dit", "time_embedding", json!({"dim": 16, "flip_sin_to_cos": true, "freq_shift": 1}))
            .integers("t", &[3], &[0, 250, 999])
            .mutants(&["sin_and_cos_swapped", "half_for_half_minus_1"]),
        embedding("of_classes", &[0, 3, 1]).mutants(&["label_dropout_at_inference"]),
        embedding("of_no_class", &[3, 3]),
    ]
}

/// Blocks: (heads, tokens), biases before the scores, a norm with parameters.
pub fn blocks() -> Vec<Draft> {
    let block = |name: &str, (heads, count): (usize, usize), bias: bool, affine: bool| {
        const C: usize = 4;
        let mut draft = Draft::new("blocks", &format!("dit_block_{name}"), "dit_block", json!({"heads": heads}));
        draft = draft.normal("x", &[2, count, C]).normal("emb", &[2, C]);
        let projections = ["attn1.to_q", "attn1.to_k", "attn1.to_v"].map(|part| (part, C, C, bias));
        let others = [("norm1.linear", 6 * C, C, true), ("attn1.to_out.0", C, C, true)];
        let mlp = [("ff.net.0.proj", 4 * C, C, true), ("ff.net.2", C, 4 * C, true)];
        for (part, outputs, inputs, bias) in others.into_iter().chain(projections).chain(mlp) {
            let deviation = 1.0 / (inputs as f32).sqrt();
            draft = draft.normal_around(&format!("{part}.weight"), &[outputs, inputs], 0.0, deviation);
            if bias {
                draft = draft.normal_around(&format!("{part}.bias"), &[outputs], 0.0, 0.5);
            }
        }
        match affine {
            true => draft.normal_around("norm3.weight", &[C], 1.0, 0.3).normal("norm3.bias", &[C]),
            false => draft,
        }
    };
    let mistakes =
        ["scale_without_one", "gate_forgotten", "shift_and_scale_swapped", "exact_gelu", "heads_interleaved"];
    vec![
        block("2_heads", (2, 3), true, false).mutants(&mistakes),
        block("1_head", (1, 3), true, false).grad(&[2, 3, 4]),
        block("4_heads_every_option", (4, 3), false, true).grad(&[2, 3, 4]),
        block("one_token", (2, 1), true, false),
    ]
}

fn dit(level: &'static str, name: &str, attributes: Value) -> Draft {
    let (c_out, side) = if name == "dit" { (2, 4) } else { (1, 2) };
    let mut all = json!({"model": format!("../../models/{name}")});
    all.as_object_mut().expect("an object").extend(attributes.as_object().expect("attributes").clone());
    let draft =
        Draft::new(level, name, "dit", all).normal("x", &[2, 1, side, side]).normal("noise", &[2, c_out, side, side]);
    draft.integers("t", &[2], &[0, 999]).integers("class_labels", &[2], &[1, 3])
}

/// Forward passes with every module's result.
pub fn forward() -> Vec<Draft> {
    let mistakes = ["timestep_off_by_one", "label_dropout_at_inference"];
    vec![
        dit("network", "dit", json!({"taps": true})).mutants(&mistakes),
        dit("network", "dit_options", json!({})).mutants(&["label_dropout_at_inference"]),
    ]
}

/// The loss and every gradient.
pub fn gradients() -> Vec<Draft> {
    vec![dit("gradients", "dit_options", json!({"gradients": true})).mutants(&["gradients_of_the_sum"])]
}

/// Two steps, told classes and none. The first steps of Adam are a sign of each gradient where eps is small, and the sinusoids of
/// time have gradients near zero.
pub fn training() -> Vec<Draft> {
    let attributes = json!({
        "model": "../../models/dit_options", "lr": 1e-3, "eps": 1e-3, "weight_decay": 0.01, "clip_norm": 1.0, "ema_decay": 0.99,
        "config": {"beta_schedule": "linear", "num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02},
    });
    let draft = Draft::new("training", "dit_two_steps", "training", attributes);
    let draft = draft.normal("x_0", &[2, 2, 1, 2, 2]).normal("eps", &[2, 2, 1, 2, 2]).drawn("t", &[2, 2], 1000);
    vec![draft.integers("class_labels", &[2, 2], &[0, 3, 2, 0])]
}
