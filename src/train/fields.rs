//! Every field of a config with its meaning: what `ancestral train --print-config` prints.

use serde_json::{Value, json};

use super::Config;
use crate::models::{CLASS_NAME, NetworkConfig};

/// Fields by their full names, with what they mean.
type Meanings = &'static [(&'static str, &'static str)];

/// Those of every config.
const OF_ALL: Meanings = &[
    ("seed", "the seed of everything random"),
    ("steps", "training steps"),
    ("batch_size", "images in a step"),
    ("data", "a folder of images, or `shapes`"),
    ("flip", "whether every other image is shown mirrored, left for right: for photographs, not for digits or letters"),
    (
        "label_dropout",
        "the probability to hide an image's class, in 0..1; not 0 gives a label for \"no class\", which guidance needs",
    ),
    ("ema_decay", "the longest memory of the averaged weights, in 0..1; 0 for no average"),
    (
        "post_hoc_every",
        "steps from one snapshot of the averages that `ancestral ema` puts together to the next; 0 keeps none",
    ),
    ("checkpoint_every", "steps from one checkpoint to the next"),
    ("sample_every", "steps from one grid of samples to the next; 0 for none but the last"),
    ("sample_count", "pictures in a grid"),
    (
        "sampler",
        "what the model is saved with and grids are drawn by: ddpm, ddim, dpm-multistep, ...; none: ddpm, flow-euler or edm-dpm",
    ),
    ("sample_steps", "steps of sampling for a grid"),
    (
        "sample_guidance",
        "the guidance weight of a grid and of the model, where labels are hidden in training; 1 is none",
    ),
    ("sample_guidance_interval", "the least and the largest sigma/signal at which there is guidance; none: everywhere"),
    ("validate_every", "steps from one look at the loss on at most 128 validation images to the next; 0 for none"),
    ("evaluation_images", "validation images that the last evaluation looks at"),
    ("schedule.beta_schedule", "linear, scaled_linear, squaredcos_cap_v2 (cosine) or sigmoid"),
    ("schedule.num_train_timesteps", "T"),
    ("schedule.beta_start", "beta of t = 1"),
    ("schedule.beta_end", "beta of t = T"),
    (
        "schedule.prediction_type",
        "epsilon, sample or v_prediction; flow_prediction (flow matching) or edm, each with a noise of its own",
    ),
    ("flow.shift", "flow_prediction: spends more of the times in noise where above 1; positive"),
    ("edm.sigma_min", "edm: the least noise; positive"),
    ("edm.sigma_max", "edm: the most"),
    ("edm.rho", "edm: the noise is spread evenly in sigma^(1/rho); positive"),
    ("edm.sigma_data", "edm: the standard deviation of the images; positive"),
    (
        "objective.loss",
        "simple (weighted squared error), hybrid (and T/1000 of the bound, for a learned variance) or vlb (the bound)",
    ),
    (
        "objective.variance",
        "of a sampling step: fixed_small, fixed_large, or learned, learned_range with twice the channels out",
    ),
    ("objective.weighting", "what each t counts in the simple loss: simple, min_snr, p2 or vlb"),
    ("objective.min_snr_gamma", "min_snr: the largest ratio of signal to noise that counts; positive"),
    ("objective.p2_k", "p2: added to the ratio of signal to noise; positive"),
    ("objective.p2_gamma", "p2: the power; 0 or more"),
    (
        "objective.timesteps",
        "uniform, stratified (spread over a batch), loss_aware (by the last losses) or log_normal (in sigma/signal)",
    ),
    ("objective.log_normal_mean", "log_normal: the mean of ln(sigma/signal)"),
    ("objective.log_normal_deviation", "log_normal: its standard deviation; positive"),
    ("optimizer.lr", "the highest learning rate"),
    ("optimizer.warm_up_steps", "steps from lr/warm_up_steps to lr"),
    ("optimizer.decay", "constant or cosine, after the warm-up"),
    ("optimizer.beta1", "decay of the mean of gradients, in 0..1"),
    ("optimizer.beta2", "decay of the mean of squared gradients, in 0..1"),
    ("optimizer.eps", "added to the root; positive"),
    ("optimizer.weight_decay", "fraction of a weight removed per step, times the learning rate"),
    ("optimizer.clip_norm", "the longest gradient; 0 for any length"),
    ("model._class_name", "the network: UNet2DModel or DiTTransformer2DModel, which has other fields"),
    ("model.in_channels", "channels of an image: 1 for grey, 3 for colour"),
];

