use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::checkpoint::pipeline;
use crate::diffusion::Prediction;
use crate::pipeline::Scheduler;
use crate::sample::{Sampler, SamplerOptions, Spacing};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The smallest model with classes that is at hand, told another prediction.
fn model(prediction: Prediction) -> Pipeline {
    let tiny = pipeline::read(&root().join("data/golden/models/conditional")).expect("a model of the kit").pipeline;
    let scheduler = Scheduler { prediction, ..tiny.scheduler().clone() };
    let null = tiny.network().labels().map(|labels| labels - 1);
    Pipeline::new(tiny.network().clone(), tiny.weights().clone(), scheduler, null).expect("the same parts")
}

fn settings(model: &Pipeline, sampler: Sampler, options: SamplerOptions, steps: usize) -> Settings {
    let scheduler = Scheduler { sampler, options, spacing: Spacing::Trailing, ..model.scheduler().clone() };
    let chain = scheduler.chain(steps).expect("a chain");
    let guidance = if model.guides() { 2.0 } else { 1.0 };
    Settings { seed: 3, sampler, options, chain, class: None, guidance, guidance_interval: None }
}

fn explained(model: &Pipeline, settings: &Settings) -> Vec<Explanation> {
    let t = settings.chain[0].from.t() as usize;
    let steps = steps_from(model, settings, 1, (t, settings.chain.len()), |_| ()).expect("a chain");
    let pixel = Pixel { row: 2, column: 3, channel: 0 };
    let each = (0..steps.len()).map(|i| {
        let before = i.checked_sub(1).map(|before| &steps[before]);
        Explanation::new(model, settings, 1, (before, &steps[i]), pixel).expect("a pixel of the picture")
    });
    each.collect()
}

fn samplers() -> Vec<(Sampler, SamplerOptions)> {
    let plain = SamplerOptions::default();
    let mut all: Vec<_> = Sampler::ALL.iter().filter(|s| **s != Sampler::DdimInverse).map(|s| (*s, plain)).collect();
    all.push((Sampler::Ddim, SamplerOptions { eta: 0.7, ..plain }));
    all.push((Sampler::Ddpm, SamplerOptions { variance: crate::diffusion::Variance::FixedLarge, ..plain }));
    all
}

