//! Chapter 8: one pair, its loss, and the gradient of one weight, by hand and by differences.

use serde::Serialize;

use super::numbers::Numbers;
use super::subject::Subject;
use crate::Result;
use crate::layers::activation::silu;
use crate::layers::parameters::{Axes, Entry};
use crate::layers::{ParameterVector, flat};
use crate::models::{Conditions, Network, Time};
use crate::train::Batch;
use crate::train::gradient::{Zeros, loss_and_gradient};

/// The finest difference is of 10 to minus this.
const FINEST: i32 = 14;

/// The most parameters with which a loss takes no time in f64.
const MOST_PARAMETERS: usize = 5_000_000;

/// One training pair.
#[derive(Clone, Debug, Serialize)]
pub struct Learning {
    /// Its t.
    pub t: usize,
    /// Numbers of its target.
    pub count: usize,
    /// L = 1/N Σ(y − y*)².
    pub loss: f64,
    /// That of a network that says 0.
    pub loss_of_zero: f64,
    /// A weight of the last layer.
    pub last: Weight,
    /// A weight of the first.
    pub first: Weight,
    /// ∂L/∂w of that of the first by central differences, each with its h.
    pub differences: Vec<Difference>,
    /// The h whose difference is nearest to the gradient.
    pub best_h: f64,
    /// How near, relative to the gradient.
    pub best_error: f64,
    /// One over that, in round numbers.
    pub best_parts: f64,
    /// 2/N · 0.1.
    pub factor: f64,
    /// 2/N (y − y*), for each number of the output, in f64.
    pub slope: Numbers,
    /// What the weight of the last layer is multiplied by for each of them, where the last layer is a convolution of 3 x 3.
    pub input: Option<Numbers>,
}

/// One weight: the steepest of its tensor.
#[derive(Clone, Debug, Serialize)]
pub struct Weight {
    /// The tensor.
    pub name: String,
    /// Its place in that tensor, as the program holds it.
    pub place: usize,
    /// Its value.
    pub value: f64,
    /// ∂L/∂w by the backward pass.
    pub gradient: f64,
}

impl Weight {
    fn steepest(entry: &Entry, w: &ParameterVector<f64>, gradient: &ParameterVector<f64>) -> Self {
        let slopes = &gradient[entry.span];
        let place = (0..slopes.len()).max_by(|&a, &b| slopes[a].abs().total_cmp(&slopes[b].abs())).expect("a weight");
        Weight { name: entry.name.clone(), place, value: w[entry.span][place], gradient: slopes[place] }
    }
}

/// (L(w + h) − L(w − h))/2h.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// h.
    pub h: f64,
    /// The difference.
    pub value: f64,
    /// |difference − gradient|/|gradient|.
    pub error: f64,
}

