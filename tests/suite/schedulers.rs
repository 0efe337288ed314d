//! The samplers against trajectories of diffusers 0.42.1, state by state.
//!
//! The peer steps in f64 with factors from f32 tables: β is rounded to 6e-8 relative, ᾱ is an f32 product of up to 1000
//! factors, and 1 − ᾱ_t a difference of them, off by 1.7e-4 relative where ᾱ_t is near 1. The tolerances are that
//! error, which is the peer's: with its tables replaced by f64, it ends where we do, to rounding (last test).

use crate::peer::Peer;
use ancestral::checkpoint::scheduler;
use ancestral::diffusion::network_timestep;
use ancestral::numerics::Real;
use ancestral::sample::{Ddim, Sampler, Scheduler, Step, timesteps, transitions};

/// Elements of one image in every fixture: 3 channels of 4 x 4.
const IMAGE: usize = 3 * 4 * 4;

/// A trajectory of two images under one scheduler.
struct Fixture {
    config: Scheduler,
    /// The peer's config, as it is recorded, with its class.
    theirs: serde_json::Value,
    /// Images are (steps, 2, 3, 4, 4).
    peer: Peer,
    steps: usize,
}

impl Fixture {
    fn read(name: &str) -> Self {
        let file = format!("schedulers/{name}.safetensors");
        let peer = Peer::open(&file);
        let mut theirs: serde_json::Value = serde_json::from_str(&peer.facts["config"]).unwrap();
        theirs["_class_name"] = peer.facts["class"].as_str().into();
        let mut config = scheduler::from_json(&theirs.to_string(), &crate::peer::fixture(&file)).unwrap();
        if let Sampler::Ddim(ddim) = &mut config.sampler {
            // Arguments of the peer's `step`, not fields of its config.
            *ddim = Ddim { eta: peer.fact("eta"), use_clipped_model_output: false, ..*ddim };
        }
        let steps = peer.fact("steps") as usize;
        Fixture { config, theirs, peer, steps }
    }

    /// The numbers of one tensor in the order of the file.
    fn numbers(&self, name: &str) -> &[f64] {
        self.peer.get(name).as_slice().expect("contiguous")
    }

    /// The visited pairs (t, t_prev), in paper-time.
    fn transitions(&self) -> Vec<(usize, usize)> {
        let Scheduler { reverse, spacing, steps_offset, .. } = &self.config;
        let list = timesteps(*spacing, reverse.schedule.t_max(), self.steps, *steps_offset).unwrap();
        let fed: Vec<f64> = list.iter().map(|&t| network_timestep(t) as f64).collect();
        assert_eq!(fed, self.numbers("timesteps"));
        transitions(&list).collect()
    }

    /// Entry `index` of the tensor `name`, an image.
    fn image<F: Real>(&self, name: &str, index: usize, image: usize) -> Vec<F> {
        let start = (2 * index + image) * IMAGE;
        self.numbers(name)[start..start + IMAGE].iter().map(|&x| F::from_f64(x)).collect()
    }

    /// `x` after the steps `range`, the model being the stand-in of the fixtures: x·t/(t + 1)·0.9, t as it is fed.
    fn walk<F: Real>(&self, mut x: Vec<F>, range: std::ops::Range<usize>, image: usize) -> Vec<F> {
        for (index, (t, t_prev)) in self.transitions().into_iter().enumerate().take(range.end).skip(range.start) {
            let fed = network_timestep(t) as f64;
            let factor = F::from_f64(fed / (fed + 1.0) * 0.9);
            let output: Vec<F> = x.iter().map(|&x| x * factor).collect();
            x = self.step(&x, &output, index, t, t_prev, image);
        }
        x
    }

    fn step<F: Real>(&self, x_t: &[F], output: &[F], index: usize, t: usize, t_prev: usize, image: usize) -> Vec<F> {
        let noise = self.image("noise", index, image);
        self.config.sampler.step(&self.config.reverse, &Step { t, t_prev, x_t, output, noise: &noise }).x_prev
    }

