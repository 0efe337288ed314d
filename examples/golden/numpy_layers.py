"""Layers in plain NumPy, in PyTorch's layouts, in the precision of their inputs.

Each function returns the output y and `back`, which takes dy = dL/dy and returns dL/d(input) by the input's name.
Written from the formulas for readability; no speed is sought.
"""

import math

import numpy as np

SQRT_2_OVER_PI = np.sqrt(2 / np.pi).item()


def sigmoid(x):
    """1/(1+e^-x) without overflow: the exponential is only ever taken of -|x|."""
    z = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + z), z / (1 + z))


def silu(x):
    s = sigmoid(x)
    return x * s, lambda dy: {"x": dy * s * (1 + x * (1 - s))}


def gelu(x):
    """x Phi(x), Phi the distribution function of the normal distribution: Hendrycks and Gimpel 2016."""
    cdf = np.array([math.erfc(-float(a) * math.sqrt(0.5)) / 2 for a in x.flat], x.dtype).reshape(x.shape)
    density = np.exp(-x * x / 2) * x.dtype.type(1 / math.sqrt(2 * math.pi))
    return x * cdf, lambda dy: {"x": dy * (cdf + x * density)}


def gelu_tanh(x):
    """x/2 (1 + tanh u), u = sqrt(2/pi) (x + 0.044715 x^3): Hendrycks and Gimpel 2016.

    (1 + tanh u)/2 is the sigmoid of 2u, which does not cancel where x is far below zero.
    """
    gate = sigmoid(2 * SQRT_2_OVER_PI * (x + 0.044715 * x**3))
    slope = 2 * SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x**2)
    return x * gate, lambda dy: {"x": dy * (gate + x * gate * (1 - gate) * slope)}


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, lambda dy: {"x": y * (dy - (dy * y).sum(axis=-1, keepdims=True))}


def linear(x, weight, bias=None):
    y = x @ weight.T if bias is None else x @ weight.T + bias

    def back(dy):
        rows, d_rows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        return {"x": dy @ weight, "weight": d_rows.T @ rows, "bias": d_rows.sum(axis=0)}

    return y, back


