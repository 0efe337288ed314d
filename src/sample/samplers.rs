//! The one list of samplers, which the command, scheduler files and the golden kit all read.
//!
//! A sampler is one file with one function, and one entry here.

use ndarray::Array4;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::options::{Choice, SamplerOptions};
use super::{Transition, Walk, ddim, ddpm, deis, dpm, euler, euler_ancestral, heun, lms, pndm, unipc};
use crate::Result;
use crate::diffusion::Form;
use crate::numerics::Real;

/// What is known of a sampler beside its function.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name: `ddpm`.
    pub name: &'static str,
    /// diffusers' class of it.
    pub class: &'static str,
    /// Steps of a chain whose length nobody chose.
    pub steps: usize,
    /// The form of the levels that it walks.
    pub form: Form,
    /// The options that it takes.
    pub takes: &'static [Choice],
    /// When to take it, in one line.
    pub when: &'static str,
}

macro_rules! samplers {
    ($($variant:ident $name:literal $class:literal $steps:literal $form:ident [$($choice:ident)*] $run:path, $when:literal;)*) => {
        /// The rule by which x at one level follows from x at the level before.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Sampler {
            $(#[doc = $when] $variant,)*
        }

        impl Sampler {
            /// All of them.
            pub const ALL: &'static [Sampler] = &[$(Sampler::$variant),*];

            /// Its entry in the list.
            pub fn entry(self) -> Entry {
                match self {
                    $(Sampler::$variant => Entry {
                        name: $name, class: $class, steps: $steps, form: Form::$form, takes: &[$(Choice::$choice),*],
                        when: $when,
                    },)*
                }
            }

            /// Walks down the chain from `x` at its first level.
            ///
            /// # Shapes
            /// x and the result: (n, h, w, c).
            ///
            /// # Errors
            /// Options out of range; whatever the walk refuses.
            pub fn run<F: Real>(
                self,
                chain: &[Transition],
                x: Array4<F>,
                options: &SamplerOptions,
                walk: &mut dyn Walk<F>,
            ) -> Result<Array4<F>> {
                options.validate()?;
                match self {
                    $(Sampler::$variant => $run(chain, x, options, walk),)*
                }
            }
        }
    };
}

samplers! {
    Ddpm "ddpm" "DDPMScheduler" 200 VariancePreserving [Variance] ddpm::ddpm,
        "Ancestral sampling (Ho et al. 2020): the most faithful with many steps; 100 or more.";
    Ddim "ddim" "DDIMScheduler" 50 VariancePreserving [Eta SetAlphaToOne] ddim::ddim,
        "Deterministic at eta 0 (Song et al. 2021): good pictures in 10 to 50 steps, the same noise gives the same picture.";
    DdimInverse "ddim-inverse" "DDIMInverseScheduler" 50 VariancePreserving [SetAlphaToOne] ddim::ddim_inverse,
        "From a picture back to its noise (Song et al. 2021): the other way round, for editing; needs --from.";
    Euler "euler" "EulerDiscreteScheduler" 30 VarianceExploding [Sigmas FinalSigma] euler::euler,
        "Euler's step in sigma (Karras et al. 2022): DDIM in other words; 20 to 50 steps.";
    EulerAncestral "euler-ancestral" "EulerAncestralDiscreteScheduler" 30 VarianceExploding [] euler_ancestral::euler_ancestral,
        "Euler's step with noise drawn anew (k-diffusion): varied pictures in 20 to 50 steps, no two lengths alike.";
    Heun "heun" "HeunDiscreteScheduler" 20 VarianceExploding [Sigmas] heun::heun,
        "Second order, two evaluations a step (Karras et al. 2022): accurate where evaluations are cheap.";
    Lms "lms" "LMSDiscreteScheduler" 30 VarianceExploding [Sigmas] lms::lms,
        "Linear multistep of order 4 in sigma (k-diffusion): smooth models, 20 or more steps.";
    Pndm "pndm" "PNDMScheduler" 50 VariancePreserving [SetAlphaToOne RungeKutta] pndm::pndm,
        "Pseudo multistep of four slopes, second order (Liu et al. 2022): what many models of 2022 were published with; 50 steps.";
    DpmMultistep "dpm-multistep" "DPMSolverMultistepScheduler" 20 VariancePreserving
        [Algorithm Order Solver Sigmas FinalSigma] dpm::multistep,
        "DPM-Solver++ 2M by default (Lu et al. 2022): the usual choice for 10 to 20 steps.";
    DpmSinglestep "dpm-singlestep" "DPMSolverSinglestepScheduler" 21 VariancePreserving
        [Algorithm Order Solver Sigmas FinalSigma] dpm::singlestep,
        "DPM-Solver, groups of 2 or 3 evaluations that forget the past (Lu et al. 2022): with strong guidance.";
    UniPc "unipc" "UniPCMultistepScheduler" 15 VariancePreserving [Order Solver Sigmas FinalSigma] unipc::unipc,
        "Predictor and corrector in one evaluation (Zhao et al. 2023): the best with 5 to 10 steps.";
    Deis "deis" "DEISMultistepScheduler" 20 VariancePreserving [Order Sigmas] deis::deis,
        "Exponential integrator of the noise (Zhang and Chen 2023): 10 to 20 steps.";
    FlowEuler "flow-euler" "FlowMatchEulerDiscreteScheduler" 30 Flow [Sigmas] euler::euler,
        "Euler's step on the straight line (Lipman et al. 2023): for models of flow matching.";
    EdmEuler "edm-euler" "EDMEulerScheduler" 30 VarianceExploding [FinalSigma] euler::euler,
        "Euler's step for models with EDM's preconditioning (Karras et al. 2022).";
    EdmDpm "edm-dpm" "EDMDPMSolverMultistepScheduler" 20 VarianceExploding [Algorithm Order Solver FinalSigma] dpm::multistep,
        "DPM-Solver++ for models with EDM's preconditioning.";
}

impl Sampler {
    /// The sampler of this name.
    pub fn named(name: &str) -> Option<Sampler> {
        Sampler::ALL.iter().copied().find(|sampler| sampler.entry().name == name)
    }

    /// The sampler of this class of diffusers.
    pub fn of_class(class: &str) -> Option<Sampler> {
        Sampler::ALL.iter().copied().find(|sampler| sampler.entry().class == class)
    }

    /// Whether a step follows from where x is alone, and not from the steps before or the length of the chain.
    pub fn is_memoryless(self) -> bool {
        use Sampler::{Ddim, Ddpm, EdmEuler, Euler, EulerAncestral, FlowEuler};
        matches!(self, Ddpm | Ddim | Euler | EulerAncestral | FlowEuler | EdmEuler)
    }

    /// The names of those whose steps follow from x alone, for a message.
    pub(crate) fn memoryless_names() -> String {
        let all = Sampler::ALL.iter().filter(|sampler| sampler.is_memoryless());
        all.map(|sampler| sampler.entry().name).collect::<Vec<_>>().join(", ")
    }

    /// Whether it takes an option.
    pub fn takes(self, choice: Choice) -> bool {
        self.entry().takes.contains(&choice)
    }
}

/// By its name.
impl Serialize for Sampler {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.entry().name)
    }
}

impl<'de> Deserialize<'de> for Sampler {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Sampler::named(&name).ok_or_else(|| {
            let names: Vec<&str> = Sampler::ALL.iter().map(|sampler| sampler.entry().name).collect();
            de::Error::custom(format!("unknown sampler `{name}`, expected one of {}", names.join(", ")))
        })
    }
}
