"""An example backend for the golden kit, JAX on the CPU in float32, compiled, gradients by JAX:

    python jax_backend.py data/golden [LEVEL ...]

Layers, blocks and networks are in jax_layers.py, likelihoods, oracles and what compares pictures in jax_processes.py; here
are losses, the optimizer and training. Schedules, levels and the weights of samplers are NumPy's, float64: constants of what is
compiled.
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from safetensors.numpy import load_file

import jax_layers as layers
import jax_processes as processes
import numpy_backend
import on_kit
from numpy_training import ema, with_adam_apart
from numpy_transformer import in_patches, of_patches

# On a GPU or a TPU the products of float32 arrays are TF32's or bfloat16's unless they are asked to be exact.
jax.config.update("jax_default_matmul_precision", "highest")


def backend(op, attributes, dtype=np.float32, **arrays):
    """The op's outputs and gradients as arrays, or None: not supported."""
    if op in numpy_backend.TABLES:  # nothing in it is JAX's
        return numpy_backend.run(op, attributes, arrays, dtype)
    if op not in OPS:
        return None
    grad_output = arrays.pop("grad_output", None)
    grad_output = None if grad_output is None else grad_output.astype(dtype)
    floats = {name: x.astype(dtype) for name, x in arrays.items() if x.dtype.kind == "f"}
    integers = {name: x for name, x in arrays.items() if name not in floats}  # have no gradient
    constants = {name: integers.pop(name) for name in ("timesteps",) if name in integers}  # which tables are made for

    attributes = with_adam_apart(attributes) if op == "training" else attributes

    def compute(floats, integers, grad_output):
        outputs = lambda floats: OPS[op](**floats, **integers, **constants, **attributes)  # noqa: E731
        if grad_output is None:
            return outputs(floats), {}
        y, pullback = jax.vjp(outputs, floats)
        return y, pullback(grad_output)[0]

    # Training compiles one step, not all of them. For float64 JAX has to be asked; the Frechet distance is always in it.
    compute = compute if op == "training" else jax.jit(compute)
    with jax.enable_x64(dtype == np.float64 or op == "frechet_distance"):
        outputs, gradients = compute(floats, integers, grad_output)
    if outputs is None:
        return None
    outputs = outputs if isinstance(outputs, dict) else {"output": outputs}
    results = outputs | {f"grad.{name}": gradient for name, gradient in gradients.items()}
    return {name: np.asarray(x) for name, x in results.items()}


def block(function, *first):
    """An op whose inputs but the first ones are parameters."""

    def run(**inputs):
        given = {name: inputs.pop(name) for name in first}
        parameters = {name: inputs.pop(name) for name in list(inputs) if "." in name}
        return function(layers.Module(parameters), **given, **inputs)

    return run


def mse_loss(prediction, target):
    loss, gradient = jax.value_and_grad(mean_square)(prediction, target)
    return {"output.loss": loss, "grad.prediction": gradient}


def mean_square(prediction, target):
    return jnp.mean((prediction - target) ** 2)


def cross_entropy(logits, labels):
    mean = lambda logits: optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()  # noqa: E731
    loss, gradient = jax.value_and_grad(mean)(logits)
    return {"output.loss": loss, "grad.logits": gradient}


def load(folder):
    """A network of diffusers as a function of its parameters and of its inputs, and the parameters."""
    config = json.loads((Path(folder) / "config.json").read_text())
    network = {"UNet2DModel": layers.unet, "DiTTransformer2DModel": layers.dit}[config["_class_name"]]
    parameters = load_file(Path(folder) / "diffusion_pytorch_model.safetensors")
    return functools.partial(network, config), {name: jnp.asarray(value) for name, value in parameters.items()}


def network(x, t, noise, model, class_labels=None, gradients=False, taps=False):
    function, parameters = load(model)
    labels = {} if class_labels is None else {"class_labels": class_labels}

    def loss(parameters, x):
        out, outputs = function(parameters, x, t, **labels)
        return mean_square(out, noise), (out, outputs)

    if gradients:
        (value, (out, outputs)), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(parameters, x)
    else:
        (value, (out, outputs)), grads = loss(parameters, x), ({}, None)
    results = {"output.out": out, "output.loss": value}
    results |= {f"taps.{name}": y for name, y in outputs.items()} if taps else {}
    results |= {"grad.x": grads[1]} if gradients else {}
    return results | {f"grad.{name}": gradient for name, gradient in grads[0].items()}


# --- Optimizer. Not optax's adamw, which makes 1 - beta^step in float32: for beta = 0.999 off by 1e-5 of itself in the first
# steps. Not its clip_by_global_norm, which has no 1e-6 beside the norm, as PyTorch has. ---


