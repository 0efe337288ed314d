//! The operations of the golden kit: each is one function, generic over the precision, on tensors in PyTorch's layouts.

mod attention;
mod blocks;
mod classifier;
mod convolution;
mod diffusion;
mod elementwise;
mod layers;
mod likelihood;
mod network;
mod optimizer;
mod posterior_mean;
mod request;
mod sampling;
mod transformer;

use ndarray::ArrayD;

use super::case::Case;
use super::precision::Precision;
use crate::Result;
pub(super) use likelihood::Chain;
pub(super) use network::{Lessons, learned};
pub use request::{Request, is_input};

/// Results by name, `output`, `grad.x`, ..., in the order of execution.
pub type Results<F> = Vec<(String, ArrayD<F>)>;

/// What an operation takes.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    /// Its name.
    pub op: &'static str,
    /// `input.NAME` that must be there.
    pub inputs: &'static [&'static str],
    /// `input.NAME` that may be there.
    pub optional: &'static [&'static str],
    /// Attributes; some have defaults.
    pub attributes: &'static [&'static str],
    /// Whether it has gradients, given a `grad_output`.
    pub differentiable: bool,
}

const fn signature(
    op: &'static str,
    inputs: &'static [&'static str],
    optional: &'static [&'static str],
    attributes: &'static [&'static str],
    differentiable: bool,
) -> Signature {
    Signature { op, inputs, optional, attributes, differentiable }
}

/// The fields of a scheduler_config.json, for the operations whose attributes are those fields.
const SCHEDULE: &[&str] = &[
    "_class_name",
    "_diffusers_version",
    "beta_end",
    "beta_schedule",
    "beta_start",
    "clip_sample",
    "clip_sample_range",
    "dynamic_thresholding_ratio",
    "num_train_timesteps",
    "prediction_type",
    "rescale_betas_zero_snr",
    "sample_max_value",
    "set_alpha_to_one",
    "steps_offset",
    "thresholding",
    "timestep_spacing",
    "trained_betas",
    "variance_type",
];

