"""Noise levels, and which of them a chain of steps visits; float64.

    x = signal x_0 + sigma eps

Samplers differ in the two factors: they keep signal^2 + sigma^2 = 1 (Ho et al. 2020, Eq. 4), signal = 1 (Karras et al. 2022),
or signal + sigma = 1 (Lipman et al. 2023, Eq. 20). The papers leave open which times a short chain visits; here those are that
diffusers' class of the sampler visits. A kind is the name of the class without "Scheduler".
"""

import math
from typing import NamedTuple

import numpy as np

from numpy_schedules import alpha_bar_table

IN_TIME = ("DDPM", "DDIM", "DDIMInverse", "PNDM")  # the levels of the table
IN_SIGMA = ("EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "LMSDiscrete")  # and between its entries
IN_LAMBDA = ("DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep", "DEISMultistep")
EDM = ("EDMEuler", "EDMDPMSolverMultistep")
FLOW = ("FlowMatchEulerDiscrete",)

MOST_RATIO = math.sqrt(2.0**24 - 1)  # stands for the infinite one of noise alone, where alpha_bar = 0


class Level(NamedTuple):
    time: float  # what the network is fed
    signal: float
    sigma: float
    alpha_bar: float  # signal^2/(signal^2 + sigma^2), of which the table's digits are kept

    @property
    def ratio(self):
        return self.sigma / self.signal

    @property
    def half_log_snr(self):
        """lambda = ln(signal/sigma), half the logarithm of signal^2/sigma^2, the signal-to-noise ratio: Lu et al. 2022."""
        return math.log(self.signal / self.sigma) if self.sigma else math.inf


CLEAN = Level(-1.0, 1.0, 0.0, 1.0)


class Transition(NamedTuple):
    """One evaluation of the network at a level, and the level that x goes to."""

    level: Level
    to: Level
    part: str = ""  # of a step that takes more than one evaluation


def of_alpha_bar(time, alpha_bar):
    return Level(float(time), math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar), float(alpha_bar))


def of_flow(config, sigma):
    """On the straight line the network is fed T sigma."""
    return Level(length(config) * sigma, 1 - sigma, sigma, (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2))


def of_ratio(kind, time, ratio):
    """The level of x as this sampler has it where sigma/signal is that."""
    divisor = 1.0 if kind in IN_SIGMA + EDM else math.hypot(1, ratio)
    return Level(float(time), 1 / divisor, float(ratio) / divisor, 1 / float(1 + ratio**2))


def even(most, least, n, rho):
    """n ratios, even in sigma^(1/rho) (Karras et al. 2022, Eq. 5), or in ln sigma without a rho."""
    share = np.linspace(0, 1, n)
    if rho is None:
        return np.exp(math.log(most) + share * (math.log(least) - math.log(most)))
    return (most ** (1 / rho) + share * (least ** (1 / rho) - most ** (1 / rho))) ** rho


def length(config):
    return config.get("num_train_timesteps", 1000)


def shifted(config, u):
    """sigma of flow matching at a share u of the time: Esser et al. 2024, Eq. 23."""
    shift = config.get("shift", 1.0)
    return shift * u / (1 + (shift - 1) * u)


def edm_ratios(config, n):
    rho = config.get("rho", 7.0) if config.get("sigma_schedule", "karras") == "karras" else None
    return even(config.get("sigma_max", 80.0), config.get("sigma_min", 0.002), n, rho)


def last_level(kind, config):
    """After the last step: the image, or alpha_bar of the first time, one step short of it."""
    short = kind in ("DDIM", "DDIMInverse", "PNDM") and not config.get("set_alpha_to_one", kind != "PNDM")
    return of_alpha_bar(-1, alpha_bar_table(**config)[0]) if short else CLEAN


