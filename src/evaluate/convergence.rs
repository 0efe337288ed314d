//! How fast samplers come to the solution of their equation: the error against the number of steps, and its order.
//!
//! # The measurement
//! Where images are a mixture of Gaussians, ε̂ is known exactly ([`GaussianMixture`]), and the probability-flow equation
//! dx/ds = σ·(ε̂ − σ·x), s = ln(sigma/signal), is solved by an adaptive integrator to 1e-12. A sampler that is given the same start
//! and the same ε̂ errs by what its steps are too long alone. Over n steps the error falls as n^−p: p, the order, is the slope
//! of the straight line through the logarithms.
//!
//! # What is fair
//! Chains are those of [`chain`](fn@crate::sample::chain), visited from the noisiest level, ratio e⁶, to the last, e⁻³, in
//! Karras's spacing (ρ = 7): neither λ nor σ is even, so that formulas for uneven steps are put to the test. Three things are
//! kept out, as they hide the order:
//!
//! - *The step to the clean image.* There λ is infinite, and every sampler takes a step of first order. Where the last level is
//!   little noise, its error is little, but it does not fall with the number of steps. The chain ends at the last level.
//! - *Lower orders at the end of a chain* (`lower_order_final`), which some programs take for stability.
//! - *The first steps of a multistep method*, which know no past and are of first and second order. They cannot be left
//!   out, but are harmless where x is nearly noise alone: an error there shrinks on the way by as much as x does, e⁻⁶. From less noise
//!   (a chain that starts in the middle) a method of third order is one of second.

use ndarray::Array4;
use serde::Serialize;

use crate::denoise::{Component, Estimate, GaussianMixture, Output, Sight};
use crate::diffusion::{Form, Level, Prediction, Process, Schedule};
use crate::layers::{flat, shaped};
use crate::numerics::elementary::{exp, ln};
use crate::numerics::ode::{Tolerance, dormand_prince};
use crate::numerics::rng::Stream;
use crate::numerics::sum::sum_by;
use crate::sample::{Algorithm, Sampler, SamplerOptions, Solver, ThirdOrder, Transition, Walk, chain};
use crate::{Error, Result};

/// ln(sigma/signal) of the noisiest level and of the last.
const FROM: f64 = 6.0;
const TO: f64 = -3.0;

/// The starting points.
const POINTS: usize = 16;

/// Errors below this are of the integrator, and of rounding: no slope is taken of them.
const FLOOR: f64 = 3e-11;

/// The steps that are taken by default: each number has groups of two and of three.
pub const STEPS: [usize; 6] = [12, 24, 48, 96, 192, 384];

/// A sampler with options that decide its order.
#[derive(Clone, Debug)]
pub struct Method {
    /// The sampler.
    pub sampler: Sampler,
    /// The options in words, empty if there is but one way.
    pub variant: String,
    /// What it is told.
    pub options: SamplerOptions,
    /// The order that its paper states.
    pub stated: f64,
}

/// What was measured of a method.
#[derive(Clone, Debug, Serialize)]
pub struct Convergence {
    /// The sampler's name.
    pub sampler: &'static str,
    /// Its options in words.
    pub variant: String,
    /// Evaluations of the denoiser in a step, once it is under way.
    pub evaluations: f64,
    /// The order that its paper states.
    pub stated: f64,
    /// The order that was measured: the slope over the last three errors above the floor.
    pub order: f64,
    /// Steps, and the root mean square of the error of x's numbers at the last level.
    pub errors: Vec<(usize, f64)>,
}

