"""Pictures of `ancestral sample` by diffusers, from the shell to the files: what a process takes, its start included.

Needs:   pip install torch==2.13.0 diffusers==0.42.1 pillow
Run:     python benches/peer_sample.py --model data/models/digits --count 16 --steps 50 --threads 2 --out folder
"""

import argparse
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DModel
from PIL import Image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    unet = UNet2DModel.from_pretrained(args.model / "unet").eval()
    scheduler = DDIMScheduler.from_pretrained(args.model / "scheduler")
    scheduler.set_timesteps(args.steps)
    side, channels = unet.config.sample_size, unet.config.in_channels
    height, width = side if isinstance(side, (list, tuple)) else (side, side)
    x, labels = torch.randn(args.count, channels, height, width), torch.zeros(args.count, dtype=torch.long)
    with torch.inference_mode():
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t, class_labels=labels).sample, t, x).prev_sample
    args.out.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(((x.clamp(-1, 1) + 1) * 127.5).round().byte()[:, 0].numpy()):
        Image.fromarray(picture).save(args.out / f"{i}.png")


if __name__ == "__main__":
    main()
