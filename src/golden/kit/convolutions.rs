//! The cases of convolutions and transposed convolutions.

use serde_json::{Value, json};

use super::draft::Draft;
use super::operations::ROUNDED;

/// A convolution with its gradients, x of (n, c_in, h, w), weight (c_out, c_in / groups, kh, kw) and output oh x ow.
pub(super) fn conv2d(
    level: &'static str,
    name: &str,
    attributes: Value,
    x: [usize; 4],
    c_out: usize,
    kernel: [usize; 2],
    output: [usize; 2],
) -> Draft {
    let weight = [c_out, x[1] / groups(&attributes), kernel[0], kernel[1]];
    inputs(Draft::new(level, &format!("conv2d_{name}"), "conv2d", attributes), x, weight, [c_out, output[0], output[1]])
}

/// The same transposed, with a weight (c_in, c_out / groups, kh, kw).
pub(super) fn conv_transpose2d(
    level: &'static str,
    name: &str,
    attributes: Value,
    x: [usize; 4],
    c_out: usize,
    kernel: [usize; 2],
    output: [usize; 2],
) -> Draft {
    let (op, weight) = ("conv_transpose2d", [x[1], c_out / groups(&attributes), kernel[0], kernel[1]]);
    inputs(Draft::new(level, &format!("{op}_{name}"), op, attributes), x, weight, [c_out, output[0], output[1]])
}

fn groups(attributes: &Value) -> usize {
    attributes.get("groups").and_then(Value::as_u64).unwrap_or(1) as usize
}

fn inputs(draft: Draft, x: [usize; 4], weight: [usize; 4], [c_out, height, width]: [usize; 3]) -> Draft {
    let draft = draft.normal("x", &x).normal("weight", &weight).normal("bias", &[c_out]);
    draft.grad(&[x[0], c_out, height, width])
}

/// Convolutions as U-Nets have them.
pub fn of_networks() -> Vec<Draft> {
    let of = |name: &str, attributes: Value, x: [usize; 4], c_out: usize, kernel: [usize; 2], output: [usize; 2]| {
        conv2d("ops", name, attributes, x, c_out, kernel, output)
    };
    let same = json!({"stride": 1, "padding": 1});
    vec![
        of("3x3", same.clone(), [2, 3, 5, 7], 4, [3, 3], [5, 7])
            .mutants(&["flipped_kernel", "bias_gradient_of_the_last_image"]),
        of("1x1", json!({}), [2, 6, 3, 5], 4, [1, 1], [3, 5]),
        of("3x3_stride2", json!({"stride": 2, "padding": 1}), [1, 3, 8, 6], 4, [3, 3], [4, 3]),
        of("3x3_stride2_odd", json!({"stride": 2, "padding": 1}), [2, 2, 7, 9], 3, [3, 3], [4, 5]),
        of("3x3_stride2_right_bottom", json!({"stride": 2, "padding": [0, 1, 0, 1]}), [2, 3, 8, 8], 4, [3, 3], [4, 4])
            .mutants(&["padding_on_the_wrong_side"]),
        of("3x2_uneven", json!({"padding": [1, 0, 2, 1]}), [2, 3, 6, 5], 4, [3, 2], [7, 5]),
        of("5x5", json!({"padding": 2}), [1, 2, 6, 6], 3, [5, 5], [6, 6]),
        of("3x3_stride3_with_rest", json!({"stride": 3}), [1, 2, 10, 8], 3, [3, 3], [3, 2]),
        of("3x3_of_one_pixel", same.clone(), [3, 4, 1, 1], 5, [3, 3], [1, 1]),
        of("1x1_stride2", json!({"stride": 2}), [1, 3, 6, 6], 2, [1, 1], [3, 3]),
        of("3x3_one_channel", same.clone(), [1, 1, 9, 9], 1, [3, 3], [9, 9]),
        // The gradient of a mean over a batch of images is this small: absolute tolerances do not see it.
        of("3x3_small_gradients", same.clone(), [2, 3, 5, 7], 4, [3, 3], [5, 7])
            .normal_around("grad_output", &[2, 4, 5, 7], 0.0, 1e-7)
            .mutants(&["weight_gradient_zero", "weight_gradient_x1_001"]),
        Draft::new("ops", "conv2d_3x3_64_channels", "conv2d", same)
            .normal("x", &[1, 64, 6, 6])
            .normal("weight", &[8, 64, 3, 3])
            .normal("bias", &[8])
            .mutants(&ROUNDED),
    ]
}

