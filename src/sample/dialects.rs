//! Who answers the questions on which implementations differ, how, and where.

use super::conventions::{Conventions, FirstNoise, Lists, Next, Slopes};

/// A named set of answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dialect {
    /// Its name: `diffusers`.
    pub name: &'static str,
    /// Its answers.
    pub conventions: Conventions,
    /// Whose it is, in one line.
    pub about: &'static str,
}

/// All of them, ours first.
pub const DIALECTS: [Dialect; 6] = [
    Dialect {
        name: "ancestral",
        conventions: Conventions::ANCESTRAL,
        about: "Ours: the papers', with guidance 1 for none",
    },
    Dialect { name: "paper", conventions: Conventions::PAPER, about: "The papers', where they speak" },
    Dialect { name: "openai", conventions: Conventions::OPENAI, about: "improved-diffusion and guided-diffusion" },
    Dialect { name: "diffusers", conventions: Conventions::DIFFUSERS, about: "diffusers 0.42.1" },
    Dialect { name: "k-diffusion", conventions: Conventions::K_DIFFUSION, about: "k-diffusion, for samplers in sigma" },
    Dialect { name: "lucidrains", conventions: Conventions::LUCIDRAINS, about: "denoising-diffusion-pytorch" },
];

/// A question on which implementations differ.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// What is asked.
    pub asks: &'static str,
    /// Where it is decided here: a field of [`Conventions`], or what sets it elsewhere.
    pub set_by: &'static str,
    of: Of,
    /// Where each of [`DIALECTS`] but ours answers.
    places: [&'static str; 5],
}

/// Where the words of an answer are from.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// A convention.
    Field(fn(&Conventions) -> &'static str),
    /// What is no convention of sampling: each dialect's, ours first.
    Fixed([&'static str; 6]),
}

/// An answer, and where it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What is done.
    pub does: &'static str,
    /// File and name, or paper and equation.
    pub place: &'static str,
}

impl Question {
    /// The answers of [`DIALECTS`], in their order.
    pub fn answers(&self) -> [Answer; 6] {
        std::array::from_fn(|i| Answer {
            does: match self.of {
                Of::Field(word) => word(&DIALECTS[i].conventions),
                Of::Fixed(words) => words[i],
            },
            place: if i == 0 { self.set_by } else { self.places[i - 1] },
        })
    }
}

/// All questions.
pub fn questions() -> &'static [Question] {
    &QUESTIONS
}

const NOT_THERE: &str = "no such code";

