//! What a configuration is refused for, and that ours is read again.

use super::*;

#[test]
fn config_written_and_read_is_the_same() {
    let config = UNetConfig {
        sample_size: Some(SampleSize::Rectangle([16, 24])),
        num_class_embeds: Some(11),
        ..Default::default()
    };
    assert_eq!(UNetConfig::from_json(&config.to_json(), "config.json").expect("our own file"), config);
}

#[test]
fn config_with_an_unsupported_value_is_refused_by_name_and_value() {
    for (field, value) in [
        ("act_fn", "\"mish\""),
        ("time_embedding_type", "\"fourier\""),
        ("downsample_type", "\"fir\""),
        ("resnet_time_scale_shift", "\"spatial\""),
        ("class_embed_type", "\"identity\""),
        ("norm_num_groups", "5"),
        ("attention_head_dim", "0"),
        ("layers_per_block", "0"),
        ("dropout", "1.0"),
        ("sample_size", "30"),
        ("down_block_types", "[\"SkipDownBlock2D\"]"),
        ("freq_shift", "200"),
        ("downsample_padding", "2"),
        ("block_out_channels", "[]"),
        ("in_channels", "0"),
        ("norm_eps", "-1.0"),
        ("mid_block_type", "\"UNetMidBlock2DCrossAttn\""),
    ] {
        let error = UNetConfig::from_json(&format!("{{\"{field}\": {value}}}"), "config.json").unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
        assert!(error.contains(value.trim_matches(['"', '[', ']'])), "{error}");
    }
    for (field, value) in [("new_field", "1"), ("layers_per_block", "\"two\""), ("sample_size", "\"big\"")] {
        let text = format!("{{\"{field}\": {value}}}");
        let error = UNetConfig::from_json(&text, "config.json").unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn config_of_images_out_of_reach_is_refused_by_the_tensor_that_is_too_large() {
    // Pixels times channels: 1024 · 1024 · 224 is below 2²⁸. An attention on 512 · 512 tokens is not.
    let plain = "\"down_block_types\": [\"DownBlock2D\"], \"up_block_types\": [\"UpBlock2D\"], \
        \"block_out_channels\": [224], \"add_attention\": false";
    let read =
        |side: usize, rest: &str| UNetConfig::from_json(&format!("{{\"sample_size\": {side}, {rest}}}"), "config.json");
    assert!(read(1024, plain).is_ok());
    for (side, rest) in [(2048, plain), (1024, "\"dropout\": 0.0")] {
        let error = read(side, rest).unwrap_err().to_string();
        assert!(error.contains("sample_size") && error.contains("268435456"), "{error}");
    }
}
