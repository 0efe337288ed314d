//! What happens in a step, in order: levels, what the network says, x̂₀ and ε̂, weights, and their sum.

use super::line::{Line, Section, name_of, number};
use super::{Explanation, weights};
use crate::diffusion::{Form, Prediction};
use crate::pipeline::Pipeline;
use crate::sample::Settings;
use crate::trace::StepRecord;

/// All sections of a step.
pub(super) fn sections(
    explanation: &Explanation,
    before: Option<&StepRecord>,
    model: &Pipeline,
    settings: &Settings,
) -> Vec<Section> {
    let step = &explanation.step;
    let form = settings.sampler.entry().form;
    vec![
        levels(step, form),
        network(explanation, model, settings),
        seen(explanation, model, settings),
        weights::weights(step, before, settings),
        sum(explanation),
    ]
}

fn section(title: impl Into<String>, place: &str, source: &str, lines: Vec<Line>) -> Section {
    Section { title: title.into(), place: place.into(), source: source.into(), lines }
}

fn levels(step: &StepRecord, form: Form) -> Section {
    let mut lines = Vec::new();
    for place in [step.from, step.to] {
        let t = name_of(&place);
        let (alpha_bar, signal, sigma) = (number(place.alpha_bar), format!("signal_{t}"), format!("sigma_{t}"));
        match form {
            Form::VariancePreserving if place.t == 0.0 => {
                lines.push(Line::new("alpha_bar_0", "", "", 1.0).with_note("the image itself: no noise"));
            }
            Form::VariancePreserving => {
                let product = match place.t {
                    1.0 => "1 - beta_1".into(),
                    2.0 => "(1 - beta_1) (1 - beta_2)".into(),
                    _ => format!("(1 - beta_1) (1 - beta_2) ... (1 - beta_{t})"),
                };
                lines.push(Line::new(format!("alpha_bar_{t}"), product, "", place.alpha_bar));
                lines.push(Line::new(
                    signal,
                    format!("sqrt(alpha_bar_{t})"),
                    format!("sqrt({alpha_bar})"),
                    place.signal,
                ));
                let (formula, numbers) = (format!("sqrt(1 - alpha_bar_{t})"), format!("sqrt(1 - {alpha_bar})"));
                lines.push(Line::new(sigma, formula, numbers, place.sigma));
            }
            Form::VarianceExploding => lines.push(Line::new(sigma, "", "", place.sigma)),
            Form::Flow => {
                lines.push(Line::new(&sigma, "", "", place.sigma));
                lines.push(Line::new(
                    signal,
                    format!("1 - {sigma}"),
                    format!("1 - {}", number(place.sigma)),
                    place.signal,
                ));
            }
        }
    }
    let t = name_of(&step.from);
    let (title, source) = match form {
        Form::VariancePreserving => {
            (format!("x_{t} = signal_{t} x_0 + sigma_{t} eps"), "the whole noise since x_0; Ho et al. 2020, Eq. 4")
        }
        Form::VarianceExploding => (format!("x_{t} = x_0 + sigma_{t} eps"), "Karras et al. 2022, Eq. 1"),
        Form::Flow => (format!("x_{t} = signal_{t} x_0 + sigma_{t} eps"), "Lipman et al. 2023, Eq. 20"),
    };
    section(title, "diffusion/level.rs: new", source, lines)
}

/// What the network's output is called.
fn word(prediction: Prediction) -> (&'static str, &'static str) {
    match prediction {
        Prediction::Epsilon => ("eps_hat", "the whole noise in x_t"),
        Prediction::Sample => ("x_0_hat", "the image in x_t"),
        Prediction::V => ("v_hat", "v = signal eps - sigma x_0"),
        Prediction::Flow => ("u_hat", "u = eps - x_0"),
        Prediction::Edm(_) => ("F_hat", "F of x_0_hat = c_skip x + c_out F"),
    }
}

fn network(explanation: &Explanation, model: &Pipeline, settings: &Settings) -> Section {
    let (t, output) = (name_of(&explanation.step.seen), f64::from(explanation.value("output")));
    let prediction = model.scheduler().prediction;
    let (name, about) = word(prediction);
    let shown = Line::new(format!("x_{t}"), "", "", explanation.seen().into());
    let mut lines = vec![shown];
    let level = &explanation.step.seen;
    let time = if level.time.fract() == 0.0 { format!("{}", level.time) } else { format!("{:.6}", level.time) };
    let scale = prediction.input_scale(super::seen_level(settings, &explanation.step));
    let fed = if scale == 1.0 { format!("x_{t}") } else { format!("{} x_{t}", number(scale)) };
    let source = format!("it is fed all of {fed} and the time {time}, and says {about}");
    match explanation.asked {
        None => lines.push(Line::new(name, "", "", output)),
        Some(asked) => {
            let (class, none) = (f64::from(asked.class), f64::from(asked.none));
            lines.push(Line::new(format!("{name}(class)"), "", "", class));
            lines.push(Line::new(format!("{name}(none)"), "", "", none));
            let formula = format!("{name}(none) + w ({name}(class) - {name}(none))");
            let numbers = format!("{} + {} * ({} - {})", number(none), asked.weight, number(class), number(none));
            let guidance = "guidance: Ho and Salimans 2022, Eq. 6, whose w is one less";
            lines.push(Line::new(name, formula, numbers, output).with_note(guidance));
        }
    }
    let place = if explanation.asked.is_some() { "denoise/guided.rs: predict" } else { "denoise/network.rs: predict" };
    section("the network looks at all pixels", place, &source, lines)
}

