"""ancestral and its peers on this machine, in turn, as a Markdown table.

Needs:   cargo build --release, and a Python with what benches/peer_pytorch.py needs (this script itself needs nothing);
         for --rust-peers also: cargo build --release in benches/peers
Run:     python3 benches/compare.py --python /path/to/python-with-torch --compile --rust-peers --threads 2
         python3 benches/compare.py --onnx-peers --workloads mnist-forward,dit-s-2-forward-1 (needs what benches/peer_onnx.py does)
         python3 benches/compare.py --rounds 1 --seconds 0 --workloads sample-1,sample-64 (minutes)
         python3 benches/compare.py --processes data/models/digits (benches/peer_sample.py)

The programs alternate, round by round, so that all see the same minutes of a machine whose clock moves. A time is the
median over rounds of each round's median. PyTorch's is that of its faster variant: eager, with --compile also compiled,
with --channels-last each of them also channels last. A ratio is the peer's time over ours; MB are of the whole process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKLOADS = {  # preset, mode, batch size
    "mnist-train": ("mnist", "train", 64),
    "mnist-forward": ("mnist", "forward", 64),
    "mnist-forward-1": ("mnist", "forward", 1),
    "cifar10-train": ("cifar10", "train", 4),
    "cifar10-forward": ("cifar10", "forward", 4),
    "dit-s-2-train": ("dit-s-2", "train", 8),
    "dit-s-2-forward": ("dit-s-2", "forward", 16),
    "dit-s-2-forward-1": ("dit-s-2", "forward", 1),
    "sample-1": ("mnist", "sample", 1),
    "sample-64": ("mnist", "sample", 64),
}
ON_REQUEST = ("sample-1", "sample-64")  # not among the defaults: a chain of 64 digits takes minutes
ONNX_PEERS = ("openvino", "onnxruntime")  # for predictions alone
RUST_PEERS = ("burn", "candle")  # which have the network of one preset, and no chain


def measured(command):
    """The JSON object in the last line of a command's output."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with status {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def processes(args):
    """Whole processes from the shell, in turn: pictures of class 0 in 50 steps of DDIM, as PNG files."""
    print("| pictures | ancestral s | diffusers s | ratio |\n|--:|--:|--:|--:|")
    for count in (1, 16):
        with tempfile.TemporaryDirectory() as folder:
            ours = [args.binary, "sample", "--sampler", "ddim", "--class", "0", "--guidance", "1"]
            ours += ["--singles", f"{folder}/ours", "--out", f"{folder}/ours.png"]
            theirs = [args.python, str(HERE / "peer_sample.py"), "--out", f"{folder}/theirs"]
            both = ["--model", args.processes, "--count", str(count), "--steps", "50", "--threads", str(args.threads)]
            times = ([], [])
            for _ in range(args.rounds):
                for command, taken in zip((ours, theirs), times):
                    start = time.perf_counter()
                    subprocess.run([*command, *both], check=True, capture_output=True)
                    taken.append(time.perf_counter() - start)
        a, b = map(statistics.median, times)
        print(f"| {count} | {seconds(a)} | {seconds(b)} | {b / a:.1f} |", flush=True)


def median(results, field):
    return statistics.median(result[field] for result in results)


def seconds(value):
    return f"{value:.3f}" if value >= 1 else f"{value:.4f}"


def megabytes(results):
    known = [result["peak_mb"] for result in results if result["peak_mb"] is not None]
    return f"{statistics.median(known):.0f}" if known else "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--seconds", type=float, default=10.0, help="of measurement in each run; default 10")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all")
    default = ",".join(name for name in WORKLOADS if name not in ON_REQUEST)
    parser.add_argument("--workloads", default=default, help=f"default {default}; also {', '.join(ON_REQUEST)}")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    parser.add_argument("--channels-last", action="store_true", help="also measure PyTorch with channels last")
    parser.add_argument("--rust-peers", action="store_true", help="also measure the programs of benches/peers")
    parser.add_argument("--onnx-peers", action="store_true", help="also measure OpenVINO and ONNX Runtime")
    parser.add_argument("--python", default=sys.executable, help="the interpreter with torch; default: this one")
    parser.add_argument("--binary", default="target/release/ancestral", help="default target/release/ancestral")
    parser.add_argument("--processes", metavar="MODEL", help="measure nothing but pictures of this folder, shell to file")
    args = parser.parse_args()
    if args.processes:
        return processes(args)
    workloads = args.workloads.split(",")
    if unknown := [name for name in workloads if name not in WORKLOADS]:
        parser.error(f"--workloads: expected some of {', '.join(WORKLOADS)}, found {', '.join(unknown)}")

    variants = {"eager": []}
    if args.compile:
        variants["compiled"] = ["--compile"]
    if args.channels_last:
        variants |= {f"{name}, channels last": [*flags, "--channels-last"] for name, flags in variants.items()}
    torch = {f"PyTorch {name}": [args.python, str(HERE / "peer_pytorch.py"), *flags] for name, flags in variants.items()}
    rust = {name: [str(HERE / "peers/target/release" / name)] for name in RUST_PEERS if args.rust_peers}

    onnx = [args.python, str(HERE / "peer_onnx.py"), "--engine"]
    onnx = {name: [*onnx, name] for name in ONNX_PEERS if args.onnx_peers}

    columns = ["workload", "ancestral s", "GFLOP/s", "of peak", "MB"]
    for peer in ["PyTorch", *onnx, *rust]:
        columns += [f"{peer} s", "ratio", "MB"]
    print("| " + " | ".join(columns) + " |\n|---" + "|--:" * (len(columns) - 1) + "|")
    versions = set()
    for name in workloads:
        preset, mode, batch_size = WORKLOADS[name]
        flags = ["--mode", mode, "--batch-size", str(batch_size)]
        flags += ["--threads", str(args.threads), "--seconds", str(args.seconds)]
        programs = {"ancestral": [args.binary, "bench", "--json", "--preset", preset]}
        programs |= {peer: [*command, "--preset", preset] for peer, command in torch.items()}
        if mode == "forward":
            programs |= {peer: [*command, "--preset", preset] for peer, command in onnx.items()}
        if preset == "mnist" and mode != "sample":
            programs |= rust
        results = {program: [] for program in programs}
        for turn in range(args.rounds):
            print(f"{name}: round {turn + 1} of {args.rounds}", file=sys.stderr)
            for program, command in programs.items():
                results[program].append(measured([*command, *flags]))
        ours = results.pop("ancestral")
        for program, theirs in results.items():
            same = abs(ours[0]["gflop"] / theirs[0]["gflop"] - 1) < 1e-3
            assert same, f"{program} does not have the same network"
        our_s = median(ours, "median_s")
        cells = [f"{name}, batch {batch_size}", seconds(our_s), f"{median(ours, 'gflops'):.1f}"]
        cells += [f"{100 * median(ours, 'peak_fraction'):.0f} %", megabytes(ours)]
        best = min(torch, key=lambda program: median(results[program], "median_s"))
        for program in [best, *onnx, *rust]:
            if program not in results:
                cells += ["", "", ""]
                continue
            their_s = median(results[program], "median_s")
            which = f" ({program.removeprefix('PyTorch ')})" if program == best else ""
            versions.add("{framework} {version}".format(**results[program][0]))
            cells += [seconds(their_s) + which, f"{their_s / our_s:.2f}", megabytes(results[program])]
        print("| " + " | ".join(cells) + " |", flush=True)
    print(f"\n{args.threads} threads, {args.rounds} rounds of {args.seconds:g} s, {', '.join(sorted(versions))}")


if __name__ == "__main__":
    main()