/// All operations.
pub const SIGNATURES: &[Signature] = &[
    signature("exp", &["x"], &[], &[], false),
    signature("sigmoid", &["x"], &[], &[], false),
    signature("tanh", &["x"], &[], &[], false),
    signature("ln", &["x"], &[], &[], false),
    signature("sin", &["x"], &[], &[], false),
    signature("cos", &["x"], &[], &[], false),
    signature("random_stream", &[], &[], &["seed", "purpose", "indices", "count"], false),
    signature("linear", &["x", "weight"], &["bias"], &[], true),
    signature("conv2d", &["x", "weight"], &["bias"], &["stride", "padding", "dilation", "groups"], true),
    signature(
        "conv_transpose2d",
        &["x", "weight"],
        &["bias"],
        &["stride", "padding", "output_padding", "dilation", "groups"],
        true,
    ),
    signature("group_norm", &["x"], &["weight", "bias"], &["groups", "eps"], true),
    signature("layer_norm", &["x"], &["weight", "bias"], &["eps"], true),
    signature("silu", &["x"], &[], &[], true),
    signature("gelu", &["x"], &[], &[], true),
    signature("gelu_tanh", &["x"], &[], &[], true),
    signature("softmax", &["x"], &[], &[], true),
    signature("attention", &["q", "k", "v"], &["mask"], &["heads"], true),
    signature("upsample_nearest_2x", &["x"], &[], &[], true),
    signature("average_pool_2x", &["x"], &[], &[], true),
    signature("class_embedding", &["weight", "labels"], &[], &[], true),
    signature("time_embedding", &["t"], &[], &["dim", "flip_sin_to_cos", "freq_shift"], false),
    signature("mse_loss", &["prediction", "target"], &[], &[], false),
    signature("cross_entropy", &["logits", "labels"], &[], &[], false),
    signature(
        "classifier_block",
        &[
            "x",
            "norm1.weight",
            "norm1.bias",
            "conv1.weight",
            "conv1.bias",
            "norm2.weight",
            "norm2.bias",
            "conv2.weight",
            "conv2.bias",
        ],
        &["conv_shortcut.weight", "conv_shortcut.bias"],
        &["groups", "eps", "stride"],
        true,
    ),
    signature("frechet_distance", &["x", "y"], &[], &[], false),
    signature("precision_recall", &["real", "generated"], &[], &["k"], false),
    signature(
        "oracle",
        &["x_t"],
        &["data", "data_labels", "labels", "means", "variances", "weights"],
        &["form", "sigma"],
        false,
    ),
    signature("q_sample", &["x_0", "eps", "t"], &[], SCHEDULE, false),
    signature("adamw", &["w", "grad"], &["m", "v"], &["lr", "beta1", "beta2", "eps", "weight_decay", "step"], false),
    signature("clip_grad_norm", &["grad"], &[], &["max_norm"], false),
    signature("ema", &["ema", "w"], &[], &["decay", "step"], false),
    signature("schedule", &[], &[], SCHEDULE, false),
    signature(
        "res_block",
        &[
            "x",
            "temb",
            "norm1.weight",
            "norm1.bias",
            "conv1.weight",
            "conv1.bias",
            "time_emb_proj.weight",
            "time_emb_proj.bias",
            "norm2.weight",
            "norm2.bias",
            "conv2.weight",
            "conv2.bias",
        ],
        &["conv_shortcut.weight", "conv_shortcut.bias"],
        &["groups", "eps", "time_embedding_norm", "output_scale_factor"],
        true,
    ),
    signature(
        "attention_block",
        &[
            "x",
            "to_q.weight",
            "to_q.bias",
            "to_k.weight",
            "to_k.bias",
            "to_v.weight",
            "to_v.bias",
            "to_out.0.weight",
            "to_out.0.bias",
        ],
        &["group_norm.weight", "group_norm.bias"],
        &["heads", "groups", "eps", "rescale_output_factor"],
        true,
    ),
    signature(
        "reverse_step",
        &["x_t", "model_output", "noise"],
        &["history", "x_before"],
        &["class", "config", "steps", "t", "t_prev", "t_history", "eta", "use_clipped_model_output"],
        false,
    ),
    signature("levels", &[], &[], &["class", "config", "steps"], false),
    signature(
        "trajectory",
        &["x_T", "model_output", "noise"],
        &[],
        &["class", "config", "steps", "eta", "use_clipped_model_output"],
        false,
    ),
    signature(
        "variational_bound",
        &["x_0", "noise", "model_output", "timesteps"],
        &[],
        &["schedule", "prediction_type", "variance_type", "clip_sample", "cdf"],
        false,
    ),
    signature(
        "hybrid_loss",
        &["x_0", "noise", "model_output", "timesteps"],
        &[],
        &["schedule", "prediction_type", "variance_type", "cdf"],
        false,
    ),
    signature("loss_weight", &[], &[], &["schedule", "prediction_type", "weighting", "gamma", "k"], false),
    signature("unet", &["x", "t", "noise"], &["class_labels"], &["model", "gradients", "taps"], false),
    signature("patchify", &["x"], &[], &["patch"], true),
    signature("unpatchify", &["x"], &[], &["patch", "height", "width"], true),
    signature("positions", &[], &[], &["rows", "columns", "base", "dim"], false),
    signature("modulate", &["x", "shift", "scale"], &[], &[], true),
    signature("gate", &["x", "branch", "gate"], &[], &[], true),
    signature("affine", &["x", "weight", "bias"], &[], &[], true),
    signature(
        "dit_embedding",
        &[
            "t",
            "class_labels",
            "timestep_embedder.linear_1.weight",
            "timestep_embedder.linear_1.bias",
            "timestep_embedder.linear_2.weight",
            "timestep_embedder.linear_2.bias",
            "class_embedder.embedding_table.weight",
        ],
        &[],
        &[],
        true,
    ),
    signature(
        "dit_block",
        &[
            "x",
            "emb",
            "norm1.linear.weight",
            "norm1.linear.bias",
            "attn1.to_q.weight",
            "attn1.to_k.weight",
            "attn1.to_v.weight",
            "attn1.to_out.0.weight",
            "attn1.to_out.0.bias",
            "ff.net.0.proj.weight",
            "ff.net.0.proj.bias",
            "ff.net.2.weight",
            "ff.net.2.bias",
        ],
        &["attn1.to_q.bias", "attn1.to_k.bias", "attn1.to_v.bias", "norm3.weight", "norm3.bias"],
        &["heads", "eps"],
        true,
    ),
    signature("dit", &["x", "t", "noise", "class_labels"], &[], &["model", "gradients", "taps"], false),
    signature(
        "training",
        &["x_0", "eps", "t"],
        &["class_labels"],
        &["model", "config", "lr", "beta1", "beta2", "eps", "weight_decay", "clip_norm", "ema_decay"],
        false,
    ),
];

