"""Blocks of layers in plain NumPy: residual blocks, attention, what all networks are made of.

A block takes a module, which has its parameters, and arrays. It returns what it puts out and `back`, which takes dL/dy, returns
dL/d(input) by the input's name, and adds the parameters' gradients to the module's.
"""

import copy
import functools

import numpy as np

from numpy_layers import attention, conv2d, group_norm, linear, silu


class Part:
    """A part of a network, whosever arrays its parameters are: m["conv1"] is what is called conv1 in m.

    All parts share what they have, such as `outputs`, what each has put out by its name.
    """

    def __init__(self, parameters):
        self.parameters, self.name, self.outputs = parameters, "", {}

    def __getitem__(self, name):
        part = copy.copy(self)
        part.name = f"{self.name}.{name}".lstrip(".")
        return part

    def __contains__(self, part):
        return any(name.startswith(f"{self[part].name}.") for name in self.parameters)

    def own(self):
        """The parameters that a layer itself has: {"weight": ..., "bias": ...}."""
        names = {key: f"{self.name}.{key}" for key in ("weight", "bias")}
        return {key: self.parameters[name] for key, name in names.items() if name in self.parameters}

    def keep(self, y):
        self.outputs[self.name] = y
        return y


class Module(Part):
    """A part that also has `grads`, the gradients of its parameters: m["conv1"](conv2d, x) is that layer, and its `back`."""

    def __init__(self, parameters):
        super().__init__(parameters)
        self.grads = {}

    def __call__(self, layer, *x, **attributes):
        parameters = self.own()
        y, back_layer = layer(*x, **parameters, **attributes)

        def back(dy):
            grads = back_layer(dy)
            for key in parameters:
                name = f"{self.name}.{key}"  # a layer that was used twice gets both gradients
                self.grads[name] = self.grads[name] + grads[key] if name in self.grads else grads[key]
            return {key: grad for key, grad in grads.items() if key not in ("weight", "bias")}

        return self.keep(y), back


def through(dy, *backs):
    """dL/dx of functions of one input, one after another, the last one first."""
    for back in backs:
        dy = back(dy)["x"]
    return dy


def same(x):
    return x, lambda dy: {"x": dy}


def shortcut(m, x, stride=1):
    return m["conv_shortcut"](conv2d, x, stride=stride) if "conv_shortcut" in m else same(x)


def res_block(m, x, temb, groups, eps=1e-5, time_embedding_norm="default", output_scale_factor=1):
    """(shortcut(x) + conv2(silu(norm2(h + e)))) / output_scale_factor, h = conv1(silu(norm1(x))), e = time_emb_proj(silu(temb)).

    With "scale_shift" e is cut into scale and shift, and norm2(h) (1 + scale) + shift stands for norm2(h + e).
    """
    norm = functools.partial(group_norm, groups=groups, eps=eps)
    scale_shift = time_embedding_norm == "scale_shift"
    a, back_norm1 = m["norm1"](norm, x)
    a, back_silu1 = silu(a)
    a, back_conv1 = m["conv1"](conv2d, a, padding=1)
    e, back_silu_temb = silu(temb)
    e, back_proj = m["time_emb_proj"](linear, e)
    e = e[:, :, None, None]
    if scale_shift:  # Dhariwal and Nichol 2021, Section 3.1
        scale, shift = np.split(e, 2, axis=1)
        normed, back_norm2 = m["norm2"](norm, a)
        a = normed * (1 + scale) + shift
    else:
        a, back_norm2 = m["norm2"](norm, a + e)
    a, back_silu2 = silu(a)
    a, back_conv2 = m["conv2"](conv2d, a, padding=1)
    s, back_shortcut = shortcut(m, x)

    def back(dy):
        dy = dy / output_scale_factor
        da = through(dy, back_conv2, back_silu2)
        if scale_shift:
            de = np.concatenate([(da * normed).sum(axis=(2, 3)), da.sum(axis=(2, 3))], axis=1)
            da = through(da * (1 + scale), back_norm2)
        else:
            da = through(da, back_norm2)
            de = da.sum(axis=(2, 3))
        dx = through(da, back_conv1, back_silu1, back_norm1) + through(dy, back_shortcut)
        return {"x": dx, "temb": through(de, back_proj, back_silu_temb)}

    return m.keep((s + a) / output_scale_factor), back


def classifier_block(m, x, groups, eps=1e-5, stride=1):
    """shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))."""
    norm = functools.partial(group_norm, groups=groups, eps=eps)
    a, back_norm1 = m["norm1"](norm, x)
    a, back_silu1 = silu(a)
    a, back_conv1 = m["conv1"](conv2d, a, stride=stride, padding=1)
    a, back_norm2 = m["norm2"](norm, a)
    a, back_silu2 = silu(a)
    a, back_conv2 = m["conv2"](conv2d, a, padding=1)
    s, back_shortcut = shortcut(m, x, stride)

    def back(dy):
        dx = through(dy, back_conv2, back_silu2, back_norm2, back_conv1, back_silu1, back_norm1)
        return {"x": dx + through(dy, back_shortcut)}

    return m.keep(s + a), back


def self_attention(m, x, heads):
    """to_out(attention(to_q(x), to_k(x), to_v(x))) of rows (n, tokens, c): Vaswani et al. 2017, Section 3.2."""
    rows = [m[f"to_{name}"](linear, x) for name in "qkv"]
    mixed, back_attention = attention(*(y for y, _ in rows), heads)
    y, back_out = m["to_out.0"](linear, mixed)

    def back(dy):
        d_rows = back_attention(through(dy, back_out))
        return {"x": sum(through(d_rows[name], back_linear) for name, (_, back_linear) in zip("qkv", rows))}

    return y, back


def attention_block(m, x, heads=1, groups=None, eps=1e-5, rescale_output_factor=1):
    """(x + self_attention(a)) / rescale_output_factor, a = the pixels of group_norm(x)."""
    n, c, h, w = x.shape
    a = x.reshape(n, c, h * w)
    a, back_norm = m["group_norm"](group_norm, a, groups=groups, eps=eps) if "group_norm" in m else same(a)
    y, back_attention = self_attention(m, a.swapaxes(1, 2), heads)

    def back(dy):
        dy = dy / rescale_output_factor
        d_rows = through(dy.reshape(n, c, h * w).swapaxes(1, 2), back_attention)
        return {"x": dy + through(d_rows.swapaxes(1, 2), back_norm).reshape(x.shape)}

    return m.keep((x + y.swapaxes(1, 2).reshape(x.shape)) / rescale_output_factor), back


def two_layers(m, x):
    """linear_2(silu(linear_1(x))), as networks embed their times."""
    a, back_1 = m["linear_1"](linear, x)
    a, back_silu = silu(a)
    y, back_2 = m["linear_2"](linear, a)
    return m.keep(y), lambda dy: {"x": through(dy, back_2, back_silu, back_1)}
