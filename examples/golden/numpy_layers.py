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
    """x s, s = sigmoid(x), of which the derivative is s (1 - s)."""
    s = sigmoid(x)
    return x * s, lambda dy: {"x": dy * s * (1 + x * (1 - s))}


def gelu(x):
    """x Phi(x), Phi the normal distribution function, its derivative the density: Hendrycks and Gimpel 2016."""
    cdf = np.array([math.erfc(-float(a) * math.sqrt(0.5)) / 2 for a in x.flat], x.dtype).reshape(x.shape)
    density = np.exp(-x * x / 2) * x.dtype.type(1 / math.sqrt(2 * math.pi))
    return x * cdf, lambda dy: {"x": dy * (cdf + x * density)}


def gelu_tanh(x):
    """x/2 (1 + tanh u), u = sqrt(2/pi) (x + 0.044715 x^3): Hendrycks and Gimpel 2016.

    (1 + tanh u)/2 is the sigmoid of 2u, which does not cancel where x is far below zero. `slope` is the derivative of 2u.
    """
    gate = sigmoid(2 * SQRT_2_OVER_PI * (x + 0.044715 * x**3))
    slope = 2 * SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x**2)
    return x * gate, lambda dy: {"x": dy * (gate + x * gate * (1 - gate) * slope)}


def softmax(x):
    """y_i = e^x_i / sum over j of e^x_j, over the last axis.

    The derivative of y_i by x_j is y_i (1 if i = j, else 0) - y_i y_j, and so dx_j = y_j (dy_j - sum over i of dy_i y_i).
    """
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
    """y[n,o,i,j] = sum over c,k,l of weight[o,c,k,l] x[n,c,stride i + dilation k,stride j + dilation l], x padded with zeros.

    `padding` is one number or [left, right, top, bottom]. The channels are cut into groups that do not see each other.
    For the gradient of x each weight[:,:,k,l] takes dy back to the pixels that it was multiplied with, every stride-th one from
    (dilation k, dilation l) on.
    """
    left, right, top, bottom = padding if isinstance(padding, (list, tuple)) else [padding] * 4
    (down, across), (by_row, by_column), (kh, kw) = pair(stride), pair(dilation), weight.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    spread = ((kh - 1) * by_row + 1, (kw - 1) * by_column + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, spread, axis=(2, 3))
    windows = windows[:, :, ::down, ::across, ::by_row, ::by_column]
    parts = list(zip(np.split(windows, groups, axis=1), np.split(weight, groups)))
    of_group = [np.tensordot(part, of_weight, axes=([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2) for part, of_weight in parts]
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
    """The adjoint of conv2d with this weight: y is what conv2d's `back` makes of x, and dx is conv2d of dy.

    The products y dy and x conv2d(dy) have the same sum over all their elements. So the weight's gradient is that of conv2d with
    dy for its input and x for its output's gradient.
    """
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
        # x enters through itself, through the mean and through sigma: the three terms, in this order. d(sigma)/dx_i = xhat_i/N.
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
    """p v, p = softmax(q k^T / sqrt(d)), for each head of d = c/heads channels, over the keys for which the mask is 1.

    Of a product y = a b the gradients are da = dy b^T and db = a^T dy; here twice, with the softmax between.
    """

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


def time_embedding(t, dim, flip_sin_to_cos=True, freq_shift=0):
    """sin and cos of t w_k, w_k = 10000^(-k/(dim/2 - freq_shift)), an odd dim padded with a zero; no gradients.

    The angle reaches a thousand radians, of which float32 keeps only four decimals. This is float64; the caller rounds it.
    """
    half = dim // 2
    frequency = np.exp(-np.log(10000.0) * np.arange(half) / (half - freq_shift))
    angle = t.astype(np.float64)[:, None] * frequency
    halves = [np.cos(angle), np.sin(angle)] if flip_sin_to_cos else [np.sin(angle), np.cos(angle)]
    return np.concatenate([*halves, np.zeros((len(t), dim % 2))], axis=1)


def class_embedding(weight, labels):
    def back(dy):
        dw = np.zeros_like(weight)
        np.add.at(dw, labels, dy)  # a label may occur more than once
        return {"weight": dw}

    return weight[labels], back