/// Those of a U-Net.
const OF_A_UNET: Meanings = &[
    ("model.sample_size", "height and width of the images, a number or a pair"),
    ("model.out_channels", "channels of the prediction: as many, or twice as many where the variance is learned"),
    ("model.center_input_sample", "feed 2x - 1 instead of x"),
    ("model.time_embedding_type", "positional"),
    ("model.time_embedding_dim", "length of the time vector; none: four times the first block's channels"),
    ("model.freq_shift", "subtracted in the denominator of the embedding's exponent"),
    ("model.flip_sin_to_cos", "cosines before sines"),
    (
        "model.down_block_types",
        "from the highest resolution down: DownBlock2D, AttnDownBlock2D or ResnetDownsampleBlock2D",
    ),
    ("model.mid_block_type", "UNetMidBlock2D, or none"),
    ("model.up_block_types", "from the lowest resolution up: UpBlock2D, AttnUpBlock2D or ResnetUpsampleBlock2D"),
    ("model.block_out_channels", "channels at each resolution, from the highest down"),
    ("model.layers_per_block", "residual blocks at each resolution on the way down; one more on the way up"),
    ("model.mid_block_scale_factor", "the middle's blocks divide their sum with the input by this"),
    (
        "model.downsample_padding",
        "zeros around the stride-2 convolutions: 1 all around, 0 at the right and bottom only",
    ),
    ("model.downsample_type", "conv, or resnet for a residual block that halves after an AttnDownBlock2D"),
    ("model.upsample_type", "conv, or resnet for a residual block that doubles after an AttnUpBlock2D"),
    ("model.dropout", "the probability to drop an activation while training, in 0..1"),
    ("model.act_fn", "silu"),
    ("model.attention_head_dim", "channels of an attention head; none: one head of all channels"),
    ("model.norm_num_groups", "groups of every group norm; divides all channels"),
    ("model.attn_norm_num_groups", "groups of the middle attention's norm; none: the others'"),
    ("model.norm_eps", "added to the variance under the root"),
    ("model.resnet_time_scale_shift", "default: time is added; scale_shift: time scales and shifts the second norm"),
    ("model.add_attention", "attention in the middle"),
    (
        "model.class_embed_type",
        "none: a label is a row of a table; timestep: it goes the way of times, through sinusoids and two layers",
    ),
    (
        "model.num_class_embeds",
        "labels: the classes, and one for \"no class\" if label_dropout is not 0; none: no classes. Left out, it follows from the images",
    ),
    ("model.num_train_timesteps", "kept as it is; nothing depends on it"),
];

/// Those of a transformer.
const OF_A_TRANSFORMER: Meanings = &[
    ("model.sample_size", "height and width of the images, one number"),
    (
        "model.out_channels",
        "channels of the prediction: as many, or twice as many where the variance is learned; none: as many",
    ),
    ("model.num_attention_heads", "heads of an attention; a token has the channels of all of them"),
    ("model.attention_head_dim", "channels of an attention head"),
    ("model.num_layers", "transformer blocks"),
    ("model.patch_size", "height and width of a patch, which becomes a token; divides sample_size"),
    (
        "model.dropout",
        "the probability to drop what an attention or an MLP's inner layer gives while training, in 0..1",
    ),
    ("model.attention_bias", "queries, keys and values have a bias"),
    ("model.activation_fn", "gelu-approximate"),
    ("model.norm_type", "ada_norm_zero"),
    ("model.norm_elementwise_affine", "the norm before an MLP has a scale and a shift of its own"),
    ("model.norm_eps", "added to the variance under the root in the norm before an MLP; the other norms add 1e-6"),
    (
        "model.num_embeds_ada_norm",
        "classes, 0 for none; one label more stands for \"no class\". Left out, it follows from the images",
    ),
    ("model.norm_num_groups", "kept as it is; nothing depends on it"),
    ("model.upcast_attention", "kept as it is; nothing depends on it"),
];

/// Those of a config with such a network.
fn meanings(model: &NetworkConfig) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    let of_class = match model {
        NetworkConfig::UNet(_) => OF_A_UNET,
        NetworkConfig::Dit(_) => OF_A_TRANSFORMER,
    };
    OF_ALL.iter().chain(of_class)
}

/// The config as a TOML file that `--config` reads, each field under its meaning. `"none"` stands for JSON's null.
pub fn to_toml(config: &Config) -> String {
    let mut fields: Value = serde_json::from_str(&config.to_json()).expect("our own JSON");
    // What a run does not write where it is as usual.
    fields["post_hoc_every"] = config.post_hoc_every.into();
    fields["sample_guidance_interval"] = json!(config.sample_guidance_interval);
    fields["validate_every"] = config.validate_every.into();
    (fields["flip"], fields["sampler"]) = (json!(config.flip), json!(config.sampler));
    (fields["flow"], fields["edm"]) = (json!(config.flow), json!(config.edm));
    fields["objective"] = json!(config.objective);
    fields["model"][CLASS_NAME] = config.model.class_name().into();
    let mut text = String::new();
    let (mut tables, mut plain) = (Vec::new(), Vec::new());
    for (name, value) in fields.as_object().expect("fields") {
        if value.is_object() { tables.push((name, value)) } else { plain.push((name, value)) }
    }
    let line = |full: &str, name: &str, value: &Value| {
        let meaning = meanings(&config.model).find(|(field, _)| *field == full).map_or("", |(_, meaning)| meaning);
        let value = if value.is_null() { "\"none\"".into() } else { value.to_string() };
        format!("# {meaning}\n{name} = {value}\n")
    };
    plain.iter().for_each(|(name, value)| text += &line(name, name, value));
    for (table, fields) in tables {
        text += &format!("\n[{table}]\n");
        let fields = fields.as_object().expect("a table");
        fields.iter().for_each(|(name, value)| text += &line(&format!("{table}.{name}"), name, value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{DitConfig, UNetConfig};
    use crate::train::Preset;

    #[test]
    fn every_field_has_a_meaning_and_every_meaning_a_field() {
        for model in [UNetConfig::default().into(), NetworkConfig::from(DitConfig::default())] {
            let config = Config { model, ..Preset::Digits.config() };
            let text = to_toml(&config);
            assert!(!text.contains("# \n"), "{text}");
            for (field, meaning) in meanings(&config.model) {
                assert!(text.contains(&format!("# {meaning}\n{} = ", field.rsplit('.').next().unwrap())), "{field}");
            }
            assert_eq!(text.matches("\n# ").count() + 1, meanings(&config.model).count());
        }
    }

    #[test]
    fn config_printed_and_read_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("all.toml");
        for config in Preset::ALL.map(Preset::config) {
            std::fs::write(&file, to_toml(&config)).unwrap();
            assert_eq!(Preset::Tiny.config().with_file(&file).unwrap(), config);
        }
    }
}
