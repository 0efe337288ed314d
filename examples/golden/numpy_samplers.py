"""The samplers, from the formulas of their papers: single steps with what they remember, and whole chains.

    step(seen, to, noise, order, config) -> x at the level `to`

`seen` is what was seen, the newest first. The weights of a step are Python's numbers, float64; the arrays may be NumPy's or
another framework's. Samplers that look back further are in numpy_solvers.py, levels and chains in numpy_levels.py.
"""

import math
from typing import Any, NamedTuple

import numpy as np

import numpy_solvers
from numpy_levels import EDM, FLOW, Level, Transition, chain, level_at


class Seen(NamedTuple):
    """One look of the network at x."""

    level: Level
    part: str  # as the transition's
    x: Any
    output: Any
    x_0: Any
    eps: Any


def see(kind, config, step, x, output):
    """The image and the noise in x, after what the network put out. A second half of its channels is of the variance."""
    real, y = x.dtype.type, output[:, : x.shape[1]]
    signal, sigma = real(step.level.signal), real(step.level.sigma)
    prediction = "edm" if kind in EDM else "flow" if kind in FLOW else config.get("prediction_type", "epsilon")
    if prediction == "epsilon":
        x_0, eps = (x - sigma * y) / signal, y
    elif prediction == "sample":
        x_0, eps = y, (x - signal * y) / sigma
    elif prediction == "v_prediction":  # signal eps - sigma x_0 where the squares add up to 1: Salimans and Ho 2022, Section 4
        scale = math.hypot(step.level.signal, step.level.sigma)
        signal_1, sigma_1, x_1 = real(step.level.signal / scale), real(step.level.sigma / scale), x / real(scale)
        x_0, eps = signal_1 * x_1 - sigma_1 * y, signal_1 * y + sigma_1 * x_1
    elif prediction == "flow":  # eps - x_0: Lipman et al. 2023, Eq. 23, with sigma_min = 0 and time from image to noise
        x_0, eps = x - sigma * y, x + signal * y
    elif prediction == "edm":  # c_skip x + c_out F: Karras et al. 2022, Eq. 7 and Table 1
        data = config.get("sigma_data", 0.5)
        spread = math.hypot(step.level.sigma, data)
        x_0 = real(data**2 / spread**2) * x + real(step.level.sigma * data / spread) * y
        eps = (x - x_0) / sigma
    else:
        raise ValueError(f'prediction_type "{prediction}": known are epsilon, sample, v_prediction')
    bounded = bound(kind, config, x_0)
    keeps_eps = kind in ("DDPM", "DDIM", "DDIMInverse") and not config.get("use_clipped_model_output")
    if bounded is not x_0 and not keeps_eps:
        eps = (x - signal * bounded) / sigma
    return Seen(step.level, step.part, x, output, bounded, eps)


def bound(kind, config, x_0):
    """x_0 in the range of the pixels: clipped, or by dynamic thresholding (Saharia et al. 2022, Section 2.3).

    s, a quantile of |x_0| but at least 1, has no upper limit there. Here it has sample_max_value, whose default 1 makes s = 1.
    """
    if config.get("thresholding"):
        xp, images = x_0.__array_namespace__(), abs(x_0).reshape(len(x_0), -1)
        sizes, at = xp.sort(images, axis=1), config.get("dynamic_thresholding_ratio", 0.995) * (images.shape[1] - 1)
        below, above = sizes[:, math.floor(at)], sizes[:, math.ceil(at)]
        s = (below + (above - below) * (at - math.floor(at))).clip(1.0, config.get("sample_max_value", 1.0))
        s = s.reshape(-1, *[1] * (x_0.ndim - 1))
        return x_0.clip(-s, s) / s
    if config.get("clip_sample", kind != "HeunDiscrete") and kind in ("DDPM", "DDIM", "DDIMInverse", "HeunDiscrete"):
        limit = config.get("clip_sample_range", 1.0)
        return x_0.clip(-limit, limit)
    return x_0


# --- Steps ---


def variances(a, b):
    """beta of the step from where alpha_bar is a to where it is b, and beta_tilde: Ho et al. 2020, Section 3.2."""
    beta = 1 - a / b
    return beta, beta * (1 - b) / (1 - a)


def ddpm(seen, to, noise, order, config):
    """Ho et al. 2020, Eq. 7; over more than one time, Nichol and Dhariwal 2021, Section 4."""
    now, (a, b) = seen[0], (seen[0].level.alpha_bar, to.alpha_bar)
    beta, small = variances(a, b)
    mean = to.signal * beta / (1 - a) * now.x_0 + math.sqrt(a / b) * (1 - b) / (1 - a) * now.x
    kind = config.get("variance_type") or "fixed_small"
    if to.sigma == 0 and now.level.time <= 0:  # the last step adds no noise
        return mean
    if kind == "learned":  # diffusers: the variance itself
        deviation = now.output[:, now.x.shape[1] :] ** 0.5
    elif kind == "learned_range":  # Nichol and Dhariwal 2021, Eq. 15, its v = (output + 1)/2
        xp, low, high = now.x.__array_namespace__(), math.log(max(small, 1e-20)), math.log(beta)
        deviation = xp.exp(0.5 * (low + (now.output[:, now.x.shape[1] :] + 1) / 2 * (high - low)))
    else:
        deviation = math.sqrt(max(small if kind.startswith("fixed_small") else beta, 1e-20))
    return mean + deviation * noise


def ddim(seen, to, noise, order, config):
    """Song et al. 2021, Eq. 12 and Eq. 16; at eta = 0 also the way back to the noise."""
    now, eta = seen[0], config.get("eta", 0.0)
    variance = eta**2 * variances(now.level.alpha_bar, to.alpha_bar)[1] if eta else 0.0
    return to.signal * now.x_0 + math.sqrt(1 - to.alpha_bar - variance) * now.eps + math.sqrt(variance) * noise