/// x̂₀ and ε̂, from what was said.
fn seen(explanation: &Explanation, model: &Pipeline, settings: &Settings) -> Section {
    let step = &explanation.step;
    let t = name_of(&step.seen);
    let prediction = model.scheduler().prediction;
    let of = |name: &str| number(explanation.value(name).into());
    let mut lines = Vec::new();
    let (mut signal, mut sigma, mut x) = (step.seen.signal, step.seen.sigma, explanation.seen());
    // v is an angle between image and noise: it belongs to a level whose signal^2 + sigma^2 is 1.
    let turned = prediction == Prediction::V && settings.sampler.entry().form != Form::VariancePreserving;
    if turned {
        let scale = signal.hypot(sigma);
        (signal, sigma) = (signal / scale, sigma / scale);
        let numbers = format!("{} / {}", number(x.into()), number(f64::from(scale as f32)));
        x /= scale as f32;
        let formula = format!("x_{t} / sqrt(signal_{t}^2 + sigma_{t}^2), and so signal_{t} and sigma_{t}");
        lines.push(Line::new("x", formula, numbers, x.into()));
    }
    // The factors as the sum knows them: rounded to f32.
    let [a, b] = [signal, sigma].map(|x| number(f64::from(x as f32)));
    let (said, x) = (of("output"), number(x.into()));
    let (formula_of_x_0, numbers_of_x_0) = match prediction {
        Prediction::Epsilon => {
            (format!("(x_{t} - sigma_{t} eps_hat) / signal_{t}"), format!("({x} - {b} * {said}) / {a}"))
        }
        Prediction::V => (format!("signal_{t} x_{t} - sigma_{t} v_hat"), format!("{a} * {x} - {b} * {said}")),
        Prediction::Flow => (
            format!("(x_{t} - sigma_{t} u_hat) / (signal_{t} + sigma_{t})"),
            format!("({x} - {b} * {said}) / ({a} + {b})"),
        ),
        Prediction::Sample => ("what the network said".into(), String::new()),
        Prediction::Edm(_) => ("c_skip x + c_out F".into(), String::new()),
    };
    let unclipped = f64::from(explanation.value("x_0_hat_unclipped"));
    lines.push(Line::new("x_0_hat", formula_of_x_0, numbers_of_x_0, unclipped));
    let (x_0_hat, eps_hat) = (f64::from(explanation.value("x_0_hat")), f64::from(explanation.value("eps_hat")));
    let scheduler = model.scheduler();
    let bounded = scheduler.threshold.is_some() || scheduler.clip.is_some();
    if let Some(range) = scheduler.clip_range() {
        let note =
            if x_0_hat == unclipped { "it is in the range of pixels" } else { "pixels end at these two numbers" };
        let line = Line::new("x_0_hat", format!("clip(x_0_hat, -{range}, {range})"), "", x_0_hat);
        lines.push(line.with_note(note));
    } else if scheduler.threshold.is_some() {
        lines.push(Line::new("x_0_hat", "divided by a quantile of the picture's sizes", "", x_0_hat));
    }
    let again = bounded && settings.options.conventions.eps_from_clipped_x_0;
    let of_x_0 =
        (format!("(x_{t} - signal_{t} x_0_hat) / sigma_{t}"), format!("({x} - {a} * {}) / {b}", number(x_0_hat)));
    let (formula, numbers) = match prediction {
        _ if again => of_x_0,
        Prediction::Sample => of_x_0,
        Prediction::Epsilon => ("what the network said".into(), String::new()),
        Prediction::V => (format!("sigma_{t} x_{t} + signal_{t} v_hat"), format!("{b} * {x} + {a} * {said}")),
        Prediction::Flow => (
            format!("(x_{t} + signal_{t} u_hat) / (signal_{t} + sigma_{t})"),
            format!("({x} + {a} * {said}) / ({a} + {b})"),
        ),
        Prediction::Edm(_) => ("the rest of x: (x - signal x_0_hat) / sigma".into(), String::new()),
    };
    lines.push(Line::new("eps_hat", formula, numbers, eps_hat));
    let source = match prediction {
        Prediction::Epsilon => "Ho et al. 2020, Eq. 15",
        Prediction::V => "Salimans and Ho 2022, section 4",
        Prediction::Flow => "Lipman et al. 2023, Eq. 23",
        Prediction::Edm(_) => "Karras et al. 2022, Eq. 7",
        Prediction::Sample => "x_t = signal x_0 + sigma eps, solved for eps",
    };
    section(format!("the image and the noise in x_{t}"), "denoise/estimate.rs: estimate", source, lines)
}

fn sum(explanation: &Explanation) -> Section {
    let step = &explanation.step;
    let (t, s) = (name_of(&step.from), name_of(&step.to));
    let called = |name: &str| match name {
        "x_t" => format!("x_{t}"),
        other => other.to_string(),
    };
    let formula: Vec<String> = step.terms.iter().map(|term| format!("w({0}) {0}", called(&term.name))).collect();
    let (mut products, mut numbers) = (Vec::new(), Vec::new());
    for term in &step.terms {
        let (weight, value) = (term.weight as f32, explanation.value(&term.name));
        let put_in = format!("{} * {}", number(weight.into()), number(value.into()));
        numbers.push(put_in.clone());
        products.push(Line::new(format!("w {}", called(&term.name)), "", put_in, (weight * value).into()));
    }
    let x_s = f64::from(explanation.value("x_s"));
    let mut lines = products;
    lines.push(Line::new(format!("x_{s}"), formula.join(" + "), numbers.join(" + "), x_s));
    section(
        format!("x_{s} is their sum"),
        "sample/term.rs: weighted_sum",
        "from left to right, each rounded to f32",
        lines,
    )
}
