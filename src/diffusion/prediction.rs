//! What the network's output means: the noise ε, the image x₀, a velocity, or EDM's mixture, and the way between them.
//!
//! With a = √ᾱ_t and σ = √(1−ᾱ_t), so a² + σ² = 1, the pair (x_t, v) is the pair (x₀, ε) turned by an angle:
//!
//! ```text
//! x_t = a·x₀ + σ·ε          x₀ = a·x_t − σ·v
//! v   = a·ε  − σ·x₀         ε  = σ·x_t + a·v          (Salimans and Ho 2022, § 4)
//! ```
//!
//! x₀ from ε is x₀ = (x_t − σ·ε)/a (Ho et al. 2020, Eq. 9 and Eq. 15), and ε from x₀ is ε = (x_t − a·x₀)/σ. The first
//! divides by a, which amplifies an error of ε̂ by 1/√SNR, and is impossible where ᾱ_t = 0; [`Prediction::check`]
//! refuses that. The second divides by σ, which is above 0 from t = 1 on.
//!
//! Where signal and sigma are any a and b (see [`Level`]), flow matching asks for the velocity u = dx/dσ of the straight line,
//! ε − x₀ (Lipman et al. 2023, Eq. 23), from which
//!
//! ```text
//! x₀ = (x − b·u)/(a + b)          ε = (x + a·u)/(a + b)
//! ```
//!
//! and EDM (Karras et al. 2022, Eq. 7) for F in x̂₀ = c_skip·x + c_out·F, so that neither input nor target ever leaves unit
//! variance. With D = √(b² + σ_d²·a²), σ_d the standard deviation of the images, its c_skip, c_out and c_in (their Table 1,
//! where a = 1 and b = σ) are
//!
//! ```text
//! x̂₀ = σ_d²·a/D²·x + σ_d·b/D·F          F = (b·x₀ − σ_d²·a·ε)/(σ_d·D)
//! ε̂  = b/D²·x − σ_d·a/D·F              the network is fed x/D
//! ```
//!
//! At σ_d = 1 and D = 1, F is −v.

use ndarray::Array4;
use serde::{Deserialize, Serialize};

use super::{Level, Marginal, Schedule};
use crate::numerics::Real;
use crate::{Error, Result};

/// What the network predicts, under the names that `diffusers` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise ε (Ho et al. 2020, Eq. 11).
    Epsilon,
    /// The image x₀.
    Sample,
    /// The velocity v = √ᾱ_t·ε − √(1−ᾱ_t)·x₀ (Salimans and Ho 2022, § 4).
    #[serde(rename = "v_prediction")]
    V,
    /// The velocity ε − x₀ of flow matching (Lipman et al. 2023, Eq. 23).
    #[serde(rename = "flow_prediction")]
    Flow,
    /// EDM's F, for images of this standard deviation σ_d, above 0 (Karras et al. 2022, Eq. 7).
    Edm(f64),
}

impl Prediction {
    /// Whether x₀ can be had from this prediction at every step of the schedule.
    ///
    /// # Errors
    /// If ε is predicted and ᾱ_T is 0, or so small that √ᾱ_T in f32 is nearly: x_T is then all noise, its ε says
    /// nothing of the image, and x̂₀ = (x_T − ε̂)/0.
    pub fn check(self, schedule: &Schedule) -> Result<()> {
        let last = schedule.alpha_bar(schedule.t_max());
        if self == Prediction::Epsilon && last < f32::MIN_POSITIVE as f64 {
            let expected = format!(
                "\"v_prediction\" or \"sample\", because the schedule ends at alpha_bar = {last:e} and x_0 from epsilon \
                 divides by its root"
            );
            return Err(Error::value("prediction_type", expected, "\"epsilon\""));
        }
        Ok(())
    }

    /// What x at a level is multiplied by before the network sees it, above 0: the network was trained on variance-preserving
    /// images, on those of the straight line, or on images of unit variance.
    pub fn input_scale(self, level: Level) -> f64 {
        match self {
            Prediction::Epsilon | Prediction::Sample | Prediction::V => 1.0 / level.scale(),
            Prediction::Flow => 1.0 / (level.signal() + level.sigma()),
            Prediction::Edm(sigma_data) => 1.0 / spread::<f64>(level.marginal(), sigma_data),
        }
    }

