//! Pictures that start from pictures: laws that hold whatever the network has learned.

use std::path::Path;

use ancestral::Result;
use ancestral::data::{self, Shape, Split};
use ancestral::denoise::{Estimate, Output, Sight};
use ancestral::diffusion::{BetaSchedule, Level, Prediction, Schedule};
use ancestral::pipeline::{Pipeline, Scheduler};
use ancestral::sample::edit::{self, Resampling, Sources, Start, evaluations};
use ancestral::sample::{Sampler, SamplerOptions, Settings, Spacing, Transition, Walk, draw, spread};
use ancestral::train::{Preset, Trainer};
use ndarray::{Array3, Array4, Axis, concatenate};

const SHAPE: Shape = Shape { height: 16, width: 16, channels: 1 };

/// `tiny` after five steps on the four classes of shapes, and a fifth label for none.
fn model() -> Pipeline {
    let mut config = Preset::Tiny.config();
    config.model.set_classes(Some(4), true);
    config.label_dropout = 0.25;
    let data = data::load(Path::new("shapes"), Split::Train, SHAPE).expect("shapes need no file");
    let mut trainer = Trainer::new(config, data, None).expect("a config that holds");
    for _ in 0..5 {
        trainer.step().expect("a finite step");
    }
    trainer.pipeline().expect("a model")
}

/// The same network, with another scheduler.
fn with(model: &Pipeline, scheduler: Scheduler) -> Pipeline {
    let (network, weights) = (model.network().clone(), model.weights().clone());
    Pipeline::new(network, weights, scheduler, model.null_class()).expect("parts that fit")
}

fn pictures(indices: &[usize]) -> Array4<f32> {
    data::load(Path::new("shapes"), Split::Validation, SHAPE).expect("shapes need no file").batch(indices)
}

fn settings(model: &Pipeline, sampler: Sampler, (steps, kept): (usize, usize)) -> Settings {
    let scheduler = Scheduler { sampler, ..model.scheduler().clone() };
    let chain = scheduler.last_of_chain(steps, kept).expect("a chain");
    Settings { seed: 3, sampler, chain, class: Some(1), guidance: 1.5, ..Settings::new(model).expect("settings") }
}

fn one(x: &Array4<f32>, i: usize) -> Array4<f32> {
    x.slice_axis(Axis(0), (i..i + 1).into()).to_owned()
}

/// The denoiser of pictures whose numbers are normal with this deviation: x̂₀ and ε̂ are linear in x.
struct Normal(f64);

impl Walk<f64> for Normal {
    fn see(&mut self, x: &Array4<f64>, level: Level) -> Result<Estimate<f64>> {
        let (signal, sigma) = (level.signal() * self.0, level.sigma());
        let output = x * (sigma / (signal * signal + sigma * sigma));
        Ok(Sight::default().estimate(x, level, &Output::new(Prediction::Epsilon, output)))
    }

    fn noise(&mut self, _: Level) -> Array4<f64> {
        Array4::zeros((1, 2, 3, 1)) // asked for, and multiplied by 0
    }
}

#[test]
fn inversion_then_sampling_returns_within_an_error_of_first_order() {
    let schedule = Schedule::new(BetaSchedule::Linear, 1000, 1e-4, 0.02).expect("a schedule");
    let options = SamplerOptions::default();
    let x_0 = Array4::from_shape_fn((1, 2, 3, 1), |(_, h, w, _)| 0.3 * h as f64 - 0.2 * w as f64 + 0.1);
    let error = |steps: usize| {
        let chain = |sampler| spread(&schedule, (steps, Spacing::Trailing, 0), sampler, &options).expect("a chain");
        let up = chain(Sampler::DdimInverse);
        let noise = Sampler::DdimInverse.run(&up, x_0.clone(), &options, &mut Normal(0.5)).expect("noise");
        let down = chain(Sampler::Ddim);
        assert_eq!(up[up.len() - 1].to.alpha_bar, down[0].from.alpha_bar);
        let back = Sampler::Ddim.run(&down, noise, &options, &mut Normal(0.5)).expect("a picture");
        (back - &x_0).iter().fold(0.0, |most: f64, x| most.max(x.abs()))
    };
    let errors = [50, 100, 200].map(error);
    for pair in errors.windows(2) {
        // Half the step, half the error, and a fifth more or less for what is of second order.
        assert!((1.6..2.4).contains(&(pair[0] / pair[1])), "{errors:?}");
    }
}

