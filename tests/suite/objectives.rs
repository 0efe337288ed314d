//! Every objective: its gradient against differences, the same bits however it is run, and what a learned variance is good for.

use std::path::Path;

use ancestral::checkpoint::{pipeline, resume};
use ancestral::data::{self, Dataset, Shape, Split};
use ancestral::diffusion::likelihood::Cdf;
use ancestral::diffusion::{Prediction, Process, Schedule, Variance};
use ancestral::evaluate::{BitsSettings, bits_per_dim, evaluate};
use ancestral::layers::ParameterVector;
use ancestral::models::{DitConfig, Network, NetworkConfig};
use ancestral::numerics::rng::{Stream, normal};
use ancestral::pipeline::{Pipeline, Scheduler};
use ancestral::sample::{Sampler, Settings, draw};
use ancestral::train::goal::{LossName, WeightingName};
use ancestral::train::gradient::{self, Gradient, Zeros, loss_and_gradient};
use ancestral::train::objective::{Batch, Bound, noised};
use ancestral::train::timesteps::TimestepSampler;
use ancestral::train::{Config, ObjectiveConfig, Preset, State, Trainer};
use ndarray::{Array4, Axis};

fn images(split: Split) -> Dataset {
    let shape = Shape { height: 8, width: 8, channels: 1 };
    data::load(Path::new("shapes"), split, shape).expect("shapes need no file")
}

/// Every kind of loss, weight, variance and choice of times, in a few steps of six images.
fn objectives() -> Vec<(ObjectiveConfig, Prediction)> {
    let default = ObjectiveConfig::default;
    let learned = Variance::LearnedRange;
    let (epsilon, v) = (Prediction::Epsilon, Prediction::V);
    vec![
        (ObjectiveConfig { weighting: WeightingName::MinSnr, ..default() }, v),
        (
            ObjectiveConfig { weighting: WeightingName::P2, timesteps: TimestepSampler::Stratified, ..default() },
            epsilon,
        ),
        (ObjectiveConfig { weighting: WeightingName::Vlb, timesteps: TimestepSampler::LossAware, ..default() }, v),
        (ObjectiveConfig { timesteps: TimestepSampler::LogNormal, ..default() }, Prediction::Sample),
        (ObjectiveConfig { loss: LossName::Hybrid, variance: learned, ..default() }, epsilon),
        (
            ObjectiveConfig {
                loss: LossName::Vlb,
                variance: Variance::Learned,
                timesteps: TimestepSampler::LossAware,
                ..default()
            },
            v,
        ),
        (ObjectiveConfig { loss: LossName::Vlb, ..default() }, epsilon),
        (ObjectiveConfig { weighting: WeightingName::MinSnr, ..default() }, Prediction::Flow),
        (ObjectiveConfig { timesteps: TimestepSampler::LogNormal, ..default() }, Prediction::Edm(0.6)),
    ]
}

/// The networks to try an objective with: a U-Net, and where the network says a variance, a transformer too.
fn networks(objective: &ObjectiveConfig) -> Vec<NetworkConfig> {
    let transformer = DitConfig {
        num_attention_heads: 2,
        attention_head_dim: 4,
        num_layers: 2,
        patch_size: 2,
        ..DitConfig::default()
    };
    let learns = matches!(objective.variance, Variance::Learned | Variance::LearnedRange);
    let transformer = learns.then(|| transformer.into());
    [Preset::Tiny.config().model].into_iter().chain(transformer).collect()
}

/// Every objective with each of its networks.
fn cases() -> impl Iterator<Item = (ObjectiveConfig, Prediction, NetworkConfig)> {
    objectives().into_iter().flat_map(|(objective, prediction)| {
        networks(&objective).into_iter().map(move |network| (objective.clone(), prediction, network))
    })
}

/// With the U-Net.
fn config((objective, prediction): (ObjectiveConfig, Prediction), steps: u64) -> Config {
    config_of((objective, prediction, Preset::Tiny.config().model), steps)
}

/// `t_max` is small where the losses of every t are to be known soon.
fn config_of((objective, prediction, model): (ObjectiveConfig, Prediction, NetworkConfig), steps: u64) -> Config {
    let mut config = Config { steps, batch_size: 6, objective, model, ..Preset::Tiny.config() };
    config.schedule.prediction_type = prediction.into();
    if let Prediction::Edm(sigma_data) = prediction {
        config.edm.sigma_data = sigma_data;
    }
    (config.schedule.num_train_timesteps, config.sample_steps) = (3, 3);
    (config.schedule.beta_start, config.schedule.beta_end) = (0.1, 0.9);
    config.for_images(&images(Split::Train)).expect("a config that holds")
}

