//! What the sampler is told, in diffusers' words.

use serde_json::{Value, json};

use super::fields::Fields;
use crate::Result;
use crate::diffusion::Variance;
use crate::sample::{Algorithm, Sampler, SamplerOptions, Sigmas, Solver};

/// The fields that say how levels are spread in sigma.
const SPREADS: [(&str, Sigmas); 4] = [
    ("use_karras_sigmas", Sigmas::Karras),
    ("use_exponential_sigmas", Sigmas::Exponential),
    ("use_beta_sigmas", Sigmas::Beta),
    ("use_lu_lambdas", Sigmas::Lambdas),
];

/// The options of a file.
pub(super) fn read(fields: &mut Fields, sampler: Sampler) -> Result<SamplerOptions> {
    let usual = SamplerOptions::default();
    let mut sigmas = Sigmas::OfTimes;
    for (name, spread) in SPREADS {
        if fields.take(name, false)? {
            if sigmas != Sigmas::OfTimes {
                return Err(fields.refuse(name, "one spread of sigmas at a time", &json!(true)));
            }
            sigmas = spread;
        }
    }
    let variance: Option<Variance> = fields.take("variance_type", None)?;
    let runge_kutta = !fields.take("skip_prk_steps", false)?;
    let least: Value = fields.take("lambda_min_clipped", json!("-Infinity"))?;
    let lambda_min = match (&least, least.as_f64()) {
        (Value::Null, _) => f64::NEG_INFINITY,
        (Value::String(word), _) if word == "-Infinity" => f64::NEG_INFINITY,
        (_, Some(number)) => number,
        _ => return Err(fields.refuse("lambda_min_clipped", "a number or -Infinity", &least)),
    };
    let options = SamplerOptions {
        variance: variance.unwrap_or(usual.variance),
        set_alpha_to_one: fields.take("set_alpha_to_one", usual.set_alpha_to_one)?,
        algorithm: algorithm(fields)?,
        order: fields.take("solver_order", usual.order)?,
        solver: solver(fields, sampler)?,
        lower_order_final: fields.take("lower_order_final", usual.lower_order_final)?,
        euler_at_final: fields.take("euler_at_final", usual.euler_at_final)?,
        predict_x_0: fields.take("predict_x0", usual.predict_x_0)?,
        runge_kutta,
        sigmas,
        final_sigma: fields.take("final_sigmas_type", usual.final_sigma)?,
        lambda_min,
        ..usual
    };
    if !(1..=3).contains(&options.order) {
        return Err(fields.refuse("solver_order", "1, 2 or 3", &json!(options.order)));
    }
    for (name, implemented) in not_implemented(sampler) {
        if fields.class.0.contains_key(name) {
            fields.only(name, implemented)?;
        }
    }
    Ok(options)
}

/// Fields of which one value alone is implemented.
fn not_implemented(sampler: Sampler) -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("disable_corrector", json!([])),
        ("interpolation_type", json!("linear")),
        ("invert_sigmas", json!(false)),
        ("shift_terminal", Value::Null),
        ("solver_p", Value::Null),
        ("stochastic_sampling", json!(false)),
        ("timestep_type", json!("discrete")),
        ("use_dynamic_shifting", json!(false)),
        ("use_flow_sigmas", json!(false)),
    ];
    if !matches!(sampler, Sampler::EdmEuler | Sampler::EdmDpm) {
        all.extend([("sigma_max", Value::Null), ("sigma_min", Value::Null)]);
    }
    all
}

/// DPM-Solver's integral; the word of DEIS stands for the default, as in diffusers.
fn algorithm(fields: &mut Fields) -> Result<Algorithm> {
    let word: Value = fields.take("algorithm_type", json!("dpmsolver++"))?;
    if word == "deis" {
        return Ok(Algorithm::DpmSolverPlusPlus);
    }
    serde_json::from_value(word.clone()).map_err(|_| {
        fields.refuse(
            "algorithm_type",
            "\"dpmsolver\", \"dpmsolver++\", \"sde-dpmsolver\" or \"sde-dpmsolver++\"",
            &word,
        )
    })
}

/// How a step is put together; the words of other classes stand for the class's own default, as in diffusers.
fn solver(fields: &mut Fields, sampler: Sampler) -> Result<Solver> {
    let solver: Solver = fields.take("solver_type", Solver::Midpoint)?;
    let (own, default): (&[Solver], Solver) = match sampler {
        Sampler::UniPc => (&[Solver::Bh1, Solver::Bh2], Solver::Bh2),
        Sampler::Deis => (&[Solver::LogRho], Solver::LogRho),
        _ => (&[Solver::Midpoint, Solver::Heun], Solver::Midpoint),
    };
    Ok(if own.contains(&solver) { solver } else { default })
}

/// What a field of the sampler says here.
pub(super) fn field(name: &str, options: &SamplerOptions) -> Option<Value> {
    let spread = SPREADS.iter().find(|(field, _)| *field == name);
    if let Some((_, spread)) = spread {
        return Some(json!(options.sigmas == *spread));
    }
    Some(match name {
        // DPM-Solver has the field for networks that learned a variance, and does not read their second half.
        "variance_type" if options.variance == Variance::FixedSmall => return None,
        "variance_type" => json!(options.variance),
        "set_alpha_to_one" => json!(options.set_alpha_to_one),
        "algorithm_type" if options.solver == Solver::LogRho => json!("deis"),
        "algorithm_type" => json!(options.algorithm),
        "solver_order" => json!(options.order),
        "solver_type" => json!(options.solver),
        "lower_order_final" => json!(options.lower_order_final),
        "euler_at_final" => json!(options.euler_at_final),
        "predict_x0" => json!(options.predict_x_0),
        "skip_prk_steps" => json!(!options.runge_kutta),
        "final_sigmas_type" => json!(options.final_sigma),
        "lambda_min_clipped" if options.lambda_min.is_finite() => json!(options.lambda_min),
        _ => return None,
    })
}