#[test]
fn inversion_by_a_network_comes_back_nearer_with_more_steps() {
    let model = model();
    let sources = pictures(&[0, 5]);
    let off = |steps: usize| {
        let (up, down) =
            (settings(&model, Sampler::DdimInverse, (steps, steps)), settings(&model, Sampler::Ddim, (steps, steps)));
        let of = |pictures| Sources { pictures, indices: &[0, 0] };
        let noise = edit::invert(&model, &up, of(&sources), |_| Ok(())).expect("noise");
        let back = edit::draw_from(&model, &down, of(&noise), |_| Ok(())).expect("pictures");
        (&back - &sources).iter().map(|x| x * x).sum::<f32>()
    };
    let (few, many) = (off(4), off(40));
    assert!(many < few && few > 0.0, "{few} {many}");
}

#[test]
fn interpolation_ends_at_its_ends_to_the_bit_and_each_point_alone_is_the_same() {
    let model = model();
    let up = settings(&model, Sampler::DdimInverse, (6, 6));
    let down = settings(&model, Sampler::Ddim, (6, 6));
    let sources = pictures(&[1, 2]);
    let noise = edit::invert(&model, &up, Sources { pictures: &sources, indices: &[0, 0] }, |_| Ok(())).expect("noise");
    let draw = |noise: &Array4<f32>| {
        let indices = vec![0; noise.dim().0];
        edit::draw_from(&model, &down, Sources { pictures: noise, indices: &indices }, |_| Ok(())).expect("pictures")
    };
    let way: Vec<Array4<f32>> = (0..5).map(|k| edit::slerp(&one(&noise, 0), &one(&noise, 1), k as f64 / 4.0)).collect();
    let views: Vec<_> = way.iter().map(|x| x.view()).collect();
    let drawn = draw(&concatenate(Axis(0), &views).expect("one shape"));
    let ends = draw(&noise);
    assert_eq!((one(&drawn, 0), one(&drawn, 4)), (one(&ends, 0), one(&ends, 1)));
    assert_eq!(one(&drawn, 2), draw(&way[2]));
    assert_ne!(one(&drawn, 2), one(&drawn, 0));
}

#[test]
fn pictures_from_a_picture_are_the_same_in_any_batch_with_any_threads() {
    let model = model();
    let settings = settings(&model, Sampler::DpmMultistep, (10, 6));
    let (sources, indices) = (pictures(&[0, 1, 2, 3, 0, 1]), [0, 0, 0, 0, 7, 7]);
    let draw = |pictures: &Array4<f32>, indices: &[u64], threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
        pool.install(|| edit::renoise(&model, &settings, Sources { pictures, indices }, |_| Ok(()))).expect("pictures")
    };
    let all = draw(&sources, &indices, 2);
    for i in 0..6 {
        assert_eq!(one(&all, i), draw(&one(&sources, i), &indices[i..=i], 1), "picture {i}");
    }
    assert_ne!(one(&all, 0), one(&all, 4), "another index has noise of its own");
}

#[test]
fn image_to_image_of_the_whole_chain_is_plain_sampling_where_the_last_level_is_noise_alone() {
    let tiny = model();
    let zero_snr = Schedule::new(BetaSchedule::Linear, 1000, 1e-4, 0.02).and_then(Schedule::with_zero_terminal_snr);
    let scheduler = Scheduler::new(zero_snr.expect("a schedule"), Prediction::V, Some(1.0)).expect("v at no signal");
    let model = with(&tiny, scheduler);
    for sampler in [Sampler::Ddpm, Sampler::Ddim] {
        let settings = settings(&model, sampler, (8, 8));
        let plain = draw(&model, &settings, 4..6, |_| Ok(())).expect("pictures");
        let sources = Sources { pictures: &pictures(&[0, 3]), indices: &[4, 5] };
        assert_eq!(edit::renoise(&model, &settings, sources, |_| Ok(())).expect("pictures"), plain, "{sampler:?}");
    }
    // Elsewhere √ᾱ_T of the picture is left.
    let settings = settings(&tiny, Sampler::Ddim, (8, 8));
    let sources = Sources { pictures: &pictures(&[0]), indices: &[4] };
    let seen = edit::renoise(&tiny, &settings, sources, |_| Ok(())).expect("a picture");
    assert_ne!(seen, draw(&tiny, &settings, 4..5, |_| Ok(())).expect("a picture"));
}

/// The upper half is known.
fn upper_half() -> Array3<bool> {
    Array3::from_shape_fn((16, 16, 1), |(y, ..)| y < 8)
}

#[test]
fn repaint_with_nothing_known_is_ancestral_sampling_to_the_bit() {
    let model = model();
    let nothing = Array3::from_elem((16, 16, 1), false);
    for sampler in [Sampler::Ddpm, Sampler::EulerAncestral] {
        let settings = settings(&model, sampler, (8, 8));
        let sources = Sources { pictures: &pictures(&[0, 3]), indices: &[4, 5] };
        let drawn = edit::inpaint(&model, &settings, sources, &nothing, Start::Noise, |_| Ok(())).expect("pictures");
        assert_eq!(drawn, draw(&model, &settings, 4..6, |_| Ok(())).expect("pictures"), "{sampler:?}");
    }
}