/// All deterministic samplers, in every way that has an order of its own.
pub fn methods() -> Vec<Method> {
    let base = SamplerOptions {
        set_alpha_to_one: false,
        lower_order_final: false,
        final_sigma: crate::sample::FinalSigma::SigmaMin,
        ..SamplerOptions::default()
    };
    let plain = |sampler, stated| Method { sampler, variant: String::new(), options: base, stated };
    let mut all = vec![
        plain(Sampler::Ddim, 1.0),
        plain(Sampler::Euler, 1.0),
        plain(Sampler::FlowEuler, 1.0),
        plain(Sampler::EdmEuler, 1.0),
        plain(Sampler::Heun, 2.0),
        plain(Sampler::Lms, 4.0),
    ];
    for (runge_kutta, variant) in [(true, "Runge-Kutta first"), (false, "PLMS")] {
        let options = SamplerOptions { runge_kutta, ..base };
        all.push(Method { sampler: Sampler::Pndm, variant: variant.into(), options, stated: 2.0 });
    }
    for sampler in [Sampler::DpmMultistep, Sampler::DpmSinglestep, Sampler::EdmDpm] {
        for (algorithm, name) in [(Algorithm::DpmSolver, "dpmsolver"), (Algorithm::DpmSolverPlusPlus, "dpmsolver++")] {
            for (order, solver, word) in [
                (1, Solver::Midpoint, ""),
                (2, Solver::Midpoint, ", midpoint"),
                (2, Solver::Heun, ", heun"),
                (3, Solver::Midpoint, ", midpoint"),
                (3, Solver::Heun, ", heun"),
            ] {
                // Multistep's third order is one for both; EDM's is the same function in another form.
                let once = order == 3 && solver == Solver::Heun && sampler != Sampler::DpmSinglestep;
                let of_edm = sampler == Sampler::EdmDpm && (algorithm.of_noise() || solver == Solver::Heun);
                if once || of_edm {
                    continue;
                }
                let word = if order == 3 && sampler != Sampler::DpmSinglestep { "" } else { word };
                let options = SamplerOptions { algorithm, order, solver, ..base };
                all.push(Method { sampler, variant: format!("{name} {order}{word}"), options, stated: order as f64 });
            }
        }
    }
    for (algorithm, name) in [(Algorithm::DpmSolver, "dpmsolver"), (Algorithm::DpmSolverPlusPlus, "dpmsolver++")] {
        let mut options = SamplerOptions { algorithm, order: 3, ..base };
        options.conventions.third_order = ThirdOrder::HalfAndSign;
        let variant = format!("{name} 3, half of D2 as published");
        all.push(Method { sampler: Sampler::DpmMultistep, variant, options, stated: 3.0 });
    }
    for (predict_x_0, of) in [(true, "x_0"), (false, "noise")] {
        for (solver, name) in [(Solver::Bh1, "bh1"), (Solver::Bh2, "bh2")] {
            for order in 1..=3 {
                let options = SamplerOptions { predict_x_0, solver, order, ..base };
                let variant = format!("{name} {order}, {of}");
                // The corrector adds one.
                all.push(Method { sampler: Sampler::UniPc, variant, options, stated: order as f64 + 1.0 });
            }
        }
    }
    for order in 1..=3 {
        let options = SamplerOptions { order, ..base };
        all.push(Method { sampler: Sampler::Deis, variant: order.to_string(), options, stated: order as f64 });
    }
    all
}

/// The images of the measurement: three Gaussians in the plane, one of them aslant.
///
/// # Panics
/// Never: the numbers are such.
pub fn images() -> GaussianMixture {
    let aslant = ndarray::arr2(&[[0.2, 0.08], [0.08, 0.1]]);
    let components = [
        Component::new(0.4, vec![-0.5, 0.3], vec![0.09; 2]),
        Component::new(0.35, vec![0.6, 0.4], vec![0.16, 0.06]),
        Component::with_covariance(0.25, vec![0.1, -0.6], &aslant),
    ];
    let components = components.into_iter().map(|component| component.expect("weights, means and variances"));
    GaussianMixture::new(components.collect()).expect("all in the plane")
}

/// The world that is measured in, and its exact solution.
#[derive(Clone, Debug)]
pub struct Measure {
    images: GaussianMixture,
    /// (points, 1, d, 1): variance-preserving x at the noisiest level, and at the last.
    start: Array4<f64>,
    end: Array4<f64>,
}

