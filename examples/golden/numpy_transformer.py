"""The layers and blocks of a diffusion transformer in plain NumPy, gradients by hand: Peebles and Xie 2023.

Each function returns y and `back`, as in numpy_layers.py and, where it takes a module, in numpy_blocks.py.
"""

import numpy as np

from numpy_blocks import self_attention, through, two_layers
from numpy_layers import class_embedding, gelu_tanh, layer_norm, linear, silu, time_embedding


def in_patches(x, patch):
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // patch, patch, w // patch, patch)
    return x.transpose(0, 2, 4, 3, 5, 1).reshape(n, -1, patch * patch * c)


def of_patches(x, patch, height, width):
    x = x.reshape(len(x), height // patch, width // patch, patch, patch, -1)
    return x.transpose(0, 5, 1, 3, 2, 4).reshape(len(x), -1, height, width)


def patchify(x, patch):
    """(n, c, h, w) -> (n, tokens, patch patch c): of each patch a pixel after the other, each with its channels."""
    return in_patches(x, patch), lambda dy: {"x": of_patches(dy, patch, *x.shape[2:])}


def unpatchify(x, patch, height, width):
    return of_patches(x, patch, height, width), lambda dy: {"x": in_patches(dy, patch)}


def positions(rows, columns, dim, base=None):
    """Half of the channels tell the column, half the row: sines, then cosines (Vaswani et al. 2017, Section 3.5, in turns there).

    However many there are, rows as well as columns are numbered from 0 to `base`, or else to the number of rows. float64.
    """
    frequency = 10000.0 ** -(np.arange(dim // 4) / (dim // 4))

    def of(index, count):
        angle = (index * ((rows if base is None else base) / count))[:, None] * frequency
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)

    row, column = np.divmod(np.arange(rows * columns), columns)
    return np.concatenate([of(column, columns), of(row, rows)], axis=1)


def modulate(x, shift, scale):
    """x (1 + scale) + shift, the same for all tokens of an image."""
    y = x * (1 + scale[:, None]) + shift[:, None]
    return y, lambda dy: {"x": dy * (1 + scale[:, None]), "shift": dy.sum(axis=1), "scale": (dy * x).sum(axis=1)}


def gate(x, branch, gate):
    """x + gate branch."""
    y = x + gate[:, None] * branch
    return y, lambda dy: {"x": dy, "branch": gate[:, None] * dy, "gate": (dy * branch).sum(axis=1)}


def affine(x, weight, bias):
    rows = tuple(range(x.ndim - 1))
    return x * weight + bias, lambda dy: {"x": dy * weight, "weight": (dy * x).sum(axis=rows), "bias": dy.sum(axis=rows)}


def dit_embedding(m, t, class_labels):
    """What conditions a block: of the time's sinusoids two layers, and of the class a row of a table."""
    weight = m["timestep_embedder.linear_1"].own()["weight"]
    sinusoids = time_embedding(t, weight.shape[1], freq_shift=1).astype(weight.dtype)
    time, back_time = two_layers(m["timestep_embedder"], sinusoids)
    label, back_label = m["class_embedder.embedding_table"](class_embedding, labels=class_labels)
    m["class_embedder"].keep(label)

    def back(dy):  # times and labels have no gradients
        back_time(dy)
        back_label(dy)
        return {}

    return time + label, back


def adaptive(m, emb, parts):
    """Shifts, scales and gates: a linear layer of silu(emb), cut into so many parts."""
    e, back_silu = silu(emb)
    e, back_linear = m(linear, e)
    return np.split(e, parts, axis=1), lambda d_parts: through(np.concatenate(d_parts, axis=1), back_linear, back_silu)


def feed_forward(m, x):
    a, back_1 = m["net.0.proj"](linear, x)
    a, back_gelu = gelu_tanh(a)
    y, back_2 = m["net.2"](linear, m["net.0"].keep(a))
    return m.keep(y), lambda dy: {"x": through(dy, back_2, back_gelu, back_1)}


def dit_block(m, x, emb, heads=1, eps=1e-5):
    """adaLN-Zero: of each half, attention and feed-forward, the shift, the scale and the gate come from the embedding."""
    (shift1, scale1, gate1, shift2, scale2, gate2), back_parts = adaptive(m["norm1.linear"], emb, 6)
    a, back_norm1 = layer_norm(x, eps=1e-6)
    a, back_modulate1 = modulate(a, shift1, scale1)
    a, back_attention = self_attention(m["attn1"], m["norm1"].keep(a), heads)
    h, back_gate1 = gate(x, m["attn1"].keep(a), gate1)
    a, back_norm3 = m["norm3"](layer_norm, h, eps=eps)
    a, back_modulate2 = modulate(a, shift2, scale2)
    a, back_feed = feed_forward(m["ff"], a)
    y, back_gate2 = gate(h, a, gate2)

    def back(dy):
        second = back_gate2(dy)
        modulated2 = back_modulate2(through(second["branch"], back_feed))
        first = back_gate1(second["x"] + through(modulated2["x"], back_norm3))
        modulated1 = back_modulate1(through(first["branch"], back_attention))
        halves = (modulated1, first), (modulated2, second)
        d_parts = [d for norm, gated in halves for d in (norm["shift"], norm["scale"], gated["gate"])]
        return {"x": first["x"] + through(modulated1["x"], back_norm1), "emb": back_parts(d_parts)}

    return m.keep(y), back