def pair(number):
    return tuple(number) if isinstance(number, (list, tuple)) else (number, number)


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """y[n,o,i,j] = sum over c,k,l of weight[o,c,k,l] x[n,c,stride i + dilation k,stride j + dilation l], x padded with zeros; of
    each group of channels by itself."""
    left, right, top, bottom = padding if isinstance(padding, (list, tuple)) else [padding] * 4
    (down, across), (by_row, by_column), (kh, kw) = pair(stride), pair(dilation), weight.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    spread = ((kh - 1) * by_row + 1, (kw - 1) * by_column + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, spread, axis=(2, 3))
    windows = windows[:, :, ::down, ::across, ::by_row, ::by_column]
    parts = list(zip(np.split(windows, groups, axis=1), np.split(weight, groups)))
    of_group = [np.tensordot(w, weight, axes=([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2) for w, weight in parts]
    y = np.concatenate(of_group, axis=1)
    if bias is not None:
        y = y + bias[:, None, None]

    def back(dy):
        h, w = dy.shape[2:]
        d_padded, d_weight = np.zeros_like(padded), []
        of_x = np.split(d_padded, groups, axis=1)  # views
        for d_part, dy_part, (part, of_weight) in zip(of_x, np.split(dy, groups, axis=1), parts):
            d_weight.append(np.tensordot(dy_part, part, axes=([0, 2, 3], [0, 2, 3])))
            for k in range(kh):
                for l in range(kw):
                    d_tap = np.tensordot(dy_part, of_weight[:, :, k, l], axes=(1, 0)).transpose(0, 3, 1, 2)
                    row, column = k * by_row, l * by_column
                    d_part[:, :, row : row + down * h : down, column : column + across * w : across] += d_tap
        return {
            "x": d_padded[:, :, top : top + x.shape[2], left : left + x.shape[3]],
            "weight": np.concatenate(d_weight),
            "bias": dy.sum(axis=(0, 2, 3)),
        }

    return y, back


def conv_transpose2d(x, weight, bias=None, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    """The adjoint of the convolution with this weight: what is its backward pass is forward here, and the reverse."""
    left, right, top, bottom = padding if isinstance(padding, (list, tuple)) else [padding] * 4
    sizes = zip(x.shape[2:], pair(stride), pair(dilation), weight.shape[2:], pair(output_padding), (top + bottom, left + right))
    h, w = ((n - 1) * by - margin + gap * (k - 1) + rest + 1 for n, by, gap, k, rest, margin in sizes)
    shared = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    _, adjoint = conv2d(np.zeros((x.shape[0], weight.shape[1] * groups, h, w), x.dtype), weight, **shared)
    y = adjoint(x)["x"]

    def back(dy):
        dx, weight_of = conv2d(dy, weight, **shared)
        return {"x": dx, "weight": weight_of(x)["weight"], "bias": dy.sum(axis=(0, 2, 3))}

    return y if bias is None else y + bias[:, None, None], back


def standardize(x, eps):
    """(x - mean)/sqrt(variance + eps) over the last axis, the variance with 1/N; and dy -> dx."""
    centred = x - x.mean(axis=-1, keepdims=True)
    sigma = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + x.dtype.type(eps))
    xhat = centred / sigma

    def back(dxhat):
        # x enters through itself, through the mean and through the variance: the three terms, in this order.
        mean = dxhat.mean(axis=-1, keepdims=True)
        return (dxhat - mean - xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)) / sigma

    return xhat, back


def group_norm(x, groups, weight=None, bias=None, eps=1e-5):
    n, c = x.shape[:2]
    xhat, back_xhat = standardize(x.reshape(n, groups, -1), eps)
    xhat = xhat.reshape(x.shape)
    a_channel = (slice(None),) + (None,) * (x.ndim - 2)  # aligns (c) with (n, c, ...)
    scale = 1 if weight is None else weight[a_channel]
    y = xhat * scale + (0 if bias is None else bias[a_channel])
    not_channel = (0, *range(2, x.ndim))

    def back(dy):
        return {
            "x": back_xhat((dy * scale).reshape(n, groups, -1)).reshape(x.shape),
            "weight": (dy * xhat).sum(axis=not_channel),
            "bias": dy.sum(axis=not_channel),
        }

    return y, back


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    xhat, back_xhat = standardize(x, eps)
    scale = 1 if weight is None else weight
    y = xhat * scale + (0 if bias is None else bias)
    rows = tuple(range(x.ndim - 1))

    def back(dy):
        return {"x": back_xhat(dy * scale), "weight": (dy * xhat).sum(axis=rows), "bias": dy.sum(axis=rows)}

    return y, back


def attention(q, k, v, heads=1, mask=None):
    """softmax(q k^T / sqrt(d)) v for each head of d = c/heads channels, over the keys for which the mask is 1."""

    def split(x):  # (n, tokens, c) -> (n, heads, tokens, d)
        return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)

    def join(x):
        return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)

    qh, kh, vh = split(q), split(k), split(v)
    scale = 1 / np.sqrt(qh.shape[-1]).item()
    scores = qh @ kh.swapaxes(2, 3) * scale
    if mask is not None:
        scores = np.where(mask[..., None, :, :] == 1, scores, scores.dtype.type(-np.inf))
    p, back_softmax = softmax(scores)

    def back(dy):
        dyh = split(dy)
        d_scores = back_softmax(dyh @ vh.swapaxes(2, 3))["x"] * scale
        return {"q": join(d_scores @ kh), "k": join(d_scores.swapaxes(2, 3) @ qh), "v": join(p.swapaxes(2, 3) @ dyh)}

    return join(p @ vh), back


def sum_2x2(x):
    return x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]


def repeat_2x2(x):
    return x.repeat(2, axis=-2).repeat(2, axis=-1)


def upsample_nearest_2x(x):
    return repeat_2x2(x), lambda dy: {"x": sum_2x2(dy)}


def average_pool_2x(x):
    return sum_2x2(x) / 4, lambda dy: {"x": repeat_2x2(dy) / 4}


def class_embedding(weight, labels):
    def back(dy):
        dw = np.zeros_like(weight)
        np.add.at(dw, labels, dy)  # a label may occur more than once
        return {"weight": dw}

    return weight[labels], back


def part(parameters, name):
    """The parameters of one layer of a block: {"norm1.weight": w} -> {"weight": w}."""
    return {key[len(name) + 1 :]: value for key, value in parameters.items() if key.startswith(name + ".")}


def named(name, grads):
    return {f"{name}.{key}": value for key, value in grads.items() if key != "x"}


