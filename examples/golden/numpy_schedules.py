"""Noise schedules in float64: Ho et al. 2020, Nichol and Dhariwal 2021, Lin et al. 2024."""

import numpy as np


def beta_curve(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear", **_):
    """Linear: Ho et al. 2020, Section 4. squaredcos_cap_v2: Nichol and Dhariwal 2021, Eq. 17. The others are diffusers'."""
    if beta_schedule == "sigmoid":
        return (beta_end - beta_start) / (1 + np.exp(-np.linspace(-6, 6, num_train_timesteps))) + beta_start
    if beta_schedule == "linear":
        return np.linspace(beta_start, beta_end, num_train_timesteps)
    if beta_schedule == "scaled_linear":
        return np.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps) ** 2
    if beta_schedule == "squaredcos_cap_v2":
        f = np.cos((np.arange(num_train_timesteps + 1) / num_train_timesteps + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1 - f[1:] / f[:-1], 0.999)
    raise ValueError(f'beta_schedule "{beta_schedule}": known are linear, scaled_linear, squaredcos_cap_v2, sigmoid')


def beta_table(trained_betas=None, rescale_betas_zero_snr=False, **config):
    beta = beta_curve(**config) if trained_betas is None else np.array(trained_betas)
    if not rescale_betas_zero_snr:
        return beta
    root = np.sqrt(np.cumprod(1 - beta))  # Lin et al. 2024, Algorithm 1
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    return 1 - np.concatenate([root[:1] ** 2, root[1:] ** 2 / root[:-1] ** 2])


def alpha_bar_table(**config):
    return np.cumprod(1 - beta_table(**config))


def schedule(**config):
    """All tables; the posterior's are of Ho et al. 2020, Eq. 7."""
    beta = beta_table(**config)
    alpha_bar = np.cumprod(1 - beta)
    before = np.concatenate([[1.0], alpha_bar[:-1]])
    return {
        "output.betas": beta,
        "output.alphas_cumprod": alpha_bar,
        "output.sqrt_alphas_cumprod": np.sqrt(alpha_bar),
        "output.sqrt_one_minus_alphas_cumprod": np.sqrt(1 - alpha_bar),
        "output.posterior_variance": beta * (1 - before) / (1 - alpha_bar),
        "output.posterior_mean_coef1": beta * np.sqrt(before) / (1 - alpha_bar),
        "output.posterior_mean_coef2": (1 - before) * np.sqrt(1 - beta) / (1 - alpha_bar),
    }


def q_sample(x_0, eps, t, **config):
    """Ho et al. 2020, Eq. 4."""
    alpha_bar = alpha_bar_table(**config)[t].reshape(-1, *[1] * (x_0.ndim - 1))
    signal, noise = np.sqrt(alpha_bar).astype(x_0.dtype), np.sqrt(1 - alpha_bar).astype(x_0.dtype)
    return signal * x_0 + noise * eps
