//! The first number that differs between two runs.

use ndarray::Array4;

use crate::Result;
use crate::pipeline::Pipeline;
use crate::sample::{Settings, draw};

/// Pictures that are compared.
const PICTURES: u64 = 4;

/// Below this, relative to the larger of 1 and the number, two numbers are one that was rounded on two ways: f32 rounds to 6e-8,
/// and a step adds up a few such numbers, some of them amplified by 1/√ᾱ.
const ROUNDING: f64 = 1e-5;

/// What differs first, and where.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    /// The quantity.
    pub what: String,
    /// The step, from 1.
    pub step: usize,
    /// The time of the first dialect there.
    pub t: f64,
    /// The number in both, where it differs most.
    pub values: [f64; 2],
    /// The largest difference of two pixels in the end.
    pub pictures: f64,
}

/// What a step was made of.
struct Record {
    t: f64,
    /// Names and numbers, in the order in which one follows from the other.
    numbers: Vec<(String, Vec<f64>)>,
}

/// The first number that differs between two runs of a model with the same seed.
///
/// # Errors
/// Settings that the model cannot follow.
pub(super) fn first_difference(model: &Pipeline, a: &Settings, b: &Settings) -> Result<Option<Difference>> {
    let ((of_a, last_a), (of_b, last_b)) = (run(model, a)?, run(model, b)?);
    let pictures = last_a.iter().zip(&last_b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    for (step, (record_a, record_b)) in of_a.iter().zip(&of_b).enumerate() {
        for ((name_a, a), (name_b, b)) in record_a.numbers.iter().zip(&record_b.numbers) {
            let found = |what: String, values| Difference { what, step: step + 1, t: record_a.t, values, pictures };
            if name_a != name_b {
                return Ok(Some(found(format!("{name_a}, where the other has {name_b}"), [a[0], b[0]])));
            }
            let off = |a: f64, b: f64| (a - b).abs() / a.abs().max(b.abs()).max(1.0);
            let worst = a.iter().zip(b).max_by(|x, y| off(*x.0, *x.1).total_cmp(&off(*y.0, *y.1)));
            if let Some((&a, &b)) = worst.filter(|(a, b)| off(**a, **b) > ROUNDING) {
                return Ok(Some(found(name_a.clone(), [a, b])));
            }
        }
    }
    if of_a.len() == of_b.len() {
        return Ok(None);
    }
    let step = of_a.len().min(of_b.len());
    let values = [of_a.len() as f64, of_b.len() as f64];
    Ok(Some(Difference { what: "the number of steps".into(), step, t: of_a[step - 1].t, values, pictures }))
}

/// The steps of a run, and its pictures.
fn run(model: &Pipeline, settings: &Settings) -> Result<(Vec<Record>, Array4<f32>)> {
    let mut records = Vec::new();
    let pictures = draw(model, settings, 0..PICTURES, |moment| {
        let step = moment.step;
        let all = |x: &Array4<f32>| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let (from, to) = (step.transition.from, step.transition.to);
        let mut numbers = vec![
            ("the time that the network is fed".to_string(), vec![from.time]),
            ("sigma of the level".to_string(), vec![from.sigma()]),
            ("x_t".to_string(), all(step.x_t)),
            ("x_0_hat".to_string(), all(&step.estimate.x_0_hat)),
            ("eps_hat".to_string(), all(&step.estimate.eps_hat)),
            ("sigma where the step goes".to_string(), vec![to.sigma()]),
        ];
        for term in step.terms {
            numbers.push((format!("the weight of {}", term.name), vec![term.weight]));
        }
        numbers.push(("x after the step".to_string(), all(moment.x_s)));
        records.push(Record { t: from.t(), numbers });
        Ok(())
    })?;
    Ok((records, pictures))
}