const QUESTIONS: [Question; 16] = [
    Question {
        asks: "which times a chain of N steps visits",
        set_by: "Conventions::lists (src/sample/timesteps.rs, src/sample/chain)",
        of: Of::Field(|c| match c.lists {
            Lists::Shared => "as --spacing says, rounded to even, alike for all samplers",
            Lists::OfTheClass => "as timestep_spacing says, by rules of each class",
            Lists::Respaced => "T to 1, the stride added up and rounded",
            Lists::CutOff => "T - i T/N, cut off",
            Lists::LinearInLogSigma => "T to 1 without rounding, linear in ln(sigma)",
        }),
        places: [
            "Song et al. 2021, Appendix D.2",
            "improved_diffusion/respace.py: space_timesteps",
            "scheduling_*.py: set_timesteps",
            "k_diffusion/external.py: DiscreteSchedule.get_sigmas, t_to_sigma",
            "denoising_diffusion_pytorch.py: ddim_sample (times)",
        ],
    },
    Question {
        asks: "where DDIM's step from t goes",
        set_by: "Conventions::ddim_goes_to (src/sample/chain/mod.rs)",
        of: Of::Field(|c| match c.ddim_goes_to {
            Next::OfTheList => "to the next time of the list",
            Next::OneStrideBefore => "to t - T//N, whatever the list says",
        }),
        places: [
            "Song et al. 2021, Eq. 12 and Appendix C.1",
            "improved_diffusion/respace.py: SpacedDiffusion",
            "scheduling_ddim.py: step (prev_timestep)",
            "k_diffusion/sampling.py: sample_euler, its DDIM",
            "denoising_diffusion_pytorch.py: ddim_sample (time_pairs)",
        ],
    },
    Question {
        asks: "what the first x of a chain in sigma is",
        set_by: "Conventions::first_noise (src/sample/draw.rs)",
        of: Of::Field(|c| match c.first_noise {
            FirstNoise::WithImage => "noise times sqrt(sigma^2 + 1)",
            FirstNoise::Alone => "noise times sigma",
            FirstNoise::BySpacing => "noise times sigma, or sqrt(sigma^2 + 1) with leading spacing",
        }),
        places: [
            "Song et al. 2021 (Score-Based): the prior N(0, sigma_max^2), nearly the same",
            NOT_THERE,
            "scheduling_euler_discrete.py: init_noise_sigma",
            "k-diffusion's sample.py: sigma_max times randn",
            "elucidated_diffusion.py: sample (init_sigma), as k-diffusion",
        ],
    },
    Question {
        asks: "eps after x_0 was clipped",
        set_by: "Conventions::eps_from_clipped_x_0 (src/denoise/estimate.rs)",
        of: Of::Field(|c| if c.eps_from_clipped_x_0 { "derived again from x_0" } else { "the network's own" }),
        places: [
            "does not say; it follows from x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps, Ho et al. 2020, Eq. 4",
            "improved_diffusion/gaussian_diffusion.py: ddim_sample (_predict_eps_from_xstart)",
            "scheduling_ddim.py: step (use_clipped_model_output = False)",
            "k_diffusion/sampling.py: to_d",
            "denoising_diffusion_pytorch.py: ddim_sample (rederive_pred_noise)",
        ],
    },
    Question {
        asks: "noise at the last ancestral step",
        set_by: "Conventions::noise_after_last_step (src/sample/ddpm.rs)",
        of: Of::Field(|c| match c.noise_after_last_step {
            true => "wherever the network was fed t > 0",
            false => "none",
        }),
        places: [
            "Ho et al. 2020, Algorithm 2, line 3",
            "improved_diffusion/gaussian_diffusion.py: p_sample (nonzero_mask)",
            "scheduling_ddpm.py: step (if t > 0)",
            "k_diffusion/sampling.py: get_ancestral_step, sigma_up = 0",
            "denoising_diffusion_pytorch.py: p_sample (if t > 0)",
        ],
    },
    Question {
        asks: "the least variance of an ancestral step",
        set_by: "Conventions::least_variance (src/sample/ddpm.rs)",
        of: Of::Field(|c| if c.least_variance > 0.0 { "1e-20" } else { "0" }),
        places: [
            "Ho et al. 2020, Eq. 7",
            "improved_diffusion/gaussian_diffusion.py: posterior_log_variance_clipped, of t = 2 at t = 1, where no noise is added",
            "scheduling_ddpm.py: _get_variance (clamp)",
            "k_diffusion/sampling.py: get_ancestral_step",
            "denoising_diffusion_pytorch.py: posterior_log_variance_clipped",
        ],
    },
    Question {
        asks: "what a network says that learned variances without a range",
        set_by: "Conventions::learned_is_logarithm (src/sample/ddpm.rs)",
        of: Of::Field(|c| if c.learned_is_logarithm { "ln(sigma^2)" } else { "sigma^2" }),
        places: [
            "Nichol and Dhariwal 2021, Section 3.1",
            "improved_diffusion/gaussian_diffusion.py: p_mean_variance (LEARNED)",
            "scheduling_ddpm.py: _get_variance (learned)",
            NOT_THERE,
            NOT_THERE,
        ],
    },
    Question {
        asks: "the second derivative in DPM-Solver++'s third order",
        set_by: "Conventions::third_order_as_published (src/sample/dpm)",
        of: Of::Field(|c| if c.third_order_as_published { "half of it" } else { "the whole, as the order needs" }),
        places: [
            "Lu et al. 2022 (DPM-Solver++), appendix: the expansion",
            NOT_THERE,
            "scheduling_dpmsolver_multistep.py: multistep_dpm_solver_third_order_update (D2)",
            "k_diffusion/sampling.py: sample_dpmpp_3m_sde",
            NOT_THERE,
        ],
    },
    Question {
        asks: "the last steps of a chain below 15",
        set_by: "Conventions::short_chains_end_low (src/sample/dpm/multistep.rs)",
        of: Of::Field(|c| {
            if c.short_chains_end_low { "of lower order" } else { "of full order, but the one to sigma = 0" }
        }),
        places: [
            "Lu et al. 2022 (DPM-Solver++): in the authors' program",
            NOT_THERE,
            "scheduling_dpmsolver_multistep.py: step (lower_order_final)",
            "k_diffusion/sampling.py: sample_dpmpp_2m",
            NOT_THERE,
        ],
    },
    Question {
        asks: "PNDM with a network that predicts v",
        set_by: "Conventions::pndm_slopes (src/sample/pndm.rs)",
        of: Of::Field(|c| match c.pndm_slopes {
            Slopes::Noise => "combines eps of each evaluation",
            Slopes::Outputs => "combines v, then makes eps of it at the step's start",
        }),
        places: [
            "Liu et al. 2022, Eq. 12 and 13: of eps",
            NOT_THERE,
            "scheduling_pndm.py: _get_prev_sample (v_prediction)",
            NOT_THERE,
            NOT_THERE,
        ],
    },
    Question {
        asks: "the guidance weight that changes nothing",
        set_by: "Conventions::guidance_of_none (src/sample/draw.rs)",
        of: Of::Field(|c| if c.guidance_of_none == 1.0 { "1" } else { "0" }),
        places: [
            "Ho and Salimans 2022, Eq. 6",
            "glide_text2im notebooks: model_fn; guided-diffusion's is a classifier's",
            "pipelines/dit/pipeline_dit.py: __call__",
            "k-diffusion's sample scripts: cfg_scale",
            "classifier_free_guidance.py: forward_with_cond_scale",
        ],
    },
    Question {
        asks: "abar after the last step",
        set_by: "SamplerOptions::set_alpha_to_one",
        of: Of::Fixed([
            "1; abar of t = 1 where the folder says so",
            "1",
            "1",
            "1 (DDIM) or abar of t = 1 (PNDM), by set_alpha_to_one",
            "sigma = 0",
            "1",
        ]),
        places: [
            "Ho et al. 2020, Algorithm 2: z = 0 at t = 1",
            "improved_diffusion/gaussian_diffusion.py: alphas_cumprod_prev",
            "scheduling_ddim.py, scheduling_pndm.py: final_alpha_cumprod",
            "k_diffusion/sampling.py: append_zero",
            "denoising_diffusion_pytorch.py: ddim_sample (time_next < 0)",
        ],
    },
    Question {
        asks: "\"linear\" betas at T other than 1000",
        set_by: "beta_start, beta_end (src/diffusion/schedule)",
        of: Of::Fixed([
            "1e-4 to 0.02, whatever T",
            "1e-4 to 0.02 at T = 1000 alone",
            "1e-4 to 0.02, times 1000/T",
            "1e-4 to 0.02, whatever T",
            "the model's",
            "1e-4 to 0.02, times 1000/T",
        ]),
        places: [
            "Ho et al. 2020, Section 4",
            "improved_diffusion/gaussian_diffusion.py: get_named_beta_schedule",
            "scheduling_ddpm.py: __init__",
            "k_diffusion/external.py: DiscreteEpsDDPMDenoiser",
            "denoising_diffusion_pytorch.py: linear_beta_schedule",
        ],
    },
    Question {
        asks: "sines and cosines of the time",
        set_by: "model.flip_sin_to_cos, model.freq_shift (src/layers/embedding.rs)",
        of: Of::Fixed([
            "as the model says",
            "sines first, frequencies over h - 1",
            "cosines first, frequencies over h",
            "as the model says",
            "the model's; of its own, random frequencies",
            "sines first, frequencies over h - 1",
        ]),
        places: [
            "Ho's diffusion_tf/nn.py: get_timestep_embedding",
            "improved_diffusion/nn.py: timestep_embedding",
            "models/embeddings.py: get_timestep_embedding",
            "k_diffusion/layers.py: FourierFeatures",
            "denoising_diffusion_pytorch.py: SinusoidalPosEmb",
        ],
    },
    Question {
        asks: "the decoder's normal distribution",
        set_by: "eval --cdf (src/diffusion/likelihood/decoder.rs)",
        of: Of::Fixed(["erf; tanh if asked", "erf", "a tanh, off by up to 1.8e-4", NOT_THERE, NOT_THERE, "a tanh"]),
        places: [
            "Ho et al. 2020, Eq. 13",
            "improved_diffusion/losses.py: approx_standard_normal_cdf",
            NOT_THERE,
            NOT_THERE,
            "learned_gaussian_diffusion.py: approx_standard_normal_cdf",
        ],
    },
    Question {
        asks: "the variance of the first step in likelihoods",
        set_by: "src/diffusion/likelihood",
        of: Of::Fixed(["that of t = 2", "Ho's program: that of t = 2", "that of t = 2", NOT_THERE, NOT_THERE, "1e-20"]),
        places: [
            "Ho's diffusion_tf/diffusion_utils_2.py: posterior_log_variance_clipped",
            "improved_diffusion/gaussian_diffusion.py: posterior_log_variance_clipped",
            NOT_THERE,
            NOT_THERE,
            "denoising_diffusion_pytorch.py: posterior_log_variance_clipped",
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_one_on_which_dialects_differ_and_every_answer_has_a_place() {
        for question in questions() {
            let answers = question.answers();
            assert!(answers.iter().any(|answer| answer.does != answers[0].does), "{}", question.asks);
            assert!(answers.iter().all(|answer| !answer.does.is_empty() && !answer.place.is_empty()));
        }
    }

    #[test]
    fn dialects_have_names_of_their_own_and_ours_differs_from_the_papers_in_guidance_alone() {
        let names: std::collections::BTreeSet<&str> = DIALECTS.iter().map(|dialect| dialect.name).collect();
        assert_eq!(names.len(), DIALECTS.len());
        let paper = Conventions { guidance_of_none: 1.0, ..Conventions::PAPER };
        assert_eq!((DIALECTS[0].conventions, crate::sample::SamplerOptions::default().conventions), (paper, paper));
    }
}
