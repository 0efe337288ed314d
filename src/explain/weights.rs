//! How a sampler's weights come about: formulas for those that a reader works through by hand, for others the weights alone.

use super::line::{Line, Section, name_of, number};
use crate::diffusion::Variance;
use crate::sample::{Algorithm, Sampler, Settings, Solver};
use crate::trace::{Place, StepRecord};

/// Where each sampler is, and its source.
pub(super) fn place(sampler: Sampler) -> (&'static str, &'static str) {
    match sampler {
        Sampler::Ddpm => ("sample/ddpm.rs: ddpm", "Ho et al. 2020, Eq. 7"),
        Sampler::Ddim => ("sample/ddim.rs: ddim", "Song et al. 2021, Eq. 12 and Eq. 16"),
        Sampler::DdimInverse => ("sample/ddim.rs: ddim_inverse", "Song et al. 2021, section 4.3"),
        Sampler::Euler | Sampler::FlowEuler | Sampler::EdmEuler => {
            ("sample/euler.rs: euler", "Song et al. 2021, Score-Based, Eq. 13")
        }
        Sampler::EulerAncestral => ("sample/euler_ancestral.rs: euler_ancestral", "Song et al. 2021, Eq. 16, in sigma"),
        Sampler::Heun => ("sample/heun.rs: heun", "Karras et al. 2022, Algorithm 1"),
        Sampler::Lms => ("sample/lms.rs: lms", "an Adams-Bashforth method in sigma"),
        Sampler::Pndm => ("sample/pndm.rs: pndm", "Liu et al. 2022, Eq. 9 and Algorithm 2"),
        Sampler::DpmMultistep | Sampler::EdmDpm => {
            ("sample/dpm/multistep.rs: multistep", "Lu et al. 2022, DPM-Solver++, Algorithm 2")
        }
        Sampler::DpmSinglestep => ("sample/dpm/singlestep.rs: singlestep", "Lu et al. 2022, DPM-Solver"),
        Sampler::UniPc => ("sample/unipc.rs: unipc", "Zhao et al. 2023"),
        Sampler::Deis => ("sample/deis.rs: deis", "Zhang and Chen 2023"),
    }
}

/// The section of the weights.
pub(super) fn weights(step: &StepRecord, before: Option<&StepRecord>, settings: &Settings) -> Section {
    let (place, source) = place(settings.sampler);
    let (t, s) = (name_of(&step.from), name_of(&step.to));
    let options = &settings.options;
    let second_order = options.solver == Solver::Midpoint && step.terms.len() <= 3;
    let lines = match settings.sampler {
        Sampler::Ddpm => ddpm(step, options.variance, (&t, &s)),
        Sampler::Ddim => ddim(step, options.eta, (&t, &s)),
        Sampler::Euler | Sampler::FlowEuler | Sampler::EdmEuler => euler(step, (&t, &s)),
        Sampler::DpmMultistep if options.algorithm == Algorithm::DpmSolverPlusPlus && second_order => {
            dpm(step, before, (&t, &s))
        }
        _ => step.terms.iter().map(|term| Line::new(format!("w({})", term.name), "", "", term.weight)).collect(),
    };
    Section { title: format!("the weights of {t} -> {s}"), place: place.into(), source: source.into(), lines }
}

fn weight(step: &StepRecord, name: &str) -> f64 {
    step.terms.iter().find(|term| term.name == name).map_or(0.0, |term| term.weight)
}

/// Both ᾱ, as numbers.
fn alpha_bars(step: &StepRecord) -> [String; 2] {
    [step.from.alpha_bar, step.to.alpha_bar].map(number)
}

fn ddpm(step: &StepRecord, variance: Variance, (t, s): (&str, &str)) -> Vec<Line> {
    let [at, to] = alpha_bars(step);
    let (beta, beta_tilde) = (step.beta.unwrap_or(0.0), step.beta_tilde.unwrap_or(0.0));
    let b = number(beta);
    let line = |name: &str, formula: String, numbers: String, value| Line::new(name, formula, numbers, value);
    let beta_line = line("beta", format!("1 - alpha_bar_{t} / alpha_bar_{s}"), format!("1 - {at} / {to}"), beta);
    let w_0 = format!("sqrt(alpha_bar_{s}) beta / (1 - alpha_bar_{t})");
    let w_0 = line("w(x_0_hat)", w_0, format!("sqrt({to}) * {b} / (1 - {at})"), weight(step, "x_0_hat"));
    let w_t = format!("sqrt(1 - beta) (1 - alpha_bar_{s}) / (1 - alpha_bar_{t})");
    let w_t = line(&format!("w(x_{t})"), w_t, format!("sqrt(1 - {b}) * (1 - {to}) / (1 - {at})"), weight(step, "x_t"));
    let mut lines = vec![beta_line, w_0, w_t];
    let drawn = weight(step, "z");
    if drawn == 0.0 {
        lines.push(Line::new("w(z)", "", "", 0.0).with_note("the last step adds no noise: x_0 is the mean"));
    } else if variance.is_learned() {
        let note = "each pixel has a sigma of its own, which the network says; z stands for sigma z here";
        lines.push(Line::new("w(z)", "", "", drawn).with_note(note));
    } else if matches!(variance, Variance::FixedSmall | Variance::FixedSmallLog) {
        let formula = format!("beta (1 - alpha_bar_{s}) / (1 - alpha_bar_{t})");
        let small = number(beta_tilde);
        lines.push(line("beta_tilde", formula, format!("{b} * (1 - {to}) / (1 - {at})"), beta_tilde));
        lines.push(line("w(z)", "sqrt(beta_tilde)".into(), format!("sqrt({small})"), drawn));
    } else {
        lines.push(line("w(z)", "sqrt(beta)".into(), format!("sqrt({b})"), drawn));
    }
    lines
}

