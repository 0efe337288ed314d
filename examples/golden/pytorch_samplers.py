"""Samplers of the golden kit by diffusers: single steps with what they remember, whole chains, levels.

A class keeps what it remembers in attributes of its own; a step in the midst of a chain is taken by setting them. Noise is
drawn inside of the classes: they are made to draw the given one.
"""

import contextlib
from unittest import mock

import diffusers
import torch

# What drops the order at the end of a chain, which a step in its midst is not.
MIDST = {"lower_order_final": False, "euler_at_final": False}


def made(a, **changes):
    config = {k: v for k, v in a["config"].items()} | changes
    scheduler = getattr(diffusers, a["class"]).from_config(config)
    with contextlib.suppress(AttributeError):
        scheduler.set_timesteps(a["steps"])
    return scheduler


@contextlib.contextmanager
def drawing(scheduler, noise):
    """The given noise wherever the class draws some."""
    module = type(scheduler).__module__
    with contextlib.ExitStack() as patches:
        with contextlib.suppress(AttributeError):
            patches.enter_context(mock.patch(f"{module}.randn_tensor", lambda *_, **__: noise))
        yield


def step(a, scheduler, model_output, t, x_t, noise):
    extra = {"eta": a.get("eta", 0.0)} if a["class"] == "DDIMScheduler" else {}
    if a["class"] == "DDIMScheduler" and extra["eta"] > 0:
        extra["variance_noise"] = noise
    with drawing(scheduler, noise):
        return scheduler.step(model_output, t, x_t, **extra)


def factors(scheduler, a, index, t):
    """Signal and noise of x at a level, as the class scales it."""
    if not hasattr(scheduler, "sigmas") or a["class"].startswith(("DDPM", "DDIM", "PNDM")):
        alpha_bar = scheduler.alphas_cumprod[t]
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    sigma = scheduler.sigmas[index]
    if a["class"].startswith(("Euler", "Heun", "LMS", "EDM")):
        return torch.ones_like(sigma), sigma
    return 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()


def x_0_hat(scheduler, a, model_output, x, index, t):
    signal, sigma = factors(scheduler, a, index, t)
    kind = a["config"].get("prediction_type", "epsilon")
    if a["class"].startswith("EDM"):
        data = scheduler.config.sigma_data
        return data**2 / (sigma**2 + data**2) * x + sigma * data / (sigma**2 + data**2).sqrt() * model_output
    if kind == "v_prediction":
        scale = (signal**2 + sigma**2).sqrt()
        return signal / scale * (x / scale) - sigma / scale * model_output
    return model_output if kind == "sample" else (x - sigma * model_output) / signal


def place(scheduler, a, t):
    """The index of a timestep in the chain of the class; EDM's are numbered from the noisiest."""
    if a["class"].startswith("EDM"):
        return len(scheduler.timesteps) - 1 - t
    return (scheduler.timesteps - t).abs().argmin().item()


def reverse_step(a, x_t, model_output, noise, history=None, x_before=None):
    remembers = {} if history is None else {k: v for k, v in MIDST.items() if k in fields(a)}
    scheduler, results = made(a, **remembers), {}
    index = place(scheduler, a, a["t"])
    t = scheduler.timesteps[index]
    if not a["class"].startswith(("DDPM", "DDIM", "PNDM")):
        scheduler._step_index = index
    if history is not None:
        remember(scheduler, a, history, x_before)
    corrected = []
    if x_before is not None:
        original = scheduler.multistep_uni_c_bh_update
        wrapped = lambda *args, **named: corrected.append(original(*args, **named)) or corrected[-1]  # noqa: E731
        scheduler.multistep_uni_c_bh_update = wrapped
    seen = x_0_hat(scheduler, a, model_output[:, : x_t.shape[1]], x_t, index, a["t"])
    done = step(a, scheduler, model_output, a["t"] if a["class"].startswith(("DDPM", "DDIM", "PNDM")) else t, x_t, noise)
    results["output.prev_sample"] = done.prev_sample
    seen = getattr(done, "pred_original_sample", None) if a["class"].startswith(("DDPM", "DDIM")) else seen
    results["output.pred_original_sample"] = seen
    if corrected:
        results["output.corrected"] = corrected[0]
    return results


def fields(a):
    return getattr(diffusers, a["class"])().config.keys()


def remember(scheduler, a, history, x_before):
    newest_first = list(history)
    if a["class"] == "LMSDiscreteScheduler":
        scheduler.derivatives = newest_first[::-1]
        return
    order = scheduler.config.solver_order
    scheduler.model_outputs = ([None] * order + newest_first[::-1])[-order:]
    scheduler.lower_order_nums = min(len(newest_first), order)
    if x_before is not None:
        scheduler.last_sample = x_before
        scheduler.this_order = min(len(newest_first), order)
        times = scheduler.timesteps[scheduler._step_index - len(newest_first) : scheduler._step_index]
        scheduler.timestep_list = ([None] * order + list(times))[-order:]


def trajectory(a, x_T, model_output, noise):
    scheduler, x = made(a), [x_T]
    for i, t in enumerate(scheduler.timesteps):
        t = t if scheduler.timesteps.is_floating_point() else t.item()
        x.append(step(a, scheduler, model_output[i], t, x[-1], noise[i]).prev_sample)
    return {"output.timesteps": scheduler.timesteps, "output.x": torch.stack(x)}


def levels(a):
    scheduler = made(a)
    return {"output.timesteps": scheduler.timesteps, "output.sigmas": scheduler.sigmas}