fn trained(config: &Config, state: Option<State>, until: u64) -> Trainer {
    let mut trainer = Trainer::new(config.clone(), images(Split::Train), state).expect("a config that holds");
    while trainer.state().step < until {
        trainer.step().expect("a finite step");
    }
    trainer
}

#[test]
fn gradient_of_every_objective_equals_differences_along_random_directions() {
    for (objective, prediction, model) in cases() {
        let mut config = config_of((objective, prediction, model), 1);
        config.model.set_classes(None, false);
        let (network, schedule) =
            (Network::new(config.model.clone()).expect("a network"), config.scheduler().expect("a schedule").schedule);
        let (x_0, eps) = (normal((3, 8, 8, 1), 1) * 0.3, normal((3, 8, 8, 1), 2));
        // The image's own step is among them.
        let t = [1, 3, 2];
        let mut batch = Batch::noised(&schedule, prediction, &x_0, &t, &eps, None);
        batch.labels = config.model.labels().map(|_| vec![0; 3]);
        let weighting = config.objective.weighting();
        batch.weight = Some(t.map(|t| 1.5 * weighting.weight(&schedule, prediction, t)).to_vec());
        if config.objective.loss != LossName::Simple {
            let hybrid = config.objective.loss == LossName::Hybrid;
            batch.bound = Some(Bound::new(&schedule, config.objective.reading(prediction), hybrid, &x_0, &t, &eps));
        }
        let count = network.layout().count();
        let mut w = ParameterVector(vec![0.0f64; count]);
        Stream::keyed(5, "w", &[]).fill_normal(&mut w.0);
        w.0.iter_mut().for_each(|w| *w *= 0.1);
        let of =
            |w: &ParameterVector<f64>| loss_and_gradient(&network, w, &batch, None, &Zeros::default()).expect("a loss");
        let Gradient { grads, by_image, loss } = of(&w);
        let alone = gradient::loss(&network, &w, &batch).expect("a loss");
        assert!((alone - loss).abs() <= 1e-14 * loss.abs(), "added up in another order: {alone} {loss}");
        let weights = batch.weight.as_ref().expect("weights");
        let mean = by_image.iter().zip(weights).map(|((_, loss), weight)| loss * weight / 3.0).sum::<f64>();
        assert!((mean - loss).abs() < 1e-12 * loss.abs().max(1.0), "{:?}: {mean} {loss}", config.objective);
        for direction in 0..3 {
            let mut d = vec![0.0f64; count];
            Stream::keyed(6, "direction", &[direction]).fill_normal(&mut d);
            // Held fixed, the mean has no part of the bound's gradient: move what says the variance alone.
            if config.objective.loss == LossName::Hybrid {
                let is_last = |name: &str| name.starts_with("conv_out") || name.starts_with("proj_out_2");
                let last = network.layout().entries.iter().filter(|entry| is_last(&entry.name));
                let kept: Vec<_> = last.map(|entry| entry.span).collect();
                let of_variance = |i: usize| {
                    kept.iter()
                        .any(|span| (span.start..span.start + span.len).contains(&i) && (i - span.start) % 2 == 1)
                };
                d.iter_mut().enumerate().filter(|(i, _)| !of_variance(*i)).for_each(|(_, d)| *d = 0.0);
            }
            let moved = |h: f64| of(&ParameterVector(w.0.iter().zip(&d).map(|(w, d)| w + h * d).collect())).loss;
            let h = 1e-6;
            let difference = (moved(h) - moved(-h)) / (2.0 * h);
            let slope: f64 = grads.0.iter().zip(&d).map(|(g, d)| g * d).sum();
            // h² times a third derivative along a direction of length 100, and rounding of 1e-16·loss/h.
            let error = (slope - difference).abs();
            assert!(
                error < 1e-5 * slope.abs().max(loss.abs()).max(1.0),
                "{:?}: {slope} {difference}",
                config.objective
            );
        }
    }
}

#[test]
fn every_objective_has_the_same_bits_over_threads_and_resume() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoint.safetensors");
    for case in cases() {
        // Six images of three times: after nine steps ten losses of each are known, as a rule.
        let config = config_of(case, 9);
        let whole = trained(&config, None, 9);
        let half = trained(&config, None, 5);
        resume::write(&path, &config, half.state()).expect("a checkpoint");
        let (read, state) = resume::read(&path).expect("our own file");
        assert_eq!((&read, &state.history), (&config, &half.state().history));
        let resumed = trained(&config, Some(state), 9);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
        let three = pool.install(|| trained(&config, None, 9));
        for other in [&resumed, &three] {
            assert_eq!(other.state().weights, whole.state().weights, "{:?}", config.objective);
            assert_eq!(other.state().history, whole.state().history, "{:?}", config.objective);
        }
        if config.objective.timesteps == TimestepSampler::LossAware {
            assert!(whole.state().history.as_ref().expect("losses").probabilities().is_some());
        }
    }
}

