"""An example backend for the golden kit, PyTorch and diffusers on the CPU:

    python pytorch_backend.py data/golden [LEVEL ...]

Shapes of the taps of `unet` (what the modules put out; n images, e = width of the time embedding):
    time_embedding, class_embedding                                   (n, e)
    conv_in, conv_norm_out, downsamplers.0.conv, upsamplers.0.conv    (n, c, h, w)
    resnets.i, and its norm1, conv1, norm2, conv2, conv_shortcut      (n, c, h, w)
    resnets.i.time_emb_proj                                           (n, c); (n, 2c) for scale_shift
    attentions.i                                                      (n, c, h, w)
    attentions.i.group_norm                                           (n, c, h*w)
    attentions.i.to_q, to_k, to_v, to_out.0                           (n, h*w, c)
and of `dit`:
    pos_embed.proj                                                    (n, c, h/p, w/p)
    norm1.emb.timestep_embedder and its linear_1, class_embedder      (n, c)
    norm1.linear, proj_out_1                                          (n, 6c), (n, 2c)
    norm1: the first of what it puts out; ff.net.0: after the GELU    (n, tokens, c), (n, tokens, 4c)
    pos_embed, attn1 and its to_q ..., norm3, ff, blocks, norm_out    (n, tokens, c)
    proj_out_2                                                        (n, tokens, p*p*c_out)
"""

import contextlib
import functools
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DiTTransformer2DModel, UNet2DModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import (
    CombinedTimestepLabelEmbeddings,
    TimestepEmbedding,
    Timesteps,
    get_2d_sincos_pos_embed,
)
from diffusers.models.resnet import ResnetBlock2D
from torch.func import functional_call

import numpy_backend
import on_kit
import pytorch_float64
from pytorch_likelihood import hybrid_loss, loss_weight, variational_bound
from pytorch_samplers import levels, reverse_step, trajectory

TAPPED = re.compile(
    r"conv_in|conv_norm_out|(time|class)_embedding"
    r"|.*\.(resnets\.\d+(\.(norm[12]|conv[12]|time_emb_proj|conv_shortcut))?"
    r"|attentions\.\d+(\.(group_norm|to_[qkv]|to_out\.0))?|(down|up)samplers\.0\.conv)"
    r"|pos_embed(\.proj)?|norm_out|proj_out_[12]"
    r"|transformer_blocks\.\d+(\.(norm1(\.linear|\.emb\.(class_embedder|timestep_embedder(\.linear_1)?))?|norm3|ff(\.net\.0)?"
    r"|attn1(\.(to_[qkv]|to_out\.0))?))?"
)


NETWORKS = {"unet": UNet2DModel, "dit": DiTTransformer2DModel}
OF_SCHEDULERS = ("schedule", "q_sample", "levels", "reverse_step", "trajectory")


def backend(op, attributes, dtype=torch.float32, **arrays):
    """The op's outputs and gradients as arrays, or None: not supported. Gradients are autograd's."""
    if op == "random_stream":  # PyTorch has no PCG64
        return numpy_backend.random_stream(**attributes)
    if op not in OPS:
        return None
    x = {name: torch.tensor(a, dtype=dtype if a.dtype.kind == "f" else None) for name, a in arrays.items()}
    grad_output = x.pop("grad_output", None)
    if grad_output is not None:
        x = {name: a.requires_grad_(a.is_floating_point()) for name, a in x.items()}
    with contextlib.ExitStack() as in_float64:
        if dtype == torch.float64:
            in_float64.enter_context(pytorch_float64.embeddings())
        if dtype == torch.float64 and op in OF_SCHEDULERS:
            in_float64.enter_context(pytorch_float64.schedules())
        results = OPS[op](attributes, **x)
    results = {"output": results} if torch.is_tensor(results) else results
    if grad_output is not None:
        results["output"].backward(grad_output)
        results |= {f"grad.{name}": a.grad for name, a in x.items() if a.grad is not None}
    results = {name: a.detach() for name, a in results.items()}
    return {name: (a.float() if a.dtype == torch.bfloat16 else a).numpy() for name, a in results.items()}


def conv2d(a, x, weight, bias=None):
    padding = a.get("padding", 0)
    x = F.pad(x, padding if isinstance(padding, list) else [padding] * 4)
    return F.conv2d(x, weight, bias, a.get("stride", 1), 0, a.get("dilation", 1), a.get("groups", 1))