def adamw_step(w, m, v, grad, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    """Loshchilov and Hutter 2019. `step` is a Python number, so that the corrections are float64's."""
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    correction1, correction2 = 1 - beta1**step, (1 - beta2**step) ** 0.5
    w = w * (1 - lr * weight_decay) - lr / correction1 * m / (jnp.sqrt(v) / correction2 + eps)
    return w, m, v


def adamw(w, grad, m=None, v=None, step=1, **settings):
    m, v = (jnp.zeros_like(w) if x is None else x for x in (m, v))
    for i, g in enumerate(grad if grad.ndim > w.ndim else grad[None]):
        w, m, v = adamw_step(w, m, v, g, step + i, **settings)
    return {"output.w": w, "output.m": m, "output.v": v}


def clip_grad_norm(grad, max_norm):
    """Of an array, or of a dict of them together."""
    norm = optax.tree.norm(grad)
    factor = jnp.minimum(1, max_norm / (norm + 1e-6))
    return {"output.norm": norm, "output.grad": jax.tree.map(lambda g: g * factor, grad)}


def training(x_0, eps, t, model, config, adam, clip_norm=1.0, ema_decay=0.999, class_labels=None):
    function, weights = load(model)

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradients(weights, x_t, t, eps, labels):
        return mean_square(function(weights, x_t, t, **labels)[0], eps)

    moments = {name: (jnp.zeros_like(w), jnp.zeros_like(w)) for name, w in weights.items()}
    average, losses, norms = weights, [], []
    for i in range(len(x_0)):
        labels = {} if class_labels is None else {"class_labels": class_labels[i]}
        x_t = processes.q_sample(x_0[i], eps[i], t[i], **config)
        loss, grads = loss_and_gradients(weights, x_t, t[i], eps[i], labels)
        clipped = clip_grad_norm(grads, clip_norm)
        given = {name: (w, *moments[name], clipped["output.grad"][name]) for name, w in weights.items()}
        moved = {name: adamw_step(*wmvg, i + 1, **adam) for name, wmvg in given.items()}
        weights, moments = {name: new[0] for name, new in moved.items()}, {name: new[1:] for name, new in moved.items()}
        average = {name: ema(average[name], w, ema_decay, i) for name, w in weights.items()}
        losses.append(loss)
        norms.append(clipped["output.norm"])
    results = {"output.loss": jnp.stack(losses), "output.grad_norm": jnp.stack(norms)}
    results |= {f"output.weight.{name}": w for name, w in weights.items()}
    return results | {f"output.ema.{name}": w for name, w in average.items()}


OPS = {
    # Inputs have names here, which some of JAX's own functions refuse.
    "exp": lambda x: jnp.exp(x),
    "sigmoid": lambda x: jax.nn.sigmoid(x),
    "tanh": lambda x: jnp.tanh(x),
    "ln": lambda x: jnp.log(x),
    "sin": lambda x: jnp.sin(x),
    "cos": lambda x: jnp.cos(x),
    "silu": lambda x: layers.silu(x),
    "gelu": lambda x: layers.gelu(x),
    "gelu_tanh": lambda x: layers.gelu_tanh(x),
    "softmax": lambda x: jax.nn.softmax(x),
    "res_block": block(layers.res_block, "x", "temb"),
    "classifier_block": block(layers.classifier_block, "x"),
    "attention_block": block(layers.attention_block, "x"),
    "dit_embedding": block(layers.dit_embedding, "t", "class_labels"),
    "dit_block": block(layers.dit_block, "x", "emb"),
    "unet": network,
    "dit": network,
}
OPS |= {f.__name__: f for f in (layers.linear, layers.conv2d, layers.conv_transpose2d, layers.group_norm, layers.layer_norm, layers.attention)}
OPS |= {f.__name__: f for f in (layers.upsample_nearest_2x, layers.average_pool_2x, layers.class_embedding)}
OPS |= {"patchify": in_patches, "unpatchify": of_patches}  # arrays' own methods, whosever they are
OPS |= {f.__name__: f for f in (layers.time_embedding, layers.positions)}
OPS |= {f.__name__: f for f in (layers.modulate, layers.gate, layers.affine, mse_loss, cross_entropy)}
OPS |= {f.__name__: f for f in (adamw, clip_grad_norm, ema, training)}
OPS |= processes.OPS

if __name__ == "__main__":
    on_kit.judge(__doc__, lambda kit, case: backend(case.op, case.attributes, **case.inputs))
