"""diffusers in float64: it makes its schedules, its time embedding and its table of positions in float32 whatever the network's
precision.

    with embeddings():
        ...     # embeddings computed here are float64
    with_positions(transformer)     # its table of positions is float64
    with schedules():
        ...     # schedulers made, and steps taken, here are float64
"""

import contextlib
import math
from unittest import mock

import numpy as np
import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed


def time_embedding(t, dim, flip_sin_to_cos=False, downscale_freq_shift=1, scale=1, max_period=10000):
    half = dim // 2
    exponent = -math.log(max_period) * torch.arange(half, dtype=torch.float64) / (half - downscale_freq_shift)
    angle = scale * t[:, None] * exponent.exp()
    pair = [angle.cos(), angle.sin()] if flip_sin_to_cos else [angle.sin(), angle.cos()]
    return torch.nn.functional.pad(torch.cat(pair, dim=1), (0, dim % 2))


@contextlib.contextmanager
def embeddings():
    with mock.patch("diffusers.models.embeddings.get_timestep_embedding", time_embedding):
        yield


def with_positions(transformer):
    patches = transformer.pos_embed
    table = get_2d_sincos_pos_embed(patches.pos_embed.shape[-1], (patches.height, patches.width),
                                    base_size=patches.base_size, output_type="pt")  # fmt: skip
    patches.pos_embed = table.double()[None]
    return transformer


@contextlib.contextmanager
def schedules():
    """Whoever asks for float32 here gets float64: schedulers ask by name. So would the reader of a network's weights."""
    before = torch.get_default_dtype()
    with mock.patch.object(torch, "float32", torch.float64), mock.patch.object(np, "float32", np.float64):
        torch.set_default_dtype(torch.double)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