#[test]
fn objective_of_ho_is_written_as_if_there_were_no_other_and_changes_no_bit() {
    let config = Preset::Tiny.config();
    assert!(!config.to_json().contains("objective"));
    let usual =
        Config { steps: 2, batch_size: 6, ..config }.for_images(&images(Split::Train)).expect("a config that holds");
    let ones = Config {
        objective: ObjectiveConfig { p2_gamma: 0.0, weighting: WeightingName::P2, ..ObjectiveConfig::default() },
        ..usual.clone()
    };
    let (usual, ones) = (trained(&usual, None, 2), trained(&ones, None, 2));
    // P2 with γ = 0 has weights of 1 by way of an exponential: the same loss but for rounding.
    let difference = usual.state().weights.0.iter().zip(&ones.state().weights.0).map(|(a, b)| (a - b).abs());
    assert!(difference.fold(0.0, f32::max) < 1e-5);
}

#[test]
fn damaged_losses_in_a_checkpoint_are_refused() {
    let config = config(objectives().remove(2), 4);
    let bytes = resume::to_bytes(&config, trained(&config, None, 2).state()).expect("a checkpoint");
    let minus_one = (-1.0f32).to_le_bytes();
    let at = bytes.windows(4).rposition(|window| window == minus_one).expect("a time without losses");
    let mut damaged = bytes.clone();
    damaged[at + 3] ^= 0x80;
    let refusal = resume::from_bytes(&damaged, Path::new("a")).unwrap_err().to_string();
    assert!(refusal.contains("SHA-256") || refusal.contains("loss_history"), "{refusal}");
    resume::from_bytes(&bytes, Path::new("a")).expect("whole");
}

#[test]
fn model_with_a_learned_variance_is_saved_read_sampled_and_measured() {
    let (objective, prediction) = objectives().remove(4);
    for network in networks(&objective) {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config_of((objective.clone(), prediction, network), 3);
        assert_eq!(config.model.channels(), (1, 2));
        let model = trained(&config, None, 3).pipeline().expect("a model");
        pipeline::write(&model, folder.path()).expect("a folder");
        let model = pipeline::read(folder.path()).expect("our own folder").pipeline;
        assert_eq!(model.scheduler().options.variance, Variance::LearnedRange);
        let pictures = draw(&model, &Settings::new(&model).expect("settings"), 0..2, |_| Ok(())).expect("pictures");
        assert_eq!(pictures.dim(), (2, 8, 8, 1));
        let validation = images(Split::Validation);
        evaluate(&model, model.weights(), &validation, 2, |_| {}).expect("errors");
        let settings = |variance| BitsSettings { images: 3, times: vec![1, 2, 3], variance, cdf: Cdf::Erf };
        let of = |variance| bits_per_dim(&model, model.weights(), &validation, &settings(variance), |_| {});
        let [learned, fixed] = [Variance::LearnedRange, Variance::FixedSmall].map(|v| of(v).expect("bits").total.mean);
        assert!(learned.is_finite() && fixed.is_finite() && learned != fixed);
        let one = pictures.index_axis(Axis(0), 0);
        assert!(one.iter().all(|x| x.abs() <= 1.0));
    }
}

#[test]
fn model_of_flow_matching_and_of_edm_opens_with_its_own_sampler_and_is_measured_like_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let samplers =
        [(7, None, Sampler::FlowEuler), (8, None, Sampler::EdmDpm), (8, Some(Sampler::EdmEuler), Sampler::EdmEuler)];
    for (objective, named, sampler) in samplers {
        let config = Config { sampler: named, ..config(objectives().remove(objective), 2) };
        let trained = trained(&config, None, 2).pipeline().expect("a model");
        pipeline::write(&trained, folder.path()).expect("a folder");
        let model = pipeline::read(folder.path()).expect("our own folder").pipeline;
        assert_eq!((model.scheduler(), model.scheduler().sampler), (trained.scheduler(), sampler));
        let settings = |model: &Pipeline| Settings::new(model).expect("settings");
        let pictures = draw(&model, &settings(&model), 0..2, |_| Ok(())).expect("pictures");
        assert_eq!(pictures, draw(&trained, &settings(&trained), 0..2, |_| Ok(())).expect("pictures"));
        let found = evaluate(&model, model.weights(), &images(Split::Validation), 4, |_| {}).expect("errors");
        // The levels of Ho et al. 2020, whatever the model's own: nearly all noise at the end, where x_t itself is the noise.
        assert_eq!(found.bins.last().expect("bins").0, 901..=1000);
        assert!(found.bins[9].1.linear_mse < 1e-3 && found.bins[0].1.linear_mse > 0.5, "{found:?}");
        // x̂₀ = (x − sigma ε̂)/signal: its error is that of ε̂ times the noise over the signal, which is 0.01 to 0.34 in the
        // first bin.
        let first = &found.bins[0].1;
        assert!(first.x_0_mse > 1e-4 * first.mse && first.x_0_mse < 0.12 * first.mse, "{first:?}");
    }
}

