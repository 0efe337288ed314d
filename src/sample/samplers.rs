//! The one list of samplers, which the command, scheduler files and the golden kit all read.
//!
//! A sampler is one file with one function, and one entry here.

use ndarray::Array4;

use super::{Conventions, Transition, Walk, ddim, ddpm};
use crate::diffusion::Variance;
use crate::numerics::Real;
use crate::{Error, Result};

/// What samplers may be told beside their chain; each takes those that its entry in the list names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerOptions {
    /// η, the share of the noise that is drawn anew, in [0, 1].
    pub eta: f64,
    /// σ² of an ancestral step.
    pub variance: Variance,
    /// Whether ᾱ after the last step is 1, a clean image, or ᾱ₁, one step short of it. In the second case x̂₀ is not reached,
    /// and σ at the last step is what the formula says.
    pub set_alpha_to_one: bool,
    /// Where implementations differ.
    pub conventions: Conventions,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        SamplerOptions {
            eta: 0.0,
            variance: Variance::FixedSmall,
            set_alpha_to_one: true,
            conventions: Conventions::PAPER,
        }
    }
}

impl SamplerOptions {
    /// Refuses values with which no step is possible.
    ///
    /// # Errors
    /// η that is not in [0, 1].
    pub fn validate(&self) -> Result<()> {
        if (0.0..=1.0).contains(&self.eta) {
            return Ok(());
        }
        Err(Error::value("eta", "0 to 1", self.eta))
    }
}

/// An option that some samplers take, by the field of [`SamplerOptions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// `eta`.
    Eta,
    /// `variance`.
    Variance,
    /// `set_alpha_to_one`.
    SetAlphaToOne,
}

/// What is known of a sampler beside its function.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name: `ddpm`.
    pub name: &'static str,
    /// diffusers' class of it.
    pub class: &'static str,
    /// Steps of a chain whose length nobody chose.
    pub steps: usize,
    /// The options that it takes.
    pub takes: &'static [Choice],
    /// When to take it, in one line.
    pub when: &'static str,
}

macro_rules! samplers {
    ($($variant:ident $name:literal $class:literal $steps:literal [$($choice:ident)*] $run:path, $when:literal;)*) => {
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
                        name: $name, class: $class, steps: $steps, takes: &[$(Choice::$choice),*], when: $when,
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
    Ddpm "ddpm" "DDPMScheduler" 200 [Variance] ddpm::ddpm,
        "Ancestral sampling (Ho et al. 2020): the most faithful with many steps; 100 or more.";
    Ddim "ddim" "DDIMScheduler" 50 [Eta SetAlphaToOne] ddim::ddim,
        "Deterministic at eta 0 (Song et al. 2021): good pictures in 10 to 50 steps, the same noise gives the same picture.";
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

    /// Whether it takes an option.
    pub fn takes(self, choice: Choice) -> bool {
        self.entry().takes.contains(&choice)
    }
}
