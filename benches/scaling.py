"""What an image costs as the work grows: the batch, the threads, the image's side, the channels. As Markdown tables.

Needs:   cargo build --release (this script itself needs nothing but Python)
Run:     python3 benches/scaling.py                      all series, some minutes
         python3 benches/scaling.py --series batch --threads 1,2,4

A cell is milliseconds an image and, in brackets, GFLOP/s. Where the cost were linear in the multiply-adds, GFLOP/s would
be the same down a column. The networks are those of `ancestral bench --preset mnist` with the fields named in SERIES.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

TWO_LEVELS = {  # a side is halved once: 14 is 7, which cannot be halved and doubled again
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
# What grows, its values, and for a value: the batch size and the fields of the model that differ from the preset's.
SERIES = {
    "batch": ([1, 2, 4, 8, 16, 32, 64, 128, 256], lambda batch: (batch, {})),
    "side": (
        [14, 20, 28, 40, 52, 64],
        lambda side: (16, {"sample_size": side, "block_out_channels": [32, 64], **TWO_LEVELS}),
    ),
    "channels": ([16, 32, 64, 128], lambda c: (16, {"block_out_channels": [c, 2 * c, 2 * c]})),
}
MODES = ("train", "forward")


def measured(args, mode, threads, batch_size, model):
    """The JSON object of `ancestral bench` for such a network."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
        json.dump({"model": model}, config)
        config.flush()
        command = [args.binary, "bench", "--json", "--preset", "mnist", "--config", config.name, "--mode", mode]
        command += ["--batch-size", str(batch_size), "--threads", str(threads), "--seconds", str(args.seconds)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nended with status {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", default=",".join(SERIES), help=f"default {','.join(SERIES)}")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, with commas between; default 1,2")
    parser.add_argument("--seconds", type=float, default=2.0, help="of measurement in each run; default 2")
    binary = Path(__file__).resolve().parent.parent / "target/release/ancestral"
    parser.add_argument("--binary", default=str(binary), help="default: that of this folder's project")
    args = parser.parse_args()
    threads = [int(number) for number in args.threads.split(",")]
    for name in args.series.split(","):
        values, setting = SERIES[name]
        columns = [f"{mode}, {n} thread{'s' if n > 1 else ''}" for mode in MODES for n in threads]
        print(f"\n| {name} | GFLOP of a prediction | " + " | ".join(columns) + " |\n|--:" + "|--:" * (1 + len(columns)) + "|")
        for value in values:
            batch_size, model = setting(value)
            cells = []
            for mode in MODES:
                for n in threads:
                    print(f"{name} {value}: {mode}, threads {n}", file=sys.stderr)
                    result = measured(args, mode, n, batch_size, model)
                    cells.append(f"{1e3 * result['median_s'] / batch_size:.2f} ({result['gflops']:.0f})")
            print(f"| {value} | {result['gflop'] / batch_size:.3f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
