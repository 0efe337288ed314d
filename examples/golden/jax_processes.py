"""What surrounds a network, in JAX: oracles, likelihoods, and what compares pictures.

Constants of a schedule are NumPy's float64, rounded where they meet an array; scores and gradients are JAX's.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp
from jax.scipy.stats import multivariate_normal, norm

import numpy_likelihood
import numpy_samplers
from numpy_schedules import alpha_bar_table


def q_sample(x_0, eps, t, **config):
    alpha_bar = alpha_bar_table(**config)
    signal, noise = (jnp.asarray(table, x_0.dtype)[t] for table in (np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)))
    of_image = (slice(None),) + (None,) * (x_0.ndim - 1)
    return signal[of_image] * x_0 + noise[of_image] * eps


def oracle(x_t, sigma, form="variance_preserving", data=None, data_labels=None, labels=None, means=None, variances=None, weights=None):
    """E[x_0 | x_t] of a set of images, or of a mixture of Gaussians; the score is the gradient of the density's logarithm."""
    a = {"variance_preserving": math.sqrt(max(1 - sigma**2, 0)), "variance_exploding": 1.0, "flow": 1 - sigma}[form]
    x = x_t.reshape(len(x_t), -1)
    if data is not None:
        y = data.reshape(len(data), -1)
        logs = -((x[:, None] - a * y) ** 2).sum(-1) / (2 * sigma**2)
        if labels is not None:  # the label after the last class means all classes
            others = (data_labels != labels[:, None]) & (labels <= data_labels.max())[:, None]
            logs = jnp.where(others, -jnp.inf, logs)
        return {"output.x_0": (jax.nn.softmax(logs) @ y).reshape(x_t.shape)}
    mu, d = means.reshape(len(means), -1), x.shape[1]
    if variances.ndim < 3:
        variances = jax.vmap(lambda v: jnp.diag(jnp.broadcast_to(v, d)))(variances)
    widened = a * a * variances + sigma**2 * jnp.eye(d)
    shares = jnp.full(len(mu), 1 / len(mu)) if weights is None else weights / weights.sum()

    def logs(x):
        return jnp.log(shares) + jax.vmap(multivariate_normal.logpdf, (None, 0, 0))(x, a * mu, widened)

    def x_0(x):
        offsets = jnp.linalg.solve(widened, (x - a * mu)[..., None])
        return jax.nn.softmax(logs(x)) @ (mu + a * (variances @ offsets)[..., 0])

    log_density, score = jax.vmap(jax.value_and_grad(lambda x: logsumexp(logs(x))))(x)
    results = {"output.x_0": jax.vmap(x_0)(x).reshape(x_t.shape), "output.score": score.reshape(x_t.shape)}
    return results | {"output.log_density": log_density}


# --- What pictures' features are compared by ---


