"""Whole networks in plain NumPy, from diffusers' folders: the U-Net (Ho et al. 2020), the transformer (Peebles and Xie 2023).

A network takes a module (numpy_blocks.py), the config and arrays, and returns what it puts out and `back`, as a block does.
"""

import functools
import json
from pathlib import Path

import numpy as np

from numpy_blocks import Module, attention_block, res_block, same, through, two_layers
from numpy_layers import class_embedding, conv2d, group_norm, layer_norm, linear, silu, time_embedding, upsample_nearest_2x
from numpy_transformer import adaptive, dit_block, dit_embedding, modulate, positions, unpatchify


def load(folder, like):
    """The network of a folder, a function of a module and arrays, and its parameters, arrays like this one."""
    import golden  # reads safetensors; a part of the kit, whose folder the caller has put on the path

    config = json.loads((Path(folder) / "config.json").read_text())
    network = {"UNet2DModel": unet, "DiTTransformer2DModel": dit}[config["_class_name"]]
    parameters, _ = golden.read_safetensors(Path(folder) / "diffusion_pytorch_model.safetensors")
    parameters = {name: w.astype(like.dtype).view(type(like)) for name, w in parameters.items()}
    return functools.partial(network, config=config), parameters


def mse_loss(prediction, target):
    error = prediction - target
    return np.mean(error**2), 2 * error / error.size


def network(x, t, noise, model, class_labels=None, gradients=False, taps=False):
    function, parameters = load(model, x)
    m = Module(parameters)
    out, back = function(m, x=x, t=t, class_labels=class_labels)
    loss, d_out = mse_loss(out, noise)
    results = {"output.out": out, "output.loss": loss}
    results |= {f"taps.{name}": y for name, y in m.outputs.items()} if taps else {}
    if gradients:
        results["grad.x"] = through(d_out, back)
        results |= {f"grad.{name}": grad for name, grad in m.grads.items()}
    return results


# --- The transformer ---


def dit(m, config, x, t, class_labels):
    patch, side = config["patch_size"], config["sample_size"] // config["patch_size"]
    patches, back_patches = m["pos_embed.proj"](conv2d, x, stride=patch)
    h = patches.reshape(*patches.shape[:2], -1).swapaxes(1, 2)
    h = m["pos_embed"].keep(h + positions(side, side, h.shape[2]).astype(h.dtype))
    blocks = []
    for part in (m[f"transformer_blocks.{i}"] for i in range(config["num_layers"])):
        emb, back_embedding = dit_embedding(part["norm1.emb"], t, class_labels)
        h, back_block = dit_block(part, h, emb, config["num_attention_heads"], config["norm_eps"])
        blocks.append((back_block, back_embedding))
    # The end has no embedding of its own: it takes the first block's.
    emb, back_last_embedding = dit_embedding(m["transformer_blocks.0.norm1.emb"], t, class_labels)
    (shift, scale), back_parts = adaptive(m["proj_out_1"], emb, 2)
    h, back_norm = layer_norm(h, eps=1e-6)
    h, back_modulate = modulate(m["norm_out"].keep(h), shift, scale)
    h, back_rows = m["proj_out_2"](linear, h)
    y, back_image = unpatchify(h, patch, *x.shape[2:])

    def back(dy):
        modulated = back_modulate(through(dy, back_image, back_rows))
        back_last_embedding(back_parts([modulated["shift"], modulated["scale"]]))
        dh = through(modulated["x"], back_norm)
        for back_block, back_embedding in reversed(blocks):
            grads = back_block(dh)
            back_embedding(grads["emb"])
            dh = grads["x"]
        return {"x": through(dh.swapaxes(1, 2).reshape(patches.shape), back_patches)}

    return y, back


# --- The U-Net. Every part takes h and the embedding of the time; its `back` returns dL/dh and dL/d(embedding). ---


def unet(m, config, x, t, class_labels=None):
    emb, back_embedding = embedding(m, config, t, class_labels, x.dtype)
    h, back_in = m["conv_in"](conv2d, 2 * x - 1 if config["center_input_sample"] else x, padding=1)
    skips, downs, ups = [h], [], []
    levels = range(len(config["block_out_channels"]))
    for part in (m[f"down_blocks.{i}"] for i in levels):
        h, more, back_down = down_block(part, config, h, emb)
        skips += more
        downs.append(back_down)
    h, back_middle = middle(m["mid_block"], config, h, emb)
    for part in (m[f"up_blocks.{i}"] for i in levels):
        count = config["layers_per_block"] + 1
        h, back_up = up_block(part, config, h, skips[: -count - 1 : -1], emb)
        del skips[-count:]
        ups.append(back_up)
    h, back_norm = m["conv_norm_out"](group_norm, h, groups=config["norm_num_groups"], eps=config["norm_eps"])
    h, back_silu = silu(h)
    y, back_out = m["conv_out"](conv2d, h, padding=1)

    def back(dy):
        dh, d_skips, d_emb = through(dy, back_out, back_silu, back_norm), [], 0
        for back_up in reversed(ups):
            dh, more, d_more = back_up(dh)
            d_skips, d_emb = d_skips + more, d_emb + d_more
        dh, d_more = back_middle(dh)
        d_emb = d_emb + d_more
        for back_down in reversed(downs):
            dh, d_skips, d_more = back_down(dh, d_skips)
            d_emb = d_emb + d_more
        back_embedding(d_emb)
        dx = through(dh + d_skips[0], back_in)
        return {"x": 2 * dx if config["center_input_sample"] else dx}

    return y, back