/// The results of a case in the precision F.
///
/// # Errors
/// An operation, input, attribute, shape or type that is not known, by its name and with what is known.
pub fn evaluate<F: Precision>(case: &Case) -> Result<Results<F>> {
    let request = Request::new(case)?;
    match case.op.as_str() {
        "exp" | "sigmoid" | "tanh" | "ln" | "sin" | "cos" => elementwise::elementary::<F>(&request),
        "silu" => elementwise::silu::<F>(&request),
        "gelu" => elementwise::gelu::<F>(&request),
        "gelu_tanh" => elementwise::gelu_tanh::<F>(&request),
        "softmax" => elementwise::softmax::<F>(&request),
        "mse_loss" => elementwise::mse_loss::<F>(&request),
        "linear" => layers::linear::<F>(&request),
        "conv2d" => convolution::conv2d::<F>(&request),
        "conv_transpose2d" => convolution::conv_transpose2d::<F>(&request),
        "group_norm" => layers::group_norm::<F>(&request),
        "layer_norm" => layers::layer_norm::<F>(&request),
        "attention" => attention::attention::<F>(&request),
        "upsample_nearest_2x" => layers::upsample_nearest_2x::<F>(&request),
        "average_pool_2x" => layers::average_pool_2x::<F>(&request),
        "class_embedding" => layers::class_embedding::<F>(&request),
        "res_block" => blocks::res_block::<F>(&request),
        "attention_block" => blocks::attention_block::<F>(&request),
        "cross_entropy" => classifier::cross_entropy::<F>(&request),
        "classifier_block" => classifier::classifier_block::<F>(&request),
        "frechet_distance" => classifier::frechet_distance::<F>(&request),
        "precision_recall" => classifier::precision_recall::<F>(&request),
        "random_stream" => diffusion::random_stream::<F>(&request),
        "time_embedding" => diffusion::time_embedding::<F>(&request),
        "q_sample" => diffusion::q_sample::<F>(&request),
        "schedule" => diffusion::schedule::<F>(&request),
        "reverse_step" => sampling::reverse_step::<F>(&request),
        "levels" => sampling::levels::<F>(&request),
        "trajectory" => sampling::trajectory::<F>(&request),
        "variational_bound" => likelihood::variational_bound::<F>(&request),
        "hybrid_loss" => likelihood::hybrid_loss::<F>(&request),
        "loss_weight" => likelihood::loss_weight::<F>(&request),
        "oracle" => posterior_mean::oracle::<F>(&request),
        "adamw" => optimizer::adamw::<F>(&request),
        "clip_grad_norm" => optimizer::clip_grad_norm::<F>(&request),
        "ema" => optimizer::ema::<F>(&request),
        "patchify" => transformer::patchify::<F>(&request),
        "unpatchify" => transformer::unpatchify::<F>(&request),
        "positions" => transformer::positions::<F>(&request),
        "modulate" => transformer::modulate::<F>(&request),
        "gate" => transformer::gate::<F>(&request),
        "affine" => transformer::affine::<F>(&request),
        "dit_embedding" => transformer::dit_embedding::<F>(&request),
        "dit_block" => transformer::dit_block::<F>(&request),
        "unet" | "dit" => network::network::<F>(&request),
        "training" => network::training::<F>(&request),
        op => unreachable!("{op} has a signature and no function"),
    }
}

/// One result under its name.
fn named<F>(name: &str, values: ArrayD<F>) -> (String, ArrayD<F>) {
    (name.to_string(), values)
}
