//! The cases of single operations: elementary functions, layers, blocks, and the orders of products.

use serde_json::json;

use super::draft::Draft;

/// Elementary functions and random streams.
pub fn elementary() -> Vec<Draft> {
    let of = |op: &str| Draft::new("elementary", op, op, json!({}));
    let stream = |name: &str, seed: u64, purpose: &str, indices: &[u64]| {
        let attributes = json!({"seed": seed, "purpose": purpose, "indices": indices, "count": 64});
        Draft::new("elementary", name, "random_stream", attributes)
    };
    let magnitudes = (-120..=120).map(|e| f32::from_bits(((127 + e) as u32) << 23 | 0x2a_aaaa));
    vec![
        of("exp").range("x", -87.0, 88.5, 352),
        of("sigmoid").range("x", -87.0, 87.0, 349),
        of("tanh").range("x", -12.0, 12.0, 241),
        of("ln").values("x", magnitudes),
        of("sin").range("x", -1000.0, 1000.0, 400),
        of("cos").range("x", -1000.0, 1000.0, 400),
        stream("stream_of_noise", 42, "sample.noise", &[17, 600]),
        stream("stream_without_indices", 0, "init.conv_in.weight", &[]),
        stream("stream_of_a_large_seed", 1 << 52, "train.noise", &[1, 2, 3]),
    ]
}

/// y = x Wᵀ + b with m rows, K inputs and n outputs.
fn linear(name: &str, m: usize, k: usize, n: usize) -> Draft {
    let draft = Draft::new("ops", name, "linear", json!({}));
    draft.normal("x", &[m, k]).normal("weight", &[n, k]).normal("bias", &[n])
}

/// Known mistakes that are precisions.
pub(super) const ROUNDED: [&str; 3] = ["tf32_inputs", "bf16_inputs", "f16_inputs"];

/// Plain products.
pub fn products() -> Vec<Draft> {
    let gradients = ["weight_gradient_zero", "weight_gradient_x1_001", "bias_gradient_mean"];
    vec![
        linear("linear_k1", 3, 1, 5).grad(&[3, 5]),
        linear("linear_k27", 7, 27, 5).grad(&[7, 5]).mutants(&gradients),
        linear("linear_k255", 3, 255, 5),
        linear("linear_k256", 4, 256, 4).grad(&[4, 4]).mutants(&ROUNDED),
        linear("linear_k257", 3, 257, 5),
        linear("linear_k576", 4, 576, 6),
        linear("linear_k4608", 2, 4608, 3).mutants(&ROUNDED),
        Draft::new("ops", "linear_of_three_axes_without_bias", "linear", json!({}))
            .normal("x", &[2, 3, 10])
            .normal("weight", &[4, 10])
            .grad(&[2, 3, 4]),
        Draft::new("ops", "linear_of_large_means", "linear", json!({}))
            .normal_around("x", &[5, 40], 100.0, 1.0)
            .normal("weight", &[6, 40])
            .normal("bias", &[6])
            .grad(&[5, 6]),
    ]
}

