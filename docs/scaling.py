"""The model of docs/scaling.md: what a training step of the preset cifar10 takes on many machines.

python3 docs/scaling.py prints its tables; the constants are those measured there."""

from math import ceil, log2

GRADIENT = 4 * 35.7e6  # bytes
MICROBATCH = 1.63  # seconds of one core for four images, forward and backward
UPDATE = 0.07  # seconds of the optimizer
THREADS = 2  # of a rank
LATENCY = 5.2e-6  # seconds of a message
MEASURED = 305e6  # bytes of a sum in a second, without a network: copied and added
HIDDEN = 0.6  # of a microbatch's time lies behind its first final gradients: of three products of a layer two are backward


def received_on_the_way_up(leaves, ranks):
    """The most gradients that one rank receives before the sum stands, by the rule of src/cluster/split.rs."""
    workers = min(leaves, ranks)
    pieces = 4 * workers
    rank_of = lambda leaf: ((leaf + 1) * workers - 1) // leaves
    received = [0] * workers

    def visit(first, end, owner, piece):
        if rank_of(first) == rank_of(end - 1):
            return
        middle = first + ceil((end - first) / 2)
        for half in ((first, middle), (middle, end)):
            low, high = rank_of(half[0]), rank_of(half[1] - 1)
            below = owner if low <= owner <= high else low + piece % (high - low + 1)
            received[owner] += below != owner
            visit(*half, below, piece)

    for piece in range(pieces):
        visit(0, leaves, piece % workers, piece)
    return max(received) / pieces


def step(ranks, batch, bandwidth, threads=THREADS):
    """Seconds of a step, and those of them that the exchange is waited for."""
    leaves = ceil(batch / 4)
    own = ceil(leaves / min(leaves, ranks))
    compute = own * MICROBATCH / threads + UPDATE
    if ranks == 1:
        return compute, 0.0
    piece = min(max(GRADIENT / (2 * ranks), 1 << 14), 1 << 18)
    received = (received_on_the_way_up(leaves, ranks) + 1 - 1 / ranks) * GRADIENT
    exchange = received / bandwidth + 2 * GRADIENT / piece * LATENCY
    busy = received / MEASURED / threads  # copying and adding takes one of the cores meanwhile
    last = min(own, threads) * MICROBATCH / threads
    waits = max(exchange - HIDDEN * last, 0.0) + 2 * ceil(log2(ranks)) * (LATENCY + piece / bandwidth)
    return compute + busy + waits, waits


if __name__ == "__main__":
    counts = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    for name, bandwidth in (("305 MB/s, as measured here", MEASURED), ("110 MB/s, a network of 1 Gbit/s", 110e6)):
        print(f"\n{name}\n\n| batch | 1 rank | " + " | ".join(map(str, counts)) + " |")
        print("|--:" * (len(counts) + 2) + "|")
        for batch in (128, 256, 512, 1024, 2048, 4096):
            alone, _ = step(1, batch, bandwidth)
            cells = []
            for ranks in counts:
                seconds, waits = step(ranks, batch, bandwidth)
                cells.append(f"{alone / seconds:.1f} ({100 * waits / seconds:.0f} %)" if ranks <= batch / 4 else "-")
            print(f"| {batch} | {alone:.0f} s | " + " | ".join(cells) + " |")