def conv_transpose2d(a, x, weight, bias=None):
    """PyTorch takes off as much on both sides: here it takes off nothing, and what is too much is cut off."""
    others = a.get("output_padding", 0), a.get("groups", 1), a.get("dilation", 1)
    y = F.conv_transpose2d(x, weight, None, a.get("stride", 1), 0, *others)
    padding = a.get("padding", 0)
    y = F.pad(y, [-side for side in (padding if isinstance(padding, list) else [padding] * 4)])
    return y if bias is None else y + bias[:, None, None]


def attention(a, q, k, v, mask=None):
    q, k, v = (x.unflatten(2, (a.get("heads", 1), -1)).transpose(1, 2) for x in (q, k, v))
    mask = None if mask is None else (mask if mask.ndim == 2 else mask[:, None]) == 1
    return F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)


def res_block(a, x, temb, **p):
    c_out, c = p["conv1.weight"].shape[:2]
    block = ResnetBlock2D(in_channels=c, out_channels=c_out, temb_channels=temb.shape[1],
                          use_in_shortcut="conv_shortcut.weight" in p, **{"eps": 1e-5, **a})  # fmt: skip
    return functional_call(block, p, (x, temb))


def attention_block(a, x, **p):
    c, heads = x.shape[1], a.get("heads", 1)
    block = Attention(c, heads=heads, dim_head=c // heads, bias=True, residual_connection=True, eps=a.get("eps", 1e-5),
                      norm_num_groups=a["groups"] if "group_norm.weight" in p else None,
                      rescale_output_factor=a.get("rescale_output_factor", 1))  # fmt: skip
    return functional_call(block, p, (x,))


def patchify(a, x):
    p = a["patch"]
    return x.unflatten(3, (-1, p)).unflatten(2, (-1, p)).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(a, x):
    p, (rows, columns) = a["patch"], (a["height"] // a["patch"], a["width"] // a["patch"])
    x = x.unflatten(2, (p, p, -1)).unflatten(1, (rows, columns))
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def positions(a):
    grid = (a["rows"], a["columns"])
    return torch.as_tensor(get_2d_sincos_pos_embed(a["dim"], grid, base_size=a.get("base", a["rows"]), output_type="pt"))


def dit_embedding(a, t, class_labels, **p):
    dim, features = p["timestep_embedder.linear_1.weight"].shape
    made = CombinedTimestepLabelEmbeddings(len(p["class_embedder.embedding_table.weight"]) - 1, dim).eval()
    made.time_proj, made.timestep_embedder = Timesteps(features, True, 1), TimestepEmbedding(features, dim)
    return functional_call(made, p, (t, class_labels, next(iter(p.values())).dtype))


def dit_block(a, x, emb, **p):
    heads, dim = a.get("heads", 1), x.shape[2]
    block = BasicTransformerBlock(dim, heads, dim // heads, activation_fn="gelu-approximate", num_embeds_ada_norm=1,
                                  attention_bias="attn1.to_q.bias" in p, norm_type="ada_norm_zero",
                                  norm_elementwise_affine="norm3.weight" in p, norm_eps=a.get("eps", 1e-5))  # fmt: skip
    del block.norm1.emb
    block.norm1.emb = lambda *_, **__: emb  # made outside
    return functional_call(block, p, (x,))


def mse_loss(a, prediction, target):
    loss = F.mse_loss(prediction.requires_grad_(), target)
    return {"output.loss": loss, "grad.prediction": torch.autograd.grad(loss, prediction)[0]}


def cross_entropy(a, logits, labels):
    loss = F.cross_entropy(logits.requires_grad_(), labels)
    return {"output.loss": loss, "grad.logits": torch.autograd.grad(loss, logits)[0]}


def classifier_block(a, x, **p):
    def norm_silu(x, name):
        return F.silu(F.group_norm(x, a["groups"], p[f"{name}.weight"], p[f"{name}.bias"], a.get("eps", 1e-5)))

    def conv(x, name, stride=1, padding=1):
        return F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], stride, padding)

    stride = a.get("stride", 1)
    h = conv(norm_silu(conv(norm_silu(x, "norm1"), "conv1", stride), "norm2"), "conv2")
    return h + (conv(x, "conv_shortcut", stride, 0) if "conv_shortcut.weight" in p else x)


def frechet_distance(a, x, y):
    """In float64, as everyone computes it."""
    x, y = x.double(), y.double()
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    values = torch.linalg.eigvalsh(root @ torch.cov(y.T) @ root).clamp(min=0)
    traces = torch.cov(x.T).trace() + torch.cov(y.T).trace() - 2 * values.sqrt().sum()
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + traces


def precision_recall(a, real, generated):
    def distances(x, y):
        return (x.double()[:, None] - y.double()).square().sum(-1)

    def covered(x, by):
        radii = distances(by, by).sort(1).values[:, a.get("k", 3)]  # the nearest is the vector itself
        return (distances(x, by) <= radii).any(1).double().mean()

    return {"output.precision": covered(generated, real), "output.recall": covered(real, generated)}


