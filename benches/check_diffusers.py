"""Does diffusers run a model folder of `ancestral train` with the same outputs? Exit status 1 if not.

Needs:   pip install torch==2.13.0 diffusers==0.42.1, and cargo build --release
Run:     target/release/ancestral train --preset tiny --out runs/tiny
         python benches/check_diffusers.py runs/tiny
         (any --config: one with ResnetDownsampleBlock2D and ResnetUpsampleBlock2D was off by 9e-7 at most)

diffusers loads the network and the scheduler of the folder, a U-Net or a transformer. Two comparisons follow, from the same noise x_T, drawn here from the
random streams that src/numerics/rng.rs documents:

1. The network's output at several t. `ancestral sample` shows pictures, not outputs; but in a copy of the folder whose
   scheduler says prediction_type = "sample", clip_sample = false, steps_offset = t, a chain of one DDIM step is
   1 * output + 0 * eps: its picture is the network's output at t, to the bit.
2. Whole trajectories: DDIM with eta = 0 (x_0 clipped, eps derived again from it), by diffusers' own scheduler.
"""

import argparse
import copy
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel, UNet2DModel
from diffusers.models.embeddings import Timesteps

# Both networks compute in float32 and add in different orders: k roundings of 2^-24 = 6e-8 in sums of values of order
# 1 leave differences of some 1e-6. In a run of `tiny`, a norm's epsilon of 1e-6 for 1e-5 moves the output by 1.6e-4,
# the other convention of the time embedding by 4e-2, one flipped kernel by 2.
OUTPUT_TOLERANCE = 1e-5

# diffusers computes t * frequency in float32, which at t near 1000 is off by 3e-5 radians; ancestral computes the
# embedding in float64. So OUTPUT_TOLERANCE holds where the embedding is diffusers' formula in float64, and with its own
# the output may move by as much as its input does.
EMBEDDING_TOLERANCE = 1e-4

# x_0 = (x_t - sqrt(1 - alpha_bar) eps) / sqrt(alpha_bar): at the first of 10 steps, t = 901 of a linear schedule,
# 1 / sqrt(alpha_bar) is 60, and what is not clipped there carries 60 differences of 1e-5 to the next steps.
TRAJECTORY_TOLERANCE = 1e-3


def standard_normals(seed, purpose, index, count):
    """The first normals of the stream (seed, purpose, [index]): src/numerics/rng.rs in NumPy."""
    u64 = lambda n: n.to_bytes(8, "little")
    key = b"ancestral N1" + u64(seed) + u64(len(purpose)) + purpose.encode() + u64(index)
    digest = hashlib.sha256(key).digest()
    state, increment = int.from_bytes(digest[:16], "little"), int.from_bytes(digest[16:], "little") | 1
    pcg = np.random.PCG64()
    pcg.state = {
        "bit_generator": "PCG64", "state": {"state": state, "inc": increment}, "has_uint32": 0, "uinteger": 0,
    }  # fmt: skip
    u1, u2 = ((pcg.random_raw(count + count % 2) >> 11) * 2.0**-53).reshape(-1, 2).T
    r, angle = np.sqrt(-2 * np.log(1 - u1)), 2 * np.pi * u2
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1).reshape(-1)[:count].astype(np.float32)


class Float64Embedding(torch.nn.Module):
    """diffusers' sinusoidal embedding of t, in float64."""

    def __init__(self, of):
        super().__init__()
        self.of = of

    def forward(self, t):
        half = self.of.num_channels // 2
        exponent = -np.log(10000.0) * torch.arange(half, dtype=torch.float64) / (half - self.of.downscale_freq_shift)
        angles = t.double()[:, None] * exponent.exp()
        parts = [angles.cos(), angles.sin()] if self.of.flip_sin_to_cos else [angles.sin(), angles.cos()]
        embedding = torch.cat(parts, dim=1)
        return torch.nn.functional.pad(embedding, (0, self.of.num_channels % 2))  # the network casts it to its own type