#[test]
fn numbers_that_are_put_in_give_the_result_that_is_printed() {
    let mut seen = 0;
    for prediction in [Prediction::Epsilon, Prediction::Sample, Prediction::V] {
        let model = model(prediction);
        for (sampler, options) in samplers() {
            for explanation in explained(&model, &settings(&model, sampler, options, 4)) {
                let lines = explanation.sections.iter().flat_map(|section| &section.lines);
                for line in lines.filter(|line| !line.numbers.is_empty()) {
                    let found = Expression::value(&line.numbers);
                    // Sums of f32 products that cancel lose what their largest term's rounding is: 2⁻²⁴ of at most 200.
                    let allowed = 2e-5 + 2e-6 * line.value.abs();
                    let what = format!("{sampler:?} {prediction:?}: {} = {} = {}", line.name, line.numbers, line.value);
                    assert!((found - line.value).abs() <= allowed, "{what}, found {found}");
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 1000, "{seen} lines");
}

#[test]
fn sum_of_the_terms_at_the_pixel_is_the_next_picture_to_the_bit() {
    let model = model(Prediction::V);
    for (sampler, options) in samplers() {
        for explanation in explained(&model, &settings(&model, sampler, options, 5)) {
            let products = explanation.step.terms.iter().map(|t| t.weight as f32 * explanation.value(&t.name));
            let sum = products.reduce(|sum, product| sum + product).expect("a term");
            assert_eq!(sum, explanation.value("x_s"), "{sampler:?} step {}", explanation.step.number);
        }
    }
}

#[test]
fn places_are_functions_of_the_source() {
    let model = model(Prediction::Epsilon);
    let mut places = BTreeSet::new();
    for (sampler, options) in samplers() {
        for explanation in explained(&model, &settings(&model, sampler, options, 3)) {
            places.extend(explanation.sections.into_iter().map(|section| section.place));
        }
    }
    for place in places {
        let (file, function) = place.split_once(": ").expect("FILE: FUNCTION");
        let source = std::fs::read_to_string(root().join("src").join(file)).expect(&place);
        let defined = ["<", "("].iter().any(|end| source.contains(&format!("fn {function}{end}")));
        assert!(defined, "{place}");
    }
}

#[test]
fn text_has_eighty_columns() {
    for prediction in [Prediction::Epsilon, Prediction::V] {
        let model = model(prediction);
        for (sampler, options) in samplers() {
            for explanation in explained(&model, &settings(&model, sampler, options, 4)) {
                let text = text(&explanation.sections);
                let long = text.lines().find(|line| line.chars().count() > 80);
                assert_eq!(long, None, "{sampler:?}");
            }
        }
    }
}

#[test]
fn times_and_pixels_that_are_not_there_are_refused_with_those_that_are() {
    let model = model(Prediction::Epsilon);
    let settings = settings(&model, Sampler::Ddim, SamplerOptions::default(), 4);
    let refusal = steps_from(&model, &settings, 0, (7, 1), |_| ()).unwrap_err().to_string();
    assert!(refusal.starts_with("--t: expected a time that a chain of 4 steps visits"), "{refusal}");
    let t = settings.chain[1].from.t() as usize;
    let refusal = jumping(&model, settings.clone(), (t, t)).unwrap_err().to_string();
    assert!(refusal.starts_with(&format!("--t-prev: expected 0 to {}", t - 1)), "{refusal}");
    let heun = Settings { sampler: Sampler::DpmMultistep, ..settings.clone() };
    assert!(jumping(&model, heun, (t, 0)).unwrap_err().to_string().contains("dpm-multistep"));
    let steps = steps_from(&model, &settings, 0, (t, 1), |_| ()).expect("a time of the chain");
    let step = steps.last().expect("a step");
    let pixel = |row, channel| Pixel { row, column: 0, channel };
    for (pixel, said) in [(pixel(99, 0), "--pixel"), (pixel(0, 3), "--channel")] {
        let refusal = Explanation::new(&model, &settings, 0, (None, step), pixel).unwrap_err().to_string();
        assert!(refusal.starts_with(said), "{refusal}");
    }
}

#[test]
fn jump_to_the_image_takes_all_of_the_noise_away() {
    let model = model(Prediction::Epsilon);
    let plain = settings(&model, Sampler::Ddpm, SamplerOptions::default(), 4);
    let t = plain.chain[1].from.t() as usize;
    let jump = jumping(&model, plain, (t, 0)).expect("a jump");
    let steps = steps_from(&model, &jump, 0, (t, 1), |_| ()).expect("a step");
    let last = steps.last().expect("a step");
    assert_eq!((last.from.t, last.to.t), (t as f64, 0.0));
    assert_eq!(last.tensor("x_s"), last.tensor("x_0_hat"));
}

/// What a reader's calculator makes of numbers that are put in: + − * /, parentheses, sqrt and exp.
struct Expression<'a>(&'a str);

impl<'a> Expression<'a> {
    fn value(text: &'a str) -> f64 {
        let mut expression = Expression(text);
        let value = expression.sum();
        assert!(expression.0.trim().is_empty(), "{text}: cannot read {}", expression.0);
        value
    }

    fn next(&mut self, word: &str) -> bool {
        let rest = self.0.trim_start();
        let found = rest.strip_prefix(word);
        self.0 = found.unwrap_or(rest);
        found.is_some()
    }

    fn sum(&mut self) -> f64 {
        let mut value = self.product();
        loop {
            if self.next("+ ") {
                value += self.product();
            } else if self.next("- ") {
                value -= self.product();
            } else {
                return value;
            }
        }
    }

    fn product(&mut self) -> f64 {
        let mut value = self.factor();
        loop {
            if self.next("* ") {
                value *= self.factor();
            } else if self.next("/ ") {
                value /= self.factor();
            } else {
                return value;
            }
        }
    }

    fn factor(&mut self) -> f64 {
        for (word, function) in [
            ("sqrt(", f64::sqrt as fn(f64) -> f64),
            ("exp(", crate::numerics::elementary::exp),
            ("-exp(", |x| -crate::numerics::elementary::exp(x)),
            ("(", |x| x),
        ] {
            if self.next(word) {
                let value = self.sum();
                assert!(self.next(")"), "no ) before {}", self.0);
                return function(value);
            }
        }
        let rest = self.0.trim_start();
        let end = rest.char_indices().find(|&(i, c)| {
            !(c.is_ascii_digit() || c == '.' || c == 'e' || (c == '-' && (i == 0 || rest[..i].ends_with('e'))))
        });
        let (number, rest) = rest.split_at(end.map_or(rest.len(), |(i, _)| i));
        self.0 = rest;
        number.parse().unwrap_or_else(|_| panic!("no number: {number:?} before {rest}"))
    }
}

#[test]
fn the_calculator_of_these_tests_knows_its_rules() {
    assert_eq!(Expression::value("-2 + 3 * (1 - sqrt(4)) / 2"), -3.5);
    assert_eq!(Expression::value("1e-3 * -2.5"), -2.5e-3);
}