impl Measure {
    /// Solves the equation for these images.
    ///
    /// # Errors
    /// Images whose equation cannot be solved to the tolerance.
    pub fn new(images: GaussianMixture) -> Result<Self> {
        let mut start = Array4::zeros((POINTS, 1, images.size(), 1));
        Stream::keyed(0, "convergence.x_T", &[]).fill_normal(start.as_slice_mut().expect("a new array"));
        let dim = start.dim();
        let flow = |s: f64, x: &[f64], slope: &mut [f64]| {
            let x = shaped(dim, x.to_vec());
            let (sigma, eps) = noise(&images, &x, s)?;
            let of_each = flat(&x).iter().zip(flat(&eps));
            slope.iter_mut().zip(of_each).for_each(|(slope, (x, eps))| *slope = sigma * (eps - sigma * x));
            Ok(())
        };
        let tolerance = Tolerance { relative: 1e-12, absolute: 1e-13 };
        let (end, _) = dormand_prince(flow, (FROM, TO), flat(&start), tolerance)?;
        let end = shaped(dim, end);
        Ok(Measure { images, start, end })
    }

    /// The errors of a method after each number of steps, and their slope.
    ///
    /// # Errors
    /// No step, or more than a schedule has; a sampler that refuses its chain.
    pub fn convergence(&self, method: &Method, steps: &[usize]) -> Result<Convergence> {
        let errors = steps.iter().map(|&n| Ok((n, self.error(method, n)?))).collect::<Result<Vec<_>>>()?;
        let [few, many] = [24, 48].map(|n| self.chain(method, n).map(|chain| chain.len()));
        let evaluations = (many? - few?) as f64 / 24.0;
        let entry = method.sampler.entry();
        let (stated, order) = (method.stated, slope(&errors));
        Ok(Convergence { sampler: entry.name, variant: method.variant.clone(), evaluations, stated, order, errors })
    }

    /// The chain of n steps that ends at the last level.
    fn chain(&self, method: &Method, n: usize) -> Result<Vec<Transition>> {
        // Twice the times, because some samplers look half-way.
        let (sigma_min, sigma_max) = (exp(TO), exp(FROM));
        let most = crate::diffusion::schedule::MAX_T / 2 - 1;
        if !(1..=most).contains(&n) {
            return Err(Error::value("steps", format!("1 to {most}"), n));
        }
        let process = Process::Edm { sigma_min, sigma_max, rho: Some(7.0) };
        let schedule = Schedule::of_process(process, 2 * n + 1)?;
        let times: Vec<usize> = (0..=n).rev().map(|i| 2 * i + 1).collect();
        let mut chain = chain(&schedule, &times, method.sampler, &method.options)?;
        chain.pop(); // the step from the last level on
        Ok(chain)
    }

    /// The root mean square error after n steps.
    fn error(&self, method: &Method, n: usize) -> Result<f64> {
        let chain = self.chain(method, n)?;
        let scale = chain[0].from.scale();
        let mut walk = Exact { images: &self.images, dim: self.start.dim() };
        let x = method.sampler.run(&chain, &self.start * scale, &method.options, &mut walk)?;
        let scale = chain[chain.len() - 1].to.scale();
        let difference = x / scale - &self.end;
        Ok((sum_by(flat(&difference), |e| e * e) / difference.len() as f64).sqrt())
    }
}

/// σ at s = ln(sigma/signal), and ε̂ of variance-preserving x.
fn noise(images: &GaussianMixture, x: &Array4<f64>, s: f64) -> Result<(f64, Array4<f64>)> {
    let level = Level::new(Form::VariancePreserving, 0.0, 1.0, exp(s));
    let known = images.know(x, &vec![level; x.dim().0])?;
    Ok((level.sigma(), known.score * -level.sigma()))
}

/// Minus the slope of ln(error) over ln(steps), by least squares over the last three errors above the floor.
fn slope(errors: &[(usize, f64)]) -> f64 {
    let above: Vec<(f64, f64)> =
        errors.iter().filter(|(_, error)| *error > FLOOR).map(|&(n, error)| (ln(n as f64), ln(error))).collect();
    let last = &above[above.len().saturating_sub(3)..];
    let mean = |of: fn(&(f64, f64)) -> f64| last.iter().map(of).sum::<f64>() / last.len() as f64;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let (product, square) =
        last.iter().fold((0.0, 0.0), |(a, b), p| (a + (p.0 - x) * (p.1 - y), b + (p.0 - x) * (p.0 - x)));
    -product / square
}

