//! The level `sizes`: shapes as real networks have them, and around every size by which implementations cut their work.
//! It is made on demand, since it takes some 400 MB.
//!
//! Small shapes hide what is wrong beyond a block: keys of a second block whose scores are not rescaled, statistics of a part
//! of a group, the rest of a row that no whole vector holds. So lengths are one less and one more than 16, 32, ... 512, images
//! are 35 x 67 pixels, rows are odd.

use serde_json::{Value, json};

use super::convolutions::{conv_transpose2d, conv2d};
use super::draft::Draft;

const LEVEL: &str = "sizes";

fn op(name: &str, op: &str, attributes: Value) -> Draft {
    Draft::new(LEVEL, name, op, attributes)
}

/// Lengths by which products are cut.
const BLOCKS: [usize; 6] = [16, 32, 64, 128, 256, 512];

/// All cases of the level.
pub fn all() -> Vec<Draft> {
    [products(), convolutions(), norms(), attention(), elements(), blocks()].into_iter().flatten().collect()
}

/// Every length around a block as terms; and with gradients, whose terms are outputs and rows.
fn products() -> Vec<Draft> {
    let linear = |m: usize, k: usize, n: usize| {
        let draft = op(&format!("linear_{m}x{k}x{n}"), "linear", json!({}));
        draft.normal("x", &[m, k]).normal("weight", &[n, k]).normal("bias", &[n])
    };
    let of_block = |&b: &usize| {
        [
            linear(3, b - 1, 37).mutants(&["rest_of_the_terms_dropped", "columns_beyond_32_zero"]),
            linear(35, b, 5),
            linear(5, b + 1, 33).mutants(&["rest_of_the_terms_dropped"]),
            linear(b - 1, b + 1, b).grad(&[b - 1, b]),
        ]
    };
    let mut drafts: Vec<Draft> = BLOCKS.iter().flat_map(of_block).collect();
    drafts.push(linear(2, 4609, 257).grad(&[2, 257]));
    let embedding = op("class_embedding_1001", "class_embedding", json!({}));
    drafts.push(embedding.normal("weight", &[1001, 65]).drawn("labels", &[257], 1001).grad(&[257, 65]));
    drafts
}

fn convolutions() -> Vec<Draft> {
    let same = json!({"padding": 1});
    let beyond = ["channels_beyond_32_zero", "pixels_beyond_32_zero"];
    let of = |name: &str, attributes: Value, x: [usize; 4], c_out: usize, kernel: [usize; 2], output: [usize; 2]| {
        conv2d(LEVEL, name, attributes, x, c_out, kernel, output)
    };
    vec![
        of("3x3_33_to_65", same.clone(), [1, 33, 35, 67], 65, [3, 3], [35, 67]).mutants(&beyond),
        of("3x3_65_to_33", same.clone(), [2, 65, 17, 15], 33, [3, 3], [17, 15]),
        of("3x3_3_to_129", same.clone(), [1, 3, 35, 67], 129, [3, 3], [35, 67]),
        of("3x3_129_to_3", same.clone(), [1, 129, 35, 67], 3, [3, 3], [35, 67]),
        of("3x3_257_to_31", same, [3, 257, 9, 7], 31, [3, 3], [9, 7]),
        of("3x3_stride2_33_to_63", json!({"stride": 2, "padding": 1}), [1, 33, 35, 67], 63, [3, 3], [18, 34]),
        of("1x1_257_to_65", json!({}), [1, 257, 35, 67], 65, [1, 1], [35, 67]),
        of("7x7_depthwise_65", json!({"padding": 3, "groups": 65}), [1, 65, 35, 67], 65, [7, 7], [35, 67]),
        of("3x3_dilation4_17_to_33", json!({"padding": 4, "dilation": 4}), [1, 17, 35, 67], 33, [3, 3], [35, 67]),
        conv_transpose2d(
            LEVEL,
            "4x4_stride2_33_to_17",
            json!({"stride": 2, "padding": 1}),
            [1, 33, 35, 67],
            17,
            [4, 4],
            [70, 134],
        ),
    ]
}

fn norms() -> Vec<Draft> {
    let group = |name: &str, x: &[usize], groups: usize| {
        let draft = op(&format!("group_norm_{name}"), "group_norm", json!({"groups": groups, "eps": 1e-5}));
        draft.normal_around("weight", &x[1..2], 1.0, 0.5).normal("bias", &x[1..2]).grad(x)
    };
    let layer = |name: &str, x: [usize; 2]| {
        let draft = op(&format!("layer_norm_{name}"), "layer_norm", json!({"eps": 1e-5})).normal("x", &x);
        draft.normal_around("weight", &x[1..], 1.0, 0.5).normal("bias", &x[1..]).grad(&x)
    };
    let softmax = |x: [usize; 2]| {
        op(&format!("softmax_{}x{}", x[0], x[1]), "softmax", json!({})).normal_around("x", &x, 0.0, 2.0).grad(&x)
    };
    let (large, odd, wide) = ([2, 320, 64, 64], [1, 65, 35, 67], [2, 33, 35, 67]);
    vec![
        group("2x320x64x64", &large, 32).normal("x", &large).mutants(&["group_statistics_of_a_part"]),
        group("one_group_of_35x67", &odd, 1).normal("x", &odd).mutants(&["group_statistics_of_a_part"]),
        group("11_groups_of_35x67", &wide, 11).normal_around("x", &wide, 3.0, 0.5),
        group("257_channels", &[3, 257, 5, 3], 257).normal("x", &[3, 257, 5, 3]),
        layer("33x257", [33, 257]),
        layer("4097x65", [4097, 65]),
        layer("4096x256", [4096, 256]),
        layer("9x4096", [9, 4096]),
        softmax([33, 257]),
        softmax([65, 33]),
        softmax([64, 1024]),
        softmax([9, 4096]),
        softmax([5, 4097]),
    ]
}

