//! The cases of what is learned: the variational bound, the loss that teaches a variance, the weights of times.

use serde_json::{Value, json};

use super::draft::Draft;

/// A schedule whose first step is wide enough for float32 to tell the decoder's bins apart.
fn config(curve: &str, steps: usize) -> Value {
    json!({"beta_schedule": curve, "num_train_timesteps": steps, "beta_start": 1e-3, "beta_end": 0.2})
}

/// Two images of 3 x 3 pixels on a chain of these times.
fn chain(op: &str, name: &str, attributes: Value, channels: usize, times: &[i64]) -> Draft {
    let learned = attributes["variance_type"].as_str().is_some_and(|kind| kind.starts_with("learned"));
    let said = if learned { 2 * channels } else { channels };
    let draft = Draft::new("likelihood", &format!("{op}_{name}"), op, attributes);
    let draft = draft.integers("timesteps", &[times.len()], times).pixels("x_0", &[2, channels, 3, 3]);
    let draft = draft.normal("noise", &[times.len(), 2, channels, 3, 3]);
    draft.normal_around("model_output", &[times.len(), 2, said, 3, 3], 0.0, 0.7)
}

fn attributes(curve: &str, prediction: &str, variance: &str, fields: Value) -> Value {
    let steps = if curve == "linear" { 100 } else { 50 };
    let mut all = json!({"schedule": config(curve, steps), "prediction_type": prediction, "variance_type": variance});
    for (key, value) in fields.as_object().expect("fields") {
        all[key] = value.clone();
    }
    all
}

/// The bound: every prediction with every variance, both distributions, with and without clipping, strided and not.
pub fn bounds() -> Vec<Draft> {
    let bound = |name: &str, attributes: Value, channels: usize, times: &[i64]| {
        chain("variational_bound", name, attributes, channels, times)
    };
    let (linear, cosine) = ("linear", "squaredcos_cap_v2");
    let tanh = json!({"cdf": "tanh"});
    let open = json!({"clip_sample": false});
    let first = [0, 1, 2, 3];
    let strided = [0, 20, 60, 99];
    // A guess of x_0 that is no better than chance falls into the tails of a narrow decoder, where float32 has no digits.
    let wide = [30, 60, 99];
    vec![
        bound("small", attributes(linear, "epsilon", "fixed_small", json!({})), 1, &first)
            .mutants(&["nats_for_bits", "bins_off_by_one"]),
        bound("small_tanh", attributes(linear, "epsilon", "fixed_small", tanh.clone()), 1, &first)
            .mutants(&["bins_off_by_one"]),
        bound("small_sample", attributes(linear, "sample", "fixed_small", json!({})), 1, &wide),
        bound("small_v", attributes(linear, "v_prediction", "fixed_small", json!({})), 1, &first),
        bound("large", attributes(linear, "epsilon", "fixed_large", json!({})), 1, &first),
        bound("large_sample_tanh", attributes(linear, "sample", "fixed_large", tanh.clone()), 1, &wide),
        bound("large_v", attributes(cosine, "v_prediction", "fixed_large", json!({})), 2, &[0, 1, 2]),
        bound("learned", attributes(linear, "epsilon", "learned", json!({})), 1, &first).mutants(&["halves_swapped"]),
        bound("learned_sample", attributes(linear, "sample", "learned", json!({})), 2, &[0, 1]),
        bound("learned_v", attributes(cosine, "v_prediction", "learned", json!({})), 1, &first),
        bound("range", attributes(linear, "epsilon", "learned_range", json!({})), 1, &first)
            .mutants(&["range_reversed", "halves_swapped"]),
        bound("range_sample", attributes(linear, "sample", "learned_range", json!({})), 1, &wide),
        bound("range_v_tanh", attributes(cosine, "v_prediction", "learned_range", tanh), 2, &[0, 1, 2]),
        bound("strided_small", attributes(linear, "epsilon", "fixed_small", json!({})), 1, &strided)
            .mutants(&["stride_ignored"]),
        bound("strided_large", attributes(linear, "epsilon", "fixed_large", json!({})), 1, &strided)
            .mutants(&["stride_ignored"]),
        bound("strided_range", attributes(linear, "epsilon", "learned_range", json!({})), 1, &strided)
            .mutants(&["stride_ignored", "range_reversed"]),
        bound("strided_cosine_v", attributes(cosine, "v_prediction", "fixed_small", json!({})), 1, &[4, 24, 49]),
        bound("not_clipped", attributes(linear, "epsilon", "fixed_small", open.clone()), 1, &[0, 30, 60, 99]),
        // A decoder so far off that what it leaves is less than the floor of its probabilities.
        bound("floor", attributes(linear, "sample", "fixed_small", json!({})), 1, &[0])
            .spread("x_0", &[2, 1, 3, 3], -0.9, -0.3)
            .normal_around("model_output", &[1, 2, 1, 3, 3], 1.0, 0.05),
        bound("range_not_clipped", attributes(linear, "epsilon", "learned_range", open), 2, &[0, 50]),
    ]
}

