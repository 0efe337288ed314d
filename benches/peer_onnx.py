"""What OpenVINO or ONNX Runtime takes for the predictions that `ancestral bench --mode forward` measures, in float32.

Needs:   pip install torch==2.13.0 diffusers==0.42.1 onnx onnxscript openvino onnxruntime
Run:     python benches/peer_onnx.py --engine openvino --preset dit-s-2 --batch-size 1 --threads 2

The network is that of benches/peer_pytorch.py, exported to ONNX; its output is first compared with PyTorch's. The last line of
output is one JSON object with the fields of `ancestral bench`.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time

import numpy as np
import torch

from peer_pytorch import PRESETS, Prediction, multiply_adds


def openvino(path, threads):
    import openvino as ov

    hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(path, "CPU", hints)
    return lambda x, t: compiled([x, t])[0], ov.__version__.split("-")[0]


def onnxruntime(path, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x, t: session.run(None, {"x": x, "t": t})[0], ort.__version__


ENGINES = {"openvino": openvino, "onnxruntime": onnxruntime}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--preset", choices=PRESETS, default="mnist")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--mode", choices=["forward"], default="forward")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=10.0, help="to measure for, after the warm-up; default 10")
    args = parser.parse_args()

    torch.manual_seed(1)
    model = Prediction(args.preset).eval()
    config = model.model.config
    x = torch.randn(args.batch_size, config.in_channels, config.sample_size, config.sample_size)
    t = torch.full((args.batch_size,), 500)
    flop = 2 * multiply_adds(model, x[:1], t[:1]) * args.batch_size
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = os.path.join(folder, "network.onnx")
        torch.onnx.export(model, (x, t), path, input_names=["x", "t"], dynamo=True, verbose=False)
        run, version = ENGINES[args.engine](path, args.threads)
        expected = model(x, t).numpy()
    inputs = x.numpy(), t.numpy()
    difference = np.abs(run(*inputs) - expected).max()
    assert difference < 1e-4 * np.abs(expected).max(), f"{args.engine} is off by {difference}"
    seconds, start = [], time.perf_counter()
    while len(seconds) < 3 or time.perf_counter() - start < args.seconds:
        before = time.perf_counter()
        run(*inputs)
        seconds.append(time.perf_counter() - before)
    median = statistics.median(seconds)
    result = dict(
        preset=args.preset, mode=args.mode, batch_size=args.batch_size, threads=args.threads, steps=len(seconds),
        median_s=median, min_s=min(seconds), gflop=flop / 1e9, gflops=flop / median / 1e9,
        peak_mb=None, framework=args.engine, version=version,  # memory would be that of the export
    )  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
