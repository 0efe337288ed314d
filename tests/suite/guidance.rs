//! Training with hidden classes, other predictions, and what stops a run.

use std::path::Path;

use ancestral::Error;
use ancestral::data::{self, Shape, Split};
use ancestral::diffusion::Prediction;
use ancestral::pipeline::Pipeline;
use ancestral::sample::{Sampler, Settings, Spacing, draw, timesteps};
use ancestral::train::{Config, Preset, Trainer};
use ndarray::Array4;

fn trainer(config: Config) -> Trainer {
    let shape = Shape { height: 16, width: 16, channels: 1 };
    let data = data::load(Path::new("shapes"), Split::Train, shape).expect("shapes need no file");
    Trainer::new(config, data, None).expect("a config that holds")
}

/// `tiny` on the four classes of shapes, and a fifth label for none.
fn conditional() -> Config {
    let mut config = Preset::Tiny.config();
    config.model.set_labels(Some(5));
    config.label_dropout = 0.25;
    config
}

fn pictures(model: &Pipeline, class: Option<usize>, guidance: f64) -> ancestral::Result<Array4<f32>> {
    let settings = Settings {
        seed: 1,
        sampler: Sampler::Ddim,
        timesteps: timesteps(Spacing::Trailing, 1000, 2, 0)?,
        class,
        guidance,
        ..Settings::new(model)?
    };
    draw(model, &settings, 0..4, |_| Ok(()))
}

#[test]
fn guidance_of_zero_ignores_the_class_and_of_three_exaggerates_it() {
    let mut trainer = trainer(conditional());
    for _ in 0..5 {
        trainer.step().expect("a finite step");
    }
    let model = trainer.pipeline().expect("a model");
    let draw = |class, guidance| pictures(&model, Some(class), guidance).expect("pictures");
    assert_ne!(draw(0, 1.0), draw(1, 1.0), "the class matters");
    assert_eq!(draw(0, 0.0), draw(1, 0.0), "eps(none) + 0 (eps(class) - eps(none))");
    assert_ne!(draw(0, 3.0), draw(0, 1.0), "guidance matters");
    let in_turn = pictures(&model, None, 1.0).expect("pictures");
    assert_eq!(
        in_turn.index_axis(ndarray::Axis(0), 3),
        draw(3, 1.0).index_axis(ndarray::Axis(0), 3),
        "picture 3 has class 3"
    );
    assert!(pictures(&model, Some(4), 1.0).is_err(), "the label for none is no class to ask for");
}

#[test]
fn training_learns_whatever_is_predicted() {
    for prediction in [Prediction::Epsilon, Prediction::Sample, Prediction::V] {
        let mut config = Preset::Tiny.config();
        config.schedule.prediction_type = prediction;
        let mut trainer = trainer(config);
        let losses: Vec<f64> = (0..30).map(|_| trainer.step().expect("a finite step").loss).collect();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        assert!(mean(&losses[25..]) < 0.9 * mean(&losses[..5]), "{prediction:?}: {losses:?}");
        assert!(
            pictures(&trainer.pipeline().expect("a model"), None, 1.0)
                .expect("pictures")
                .iter()
                .all(|x| x.abs() <= 1.0)
        );
    }
}

#[test]
fn training_with_an_absurd_learning_rate_stops_and_names_the_step() {
    let mut config = Preset::Tiny.config();
    config.optimizer.lr = 1e30;
    config.optimizer.clip_norm = 0.0;
    let mut trainer = trainer(config);
    let error = (0..50).find_map(|_| trainer.step().err()).expect("weights of 1e30 have no finite loss");
    match error {
        Error::NonFinite { step, tensor, .. } => {
            assert_eq!(step, trainer.state().step + 1, "the state is that before the step");
            assert!(tensor.contains("loss") || tensor.contains("gradient"), "{tensor}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn training_by_classes_on_images_without_labels_is_refused() {
    let shape = Shape { height: 16, width: 16, channels: 1 };
    let data = data::Dataset::new("no labels", shape, vec![0; 16 * 16 * 3]).expect("one image");
    let error = Trainer::new(conditional(), data, None).unwrap_err().to_string();
    assert!(error.contains("num_class_embeds") && error.contains("no labels"), "{error}");
}
