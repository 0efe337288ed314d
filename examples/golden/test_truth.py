"""The kit's float64 truth against two other sources, NumPy and, where it is installed, PyTorch in float64:

    python test_truth.py data/golden

Prints one line for each case with the largest difference of each source in units of the tolerance, in which float32 errors are
near 1 and float64 errors near 1e-9. Exits 1 above 1e-5, and where NumPy leaves out a tensor, which it does nowhere.
"""

import json
import sys

import numpy as np

import numpy_backend

sys.path.append(sys.argv[1])  # golden.py is part of the kit
import golden

try:
    import pytorch_backend
    import torch
except ImportError:
    torch = None

LIMIT = 1e-5


def numpy_results(case):
    return numpy_backend.run(case.op, case.attributes, case.inputs, np.float64)


def pytorch_results(case):
    return pytorch_backend.backend(case.op, case.attributes, torch.float64, **case.inputs) if torch else None


def main(folder):
    failed, covered = 0, {"numpy": 0, "pytorch": 0}
    cases = golden.open(folder).cases()
    for case in cases:
        stored, metadata = case.stored
        columns, known = [], {}
        for name, source in (("numpy", numpy_results), ("pytorch", pytorch_results)):
            results = source(case) or {}
            ratios = {key: largest(results[key], stored[key], stored[f"tol.{key}"]) for key in results.keys() & stored.keys()}
            worst = max(ratios, key=ratios.get, default="-")
            known[name] = ratios.keys()
            covered[name] += bool(ratios)
            columns.append(f"{name} {ratios.get(worst, 0):8.1e} {worst:36}")
            failed += any(not ratio <= LIMIT for ratio in ratios.values())
        unknown = set(json.loads(metadata["order"])) - known["numpy"]
        failed += bool(unknown)
        print(f"{case.id:40} {' '.join(columns)} {'left out: ' + ', '.join(unknown) if unknown else ''}".rstrip())
        del case.stored
    print(f"{len(cases)} cases, {covered['numpy']} by NumPy, {covered['pytorch']} by PyTorch, {failed} failed")
    return 1 if failed else 0


def largest(x, truth, tol):
    return golden.in_units(golden.distance(x.astype(np.float64), truth), tol).max(initial=0)


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        sys.exit(main(sys.argv[1]))