/// Norms, activations, softmax, attention, resampling, embeddings, the loss.
pub fn layers() -> Vec<Draft> {
    let norm = |name: &str, x: &[usize], groups: usize| {
        let draft =
            Draft::new("ops", &format!("group_norm_{name}"), "group_norm", json!({"groups": groups, "eps": 1e-5}));
        draft.normal_around("weight", &x[1..2], 1.0, 0.5).normal("bias", &x[1..2]).grad(x)
    };
    let (wide, small) = ([2, 12, 5, 4], [2, 8, 4, 4]);
    let rows = |name: &str| {
        Draft::new("ops", &format!("layer_norm_{name}"), "layer_norm", json!({"eps": 1e-6})).grad(&[3, 4, 10])
    };
    let op = |name: &str, op: &str| Draft::new("ops", name, op, json!({}));
    let attention = |name: &str, heads: usize, [tokens, keys, c]: [usize; 3], deviation: f32| {
        let draft = Draft::new("ops", &format!("attention_{name}"), "attention", json!({"heads": heads}));
        let draft =
            draft.normal_around("q", &[2, tokens, c], 0.0, deviation).normal_around("k", &[2, keys, c], 0.0, deviation);
        draft.normal("v", &[2, keys, c]).grad(&[2, tokens, c])
    };
    let causal: Vec<i64> = (0..25).map(|i| i64::from(i % 5 <= i / 5)).collect();
    let embedding = |name: &str, dim: usize, flip: bool, shift: f64| {
        let attributes = json!({"dim": dim, "flip_sin_to_cos": flip, "freq_shift": shift});
        let draft = Draft::new("ops", &format!("time_embedding_{name}"), "time_embedding", attributes);
        draft.integers("t", &[6], &[0, 1, 7, 250, 500, 999])
    };
    vec![
        norm("4_groups", &wide, 4).normal("x", &wide).mutants(&[
            "unbiased_variance",
            "one_group_a_channel",
            "groups_interleaved",
        ]),
        norm("1_group", &wide, 1).normal_around("x", &wide, 0.3, 2.0),
        norm("12_groups", &wide, 12).normal("x", &wide),
        norm("mean_100", &wide, 4).normal_around("x", &wide, 100.0, 1.0).mutants(&["one_pass_variance"]),
        norm("small_variance", &small, 2)
            .normal_around("x", &small, 0.0, 0.01)
            .mutants(&["norm_eps_1e-6", "eps_outside_the_root"]),
        norm("one_axis", &[3, 6, 9], 3).normal("x", &[3, 6, 9]),
        rows("plain").normal("x", &[3, 4, 10]),
        rows("affine").normal("x", &[3, 4, 10]).normal("weight", &[10]).normal("bias", &[10]),
        rows("mean_100").normal_around("x", &[3, 4, 10], 100.0, 1.0),
        op("silu", "silu").range("x", -80.0, 120.0, 401).grad(&[401]),
        op("gelu_tanh", "gelu_tanh").range("x", -6.0, 6.0, 241).grad(&[241]).mutants(&["exact_gelu"]),
        op("gelu", "gelu").range("x", -6.0, 6.0, 241).grad(&[241]).mutants(&["tanh_gelu"]),
        op("softmax", "softmax").normal("x", &[5, 19]).grad(&[5, 19]).mutants(&["softmax_of_columns"]),
        op("softmax_of_80", "softmax").normal_around("x", &[6, 17], 0.0, 40.0).grad(&[6, 17]),
        op("softmax_of_400", "softmax").values("x", [400.0, 399.0, -400.0, 0.0, 400.0, 398.5]).grad(&[6]),
        op("softmax_of_one", "softmax").normal("x", &[4, 1]).grad(&[4, 1]),
        attention("1_head", 1, [6, 6, 8], 1.0).mutants(&["scores_not_scaled", "scores_scaled_by_d"]),
        attention("4_heads", 4, [5, 5, 8], 1.0).mutants(&["scores_not_scaled", "heads_reversed"]),
        attention("across", 2, [3, 7, 8], 1.0),
        attention("large_scores", 2, [5, 6, 8], 8.0),
        // Heads whose √d no float has: a scale from a table of powers of two is wrong here.
        attention("heads_of_6", 2, [5, 4, 12], 1.0),
        attention("head_of_7", 1, [4, 5, 7], 1.0),
        attention("heads_of_40", 2, [3, 4, 80], 1.0),
        attention("head_of_72", 1, [4, 3, 72], 1.0),
        attention("causal", 2, [5, 5, 8], 1.0)
            .integers("mask", &[5, 5], &causal)
            .mutants(&["mask_ignored", "mask_after_softmax"]),
        attention("masked_by_image", 1, [3, 4, 6], 1.0)
            .integers("mask", &[2, 3, 4], &[1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1])
            .mutants(&["mask_ignored", "mask_after_softmax"]),
        // Beside such scores a hidden one of −20, or of −10⁴, is seen.
        attention("causal_of_minus_50", 1, [5, 5, 4], 1.0)
            .normal_around("q", &[2, 5, 4], 5.0, 0.3)
            .normal_around("k", &[2, 5, 4], -5.0, 0.3)
            .integers("mask", &[5, 5], &causal)
            .mutants(&["hidden_score_of_minus_20"]),
        attention("causal_of_minus_20000", 1, [5, 5, 4], 1.0)
            .normal_around("q", &[2, 5, 4], 100.0, 0.01)
            .normal_around("k", &[2, 5, 4], -100.0, 0.01)
            .integers("mask", &[5, 5], &causal)
            .mutants(&["hidden_score_of_minus_10000"]),
        attention("wide_values", 2, [4, 5, 8], 1.0).normal("v", &[2, 5, 12]).grad(&[2, 4, 12]),
        attention("narrow_values", 2, [3, 4, 12], 1.0).normal("v", &[2, 4, 2]).grad(&[2, 3, 2]),
        op("upsample_nearest_2x", "upsample_nearest_2x")
            .normal("x", &[2, 3, 4, 5])
            .grad(&[2, 3, 8, 10])
            .mutants(&["upsampling_gradient_mean"]),
        op("average_pool_2x", "average_pool_2x").normal("x", &[2, 3, 4, 6]).grad(&[2, 3, 2, 3]),
        op("class_embedding", "class_embedding")
            .normal("weight", &[5, 8])
            .integers("labels", &[4], &[3, 0, 3, 4])
            .grad(&[4, 8]),
        embedding("of_ho", 32, false, 1.0).mutants(&["sin_and_cos_swapped", "half_for_half_minus_1"]),
        embedding("of_openai", 32, true, 0.0).mutants(&[
            "sin_and_cos_swapped",
            "half_for_half_minus_1",
            "frequencies_over_dim",
            "timestep_over_1000",
        ]),
        embedding("of_odd_length", 7, true, 0.0),
        op("mse_loss", "mse_loss")
            .normal("prediction", &[3, 2, 5, 5])
            .normal("target", &[3, 2, 5, 5])
            .mutants(&["gradient_of_half_the_mse"]),
        op("cross_entropy", "cross_entropy")
            .normal_around("logits", &[7, 10], 0.0, 3.0)
            .drawn("labels", &[7], 10)
            .mutants(&["mean_over_classes", "cross_entropy_gradient_of_the_sum"]),
        op("cross_entropy_of_400", "cross_entropy").normal_around("logits", &[6, 5], 0.0, 400.0).drawn(
            "labels",
            &[6],
            5,
        ),
        op("frechet_distance", "frechet_distance")
            .normal("x", &[60, 6])
            .normal_around("y", &[40, 6], 0.5, 1.5)
            .mutants(&["biased_covariance", "trace_without_the_root"]),
        op("frechet_distance_of_few", "frechet_distance").normal("x", &[9, 8]).normal_around("y", &[30, 8], 0.2, 1.0),
        Draft::new("ops", "precision_recall", "precision_recall", json!({"k": 3}))
            .normal("real", &[80, 4])
            .normal_around("generated", &[60, 4], 0.8, 1.4)
            .mutants(&["neighbour_counts_itself"]),
        // Whole numbers: a picture may be just as far from its neighbour as that one's own neighbours are, which counts.
        Draft::new("ops", "precision_recall_of_ties", "precision_recall", json!({"k": 2}))
            .whole("real", &[30, 3], 5)
            .whole("generated", &[25, 3], 5),
    ]
}

