//! The variational bound and the hybrid loss against improved-diffusion, term by term, in float64.

use crate::peer::{Peer, channels_last};
use ancestral::diffusion::likelihood::losses::{halves, hybrid, joined};
use ancestral::diffusion::likelihood::{Cdf, Reading, Said, Step, prior, steps};
use ancestral::diffusion::{BetaSchedule, Prediction, Schedule, Variance};
use ndarray::{Array4, Axis};

const NAMES: [&str; 5] =
    ["cosine_learned_range", "linear_fixed_small", "linear_fixed_small_x0", "linear_learned", "linear_strided_20"];

/// Relative to the number, or to 1 where it is smaller. Float64 rounds to 1e-16; a probability in the tail of the decoder, of
/// 1e-6, is a difference of two numbers near 1.
const SAME: f64 = 1e-9;

struct Fixture {
    peer: Peer,
    schedule: Schedule,
    steps: Vec<Step>,
    reading: Reading,
}

impl Fixture {
    fn read(name: &str) -> Self {
        let peer = Peer::open(&format!("likelihood/{name}.safetensors"));
        let curve = if peer.facts["schedule"] == "cosine" { BetaSchedule::Cosine } else { BetaSchedule::Linear };
        let t_max = peer.fact("T") as usize;
        // improved-diffusion's linear schedule is scaled by 1000/T.
        let scale = 1000.0 / t_max as f64;
        let schedule = Schedule::new(curve, t_max, 1e-4 * scale, 0.02 * scale).unwrap();
        let times: Vec<usize> = peer.get("timesteps").iter().map(|&t| t as usize + 1).collect();
        let prediction = serde_json::from_value(peer.facts["prediction"].as_str().into()).unwrap();
        let variance = serde_json::from_value(peer.facts["variance"].as_str().into()).unwrap();
        let reading = Reading { prediction, variance, clip: Some(1.0), cdf: Cdf::Tanh };
        Fixture { steps: steps(&schedule, &times), peer, schedule, reading }
    }

    /// Images of a step, or of all, channels last.
    fn images(&self, name: &str, step: Option<usize>) -> Array4<f64> {
        let tensor = self.peer.get(name);
        channels_last(&step.map_or(tensor.clone(), |i| tensor.index_axis(Axis(0), i).to_owned()))
    }

    /// Every step with every image: x_0, the noise, both halves of the output.
    fn each(&self, mut see: impl FnMut(usize, usize, [&[f64]; 4])) {
        let (x_0, channels) = (self.images("x_0", None), self.peer.get("x_0").shape()[1]);
        for i in 0..self.steps.len() {
            let (noise, output) = (self.images("noise", Some(i)), self.images("model_output", Some(i)));
            for image in 0..x_0.dim().0 {
                let of = |x: &Array4<f64>| x.index_axis(Axis(0), image).iter().copied().collect::<Vec<f64>>();
                let (mean, variance) = match self.reading.variance.is_learned() {
                    true => halves(&of(&output), channels),
                    false => (of(&output), Vec::new()),
                };
                see(i, image, [&of(&x_0), &of(&noise), &mean, &variance]);
            }
        }
    }
}

fn assert_same(found: f64, theirs: f64, what: &str) {
    let error = (found - theirs).abs() / theirs.abs().max(1.0);
    assert!(error <= SAME, "{what}: {found} {theirs}, off by {error:e}");
}

#[test]
fn bound_of_improved_diffusion_is_ours_term_by_term() {
    for name in NAMES {
        let fixture = Fixture::read(name);
        let of = |tensor: &str, i: usize, image: usize| fixture.peer.get(tensor)[[i, image]];
        fixture.each(|i, image, [x_0, eps, mean, variance]| {
            let term = fixture.steps[i].term(&fixture.reading, x_0, eps, Said { mean, variance });
            assert_same(term.bits, of("vb_bits_per_dim", i, image), &format!("{name}: term {i} of image {image}"));
            assert_same(term.x_0_mse, of("x_0_mse", i, image), &format!("{name}: x_0_mse {i} of image {image}"));
        });
        for (image, theirs) in fixture.peer.get("prior_bits_per_dim").iter().enumerate() {
            let x_0: Vec<f64> = fixture.images("x_0", None).index_axis(Axis(0), image).iter().copied().collect();
            let last = fixture.steps.last().expect("steps").from;
            assert_same(prior(last, &x_0), *theirs, &format!("{name}: prior of image {image}"));
        }
    }
}

#[test]
fn hybrid_loss_of_improved_diffusion_and_its_gradient_are_ours() {
    let mut compared = 0;
    for name in NAMES {
        let fixture = Fixture::read(name);
        if !fixture.reading.variance.is_learned() {
            continue;
        }
        let reading = Reading { clip: None, ..fixture.reading };
        fixture.each(|i, image, [x_0, eps, mean, variance]| {
            let loss = hybrid(&fixture.steps[i], fixture.steps.len(), &reading, x_0, eps, Said { mean, variance });
            let place = format!("{name}: step {i}, image {image}");
            assert_same(loss.loss, fixture.peer.get("hybrid_loss")[[i, image]], &place);
            let theirs = fixture.images("grad_model_output", Some(i));
            let channels = fixture.peer.get("x_0").shape()[1];
            for (found, theirs) in joined(&loss.gradient, channels).iter().zip(theirs.index_axis(Axis(0), image)) {
                assert_same(*found, *theirs, &place);
                compared += 1;
            }
        });
    }
    assert_eq!(compared, (100 + 60 + 20) * 2 * 64);
}

#[test]
fn tables_of_improved_diffusion_are_ours() {
    for name in NAMES {
        let fixture = Fixture::read(name);
        for (i, step) in fixture.steps.iter().enumerate() {
            let of = |table: &str| fixture.peer.get(table)[i];
            let small = step.range.log_variance(Variance::FixedSmall, 0.0);
            let pairs = [
                (step.posterior.beta, of("betas")),
                (step.from.alpha_bar, of("alphas_cumprod")),
                (step.posterior.beta_tilde, of("posterior_variance")),
                (step.posterior.weight_x_0, of("posterior_mean_coef1")),
                (step.posterior.weight_x_t, of("posterior_mean_coef2")),
                (small, of("posterior_log_variance_clipped")),
            ];
            for (ours, theirs) in pairs {
                assert!((ours - theirs).abs() <= 1e-11 * theirs.abs(), "{name}: step {i}: {ours} {theirs}");
            }
        }
        assert_eq!(fixture.schedule.t_max(), fixture.peer.fact("T") as usize);
    }
}

#[test]
fn v_prediction_of_the_same_images_has_the_same_bound_as_epsilon() {
    // v̂ = (ε̂ − σ x_t)/a is the same statement.
    let fixture = Fixture::read("linear_learned");
    let v = Reading { prediction: Prediction::V, ..fixture.reading };
    fixture.each(|i, _, [x_0, eps, mean, variance]| {
        let step = &fixture.steps[i];
        let (a, sigma) = (step.from.signal(), step.from.sigma());
        let said: Vec<f64> = (0..x_0.len()).map(|k| (mean[k] - sigma * (a * x_0[k] + sigma * eps[k])) / a).collect();
        let ours = step.term(&v, x_0, eps, Said { mean: &said, variance }).bits;
        let epsilon = step.term(&fixture.reading, x_0, eps, Said { mean, variance }).bits;
        assert!((ours - epsilon).abs() <= 1e-9 * epsilon.abs().max(1.0), "step {i}: {ours} {epsilon}");
    });
}
