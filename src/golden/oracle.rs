//! Golden values on demand: from the inputs of a case to everything that is known of its results.

use super::case::{Case, Tensor};
use super::ops::{Results, evaluate};
use super::tolerance::tolerances;
use crate::{Error, Result};

/// The one thing that is computed of a case, where not everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// The truth alone: `output`, `grad.NAME` in float64.
    F64,
    /// The bits of the contract alone: `bits.NAME` in float32.
    F32,
}

/// Adds to a case the truth, the bits of the contract and the tolerances; or one of the first two alone.
///
/// # Errors
/// What the operation does not take, by name; an input that the case's format does not hold; a result that is not finite.
pub fn complete(case: &mut Case, only: Option<Only>) -> Result<()> {
    case.tensors.retain(|name, _| super::ops::is_input(name));
    check_held(case)?;
    if only != Some(Only::F32) {
        let truth = evaluate::<f64>(case)?;
        check_finite(case, &truth)?;
        case.order = truth.iter().map(|(name, _)| name.clone()).collect();
        if only.is_none() {
            let tolerances = tolerances(case, &truth)?;
            for ((name, tolerance), (_, truth)) in tolerances.iter().zip(&truth) {
                let any = |tol: f64, y: f64| !tol.is_finite() && y.abs() <= case.format.largest();
                if tolerance.iter().zip(truth).any(|(&tol, &y)| any(tol, y)) {
                    return Err(out_of_reach(case, &format!("tol.{name}")));
                }
            }
            insert(case, "tol.", tolerances, Tensor::F64);
        }
        insert(case, "", truth, Tensor::F64);
    }
    if only != Some(Only::F64) {
        // Of the inputs alone: results are never inputs, so those that stand there already change nothing.
        let bits = evaluate::<f32>(case)?;
        if let Some((name, _)) = bits.iter().find(|(_, values)| values.iter().any(|x| x.is_nan())) {
            return Err(out_of_reach(case, &format!("bits.{name}")));
        }
        case.order = bits.iter().map(|(name, _)| name.clone()).collect();
        insert(case, "bits.", bits, Tensor::F32);
    }
    Ok(())
}

/// A backend of a half format could not be given other numbers.
fn check_held(case: &Case) -> Result<()> {
    for (name, tensor) in &case.tensors {
        if let Tensor::F32(x) = tensor
            && let Some(x) = x
                .iter()
                .find(|&&x| x.is_finite() && (case.format.nearest(x) != x || x.abs() as f64 > case.format.largest()))
        {
            let place = format!("{}: {name}", case.path.display());
            let expected = format!("numbers that {0} holds, as its dtype is {0}: round them first", case.format.name());
            return Err(Error::value(place, expected, x));
        }
    }
    Ok(())
}

fn insert<F>(case: &mut Case, prefix: &str, results: Results<F>, tensor: fn(ndarray::ArrayD<F>) -> Tensor) {
    case.tensors.extend(results.into_iter().map(|(name, values)| (format!("{prefix}{name}"), tensor(values))));
}

fn out_of_reach(case: &Case, name: &str) -> Error {
    let expected = format!("a case that {} can compute: inputs whose squares are finite in it", case.format.name());
    Error::value(format!("{}: {name}", case.path.display()), expected, "a result without any digits")
}

fn check_finite(case: &Case, results: &Results<f64>) -> Result<()> {
    match results.iter().find(|(_, values)| values.iter().any(|x| !x.is_finite())) {
        Some((name, _)) => {
            let place = format!("{}: {name}", case.path.display());
            Err(Error::value(place, "a finite result: golden values hold no NaN and no infinity", "one that is not"))
        }
        None => Ok(()),
    }
}
