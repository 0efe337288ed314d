//! The words that a flag accepts, from the library's own lists.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::diffusion::Variance;
use crate::diffusion::likelihood::Cdf;
use crate::golden::format::Format;
use crate::golden::oracle::Only;
use crate::sample::{Algorithm, DIALECTS, Dialect, Sampler, Sigmas, Solver, Spacing};
use crate::train::Preset;

/// A parser of the words of a list, each with its meaning and its line of help.
fn words<T: Copy + Send + Sync + 'static>(
    list: impl IntoIterator<Item = (&'static str, T, &'static str)>,
) -> impl TypedValueParser<Value = T> {
    let list: Vec<_> = list.into_iter().collect();
    let values: Vec<PossibleValue> = list.iter().map(|(word, _, help)| PossibleValue::new(word).help(help)).collect();
    PossibleValuesParser::new(values).map(move |word| {
        let found = list.iter().find(|(listed, _, _)| *listed == word);
        found.expect("the parser lets through no other words").1
    })
}

/// The presets by name.
pub(super) fn presets() -> impl TypedValueParser<Value = Preset> {
    words(Preset::ALL.map(|preset| (preset.name(), preset, preset.about())))
}

/// The samplers by name.
pub(super) fn samplers() -> impl TypedValueParser<Value = Sampler> {
    words(Sampler::ALL.iter().map(|&sampler| (sampler.entry().name, sampler, sampler.entry().when)))
}

/// The variances of ancestral sampling.
pub(super) fn variances() -> impl TypedValueParser<Value = Variance> {
    words([("small", Variance::FixedSmall, "The posterior's, beta_tilde"), ("large", Variance::FixedLarge, "beta")])
}

/// How the decoder's probabilities are computed.
pub(super) fn cdfs() -> impl TypedValueParser<Value = Cdf> {
    words([
        ("erf", Cdf::Erf, "The normal distribution itself"),
        ("tanh", Cdf::Tanh, "The approximation of OpenAI's programs"),
    ])
}

/// How a shorter chain is spread.
pub(super) fn spacings() -> impl TypedValueParser<Value = Spacing> {
    words([
        ("leading", Spacing::Leading, "1, 1 + T/N, ..."),
        ("trailing", Spacing::Trailing, "T, T - T/N, ..."),
        ("linspace", Spacing::Linspace, "From T to 1, both visited"),
    ])
}

/// The dialects by name.
pub(super) fn dialects() -> impl TypedValueParser<Value = &'static Dialect> {
    words(DIALECTS.iter().map(|dialect| (dialect.name, dialect, dialect.about)))
}

/// How levels are spread in sigma.
pub(super) fn sigmas() -> impl TypedValueParser<Value = Sigmas> {
    words([
        ("times", Sigmas::OfTimes, "Those of the timesteps"),
        ("karras", Sigmas::Karras, "Even in sigma^(1/7), from T to 1"),
        ("exponential", Sigmas::Exponential, "Even in ln(sigma), and so in lambda"),
        ("beta", Sigmas::Beta, "At quantiles of a beta distribution: more at both ends"),
    ])
}

/// What DPM-Solver integrates.
pub(super) fn algorithms() -> impl TypedValueParser<Value = Algorithm> {
    words([
        ("dpmsolver++", Algorithm::DpmSolverPlusPlus, "The predicted x_0"),
        ("dpmsolver", Algorithm::DpmSolver, "The predicted noise; ends one step short of the image"),
        ("sde-dpmsolver++", Algorithm::SdeDpmSolverPlusPlus, "The predicted x_0, with noise drawn anew"),
        ("sde-dpmsolver", Algorithm::SdeDpmSolver, "The predicted noise, with noise drawn anew"),
    ])
}

/// How a step of higher order is put together.
pub(super) fn solvers() -> impl TypedValueParser<Value = Solver> {
    words([
        ("midpoint", Solver::Midpoint, "DPM-Solver's usual"),
        ("heun", Solver::Heun, "DPM-Solver, with the derivative integrated exactly"),
        ("bh1", Solver::Bh1, "UniPC with B(h) = h"),
        ("bh2", Solver::Bh2, "UniPC with B(h) = e^h - 1, its usual"),
    ])
}

/// What alone `golden compute` computes.
pub(super) fn formats() -> impl TypedValueParser<Value = Format> {
    words([
        ("f32", Format::F32, "float32: what the kit in the repository is for"),
        ("f16", Format::F16, "float16, sums in float32"),
        ("bf16", Format::Bf16, "bfloat16, sums in float32"),
    ])
}

pub(super) fn precisions() -> impl TypedValueParser<Value = Only> {
    words([
        ("f64", Only::F64, "The truth alone: output, grad.NAME in float64"),
        ("f32", Only::F32, "The bits of the contract alone: bits.NAME in float32"),
    ])
}
