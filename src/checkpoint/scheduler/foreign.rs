//! Classes of diffusers whose samplers are not here, and what their fields mean for ours.
//!
//! Their noise is that of `DDPMScheduler`, x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε, so a model that was published with one of them can
//! be sampled with ours. Flow matching and EDM have another noise: their classes are not in the list.

use serde_json::{Value, json};

use super::class::Class;
use crate::sample::Spacing;

/// A scheduler with the same noise and another sampler. A class that becomes a sampler here leaves the list.
#[derive(Debug)]
pub struct Foreign {
    /// diffusers' name.
    pub class: &'static str,
    /// `beta_start` and `beta_end` where the file does not say them.
    pub betas: (f64, f64),
    /// `timestep_spacing` where the file does not say it.
    pub spacing: Spacing,
}

/// Those of Ho et al. 2020, the default of most classes.
const USUAL_BETAS: (f64, f64) = (1e-4, 0.02);

/// Those of Rombach et al. 2022, the default of some.
const LATENT_BETAS: (f64, f64) = (0.00085, 0.012);

const SAME_NOISE: [Foreign; 6] = [
    Foreign { class: "DDIMParallelScheduler", betas: USUAL_BETAS, spacing: Spacing::Leading },
    Foreign { class: "DDPMParallelScheduler", betas: USUAL_BETAS, spacing: Spacing::Leading },
    Foreign { class: "DPMSolverMultistepInverseScheduler", betas: USUAL_BETAS, spacing: Spacing::Linspace },
    Foreign { class: "DPMSolverSDEScheduler", betas: LATENT_BETAS, spacing: Spacing::Linspace },
    Foreign { class: "KDPM2AncestralDiscreteScheduler", betas: LATENT_BETAS, spacing: Spacing::Linspace },
    Foreign { class: "KDPM2DiscreteScheduler", betas: LATENT_BETAS, spacing: Spacing::Linspace },
];

impl Foreign {
    /// The entry of this class.
    pub fn of_class(class: &str) -> Option<&'static Foreign> {
        SAME_NOISE.iter().find(|foreign| foreign.class == class)
    }

    /// Gives the fields of our class the defaults of theirs.
    pub fn change(&self, class: &mut Class) {
        class.0.insert("beta_start".into(), json!(self.betas.0));
        class.0.insert("beta_end".into(), json!(self.betas.1));
        class.0.insert("timestep_spacing".into(), json!(self.spacing));
    }
}

/// Fields of classes that are not here which say how they walk, and one of 2022 that named a library of tensors: they change
/// neither the noise nor what is predicted.
pub const UNREAD: [&str; 5] =
    ["corrector_order", "noise_sampler_seed", "predictor_order", "tensor_format", "timestep_values"];

/// Fields of other classes that change the noise or the times that are visited, each with the value that does not.
pub fn without_effect() -> [(&'static str, Value); 6] {
    [
        ("sigma_max", Value::Null),
        ("sigma_min", Value::Null),
        ("timestep_type", json!("discrete")),
        ("timestep_values", Value::Null),
        ("use_dynamic_shifting", json!(false)),
        ("use_flow_sigmas", json!(false)),
    ]
}
