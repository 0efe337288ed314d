"""What moves the weights, in plain NumPy: AdamW, clipping, the running average, and some steps of training."""

import numpy as np

from numpy_blocks import Module
from numpy_networks import load, mse_loss
from numpy_schedules import q_sample

ADAM = ("lr", "beta1", "beta2", "eps", "weight_decay")


def with_adam_apart(attributes):
    """Attributes of training in which AdamW's are a dict of their own: its eps has the name of the noise."""
    adam = {key: value for key, value in attributes.items() if key in ADAM}
    return {key: value for key, value in attributes.items() if key not in adam} | {"adam": adam}


def adamw(w, grad, lr, m=None, v=None, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, step=1):
    """Loshchilov and Hutter 2019, as PyTorch has it: the decay before the update, eps beside the corrected root.

    A gradient with one axis more than w is one for each of several steps.
    """
    m, v = np.zeros_like(w) if m is None else m, np.zeros_like(w) if v is None else v
    for i, g in enumerate(grad if grad.ndim > w.ndim else grad[None]):
        w = w * (1 - lr * weight_decay)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        correction1, correction2 = 1 - beta1 ** (step + i), 1 - beta2 ** (step + i)
        w = w - lr / correction1 * m / (np.sqrt(v) / correction2**0.5 + eps)
    return {"output.w": w, "output.m": m, "output.v": v}


def clip_grad_norm(grad, max_norm):
    """Pascanu et al. 2013, as PyTorch has it: 1e-6 beside the norm."""
    norm = np.sqrt((grad**2).sum())
    return {"output.norm": norm, "output.grad": grad * np.minimum(1, max_norm / (norm + 1e-6))}


def ema(ema, w, decay, step=0):
    """The running average of w; it forgets faster in the first steps."""
    return ema + (1 - min(decay, (1 + step) / (10 + step))) * (w - ema)


def in_one(arrays):
    """A vector of all numbers."""
    return np.concatenate([x.reshape(-1) for x in arrays.values()])


def in_parts(vector, like):
    """The arrays of which a vector is made."""
    ends = np.cumsum([x.size for x in like.values()])
    return {name: part.reshape(x.shape) for (name, x), part in zip(like.items(), np.split(vector, ends[:-1]))}


def training(x_0, eps, t, model, config, adam, clip_norm=1.0, ema_decay=0.999, class_labels=None):
    """Ho et al. 2020, Algorithm 1, by clipped AdamW: a batch, its noise and its times for each step."""
    function, like = load(model, x_0)
    w, m, v = in_one(like), None, None
    average, losses, norms = w, [], []
    for i in range(len(x_0)):
        module, labels = Module(in_parts(w, like)), None if class_labels is None else class_labels[i]
        y, back = function(module, x=q_sample(x_0[i], eps[i], t[i], **config), t=t[i], class_labels=labels)
        loss, dy = mse_loss(y, eps[i])
        back(dy)
        clipped = clip_grad_norm(in_one({name: module.grads[name] for name in like}), clip_norm)
        moved = adamw(w, clipped["output.grad"], m=m, v=v, step=i + 1, **adam)
        w, m, v = moved["output.w"], moved["output.m"], moved["output.v"]
        average = ema(average, w, ema_decay, i)
        losses.append(loss)
        norms.append(clipped["output.norm"])
    results = {"output.loss": np.stack(losses), "output.grad_norm": np.stack(norms)}
    results |= {f"output.weight.{name}": x for name, x in in_parts(w, like).items()}
    return results | {f"output.ema.{name}": x for name, x in in_parts(average, like).items()}