#[test]
fn repaint_gives_known_pixels_back_to_the_bit_and_draws_the_others_anew_at_each_visit() {
    let model = model();
    let sources = pictures(&[0, 3]);
    let known = upper_half();
    let drawn = |times: usize| {
        let mut settings = settings(&model, Sampler::Ddpm, (9, 9));
        settings.chain = Resampling { jump_length: 3, times }.chain(&settings.chain).expect("a chain");
        let mut steps = 0;
        let of = Sources { pictures: &sources, indices: &[0, 1] };
        let drawn = edit::inpaint(&model, &settings, of, &known, Start::Noise, |_| {
            steps += 1;
            Ok(())
        });
        // From 2 jumps of 3 steps: t = 6 of 9 and t = 3 of 9, counted from the image.
        assert_eq!((steps, evaluations(&settings.chain)), (9 + 2 * 3 * (times - 1), steps));
        drawn.expect("pictures")
    };
    let (once, again) = (drawn(1), drawn(3));
    for (i, (drawn, source)) in once.outer_iter().zip(sources.outer_iter()).enumerate() {
        for ((place, x), x_0) in drawn.indexed_iter().zip(&source) {
            assert!(!known[place] || x == x_0, "picture {i}, {place:?}: {x} {x_0}");
        }
        assert_ne!(drawn, again.index_axis(Axis(0), i), "a stretch that is walked again has noise of its own");
    }
    assert!(once.iter().zip(&sources).any(|(x, x_0)| x != x_0));
}

#[test]
fn what_cannot_be_edited_is_refused_by_name() {
    let model = model();
    let sources = pictures(&[0]);
    let of = Sources { pictures: &sources, indices: &[0] };
    let words = |result: Result<Array4<f32>>| result.expect_err("an error").to_string();
    let ddim = settings(&model, Sampler::Ddim, (5, 5));
    let refusal = words(edit::invert(&model, &ddim, of, |_| Ok(())));
    assert!(refusal.starts_with("sampler: expected ddim-inverse"), "{refusal}");
    let two = Sources { indices: &[0, 1], ..of };
    assert!(words(edit::renoise(&model, &ddim, two, |_| Ok(()))).starts_with("pictures: expected (2, 16, 16, 1)"));
    let nan = sources.mapv(|_| f32::NAN);
    assert!(words(edit::renoise(&model, &ddim, Sources { pictures: &nan, ..of }, |_| Ok(()))).contains("finite"));
    let unipc = settings(&model, Sampler::UniPc, (5, 5));
    let refusal = words(edit::inpaint(&model, &unipc, of, &upper_half(), Start::Noise, |_| Ok(())));
    assert!(refusal.starts_with("sampler: expected ddpm, ddim, euler"), "{refusal}");
    let wide = Array3::from_elem((16, 8, 1), true);
    assert!(
        words(edit::inpaint(&model, &ddim, of, &wide, Start::Noise, |_| Ok(())))
            .starts_with("mask: expected (16, 16, 1)")
    );
    let of_x_0 = Scheduler { prediction: Prediction::Sample, ..model.scheduler().clone() };
    let up = settings(&model, Sampler::DdimInverse, (5, 5));
    assert!(
        words(edit::invert(&with(&model, of_x_0), &up, of, |_| Ok(())))
            .starts_with("prediction_type: expected epsilon")
    );
    let kept = |kept: usize| model.scheduler().last_of_chain(5, kept).expect_err("an error").to_string();
    assert!(kept(0).contains("1 to 5") && kept(6).contains("1 to 5"));
}

#[test]
fn last_steps_of_a_chain_are_those_of_the_whole_one_for_every_sampler() {
    let scheduler = model().scheduler().clone();
    for &sampler in Sampler::ALL {
        let scheduler = Scheduler { sampler, ..scheduler.clone() };
        let (whole, last) = (scheduler.chain(12).expect("a chain"), scheduler.last_of_chain(12, 6).expect("a chain"));
        // Samplers that begin with smaller steps (PNDM's Runge and Kutta) begin with them wherever they do.
        let to = |chain: &[Transition]| -> Vec<f64> { chain.iter().map(|step| step.to.alpha_bar).collect() };
        let (whole, last) = (to(&whole), to(&last));
        match sampler {
            Sampler::Pndm => assert_eq!(whole.last(), last.last()),
            Sampler::DdimInverse => assert_eq!(whole[..6], last[..]),
            _ => assert!(whole.ends_with(&last), "{sampler:?}: {last:?} of {whole:?}"),
        }
    }
}
