"""A diffusion backend in plain NumPy: in float32 one more implementation to check, in float64 a second source of truth.

    run(op, attributes, inputs, dtype=np.float32) -> {"output": ..., "grad.x": ...}, or None: not supported

    python numpy_backend.py data/golden [LEVEL ...]

Layers with their gradients are in numpy_layers.py; here are the tables, samplers, optimizer and random numbers.
"""

import hashlib
import sys

import numpy as np

import numpy_layers as layers
import numpy_likelihood

LAYERS = {
    name: getattr(layers, name)
    for name in (
        "linear conv2d conv_transpose2d group_norm layer_norm silu gelu gelu_tanh softmax attention upsample_nearest_2x average_pool_2x"
        " class_embedding res_block classifier_block attention_block"
    ).split()
}


def run(op, attributes, inputs, dtype=np.float32):
    """The op's outputs, and its gradients if `grad_output` is among the inputs, computed in `dtype`."""
    inputs = {name: x if x.dtype.kind == "i" else x.astype(dtype) for name, x in inputs.items()}
    if op in LAYERS:
        dy = inputs.pop("grad_output", None)
        y, back = LAYERS[op](**inputs, **attributes)
        grads = {} if dy is None else back(dy)
        results = {"output": y, **{f"grad.{name}": g for name, g in grads.items() if name in inputs}}
    elif op in ELEMENTARY:
        results = {"output": ELEMENTARY[op](inputs["x"])}
    elif op in OPS:
        results = OPS[op](**inputs, **attributes)
    else:
        return None
    if results is None:
        return None
    # Tables, times and uniforms are computed in float64 whatever the precision; uniforms and times stay exact.
    exact = ("output.uniform", "output.timesteps")
    return {name: np.asarray(x, None if name in exact else dtype) for name, x in results.items()}


ELEMENTARY = {"exp": np.exp, "sigmoid": layers.sigmoid, "tanh": np.tanh, "ln": np.log, "sin": np.sin, "cos": np.cos}


def random_stream(seed, purpose, indices, count):
    """PCG64 whose state is the SHA-256 of the key; normals by Box and Muller from a fresh copy of the stream."""
    name = purpose.encode()
    words = [seed, len(name), *indices]
    u64 = [int(word).to_bytes(8, "little") for word in words]
    key = hashlib.sha256(b"ancestral N1" + u64[0] + u64[1] + name + b"".join(u64[2:])).digest()
    state = {"state": int.from_bytes(key[:16], "little"), "inc": int.from_bytes(key[16:], "little") | 1}

    def uniforms(n):
        generator = np.random.PCG64()
        generator.state = {"bit_generator": "PCG64", "state": state, "has_uint32": 0, "uinteger": 0}
        return (generator.random_raw(n) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    u = uniforms(count + count % 2).reshape(-1, 2)
    radius, angle = np.sqrt(-2 * np.log(1 - u[:, 0])), 2 * np.pi * u[:, 1]
    normals = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count]
    return {"output.uniform": uniforms(count), "output.normal": normals}


def time_embedding(t, dim, flip_sin_to_cos=True, freq_shift=0):
    """sin and cos of t w_k, w_k = 10000^(-k/(dim/2 - freq_shift)), an odd dim padded with a zero.

    The angle reaches thousands of radians, of which float32 keeps only four decimals: float64 here, rounded at the end.
    """
    half = dim // 2
    frequency = np.exp(-np.log(10000.0) * np.arange(half) / (half - freq_shift))
    angle = t.astype(np.float64)[:, None] * frequency
    pair = [np.cos(angle), np.sin(angle)] if flip_sin_to_cos else [np.sin(angle), np.cos(angle)]
    return {"output": np.concatenate(pair + [np.zeros((len(t), dim % 2))], axis=1)}


def mse_loss(prediction, target):
    error = prediction - target
    return {"output.loss": np.mean(error**2), "grad.prediction": 2 * error / error.size}


