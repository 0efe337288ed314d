//! The questions that a dialect decides: one for each field of [`Conventions`](crate::sample::Conventions).

use super::{NOT_THERE, Of, Question};
use crate::sample::conventions::{FirstNoise, Lists, Next, Slopes, ThirdOrder};

pub(super) const QUESTIONS: [Question; 11] = [
    Question {
        asks: "which times a chain of N steps visits",
        set_by: "Conventions::lists (src/sample/timesteps.rs, src/sample/chain)",
        of: Of::Field(|c| match c.lists {
            Lists::Shared => "as --spacing says, rounded to even, alike for all samplers",
            Lists::OfTheClass => "as timestep_spacing says, by rules of each class",
            Lists::Respaced => "T to 1, the stride added up and rounded",
            Lists::CutOff => "T - i T/N, cut off; ancestral sampling all T, EDM's its own sigmas",
            Lists::LinearInLogSigma => "T to 1 without rounding, linear in ln(sigma)",
        }),
        places: [
            "Song et al. 2021, Appendix D.2: floor(c i) or floor(c i^2), c as one likes",
            "respace.py:L56 space_timesteps; with ddimN (L30) from 1 by a whole stride",
            "scheduling_ddim.py:L334 set_timesteps, and so in each class",
            "external.py:L63 DiscreteSchedule.get_sigmas, L80 t_to_sigma",
            "denoising_diffusion_pytorch.py:L705 ddim_sample; L691 p_sample_loop",
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
            "respace.py:L82 SpacedDiffusion.__init__",
            "scheduling_ddim.py:L445 step",
            "sampling.py:L132 sample_euler, which is its DDIM",
            "denoising_diffusion_pytorch.py:L707 ddim_sample",
        ],
    },
    Question {
        asks: "what the first x of a chain in sigma is",
        set_by: "Conventions::first_noise (src/sample/draw.rs)",
        of: Of::Field(|c| match c.first_noise {
            FirstNoise::WithImage => "noise times sqrt(sigma^2 + 1)",
            FirstNoise::Alone => "noise times sigma",
            FirstNoise::BySpacing => "noise times sigma; sqrt(sigma^2 + 1) with leading spacing and in EDM's classes",
        }),
        places: [
            "Karras et al. 2022, Algorithm 2, line 2; Ho et al. 2020, Algorithm 2, has x_T ~ N(0, I), not in sigma",
            NOT_THERE,
            "scheduling_euler_discrete.py:L278 init_noise_sigma; scheduling_edm_euler.py:L133",
            "sample.py:L59 main",
            "elucidated_diffusion.py:L164 sample",
        ],
    },
    Question {
        asks: "eps after x_0 was clipped",
        set_by: "Conventions::eps_from_clipped_x_0 (src/denoise/estimate.rs)",
        of: Of::Field(|c| if c.eps_from_clipped_x_0 { "derived again from x_0" } else { "the network's own" }),
        places: [
            "does not say; it follows from x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps, Ho et al. 2020, Eq. 4",
            "gaussian_diffusion.py:L504 ddim_sample",
            "scheduling_ddim.py:L483 step (use_clipped_model_output = False)",
            "sampling.py:L46 to_d",
            "denoising_diffusion_pytorch.py:L647 model_predictions; classifier_free_guidance.py:L664 keeps eps",
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
            "gaussian_diffusion.py:L383 p_sample",
            "scheduling_ddpm.py:L543 step",
            "sampling.py:L153 sample_euler_ancestral",
            "denoising_diffusion_pytorch.py:L678 p_sample",
        ],
    },
    Question {
        asks: "the least variance of an ancestral step",
        set_by: "Conventions::least_variance (src/sample/ddpm.rs)",
        of: Of::Field(|c| if c.least_variance > 0.0 { "1e-20" } else { "0" }),
        places: [
            "Ho et al. 2020, Eq. 7",
            "gaussian_diffusion.py:L159 GaussianDiffusion.__init__: that of t = 2 at t = 1, where no noise is added",
            "scheduling_ddpm.py:L391 _get_variance",
            "sampling.py:L56 get_ancestral_step",
            "denoising_diffusion_pytorch.py:L566 GaussianDiffusion.__init__",
        ],
    },
    Question {
        asks: "what a network says that learned variances without a range",
        set_by: "Conventions::learned_is_logarithm (src/sample/ddpm.rs)",
        of: Of::Field(|c| if c.learned_is_logarithm { "ln(sigma^2)" } else { "sigma^2" }),
        places: [
            "does not say; Ho's diffusion_utils_2.py:L136 p_mean_variance (learned)",
            "gaussian_diffusion.py:L265 p_mean_variance (LEARNED)",
            "scheduling_ddpm.py:L408 _get_variance, L557 step",
            NOT_THERE,
            NOT_THERE,
        ],
    },
    Question {
        asks: "the second derivative in DPM-Solver++'s third order",
        set_by: "Conventions::third_order (src/sample/dpm)",
        of: Of::Field(|c| match c.third_order {
            ThirdOrder::Taylor => "the whole, as the order needs",
            ThirdOrder::Half => "half of it; the second step is integrated exactly",
            ThirdOrder::HalfAndSign => "half of it, by -1/2 for +1/2 in the stochastic equation",
        }),
        places: [
            "Lu et al. 2022 (DPM-Solver++), appendix: the expansion",
            NOT_THERE,
            "scheduling_dpmsolver_multistep.py:L1116 multistep_dpm_solver_third_order_update",
            "sampling.py:L687 sample_dpmpp_3m_sde, L694 for the second step",
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
            "the authors' dpm_solver_pytorch.py: sample, which says below 15 and does below 10",
            NOT_THERE,
            "scheduling_dpmsolver_multistep.py:L1239 step (lower_order_final)",
            "sampling.py:L599 sample_dpmpp_2m, L671 sample_dpmpp_3m_sde",
            "elucidated_diffusion.py:L225 sample_using_dpmpp",
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
            "Liu et al. 2022, Algorithm 2: of eps",
            NOT_THERE,
            "scheduling_pndm.py:L435 _get_prev_sample",
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
            "GLIDE's text2im.ipynb: model_fn; classifier_sample.py:L61 main scales a classifier's gradient, 0 for none",
            "pipeline_dit.py:L211 __call__",
            "train.py: make_cfg_model_fn",
            "classifier_free_guidance.py:L398 forward_with_cond_scale",
        ],
    },
];
