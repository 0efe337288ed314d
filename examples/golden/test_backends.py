"""numpy_backend and jax_backend against pytorch_backend, all in float64, on random inputs: outputs and every gradient; and
onnx_backend, in float32, the outputs, of samplers, too.

    python test_backends.py [numpy] [jax] [onnx]      without names all three

Prints one line for each case with the largest |difference| / largest |value| of a tensor; exits 1 above 1e-12, or above 1e-4
where a backend computes in float32.
Schedules and samplers of diffusers run on float64 tables (pytorch_float64.py); its own float32 tables are compared too.
"""

import importlib
import sys

import numpy as np
import torch

import numpy_backend
import numpy_levels
import pytorch_backend

LIMIT = 1e-12
# In float32: ONNX, whose group norm cancels (onnx_layers.py), and the softmax in jax.nn.dot_product_attention, always.
LIMIT_OF_FLOAT32 = 1e-4
IN_FLOAT32 = {"onnx": "", "jax": ("attention", "dit_block"), "numpy": ()}  # operations, by how their names start
rng = np.random.default_rng(1)


def normal(*shape, scale=1.0, offset=0.0):
    return rng.normal(offset, scale, shape)


def affine(name, *weight):
    return {f"{name}.weight": normal(*weight, scale=0.3, offset=len(weight) == 1), f"{name}.bias": normal(weight[0])}


def res_block_inputs(c, c_out, scale_shift, shortcut):
    p = {"x": normal(2, c, 5, 3), "temb": normal(2, 7), **affine("norm1", c), **affine("conv1", c_out, c, 3, 3)}
    p |= affine("time_emb_proj", c_out * (1 + scale_shift), 7)
    p |= {**affine("norm2", c_out), **affine("conv2", c_out, c_out, 3, 3)}
    return p | (affine("conv_shortcut", c_out, c, 1, 1) if shortcut else {})


def attention_block_inputs(c, normed):
    p = {"x": normal(2, c, 3, 5)} | (affine("group_norm", c) if normed else {})
    return p | {k: v for name in ("to_q", "to_k", "to_v", "to_out.0") for k, v in affine(name, c, c).items()}


def norm_inputs(weighted, c=6, offset=0.0, shape=(2, 6, 5, 3)):
    return {"x": normal(*shape, offset=offset)} | ({"weight": normal(c), "bias": normal(c)} if weighted else {})


def classifier_block_inputs(c, c_out):
    p = {"x": normal(2, c, 6, 4), **affine("norm1", c), **affine("conv1", c_out, c, 3, 3)}
    p |= {**affine("norm2", c_out), **affine("conv2", c_out, c_out, 3, 3)}
    return p | ({} if c == c_out else affine("conv_shortcut", c_out, c, 1, 1))


def dit_block_inputs(c, biased):
    layers = {"norm1.linear": (6 * c, c), "ff.net.0.proj": (4 * c, c), "ff.net.2": (c, 4 * c), "attn1.to_out.0": (c, c)}
    layers |= {f"attn1.to_{name}": (c, c) for name in "qkv"} | ({} if biased else {"norm3": (c,)})
    p = {"x": normal(2, 5, c), "emb": normal(2, c)} | {k: v for name, size in layers.items() for k, v in affine(name, *size).items()}
    return p if biased else {name: v for name, v in p.items() if name not in {f"attn1.to_{x}.bias" for x in "qkv"}}


def sampler_inputs(*shape):
    return {"model_output": normal(*shape), "noise": normal(*shape)}


