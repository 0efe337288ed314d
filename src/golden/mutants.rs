//! Known mistakes, each with the values that it gives: what a tolerance has to reject, and a backend's error to be named.

mod attention;
mod layers;
mod likelihood;
mod norms;
mod optimizer;
mod processes;
mod quality;
mod rounding;
mod samplers;
mod sizes;
mod stored;
mod times;
mod training;
mod transformer;
mod unet;

use ndarray::ArrayD;
use serde_json::Value;

use super::case::{Case, Tensor};
use super::ops::{Results, evaluate};
use crate::Result;
pub use stored::add_mutant;

/// A mistake that implementations are known to make.
#[derive(Clone, Copy)]
pub struct Mutant {
    /// Its name.
    pub name: &'static str,
    /// What is wrong, in words.
    pub mistake: &'static str,
    /// The wrong results.
    results: fn(&Case) -> Result<Results<f64>>,
}

/// All of them: beside the functions that make them stand tables of what they are in words.
pub fn mutants() -> impl Iterator<Item = &'static Mutant> {
    let tables = [
        rounding::MUTANTS,
        layers::MUTANTS,
        norms::MUTANTS,
        attention::MUTANTS,
        transformer::MUTANTS,
        sizes::MUTANTS,
        times::MUTANTS,
        quality::MUTANTS,
        processes::MUTANTS,
        optimizer::MUTANTS,
        training::MUTANTS,
        unet::MUTANTS,
        likelihood::MUTANTS,
        samplers::MUTANTS,
    ];
    tables.into_iter().flatten()
}

const fn mutant(name: &'static str, mistake: &'static str, results: fn(&Case) -> Result<Results<f64>>) -> Mutant {
    Mutant { name, mistake, results }
}

fn with_attributes(case: &Case, changes: &[(&str, Value)]) -> Result<Results<f64>> {
    let mut wrong = case.clone();
    wrong.attributes.extend(changes.iter().map(|(name, value)| (name.to_string(), value.clone())));
    evaluate(&wrong)
}

fn with_attribute(case: &Case, name: &str, value: Value) -> Result<Results<f64>> {
    with_attributes(case, &[(name, value)])
}

/// With another field of the scheduler's config.
fn with_config(case: &Case, name: &str, value: Value) -> Result<Results<f64>> {
    let mut config = case.attributes["config"].clone();
    config[name] = value;
    with_attribute(case, "config", config)
}

fn steps(case: &Case) -> f64 {
    case.attributes["num_train_timesteps"].as_f64().expect("a number")
}

/// The results whose names start so, times a factor.
fn scaled(case: &Case, start: &str, factor: f64) -> Result<Results<f64>> {
    let mut results = evaluate::<f64>(case)?;
    results.iter_mut().filter(|(name, _)| name.starts_with(start)).for_each(|(_, values)| *values *= factor);
    Ok(results)
}

/// With another input.
fn with_input(case: &Case, name: &str, change: impl Fn(&mut ArrayD<f32>)) -> Result<Results<f64>> {
    let mut wrong = case.clone();
    change(input(&mut wrong, name));
    evaluate(&wrong)
}

/// The float32 input of this name.
fn input<'a>(case: &'a mut Case, name: &str) -> &'a mut ArrayD<f32> {
    match case.tensors.get_mut(&format!("input.{name}")) {
        Some(Tensor::F32(x)) => x,
        _ => panic!("no float32 input {name}"),
    }
}