/// The hybrid loss and its gradient.
pub fn hybrid_losses() -> Vec<Draft> {
    let loss = |name: &str, attributes: Value, channels: usize, times: &[i64]| {
        chain("hybrid_loss", name, attributes, channels, times)
    };
    let (linear, cosine) = ("linear", "squaredcos_cap_v2");
    let tanh = json!({"cdf": "tanh"});
    vec![
        loss("range", attributes(linear, "epsilon", "learned_range", json!({})), 1, &[0, 1, 2, 3]).mutants(&[
            "without_t_over_1000",
            "mean_not_detached",
            "range_reversed",
            "halves_swapped",
        ]),
        loss("range_tanh", attributes(linear, "epsilon", "learned_range", tanh.clone()), 1, &[0, 1, 2]),
        loss("range_sample", attributes(linear, "sample", "learned_range", json!({})), 1, &[30, 60, 99]),
        loss("range_v", attributes(cosine, "v_prediction", "learned_range", json!({})), 2, &[0, 1])
            .mutants(&["halves_swapped"]),
        loss("range_strided", attributes(linear, "epsilon", "learned_range", json!({})), 1, &[0, 40, 99])
            .mutants(&["stride_ignored"]),
        loss("learned", attributes(linear, "epsilon", "learned", json!({})), 1, &[0, 1, 2])
            .mutants(&["without_t_over_1000", "mean_not_detached"]),
        loss("learned_v_tanh", attributes(cosine, "v_prediction", "learned", tanh), 1, &[0, 1, 2]),
        loss("learned_sample_strided", attributes(linear, "sample", "learned", json!({})), 2, &[0, 40]),
    ]
}

/// What each time counts.
pub fn loss_weights() -> Vec<Draft> {
    let weight = |name: &str, prediction: &str, fields: Value| {
        let mut attributes = fields;
        attributes["schedule"] = config("linear", 20);
        attributes["prediction_type"] = json!(prediction);
        Draft::new("likelihood", &format!("loss_weight_{name}"), "loss_weight", attributes)
    };
    let min_snr = |gamma: f64| json!({"weighting": "min_snr", "gamma": gamma});
    vec![
        weight("min_snr", "epsilon", min_snr(5.0)),
        weight("min_snr_sample", "sample", min_snr(5.0)),
        weight("min_snr_v", "v_prediction", min_snr(5.0)).mutants(&["min_snr_without_plus_1"]),
        weight("min_snr_v_of_1", "v_prediction", min_snr(1.0)).mutants(&["min_snr_without_plus_1"]),
        weight("p2", "epsilon", json!({"weighting": "p2", "k": 1.0, "gamma": 1.0})),
        weight("p2_of_half_v", "v_prediction", json!({"weighting": "p2", "k": 1.0, "gamma": 0.5})),
        weight("vlb", "epsilon", json!({"weighting": "vlb"})),
        weight("vlb_v", "v_prediction", json!({"weighting": "vlb"})),
    ]
}