def res_block(x, temb, groups, eps=1e-5, time_embedding_norm="default", output_scale_factor=1, **p):
    """(shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))) and temb)))) / output_scale_factor."""
    scale_shift = time_embedding_norm == "scale_shift"
    a, back_norm1 = group_norm(x, groups, **part(p, "norm1"), eps=eps)
    a, back_silu1 = silu(a)
    a, back_conv1 = conv2d(a, **part(p, "conv1"), padding=1)
    e, back_silu_temb = silu(temb)
    e, back_proj = linear(e, **part(p, "time_emb_proj"))
    e = e[:, :, None, None]
    if scale_shift:  # Dhariwal and Nichol 2021, Eq. 3
        scale, shift = np.split(e, 2, axis=1)
        normed, back_norm2 = group_norm(a, groups, **part(p, "norm2"), eps=eps)
        a = normed * (1 + scale) + shift
    else:
        a, back_norm2 = group_norm(a + e, groups, **part(p, "norm2"), eps=eps)
    a, back_silu2 = silu(a)
    a, back_conv2 = conv2d(a, **part(p, "conv2"), padding=1)
    shortcut = part(p, "conv_shortcut")
    s, back_shortcut = conv2d(x, **shortcut) if shortcut else (x, lambda dy: {"x": dy})

    def back(dy):
        dy = dy / output_scale_factor
        conv2 = back_conv2(dy)
        da = back_silu2(conv2["x"])["x"]
        if scale_shift:
            de = np.concatenate([(da * normed).sum(axis=(2, 3)), da.sum(axis=(2, 3))], axis=1)
            norm2 = back_norm2(da * (1 + scale))
        else:
            norm2 = back_norm2(da)
            de = norm2["x"].sum(axis=(2, 3))
        proj = back_proj(de)
        conv1 = back_conv1(norm2["x"])
        norm1 = back_norm1(back_silu1(conv1["x"])["x"])
        short = back_shortcut(dy)
        parts = {"norm1": norm1, "conv1": conv1, "time_emb_proj": proj, "norm2": norm2, "conv2": conv2}
        grads = {"x": norm1["x"] + short["x"], "temb": back_silu_temb(proj["x"])["x"], **named("conv_shortcut", short)}
        for name, layer in parts.items():
            grads |= named(name, layer)
        return grads

    return (s + a) / output_scale_factor, back


def classifier_block(x, groups, eps=1e-5, stride=1, **p):
    """shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))."""
    a, back_norm1 = group_norm(x, groups, **part(p, "norm1"), eps=eps)
    a, back_silu1 = silu(a)
    a, back_conv1 = conv2d(a, **part(p, "conv1"), stride=stride, padding=1)
    a, back_norm2 = group_norm(a, groups, **part(p, "norm2"), eps=eps)
    a, back_silu2 = silu(a)
    a, back_conv2 = conv2d(a, **part(p, "conv2"), padding=1)
    shortcut = part(p, "conv_shortcut")
    s, back_shortcut = conv2d(x, **shortcut, stride=stride) if shortcut else (x, lambda dy: {"x": dy})

    def back(dy):
        conv2 = back_conv2(dy)
        norm2 = back_norm2(back_silu2(conv2["x"])["x"])
        conv1 = back_conv1(norm2["x"])
        norm1 = back_norm1(back_silu1(conv1["x"])["x"])
        short = back_shortcut(dy)
        grads = {"x": norm1["x"] + short["x"], **named("conv_shortcut", short)}
        for name, layer in {"norm1": norm1, "conv1": conv1, "norm2": norm2, "conv2": conv2}.items():
            grads |= named(name, layer)
        return grads

    return s + a, back


def attention_block(x, heads=1, groups=None, eps=1e-5, rescale_output_factor=1, **p):
    """(x + to_out(attention(to_q(a), to_k(a), to_v(a)))) / rescale_output_factor, a = the pixels of group_norm(x)."""
    n, c, h, w = x.shape

    def pixels(image):  # (n, c, h, w) -> (n, tokens, c)
        return image.reshape(n, c, h * w).swapaxes(1, 2)

    def image(rows):
        return rows.swapaxes(1, 2).reshape(n, c, h, w)

    norm = part(p, "group_norm")
    a, back_norm = group_norm(x, groups, **norm, eps=eps) if norm else (x, lambda dy: {"x": dy})
    rows = pixels(a)
    q, back_q = linear(rows, **part(p, "to_q"))
    k, back_k = linear(rows, **part(p, "to_k"))
    v, back_v = linear(rows, **part(p, "to_v"))
    mixed, back_attention = attention(q, k, v, heads)
    out, back_out = linear(mixed, **part(p, "to_out.0"))

    def back(dy):
        dy = dy / rescale_output_factor
        d_out = back_out(pixels(dy))
        d_mixed = back_attention(d_out["x"])
        dq, dk, dv = back_q(d_mixed["q"]), back_k(d_mixed["k"]), back_v(d_mixed["v"])
        d_norm = back_norm(image(dq["x"] + dk["x"] + dv["x"]))
        grads = {"x": dy + d_norm["x"]}
        for name, layer in {"group_norm": d_norm, "to_q": dq, "to_k": dk, "to_v": dv, "to_out.0": d_out}.items():
            grads |= named(name, layer)
        return grads

    return (x + image(out)) / rescale_output_factor, back