    /// The largest error of one step from a recorded state, fed the recorded model output.
    fn forced<F: Real>(&self) -> f64 {
        let mut largest = 0f64;
        for (index, (t, t_prev)) in self.transitions().into_iter().enumerate() {
            for image in 0..2 {
                let (x_t, output) = (self.image::<F>("x", index, image), self.image("model_output", index, image));
                let x_prev = self.step(&x_t, &output, index, t, t_prev, image);
                largest = largest.max(self.error(&x_prev, index + 1, image));
            }
        }
        largest
    }

    /// The largest error of the last state, walking there from the first on our own.
    fn free<F: Real>(&self) -> f64 {
        let last = self.numbers("x").len() / (2 * IMAGE) - 1;
        (0..2)
            .map(|image| self.error(&self.walk::<F>(self.image("x", 0, image), 0..self.steps, image), last, image))
            .fold(0.0, f64::max)
    }

    /// The largest |ours − theirs| / max(1, |theirs|) over the recorded state `index` of one image.
    fn error<F: Real>(&self, ours: &[F], index: usize, image: usize) -> f64 {
        let theirs: Vec<f64> = self.image("x", index, image);
        assert_eq!(ours.len(), theirs.len());
        ours.iter().zip(&theirs).map(|(a, b)| (a.to_f64() - b).abs() / b.abs().max(1.0)).fold(0.0, |largest, error| {
            assert!(error.is_finite());
            largest.max(error)
        })
    }

    /// The largest relative error of β and of ᾱ.
    fn tables(&self) -> [f64; 2] {
        let schedule = &self.config.reverse.schedule;
        let largest = |name: &str, ours: &dyn Fn(usize) -> f64| {
            assert_eq!(self.numbers(name).len(), schedule.t_max());
            let errors = self.numbers(name).iter().enumerate().map(|(i, theirs)| (ours(i + 1) / theirs - 1.0).abs());
            errors.fold(0.0, f64::max)
        };
        [largest("betas", &|t| schedule.beta(t)), largest("alphas_cumprod", &|t| schedule.alpha_bar(t))]
    }
}

/// How far a fixture may be missed: `beta` and `alpha_bar` are relative, over the tables; `step` is for one step from each recorded state, `walk` for the
/// last state of a walk on our own. What was measured stands beside each.
struct Tolerance {
    beta: f64,
    alpha_bar: f64,
    step: f64,
    walk: f64,
}

fn assert_within(name: &str, tolerance: Tolerance) {
    let fixture = Fixture::read(name);
    let [beta, alpha_bar] = fixture.tables();
    assert!(beta < tolerance.beta, "{name}: beta is off by {beta:e}");
    assert!(alpha_bar < tolerance.alpha_bar, "{name}: alpha_bar is off by {alpha_bar:e}");
    for (precision, step, walk) in [
        ("f64", fixture.forced::<f64>(), fixture.free::<f64>()),
        ("f32", fixture.forced::<f32>(), fixture.free::<f32>()),
    ] {
        println!("{name} in {precision}: one step is off by {step:e}, the whole walk by {walk:e}");
        assert!(step < tolerance.step, "{name} in {precision}: one step is off by {step:e}");
        assert!(walk < tolerance.walk, "{name} in {precision}: the walk is off by {walk:e}");
    }
}

#[test]
fn ddpm_linear_fixed_small_with_clipping_follows_the_peer() {
    // Measured 1.1e-7, 3.6e-7, 2.8e-6, 2.6e-6.
    assert_within("ddpm_linear_small", Tolerance { beta: 2e-7, alpha_bar: 1e-6, step: 5e-6, walk: 5e-6 });
}

#[test]
fn ddpm_cosine_fixed_large_follows_the_peer() {
    // Measured 5.9e-8, 1.3e-5, 1.7e-6, 2.7e-6. The last α is 1 − 0.999: in f32 it has lost three digits.
    assert_within("ddpm_cosine_large", Tolerance { beta: 2e-7, alpha_bar: 3e-5, step: 5e-6, walk: 5e-6 });
}