def embedding(m, config, t, class_labels, dtype):
    """Of the time its sinusoids through two layers; of the class a row of a table, which is added."""
    sinusoids = time_embedding(t, config["block_out_channels"][0], config["flip_sin_to_cos"], config["freq_shift"])
    emb, back_time = two_layers(m["time_embedding"], sinusoids.astype(dtype))
    if class_labels is None:
        return emb, back_time
    label, back_label = m["class_embedding"](class_embedding, labels=class_labels)
    return emb + label, lambda dy: (back_time(dy), back_label(dy))


def block_and_attention(m, config, j, h, emb, groups=None, scale=1):
    """Residual block j of a part, and the attention that follows it, if one does."""
    common = {"groups": config["norm_num_groups"], "eps": config["norm_eps"]}
    how = {"time_embedding_norm": config["resnet_time_scale_shift"], "output_scale_factor": scale}
    h, back_block = res_block(m[f"resnets.{j}"], h, emb, **common, **how)
    back_attention = same(h)[1]
    if f"attentions.{j}" in m:
        heads = h.shape[1] // (config["attention_head_dim"] or h.shape[1])
        common["groups"] = groups or common["groups"]
        h, back_attention = attention_block(m[f"attentions.{j}"], h, heads, **common, rescale_output_factor=scale)

    def back(dh):
        grads = back_block(through(dh, back_attention))
        return grads["x"], grads["temb"]

    return h, back


def down_block(m, config, h, emb):
    """Also puts out what the way up is shown of it."""
    backs, shown = [], []
    for j in range(config["layers_per_block"]):
        h, back_layer = block_and_attention(m, config, j, h, emb)
        backs.append(back_layer)
        shown.append(h)
    halves = "downsamplers" in m
    if halves:
        padding = config["downsample_padding"] or [0, 1, 0, 1]  # 0 is for uneven: right and bottom
        h, back_halving = m["downsamplers.0.conv"](conv2d, h, stride=2, padding=padding)
        shown.append(h)

    def back(dh, d_shown):
        """The gradients of all that is shown, of which the last are this part's; returns those that are left."""
        d_emb = 0
        if halves:
            dh, d_shown = through(dh + d_shown[-1], back_halving), d_shown[:-1]
        for back_layer in reversed(backs):
            dh, d_more = back_layer(dh + d_shown[-1])
            d_shown, d_emb = d_shown[:-1], d_emb + d_more
        return dh, d_shown, d_emb

    return h, shown, back


def middle(m, config, h, emb):
    scale, groups = config["mid_block_scale_factor"], config["attn_norm_num_groups"]
    h, back_first = block_and_attention(m, config, 0, h, emb, groups, scale)
    h, back_second = block_and_attention(m, config, 1, h, emb, groups, scale)

    def back(dh):
        dh, d_second = back_second(dh)
        dh, d_first = back_first(dh)
        return dh, d_first + d_second

    return h, back


def up_block(m, config, h, shown, emb):
    """Each layer is shown what the way down has left, the last first."""
    backs = []
    for j, skip in enumerate(shown):
        channels = h.shape[1]
        h, back_layer = block_and_attention(m, config, j, np.concatenate([h, skip], axis=1), emb)
        backs.append((back_layer, channels))
    back_doubling = [same(h)[1]]
    if "upsamplers" in m:
        h, back_repeat = upsample_nearest_2x(h)
        h, back_conv = m["upsamplers.0.conv"](conv2d, h, padding=1)
        back_doubling = [back_conv, back_repeat]

    def back(dh):
        dh, d_shown, d_emb = through(dh, *back_doubling), [], 0
        for back_layer, channels in reversed(backs):
            d_both, d_more = back_layer(dh)
            dh, d_skip = np.split(d_both, [channels], axis=1)
            d_shown, d_emb = d_shown + [d_skip], d_emb + d_more
        return dh, d_shown, d_emb

    return h, back
