"""A step of ancestral sampling in ten lines of Python, and six ways to get it wrong: what the page's judge is tested with."""

import array
import base64
import math

KINDS = {"f32": "f", "f64": "d", "u8": "B"}


def numbers(record, key):
    for part in key.split("."):
        record = record[int(part)] if isinstance(record, list) else record[part]
    return array.array(KINDS[record["kind"]], base64.b64decode(record["base64"]))


def step(record, k, shift=0, variance="tilde", noise_at_end=False, clip=True, forget=None, read=None):
    """x_s of step k, in float64."""
    bars = numbers(record, "tables.alpha_bar")
    of = record["chain"]["steps"][k]
    t, s = int(of["from"]["t"]), int(of["to"]["t"])
    bar, bar_s = bars[min(t + shift, len(bars) - 1)], bars[max(s + shift, 0) if s else 0]
    x = numbers(record, "chain.x_start" if k == 0 else f"chain.steps.{k - 1}.x_s")
    said, z = numbers(record, f"chain.steps.{k}.output"), numbers(record, f"chain.steps.{k}.z")
    alpha = bar / bar_s
    beta = 1 - alpha
    beta_tilde = beta * (1 - bar_s) / (1 - bar)
    sigma = math.sqrt(beta_tilde if variance == "tilde" else beta) if s or noise_at_end else 0.0
    if s == 0 and noise_at_end:
        sigma = math.sqrt(beta)
    if forget == "sigma":
        sigma = beta_tilde
    signal, noise = (bar, 1 - bar) if forget == "signal" else (math.sqrt(bar), math.sqrt(1 - bar))
    kind, limit = read or record["about"]["prediction"], record["chain"]["clip"] if clip else None
    result = []
    for x_t, y, z_i in zip(x, said, z):
        x_0 = {"sample": y, "v_prediction": signal * x_t - noise * y}.get(kind, (x_t - noise * y) / signal)
        if limit is not None:
            x_0 = max(-limit, min(limit, x_0))
        result.append(math.sqrt(bar_s) * beta / (1 - bar) * x_0 + math.sqrt(alpha) * (1 - bar_s) / (1 - bar) * x_t + sigma * z_i)
    return result


def right(record, k):
    return step(record, k)


def mistakes(record):
    """The name of each mistake, a step in which it shows, and its numbers."""
    steps = record["chain"]["steps"]
    last, middle = len(steps) - 1, max(0, len(steps) - 6)

    def clipped(k):
        return max(abs(a - b) for a, b in zip(step(record, k), step(record, k, clip=False)))

    unclipped = max(range(len(steps)), key=clipped)
    kind, letter = record["about"]["prediction"], record["about"]["prediction_letter"]
    read = [] if kind == "epsilon" else [(f"{letter} read as ε", middle, step(record, middle, read="epsilon"))]
    return read + [
        ("ᾱ one off", middle, step(record, middle, shift=-1)),
        ("β for β̃", middle, step(record, middle, variance="beta")),
        ("noise after the last step", last, step(record, last, noise_at_end=True)),
        ("no clipping", unclipped, step(record, unclipped, clip=False)),
        ("a forgotten square root", middle, step(record, middle, forget="sigma")),
        ("a forgotten square root", middle, step(record, middle, forget="signal")),
    ]