/// A walk on which the noise that is seen is the exact one. As a network, it knows the level by the time that it is fed.
struct Exact<'a> {
    images: &'a GaussianMixture,
    dim: (usize, usize, usize, usize),
}

impl Walk<f64> for Exact<'_> {
    fn see(&mut self, x: &Array4<f64>, level: Level) -> Result<Estimate<f64>> {
        // EDM feeds a quarter of ln σ.
        let (_, eps) = noise(self.images, &(x / level.scale()), 4.0 * level.time)?;
        Ok(Sight::default().estimate(x, level, &Output::new(Prediction::Epsilon, eps)))
    }

    fn noise(&mut self, _: Level) -> Array4<f64> {
        // Asked for by samplers that could use some, and multiplied by 0.
        Array4::zeros(self.dim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last that the command takes by default, too.
    const FEW: [usize; 3] = [96, 192, 384];

    fn of(methods: impl Iterator<Item = Method>) -> Vec<Convergence> {
        let measure = Measure::new(images()).unwrap();
        methods.map(|method| measure.convergence(&method, &FEW).unwrap()).collect()
    }

    #[test]
    fn every_sampler_has_the_order_that_its_paper_states() {
        let found = of(methods().into_iter().filter(|m| m.options.conventions.third_order == ThirdOrder::Taylor));
        for Convergence { sampler, variant, stated, order, errors, .. } in &found {
            // What is left of the next order of n^-1 at these numbers of steps; orders lie 1 apart.
            let off = if *stated == 4.0 { 0.5 } else { 0.2 };
            assert!((order - stated).abs() < off, "{sampler} {variant}: {order}, not {stated}; {errors:?}");
        }
        assert_eq!(found.len(), 44);
        let evaluations = |name: &str| found.iter().find(|c| c.sampler == name).map(|c| c.evaluations);
        assert_eq!(["heun", "pndm", "unipc"].map(evaluations), [Some(2.0), Some(1.0), Some(1.0)]);
    }

    #[test]
    fn third_order_with_half_of_its_second_derivative_is_of_second_order() {
        for published in of(methods().into_iter().filter(|m| m.options.conventions.third_order != ThirdOrder::Taylor)) {
            assert!(published.order < 2.2, "{}: {}", published.variant, published.order);
        }
    }

    #[test]
    fn euler_in_any_form_and_dpm_solvers_of_first_order_err_as_ddim_does() {
        let first = of(methods().into_iter().filter(|m| m.stated == 1.0));
        for other in &first {
            for (other, ddim) in other.errors.iter().zip(&first[0].errors) {
                // Each step is the same but for rounding, which 200 steps add up.
                assert!((other.1 / ddim.1 - 1.0).abs() < 1e-9, "{other:?} {ddim:?}");
            }
        }
        assert_eq!((first[0].sampler, first.len()), ("ddim", 10));
    }

    #[test]
    fn order_that_is_lowered_at_the_end_of_the_chain_is_lost_for_all_of_it() {
        // UniPC's last steps are of order 2 and 1 in its class, however long the chain: one step of first order errs by h².
        let options = SamplerOptions { order: 3, lower_order_final: true, ..methods()[0].options };
        let method = Method { sampler: Sampler::UniPc, variant: String::new(), options, stated: 4.0 };
        let found = &of([method].into_iter())[0];
        assert!(found.order < 2.5, "{}", found.order);
    }

    #[test]
    fn slope_is_that_of_the_last_three_errors_above_the_floor() {
        let line: Vec<(usize, f64)> = [10, 20, 40, 80].map(|n| (n, 3.0 / (n * n) as f64)).to_vec();
        assert!((slope(&line) - 2.0).abs() < 1e-12);
        let with_floor: Vec<(usize, f64)> = line.iter().copied().chain([(160, 1e-11)]).collect();
        assert!((slope(&with_floor) - 2.0).abs() < 1e-12);
    }

    #[test]
    fn numbers_of_steps_that_no_chain_has_are_refused() {
        let measure = Measure::new(images()).unwrap();
        for n in [0, 60_000] {
            let refusal = measure.convergence(&methods()[0], &[n]).unwrap_err().to_string();
            assert!(refusal.starts_with("steps: expected 1 to"), "{refusal}");
        }
    }
}
