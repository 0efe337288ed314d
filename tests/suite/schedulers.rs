//! The samplers against trajectories of diffusers 0.42.1, state by state, in float64 with float64 tables.
//!
//! Each file has the states, the outputs of a stand-in network and the noise. The outputs are fed back, so every state tests
//! every formula before it.

use std::collections::VecDeque;

use crate::peer::{Peer, channels_last, worst};
use ancestral::Result;
use ancestral::checkpoint::scheduler;
use ancestral::denoise::{Estimate, Output};
use ancestral::diffusion::{Form, Level, Process};
use ancestral::numerics::{Real, elementary};
use ancestral::pipeline::Scheduler;
use ancestral::sample::{Conventions, Sampler, Step, Transition, Walk, weighted_sum};
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
    "ddpm_thresholding",
    "ddpm_learned_range",
    "ddim_eta0",
    "ddim_eta1",
    "ddim_zero_snr",
    "ddim_inverse",
    "euler",
    "euler_karras_trailing",
    "euler_ancestral",
    "heun",
    "lms",
    "pndm",
    "plms",
    "dpmpp_1_lambdas",
    "dpmpp_2m",
    "dpmpp_2m_exponential",
    "dpmpp_2m_heun_karras",
    "dpmpp_2m_sde",
    "dpmpp_2m_v_zero_snr",
    "dpmpp_3m",
    "dpmpp_single_3",
    "dpmsolver_2m",
    "unipc_2",
    "unipc_3_bh1",
    "deis_2",
    "edm_euler",
    "edm_dpmpp_2m",
    "flow_euler",
    "flow_euler_shift3",
    "ddim_linspace_7",
    "ddpm_leading_offset",
    "pndm_v",
    "plms_v",
    "euler_beta",
    "dpmpp_2m_beta",
    "dpmpp_2m_cosine",
    "lms_cosine",
    "edm_exponential_1",
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
        let mut theirs: serde_json::Value =
            serde_json::from_str(&peer.facts["config"].replace("-Infinity", "\"-Infinity\"")).unwrap();
        theirs["_class_name"] = peer.facts["class"].as_str().into();
        let mut scheduler = scheduler::from_json(&theirs.to_string(), &crate::peer::fixture(&file)).unwrap();
        scheduler.options.eta = peer.fact("eta"); // an argument of the peer's `step`, not a field of its config
        scheduler.options.conventions = Conventions::DIFFUSERS;
        let steps = peer.fact("steps") as usize;
        Fixture { scheduler, theirs, peer, steps }
    }

    /// The chain of these steps. EDMDPMSolverMultistepScheduler has its σ in float32 whatever the precision: they are as recorded.
    fn chain(&self) -> Vec<Transition> {
        let chain = self.scheduler.chain(self.steps).unwrap();
        if self.scheduler.sampler != Sampler::EdmDpm {
            return chain;
        }
        let recorded = |(step, i): (&Transition, usize)| {
            let level = |level: Level, sigma: f64| {
                // A seventh power of numbers rounded to 6e-8.
                assert!((level.sigma() - sigma).abs() <= 1e-6 * sigma, "{} {sigma}", level.sigma());
                Level::new(Form::VarianceExploding, 0.25 * elementary::ln(sigma), 1.0, sigma)
            };
            let sigmas = self.peer.get("sigmas");
            Transition { from: level(step.from, sigmas[i]), to: level(step.to, sigmas[i + 1]) }
        };
        chain.iter().zip(0..).map(recorded).collect()
    }

    /// Entry i of a list of images, channels last.
    fn images<F: Real>(&self, name: &str, i: usize) -> Array4<F> {
        channels_last(&self.peer.get(name).index_axis(Axis(0), i).to_owned()).mapv(F::from_f64)
    }

    /// The states of a walk with the recorded noise; without recorded outputs they are those of the stand-in network.
    fn states<F: Real>(&self, recorded: bool) -> Vec<Array4<F>> {
        let Scheduler { sampler, options, .. } = &self.scheduler;
        let chain = self.chain();
        let times = self.peer.get("timesteps");
        assert_eq!(chain.len(), times.len());
        for (step, &time) in chain.iter().zip(times.iter()) {
            // Those of sigmas are logarithms of them.
            let off = f64::abs(step.from.time - time);
            assert!(off < 1e-9 * f64::abs(time).max(1.0), "fed {} for {time}", step.from.time);
        }
        let count = |name: &str| self.peer.get(name).shape()[0];
        let list_of = |name: &str| (0..count(name)).map(|i| self.images(name, i)).collect();
        let outputs = recorded.then(|| list_of("model_output"));
        let mut walk = Recorded { fixture: self, outputs, noise: list_of("noise"), states: vec![self.images("x", 0)] };
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
        let scheduler = &self.fixture.scheduler;
        let value = match &mut self.outputs {
            Some(outputs) => outputs.pop_front().expect("an output for each evaluation"),
            None => {
                let stand_in = level.time / (level.time + 1.0) * 0.9;
                x.mapv(|x| F::from_f64((x.to_f64() * stand_in) as f32 as f64))
            }
        };
        let output = Output::of_network(scheduler.prediction, value, x.dim().3);
        Ok(scheduler.sight().estimate(x, level, &output))
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
        // A cosine's β is a difference of 1 and a quotient near 1 (see below): at T, σ = 2e4 is off by 1e-9 of itself.
        let cosine = fixture.theirs["beta_schedule"] == "squaredcos_cap_v2";
        assert!(error <= if cosine { 1e-8 } else { SAME }, "{name}: off by {error:e}");
        // Some tens of roundings to 6e-8, amplified by up to 157 at the first steps where nothing is clipped.
        assert!(in_f32 <= 2e-4, "{name} in f32: off by {in_f32:e}");
    }
}

#[test]
fn tables_of_diffusers_are_ours() {
    for name in NAMES {
        let fixture = Fixture::read(name);
        let schedule = &fixture.scheduler.schedule;
        // Flow matching and EDM have no table.
        if schedule.process() != Process::Betas {
            continue;
        }
        for (table, ours) in [("betas", true), ("alphas_cumprod", false)] {
            for (i, theirs) in fixture.peer.get(table).iter().enumerate() {
                let ours = if ours { schedule.beta(i + 1) } else { schedule.alpha_bar(i + 1) };
                if schedule.zero_terminal_snr() && ours == 0.0 {
                    assert!(*theirs == 0.0 || *theirs == 1.0 / 16_777_216.0, "{name}: {theirs}"); // where σ is infinite
                    continue;
                }
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
        let mut ours: serde_json::Value =
            serde_json::from_str(&scheduler::to_json(&scheduler).replace("-Infinity", "\"-Infinity\"")).unwrap();
        ours.as_object_mut().unwrap().remove("_diffusers_version");
        assert_eq!(ours, theirs, "{name}");
    }
}