def with_float64_embedding(network):
    """A copy, in which every embedding of t is in float64."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if isinstance(module, Timesteps):
                setattr(parent, name, Float64Embedding(module))
    return network


def drawn_by_ancestral(args, model, folder, steps):
    """The pictures of `ancestral sample`, float32 (n, c, h, w)."""
    file = Path(folder, "pictures.npy")
    command = [args.binary, "sample", "--model", model, "--count", args.count, "--seed", args.seed]
    command += ["--sampler", "ddim", "--eta", 0, "--guidance", 1, "--steps", steps, "--spacing", "leading"]
    command += ["--npy", file, "--out", Path(folder, "pictures.png")]
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    except OSError as error:
        sys.exit(f"{args.binary}: {error.strerror}; build it with `cargo build --release`, or name it with --binary")
    if done.returncode != 0:
        sys.exit(done.stderr)
    return torch.from_numpy(np.load(file))


def output_of_ancestral(args, model, t):
    """The network's output for x_T and t, by the chain of one step that the file's first lines explain."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(model / args.part, Path(folder, args.part))
        scheduler = json.loads((model / "scheduler/scheduler_config.json").read_text())
        scheduler |= dict(prediction_type="sample", clip_sample=False, thresholding=False, steps_offset=t, set_alpha_to_one=True)
        Path(folder, "scheduler").mkdir()
        Path(folder, "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
        return drawn_by_ancestral(args, folder, folder, 1)


def report(what, a, b, tolerance):
    difference = (a.double() - b.double()).abs().max().item()
    passed = difference <= tolerance  # false for NaN too
    print(f"{what:58} {difference:8.1e} {tolerance:10.0e}  {'ok' if passed else 'TOO FAR'}")
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a run of `ancestral train`, or its folder `model`")
    parser.add_argument("--count", type=int, default=8, help="pictures; default 8")
    parser.add_argument("--seed", type=int, default=42, help="of the noise; default 42")
    parser.add_argument("--t", default="0,1,10,100,500,900,999", help="as the network is fed it; default %(default)s")
    parser.add_argument("--steps", type=int, default=10, help="of the trajectories; default 10")
    parser.add_argument("--binary", default="target/release/ancestral", help="default target/release/ancestral")
    args = parser.parse_args()
    model = args.model / "model" if (args.model / "model/model_index.json").is_file() else args.model

    kind = {"unet": UNet2DModel, "transformer": DiTTransformer2DModel}
    args.part = next((part for part in kind if (model / part / "config.json").is_file()), None)
    if args.part is None:
        sys.exit(f"{model}: expected a folder `unet` or `transformer`; give a run of `ancestral train`, or its folder `model`")
    network = kind[args.part].from_pretrained(model, subfolder=args.part).eval()
    config = network.config
    c, (h, w) = config.in_channels, np.broadcast_to(config.sample_size, 2)
    x = np.stack([standard_normals(args.seed, "sample.x_T", i, h * w * c) for i in range(args.count)])
    x = torch.from_numpy(x).reshape(-1, h, w, c).permute(0, 3, 1, 2).contiguous()
    labels = None
    # `ancestral sample` takes the classes in turn, without the label that stands for none: the last of a transformer's, which
    # is its only one if it was trained without classes.
    if args.part == "transformer":
        labels = torch.arange(args.count) % max(config.num_embeds_ada_norm, 1)
    elif config.num_class_embeds:
        null = json.loads((model / "unet/config.json").read_text()).get("_null_class")
        labels = torch.arange(args.count) % (config.num_class_embeds - (null is not None))

    same_embedding = with_float64_embedding(network)
    exact = copy.deepcopy(same_embedding).double()

    @torch.inference_mode()
    def output_of_diffusers(network, x, t):
        output = network(x.to(network.dtype), torch.full((args.count,), t), class_labels=labels).sample
        return output[:, :c]  # the others are of variances

    print(f"{'largest difference, over ' + str(args.count) + ' pictures':58} {'found':>8} {'tolerance':>10}")
    passed = True
    for t in map(int, args.t.split(",")):
        ours = output_of_ancestral(args, model, t)
        for what, peer, tolerance in [
            ("float64, time embedded in float64", exact, OUTPUT_TOLERANCE),
            ("float32, time embedded in float64", same_embedding, OUTPUT_TOLERANCE),
            ("float32, as diffusers is", network, EMBEDDING_TOLERANCE),
        ]:
            passed &= report(f"output at t = {t}: {what}", ours, output_of_diffusers(peer, x, t), tolerance)

    of_folder = json.loads((model / "scheduler/scheduler_config.json").read_text())
    scheduler = DDIMScheduler.from_config(of_folder, timestep_spacing="leading")
    scheduler.set_timesteps(args.steps)
    for t in scheduler.timesteps:
        output = output_of_diffusers(network, x, t.item())
        x = scheduler.step(output, t, x, eta=0.0, use_clipped_model_output=True).prev_sample
    with tempfile.TemporaryDirectory() as folder:
        ours = drawn_by_ancestral(args, model, folder, args.steps)
    passed &= report(f"pictures after {args.steps} steps of DDIM", ours, x, TRAJECTORY_TOLERANCE)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
