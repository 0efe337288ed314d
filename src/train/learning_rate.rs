//! The learning rate of each step: a linear warm-up, then constant or half a cosine down.

use serde::{Deserialize, Serialize};

use crate::numerics::elementary;

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Not at all.
    Constant,
    /// lr · ½ (1 + cos π x), x from 0 at the end of the warm-up to 1 at the last step (Loshchilov & Hutter 2017).
    Cosine,
}

/// The learning rate of step n = 1..=steps; from there on it stays at the last.
///
/// The first step of a warm-up has lr/warm_up, not 0: a step of 0 is a step lost.
pub fn learning_rate(n: u64, steps: u64, lr: f64, warm_up: u64, decay: Decay) -> f64 {
    let n = n.min(steps);
    if n < warm_up {
        return lr * n as f64 / warm_up as f64;
    }
    match decay {
        Decay::Constant => lr,
        Decay::Cosine if steps <= warm_up => lr,
        Decay::Cosine => {
            let x = (n - warm_up) as f64 / (steps - warm_up + 1) as f64;
            lr * 0.5 * (1.0 + elementary::cos(std::f64::consts::PI * x))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learning_rate_is_never_zero_and_peaks_after_the_warm_up() {
        let rates: Vec<f64> = (1..=100).map(|n| learning_rate(n, 100, 2.0, 10, Decay::Cosine)).collect();
        assert!(rates.iter().all(|&r| r > 0.0));
        assert_eq!(rates[0], 0.2);
        assert_eq!(rates[9], 2.0);
        assert_eq!(learning_rate(150, 100, 2.0, 10, Decay::Cosine), rates[99], "it does not climb again");
        assert!(rates[9..].windows(2).all(|pair| pair[1] < pair[0]) && rates[99] < 0.01);
    }
}