fn ddim(step: &StepRecord, eta: f64, (t, s): (&str, &str)) -> Vec<Line> {
    let [at, to] = alpha_bars(step);
    let (beta, beta_tilde) = (step.beta.unwrap_or(0.0), step.beta_tilde.unwrap_or(0.0));
    let drawn = weight(step, "z");
    let mut lines = vec![Line::new("w(x_0_hat)", format!("signal_{s}"), "", weight(step, "x_0_hat"))];
    let of_eps = weight(step, "eps_hat");
    if eta == 0.0 {
        lines.push(Line::new("w(eps_hat)", format!("sigma_{s}"), "", of_eps));
        lines.push(Line::new("w(z)", "", "", drawn).with_note("eta = 0: nothing is drawn"));
        return lines;
    }
    let formula = format!("(1 - alpha_bar_{t} / alpha_bar_{s}) (1 - alpha_bar_{s}) / (1 - alpha_bar_{t})");
    let numbers = format!("{} * (1 - {to}) / (1 - {at})", number(beta));
    lines.push(Line::new("beta_tilde", formula, numbers, beta_tilde));
    lines.push(Line::new("w(z)", "eta sqrt(beta_tilde)", format!("{eta} * sqrt({})", number(beta_tilde)), drawn));
    let numbers = format!("sqrt(1 - {to} - {} * {})", number(drawn), number(drawn));
    lines.push(Line::new("w(eps_hat)", format!("sqrt(1 - alpha_bar_{s} - w(z) w(z))"), numbers, of_eps));
    lines
}

fn euler(step: &StepRecord, (t, s): (&str, &str)) -> Vec<Line> {
    let difference = |name: &str, of: fn(&Place) -> f64| {
        let (formula, [a, b]) = (format!("{name}_{s} - {name}_{t}"), [of(&step.to), of(&step.from)].map(number));
        (formula, format!("{a} - {b}"))
    };
    let lines = step.terms.iter().map(|term| match term.name.as_str() {
        "x_0_hat" => {
            let (formula, numbers) = difference("signal", |place| place.signal);
            Line::new("w(x_0_hat)", formula, numbers, term.weight)
        }
        "eps_hat" => {
            let (formula, numbers) = difference("sigma", |place| place.sigma);
            Line::new("w(eps_hat)", formula, numbers, term.weight)
        }
        other => Line::new(format!("w({other})"), "", "", term.weight),
    });
    lines.collect()
}

/// DPM-Solver++ of order 1 or 2 by the midpoint.
fn dpm(step: &StepRecord, before: Option<&StepRecord>, (t, s): (&str, &str)) -> Vec<Line> {
    let (of_x, of_m0) = (weight(step, "x_t"), weight(step, "x_0_hat"));
    let [a, b, from] = [step.to.signal, step.to.sigma, step.from.sigma].map(number);
    let of_x = Line::new(format!("w(x_{t})"), format!("sigma_{s} / sigma_{t}"), format!("{b} / {from}"), of_x);
    let (Some(at), Some(to)) = (step.from.lambda, step.to.lambda) else {
        let note = "the clean image is infinitely far in lambda: e^-h = 0, and x is x_0_hat";
        return vec![of_x, Line::new("w(x_0_hat)", format!("signal_{s}"), "", of_m0).with_note(note)];
    };
    let lambda = |t: &str, value| Line::new(format!("lambda_{t}"), format!("ln(signal_{t} / sigma_{t})"), "", value);
    let h = to - at;
    let h_line = Line::new("h", format!("lambda_{s} - lambda_{t}"), format!("{} - {}", number(to), number(at)), h);
    let mut lines = vec![lambda(t, at), lambda(s, to), h_line, of_x];
    let first = format!("{a} * (1 - exp(-{}))", number(h));
    let last = before.and_then(|step| step.from.lambda).filter(|_| step.terms.len() == 3);
    let Some(last) = last else {
        lines.push(Line::new("w(x_0_hat)", format!("signal_{s} (1 - e^-h)"), first, of_m0));
        return lines;
    };
    let r = (at - last) / h;
    let r_line = Line::new("r", "(the step before in lambda) / h", format!("{} / {}", number(at - last), number(h)), r);
    lines.push(r_line);
    let (formula, r) = (format!("signal_{s} (1 - e^-h)"), number(r));
    lines.push(Line::new(
        "w(x_0_hat)",
        format!("{formula} (1 + 1 / (2 r))"),
        format!("{first} * (1 + 1 / (2 * {r}))"),
        of_m0,
    ));
    let of_m1 = step.terms[2].weight;
    let name = format!("w({})", step.terms[2].name);
    lines.push(Line::new(name, format!("-{formula} / (2 r)"), format!("-{first} / (2 * {r})"), of_m1));
    lines
}
