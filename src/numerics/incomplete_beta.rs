//! The beta distribution, where levels are spread by it.
//!
//! I_x(a, b) is the share of the integral of u^(a−1)·(1−u)^(b−1) that lies below x. Its continued fraction (Abramowitz and Stegun
//! 1964, 26.5.8) is summed by Lentz's method; its inverse is bisected, then polished by Newton's steps.

use super::elementary::{exp, ln};

/// The x in [0, 1] below which a share of the distribution with these parameters, each above 0, lies; `share` in [0, 1].
pub fn beta_quantile(share: f64, (a, b): (f64, f64)) -> f64 {
    if share <= 0.0 || share >= 1.0 {
        return if share <= 0.0 { 0.0 } else { 1.0 };
    }
    let (mut low, mut high) = (0.0, 1.0);
    // Each halves the interval; once it has no number between its ends, nothing is left to do.
    for _ in 0..1100 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if incomplete_beta(middle, (a, b)) < share { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// I_x(a, b), x in [0, 1].
pub fn incomplete_beta(x: f64, (a, b): (f64, f64)) -> f64 {
    // The fraction converges fast below the mean.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, (b, a));
    }
    if x <= 0.0 {
        return 0.0;
    }
    let ln_beta = ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
    exp(a * ln(x) + b * ln(1.0 - x) - ln_beta) / a * fraction(x, (a, b))
}

/// 1/(1 + d₁/(1 + d₂/(1 + …))), d of 26.5.8.
fn fraction(x: f64, (a, b): (f64, f64)) -> f64 {
    let (mut c, mut d) = (1.0, 1.0 / (1.0 - (a + b) * x / (a + 1.0)));
    let mut sum = d;
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = sum;
        for term in [even, odd] {
            d = 1.0 / (1.0 + term * d);
            c = 1.0 + term / c;
            sum *= c * d;
        }
        if (sum - before).abs() <= 1e-16 * sum.abs() {
            break;
        }
    }
    sum
}

fn ln_gamma(x: f64) -> f64 {
    libm::lgamma(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_scipy() {
        // scipy 1.17.1: scipy.stats.beta.ppf(share, 0.6, 0.6).
        for (share, expected) in [
            (1e-06, 1.8558824624053043e-10),
            (0.01, 0.0008612388215429059),
            (0.1, 0.03958440558878085),
            (0.3333333333333333, 0.2754132907776234),
            (0.5, 0.5000000000000001),
            (0.875, 0.942843636377586),
            (0.999, 0.9999814412614826),
        ] {
            let found = beta_quantile(share, (0.6, 0.6));
            // The slope of the quantile is below 100 at these shares, and I_x is off by some 1e-15.
            assert!((found - expected).abs() < 1e-13, "{share}: {found} {expected}");
        }
    }

    #[test]
    fn shares_of_a_uniform_and_of_a_parabola_are_polynomials() {
        for x in [0.0, 0.1, 0.5, 0.77, 1.0] {
            // Sums of a few hundred terms, each rounded to 1e-16.
            assert!((incomplete_beta(x, (1.0, 1.0)) - x).abs() < 1e-14);
            assert!((incomplete_beta(x, (2.0, 2.0)) - x * x * (3.0 - 2.0 * x)).abs() < 1e-14);
        }
    }
}
