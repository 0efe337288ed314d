//! The samplers against trajectories of diffusers 0.42.1, state by state, in float64 with float64 tables.
//!
//! Each file has the states, the outputs of a stand-in network and the noise. The outputs are fed back, so every state tests
//! every formula before it.

use std::collections::VecDeque;

use crate::peer::{Peer, channels_last, worst};
use ancestral::Result;
use ancestral::checkpoint::scheduler;
use ancestral::denoise::{Estimate, Output, Sight};
use ancestral::diffusion::Level;
use ancestral::numerics::Real;
use ancestral::pipeline::Scheduler;
use ancestral::sample::{Conventions, Step, Walk, chain, timesteps, weighted_sum};
use ndarray::{Array4, Axis};

/// How far a state may be from the peer's, relative to the largest number of the state: float64 rounds to 1e-16, and some
/// tens of roundings, each amplified by up to 1/√ᾱ_T = 157, stay below 1e-12.
const SAME: f64 = 1e-10;

/// Every class's trajectories that are computed here.
const NAMES: &[&str] = &[
    "ddpm_linear_small",
    "ddpm_cosine_large",
    "ddpm_v",
    "ddpm_trained_betas",
    "ddim_eta0",
    "ddim_eta1",
    "ddim_zero_snr",
];

/// A trajectory of two images under one scheduler.
struct Fixture {
    scheduler: Scheduler,
    /// The peer's config, as it is recorded, with its class.
    theirs: serde_json::Value,
    peer: Peer,
    steps: usize,
}

impl Fixture {
    fn read(name: &str) -> Self {
        let file = format!("schedulers/{name}.safetensors");
        let peer = Peer::open(&file);
        let mut theirs: serde_json::Value = serde_json::from_str(&peer.facts["config"]).unwrap();
        theirs["_class_name"] = peer.facts["class"].as_str().into();
        let mut scheduler = scheduler::from_json(&theirs.to_string(), &crate::peer::fixture(&file)).unwrap();
        scheduler.options.eta = peer.fact("eta"); // an argument of the peer's `step`, not a field of its config
        scheduler.options.conventions = Conventions::DIFFUSERS;
        let steps = peer.fact("steps") as usize;
        Fixture { scheduler, theirs, peer, steps }
    }

    /// Entry i of a list of images, channels last.
    fn images<F: Real>(&self, name: &str, i: usize) -> Array4<F> {
        channels_last(&self.peer.get(name).index_axis(Axis(0), i).to_owned()).mapv(F::from_f64)
    }

    /// The states of a walk with the recorded noise; without recorded outputs they are those of the stand-in network.
    fn states<F: Real>(&self, recorded: bool) -> Vec<Array4<F>> {
        let Scheduler { schedule, sampler, options, spacing, steps_offset, .. } = &self.scheduler;
        let list = timesteps(*spacing, schedule.t_max(), self.steps, *steps_offset).unwrap();
        let fed: Vec<f64> = list.iter().map(|&t| schedule.level(t).time).collect();
        assert_eq!(fed, self.peer.get("timesteps").as_slice().expect("contiguous"));
        let count = |name: &str| self.peer.get(name).shape()[0];
        let list_of = |name: &str| (0..count(name)).map(|i| self.images(name, i)).collect();
        let outputs = recorded.then(|| list_of("model_output"));
        let mut walk = Recorded { fixture: self, outputs, noise: list_of("noise"), states: vec![self.images("x", 0)] };
        let chain = chain(schedule, &list, *sampler, options).unwrap();
        sampler.run(&chain, self.images("x", 0), options, &mut walk).unwrap();
        walk.states
    }

    /// The largest error of a recorded state, relative to its largest number.
    fn error<F: Real>(&self, ours: &Array4<F>, recorded: usize) -> f64 {
        let (error, scale) = worst(ours.iter().map(|x| x.to_f64()), &self.images::<f64>("x", recorded));
        error / scale.max(1.0)
    }
}

