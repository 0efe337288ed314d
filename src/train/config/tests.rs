use std::path::Path;

use super::*;
use crate::models::DitConfig;
use crate::train::preset::Preset;

fn with_text(name: &str, text: &str) -> Result<Config> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join(name);
    std::fs::write(&file, text).expect("a file");
    Preset::Tiny.config().with_file(&file)
}

#[test]
fn config_file_changes_only_the_fields_it_has() {
    let toml = with_text("c.toml", "steps = 7\n[optimizer]\nlr = 0.5\n").expect("two known fields");
    let json = with_text("c.json", "{\"steps\": 7, \"optimizer\": {\"lr\": 0.5}}").expect("the same");
    let mut expected = Preset::Tiny.config();
    expected.steps = 7;
    expected.optimizer.lr = 0.5;
    assert_eq!((&toml, &json), (&expected, &expected));
}

#[test]
fn config_file_with_an_unknown_field_or_value_is_refused_by_name() {
    for (text, name) in [
        ("stepz = 7", "stepz"),
        ("[optimizer]\nlearning_rate = 1.0", "learning_rate"),
        ("[model]\nact_fn = \"mish\"", "act_fn"),
        ("[schedule]\nbeta_schedule = \"cubic\"", "cubic"),
        ("batch_size = 0", "batch_size"),
        ("[optimizer]\nlr = nan", "lr"),
        ("[optimizer]\nlr = \"high\"", "optimizer.lr"),
        ("[model]\nsample_size = \"big\"", "model.sample_size"),
        ("[model]\nlayers_per_block = -1", "model.layers_per_block"),
        ("optimizer = 1", "optimizer"),
        ("steps = 9000000000000000000", "steps"),
        ("batch_size = 65536\n[model]\nsample_size = 256", "batch_size"),
    ] {
        let error = with_text("c.toml", text).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("c.toml"), "{error}");
    }
}

#[test]
fn config_file_with_another_class_of_network_has_its_defaults_for_the_same_images_and_classes() {
    let text = "[model]\n_class_name = \"DiTTransformer2DModel\"\nnum_layers = 3\npatch_size = 4\n";
    let model = with_text("c.toml", text).expect("another network").model;
    let expected = DitConfig {
        sample_size: 16,
        in_channels: 1,
        num_layers: 3,
        patch_size: 4,
        num_embeds_ada_norm: 0,
        ..DitConfig::default()
    };
    assert_eq!(model, expected.into());
    for (text, name) in [
        ("[model]\n_class_name = \"VQModel\"", "VQModel"),
        ("[model]\n_class_name = \"DiTTransformer2DModel\"\nlayers_per_block = 3", "model.layers_per_block"),
        ("[model]\n_class_name = \"DiTTransformer2DModel\"\nnum_layers = \"many\"", "model.num_layers"),
        ("[model]\n_class_name = \"DiTTransformer2DModel\"\npatch_size = 3", "sample_size"),
        ("[model]\n_class_name = \"DiTTransformer2DModel\"\nout_channels = 2", "model.out_channels"),
        ("[model]\nnum_layers = 3", "model.num_layers"),
    ] {
        let error = with_text("c.toml", text).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("c.toml"), "{error}");
    }
}

#[test]
fn config_written_and_read_is_the_same() {
    for preset in Preset::ALL {
        let config = preset.config();
        assert_eq!(Config::from_json(&config.to_json(), Path::new("train.json")).expect("our own file"), config);
    }
}