def schedule(a):
    made = DDPMScheduler.from_config(a)
    beta, alpha_bar = made.betas, made.alphas_cumprod
    before = F.pad(alpha_bar[:-1], (1, 0), value=1.0)
    tables = {"betas": beta, "alphas_cumprod": alpha_bar, "sqrt_alphas_cumprod": alpha_bar.sqrt(),
              "sqrt_one_minus_alphas_cumprod": (1 - alpha_bar).sqrt(),
              "posterior_variance": beta * (1 - before) / (1 - alpha_bar),
              "posterior_mean_coef1": beta * before.sqrt() / (1 - alpha_bar),
              "posterior_mean_coef2": (1 - before) * (1 - beta).sqrt() / (1 - alpha_bar)}  # fmt: skip
    return {f"output.{name}": table for name, table in tables.items()}


def oracle(a, x_t, data=None, data_labels=None, labels=None, means=None, variances=None, weights=None):
    b = a["sigma"]
    signal = {"variance_preserving": (1 - b * b) ** 0.5, "variance_exploding": 1.0, "flow": 1 - b}
    signal, x = signal[a.get("form", "variance_preserving")], x_t.flatten(1)
    if data is not None:
        y = data.flatten(1)
        logs = -(x[:, None] - signal * y).square().sum(-1) / (2 * b * b)
        if labels is not None:  # the label after the last class means all classes
            others = (data_labels != labels[:, None]) & (labels <= data_labels.max())[:, None]
            logs = logs.masked_fill(others, -torch.inf)
        return {"output.x_0": (logs.softmax(1) @ y).view_as(x_t)}
    d = x.shape[1]
    if variances.ndim < 3:
        variances = torch.diag_embed(variances.view(len(means), -1).expand(-1, d))
    weights = torch.ones(len(means), dtype=x.dtype) if weights is None else weights
    spread = torch.linalg.cholesky(signal**2 * variances + b * b * torch.eye(d, dtype=x.dtype))
    parts = torch.distributions.MultivariateNormal(signal * means.flatten(1), scale_tril=spread)
    mixed = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(weights), parts)
    x = x.clone().requires_grad_()
    log_density = mixed.log_prob(x)
    (score,) = torch.autograd.grad(log_density.sum(), x)
    offset = (x[:, None] - signal * means.flatten(1)).detach()
    x_0 = means.flatten(1) + signal * (variances @ torch.cholesky_solve(offset[..., None], spread))[..., 0]
    shares = (parts.log_prob(x[:, None]) + weights.log()).softmax(1)
    x_0 = (shares[..., None] * x_0).sum(1)
    return {"output.x_0": x_0.view_as(x_t), "output.score": score.view_as(x_t), "output.log_density": log_density}


def optimizer(a, weights):
    betas = (a.get("beta1", 0.9), a.get("beta2", 0.999))
    return torch.optim.AdamW(weights, a["lr"], betas, a.get("eps", 1e-8), a.get("weight_decay", 0.0))


def adamw(a, w, grad, m=None, v=None):
    adam = optimizer(a, [w])
    m, v = (torch.zeros_like(w) if x is None else x for x in (m, v))
    adam.state[w] = {"step": torch.tensor(a.get("step", 1) - 1.0), "exp_avg": m, "exp_avg_sq": v}
    for g in grad if grad.ndim > w.ndim else grad[None]:
        w.grad = g
        adam.step()
    return {"output.w": w, "output.m": m, "output.v": v}


def clip_grad_norm(a, grad):
    parameter = torch.zeros_like(grad)
    parameter.grad = grad
    return {"output.norm": torch.nn.utils.clip_grad_norm_([parameter], a["max_norm"]), "output.grad": grad}


def ema(a, ema, w):
    return ema + (1 - min(a["decay"], (1 + a["step"]) / (10 + a["step"]))) * (w - ema)


def loaded(kind, a, dtype):
    model = kind.from_pretrained(a["model"], torch_dtype=dtype, low_cpu_mem_usage=False)
    exact = kind is DiTTransformer2DModel and dtype == torch.float64
    return pytorch_float64.with_positions(model) if exact else model


def outputs(model, x, t, noise, class_labels, taps):
    """What the network puts out, its loss, and with `taps` what its modules put out."""
    kept, hooks = {}, []
    for name, module in model.named_modules() if taps else ():
        if TAPPED.fullmatch(name):
            first = lambda y: y[0] if isinstance(y, tuple) else y  # noqa: E731
            hooks.append(module.register_forward_hook(lambda _, __, y, name=name: kept.__setitem__(f"taps.{name}", first(y))))
    out = model(x, t, class_labels=class_labels).sample
    for hook in hooks:
        hook.remove()
    return {**kept, "output.out": out, "output.loss": F.mse_loss(out, noise)}


