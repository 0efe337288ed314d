//! What the library says to a caller who got something wrong: an error, never a panic and never a wrong result.

use std::path::Path;

use ancestral::data::{self, Dataset, Shape, Split};
use ancestral::evaluate::evaluate;
use ancestral::layers::ParameterVector;
use ancestral::models::Network;
use ancestral::pipeline::Pipeline;
use ancestral::sample::{Sampler, SamplerOptions, Settings, chain, draw};
use ancestral::train::{Config, Preset, State, Trainer};

fn images(side: usize) -> Dataset {
    let shape = Shape { height: side, width: side, channels: 1 };
    data::load(Path::new("shapes"), Split::Validation, shape).expect("shapes need no file")
}

fn model() -> Pipeline {
    Trainer::new(Preset::Tiny.config(), images(16), None).expect("a preset").pipeline().expect("a model")
}

/// The words of an error.
fn refused<T>(result: ancestral::Result<T>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn trainer_with_images_of_another_shape_is_refused() {
    let refusal = refused(Trainer::new(Preset::Tiny.config(), images(32), None));
    assert!(refusal.starts_with("data: expected images of 16x16x1") && refusal.contains("32x32x1"), "{refusal}");
}

#[test]
fn trainer_with_a_state_of_another_network_or_run_is_refused_by_what_differs() {
    let config = Preset::Tiny.config();
    let network = Network::new(config.model.clone()).expect("a preset");
    let state = || State::<f32>::new(network.layout().initial(1), true);
    let new = |state: State| refused(Trainer::new(Preset::Tiny.config(), images(16), Some(state)));
    let short = || ParameterVector(vec![0.0f32; 7]);
    assert!(new(State { weights: short(), ..state() }).starts_with("state.weights: expected"));
    assert!(new(State { ema: Some(short()), ..state() }).starts_with("state.ema: expected"));
    assert!(new(State { ema: None, ..state() }).starts_with("state.ema: expected an average"));
    assert!(new(State { step: config.steps + 1, ..state() }).starts_with("state.step: expected at most 50"));
    let mut moments = state();
    moments.moments.v = short();
    assert!(new(moments).starts_with("state.v: expected"));
}

#[test]
fn trainer_takes_no_step_beyond_the_last() {
    let config = Config { steps: 2, batch_size: 2, ..Preset::Tiny.config() };
    let mut trainer = Trainer::new(config, images(16), None).expect("a config that holds");
    for _ in 0..2 {
        trainer.step().expect("a step");
    }
    let weights = trainer.state().weights.clone();
    let refusal = refused(trainer.step());
    assert!(refusal.starts_with("step: expected at most 2") && refusal.ends_with("found 3"), "{refusal}");
    assert_eq!(trainer.state().weights, weights);
}

#[test]
fn draw_with_settings_that_the_model_cannot_follow_is_refused_by_field() {
    let model = model();
    let scheduler = model.scheduler();
    let of_times = |times: &[usize]| chain(&scheduler.schedule, times, scheduler.sampler, &scheduler.options);
    let settings =
        Settings { chain: of_times(&[900, 400]).expect("a chain"), ..Settings::new(&model).expect("settings") };
    let try_draw = |settings: &Settings, count: u64| refused(draw(&model, settings, 0..count, |_| Ok(())));
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings.clone();
        change(&mut settings);
        try_draw(&settings, 1)
    };
    assert!(refused(of_times(&[])).starts_with("timesteps: expected at least one"));
    assert!(refused(of_times(&[2000])).starts_with("timesteps: expected times in 1..=1000"));
    assert!(refused(of_times(&[400, 900])).starts_with("timesteps: expected times that descend"));
    assert!(with(&|s| s.chain = vec![]).starts_with("chain: expected at least one"));
    assert!(with(&|s| s.sampler = Sampler::Euler).starts_with("chain: expected levels of the sampler euler"));
    assert!(with(&|s| s.class = Some(0)).starts_with("class: expected none"));
    assert!(with(&|s| s.guidance = 3.0).starts_with("guidance: expected 1"));
    assert!(with(&|s| s.guidance = f64::NAN).starts_with("guidance: expected a finite number"));
    let eta = SamplerOptions { eta: 2.0, ..SamplerOptions::default() };
    assert!(with(&|s| (s.sampler, s.options) = (Sampler::Ddim, eta)).starts_with("eta: expected 0 to 1"));
    assert!(try_draw(&settings, 0).starts_with("indices: expected 1 to 4096"));
    assert!(try_draw(&settings, u64::MAX).starts_with("indices: expected 1 to 4096"));
}

#[test]
fn evaluate_with_images_or_weights_of_another_model_is_refused() {
    let model = model();
    let refusal = refused(evaluate(&model, model.weights(), &images(32), 4, |_| {}));
    assert!(refusal.starts_with("data: expected images of 16x16x1"), "{refusal}");
    let short = ParameterVector(vec![0.0; 3]);
    assert!(refused(evaluate(&model, &short, &images(16), 4, |_| {})).starts_with("weights: expected"));
    assert!(
        refused(evaluate(&model, model.weights(), &images(16), 0, |_| {})).starts_with("images: expected at least")
    );
}

#[test]
fn pipeline_of_parts_that_do_not_fit_is_refused() {
    let config = Preset::Tiny.config();
    let network = || Network::new(config.model.clone()).expect("a preset");
    let scheduler = || config.scheduler().expect("a preset");
    let weights = || network().layout().initial(1);
    let refusal = refused(Pipeline::new(network(), ParameterVector(vec![0.0; 3]), scheduler(), None));
    assert!(refusal.starts_with("weights: expected") && refusal.ends_with("found 3"), "{refusal}");
    assert!(
        refused(Pipeline::new(network(), weights(), scheduler(), Some(4))).starts_with("null_class: expected none")
    );
    let mut conditional = config.model.clone();
    conditional.set_classes(Some(5), false);
    let network = Network::new(conditional).expect("supported");
    let weights = network.layout().initial(1);
    let refusal = refused(Pipeline::new(network, weights, scheduler(), Some(5)));
    assert!(refusal.starts_with("null_class: expected 0 to 4"), "{refusal}");
}
