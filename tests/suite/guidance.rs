//! Training with hidden classes, other predictions, and what stops a run.

use std::path::Path;

use ancestral::Error;
use ancestral::data::{self, Shape, Split};
use ancestral::diffusion::Prediction;
use ancestral::models::{Conditions, Time};
use ancestral::pipeline::Pipeline;
use ancestral::sample::{Sampler, Settings, chain, draw};
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
    config.model.set_classes(Some(4), true);
    config.label_dropout = 0.25;
    config
}

fn pictures(model: &Pipeline, class: Option<usize>, guidance: f64) -> ancestral::Result<Array4<f32>> {
    let settings = Settings {
        seed: 1,
        sampler: Sampler::Ddim,
        chain: chain(&model.scheduler().schedule, &[1000, 500], Sampler::Ddim, &model.scheduler().options)?,
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
        config.schedule.prediction_type = prediction.into();
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

/// Picture 0 of class 1 after one step to the image at guidance 3, from the network's own outputs by the formula of the paper.
#[test]
fn guidance_of_three_is_the_formula_of_the_paper_on_the_networks_outputs() {
    let mut trainer = trainer(conditional());
    for _ in 0..5 {
        trainer.step().expect("a finite step");
    }
    let model = trainer.pipeline().expect("a model");
    let settings = Settings {
        seed: 1,
        sampler: Sampler::Ddim,
        chain: chain(&model.scheduler().schedule, &[700], Sampler::Ddim, &model.scheduler().options).expect("a chain"),
        class: Some(1),
        guidance: 3.0,
        ..Settings::new(&model).expect("settings")
    };
    let mut x_t = None;
    let drawn = draw(&model, &settings, 0..1, |moment| {
        x_t = Some(moment.step.x_t.clone());
        Ok(())
    });
    let (drawn, x_t) = (drawn.expect("a picture"), x_t.expect("a step"));
    let output = |label: usize| {
        let conditions = Conditions { time: Time::Steps(&[699.0]), labels: Some(&[label]) };
        model.network().predict(model.weights(), x_t.clone(), conditions).expect("an output")
    };
    let (class, none) = (output(1), output(4));
    assert!((&class - &none).iter().any(|d| d.abs() > 1e-4), "the class matters, so w does");
    let level = model.scheduler().schedule.level(700);
    for (((&drawn, &x_t), &class), &none) in drawn.iter().zip(&x_t).zip(&class).zip(&none) {
        let eps = 3.0 * f64::from(class) - 2.0 * f64::from(none); // (1 + w) eps(class) - w eps(none), the paper's w = 2
        let x_0 = ((f64::from(x_t) - level.sigma() * eps) / level.signal()).clamp(-1.0, 1.0);
        // Float32, and a division by √ᾱ = 0.27.
        assert!((f64::from(drawn) - x_0).abs() < 2e-5, "{drawn} {x_0}");
    }
}

/// Images without noise are told apart by their labels alone: the share of hidden labels is that of steps in which the row of
/// "no class" learned.
#[test]
fn labels_are_hidden_as_often_as_the_config_says() {
    // One image per step: AdamW moves the row of the class embedding whose label was shown, and no other before it was.
    let steps = 400;
    let mut config = Config { steps, batch_size: 1, ema_decay: 0.0, ..conditional() };
    config.optimizer.beta1 = 0.0;
    let mut trainer = trainer(config);
    let table = trainer.network().layout().entries.iter().find(|e| e.name == "class_embedding.weight");
    let table = table.expect("a conditional network").span;
    let row = |trainer: &Trainer| trainer.state().weights[table][4 * table.len / 5..].to_vec();
    let mut hidden = 0;
    for _ in 0..steps {
        let before = row(&trainer);
        trainer.step().expect("a finite step");
        hidden += u32::from(row(&trainer) != before);
    }
    let (expected, deviation) = (0.25 * steps as f64, (steps as f64 * 0.25 * 0.75).sqrt());
    assert!((f64::from(hidden) - expected).abs() < 5.0 * deviation, "{hidden} of {steps} labels were hidden");
}