def network(kind, a, x, t, noise, class_labels=None):
    model = loaded(kind, a, x.dtype)
    results = outputs(model, x.requires_grad_(), t, noise, class_labels, a.get("taps"))
    if a.get("gradients"):
        results["output.loss"].backward()
        results |= {f"grad.{name}": p.grad for name, p in [("x", x), *model.named_parameters()]}
    return results


def training(a, x_0, eps, t, class_labels=None):
    kind = DiTTransformer2DModel if Path(a["model"]).name.startswith("dit") else UNet2DModel
    model = loaded(kind, a, x_0.dtype)  # no dropout, no labels hidden
    weights = dict(model.named_parameters())
    average = {k: w.detach().clone() for k, w in weights.items()}
    adam, losses, norms = optimizer(a, weights.values()), [], []
    with pytorch_float64.schedules() if x_0.dtype == torch.float64 else contextlib.nullcontext():
        made = DDPMScheduler.from_config(a["config"])
    for i in range(len(x_0)):
        labels = None if class_labels is None else class_labels[i]
        loss = F.mse_loss(model(made.add_noise(x_0[i], eps[i], t[i]), t[i], class_labels=labels).sample, eps[i])
        adam.zero_grad()
        loss.backward()
        losses.append(loss)
        norms.append(torch.nn.utils.clip_grad_norm_(weights.values(), a["clip_norm"]))
        adam.step()
        average = {k: ema({"decay": a["ema_decay"], "step": i}, average[k], w.detach()) for k, w in weights.items()}
    results = {"output.loss": torch.stack(losses), "output.grad_norm": torch.stack(norms)}
    results |= {f"output.weight.{k}": w for k, w in weights.items()}
    return results | {f"output.ema.{k}": w for k, w in average.items()}


OPS = {
    "exp": lambda a, x: x.exp(),
    "sigmoid": lambda a, x: x.sigmoid(),
    "tanh": lambda a, x: x.tanh(),
    "ln": lambda a, x: x.log(),
    "sin": lambda a, x: x.sin(),
    "cos": lambda a, x: x.cos(),
    "linear": lambda a, x, weight, bias=None: F.linear(x, weight, bias),
    "group_norm": lambda a, x, weight=None, bias=None: F.group_norm(x, a["groups"], weight, bias, a.get("eps", 1e-5)),
    "layer_norm": lambda a, x, weight=None, bias=None: F.layer_norm(x, x.shape[-1:], weight, bias, a.get("eps", 1e-5)),
    "silu": lambda a, x: F.silu(x),
    "gelu": lambda a, x: F.gelu(x),
    "gelu_tanh": lambda a, x: F.gelu(x, approximate="tanh"),
    "softmax": lambda a, x: x.softmax(-1),
    "upsample_nearest_2x": lambda a, x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "average_pool_2x": lambda a, x: F.avg_pool2d(x, 2),
    "class_embedding": lambda a, weight, labels: F.embedding(labels, weight),
    "time_embedding": lambda a, t: Timesteps(a["dim"], a.get("flip_sin_to_cos", True), a.get("freq_shift", 0))(t),
    "modulate": lambda a, x, shift, scale: x * (1 + scale[:, None]) + shift[:, None],
    "gate": lambda a, x, branch, gate: x + gate[:, None] * branch,
    "affine": lambda a, x, weight, bias: x * weight + bias,
    "q_sample": lambda a, x_0, eps, t: DDPMScheduler.from_config(a).add_noise(x_0, eps, t),
}
OPS |= {f.__name__: f for f in (conv2d, conv_transpose2d, attention, res_block, attention_block, mse_loss, schedule, reverse_step, oracle, levels)}
OPS |= {op: functools.partial(network, kind) for op, kind in NETWORKS.items()}
OPS |= {f.__name__: f for f in (trajectory, adamw, clip_grad_norm, ema, training)}
OPS |= {f.__name__: f for f in (patchify, unpatchify, positions, dit_embedding, dit_block)}
OPS |= {f.__name__: f for f in (cross_entropy, classifier_block, frechet_distance, precision_recall)}
OPS |= {f.__name__: f for f in (variational_bound, hybrid_loss, loss_weight)}

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}  # of kits

if __name__ == "__main__":
    on_kit.judge(__doc__, lambda kit, case: backend(case.op, case.attributes, DTYPES[kit.dtype], **case.inputs))
