"""`ancestral golden compute` on inputs that nobody has seen, against PyTorch in float64:

    python test_oracle.py path/to/ancestral [SEED]

Prints one line for each case with the largest difference as a fraction of the tensor's largest element; exits 1 above 1e-10. Gradients that
are zero but for rounding (a key's bias) are compared with the largest gradient of the case.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from diffusers import UNet2DModel

import pytorch_backend

sys.path.append(str(pathlib.Path(__file__).parents[2] / "data/golden"))
import golden

LIMIT = 1e-10


def cases(rng, folder):
    """(name, op, attributes, inputs, shape of the output's gradient or None)"""

    def normal(*shape, mean=0.0, deviation=1.0):
        return (mean + deviation * rng.standard_normal(shape)).astype(np.float32)

    for i in range(8):
        n, c, o = rng.integers(1, 4), rng.integers(1, 9), rng.integers(1, 9)
        kernel, stride = rng.integers(1, 6, 2), int(rng.integers(1, 4))
        padding = [int(p) for p in rng.integers(0, 3, 4)]
        size = kernel + rng.integers(0, 9, 2)
        out = (size + [sum(padding[2:]), sum(padding[:2])] - kernel) // stride + 1
        inputs = {"x": normal(n, c, *size), "weight": normal(o, c, *kernel), "bias": normal(o)}
        yield f"conv2d {i}", "conv2d", {"stride": stride, "padding": padding}, inputs, (n, o, *out)
    for i in range(8):
        n, groups, (c, o) = int(rng.integers(1, 3)), int(rng.integers(1, 4)), rng.integers(1, 4, 2)
        kernel, stride, dilation = rng.integers(1, 5, 2), rng.integers(1, 4, 2), rng.integers(1, 4, 2)
        padding, spread = [int(p) for p in rng.integers(0, 2, 4)], (kernel - 1) * dilation + 1
        size, sides = spread + rng.integers(0, 7, 2), np.array([sum(padding[2:]), sum(padding[:2])])
        shared = {"stride": stride.tolist(), "dilation": dilation.tolist(), "groups": groups, "padding": padding}
        inputs = {"x": normal(n, c * groups, *size), "weight": normal(o * groups, c, *kernel), "bias": normal(o * groups)}
        out = (size + sides - spread) // stride + 1
        yield f"grouped conv2d {i}", "conv2d", shared, inputs, (n, o * groups, *out)
        rest, few = [int(rng.integers(0, step)) for step in stride], rng.integers(2, 5, 2)
        inputs = {"x": normal(n, c * groups, *few), "weight": normal(c * groups, o, *kernel), "bias": normal(o * groups)}
        out = (few - 1) * stride + spread + rest - sides
        if (out > 0).all():
            yield f"conv_transpose2d {i}", "conv_transpose2d", shared | {"output_padding": rest}, inputs, (n, o * groups, *out)
    for groups in (1, 3, 6):
        inputs = {"x": normal(3, 6, 5, 7, mean=100), "weight": normal(6), "bias": normal(6)}
        yield f"group norm, mean 100, {groups} groups", "group_norm", {"groups": groups, "eps": 1e-6}, inputs, (3, 6, 5, 7)
    yield "layer norm, mean 100", "layer_norm", {"eps": 1e-5}, {"x": normal(4, 11, mean=100)}, (4, 11)
    yield "softmax of 400", "softmax", {}, {"x": normal(7, 33, deviation=400)}, (7, 33)
    for heads in (1, 2, 4):
        inputs = {name: normal(2, tokens, 8, deviation=12) for name, tokens in (("q", 5), ("k", 9), ("v", 9))}
        yield f"attention, scores of 400, {heads} heads", "attention", {"heads": heads}, inputs, (2, 5, 8)
        mask = rng.integers(0, 2, (2, 5, 9))
        mask[:, :, heads] = 1
        inputs = {"q": normal(2, 5, 8), "k": normal(2, 9, 8), "v": normal(2, 9, 12), "mask": mask}
        yield f"attention, masked, wide values, {heads} heads", "attention", {"heads": heads}, inputs, (2, 5, 12)
    x = np.concatenate([np.linspace(-120, 120, 481), rng.standard_normal(100)]).astype(np.float32)
    yield "silu at +-120", "silu", {}, {"x": x}, x.shape
    yield "exact gelu", "gelu", {}, {"x": normal(200, deviation=3)}, (200,)
    yield "gelu", "gelu_tanh", {}, {"x": normal(200, deviation=3)}, (200,)
    yield "linear", "linear", {}, {"x": normal(5, 700), "weight": normal(9, 700), "bias": normal(9)}, (5, 9)
    for name, config, size in unets():
        torch.manual_seed(int(rng.integers(1 << 31)))
        model = UNet2DModel(**config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.25)
        model.save_pretrained(folder / name)
        c, labels = config["in_channels"], config.get("num_class_embeds")
        inputs = {"x": normal(5, c, *size), "noise": normal(5, c, *size), "t": rng.integers(0, 1000, 5)}
        if labels:
            inputs["class_labels"] = rng.integers(0, labels, 5)
        yield f"unet, {name}", "unet", {"model": str(folder / name), "gradients": True}, inputs, None


def unets():
    down, up, attn_down, attn_up = "DownBlock2D", "UpBlock2D", "AttnDownBlock2D", "AttnUpBlock2D"
    base = {"in_channels": 2, "out_channels": 2, "norm_num_groups": 4, "attention_head_dim": 2}
    yield "three layers a block, not square", {
        **base, "layers_per_block": 3, "block_out_channels": (8, 12), "down_block_types": (down, attn_down),
        "up_block_types": (attn_up, up), "attention_head_dim": 4}, (6, 10)  # fmt: skip
    yield "4 heads and class labels", {
        **base, "layers_per_block": 1, "block_out_channels": (8, 8, 16), "down_block_types": (attn_down, down, down),
        "up_block_types": (up, attn_up, up), "num_class_embeds": 7, "attention_head_dim": 4}, (8, 4)  # fmt: skip
    yield "no attention, scale and shift", {
        **base, "layers_per_block": 2, "block_out_channels": (4, 8), "down_block_types": (down, down),
        "up_block_types": (up, up), "add_attention": False, "norm_num_groups": 2, "resnet_time_scale_shift": "scale_shift",
        "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1}, (4, 4)  # fmt: skip


def main(binary, seed):
    rng, failed = np.random.default_rng(seed), 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, op, attributes, inputs, shape in cases(rng, folder):
            if shape is not None:
                inputs["grad_output"] = rng.standard_normal(shape).astype(np.float32)
            tensors = {k if k == "grad_output" else f"input.{k}": v for k, v in inputs.items()}
            case, result = folder / "case.safetensors", folder / "result.safetensors"
            golden.write_safetensors(case, tensors, {"op": op, "attributes": json.dumps(attributes)})
            subprocess.run([binary, "golden", "compute", case, "--out", result], check=True)
            found, _ = golden.read_safetensors(result)
            truth = pytorch_backend.backend(op, attributes, torch.float64, **inputs)
            # A key's bias has no gradient: its scale is that of the other gradients.
            scales = {k: np.abs(v).max() for k, v in truth.items()}
            largest = max(v for k, v in scales.items() if k.startswith("grad"))
            scales = {k: largest if k.endswith("to_k.bias") else v for k, v in scales.items()}
            errors = {k: np.abs(found[k] - truth[k]).max() / scales[k] for k in truth}
            worst = max(errors, key=errors.get)
            within = all((np.abs(found[f"bits.{k}"] - found[k]) <= found[f"tol.{k}"]).all() for k in truth)
            print(f"{name:42} {len(truth):4} tensors  {errors[worst]:8.1e}  {worst:40} bits within tolerance: {within}")
            failed += not errors[worst] <= LIMIT or not within
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) == 3 else 0))