/// As many keys as blocks of 32 to 1024 and their rests.
fn attention() -> Vec<Draft> {
    let of = |name: &str, heads: usize, [tokens, keys, c]: [usize; 3]| {
        let draft = op(&format!("attention_{name}"), "attention", json!({"heads": heads})).normal("q", &[1, tokens, c]);
        draft.normal("k", &[1, keys, c]).normal("v", &[1, keys, c]).grad(&[1, tokens, c])
    };
    let causal: Vec<i64> = (0..65 * 65).map(|i| i64::from(i % 65 <= i / 65)).collect();
    vec![
        of("33_of_33", 1, [33, 33, 33]),
        of("65_of_65_2_heads", 2, [65, 65, 66]).mutants(&["key_blocks_not_rescaled"]),
        of("257_of_257_3_heads", 3, [257, 257, 99]).mutants(&["key_blocks_not_rescaled"]),
        of("9_of_1025", 1, [9, 1025, 64]).mutants(&["key_blocks_not_rescaled"]),
        of("5_of_4096_heads_of_40", 1, [5, 4096, 40]),
        of("65_of_129_heads_of_72", 2, [65, 129, 144]),
        of("65_of_65_causal", 2, [65, 65, 80]).integers("mask", &[65, 65], &causal).mutants(&["mask_ignored"]),
    ]
}

/// A number after another, and sums of all of them.
fn elements() -> Vec<Draft> {
    let odd = [1, 3, 35, 67];
    let activation = |name: &str| op(&format!("{name}_65537"), name, json!({})).normal_around("x", &[65_537], 0.0, 3.0);
    let schedule =
        json!({"beta_schedule": "linear", "num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02});
    vec![
        activation("silu").grad(&[65_537]),
        activation("gelu").grad(&[65_537]),
        activation("gelu_tanh").grad(&[65_537]),
        op("mse_loss_35x67", "mse_loss", json!({})).normal("prediction", &odd).normal("target", &odd),
        op("cross_entropy_257x1001", "cross_entropy", json!({})).normal_around("logits", &[257, 1001], 0.0, 2.0).drawn(
            "labels",
            &[257],
            1001,
        ),
        op("upsample_nearest_2x_35x67", "upsample_nearest_2x", json!({}))
            .normal("x", &[1, 33, 35, 67])
            .grad(&[1, 33, 70, 134]),
        op("average_pool_2x_34x66", "average_pool_2x", json!({})).normal("x", &[1, 33, 34, 66]).grad(&[1, 33, 17, 33]),
        op("modulate_257_tokens", "modulate", json!({}))
            .normal("x", &[2, 257, 65])
            .normal("shift", &[2, 65])
            .normal("scale", &[2, 65])
            .grad(&[2, 257, 65]),
        op("patchify_5_of_35x65", "patchify", json!({"patch": 5})).normal("x", &[1, 3, 35, 65]).grad(&[1, 91, 75]),
        op("positions_257x3", "positions", json!({"rows": 257, "columns": 3, "base": 16, "dim": 132})),
        op("q_sample_35x67", "q_sample", schedule)
            .spread("x_0", &[3, 3, 35, 67], -1.0, 1.0)
            .normal("eps", &[3, 3, 35, 67])
            .integers("t", &[3], &[0, 499, 999]),
        op("clip_grad_norm_10^6", "clip_grad_norm", json!({"max_norm": 1.0})).normal_around(
            "grad",
            &[1_000_000],
            0.0,
            0.01,
        ),
        op("adamw_65537", "adamw", json!({"lr": 1e-3, "weight_decay": 0.01, "step": 3}))
            .normal("w", &[65_537])
            .normal_around("grad", &[65_537], 0.0, 0.01)
            .normal_around("m", &[65_537], 0.0, 0.001)
            .spread("v", &[65_537], 0.0, 1e-4),
        op("ema_65537", "ema", json!({"decay": 0.999, "step": 100})).normal("ema", &[65_537]).normal("w", &[65_537]),
    ]
}

fn blocks() -> Vec<Draft> {
    vec![
        super::operations::res_block(LEVEL, "32_of_32x32", [32, 32], [1, 32, 32], 128, ("default", 1.0), 8),
        super::operations::res_block(LEVEL, "33_to_66_of_9x7", [33, 66], [2, 9, 7], 130, ("scale_shift", 1.0), 33),
        super::operations::attention_block(LEVEL, "64_of_17x15", 2, [1, 64, 17, 15], Some(32), 1.0),
    ]
}