/// Those of other networks: dilated, by groups, of other strides and kernels, transposed.
pub fn of_others() -> Vec<Draft> {
    let of = |name: &str, attributes: Value, x: [usize; 4], c_out: usize, kernel: [usize; 2], output: [usize; 2]| {
        conv2d("ops", name, attributes, x, c_out, kernel, output)
    };
    let transposed =
        |name: &str, attributes: Value, x: [usize; 4], c_out: usize, kernel: [usize; 2], output: [usize; 2]| {
            conv_transpose2d("ops", name, attributes, x, c_out, kernel, output)
        };
    vec![
        of("3x3_dilation2", json!({"dilation": 2, "padding": 2}), [1, 2, 7, 6], 3, [3, 3], [7, 6])
            .mutants(&["dilation_ignored"]),
        of(
            "3x3_dilation_1_by_3",
            json!({"dilation": [1, 3], "padding": [3, 3, 1, 1]}),
            [1, 2, 4, 8],
            3,
            [3, 3],
            [4, 8],
        ),
        of("3x3_dilation2_stride2", json!({"dilation": 2, "stride": 2}), [1, 2, 9, 8], 2, [3, 3], [3, 2]),
        of("3x3_2_groups", json!({"groups": 2, "padding": 1}), [2, 4, 4, 3], 6, [3, 3], [4, 3])
            .mutants(&["groups_interleaved"]),
        of("3x3_depthwise", json!({"groups": 4, "padding": 1}), [1, 4, 5, 4], 4, [3, 3], [5, 4]),
        of("3x3_depthwise_of_two", json!({"groups": 3, "padding": 1}), [1, 3, 4, 4], 6, [3, 3], [4, 4])
            .mutants(&["groups_interleaved"]),
        of("3x3_stride_2_by_1", json!({"stride": [2, 1], "padding": 1}), [1, 2, 7, 5], 3, [3, 3], [4, 5]),
        of("4x4_stride2", json!({"stride": 2, "padding": 1}), [1, 3, 8, 6], 3, [4, 4], [4, 3]),
        of("7x7", json!({"padding": 3}), [1, 2, 8, 7], 2, [7, 7], [8, 7]),
        transposed("4x4_stride2", json!({"stride": 2, "padding": 1}), [2, 3, 3, 4], 2, [4, 4], [6, 8])
            .mutants(&["flipped_kernel", "bias_gradient_of_the_last_image"]),
        transposed("2x2_stride2", json!({"stride": 2}), [1, 4, 3, 3], 3, [2, 2], [6, 6]),
        transposed(
            "3x3_stride2_output_padding",
            json!({"stride": 2, "padding": 1, "output_padding": 1}),
            [1, 3, 3, 4],
            2,
            [3, 3],
            [6, 8],
        )
        .mutants(&["output_padding_on_the_wrong_side"]),
        transposed("3x3", json!({"padding": 1}), [1, 2, 5, 4], 3, [3, 3], [5, 4]).mutants(&["flipped_kernel"]),
        transposed("3x3_2_groups_dilation2", json!({"groups": 2, "dilation": 2}), [1, 4, 3, 3], 6, [3, 3], [7, 7]),
        transposed(
            "3x2_stride_2_by_1",
            json!({"stride": [2, 1], "padding": [0, 1, 1, 0]}),
            [1, 2, 4, 3],
            2,
            [3, 2],
            [8, 3],
        ),
    ]
}