/// A residual block, from and to so many channels, on (n, h, w) pixels, told the time in so many numbers.
pub(super) fn res_block(
    level: &'static str,
    name: &str,
    [c_in, c_out]: [usize; 2],
    [n, h, w]: [usize; 3],
    temb: usize,
    (norm, factor): (&str, f64),
    groups: usize,
) -> Draft {
    let attributes = json!({"groups": groups, "eps": 1e-5, "time_embedding_norm": norm, "output_scale_factor": factor});
    let of_time = if norm == "default" { c_out } else { 2 * c_out };
    let mut draft = Draft::new(level, &format!("res_block_{name}"), "res_block", attributes);
    draft = draft.normal("x", &[n, c_in, h, w]).normal("temb", &[n, temb]).grad(&[n, c_out, h, w]);
    let mut weights = vec![
        ("norm1", vec![c_in], 1.0),
        ("conv1", vec![c_out, c_in, 3, 3], 0.2),
        ("time_emb_proj", vec![of_time, temb], 0.3),
        ("norm2", vec![c_out], 1.0),
        ("conv2", vec![c_out, c_out, 3, 3], 0.2),
    ];
    if c_in != c_out {
        weights.push(("conv_shortcut", vec![c_out, c_in, 1, 1], 0.4));
    }
    with_weights(draft, weights)
}

