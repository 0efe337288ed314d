"""Writes a folder for `burn --check` and `candle --check`: diffusers' network with random weights, and what it predicts.

Needs:   pip install torch==2.13.0 diffusers==0.42.1
Run:     python benches/peers/check_folder.py FOLDER
"""

import sys
from pathlib import Path

import torch
from diffusers import UNet2DModel
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from peer_pytorch import PRESETS  # noqa: E402  (its folder is the line before)

folder = Path(sys.argv[1])
torch.manual_seed(1)
model = UNet2DModel(**PRESETS["mnist"]).eval()
with torch.inference_mode():
    for parameter in model.parameters():
        if parameter.dim() == 1:  # those of norms are ones and zeros at first, which would hide a mistake
            parameter.add_(0.2 * torch.randn_like(parameter))
    x_t, t = torch.randn(5, 1, 28, 28), torch.tensor([0.0, 1.0, 250.0, 500.0, 999.0])
    output = model(x_t, t).sample
model.save_pretrained(folder / "unet")
save_file({"x_t": x_t, "t": t, "output": output}, folder / "check.safetensors")