def level_at(kind, config, t):
    """The level of the integer time t, which counts from 0; -1 is after the last step."""
    if t < 0:
        return last_level(kind, config)
    if kind in EDM:
        ratio = edm_ratios(config, length(config))[::-1][t]
        return of_ratio(kind, math.log(ratio) / 4, ratio)
    if kind in FLOW:
        return of_flow(config, shifted(config, (t + 1) / length(config)))
    alpha_bar = alpha_bar_table(**config)[t]
    if kind in IN_SIGMA:
        return of_ratio(kind, t, math.sqrt((1 - alpha_bar) / alpha_bar))
    return of_alpha_bar(t, alpha_bar)


# --- Which times a chain visits: Lin et al. 2024, Table 2 ---


def trailing(total, last, steps):
    return np.arange(last, 0, -total / steps)[:steps].round() - 1


def spaced(kind, config, steps):
    """Times of samplers in time and in sigma; the latter's linspace is not rounded."""
    total, spacing = length(config), config.get("timestep_spacing", "leading" if kind in IN_TIME else "linspace")
    if spacing == "leading":
        return np.arange(steps)[::-1] * (total // steps) + config.get("steps_offset", 0)
    if spacing == "trailing":
        return trailing(total, total, steps)
    if spacing == "linspace":
        times = np.linspace(0, total - 1, steps)[::-1]
        return times.round() if kind in IN_TIME else times
    raise unknown(spacing)


def unknown(spacing):
    return ValueError(f'timestep_spacing "{spacing}": known are leading, trailing, linspace')


def spaced_in_lambda(kind, config, steps, ratios):
    """N times, none with a lambda below the least that is wanted; unless trailing, the first N of N + 1."""
    total, spacing = length(config), config.get("timestep_spacing", "linspace")
    bounded = kind.startswith("DPMSolver")
    least = float(config.get("lambda_min_clipped", -math.inf)) if bounded else -math.inf
    last = total - int((-np.log(ratios) < least).sum())
    if kind == "DPMSolverSinglestep" or spacing == "linspace":
        return np.linspace(0, last - 1, steps + 1).round()[:0:-1]
    if spacing == "leading":
        return np.arange(1, steps + 1)[::-1] * (last // (steps + 1)) + config.get("steps_offset", 0)
    if spacing == "trailing":
        return trailing(total, last, steps)
    raise unknown(spacing)


# --- Chains ---


def in_time(kind, config, steps):
    """DDPM goes to the next time of its list; the others one stride down, whatever the list says."""
    times = spaced(kind, config, steps).astype(int).tolist()
    following = times[1:] + [-1] if kind == "DDPM" else [max(t - length(config) // steps, -1) for t in times]
    down = [Transition(level_at(kind, config, t), level_at(kind, config, s)) for t, s in zip(times, following)]
    if kind == "DDIMInverse":  # from the end; the network is fed the time of the level that is gone to
        return [Transition(step.to._replace(time=step.level.time), step.level) for step in reversed(down)]
    if kind == "PNDM":
        return pseudo_linear(config, times, down) if config.get("skip_prk_steps") else pseudo_runge_kutta(config, times, down)
    return down


def pseudo_linear(config, times, down):
    """The second evaluation takes the first step again, from one stride above where it led."""
    if len(times) == 1:
        return down
    start = level_at("PNDM", config, min(times[1] + length(config) // len(times), length(config) - 1))
    again = Transition(start._replace(time=float(times[1])), level_at("PNDM", config, times[1]), "again")
    return [down[0], again, *down[1:]]


def pseudo_runge_kutta(config, times, down):
    """The first three steps have four evaluations each, two of them half a stride below the step's start."""
    half, chain, whole = length(config) // len(times) // 2, [], min(3, len(times) - 1)
    for t, following in zip(times[:whole], times[1:]):
        start, end = level_at("PNDM", config, t), level_at("PNDM", config, following)
        above = level_at("PNDM", config, min(following + half, t))
        middle = level_at("PNDM", config, max(t - half, -1))._replace(time=above.time)
        chain += [Transition(start, middle, "first"), Transition(middle, above, "second")]
        chain += [Transition(above, end, "third"), Transition(end, end, "fourth")]
    return chain + down[whole:]


def flow_levels(config, steps):
    """Even between two ends that are shifted already; then all are shifted, the ends for the second time."""
    total = length(config)
    sigmas = shifted(config, np.linspace(shifted(config, 1.0), shifted(config, 1 / total), steps))
    spread, rho = spread_of(config)
    sigmas = even(sigmas[0], sigmas[-1], steps, rho) if spread else sigmas
    return [of_flow(config, sigma) for sigma in sigmas.tolist()]


def spread_of(config):
    """The field that asks for levels spread in sigma, if one does, and its rho."""
    if config.get("use_beta_sigmas"):
        raise ValueError("use_beta_sigmas: known are use_karras_sigmas, use_exponential_sigmas, use_lu_lambdas")
    spreads = {"use_karras_sigmas": 7.0, "use_exponential_sigmas": None, "use_lu_lambdas": None}
    return next(((name, rho) for name, rho in spreads.items() if config.get(name)), (None, None))


def table_levels(kind, config, steps):
    """Levels on the line between those of the table of betas, and the ratio at which the chain ends."""
    alpha_bar, entries = alpha_bar_table(**config), np.arange(length(config))
    with np.errstate(divide="ignore"):
        ratios = np.minimum(np.sqrt((1 - alpha_bar) / alpha_bar), MOST_RATIO)
    in_lambda, short = kind in IN_LAMBDA, config.get("final_sigmas_type") == "sigma_min"
    times = spaced_in_lambda(kind, config, steps, ratios) if in_lambda else spaced(kind, config, steps)
    visited = np.interp(times, entries, ratios)
    end = ratios[0] if short or kind == "DEISMultistep" else 0.0
    spread, rho = spread_of(config)
    if spread:
        ends = (ratios[-1], ratios[0]) if in_lambda else (visited[0], visited[-1])
        visited = even(*ends, len(times), rho)
        times = np.interp(np.log(visited), np.log(ratios), entries)
        end = visited[-1] if kind == "DEISMultistep" or kind == "UniPCMultistep" and short else end
        if in_lambda:
            cosine = kind == "DPMSolverMultistep" and config.get("beta_schedule") == "squaredcos_cap_v2"
            times = np.trunc(times) if spread == "use_exponential_sigmas" or cosine else times.round()
    return [of_ratio(kind, t, ratio) for t, ratio in zip(times, visited)], end


def chain(kind, config, steps):
    """The transitions of a chain of so many steps, one for each evaluation of the network."""
    if kind in IN_TIME:
        return in_time(kind, config, steps)
    if kind in FLOW:
        levels, end = flow_levels(config, steps), 0.0
    elif kind in EDM:
        levels = [of_ratio(kind, math.log(ratio) / 4, ratio) for ratio in edm_ratios(config, steps)]
        end = config.get("sigma_min", 0.002) if config.get("final_sigmas_type") == "sigma_min" else 0.0
    else:
        levels, end = table_levels(kind, config, steps)
    levels = [*levels, of_ratio(kind, 0, end) if end else CLEAN]
    pairs = [Transition(*pair) for pair in zip(levels, levels[1:])]
    if kind != "HeunDiscrete":
        return pairs
    # Each step but the one to the image is corrected by what is seen at its end.
    return [step for pair in pairs for step in (pair, Transition(pair.to, pair.to, "correction")) if step.level.sigma]


def levels(config, steps, **attributes):
    kind = attributes["class"].removesuffix("Scheduler")
    transitions = chain(kind, config, steps)
    visited = [step.level for step in transitions] + [transitions[-1].to]
    sigmas = [level.sigma if kind in FLOW else level.ratio for level in visited]
    return {"output.timesteps": np.array([level.time for level in visited[:-1]]), "output.sigmas": np.array(sigmas)}
