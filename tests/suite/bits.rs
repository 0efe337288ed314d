//! `docs/bits.md` is held to the program: its constants by the formulas around them, its checkpoints row by row.

use std::collections::BTreeMap;
use std::path::Path;

use ancestral::checkpoint::{pipeline, weights};
use ancestral::data::{self, Dataset, Order, Shape, Split};
use ancestral::digest::sha256;
use ancestral::layers::activation::{gelu_tanh, gelu_tanh_backward, silu, silu_backward};
use ancestral::numerics::rng::{Stream, state_of_key};
use ancestral::numerics::{Native, Real, elementary as e};
use ancestral::pipeline::Pipeline;
use ancestral::sample::{Sampler, SamplerOptions, Settings, Spacing, draw, spread};
use ancestral::train::{Batch, Preset, Trainer};
use ndarray::{Array4, arr1};

const PAGE: &str = include_str!("../../docs/bits.md");

/// The cells of the table rows of a section.
fn cells(heading: &str) -> Vec<Vec<&'static str>> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(heading)).expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// `-0x1.8p+3`.
fn hexadecimal(text: &str) -> f32 {
    let (sign, digits) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let (mantissa, exponent) = digits.strip_prefix("0x1.").and_then(|rest| rest.split_once('p')).expect("0x1.…p…");
    let fraction = u64::from_str_radix(&format!("{mantissa:0<13}"), 16).expect("digits");
    let exponent = (exponent.parse::<i64>().expect("an exponent") + 1023) as u64;
    let value = sign * f64::from_bits(exponent << 52 | fraction);
    assert_eq!(value as f32 as f64, value, "{text} is no f32");
    value as f32
}

fn fma(a: f32, b: f32, c: f32) -> f32 {
    a.fma::<Native>(b, c)
}