def with_gradient():
    """(op, attributes, inputs) of the ops that take grad_output."""
    yield "linear", {}, {"x": normal(3, 4, 5), "weight": normal(7, 5), "bias": normal(7)}
    yield "linear", {}, {"x": normal(3, 5), "weight": normal(7, 5)}
    right_bottom = {"padding": [0, 1, 0, 1], "stride": 2}
    square = [{"padding": 1}, {"padding": 1, "stride": 2}, right_bottom, {"stride": 3}]
    geometries = [({}, (1, 1)), *((a, (3, 3)) for a in square), ({"padding": [2, 1, 0, 3]}, (2, 5))]
    for attributes, kernel in geometries:
        for size in ((7, 5), (8, 6)):
            yield "conv2d", attributes, {"x": normal(2, 3, *size), "weight": normal(4, 3, *kernel), "bias": normal(4)}
    for weighted in (True, False):
        yield "group_norm", {"groups": 3}, norm_inputs(weighted)
        yield "group_norm", {"groups": 2, "eps": 1e-2}, norm_inputs(weighted, offset=30.0)
        yield "layer_norm", {}, norm_inputs(weighted, c=3)
    for attributes, kernel in (({"dilation": [1, 2], "padding": 1}, (3, 3)), ({"groups": 2, "stride": [2, 1]}, (3, 2))):
        weight = normal(4, 4 // attributes.get("groups", 1), *kernel)
        yield "conv2d", attributes, {"x": normal(2, 4, 7, 6), "weight": weight, "bias": normal(4)}
        yield "conv_transpose2d", attributes, {"x": normal(2, 4, 3, 4), "weight": weight}
    for op in ("silu", "gelu", "gelu_tanh", "softmax"):
        yield op, {}, {"x": normal(2, 3, 5, scale=3.0)}
        yield op, {}, {"x": np.linspace(-80, 80, 41)}
    for heads in (1, 2, 3):
        yield "attention", {"heads": heads}, {"q": normal(2, 4, 6), "k": normal(2, 5, 6), "v": normal(2, 5, 6)}
    hidden = {"q": normal(2, 4, 6), "k": normal(2, 5, 6), "v": normal(2, 5, 4), "mask": np.tri(4, 5, 1, dtype=np.int64)}
    yield "attention", {"heads": 2}, hidden
    yield "upsample_nearest_2x", {}, {"x": normal(2, 3, 5, 4)}
    yield "average_pool_2x", {}, {"x": normal(2, 3, 6, 4)}
    yield "class_embedding", {}, {"weight": normal(5, 3), "labels": np.array([4, 0, 4, 2])}
    for norm in ("default", "scale_shift"):
        attributes = {"groups": 2, "time_embedding_norm": norm, "output_scale_factor": 1.5}
        scale_shift = norm == "scale_shift"
        yield "res_block", attributes, res_block_inputs(4, 6, scale_shift, True)
        yield "res_block", {"groups": 2, "time_embedding_norm": norm}, res_block_inputs(4, 4, scale_shift, False)
    yield "attention_block", {"heads": 1, "groups": 3}, attention_block_inputs(6, True)
    yield "attention_block", {"heads": 3, "rescale_output_factor": 2.0}, attention_block_inputs(6, False)
    yield "classifier_block", {"groups": 2}, classifier_block_inputs(4, 4)
    yield "classifier_block", {"groups": 2, "stride": 2}, classifier_block_inputs(4, 6)
    yield "patchify", {"patch": 2}, {"x": normal(2, 3, 4, 6)}
    yield "unpatchify", {"patch": 2, "height": 4, "width": 6}, {"x": normal(2, 6, 12)}
    yield "modulate", {}, {"x": normal(2, 5, 3), "shift": normal(2, 3), "scale": normal(2, 3)}
    yield "gate", {}, {"x": normal(2, 5, 3), "branch": normal(2, 5, 3), "gate": normal(2, 3)}
    yield "affine", {}, {"x": normal(2, 5, 3), "weight": normal(3), "bias": normal(3)}
    embedding = affine("timestep_embedder.linear_1", 6, 8) | affine("timestep_embedder.linear_2", 6, 6)
    embedding["class_embedder.embedding_table.weight"] = normal(4, 6)
    yield "dit_embedding", {}, {"t": np.array([0, 7, 999]), "class_labels": np.array([0, 3, 0])} | embedding
    yield "dit_block", {"heads": 2}, dit_block_inputs(6, True)
    yield "dit_block", {"heads": 3, "eps": 1e-2}, dit_block_inputs(6, False)


def without_gradient():
    for op in ("exp", "sigmoid", "tanh", "sin", "cos"):
        yield op, {}, {"x": np.linspace(-20, 20, 101)}
    yield "ln", {}, {"x": np.linspace(0.01, 20, 101)}
    for attributes in ({"dim": 8}, {"dim": 7, "flip_sin_to_cos": False, "freq_shift": 1}):
        yield "time_embedding", attributes, {"t": np.array([0, 1, 500, 999])}
        yield "time_embedding", attributes, {"t": np.array([0.5, 998.25])}
    yield "mse_loss", {}, {"prediction": normal(2, 3, 4), "target": normal(2, 3, 4)}
    yield "cross_entropy", {}, {"logits": normal(4, 5), "labels": np.array([4, 0, 4, 2])}
    yield "positions", {"rows": 2, "columns": 4, "dim": 8, "base": 1}, {}
    linear, cosine = {"num_train_timesteps": 1000}, {"num_train_timesteps": 50, "beta_schedule": "squaredcos_cap_v2"}
    scaled = {"num_train_timesteps": 100, "beta_schedule": "scaled_linear", "beta_start": 1e-3, "beta_end": 0.1}
    for config in (linear, cosine, scaled):
        yield "schedule", config, {}
        yield "q_sample", config, {"x_0": normal(3, 2, 4), "eps": normal(3, 2, 4), "t": np.array([0, 7, 49])}
    v = {"clip_sample": False, "prediction_type": "v_prediction"}
    for extra in ({}, v, {"clip_sample_range": 0.7, "prediction_type": "sample"}):
        config = linear | extra
        for variance_type in ("fixed_small", "fixed_large"):
            a = {"class": "DDPMScheduler", "config": config | {"variance_type": variance_type}, "steps": 10}
            for t, t_prev in ((900, 800), (100, 0), (0, -1)):
                yield "reverse_step", a | {"t": t, "t_prev": t_prev}, {"x_t": normal(2, 3, 4)} | sampler_inputs(2, 3, 4)
            yield "trajectory", a, {"x_T": normal(2, 3, 4)} | sampler_inputs(10, 2, 3, 4)
            for spacing in ("linspace", "trailing"):
                spaced = a | {"config": a["config"] | {"timestep_spacing": spacing, "variance_type": "fixed_small"}}
                yield "trajectory", spaced, {"x_T": normal(2, 3, 4)} | sampler_inputs(10, 2, 3, 4)
        for eta, to_one in ((0.0, True), (0.6, False), (1.0, True)):
            a = {"class": "DDIMScheduler", "config": config | {"set_alpha_to_one": to_one}, "steps": 10, "eta": eta}
            for t, t_prev in ((900, 800), (0, -1)):
                yield "reverse_step", a | {"t": t, "t_prev": t_prev}, {"x_t": normal(2, 3, 4)} | sampler_inputs(2, 3, 4)
            offset = a | {"config": a["config"] | {"steps_offset": 1}}
            yield "trajectory", offset, {"x_T": normal(2, 3, 4)} | sampler_inputs(10, 2, 3, 4)
    yield from chains()
    adam = {"lr": 1e-2, "beta1": 0.8, "beta2": 0.99, "eps": 1e-6, "weight_decay": 0.1}
    yield "adamw", adam, {"w": normal(3, 4), "grad": normal(12, 3, 4)}
    yield "adamw", adam | {"step": 7}, {"w": normal(5), "grad": normal(5), "m": normal(5), "v": normal(5) ** 2}
    yield "clip_grad_norm", {"max_norm": 1.0}, {"grad": normal(3, 4)}
    yield "clip_grad_norm", {"max_norm": 100.0}, {"grad": normal(3, 4)}
    for step in (0, 3, 10**6):
        yield "ema", {"decay": 0.999, "step": step}, {"ema": normal(3, 4), "w": normal(3, 4)}


def chains():
    """Chains of every sampler, in every way that it knows beside the kit's."""
    karras, exponential, lambdas = {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}, {"use_lu_lambdas": True}
    v, limited = {"prediction_type": "v_prediction"}, {"thresholding": True, "sample_max_value": 1.5}
    trailing, leading = {"timestep_spacing": "trailing"}, {"timestep_spacing": "leading"}
    ends_short = {"final_sigmas_type": "sigma_min"}
    of_noise = ends_short | {"algorithm_type": "dpmsolver"}
    orders = [{"solver_order": order} | more for order in (1, 2, 3) for more in ({}, {"solver_type": "heun"})]
    sde = [{"solver_order": order, "algorithm_type": "sde-dpmsolver++"} for order in (1, 2, 3)]
    ways = {
        "DDPM": [{"variance_type": kind} for kind in ("fixed_large", "learned_range")],
        "DDIMInverse": [v, {"clip_sample": False}],
        "EulerDiscrete": [v | karras, exponential | trailing, ends_short],
        "EulerAncestralDiscrete": [v, leading],
        "HeunDiscrete": [v | karras, exponential | leading],
        "LMSDiscrete": [v | karras, trailing],
        "PNDM": [v, v | {"skip_prk_steps": True}, trailing | {"set_alpha_to_one": True}],
        "DPMSolverMultistep": [*orders, *sde, *(of_noise | order for order in orders), v | karras | limited, lambdas | trailing],
        "DPMSolverSinglestep": [*orders, *(of_noise | order for order in orders), v | karras],
        "UniPCMultistep": [*orders, ends_short | {"predict_x0": False, "solver_order": 3}, v | karras | ends_short, limited | leading],
        "DEISMultistep": [*orders, v | karras, limited | exponential],
        "FlowMatchEulerDiscrete": [{"shift": 2.0} | karras],
        "EDMEuler": [{"sigma_schedule": "exponential"}, ends_short],
        "EDMDPMSolverMultistep": [*orders, *sde[:2]],
    }
    for kind, configs in ways.items():
        table = {} if kind.startswith(("Flow", "EDM")) else {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}
        for config, steps in ((table | config, steps) for config in configs for steps in (6, 17)):
            n, channels = len(numpy_levels.chain(kind, config, steps)), 2 if "learned_range" in config.values() else 1
            inputs = {"x_T": normal(2, 1, 3, 2), "model_output": normal(n, 2, channels, 3, 2), "noise": normal(n, 2, 1, 3, 2)}
            yield "trajectory", {"class": f"{kind}Scheduler", "config": config, "steps": steps}, inputs


def difference(mine, theirs):
    """The largest |difference| / largest |value| over the tensors, and of which tensor.

    A key's bias moves all scores of a query alike, so its gradient is zero but for rounding: values far below the
    case's largest are measured against that.
    """
    if mine.keys() != theirs.keys():
        return np.inf, f"tensors differ: {sorted(mine.keys() ^ theirs.keys())}"
    shapes = [name for name in mine if mine[name].shape != theirs[name].shape]
    if shapes:
        return np.inf, f"{shapes[0]}: {mine[shapes[0]].shape} against {theirs[shapes[0]].shape}"
    largest = {k: np.abs(theirs[k]).max() for k in mine}
    floor = 1e-3 * max(largest.values())
    scaled = {k: np.abs(mine[k] - theirs[k]).max() / max(largest[k], floor) for k in mine}
    worst = max(scaled, key=scaled.get)
    return scaled[worst], worst


def in_numpy(op, attributes, inputs):
    return numpy_backend.run(op, attributes, inputs, np.float64)


def in_jax(op, attributes, inputs):
    return importlib.import_module("jax_backend").backend(op, attributes, np.float64, **inputs)


def in_onnx(op, attributes, inputs):
    inputs = {name: x if x.dtype.kind == "i" else x.astype(np.float32) for name, x in inputs.items()}
    return importlib.import_module("onnx_backend").backend(op, attributes, **inputs)


BACKENDS = {"numpy": in_numpy, "jax": in_jax, "onnx": in_onnx}


def main(names):
    torch.set_num_threads(1)
    failed = cases = 0
    for gradient, source in ((True, with_gradient()), (False, without_gradient())):
        for op, attributes, inputs in source:
            if gradient:
                y = pytorch_backend.backend(op, attributes, torch.float64, **inputs)["output"]
                inputs = inputs | {"grad_output": normal(*y.shape)}
            theirs = pytorch_backend.backend(op, attributes, torch.float64, **inputs)
            for name in names:
                mine = BACKENDS[name](op, attributes, inputs)
                if mine is None:
                    continue
                worst, where = difference(mine, theirs if name != "onnx" else {k: x for k, x in theirs.items() if k[:5] != "grad."})
                limit = LIMIT_OF_FLOAT32 if op.startswith(IN_FLOAT32[name]) else LIMIT
                wrong = not worst <= limit
                failed, cases = failed + wrong, cases + 1
                print(f"{'FAIL' if wrong else 'ok':5}{worst:9.1e}  {name:6}{op:20} {where:32} {attributes or ''}")
    for op, attributes, inputs in without_gradient():
        if op == "schedule":
            theirs = pytorch_backend.backend(op, attributes)
            worst, where = difference(numpy_backend.run(op, attributes, inputs, np.float64), theirs)
            failed, cases = failed + (not worst < 1e-3), cases + 1
            print(f"{'ok' if worst < 1e-3 else 'FAIL':5}{worst:9.1e}  numpy {op + ' in float32':20} {where:32} {attributes}")
    print(f"{cases} cases, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(BACKENDS)))