def euler(seen, to, noise, order, config):
    """Karras et al. 2022, Algorithm 1 without its correction; on the straight line of Lipman et al. 2023 both factors change."""
    now = seen[0]
    x = now.x + (to.sigma - now.level.sigma) * now.eps
    return x if to.signal == now.level.signal else x + (to.signal - now.level.signal) * now.x_0


def heun(seen, to, noise, order, config):
    """Karras et al. 2022, Algorithm 1: Euler's step, corrected by the mean of the slopes at both ends."""
    if seen[0].part != "correction":
        return euler(seen, to, noise, order, config)
    end, start = seen[:2]
    return start.x + (to.sigma - start.level.sigma) * (0.5 * (start.eps + end.eps))


def euler_ancestral(seen, to, noise, order, config):
    """k-diffusion: Ho et al. 2020, Eq. 7, in sigma. A step to sigma_down, and noise up to sigma_s."""
    now, sigma = seen[0], seen[0].level.sigma
    down, up = to.sigma**2 / sigma, to.sigma * math.sqrt(1 - (to.sigma / sigma) ** 2)
    return now.x + (down - sigma) * now.eps + up * noise


# Adams and Bashforth's, by how many slopes there are.
SLOPES = [(1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24)]


def pndm(seen, to, noise, order, config):
    """Liu et al. 2022, Eq. 9 and Algorithm 2: DDIM's step with a slope of Runge and Kutta's, or of Adams and Bashforth's."""
    stages = ("first", "second", "third", "fourth")
    if seen[0].part in stages:
        stage = stages.index(seen[0].part)
        start, weights, used = seen[stage], (1.0,), seen
        if stage == 3:
            weights = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
    elif seen[0].part == "again":  # with the mean of both slopes
        start, weights, used = seen[0]._replace(x=seen[1].x), (0.5, 0.5), seen
    else:
        used = [s for s in seen if s.part in ("", "first")][:4]
        start, weights = seen[0], SLOPES[len(used) - 1]
    of_v = config.get("prediction_type") == "v_prediction"  # diffusers adds up v, and makes eps of it at the step's start
    slope = sum(w * (s.output if of_v else s.eps) for w, s in zip(weights, used))
    slope = start.level.signal * slope + start.level.sigma * start.x if of_v else slope
    a, b = start.level.alpha_bar, to.alpha_bar
    return math.sqrt(b / a) * start.x - (b - a) / (a * math.sqrt(1 - b) + math.sqrt(a * (1 - a) * b)) * slope


STEPS = {
    "DDPM": ddpm,
    "DDIM": ddim,
    "DDIMInverse": ddim,
    "EulerDiscrete": euler,
    "EulerAncestralDiscrete": euler_ancestral,
    "HeunDiscrete": heun,
    "LMSDiscrete": numpy_solvers.lms,
    "PNDM": pndm,
    "DPMSolverMultistep": numpy_solvers.dpm_multistep,
    "DPMSolverSinglestep": numpy_solvers.dpm_singlestep,
    "UniPCMultistep": numpy_solvers.unipc,
    "DEISMultistep": numpy_solvers.deis,
    "FlowMatchEulerDiscrete": euler,
    "EDMEuler": euler,
    "EDMDPMSolverMultistep": numpy_solvers.dpm_multistep,
}


# --- The operations ---


def taken(kind, config, seen, to, noise, i, steps):
    """What was seen, after UniPC's correction of x, and x after step i of so many."""
    order = numpy_solvers.order_of(kind, config, i, steps, to)
    if kind == "UniPCMultistep" and i > 0:
        before = numpy_solvers.order_of(kind, config, i - 1, steps, seen[0].level)
        x = numpy_solvers.unipc(seen[1:], seen[0].level, noise, before, config, end=seen[0])
        seen = [seen[0]._replace(x=x), *seen[1:]]
    return seen, STEPS[kind](seen, to, noise, order, config)


def told(config, attributes):
    """The kind of the sampler, and all that it is told."""
    return attributes["class"].removesuffix("Scheduler"), config | attributes


def reverse_step(x_t, model_output, noise, config, t, t_prev, history=None, x_before=None, t_history=(), **attributes):
    """One step from t to t_prev, -1 being the image; of a sampler that looks back, in the midst of a chain."""
    kind, config = told(config, attributes)
    now = Transition(level_at(kind, config, t), level_at(kind, config, t_prev))
    seen = [see(kind, config, now, x_t, model_output)]
    for i, past in enumerate(t_history):  # x_0 or eps, whichever the sampler looks back on
        x = x_before if i == 0 else None
        seen.append(Seen(level_at(kind, config, past), "", x, None, history[i], history[i]))
    corrected, x = taken(kind, config, seen, now.to, noise, len(t_history), math.inf)
    results = {"output.prev_sample": x, "output.pred_original_sample": seen[0].x_0}
    return results if x_before is None else results | {"output.corrected": corrected[0].x}


def trajectory(x_T, model_output, noise, config, steps, **attributes):
    kind, config = told(config, attributes)
    visited, seen, x = chain(kind, config, steps), [], [x_T]
    for i, step in enumerate(visited):
        seen = [see(kind, config, step, x[-1], model_output[i]), *seen]
        seen, x_s = taken(kind, config, seen, step.to, noise[i], i, len(visited))
        x.append(x_s)
    times = np.array([step.level.time for step in visited])
    return {"output.timesteps": times, "output.x": x_T.__array_namespace__().stack(x)}