#[test]
fn target_and_input_of_a_batch_are_what_the_denoiser_undoes() {
    let (x_0, eps) = (normal((3, 8, 8, 1), 1) * 0.3, normal((3, 8, 8, 1), 2));
    for (objective, prediction) in objectives() {
        let schedule = config((objective, prediction), 1).scheduler().expect("a schedule").schedule;
        let t = [1, 3, 2];
        let batch = Batch::noised(&schedule, prediction, &x_0, &t, &eps, None);
        let x_t = noised(&schedule, &x_0, &t, &eps);
        for (i, t) in t.into_iter().enumerate() {
            let level = schedule.level(t);
            let image = |x: &Array4<f64>| x.index_axis(Axis(0), i).iter().copied().collect::<Vec<f64>>();
            let (x, fed, said) = (image(&x_t), image(&batch.x_t), image(&batch.target));
            let eps_hat = prediction.eps_hat(level.marginal(), &x, &said);
            let x_0_hat = prediction.x_0_hat(level.marginal(), &x, &said);
            let near =
                |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9 * (1.0 + level.ratio()));
            assert!(near(&eps_hat, &image(&eps)), "{prediction:?}, t = {t}");
            assert!(level.signal() == 0.0 || near(&x_0_hat, &image(&x_0)), "{prediction:?}, t = {t}");
            let scale = prediction.input_scale(level);
            assert!(fed.iter().zip(&x).all(|(fed, x)| *fed == scale * x), "{prediction:?}, t = {t}");
        }
    }
}

#[test]
fn bound_of_a_model_of_another_process_is_refused() {
    let config = config(objectives().remove(0), 1);
    let trained = trained(&config, None, 1).pipeline().expect("a model");
    let schedule = Schedule::of_process(Process::Flow { shift: 1.0 }, 3).expect("a schedule");
    let scheduler = Scheduler::new(schedule, Prediction::Flow, None).expect("a scheduler");
    let parts = (trained.network().clone(), trained.weights().clone());
    let model = Pipeline::new(parts.0, parts.1, scheduler, config.null_class()).expect("a model");
    let settings = BitsSettings { images: 1, times: vec![1, 2], variance: Variance::FixedSmall, cdf: Cdf::Erf };
    let refusal = bits_per_dim(&model, model.weights(), &images(Split::Validation), &settings, |_| {}).unwrap_err();
    assert!(refusal.to_string().starts_with("model: expected a model of the variance-preserving process"), "{refusal}");
}

#[test]
fn objective_in_a_config_file_is_one_line_and_doubles_the_channels_where_the_variance_is_learned() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("c.toml");
    let with = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        Preset::Tiny.config().with_file(&file)
    };
    let learned = with("[objective]\nloss = \"hybrid\"\nvariance = \"learned_range\"\n").expect("a config");
    assert_eq!((learned.model.channels(), learned.objective.loss), ((1, 2), LossName::Hybrid));
    assert_eq!(Config::from_json(&learned.to_json(), Path::new("a")).expect("our own"), learned);
    assert_eq!(with("[objective]\ntimesteps = \"stratified\"\n").expect("a config").model.channels(), (1, 1));
    for (text, place) in [
        ("[objective]\nvariance = \"learned\"", "objective.loss"),
        ("[objective]\nweighting = \"snr\"", "objective.weighting"),
        ("[objective]\nlog_normal_deviation = 0.0", "objective.log_normal_deviation"),
        ("[objective]\ngamma = 1.0", "objective.gamma"),
        ("[objective]\ntimesteps = \"loss_aware\"\n[schedule]\nprediction_type = \"edm\"", "objective.timesteps"),
        ("[objective]\nloss = \"vlb\"\n[schedule]\nprediction_type = \"flow_prediction\"", "objective.loss"),
        ("[schedule]\nprediction_type = \"flow_prediction\"\n[flow]\nshift = 0.0", "shift"),
        ("[schedule]\nprediction_type = \"edm\"\n[edm]\nsigma_data = -1.0", "edm.sigma_data"),
        ("sampler = \"edm-dpm\"", "sampler: expected ddpm or ddim"),
        ("sampler = \"best\"", "unknown sampler `best`"),
        ("[objective]\nloss = \"hybrid\"\nvariance = \"learned\"\n[model]\nout_channels = 1", "model.out_channels"),
    ] {
        let refusal = with(text).unwrap_err().to_string();
        assert!(refusal.contains(place), "{refusal}");
    }
}