def cross_entropy(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    hit = np.eye(logits.shape[1], dtype=logits.dtype)[labels]
    return {"output.loss": -(log_p * hit).sum() / len(labels), "grad.logits": (np.exp(log_p) - hit) / len(labels)}


# --- What pictures' features are compared by, in float64 whatever the precision ---


def frechet_distance(x, y):
    """|mean x - mean y|^2 + tr(A + B - 2 (A B)^(1/2)), A and B the covariances; A B has the eigenvalues of R B R, R R = A."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b = np.cov(x.T), np.cov(y.T)
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    traces = np.trace(a) + np.trace(b) - 2 * np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    return {"output": ((x.mean(0) - y.mean(0)) ** 2).sum() + traces}


def precision_recall(real, generated, k=3):
    def distances(x, y):
        return ((x[:, None].astype(np.float64) - y[None]) ** 2).sum(-1)

    def covered(x, by):
        radii = np.sort(distances(by, by), axis=1)[:, k]  # the nearest is the vector itself
        return (distances(x, by) <= radii).any(axis=1).mean()

    return {"output.precision": covered(generated, real), "output.recall": covered(real, generated)}


# --- Schedules and samplers: Ho et al. 2020, Nichol and Dhariwal 2021, Song et al. 2021; tables in float64 ---


def beta_table(trained_betas=None, rescale_betas_zero_snr=False, **config):
    beta = beta_curve(**config) if trained_betas is None else np.array(trained_betas)
    if not rescale_betas_zero_snr:
        return beta
    root = np.sqrt(np.cumprod(1 - beta))  # Lin et al. 2024, Algorithm 1
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    return 1 - np.concatenate([root[:1] ** 2, root[1:] ** 2 / root[:-1] ** 2])


def beta_curve(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear", **_):
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


def schedule(**config):
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
    alpha_bar = np.cumprod(1 - beta_table(**config))[t].reshape(-1, *[1] * (x_0.ndim - 1))
    signal, noise = np.sqrt(alpha_bar).astype(x_0.dtype), np.sqrt(1 - alpha_bar).astype(x_0.dtype)
    return {"output": signal * x_0 + noise * eps}


def oracle(x_t, sigma, form="variance_preserving", data=None, data_labels=None, labels=None, means=None, variances=None, weights=None):
    """The exact E[x_0 | x_t] of a set of images (Karras et al. 2022, Eq. 57), or of a mixture of Gaussians with its score and density."""
    a = {"variance_preserving": np.sqrt(max(1 - sigma**2, 0)), "variance_exploding": 1.0, "flow": 1 - sigma}[form]
    real, shape, x = x_t.dtype.type, x_t.shape, x_t.reshape(len(x_t), -1)
    a, b = real(a), real(sigma)

    def posterior(logs):
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    if data is not None:
        y = data.reshape(len(data), -1)
        logs = -((x[:, None] - a * y) ** 2).sum(-1) / (2 * b * b)
        if labels is not None:  # the label after the last class means all classes
            others = (data_labels != labels[:, None]) & (labels <= data_labels.max())[:, None]
            logs = np.where(others, -np.inf, logs)
        return {"output.x_0": (posterior(logs) @ y).reshape(shape)}
    mu, d = means.reshape(len(means), -1), x.shape[1]
    if variances.ndim < 3:
        variances = np.stack([np.diag(np.broadcast_to(v, d)) for v in variances])
    weights = np.ones(len(mu), real) if weights is None else weights
    widened = a * a * variances + b * b * np.eye(d, dtype=real)
    offset = x[:, None] - a * mu
    slope = np.einsum("kij,nkj->nki", np.linalg.inv(widened), offset)
    logs = np.log(weights / weights.sum()) - ((offset * slope).sum(-1) + np.linalg.slogdet(2 * real(np.pi) * widened)[1]) / 2
    shares, most = posterior(logs), logs.max(axis=1)
    x_0 = mu + a * np.einsum("kij,nkj->nki", variances, slope)
    return {
        "output.x_0": np.einsum("nk,nki->ni", shares, x_0).reshape(shape),
        "output.score": -np.einsum("nk,nki->ni", shares, slope).reshape(shape),
        "output.log_density": most + np.log(np.exp(logs - most[:, None]).sum(axis=1)),
    }


def is_ancestral(config, **attributes):
    """Whether it is one of the two samplers that are written here, without thresholding and with a variance that is fixed."""
    fixed = config.get("variance_type", "fixed_small").startswith("fixed")
    return attributes["class"] in ("DDPMScheduler", "DDIMScheduler") and fixed and not config.get("thresholding")


def reverse_step(x_t, model_output, noise, config, t, t_prev, eta=0.0, steps=None, **attributes):
    """One step of DDPM (Ho et al. 2020, Eq. 7) or DDIM (Song et al. 2021, Eq. 12) to t_prev, -1 being the image.

    Of NumPy it takes the tables alone: the arrays may be another framework's.
    """
    if not is_ancestral(config, **attributes):
        return None
    ddim = attributes["class"] == "DDIMScheduler"
    alpha_bars = np.cumprod(1 - beta_table(**config))
    last = alpha_bars[0] if ddim and not config.get("set_alpha_to_one", True) else 1.0
    a, b = alpha_bars[t], alpha_bars[t_prev] if t_prev >= 0 else last
    real = x_t.dtype.type
    signal, sigma = real(np.sqrt(a)), real(np.sqrt(1 - a))
    prediction = config.get("prediction_type", "epsilon")
    if prediction == "epsilon":
        x_0, eps = (x_t - sigma * model_output) / signal, model_output
    elif prediction == "sample":
        x_0, eps = model_output, (x_t - signal * model_output) / sigma
    else:  # v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0: Salimans and Ho 2022
        x_0, eps = signal * x_t - sigma * model_output, signal * model_output + sigma * x_t
    if config.get("clip_sample", True):
        limit = config.get("clip_sample_range", 1.0)
        x_0 = x_0.clip(-limit, limit)
    beta = 1 - a / b
    posterior_variance = beta * (1 - b) / (1 - a)
    if ddim:
        variance = eta**2 * posterior_variance
        x = real(np.sqrt(b)) * x_0 + real(np.sqrt(1 - b - variance)) * eps
    else:
        small = config.get("variance_type", "fixed_small").startswith("fixed_small")
        variance = 0.0 if t_prev < 0 else posterior_variance if small else beta
        x = real(np.sqrt(b) * beta / (1 - a)) * x_0 + real(np.sqrt(a / b) * (1 - b) / (1 - a)) * x_t
    return {"output.prev_sample": x + real(np.sqrt(variance)) * noise, "output.pred_original_sample": x_0}


def visited(config, steps):
    """The times that a chain of `steps` visits, 0-based and descending: Lin et al. 2024, Table 2."""
    total, spacing = config.get("num_train_timesteps", 1000), config.get("timestep_spacing", "leading")
    if spacing == "leading":
        return [i * (total // steps) + config.get("steps_offset", 0) for i in reversed(range(steps))]
    if spacing == "trailing":
        return [int(np.round(total - i * (total / steps))) - 1 for i in range(steps)]
    if spacing == "linspace":
        return np.linspace(0, total - 1, steps).round()[::-1].astype(int).tolist()
    raise ValueError(f'timestep_spacing "{spacing}": known are leading, trailing, linspace')


def visits(config, steps, **attributes):
    """The times that a chain visits, each with the one it goes to."""
    times = visited(config, steps)
    following = times[1:] + [-1]
    if attributes["class"] == "DDIMScheduler":  # one stride down, whatever the list says
        following = [max(t - config.get("num_train_timesteps", 1000) // steps, -1) for t in times]
    return list(zip(times, following))


def trajectory(x_T, model_output, noise, config, steps, eta=0.0, **attributes):
    if not is_ancestral(config, **attributes):
        return None
    steps, x = visits(config, steps, **attributes), [x_T]
    for i, (t, t_prev) in enumerate(steps):
        step = reverse_step(x[-1], model_output[i], noise[i], config, t, t_prev, eta, **attributes)
        x.append(step["output.prev_sample"])
    return {"output.timesteps": np.array([t for t, _ in steps], np.float64), "output.x": np.stack(x)}


# --- What is learned ---


def variational_bound(schedule, **inputs):
    return numpy_likelihood.variational_bound(np.cumprod(1 - beta_table(**schedule)), **inputs)


def hybrid_loss(schedule, **inputs):
    return numpy_likelihood.hybrid_loss(np.cumprod(1 - beta_table(**schedule)), **inputs)


def loss_weight(schedule, **attributes):
    beta = beta_table(**schedule)
    return numpy_likelihood.loss_weight(beta, np.cumprod(1 - beta), **attributes)


# --- Optimizer ---


def adamw(w, grad, lr, m=None, v=None, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, step=1):
    """Loshchilov and Hutter 2019, as PyTorch has it: the decay before the update, eps beside the corrected root."""
    m, v = np.zeros_like(w) if m is None else m, np.zeros_like(w) if v is None else v
    for i, g in enumerate(grad if grad.ndim > w.ndim else grad[None]):
        w = w * (1 - lr * weight_decay)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        correction1, correction2 = 1 - beta1 ** (step + i), 1 - beta2 ** (step + i)
        w = w - lr / correction1 * m / (np.sqrt(v) / correction2**0.5 + eps)
    return {"output.w": w, "output.m": m, "output.v": v}


def clip_grad_norm(grad, max_norm):
    norm = np.sqrt((grad**2).sum())
    return {"output.norm": norm, "output.grad": grad * np.minimum(1, max_norm / (norm + 1e-6))}


def ema(ema, w, decay, step):
    return {"output": ema + (1 - min(decay, (1 + step) / (10 + step))) * (w - ema)}


OPS = {
    f.__name__: f
    for f in (random_stream, time_embedding, mse_loss, schedule, q_sample, oracle, reverse_step, trajectory, adamw)
    + (clip_grad_norm, ema, variational_bound, hybrid_loss, loss_weight, cross_entropy, frechet_distance, precision_recall)
}

if __name__ == "__main__":
    sys.path.append(sys.argv[1])  # golden.py is part of the kit
    import golden

    kit = golden.open(sys.argv[1])
    for level in sys.argv[2:] or [None]:
        for case in kit.cases(level=level):
            case.report(run(case.op, case.attributes, case.inputs))
    kit.finish()
