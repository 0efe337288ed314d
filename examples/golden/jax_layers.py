"""Layers, blocks and networks in JAX as pure functions, in PyTorch's layouts: nothing here knows of gradients, which are JAX's own.

A network takes what diffusers' folder of it has. Its parameters stay one flat dict with diffusers' names, so that jax.grad
gives the gradients under these names, too.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from numpy_blocks import Part
from numpy_transformer import of_patches  # arrays' own methods, whosever they are

silu = jax.nn.silu
gelu = functools.partial(jax.nn.gelu, approximate=False)
gelu_tanh = functools.partial(jax.nn.gelu, approximate=True)


def linear(x, weight, bias=None):
    y = x @ weight.T
    return y if bias is None else y + bias


def each(number, count=2):
    return list(number) if isinstance(number, (list, tuple)) else [number] * count


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    left, right, top, bottom = each(padding, 4)
    how = {"rhs_dilation": each(dilation), "feature_group_count": groups, "dimension_numbers": ("NCHW", "OIHW", "NCHW")}
    y = lax.conv_general_dilated(x, weight, each(stride), ((top, bottom), (left, right)), **how)
    return y if bias is None else y + bias[:, None, None]


def conv_transpose2d(x, weight, bias=None, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    """What JAX derives for the input of the convolution with this weight."""
    left, right, top, bottom = each(padding, 4)
    sizes = zip(x.shape[2:], each(stride), each(dilation), weight.shape[2:], each(output_padding), (top + bottom, left + right))
    h, w = ((n - 1) * by - margin + gap * (k - 1) + rest + 1 for n, by, gap, k, rest, margin in sizes)
    of = jnp.zeros((len(x), weight.shape[1] * groups, h, w), x.dtype)
    y = jax.vjp(lambda image: conv2d(image, weight, None, stride, padding, dilation, groups), of)[1](x)[0]
    return y if bias is None else y + bias[:, None, None]


# JAX's default algorithm, "fast", is E[x^2] - E[x]^2, which cancels where the mean is large against the deviation.
standardize = functools.partial(jax.nn.standardize, algorithm="stable")


def group_norm(x, groups, weight=None, bias=None, eps=1e-5):
    y = standardize(x.reshape(len(x), groups, -1), epsilon=eps).reshape(x.shape)
    a_channel = (slice(None),) + (None,) * (x.ndim - 2)  # aligns (c) with (n, c, ...)
    y = y if weight is None else y * weight[a_channel]
    return y if bias is None else y + bias[a_channel]


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    y = standardize(x, epsilon=eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def attention(q, k, v, heads=1, mask=None):
    q, k, v = (x.reshape(*x.shape[:2], heads, -1) for x in (q, k, v))
    seen = None if mask is None else mask.reshape(-1, 1, *mask.shape[-2:]) == 1  # (n or 1, 1, tokens, keys)
    if k.shape == v.shape:
        y = jax.nn.dot_product_attention(q, k, v, mask=seen)
    else:  # which JAX's own does not take
        scores = jnp.einsum("nthd,nkhd->nhtk", q, k) / q.shape[3] ** 0.5
        y = jnp.einsum("nhtk,nkhd->nthd", jax.nn.softmax(scores, where=seen), v)
    return y.reshape(*y.shape[:2], -1)


def upsample_nearest_2x(x):
    return jax.image.resize(x, (*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3]), "nearest")


def average_pool_2x(x):
    return lax.reduce_window(x, 0.0, lax.add, (1, 1, 2, 2), (1, 1, 2, 2), "VALID") / 4


def class_embedding(weight, labels):
    return weight[labels]


def time_embedding(t, dim, flip_sin_to_cos=True, freq_shift=0):
    half = dim // 2
    angle = t[:, None] * jnp.exp(-jnp.log(10000.0) * jnp.arange(half) / (half - freq_shift))
    pair = [jnp.cos(angle), jnp.sin(angle)] if flip_sin_to_cos else [jnp.sin(angle), jnp.cos(angle)]
    return jnp.concatenate([*pair, jnp.zeros((len(t), dim % 2))], axis=1)


def positions(rows, columns, dim, base=None):
    """Half of the channels tell the column, half the row: sines, then cosines."""
    frequency = 10000.0 ** -(jnp.arange(dim // 4) / (dim // 4))

    def of(index, count):
        angle = (index * ((rows if base is None else base) / count))[:, None] * frequency
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)

    row, column = jnp.divmod(jnp.arange(rows * columns), columns)
    return jnp.concatenate([of(column, columns), of(row, rows)], axis=1)


def modulate(x, shift, scale):
    return x * (1 + scale[:, None]) + shift[:, None]


def gate(x, branch, gate):
    return x + gate[:, None] * branch


def affine(x, weight, bias):
    return x * weight + bias


class Module(Part):
    """m["conv1"](conv2d, x) is the layer that is called conv1 in m, with its parameters."""

    def __call__(self, layer, *x, **attributes):
        return self.keep(layer(*x, **self.own(), **attributes))


def shortcut(m, x, stride=1):
    return m["conv_shortcut"](conv2d, x, stride=stride) if "conv_shortcut" in m else x


def res_block(m, x, temb, groups, eps=1e-5, time_embedding_norm="default", output_scale_factor=1):
    norm = functools.partial(group_norm, groups=groups, eps=eps)
    h = m["conv1"](conv2d, silu(m["norm1"](norm, x)), padding=1)
    e = m["time_emb_proj"](linear, silu(temb))[:, :, None, None]
    if time_embedding_norm == "scale_shift":
        scale, shift = jnp.split(e, 2, axis=1)
        h = m["norm2"](norm, h) * (1 + scale) + shift
    else:
        h = m["norm2"](norm, h + e)
    h = m["conv2"](conv2d, silu(h), padding=1)
    return m.keep((shortcut(m, x) + h) / output_scale_factor)


def classifier_block(m, x, groups, eps=1e-5, stride=1):
    norm = functools.partial(group_norm, groups=groups, eps=eps)
    h = m["conv1"](conv2d, silu(m["norm1"](norm, x)), padding=1, stride=stride)
    h = m["conv2"](conv2d, silu(m["norm2"](norm, h)), padding=1)
    return m.keep(shortcut(m, x, stride) + h)


def self_attention(m, x, heads):
    """Of rows (n, tokens, c)."""
    mixed = attention(*(m[f"to_{name}"](linear, x) for name in "qkv"), heads)
    return m["to_out.0"](linear, mixed)


def attention_block(m, x, heads=1, groups=None, eps=1e-5, rescale_output_factor=1):
    a = x.reshape(*x.shape[:2], -1)
    a = m["group_norm"](group_norm, a, groups=groups, eps=eps) if "group_norm" in m else a
    y = self_attention(m, a.swapaxes(1, 2), heads).swapaxes(1, 2).reshape(x.shape)
    return m.keep((x + y) / rescale_output_factor)


def two_layers(m, x):
    return m.keep(m["linear_2"](linear, silu(m["linear_1"](linear, x))))


def dit_embedding(m, t, class_labels):
    features = m["timestep_embedder.linear_1"].own()["weight"].shape[1]
    time = two_layers(m["timestep_embedder"], time_embedding(t, features, freq_shift=1))
    return time + m["class_embedder"].keep(m["class_embedder.embedding_table"](class_embedding, labels=class_labels))


def dit_block(m, x, emb, heads=1, eps=1e-5):
    """Peebles and Xie 2023, adaLN-Zero: of each half the shift, the scale and the gate come from the embedding."""
    parts = jnp.split(m["norm1.linear"](linear, silu(emb)), 6, axis=1)
    a = m["norm1"].keep(modulate(layer_norm(x, eps=1e-6), *parts[:2]))
    x = gate(x, m["attn1"].keep(self_attention(m["attn1"], a, heads)), parts[2])
    a = modulate(m["norm3"](layer_norm, x, eps=eps), *parts[3:5])
    a = m["ff.net.0"].keep(gelu_tanh(m["ff.net.0.proj"](linear, a)))
    return m.keep(gate(x, m["ff"].keep(m["ff.net.2"](linear, a)), parts[5]))


def dit(config, parameters, x, t, class_labels):
    """The output, and the outputs of all parts by name."""
    m, patch, side = Module(parameters), config["patch_size"], config["sample_size"] // config["patch_size"]
    h = m["pos_embed.proj"](conv2d, x, stride=patch)
    h = h.reshape(*h.shape[:2], -1).swapaxes(1, 2)
    h = m["pos_embed"].keep(h + positions(side, side, h.shape[2]))
    blocks = [m[f"transformer_blocks.{i}"] for i in range(config["num_layers"])]
    for block in blocks:
        emb = dit_embedding(block["norm1.emb"], t, class_labels)
        h = dit_block(block, h, emb, config["num_attention_heads"], config["norm_eps"])
    # The end has no embedding of its own: it takes the first block's.
    emb = dit_embedding(blocks[0]["norm1.emb"], t, class_labels)
    shift, scale = jnp.split(m["proj_out_1"](linear, silu(emb)), 2, axis=1)
    h = modulate(m["norm_out"].keep(layer_norm(h, eps=1e-6)), shift, scale)
    return of_patches(m["proj_out_2"](linear, h), patch, *x.shape[2:]), m.outputs


def unet(config, parameters, x, t, class_labels=None):
    """The output, and the outputs of all parts by name."""
    m, levels = Module(parameters), len(config["block_out_channels"])
    common = {"groups": config["norm_num_groups"], "eps": config["norm_eps"]}
    of_attention = common | {"groups": config["attn_norm_num_groups"] or config["norm_num_groups"]}
    block = functools.partial(res_block, **common, time_embedding_norm=config["resnet_time_scale_shift"])

    def attend(part, h, common=common, **scale):
        size = config["attention_head_dim"] or h.shape[1]
        return attention_block(part, h, h.shape[1] // size, **common, **scale)

    time = time_embedding(t, config["block_out_channels"][0], config["flip_sin_to_cos"], config["freq_shift"])
    emb = two_layers(m["time_embedding"], time)
    if class_labels is not None:
        emb = emb + m["class_embedding"](class_embedding, labels=class_labels)
    h = m["conv_in"](conv2d, 2 * x - 1 if config["center_input_sample"] else x, padding=1)
    skips = [h]
    for down in (m[f"down_blocks.{i}"] for i in range(levels)):
        for j in range(config["layers_per_block"]):
            h = block(down[f"resnets.{j}"], h, emb)
            h = attend(down[f"attentions.{j}"], h) if "attentions" in down else h
            skips.append(h)
        if "downsamplers" in down:
            padding = config["downsample_padding"] or [0, 1, 0, 1]  # 0 is for uneven: right and bottom
            h = down["downsamplers.0.conv"](conv2d, h, stride=2, padding=padding)
            skips.append(h)
    middle, scale = m["mid_block"], config["mid_block_scale_factor"]
    h = block(middle["resnets.0"], h, emb, output_scale_factor=scale)
    h = attend(middle["attentions.0"], h, of_attention, rescale_output_factor=scale) if "attentions" in middle else h
    h = block(middle["resnets.1"], h, emb, output_scale_factor=scale)
    for up in (m[f"up_blocks.{i}"] for i in range(levels)):
        for j in range(config["layers_per_block"] + 1):
            h = block(up[f"resnets.{j}"], jnp.concatenate([h, skips.pop()], axis=1), emb)
            h = attend(up[f"attentions.{j}"], h) if "attentions" in up else h
        if "upsamplers" in up:
            h = up["upsamplers.0.conv"](conv2d, upsample_nearest_2x(h), padding=1)
    h = silu(m["conv_norm_out"](group_norm, h, **common))
    return m["conv_out"](conv2d, h, padding=1), m.outputs