def frechet_distance(x, y):
    """In float64: whoever calls has enabled it."""
    x, y = x.astype(jnp.float64), y.astype(jnp.float64)
    a, b = jnp.cov(x.T), jnp.cov(y.T)
    values, vectors = jnp.linalg.eigh(a)
    root = vectors * jnp.sqrt(values.clip(0)) @ vectors.T
    traces = jnp.trace(a) + jnp.trace(b) - 2 * jnp.sqrt(jnp.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + traces


def precision_recall(real, generated, k=3):
    def distances(x, y):
        return ((x[:, None] - y) ** 2).sum(-1)

    def covered(x, by):
        radii = jnp.sort(distances(by, by), axis=1)[:, k]  # the nearest is the vector itself
        return (distances(x, by) <= radii).any(axis=1).mean()

    return {"output.precision": covered(generated, real), "output.recall": covered(real, generated)}


# --- The variational bound: Nichol and Dhariwal 2021 ---


def levels(schedule, timesteps):
    """Of each step alpha_bar, the one before, beta and the smallest variance, as Python's numbers."""
    alpha_bars = alpha_bar_table(**schedule)
    return list(zip(*(table.tolist() for table in numpy_likelihood.levels(alpha_bars, timesteps))))


def decoder(x_0, mean, log_variance, cdf):
    """-ln P of the bin of 1/255 to either side, the first and the last of which are open."""

    def below(edge):
        z = (edge - mean) * jnp.exp(-0.5 * log_variance)
        if cdf == "erf":
            return norm.cdf(z)
        return 0.5 * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    upper = jnp.where(x_0 > 0.999, 1.0, below(x_0 + 1 / 255))
    lower = jnp.where(x_0 < -0.999, 0.0, below(x_0 - 1 / 255))
    return -jnp.log(jnp.maximum(upper - lower, 1e-12))


def variance(kind, half, low, high, i):
    """The logarithm of a step's variance, after what the network says of it in its second half."""
    if kind == "learned":
        return half
    if kind == "learned_range":
        return low + (half + 1) / 2 * (high - low)
    return high if kind == "fixed_large" and i > 0 else low


def terms(level, i, x_0, noise, mean_half, variance_half, prediction_type, variance_type, clip, cdf):
    """The terms of step i in nats for each element, and x_0_hat. The level's numbers are Python's, float64."""
    now, before, beta, smallest = level
    signal, sigma = math.sqrt(now), math.sqrt(1 - now)
    x_t = signal * x_0 + sigma * noise
    x_0_hat = {
        "epsilon": lambda: (x_t - sigma * mean_half) / signal,
        "sample": lambda: mean_half,
        "v_prediction": lambda: signal * x_t - sigma * mean_half,
    }[prediction_type]()
    x_0_hat = jnp.clip(x_0_hat, -1, 1) if clip else x_0_hat
    low, high = math.log(smallest), math.log(beta)
    log_variance = variance(variance_type, variance_half, low, high, i)
    of_x_0, of_x_t = math.sqrt(before) * beta / (1 - now), math.sqrt(now / before) * (1 - before) / (1 - now)
    mean, truth = (of_x_0 * x + of_x_t * x_t for x in (x_0_hat, x_0))
    if i == 0:
        return decoder(x_0, mean, log_variance, cdf), x_0_hat
    # exp(d) - 1 - d cancels where the variances are nearly the same; expm1 keeps what is left of it.
    d = low - log_variance
    return 0.5 * (jnp.expm1(d) - d + (truth - mean) ** 2 * jnp.exp(-log_variance)), x_0_hat


def of_images(x):
    return x.reshape(len(x), -1).mean(1)


def variational_bound(x_0, noise, model_output, timesteps, schedule, prediction_type, variance_type, clip_sample=True, cdf="erf"):
    chain, channels = levels(schedule, timesteps), x_0.shape[1]
    found = [
        terms(level, i, x_0, noise[i], y[:, :channels], y[:, channels:], prediction_type, variance_type, clip_sample, cdf)
        for i, (level, y) in enumerate(zip(chain, model_output))
    ]
    last = chain[-1][0]
    prior = 0.5 * (last * x_0**2 - last - math.log(1 - last))
    return {
        "output.terms": jnp.stack([of_images(nats) / math.log(2) for nats, _ in found]),
        "output.prior": of_images(prior) / math.log(2),
        "output.x_0_mse": jnp.stack([of_images((x_0_hat - x_0) ** 2) for _, x_0_hat in found]),
    }


def hybrid_loss(x_0, noise, model_output, timesteps, schedule, prediction_type, variance_type, cdf="erf"):
    """The squared error of the mean, and steps/1000 of a term in which the mean is held fixed; per image."""
    chain, channels = levels(schedule, timesteps), x_0.shape[1]

    def losses(model_output):
        for i, (level, y) in enumerate(zip(chain, model_output)):
            signal, sigma = math.sqrt(level[0]), math.sqrt(1 - level[0])
            targets = {"epsilon": noise[i], "sample": x_0, "v_prediction": signal * noise[i] - sigma * x_0}
            mean_half, variance_half = y[:, :channels], y[:, channels:]
            fixed = lax.stop_gradient(mean_half)
            nats, _ = terms(level, i, x_0, noise[i], fixed, variance_half, prediction_type, variance_type, False, cdf)
            simple = of_images((mean_half - targets[prediction_type]) ** 2)
            yield simple + len(chain) / 1000 * of_images(nats) / math.log(2)

    loss, pullback = jax.vjp(lambda y: jnp.stack(list(losses(y))), model_output)
    return {"output.loss": loss, "grad.model_output": pullback(jnp.ones_like(loss))[0]}


# A sampler's step is a sum of arrays with NumPy's weights: JAX's where the arrays are.
OPS = {"reverse_step": numpy_samplers.reverse_step, "trajectory": numpy_samplers.trajectory}
OPS |= {f.__name__: f for f in (q_sample, oracle, frechet_distance, precision_recall, variational_bound, hybrid_loss)}
