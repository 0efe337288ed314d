"""A diffusion backend in plain NumPy: in float32 one more implementation to check, in float64 a second source of truth.

    run(op, attributes, inputs, dtype=np.float32) -> {"output": ..., "grad.x": ...}, or None: not supported

    python numpy_backend.py data/golden [LEVEL ...]

| numpy_layers.py, numpy_blocks.py, numpy_transformer.py | layers and blocks, with their gradients |
| numpy_networks.py, numpy_training.py | whole networks from their folders, what moves their weights |
| numpy_schedules.py, numpy_levels.py | noise schedules, and which levels a chain visits |
| numpy_samplers.py, numpy_solvers.py | steps of samplers, and chains |
| numpy_likelihood.py | the variational bound, and what teaches a variance |

Here are random numbers, losses, the exact denoiser, and what compares pictures. NumPy 2.0 or later.
"""

import hashlib

import numpy as np

import numpy_blocks as blocks
import numpy_layers as layers
import numpy_likelihood
import numpy_networks
import numpy_transformer as transformer
import on_kit
from numpy_levels import levels
from numpy_samplers import reverse_step, trajectory
from numpy_schedules import alpha_bar_table, beta_table, q_sample, schedule
from numpy_training import adamw, clip_grad_norm, ema, training, with_adam_apart


def run(op, attributes, inputs, dtype=np.float32):
    """The op's outputs, and its gradients if `grad_output` is among the inputs, computed in `dtype`."""
    inputs = {name: x if x.dtype.kind == "i" else x.astype(dtype) for name, x in inputs.items()}
    if op in ELEMENTARY:
        results = ELEMENTARY[op](inputs["x"])
    elif op in LAYERS or op in BLOCKS:
        results = with_gradients(op, attributes, **inputs)
    elif op in OPS:
        results = OPS[op](**inputs, **(with_adam_apart(attributes) if op == "training" else attributes))
    else:
        return None
    results = results if isinstance(results, dict) else {"output": results}
    # Tables, times and uniforms are computed in float64 whatever the precision; uniforms and times stay exact.
    exact = ("output.uniform", "output.timesteps")
    return {name: np.asarray(x, None if name in exact else dtype) for name, x in results.items()}


def with_gradients(op, attributes, grad_output=None, **inputs):
    """What a layer or a block puts out, and its gradients; a block's parameters are the inputs with a dot in their names."""
    module = blocks.Module({name: x for name, x in inputs.items() if op in BLOCKS and "." in name})
    others = {name: x for name, x in inputs.items() if name not in module.parameters}
    y, back = BLOCKS[op](module, **others, **attributes) if op in BLOCKS else LAYERS[op](**others, **attributes)
    grads = {} if grad_output is None else back(grad_output) | module.grads
    return {"output": y, **{f"grad.{name}": g for name, g in grads.items() if name in inputs}}


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


def mse_loss(prediction, target):
    loss, gradient = numpy_networks.mse_loss(prediction, target)
    return {"output.loss": loss, "grad.prediction": gradient}


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


# --- The exact denoiser ---


def oracle(x_t, sigma, form="variance_preserving", data=None, data_labels=None, labels=None, means=None, variances=None, weights=None):
    """The exact E[x_0 | x_t]: of a set of images (Karras et al. 2022, Eq. 57, there with a = 1), or of a mixture of Gaussians.

    Of the mixture also the score, which is the gradient of the density's logarithm, and that logarithm.
    """
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
    if variances.ndim < 3:  # one for all axes, or one for each
        variances = variances.reshape(len(variances), -1, 1) * np.eye(d, dtype=real)
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


# --- What is learned ---


def variational_bound(schedule, **inputs):
    return numpy_likelihood.variational_bound(alpha_bar_table(**schedule), **inputs)


def hybrid_loss(schedule, **inputs):
    return numpy_likelihood.hybrid_loss(alpha_bar_table(**schedule), **inputs)


def loss_weight(schedule, **attributes):
    beta = beta_table(**schedule)
    return numpy_likelihood.loss_weight(beta, np.cumprod(1 - beta), **attributes)


def by_name(*functions):
    return {f.__name__: f for f in functions}


LAYERS = by_name(layers.linear, layers.conv2d, layers.conv_transpose2d, layers.group_norm, layers.layer_norm)
LAYERS |= by_name(layers.silu, layers.gelu, layers.gelu_tanh, layers.softmax, layers.attention)
LAYERS |= by_name(layers.upsample_nearest_2x, layers.average_pool_2x, layers.class_embedding)
LAYERS |= by_name(transformer.patchify, transformer.unpatchify, transformer.modulate, transformer.gate, transformer.affine)
BLOCKS = by_name(blocks.res_block, blocks.classifier_block, blocks.attention_block)
BLOCKS |= by_name(transformer.dit_embedding, transformer.dit_block)
ELEMENTARY = {"exp": np.exp, "sigmoid": layers.sigmoid, "tanh": np.tanh, "ln": np.log, "sin": np.sin, "cos": np.cos}
OPS = {"unet": numpy_networks.network, "dit": numpy_networks.network}
OPS |= by_name(random_stream, layers.time_embedding, transformer.positions, mse_loss, cross_entropy)
OPS |= by_name(schedule, q_sample, levels, reverse_step, trajectory, oracle, variational_bound, hybrid_loss, loss_weight)
TABLES = ("random_stream", "schedule", "levels", "loss_weight")  # float64 in every framework: nobody else's
OPS |= by_name(adamw, clip_grad_norm, ema, training, frechet_distance, precision_recall)

if __name__ == "__main__":
    on_kit.judge(__doc__, lambda kit, case: run(case.op, case.attributes, case.inputs))
