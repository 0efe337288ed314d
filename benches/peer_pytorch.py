"""What PyTorch takes for the work that `ancestral bench` measures: the same network, batch and threads.

Needs:   pip install torch==2.13.0 diffusers==0.42.1
Run:     python benches/peer_pytorch.py --preset mnist --batch-size 64 --mode train --threads 2
         python benches/peer_pytorch.py --preset cifar10 --batch-size 4 --mode forward --compile

The last line of output is one JSON object with the fields of `ancestral bench`. What makes the two comparable:
- The values under PRESETS are those of src/train/preset.rs; what is not named there is the default of the class.
- A training step is forward, MSE, backward, clipping to norm 1, Adam; a forward pass runs in inference mode; sampling is
  the chain of a thousand steps with diffusers' DDPMScheduler.
- Dropout is 0 here, as `ancestral bench` drops nothing.
- gflop counts convolutions, linear layers and attention's two products, a training step as three forward passes, a
  chain as a thousand.
- peak_mb is of the whole process: PyTorch's libraries are in it, as ancestral's code is in its own.
"""

import argparse
import json
import resource
import statistics
import sys
import time

import torch
from diffusers import DDPMScheduler, DiTTransformer2DModel, UNet2DModel
from diffusers.models.attention_processor import Attention

PRESETS = {
    "mnist": dict(
        sample_size=28, in_channels=1, out_channels=1, block_out_channels=(32, 64, 64), layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=None, norm_num_groups=8,
    ),
    "cifar10": dict(
        sample_size=32, in_channels=3, out_channels=3, block_out_channels=(128, 256, 256, 256), layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6,
    ),
    "dit-s-2": dict(
        sample_size=32, in_channels=3, num_attention_heads=6, attention_head_dim=64, num_layers=12, patch_size=2,
        num_embeds_ada_norm=1000,
    ),
}  # fmt: skip
BATCH_SIZE = {"mnist": 64, "cifar10": 128, "dit-s-2": 128}
LEARNING_RATE = {"mnist": 1e-3, "cifar10": 2e-4, "dit-s-2": 1e-4}
PREDICTIONS = {"train": 3, "forward": 1, "sample": 1000}  # what a step costs


class Prediction(torch.nn.Module):
    """A preset's network as a function of x_t and t, every image of class 0."""

    def __init__(self, preset):
        super().__init__()
        fields = PRESETS[preset]
        self.by_class = "num_embeds_ada_norm" in fields
        self.model = (DiTTransformer2DModel if self.by_class else UNet2DModel)(**fields)

    def forward(self, x, t):
        labels = torch.zeros(len(x), dtype=torch.long) if self.by_class else None
        return self.model(x, t, class_labels=labels).sample


def multiply_adds(model, image, t):
    """Multiply-adds of a forward pass of one image, counted by hooks."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        if isinstance(module, torch.nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, torch.nn.Linear):
            total += output.numel() * module.in_features
        else:  # attention over all pixels or tokens: the scores, and the sum over values
            x = inputs[0].flatten(2).mT if inputs[0].ndim == 4 else inputs[0]
            total += 2 * x.shape[1] ** 2 * x.shape[2]

    kinds = (torch.nn.Conv2d, torch.nn.Linear, Attention)
    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, kinds)]
    with torch.inference_mode():
        model(image, t)
    for hook in hooks:
        hook.remove()
    return total


def peak_megabytes():
    """The most memory that this process has held, in MB of 10^6 bytes."""
    try:
        with open("/proc/self/status") as status:
            kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
        return kib * 1024 / 1e6
    except FileNotFoundError:  # macOS, where ru_maxrss is in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def training_step(model, network, x_t, t, target, lr):
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)  # the fastest of PyTorch's three Adams

    def step():
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.mse_loss(network(x_t, t), target).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def forward_pass(model, network, x_t, t):
    model.eval()

    def step():
        with torch.inference_mode():
            network(x_t, t)

    return step


def chain(model, network, x_t):
    scheduler = DDPMScheduler(num_train_timesteps=1000, variance_type="fixed_small", clip_sample=True)

    def step():
        x = x_t
        with torch.inference_mode():
            for t in scheduler.timesteps:
                output = network(x, torch.full((len(x),), int(t)))  # the shape that was compiled
                x = scheduler.step(output, t, x).prev_sample

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="mnist")
    parser.add_argument("--batch-size", type=int, help="default: the preset's")
    parser.add_argument("--mode", choices=PREDICTIONS, default="train")
    parser.add_argument("--threads", type=int, help="default: PyTorch's choice")
    parser.add_argument("--seconds", type=float, default=10.0, help="to measure for, after the warm-up; default 10")
    parser.add_argument("--compile", action="store_true", help="run the network through torch.compile")
    parser.add_argument("--channels-last", action="store_true", help="keep images and weights channels last")
    args = parser.parse_args()
    batch_size = args.batch_size or BATCH_SIZE[args.preset]
    if args.threads:
        torch.set_num_threads(args.threads)

    torch.manual_seed(1)
    model = Prediction(args.preset)
    config = model.model.config
    x_t = torch.randn(batch_size, config.in_channels, config.sample_size, config.sample_size)
    t = torch.full((batch_size,), 500)
    flop = 2 * multiply_adds(model, x_t[:1], t[:1]) * batch_size * PREDICTIONS[args.mode]
    if args.channels_last:
        model, x_t = model.to(memory_format=torch.channels_last), x_t.to(memory_format=torch.channels_last)
    network = torch.compile(model) if args.compile else model
    if args.mode == "train":
        step = training_step(model, network, x_t, t, x_t.clone(), LEARNING_RATE[args.preset])
    else:
        step = forward_pass(model, network, x_t, t)

    for _ in range(2):  # to warm up: torch.compile compiles in the first, and may once more in the second
        step()
    at_least = 3
    if args.mode == "sample":
        step, at_least = chain(model, network, x_t), 1
    seconds = []
    start = time.perf_counter()
    while len(seconds) < at_least or time.perf_counter() - start < args.seconds:
        before = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - before)
    median = statistics.median(seconds)
    result = dict(
        preset=args.preset, mode=args.mode, batch_size=batch_size, threads=torch.get_num_threads(),
        steps=len(seconds), median_s=median, min_s=min(seconds), gflop=flop / 1e9, gflops=flop / median / 1e9,
        peak_mb=peak_megabytes(), framework="PyTorch", version=torch.__version__, compiled=args.compile, channels_last=args.channels_last,
    )  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
