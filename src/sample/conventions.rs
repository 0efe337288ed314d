//! Where implementations differ, as data: one field for each question.
//!
//! What a paper leaves open, or a program does otherwise than its paper, is decided here and nowhere else.
//! [`DIALECTS`](super::DIALECTS) has the answers of each implementation, with the places where they are given; which version of
//! each was read is said there.

/// The answers of one implementation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conventions {
    /// Which levels a chain visits.
    pub lists: Lists,
    /// Where DDIM's step from t goes when the steps are fewer than T.
    pub ddim_goes_to: Next,
    /// What x begins with where levels are not variance-preserving.
    pub first_noise: FirstNoise,
    /// Whether ε̂ is derived again from a clipped x̂₀.
    pub eps_from_clipped_x_0: bool,
    /// Whether the last step of ancestral sampling adds noise where the network was fed a time above 0.
    pub noise_after_last_step: bool,
    /// The least variance of an ancestral step that adds noise.
    pub least_variance: f64,
    /// Whether a network that learned the variance without a range says its logarithm; else the variance itself.
    pub learned_is_logarithm: bool,
    /// How much of its second derivative the third order of multistep DPM-Solver has.
    pub third_order: ThirdOrder,
    /// Whether the last steps of a short chain are of lower order, where a model's options ask for it.
    pub short_chains_end_low: bool,
    /// What PNDM's slopes are of.
    pub pndm_slopes: Slopes,
    /// The guidance weight that changes nothing: 1 in ε̂(none) + w·(ε̂(class) − ε̂(none)), 0 in
    /// (1 + w)·ε̂(class) − w·ε̂(none).
    pub guidance_of_none: f64,
}

/// Where the levels of a chain are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// The timesteps that every sampler visits, as `--spacing` spreads them; where levels are spread in sigma, from T to 1, the
    /// times between two of the table's are fed as they are.
    Shared,
    /// What diffusers' class of the sampler visits: `linspace` without rounding for samplers in sigma, one step of n + 1 left
    /// out for those in λ, and times rounded where it rounds them.
    OfTheClass,
    /// From T to 1 by a stride that is added up in float64 and rounded, ties to even; of one step, t = 1 alone.
    Respaced,
    /// From T by T/N, cut off, in float32: one stride before the list would begin is the image.
    CutOff,
    /// In sigma and λ from T to 1 without rounding, ln σ being linear between the table's; in time as `Shared`.
    LinearInLogSigma,
}

/// The time that follows t in a shorter chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next time of the list.
    OfTheList,
    /// t − ⌊T/N⌋, whatever the list says; the end of the chain where that is before the first time.
    OneStrideBefore,
}

/// The deviation of the first x of a variance-exploding chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstNoise {
    /// √(σ² + 1): that of an image of variance 1 in its noise.
    WithImage,
    /// σ: that of the noise.
    Alone,
    /// σ where the spacing starts at T, √(σ² + 1) where it is leading.
    BySpacing,
}

/// The third order of multistep DPM-Solver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThirdOrder {
    /// That of the Taylor polynomial: D₂ = 2·(d₀−d₁)/(r₀+r₁).
    Taylor,
    /// Half of D₂; the second step, which knows one past value, integrates D₁ exactly, as the third does.
    Half,
    /// Half of D₂, and in the stochastic equation −½ for the +½ of its weight.
    HalfAndSign,
}

impl ThirdOrder {
    /// What (d₀−d₁)/(r₀+r₁) is multiplied by to be D₂.
    pub fn of_d2(self) -> f64 {
        if self == ThirdOrder::Taylor { 2.0 } else { 1.0 }
    }
}

/// What a pseudo linear multistep method combines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slopes {
    /// ε̂ of each evaluation, whatever the network predicts.
    Noise,
    /// v̂ of each evaluation where the network predicts it; their sum is made ε̂ at the step's start.
    Outputs,
}

impl Conventions {
    /// Those of the papers: Ho et al. 2020, Algorithm 2; Song et al. 2021, Eq. 12; Karras et al. 2022, Algorithm 2; Ho and
    /// Salimans 2022, Eq. 6.
    pub const PAPER: Conventions = Conventions {
        lists: Lists::Shared,
        ddim_goes_to: Next::OfTheList,
        first_noise: FirstNoise::Alone,
        eps_from_clipped_x_0: true,
        noise_after_last_step: false,
        least_variance: 0.0,
        learned_is_logarithm: true,
        third_order: ThirdOrder::Taylor,
        short_chains_end_low: true,
        pndm_slopes: Slopes::Noise,
        guidance_of_none: 0.0,
    };

    /// Ours: the papers', but for the weight of guidance, which is what programs call by that name, and for the first x in
    /// sigma: a model of betas begins with Ho et al.'s x_T ~ N(0, I) by every sampler, which is N(0, σ² + 1) there.
    pub const ANCESTRAL: Conventions =
        Conventions { first_noise: FirstNoise::WithImage, guidance_of_none: 1.0, ..Conventions::PAPER };

    /// OpenAI's improved-diffusion and guided-diffusion.
    pub const OPENAI: Conventions = Conventions { lists: Lists::Respaced, ..Conventions::ANCESTRAL };

    /// diffusers 0.42.1, each class as it is by default.
    pub const DIFFUSERS: Conventions = Conventions {
        lists: Lists::OfTheClass,
        ddim_goes_to: Next::OneStrideBefore,
        first_noise: FirstNoise::BySpacing,
        eps_from_clipped_x_0: false,
        noise_after_last_step: true,
        least_variance: 1e-20,
        learned_is_logarithm: false,
        third_order: ThirdOrder::HalfAndSign,
        pndm_slopes: Slopes::Outputs,
        ..Conventions::ANCESTRAL
    };

    /// k-diffusion, whose samplers are all in sigma.
    pub const K_DIFFUSION: Conventions = Conventions {
        lists: Lists::LinearInLogSigma,
        first_noise: FirstNoise::Alone,
        third_order: ThirdOrder::Half,
        short_chains_end_low: false,
        ..Conventions::ANCESTRAL
    };

    /// lucidrains' denoising-diffusion-pytorch.
    pub const LUCIDRAINS: Conventions = Conventions {
        lists: Lists::CutOff,
        first_noise: FirstNoise::Alone,
        least_variance: 1e-20,
        short_chains_end_low: false,
        ..Conventions::ANCESTRAL
    };
}
