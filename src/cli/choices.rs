//! The words that a flag accepts, from the library's own lists.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::diffusion::Variance;
use crate::diffusion::likelihood::Cdf;
use crate::golden::oracle::Only;
use crate::sample::{Sampler, Spacing};
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

/// What alone `golden compute` computes.
pub(super) fn precisions() -> impl TypedValueParser<Value = Only> {
    words([
        ("f64", Only::F64, "The truth alone: output, grad.NAME in float64"),
        ("f32", Only::F32, "The bits of the contract alone: bits.NAME in float32"),
    ])
}
