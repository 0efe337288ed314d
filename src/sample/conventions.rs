//! Where implementations differ, as data: one field for each question.
//!
//! What a paper leaves open, or a program does otherwise than its paper, is decided here and nowhere else. Ours is the
//! paper's where the paper speaks.

/// The answers of one implementation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conventions {
    /// Where DDIM's step from t goes when the steps are fewer than T.
    pub ddim_goes_to: Next,
    /// Whether the last step of ancestral sampling adds noise where the network was fed a time above 0.
    pub noise_after_last_step: bool,
    /// The least variance of an ancestral step that adds noise.
    pub least_variance: f64,
    /// Whether ε̂ is derived again from a clipped x̂₀.
    pub eps_from_clipped_x_0: bool,
    /// Whether a network that learned the variance without a range says its logarithm; else the variance itself.
    pub learned_is_logarithm: bool,
    /// Whether the third order of multistep DPM-Solver has half of its second derivative, as in published programs.
    pub third_order_as_published: bool,
    /// Which levels a sampler in sigma or λ visits.
    pub lists: Lists,
}

/// Where the levels of a sampler in sigma or λ are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// The timesteps that every sampler visits; where they are spread in sigma, from T to 1, the times between two of the
    /// table's are fed as they are.
    Shared,
    /// What diffusers' class of the sampler visits: `linspace` without rounding for samplers in sigma, one step of n + 1 left
    /// out for those in λ, and times rounded where it rounds them.
    OfTheClass,
}

/// The time that follows t in a shorter chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next time of the list.
    OfTheList,
    /// t − ⌊T/N⌋, whatever the list says; the end of the chain where that is before the first time.
    OneStrideBefore,
}

impl Conventions {
    /// Ho et al. 2020, Algorithm 2, and Song et al. 2021, Eq. 12.
    pub const PAPER: Conventions = Conventions {
        ddim_goes_to: Next::OfTheList,
        noise_after_last_step: false,
        least_variance: 0.0,
        eps_from_clipped_x_0: true,
        learned_is_logarithm: true,
        third_order_as_published: false,
        lists: Lists::Shared,
    };

    /// diffusers 0.42.1: `DDPMScheduler` and `DDIMScheduler` as they are by default.
    pub const DIFFUSERS: Conventions = Conventions {
        ddim_goes_to: Next::OneStrideBefore,
        noise_after_last_step: true,
        least_variance: 1e-20,
        eps_from_clipped_x_0: false,
        learned_is_logarithm: false,
        third_order_as_published: true,
        lists: Lists::OfTheClass,
    };
}