/// Weights of these shapes and deviations, and biases.
fn with_weights(draft: Draft, weights: Vec<(&str, Vec<usize>, f32)>) -> Draft {
    weights.into_iter().fold(draft, |draft, (name, shape, deviation)| {
        let draft = draft.normal_around(&format!("{name}.weight"), &shape, 0.0, deviation);
        draft.normal_around(&format!("{name}.bias"), &shape[..1], 0.0, 0.3)
    })
}

/// Attention over the pixels of images (n, c, h, w), which are added to it.
pub(super) fn attention_block(
    level: &'static str,
    name: &str,
    heads: usize,
    x: [usize; 4],
    groups: Option<usize>,
    factor: f64,
) -> Draft {
    let mut attributes = json!({"heads": heads, "eps": 1e-5, "rescale_output_factor": factor});
    if let Some(groups) = groups {
        attributes["groups"] = json!(groups);
    }
    let (c, deviation) = (x[1], 0.4 * (8.0 / x[1] as f32).sqrt()); // scores of a few units
    let draft = Draft::new(level, &format!("attention_block_{name}"), "attention_block", attributes);
    let weights = ["to_q", "to_k", "to_v", "to_out.0"].map(|name| (name, vec![c, c], deviation));
    let draft = with_weights(draft.normal("x", &x).grad(&x), weights.into());
    if groups.is_some() { draft.normal("group_norm.weight", &[c]).normal("group_norm.bias", &[c]) } else { draft }
}

/// The U-Net's blocks, and the classifier's.
pub fn blocks() -> Vec<Draft> {
    let res = |name: &str, c_in: usize, c_out: usize, norm: &str, factor: f64| {
        res_block("blocks", name, [c_in, c_out], [2, 5, 6], 10, (norm, factor), 4)
    };
    let attention = |name: &str, heads: usize, normed: bool, factor: f64| {
        attention_block("blocks", name, heads, [2, 8, 4, 3], normed.then_some(4), factor)
    };
    let classifier = |name: &str, c_in: usize, c_out: usize, stride: usize| {
        let attributes = json!({"groups": 4, "eps": 1e-5, "stride": stride});
        let mut draft = Draft::new("blocks", &format!("classifier_block_{name}"), "classifier_block", attributes);
        draft = draft.normal("x", &[2, c_in, 5, 7]).grad(&[2, c_out, 5usize.div_ceil(stride), 7usize.div_ceil(stride)]);
        let mut weights = vec![
            ("norm1", vec![c_in], 1.0),
            ("conv1", vec![c_out, c_in, 3, 3], 0.2),
            ("norm2", vec![c_out], 1.0),
            ("conv2", vec![c_out, c_out, 3, 3], 0.2),
        ];
        if stride > 1 || c_in != c_out {
            weights.push(("conv_shortcut", vec![c_out, c_in, 1, 1], 0.4));
        }
        with_weights(draft, weights)
    };
    vec![
        res("same_channels", 8, 8, "default", 1.0),
        res("more_channels", 4, 8, "default", 1.0).mutants(&["norm_eps_1e-6"]),
        res("scale_shift", 8, 4, "scale_shift", 1.5),
        classifier("same_size", 8, 8, 1).mutants(&["one_group_a_channel"]),
        classifier("halved", 4, 8, 2).mutants(&["norm_eps_1e-6"]),
        attention("1_head", 1, true, 1.0),
        attention("2_heads", 2, true, 1.0).mutants(&["one_group_a_channel"]),
        attention("without_norm", 1, false, 2.0),
    ]
}

/// Products whose last bits tell the order of addition.
pub fn probes() -> Vec<Draft> {
    let probe = |name: &str, m: usize, k: usize, n: usize| {
        let draft = Draft::new("probes", name, "linear", json!({})).normal("x", &[m, k]).normal("weight", &[n, k]);
        Draft { probe: true, ..draft }
    };
    vec![probe("order_of_900_terms", 8, 900, 8), probe("order_of_40_terms", 6, 40, 16)]
}
