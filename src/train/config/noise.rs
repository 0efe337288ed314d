//! The forward process of a run, what its network is asked, and the scheduler that follows.

use serde::{Deserialize, Serialize};

use super::Config;
use crate::denoise::Threshold;
use crate::diffusion::{BetaSchedule, Prediction, Process, Schedule};
use crate::pipeline::Scheduler;
use crate::sample::Sampler;
use crate::{Error, Result};

/// The forward process and what the network says of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// `linear`, `scaled_linear`, `squaredcos_cap_v2` (cosine) or `sigmoid`.
    pub beta_schedule: BetaSchedule,
    /// T.
    pub num_train_timesteps: usize,
    /// β₁.
    pub beta_start: f64,
    /// β_T.
    pub beta_end: f64,
    /// `epsilon`, `sample` or `v_prediction` under a table of β; `flow_prediction` or `edm`, each with its own process.
    pub prediction_type: PredictionType,
}

/// [`Prediction`] without its constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// [`Prediction::Epsilon`].
    Epsilon,
    /// [`Prediction::Sample`].
    Sample,
    /// [`Prediction::V`].
    #[serde(rename = "v_prediction")]
    V,
    /// [`Prediction::Flow`], on the straight line of [`FlowConfig`].
    #[serde(rename = "flow_prediction")]
    Flow,
    /// [`Prediction::Edm`], under the noise of [`EdmConfig`].
    Edm,
}

/// The noise of flow matching, [`Process::Flow`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowConfig {
    /// s, above 0; 1 spreads σ evenly, more spends more of the times in noise.
    pub shift: f64,
}

/// The noise of EDM, [`Process::Edm`], and its images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdmConfig {
    /// The least σ, above 0.
    pub sigma_min: f64,
    /// The largest.
    pub sigma_max: f64,
    /// σ is spread evenly in σ^(1/ρ).
    pub rho: f64,
    /// σ_d, the standard deviation of the images, above 0.
    pub sigma_data: f64,
}

/// The samplers of a table of β that a model can be saved with: their classes can say that pixels are in [−1, 1].
const OF_BETAS: [Sampler; 7] = [
    Sampler::Ddpm,
    Sampler::Ddim,
    Sampler::Heun,
    Sampler::DpmMultistep,
    Sampler::DpmSinglestep,
    Sampler::UniPc,
    Sampler::Deis,
];

/// Those among them that say so by `clip_sample`.
const CLIP: [Sampler; 3] = [Sampler::Ddpm, Sampler::Ddim, Sampler::Heun];

/// How the others say so: by dynamic thresholding whose bound is never above 1.
const IN_RANGE: Threshold = Threshold { ratio: 0.995, most: 1.0 };

impl Default for FlowConfig {
    fn default() -> Self {
        FlowConfig { shift: 1.0 }
    }
}

impl Default for EdmConfig {
    /// Karras et al. 2022, Table 1.
    fn default() -> Self {
        EdmConfig { sigma_min: 0.002, sigma_max: 80.0, rho: 7.0, sigma_data: 0.5 }
    }
}

impl From<Prediction> for PredictionType {
    fn from(prediction: Prediction) -> Self {
        match prediction {
            Prediction::Epsilon => PredictionType::Epsilon,
            Prediction::Sample => PredictionType::Sample,
            Prediction::V => PredictionType::V,
            Prediction::Flow => PredictionType::Flow,
            Prediction::Edm(_) => PredictionType::Edm,
        }
    }
}

impl Config {
    /// What the network is asked.
    pub fn prediction(&self) -> Prediction {
        match self.schedule.prediction_type {
            PredictionType::Epsilon => Prediction::Epsilon,
            PredictionType::Sample => Prediction::Sample,
            PredictionType::V => Prediction::V,
            PredictionType::Flow => Prediction::Flow,
            PredictionType::Edm => Prediction::Edm(self.edm.sigma_data),
        }
    }

    /// The scheduler that the trained model is saved with: the sampler that was named, or the usual one of its noise, with the
    /// objective's variance and a shorter chain starting at T. Under a table of β, pixels are kept in [−1, 1]; diffusers' classes
    /// for flow matching and EDM have no word for that.
    ///
    /// # Errors
    /// A schedule that is out of range; a sampler of another noise, or whose class has no word for the range of pixels.
    pub fn scheduler(&self) -> Result<Scheduler> {
        let (s, edm) = (&self.schedule, &self.edm);
        let t_max = s.num_train_timesteps;
        let (schedule, samplers): (Schedule, &[Sampler]) = match s.prediction_type {
            PredictionType::Flow => {
                (Schedule::of_process(Process::Flow { shift: self.flow.shift }, t_max)?, &[Sampler::FlowEuler])
            }
            PredictionType::Edm => {
                let (sigma_min, sigma_max, rho) = (edm.sigma_min, edm.sigma_max, Some(edm.rho));
                if !(edm.sigma_data > 0.0 && edm.sigma_data.is_finite()) {
                    return Err(Error::value("edm.sigma_data", "a number above 0", edm.sigma_data));
                }
                let process = Process::Edm { sigma_min, sigma_max, rho };
                (Schedule::of_process(process, t_max)?, &[Sampler::EdmDpm, Sampler::EdmEuler])
            }
            _ => (Schedule::new(s.beta_schedule, t_max, s.beta_start, s.beta_end)?, &OF_BETAS),
        };
        let sampler = self.sampler.unwrap_or(samplers[0]);
        if !samplers.contains(&sampler) {
            let names: Vec<&str> = samplers.iter().map(|sampler| sampler.entry().name).collect();
            return Err(Error::value("sampler", names.join(" or "), sampler.entry().name));
        }
        let of_betas = schedule.process() == Process::Betas;
        let thresholds = of_betas && !CLIP.contains(&sampler);
        let clip = (of_betas && !thresholds).then_some(1.0);
        let mut scheduler = Scheduler::new(schedule, self.prediction(), clip)?;
        scheduler.threshold = thresholds.then_some(IN_RANGE);
        scheduler.sampler = sampler;
        scheduler.options.variance = self.objective.variance;
        Ok(scheduler)
    }

    /// Takes over the noise and the prediction of this scheduler, and its sampler where a run can have it. A table of betas of
    /// its own, or one that was rescaled to end without signal, is beyond a config: [`scheduler`](Config::scheduler) then gives
    /// another schedule.
    pub fn set_noise(&mut self, scheduler: &Scheduler) {
        let noise = &scheduler.schedule;
        self.schedule = ScheduleConfig {
            beta_schedule: noise.curve(),
            num_train_timesteps: noise.t_max(),
            beta_start: noise.beta_start(),
            beta_end: noise.beta_end(),
            prediction_type: scheduler.prediction.into(),
        };
        let others: &[Sampler] = match (noise.process(), scheduler.prediction) {
            (Process::Flow { shift }, _) => {
                self.flow = FlowConfig { shift };
                &[]
            }
            (Process::Edm { sigma_min, sigma_max, rho }, Prediction::Edm(sigma_data)) => {
                self.edm = EdmConfig { sigma_min, sigma_max, rho: rho.unwrap_or(self.edm.rho), sigma_data };
                &[Sampler::EdmEuler]
            }
            _ => &OF_BETAS[1..],
        };
        self.sampler = Some(scheduler.sampler).filter(|sampler| others.contains(sampler));
    }
}
