"""ancestral and PyTorch on this machine, in turn, as a Markdown table.

Needs:   cargo build --release, and a Python with what benches/peer_pytorch.py needs (this script itself needs nothing)
Run:     python3 benches/compare.py --python /path/to/python-with-torch --compile --threads 2

The programs alternate, round by round, so that both see the same minutes of a machine whose clock moves. A time is the
median over rounds of each round's median. PyTorch's is that of its faster variant: eager, with --compile also compiled,
with --channels-last each of them also channels last.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKLOADS = {  # preset, mode, batch size
    "mnist-train": ("mnist", "train", 64),
    "mnist-forward": ("mnist", "forward", 64),
    "mnist-forward-1": ("mnist", "forward", 1),
    "cifar10-train": ("cifar10", "train", 4),
    "cifar10-forward": ("cifar10", "forward", 4),
}
COLUMNS = [
    "workload", "ancestral s", "PyTorch s", "PyTorch / ancestral", "ancestral GFLOP/s", "of peak", "ancestral MB",
    "PyTorch MB",
]  # fmt: skip


def measured(command):
    """The JSON object in the last line of a command's output."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with status {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def median(results, field):
    return statistics.median(result[field] for result in results)


def seconds(value):
    return f"{value:.3f}" if value >= 1 else f"{value:.4f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--seconds", type=float, default=10.0, help="of measurement in each run; default 10")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help=f"default {','.join(WORKLOADS)}")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    parser.add_argument("--channels-last", action="store_true", help="also measure PyTorch with channels last")
    parser.add_argument("--python", default=sys.executable, help="the interpreter with torch; default: this one")
    parser.add_argument("--binary", default="target/release/ancestral", help="default target/release/ancestral")
    args = parser.parse_args()
    workloads = args.workloads.split(",")
    if unknown := [name for name in workloads if name not in WORKLOADS]:
        parser.error(f"--workloads: expected some of {', '.join(WORKLOADS)}, found {', '.join(unknown)}")

    variants = {"eager": []}
    if args.compile:
        variants["compiled"] = ["--compile"]
    if args.channels_last:
        variants |= {f"{name}, channels last": [*flags, "--channels-last"] for name, flags in variants.items()}

    print("| " + " | ".join(COLUMNS) + " |\n|---" + "|--:" * (len(COLUMNS) - 1) + "|")
    for name in workloads:
        preset, mode, batch_size = WORKLOADS[name]
        flags = ["--preset", preset, "--mode", mode, "--batch-size", str(batch_size)]
        flags += ["--threads", str(args.threads), "--seconds", str(args.seconds)]
        ours, theirs = [], {variant: [] for variant in variants}
        for turn in range(args.rounds):
            print(f"{name}: round {turn + 1} of {args.rounds}", file=sys.stderr)
            ours.append(measured([args.binary, "bench", *flags, "--json"]))
            for variant, extra in variants.items():
                theirs[variant].append(measured([args.python, str(HERE / "peer_pytorch.py"), *flags, *extra]))
        best = min(variants, key=lambda variant: median(theirs[variant], "median_s"))
        assert abs(ours[0]["gflop"] / theirs[best][0]["gflop"] - 1) < 1e-3, "the two networks are not the same"
        our_s, their_s = median(ours, "median_s"), median(theirs[best], "median_s")
        memory = [result["peak_mb"] for result in ours if result["peak_mb"] is not None]
        cells = [
            f"{name}, batch {batch_size}",
            seconds(our_s),
            f"{seconds(their_s)} ({best})",
            f"{their_s / our_s:.2f}",
            f"{median(ours, 'gflops'):.1f}",
            f"{100 * median(ours, 'peak_fraction'):.0f} %",
            f"{statistics.median(memory):.0f}" if memory else "unknown",
            f"{median(theirs[best], 'peak_mb'):.0f}",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
    print(f"\n{args.threads} threads, {args.rounds} rounds of {args.seconds:g} s, PyTorch {theirs[best][0]['torch']}")


if __name__ == "__main__":
    main()