    /// Multiplies each image by the [`input_scale`](Prediction::input_scale) of its level, rounded once to `F`.
    ///
    /// # Shapes
    /// `x` (n, h, w, c); `levels` (n).
    pub fn scale_inputs<F: Real>(self, x: &mut Array4<F>, levels: &[Level]) {
        for (mut image, &level) in x.outer_iter_mut().zip(levels) {
            let scale = self.input_scale(level);
            if scale != 1.0 {
                let scale = F::from_f64(scale);
                image.mapv_inplace(|x| scale * x);
            }
        }
    }

    /// What the network should have said.
    ///
    /// # Shapes
    /// `x_0`, `eps` and the result: all elements of one image, in the same order.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn target<F: Real>(self, at: Marginal<F>, x_0: &[F], eps: &[F]) -> Vec<F> {
        let Marginal { signal, sigma } = at;
        match self {
            Prediction::Epsilon => eps.to_vec(),
            Prediction::Sample => x_0.to_vec(),
            Prediction::V => each(x_0, eps, |x_0, eps| signal * eps - sigma * x_0),
            Prediction::Flow => each(x_0, eps, |x_0, eps| eps - x_0),
            Prediction::Edm(sigma_data) => {
                let divisor = F::from_f64(sigma_data) * spread(at, sigma_data);
                let weight = F::from_f64(sigma_data * sigma_data) * signal;
                each(x_0, eps, |x_0, eps| (sigma * x_0 - weight * eps) / divisor)
            }
        }
    }

    /// The image that the network's output implies, x̂₀, not clipped.
    ///
    /// # Shapes
    /// `x_t`, `output` and the result: all elements of one image, in the same order.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn x_0_hat<F: Real>(self, at: Marginal<F>, x_t: &[F], output: &[F]) -> Vec<F> {
        let Marginal { signal, sigma } = at;
        match self {
            Prediction::Epsilon => each(x_t, output, |x_t, eps_hat| (x_t - sigma * eps_hat) / signal),
            Prediction::Sample => output.to_vec(),
            Prediction::V => each(x_t, output, |x_t, v_hat| signal * x_t - sigma * v_hat),
            Prediction::Flow => each(x_t, output, |x_t, u_hat| (x_t - sigma * u_hat) / (signal + sigma)),
            Prediction::Edm(sigma_data) => {
                let (data, root) = (F::from_f64(sigma_data), spread(at, sigma_data));
                let (skip, out) = (data * data * signal / (root * root), data * sigma / root);
                each(x_t, output, |x_t, f| skip * x_t + out * f)
            }
        }
    }

    /// The noise that the network's output implies, ε̂.
    ///
    /// # Shapes
    /// `x_t`, `output` and the result: all elements of one image, in the same order.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn eps_hat<F: Real>(self, at: Marginal<F>, x_t: &[F], output: &[F]) -> Vec<F> {
        let Marginal { signal, sigma } = at;
        match self {
            Prediction::Epsilon => output.to_vec(),
            Prediction::Sample => each(x_t, output, |x_t, x_0_hat| (x_t - signal * x_0_hat) / sigma),
            Prediction::V => each(x_t, output, |x_t, v_hat| sigma * x_t + signal * v_hat),
            Prediction::Flow => each(x_t, output, |x_t, u_hat| (x_t + signal * u_hat) / (signal + sigma)),
            Prediction::Edm(sigma_data) => {
                let (data, root) = (F::from_f64(sigma_data), spread(at, sigma_data));
                let (skip, out) = (sigma / (root * root), data * signal / root);
                each(x_t, output, |x_t, f| skip * x_t - out * f)
            }
        }
    }
}

/// D = √(sigma² + σ_d²·signal²), the standard deviation of x where the images' is σ_d.
fn spread<F: Real>(at: Marginal<F>, sigma_data: f64) -> F {
    let data = F::from_f64(sigma_data) * at.signal;
    (at.sigma * at.sigma + data * data).sqrt()
}

