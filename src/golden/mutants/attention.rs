//! Mistakes in the probabilities of attention: those of its forward pass, score by score.

use ndarray::{Array3, ArrayD};

use serde_json::Value;

use super::{Case, Mutant, Result, Results, evaluate, mutant, with_input};
use crate::golden::case::Tensor;
use crate::layers::flat;

/// The mistakes, in words.
pub(super) const MUTANTS: &[Mutant] = &[
    mutant("scores_not_scaled", "attention scores without 1/sqrt(d)", |case| scores_times(case, f64::sqrt)),
    mutant("scores_scaled_by_d", "attention scores times 1/d for 1/sqrt(d)", |case| {
        scores_times(case, |d| 1.0 / d.sqrt())
    }),
    mutant("mask_ignored", "every query sees every key", |case| {
        let mut wrong = case.clone();
        wrong.tensors.remove("input.mask");
        evaluate(&wrong)
    }),
    mutant(
        "mask_after_softmax",
        "probabilities of hidden keys set to zero, the others as they were beside them",
        mask_after_softmax,
    ),
    mutant("hidden_score_of_minus_20", "a hidden score is -20, and visible ones may be less", |case| {
        hidden_score(case, -20.0)
    }),
    mutant("hidden_score_of_minus_10000", "a hidden score is -10000, and visible ones may be less", |case| {
        hidden_score(case, -10_000.0)
    }),
    mutant("key_blocks_not_rescaled", "softmax over blocks of 32 keys, each beside its own maximum", not_rescaled),
];

/// The output alone, with probabilities made of a row's scores and of which keys its query sees.
fn output(case: &Case, probabilities: impl Fn(Vec<f64>, &[bool]) -> Vec<f64>) -> Results<f64> {
    let heads = case.attributes["heads"].as_u64().expect("a number") as usize;
    let [q, k, v] = ["input.q", "input.k", "input.v"].map(|name| case.numbers(name));
    let [n, tokens, keys] = [q.shape()[0], q.shape()[1], k.shape()[1]];
    let row = |x: &ArrayD<f64>, at: usize, head: usize| {
        let c = x.shape()[2];
        flat(x)[at * c + head * (c / heads)..][..c / heads].to_vec()
    };
    let seen = match case.tensors.get("input.mask") {
        Some(Tensor::I64(mask)) => {
            mask.broadcast((n, tokens, keys)).expect("a mask of each image").mapv(|seen| seen == 1)
        }
        _ => Array3::from_elem((n, tokens, keys), true),
    };
    let mut o = Array3::zeros((n, tokens, v.shape()[2]));
    for ((image, token), head) in
        (0..n * tokens).map(|at| (at / tokens, at % tokens)).flat_map(|at| (0..heads).map(move |head| (at, head)))
    {
        let query = row(&q, image * tokens + token, head);
        let score = |key: usize| {
            let products = query.iter().zip(row(&k, image * keys + key, head)).map(|(q, k)| q * k);
            products.sum::<f64>() / (query.len() as f64).sqrt()
        };
        let seen: Vec<bool> = (0..keys).map(|key| seen[[image, token, key]]).collect();
        for (key, p) in probabilities((0..keys).map(score).collect(), &seen).into_iter().enumerate() {
            let v = row(&v, image * keys + key, head);
            v.iter().enumerate().for_each(|(i, v_i)| o[[image, token, head * v.len() + i]] += p * v_i);
        }
    }
    vec![("output".to_string(), o.into_dyn())]
}

fn softmax(scores: Vec<f64>) -> Vec<f64> {
    let greatest = scores.iter().fold(f64::NEG_INFINITY, |m, s| m.max(*s));
    let exponentials: Vec<f64> = scores.iter().map(|s| libm::exp(s - greatest)).collect();
    let total: f64 = exponentials.iter().sum();
    exponentials.iter().map(|e| e / total).collect()
}

/// Hidden probabilities are zero, and the others not larger for it.
fn mask_after_softmax(case: &Case) -> Result<Results<f64>> {
    Ok(output(case, |scores, seen| {
        softmax(scores).iter().zip(seen).map(|(p, &seen)| if seen { *p } else { 0.0 }).collect()
    }))
}

/// A hidden score is a number that other scores may be below.
fn hidden_score(case: &Case, score: f64) -> Result<Results<f64>> {
    Ok(output(case, |scores, seen| {
        softmax(scores.iter().zip(seen).map(|(s, &seen)| if seen { *s } else { score }).collect())
    }))
}

/// Softmax over keys block by block, with the exponentials of each block beside the greatest score so far, and what was
/// summed up before left as it was: Milakov and Gimelshein 2018 multiply it by e^(m − m'), Dao et al. 2022 the output, too.
fn not_rescaled(case: &Case) -> Result<Results<f64>> {
    const KEYS: usize = 32;
    Ok(output(case, |scores, _| {
        let (mut greatest, mut exponentials) = (f64::NEG_INFINITY, Vec::new());
        for block in scores.chunks(KEYS) {
            greatest = block.iter().fold(greatest, |m, s| m.max(*s));
            exponentials.extend(block.iter().map(|s| libm::exp(s - greatest)));
        }
        let total: f64 = exponentials.iter().sum();
        exponentials.iter().map(|e| e / total).collect()
    }))
}

/// Scores times a function of the channels of a head: the same as queries times it, and their gradient times it.
fn scores_times(case: &Case, factor: fn(f64) -> f64) -> Result<Results<f64>> {
    let heads = case.attributes.get("heads").and_then(Value::as_u64).unwrap_or(1);
    let factor = factor(case.tensors["input.q"].shape()[2] as f64 / heads as f64);
    let mut results = with_input(case, "q", |q| *q *= factor as f32)?;
    results.iter_mut().filter(|(name, _)| name == "grad.q").for_each(|(_, dq)| *dq *= factor);
    Ok(results)
}