/// One training pair: the first picture at the shown t. None where the network is too large to ask it so often, learns
/// variances, or is at rest.
///
/// # Errors
/// Whatever the network refuses.
pub fn learning(subject: &Subject) -> Result<Option<Learning>> {
    let network = subject.model.network();
    let layout = network.layout();
    let plain = subject.shape().2 == network.config().channels().1; // a learned variance has a loss of its own
    if layout.count() > MOST_PARAMETERS || !plain {
        return Ok(None);
    }
    let mut w: ParameterVector<f64> = subject.model.weights().cast();
    let t = subject.shown_t();
    let wide = |x: ndarray::Array4<f32>| x.mapv(f64::from);
    let (x_0, eps) = (wide(subject.picture(0)), wide(subject.noise("eps", 0)));
    let labels = subject.label(0).map(|label| vec![label]);
    let batch = Batch::noised(subject.schedule(), subject.model.scheduler().prediction, &x_0, &[t], &eps, labels);
    let conditions = Conditions { time: Time::Steps(&batch.time), labels: batch.labels.as_deref() };

    let (output, _, taps) = network.forward_traced(&w, batch.x_t.clone(), conditions)?;
    let count = batch.target.len();
    let loss = |output: &ndarray::Array4<f64>| {
        output.iter().zip(&batch.target).map(|(y, target)| (y - target) * (y - target)).sum::<f64>() / count as f64
    };
    let gradient = loss_and_gradient(network, &w, &batch, None, &Zeros::default())?.grads;
    let mut layers = layout.entries.iter().filter(|entry| !matches!(entry.axes, Axes::Same(_)));
    let first_entry = layers.next().expect("a network has a layer");
    let last_entry = layers.next_back().unwrap_or(first_entry);
    let [first, last] = [first_entry, last_entry].map(|entry| Weight::steepest(entry, &w, &gradient));
    if first.gradient == 0.0 || last.gradient == 0.0 {
        return Ok(None); // nothing to compare with: the network is not trained
    }
    let (place, mut differences) = (first_entry.span.start + first.place, Vec::new());
    for power in 0..=FINEST {
        let h = 1.0 / crate::numerics::elementary::pow(10.0, f64::from(power));
        let mut at = |value: f64| -> Result<f64> {
            w.0[place] = value;
            Ok(loss(&network.predict(&w, batch.x_t.clone(), conditions)?))
        };
        let value = (at(first.value + h)? - at(first.value - h)?) / (2.0 * h);
        differences.push(Difference { h, value, error: ((value - first.gradient) / first.gradient).abs() });
    }
    let best = differences.iter().min_by(|a, b| a.error.total_cmp(&b.error)).expect("a difference");
    let slope: Vec<f64> =
        output.iter().zip(&batch.target).map(|(y, target)| 2.0 / count as f64 * (y - target)).collect();
    let normed = taps.iter().find(|(name, _)| name == "conv_norm_out").map(|(_, normed)| normed);
    let input = normed.and_then(|normed| {
        let normed = normed.clone().into_dimensionality().ok()?;
        seen_by(network, last_entry, last.place, &silu(normed))
    });
    Ok(Some(Learning {
        t,
        count,
        loss: loss(&output),
        loss_of_zero: loss(&output.mapv(|_| 0.0)),
        last,
        first,
        best_h: best.h,
        best_error: best.error,
        best_parts: rounded(1.0 / best.error),
        factor: 2.0 * 0.1 / count as f64,
        slope: Numbers::f64(&slope),
        input,
        differences,
    }))
}

/// The power of ten at or below a number.
fn rounded(x: f64) -> f64 {
    let mut power = 1.0;
    while power * 10.0 <= x && power < 1e15 {
        power *= 10.0;
    }
    power
}

/// What a weight of the last convolution is multiplied by, for each number of the output: one channel of its input, moved by the
/// weight's place in the kernel, zeros where it looks beyond the edge, and zeros for other channels of the output.
fn seen_by(network: &Network, entry: &Entry, place: usize, input: &ndarray::Array4<f64>) -> Option<Numbers> {
    let Axes::Conv { kernel: (3, 3), c_in, c_out } = entry.axes else { return None };
    if !matches!(network, Network::UNet(_)) || input.dim().3 != c_in {
        return None;
    }
    let (_, h, w, _) = input.dim();
    let (o, i) = (place % c_out, place / c_out % c_in);
    let (kh, kw) = (place / (c_out * c_in) / 3, place / (c_out * c_in) % 3);
    let mut seen = Vec::with_capacity(h * w * c_out);
    for (y, x) in (0..h * w).map(|p| (p / w + kh, p % w + kw)) {
        let inside = (1..=h).contains(&y) && (1..=w).contains(&x);
        let value = if inside { input[[0, y - 1, x - 1, i]] } else { 0.0 };
        seen.extend((0..c_out).map(|channel| if channel == o { value } else { 0.0 }));
    }
    debug_assert_eq!(seen.len(), flat(input).len() / c_in * c_out);
    Some(Numbers::f64(&seen))
}