/// `rule` applied to two images, element by element.
fn each<F: Real>(a: &[F], b: &[F], rule: impl Fn(F, F) -> F) -> Vec<F> {
    assert_eq!(a.len(), b.len(), "prediction: the two images differ in length");
    a.iter().zip(b).map(|(&a, &b)| rule(a, b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::{BetaSchedule, Form, q_sample};
    use crate::numerics::rng::Stream;

    const ALL: [Prediction; 5] =
        [Prediction::Epsilon, Prediction::Sample, Prediction::V, Prediction::Flow, Prediction::Edm(0.5)];

    fn normals(purpose: &str) -> Vec<f64> {
        let mut z = vec![f64::NAN; 13];
        Stream::keyed(11, purpose, &[]).fill_normal(&mut z);
        z
    }

    fn assert_near(a: &[f64], b: &[f64], tolerance: f64) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < tolerance), "{a:?}\n{b:?}");
    }

    #[test]
    fn perfect_output_of_every_kind_gives_back_the_image_and_the_noise() {
        let schedule = Schedule::new(BetaSchedule::Linear, 1000, 1e-4, 0.02).unwrap();
        let (x_0, eps) = (normals("x_0"), normals("eps"));
        let preserving = [1, 300, 1000].map(|t| schedule.level(t));
        let others = [Level::new(Form::Flow, 300.0, 0.7, 0.3), Level::new(Form::VarianceExploding, 300.0, 1.0, 5.0)];
        for level in preserving.into_iter().chain(others) {
            let x_t = q_sample(level, &x_0, &eps);
            let at = level.marginal();
            // v is an angle, and so of variance-preserving levels alone.
            for prediction in ALL.into_iter().filter(|&kind| level.scale() == 1.0 || kind != Prediction::V) {
                let output = prediction.target(at, &x_0, &eps);
                // Rounding of x_t is divided by √ᾱ_T = 0.006 or by √(1−ᾱ₁) = 0.01.
                assert_near(&prediction.x_0_hat(at, &x_t, &output), &x_0, 1e-12);
                assert_near(&prediction.eps_hat(at, &x_t, &output), &eps, 1e-12);
            }
        }
    }

    #[test]
    fn velocity_is_the_derivative_of_x_t_along_the_angle() {
        // With √ᾱ = cos φ and √(1−ᾱ) = sin φ, v = dx/dφ (Salimans and Ho 2022, Appendix D).
        let (x_0, eps, phi, h) = ([0.4], [-1.3], 0.9f64, 1e-6);
        let at = |phi: f64| {
            let (signal, sigma) = (crate::numerics::elementary::cos(phi), crate::numerics::elementary::sin(phi));
            Marginal { signal, sigma }
        };
        let x = |phi: f64| at(phi).signal * x_0[0] + at(phi).sigma * eps[0];
        let derivative = (x(phi + h) - x(phi - h)) / (2.0 * h);
        assert_near(&Prediction::V.target(at(phi), &x_0, &eps), &[derivative], 1e-9);
    }

    #[test]
    fn epsilon_where_the_signal_vanishes_is_refused_and_the_others_are_finite() {
        let schedule = Schedule::new(BetaSchedule::Linear, 10, 1e-4, 1.0).unwrap();
        let refusal = Prediction::Epsilon.check(&schedule).unwrap_err().to_string();
        assert!(refusal.starts_with("prediction_type") && refusal.contains("v_prediction"), "{refusal}");
        let at = schedule.level(10).marginal();
        for prediction in [Prediction::Sample, Prediction::V] {
            prediction.check(&schedule).unwrap();
            let (x_t, output) = (normals("x_t"), normals("output"));
            assert!(prediction.x_0_hat(at, &x_t, &output).iter().all(|x| x.is_finite()));
            assert!(prediction.eps_hat(at, &x_t, &output).iter().all(|x| x.is_finite()));
        }
    }

    #[test]
    fn edm_is_as_its_paper_prints_it_and_keeps_input_and_target_at_unit_variance() {
        // Karras et al. 2022, Table 1, at signal 1.
        let (sigma, data, x, f) = (3.0, 0.5, [0.7], [-0.4]);
        let level = Level::new(Form::VarianceExploding, 0.0, 1.0, sigma);
        let total: f64 = sigma * sigma + data * data;
        let (c_skip, c_out) = (data * data / total, sigma * data / total.sqrt());
        let prediction = Prediction::Edm(data);
        assert_near(&prediction.x_0_hat(level.marginal(), &x, &f), &[c_skip * x[0] + c_out * f[0]], 1e-15);
        assert!((prediction.input_scale(level) - 1.0 / total.sqrt()).abs() < 1e-16);
        // The target is a sum of two independent parts.
        let parts = [[data, 0.0], [0.0, 1.0]].map(|[x_0, eps]| prediction.target(level.marginal(), &[x_0], &[eps])[0]);
        assert!((parts[0] * parts[0] + parts[1] * parts[1] - 1.0).abs() < 1e-15);
    }

    #[test]
    fn names_are_those_of_diffusers() {
        let names = ALL.map(|prediction| serde_json::to_string(&prediction).unwrap());
        assert_eq!(names, ["\"epsilon\"", "\"sample\"", "\"v_prediction\"", "\"flow_prediction\"", "{\"edm\":0.5}"]);
    }
}