/// Section 3 of the page, line by line.
struct Page(BTreeMap<&'static str, f32>);

impl Page {
    fn new() -> Self {
        let rows = cells("3. Elementary functions").into_iter().flatten().filter(|cell| cell.starts_with('`'));
        let names: Vec<&str> = rows.map(|cell| cell.trim_matches('`')).collect();
        Page(names.chunks(2).map(|pair| (pair[0], hexadecimal(pair[1]))).collect())
    }

    fn polynomial(&self, letter: char, x: f32) -> f32 {
        let [c0, c1, c2, c3, c4] = [0, 1, 2, 3, 4].map(|i| self.0[format!("{letter}{i}").as_str()]);
        fma(fma(fma(fma(c4, x, c3), x, c2), x, c1), x, c0)
    }

    fn reduce(&self, x: f32) -> (f32, i32) {
        let s = fma(x, self.0["LOG2_E"], self.0["R"]);
        let n = s - self.0["R"];
        let integer = (s.to_bits() as i32).wrapping_sub(self.0["R"].to_bits() as i32);
        let (r_hi, r_lo) = (fma(n, -self.0["LN2_HI"], x), n * -self.0["LN2_LO"]);
        let r = r_hi + r_lo;
        let t = r_hi + fma(r * r, self.polynomial('Q', r), r_lo);
        (1.0 + t, integer)
    }

    fn exp(&self, x: f32) -> f32 {
        let x = if x > 89.0 { 89.0 } else { x };
        let (m, n) = self.reduce(if x < -104.0 { -104.0 } else { x });
        m * pow2(n >> 1) * pow2(n.wrapping_sub(n >> 1))
    }

    fn sigmoid(&self, x: f32) -> f32 {
        let (m, n) = self.reduce(if -x.abs() < -104.0 { -104.0 } else { -x.abs() });
        let z = m * pow2(n.wrapping_add(64)) * pow2(-64);
        let c = if x < 0.0 { z } else { 1.0 };
        fma(-c, z / (1.0 + z), c)
    }

    fn tanh(&self, x: f32) -> f32 {
        let a = x.abs();
        let near = fma(a * (a * a), self.polynomial('P', a * a), a);
        let b = if a > 10.0 { 10.0 } else { a };
        let (m, n) = self.reduce(b + b);
        let far = 1.0 - 2.0 / (m * pow2(n) + 1.0);
        if a < 0.625 { near } else { far }.copysign(x)
    }

    /// SiLU, its slope, GELU, its slope.
    fn activations(&self, x: f32) -> [f32; 4] {
        let (s, [a, b, b3]) = (self.sigmoid(x), ["A", "B", "B3"].map(|name| self.0[name]));
        let h = self.tanh(a * (x + b * x * x * x));
        let slope = 0.5 * (1.0 + h) + 0.5 * x * (1.0 - h * h) * (a * (1.0 + b3 * x * x));
        [x * s, s * fma(x, 1.0 - s, 1.0), 0.5 * x * (1.0 + h), slope]
    }
}

fn pow2(k: i32) -> f32 {
    f32::from_bits((k.wrapping_add(127) as u32) << 23)
}

#[test]
fn formulas_and_constants_of_the_page_of_bits_are_the_functions() {
    let page = Page::new();
    assert_eq!(page.0.len(), 17);
    let patterns = (0..=u32::MAX).step_by(1_048_573).map(f32::from_bits);
    for x in patterns.chain((-8192..8192).map(|i| i as f32 / 650.0)) {
        let one = |y: ndarray::Array1<f32>| y[0];
        let (at, dy) = (|| arr1(&[x]), || arr1(&[1.0f32]));
        let activations = [
            one(silu(at())),
            one(silu_backward(at(), dy())),
            one(gelu_tanh(at())),
            one(gelu_tanh_backward(at(), dy())),
        ];
        let ours = [e::exp_f32::<Native>(x), e::sigmoid_f32::<Native>(x), e::tanh_f32::<Native>(x)];
        let [pages, ours] = [
            [&[page.exp(x), page.sigmoid(x), page.tanh(x)][..], &page.activations(x)].concat(),
            [&ours[..], &activations].concat(),
        ];
        for (i, (page, ours)) in pages.iter().zip(&ours).enumerate() {
            assert!(page.to_bits() == ours.to_bits() || page.is_nan() && ours.is_nan(), "{i} of {x:e}: {page}, {ours}");
        }
    }
}

/// The numbers of a constant in a source file.
fn constants(source: &str, name: &str) -> Vec<f64> {
    let (_, rest) = source.split_once(&format!("const {name}: ")).expect(name);
    let (_, value) = rest.split_once(" = ").expect("a value");
    let value = value.split(';').next().expect("an end").replace('_', "");
    match value.strip_prefix("f32::from") {
        Some(bits) => {
            let bits = u32::from_str_radix(bits.trim_start_matches("bits(0x").trim_end_matches(')'), 16);
            vec![f32::from_bits(bits.expect("bits")).into()]
        }
        None => value.trim_matches(['[', ']']).split(", ").map(|number| number.parse().expect("a number")).collect(),
    }
}

/// The sweep above sees no last digit of the highest coefficients.
#[test]
fn constants_of_the_page_of_bits_are_those_of_the_source() {
    let page = Page::new().0;
    let [exp, tanh, gelu] = [
        include_str!("../../src/numerics/elementary/exp.rs"),
        include_str!("../../src/numerics/elementary/tanh.rs"),
        include_str!("../../src/layers/activation.rs"),
    ];
    let one = |source, name| constants(source, name)[0];
    let mut expected = vec![
        ("LOG2_E".to_string(), std::f64::consts::LOG2_E),
        ("R".into(), one(exp, "ROUNDER")),
        ("LN2_HI".into(), one(exp, "LN2_HI")),
        ("LN2_LO".into(), one(exp, "LN2_LO")),
        ("A".into(), one(gelu, "GELU_A")),
        ("B".into(), one(gelu, "GELU_B")),
        ("B3".into(), 3.0 * one(gelu, "GELU_B")),
    ];
    for (letter, source) in [('Q', exp), ('P', tanh)] {
        let coefficients = constants(source, &letter.to_string()).into_iter().enumerate();
        expected.extend(coefficients.map(|(i, coefficient)| (format!("{letter}{i}"), coefficient)));
    }
    let page: Vec<(String, u32)> = page.into_iter().map(|(name, value)| (name.into(), value.to_bits())).collect();
    let mut expected: Vec<(String, u32)> =
        expected.into_iter().map(|(name, value)| (name, (value as f32).to_bits())).collect();
    expected.sort();
    assert_eq!(page, expected);
}

#[test]
fn checkpoints_of_the_page_of_bits_are_what_the_program_computes() {
    let mut found = numbers();
    let (tiny, digits) = (images("shapes", 16), images("data/mnist", 28));
    found.push(("SHA-256 of the pixels of the first image of `shapes`".into(), sha256(tiny.bytes(0).expect("bytes"))));
    let model = run(&mut found, "tiny", Preset::Tiny, tiny, 3);
    pictures(&mut found, "tiny", &model, Sampler::Ddim, 4);
    pictures(&mut found, "tiny", &model, Sampler::Ddpm, 10);
    run(&mut found, "digits", Preset::Digits, digits, 2);
    let model = pipeline::read(Path::new("data/models/digits")).expect("the model in the tree").pipeline;
    steps_of_digits(&mut found, &model);

    let table = |rows: &[(String, String)]| {
        rows.iter().map(|(what, value)| format!("| {what} | `{value}` |\n")).collect::<String>()
    };
    let page = cells("10. Checkpoints").into_iter().map(|row| (row[0].to_owned(), row[1].trim_matches('`').to_owned()));
    let page: Vec<(String, String)> = page.collect();
    assert!(page == found, "the page has\n{}the program\n{}", table(&page), table(&found));
}

type Rows = Vec<(String, String)>;

/// The bits of some numbers.
fn bits(numbers: &[f32]) -> String {
    numbers.iter().map(|x| format!("{:08x}", x.to_bits())).collect::<Vec<_>>().join(" ")
}

fn sha256_of(numbers: &[f32]) -> String {
    sha256(&numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

/// Of functions and streams.
fn numbers() -> Rows {
    let row = |what: &str, value: String| (what.to_owned(), value);
    let (state, increment) = state_of_key(42, "train.noise", &[1, 0]);
    let stream = || Stream::keyed(42, "train.noise", &[1, 0]);
    let mut words = stream();
    let mut normals = [0.0f32; 3];
    stream().fill_normal(&mut normals);
    let mut order = Order::new(42, 4096);
    let order: Vec<String> = (0..5).map(|position| order.index_at(position).to_string()).collect();
    let one = arr1(&[1.0f32]);
    vec![
        row(
            "exp, sigmoid, tanh of 1 in f32",
            bits(&[e::exp_f32::<Native>(1.0), e::sigmoid_f32::<Native>(1.0), e::tanh_f32::<Native>(1.0)]),
        ),
        row("silu, gelu of 1 in f32", bits(&[silu(one.clone())[0], gelu_tanh(one)[0]])),
        row("exp of −87.5 in f32", bits(&[e::exp_f32::<Native>(-87.5)])),
        row(
            "exp(0.3), ln(0.3), sin(1000), expm1(−0.3) in f64",
            format!("{:?} {:?} {:?} {:?}", e::exp(0.3), e::ln(0.3), e::sin(1000.0), e::expm1(-0.3)),
        ),
        row("state of stream(42, `train.noise`, 1, 0)", format!("{state:032x}")),
        row("its inc", format!("{increment:032x}")),
        row("its first words", (0..4).map(|_| format!("{:016x}", words.next_u64())).collect::<Vec<_>>().join(" ")),
        row("its first normals in f32", bits(&normals)),
        row("first images of a run on 4096, seed 42", order.join(" ")),
    ]
}

fn images(data: &str, side: usize) -> Dataset {
    let shape = Shape { height: side, width: side, channels: 1 };
    data::load(Path::new(data), Split::Train, shape).expect("images")
}

/// Of a run of so many steps.
fn run(found: &mut Rows, name: &str, preset: Preset, data: Dataset, steps: u64) -> Pipeline {
    let mut add = |what: &str, value: String| found.push((format!("`{name}`: {what}"), value));
    let config = preset.config();
    let schedule = config.scheduler().expect("a preset").schedule;
    let times = config.objective.choice(&schedule, None).times(config.seed, 1, config.batch_size).t;
    let mut order = Order::new(config.seed, data.len());
    let indices: Vec<usize> = (0..config.batch_size as u64).map(|i| order.index_at(i)).collect();
    let x_0 = data.batch::<f32>(&indices);
    let mut eps = Array4::zeros(x_0.dim());
    for (i, mut image) in eps.outer_iter_mut().enumerate() {
        Stream::keyed(config.seed, "train.noise", &[1, i as u64]).fill_normal(image.as_slice_mut().expect("whole"));
    }
    let batch = Batch::noised(&schedule, config.prediction(), &x_0, &times, &eps, None);
    add("times of the first four images of step 1", format!("{:?}", &times[..4]));
    for (what, numbers) in [("x_0", &x_0), ("x_t", &batch.x_t), ("target", &batch.target)] {
        add(&format!("SHA-256 of {what} of step 1"), sha256_of(numbers.as_slice().expect("whole")));
    }

    let mut trainer = Trainer::new(config, data, None).expect("a preset holds");
    let first = &trainer.state().weights;
    let conv_in = trainer.network().layout().entries[0].span;
    add("parameters", first.0.len().to_string());
    add("first values of conv_in.weight", bits(&first[conv_in][..3]));
    add("SHA-256 of all first values, in memory order", sha256_of(&first.0));
    for step in 1..=steps {
        let report = trainer.step().expect("a finite step");
        add(&format!("loss and norm of step {step}"), format!("{:?} {:?}", report.loss, report.grad_norm));
        add("SHA-256 of the weights after it, in memory order", sha256_of(&trainer.state().weights.0));
    }
    let file = weights::to_bytes(trainer.network().layout(), trainer.state().best());
    add(&format!("SHA-256 of the model's file after step {steps}"), sha256(&file));
    trainer.pipeline().expect("a model")
}

/// Of pictures 0 and 1 of a model.
fn pictures(found: &mut Rows, name: &str, model: &Pipeline, sampler: Sampler, steps: usize) {
    let options = SamplerOptions::default();
    let chain = spread(&model.scheduler().schedule, (steps, Spacing::Trailing, 0), sampler, &options).expect("a chain");
    let settings = Settings { sampler, options, chain, ..Settings::new(model).expect("settings") };
    let drawn = draw(model, &settings, 0..2, |_| Ok(())).expect("pictures");
    let what = format!("`{name}`: SHA-256 of pictures 0 and 1 of it, `{}`, {steps} steps", sampler.entry().name);
    found.push((what, sha256_of(drawn.as_slice().expect("whole"))));
}

/// Of the model in the tree: what its second step adds up, and its pictures.
fn steps_of_digits(found: &mut Rows, model: &Pipeline) {
    let settings = Settings::new(model).expect("settings");
    let mut add = |what: &str, value: String| found.push((format!("`digits` in the tree: {what}"), value));
    let from = settings.chain[0].from;
    add("signal and sigma of its first level", format!("{:?} {:?}", from.signal(), from.sigma()));
    let drawn = draw(model, &settings, 0..2, |moment| {
        if moment.number <= 2 {
            let weights: Vec<String> = moment.step.terms.iter().map(|term| format!("{:?}", term.weight)).collect();
            add(&format!("weights of step {}", moment.number), weights.join(" "));
            add("SHA-256 of x after it", sha256_of(moment.x_s.as_slice().expect("whole")));
        }
        Ok(())
    });
    let drawn = drawn.expect("pictures");
    add("SHA-256 of pictures 0 and 1, as `sample` draws them", sha256_of(drawn.as_slice().expect("whole")));
}