struct Recorded<'a, F> {
    fixture: &'a Fixture,
    outputs: Option<VecDeque<Array4<F>>>,
    noise: VecDeque<Array4<F>>,
    states: Vec<Array4<F>>,
}

impl<F: Real> Walk<F> for Recorded<'_, F> {
    fn see(&mut self, x: &Array4<F>, level: Level) -> Result<Estimate<F>> {
        let Scheduler { prediction, clip, options, .. } = self.fixture.scheduler;
        let value = match &mut self.outputs {
            Some(outputs) => outputs.pop_front().expect("an output for each evaluation"),
            None => {
                let stand_in = level.time / (level.time + 1.0) * 0.9;
                x.mapv(|x| F::from_f64((x.to_f64() * stand_in) as f32 as f64))
            }
        };
        let sight = Sight { clip, eps_from_clipped_x_0: options.conventions.eps_from_clipped_x_0 };
        Ok(sight.estimate(x, level, &Output::new(prediction, value)))
    }

    fn noise(&mut self, _: Level) -> Array4<F> {
        self.noise.pop_front().expect("noise for each step")
    }

    fn step(&mut self, step: Step<F>) -> Result<Array4<F>> {
        let x_s = weighted_sum(step.terms);
        self.states.push(x_s.clone());
        Ok(x_s)
    }
}

#[test]
fn trajectories_of_diffusers_are_followed_state_by_state() {
    for name in NAMES {
        let fixture = Fixture::read(name);
        let (double, single) = (fixture.states::<f64>(true), fixture.states::<f32>(true));
        assert_eq!(double.len(), fixture.peer.get("x").shape()[0], "{name}");
        let largest = |errors: &mut dyn Iterator<Item = f64>| errors.fold(0.0, f64::max);
        let error = largest(&mut double.iter().enumerate().map(|(i, x)| fixture.error(x, i)));
        let in_f32 = largest(&mut single.iter().enumerate().map(|(i, x)| fixture.error(x, i)));
        println!("{name}: off by {error:e} in f64, {in_f32:e} in f32");
        assert!(error <= SAME, "{name}: off by {error:e}");
        // Some tens of roundings to 6e-8, amplified by up to 157 at the first steps where nothing is clipped.
        assert!(in_f32 <= 2e-4, "{name} in f32: off by {in_f32:e}");
    }
}

#[test]
fn tables_of_diffusers_are_ours() {
    for name in NAMES {
        let fixture = Fixture::read(name);
        let schedule = &fixture.scheduler.schedule;
        for (table, ours) in [("betas", true), ("alphas_cumprod", false)] {
            for (i, theirs) in fixture.peer.get(table).iter().enumerate() {
                let ours = if ours { schedule.beta(i + 1) } else { schedule.alpha_bar(i + 1) };
                // A cosine's β is a difference of 1 and a quotient near 1: one unit of either moves it by up to 1e-12 of itself,
                // and the last ᾱ of a thousand factors by as much.
                assert!((ours - theirs).abs() <= 1e-11 * theirs, "{name}: {table}[{i}]: {ours} {theirs}");
            }
        }
    }
}

#[test]
fn ddpm_of_a_thousand_steps_follows_the_peer() {
    // Every fiftieth state is recorded; the network's outputs follow from the state.
    let fixture = Fixture::read("ddpm_full_1000");
    let states = fixture.states::<f64>(false);
    for (recorded, &step) in fixture.peer.get("x_index").iter().enumerate() {
        let error = fixture.error(&states[step as usize], recorded);
        assert!(error <= SAME, "after step {step}: off by {error:e}");
    }
}

#[test]
fn configs_of_the_peer_are_reproduced() {
    for name in NAMES {
        let Fixture { scheduler, theirs, .. } = Fixture::read(name);
        let mut ours: serde_json::Value = serde_json::from_str(&scheduler::to_json(&scheduler)).unwrap();
        ours.as_object_mut().unwrap().remove("_diffusers_version");
        assert_eq!(ours, theirs, "{name}");
    }
}
