"""diffusers in float64: it makes its schedules and its time embedding in float32 whatever the network's precision.

    with tables():
        ...     # schedulers made and embeddings computed here are float64
"""

import contextlib
import functools
import math
from unittest import mock

import torch
from diffusers import DDIMScheduler, DDPMScheduler


def time_embedding(t, dim, flip_sin_to_cos=False, downscale_freq_shift=1, scale=1, max_period=10000):
    half = dim // 2
    exponent = -math.log(max_period) * torch.arange(half, dtype=torch.float64) / (half - downscale_freq_shift)
    angle = scale * t[:, None] * exponent.exp()
    pair = [angle.cos(), angle.sin()] if flip_sin_to_cos else [angle.sin(), angle.cos()]
    return torch.nn.functional.pad(torch.cat(pair, dim=1), (0, dim % 2))


def betas(config):
    steps, name = config.num_train_timesteps, config.beta_schedule
    if name == "squaredcos_cap_v2":
        f = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
        return torch.tensor([min(1 - after / before, 0.999) for before, after in zip(f, f[1:])], dtype=torch.float64)
    power = {"linear": 1, "scaled_linear": 2}[name]
    first, last = config.beta_start ** (1 / power), config.beta_end ** (1 / power)
    return torch.linspace(first, last, steps, dtype=torch.float64) ** power


@contextlib.contextmanager
def tables():
    def with_float64_tables(original):
        @functools.wraps(original)  # diffusers reads the signature of __init__
        def init(self, *args, **kwargs):
            original(self, *args, **kwargs)
            self.betas = betas(self.config)
            self.alphas_cumprod = torch.cumprod(1 - self.betas, dim=0)
            if isinstance(self, DDIMScheduler) and not self.config.set_alpha_to_one:
                self.final_alpha_cumprod = self.alphas_cumprod[0]

        return init

    with contextlib.ExitStack() as patches:
        for scheduler in (DDPMScheduler, DDIMScheduler):
            init = with_float64_tables(scheduler.__init__)
            patches.enter_context(mock.patch.object(scheduler, "__init__", init))
        patches.enter_context(mock.patch("diffusers.models.embeddings.get_timestep_embedding", time_embedding))
        yield