#[test]
fn ddpm_scaled_linear_v_trailing_follows_the_peer() {
    // Measured 2.2e-7, 9.3e-7, 9.1e-7, 3.0e-7. β is a rounded root, squared.
    assert_within("ddpm_v", Tolerance { beta: 4e-7, alpha_bar: 2e-6, step: 2e-6, walk: 2e-6 });
}

#[test]
fn ddim_deterministic_with_clipping_and_the_models_own_eps_follows_the_peer() {
    // Measured 1.1e-7, 3.6e-7, 2.1e-7, 6.3e-7.
    assert_within("ddim_eta0", Tolerance { beta: 2e-7, alpha_bar: 1e-6, step: 1e-6, walk: 2e-6 });
}

#[test]
fn ddim_with_eta_one_offset_and_alpha_not_set_to_one_follows_the_peer() {
    // Measured 1.1e-7, 3.6e-7, 2.6e-6, 2.6e-6.
    assert_within("ddim_eta1", Tolerance { beta: 2e-7, alpha_bar: 1e-6, step: 5e-6, walk: 5e-6 });
}

#[test]
fn ddpm_of_a_thousand_steps_follows_the_peer() {
    // Every fiftieth state is recorded; the model output of the steps between follows from the state.
    let fixture = Fixture::read("ddpm_full_1000");
    let [beta, alpha_bar] = fixture.tables();
    assert!(beta < 2e-7 && alpha_bar < 1e-6, "{beta:e} {alpha_bar:e}");
    for image in 0..2 {
        for leg in 0..20 {
            let x = fixture.walk::<f64>(fixture.image("x", leg, image), 50 * leg..50 * (leg + 1), image);
            let error = fixture.error(&x, leg + 1, image);
            // Measured 1.5e-5, in the last leg: 1 − ᾱ_t of the peer is off by 1.7e-4 at t = 1.
            assert!(error < 4e-5, "steps {} to {}: {error:e}", 50 * leg, 50 * (leg + 1));
        }
    }
    // Measured 1.8e-5 and 1.9e-5.
    let (double, single) = (fixture.free::<f64>(), fixture.free::<f32>());
    assert!(double < 4e-5 && single < 4e-5, "{double:e} {single:e}");
}

#[test]
fn model_of_the_fixtures_is_what_they_say() {
    // Otherwise the free walks would test another chain.
    let fixture = Fixture::read("ddpm_v");
    for (index, (t, _)) in fixture.transitions().into_iter().enumerate() {
        let fed = network_timestep(t) as f64;
        let output: Vec<f64> =
            fixture.image::<f64>("x", index, 1).iter().map(|x| x * (fed / (fed + 1.0) * 0.9)).collect();
        let recorded: Vec<f64> = fixture.image("model_output", index, 1);
        assert!(output.iter().zip(&recorded).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}

#[test]
fn peers_own_config_is_reproduced() {
    for name in ["ddpm_linear_small", "ddpm_cosine_large", "ddpm_v", "ddpm_full_1000", "ddim_eta0", "ddim_eta1"] {
        let Fixture { config, theirs, .. } = Fixture::read(name);
        let mut ours: serde_json::Value = serde_json::from_str(&scheduler::to_json(&config)).unwrap();
        ours.as_object_mut().unwrap().remove("_diffusers_version");
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn ddpm_of_a_thousand_steps_equals_the_peer_with_f64_tables() {
    // diffusers 0.42.1 with `alphas_cumprod` = torch.cumprod(1 - np.linspace(1e-4, 0.02, 1000), 0) and the recorded
    // noise: the first numbers of the last state. Its recorded last state is 1.8e-5 from them.
    let f64_tables = [-0.3273861938660767, -1.053083277208785, -0.6356875827772014];
    let fixture = Fixture::read("ddpm_full_1000");
    let ours = fixture.walk::<f64>(fixture.image("x", 0, 0), 0..1000, 0);
    for (ours, theirs) in ours.iter().zip(f64_tables) {
        assert!((ours - theirs).abs() < 1e-13, "{ours} {theirs}");
    }
}
