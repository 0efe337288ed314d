"""The two judges, golden.py and `ancestral golden check`, on the same results: they have to agree on every verdict.

    python test_judges.py data/golden target/release/ancestral [MORE_RESULTS ...]

Results are the kit's own bits, every known mistake, NumPy's in every precision and every order of numpy_precisions.py, functions and whole
results that are off by some ulp, and folders that are given. Precisions have to be called what they are, and what is right in
another way has to pass. The kit may be the level `sizes` (`ancestral golden export --level sizes`), or of a half format (`--dtype`),
where no precision is told apart.
"""

import collections
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import numpy_backend
import numpy_precisions

kit_path, binary = sys.argv[1], sys.argv[2]
sys.path.append(kit_path)
import golden  # noqa: E402  (golden.py is part of the kit)

OF_PRODUCTS = ("linear", "conv2d", "conv_transpose2d", "attention", "res_block", "attention_block", "classifier_block")
OF_PRODUCTS += ("dit_embedding", "dit_block", "unet", "dit", "training")
OF_ONE_NUMBER = ("silu", "gelu", "gelu_tanh", "sigmoid", "tanh")
PASSES = "a pass"
# Two numbers a weight, or scores of tens to thousands, from which nobody can tell one precision from another; errors that grow from
# product to product.
UNCLEAR = ("ops/linear_k4608", "ops/attention_large_scores", "ops/conv2d_3x3_small_gradients",
           "ops/attention_causal_of_minus_50", "ops/attention_causal_of_minus_20000",
           "blocks/dit_block_1_head", "blocks/dit_block_2_heads", "network/dit_options", "gradients/conditional")


def bits(case):
    return {name: case.stored[0][f"bits.{name}"] for name in json.loads(case.stored[1]["order"])}


def off_by(ulps):
    def results(case):
        rng = np.random.default_rng(ulps)
        truth = {name: case.stored[0][name] for name in bits(case)}
        return {k: (y + rng.choice([-ulps, ulps], y.shape) * golden.ulp(y)).astype(np.float32) for k, y in truth.items()}

    return results


def scaled(factor):
    return lambda case: {name: (factor * x).astype(np.float32) for name, x in bits(case).items()}


def mistaken(number):
    """The known mistake of this number of each case that has so many."""

    def results(case):
        mistakes = list(golden.mutants(case.stored[0]).values())
        return bits(case) | mistakes[number] if number < len(mistakes) else None

    return results


def in_precision(product):
    def results(case):
        return numpy_precisions.run(case.op, case.attributes, case.inputs, product=product) if case.op in OF_PRODUCTS else None

    return results


def in_another_way(chosen):
    return lambda case: numpy_precisions.run(case.op, case.attributes, case.inputs, **chosen)


def without_a_term(case):
    """A term of each sum of a product left out: the last input of the tap in the middle."""
    if case.op not in golden.SINGLE:
        return None
    weight = case.inputs["weight"].copy()
    of_input = weight if case.op == "conv_transpose2d" else weight.swapaxes(0, 1)
    of_input[(-1, slice(None), *(taps // 2 for taps in weight.shape[2:]))] = 0
    results = numpy_backend.run(case.op, case.attributes, case.inputs)
    return results | {"output": numpy_backend.run(case.op, case.attributes, case.inputs | {"weight": weight})["output"]}


def in_whole_numbers(case):
    return {name: np.round(x) for name, x in bits(case).items()} if case.op in OF_ONE_NUMBER else None


def sets():
    """Results of each case, by name, and what precisions are to be called."""
    yield "the contract's bits", bits, None
    yield "NumPy", lambda case: numpy_backend.run(case.op, case.attributes, case.inputs), None
    yield from ((f"{ulps} ulp", off_by(ulps), None) for ulps in (2, 4, 8, 40))
    yield from ((f"times {factor}", scaled(factor), None) for factor in (1.0005, 0.9999, 0.5, float("nan")))
    yield from (("a term left out", without_a_term, "FAIL"), ("whole numbers", in_whole_numbers, "FAIL"))
    yield from ((f"mistake {i}", mistaken(i), None) for i in range(8))
    yield from ((name, in_precision(of), called) for name, (of, called) in numpy_precisions.PRODUCTS.items())
    yield from ((name, in_another_way(chosen), PASSES) for name, chosen in numpy_precisions.VARIANTS.items())


def verdicts(folder):
    """Of both judges: {case: (verdict, mistake)}."""
    found = []
    for command in ([sys.executable, f"{kit_path}/golden.py", "check"], [binary, "golden", "check"]):
        said = subprocess.run([*command, "--json", kit_path, folder], capture_output=True, text=True)
        cases = json.loads(said.stdout)["cases"]
        mistakes = (c["note"].split("`")[1] if "`" in c.get("note", "") else None for c in cases) if "py" in command[1] else (c["mistake"] for c in cases)
        found.append({c["id"]: (c.get("name") or c["verdict"], m) for c, m in zip(cases, mistakes)})
    return found


def main():
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, results, called) in enumerate(sets()):
            kit = golden.open(kit_path, pathlib.Path(folder) / str(number))
            kit.say = lambda line: None
            for case in kit.cases():
                computed = results(case)
                if computed is not None:
                    case.report(computed)
            if not kit.results.is_dir():  # a kit whose cases have fewer mistakes
                continue
            wrong += agree(name, str(kit.results), called if kit.dtype == "f32" or called == PASSES else None)
    for folder in sys.argv[3:]:
        wrong += agree(folder, folder, None)
    return 1 if wrong else 0


def agree(name, folder, called):
    ours, theirs = verdicts(folder)
    differ = [id for id in ours if ours[id] != theirs[id]]
    judged = {id: verdict for id, (verdict, _) in ours.items() if verdict not in golden.INCOMPLETE}
    if called is not None:
        passes = ("within f32", "within f16", "within bf16", "exact", golden.LOOSE, golden.FAST)
        right = passes if called == PASSES else (called,) if called in golden.FAILURES else (called, "within f32", "exact")
        differ += [id for id, verdict in judged.items() if verdict not in right and (id not in UNCLEAR or called == PASSES) and not id.startswith("probes")]
    counts = collections.Counter(judged.values())
    print(f"{'FAIL' if differ else 'ok':5}{name:24}" + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    for id in differ:
        print(f"     {id}: golden.py {ours[id]}, ancestral {theirs[id]}")
    return len(differ)


if __name__ == "__main__":
    sys.exit(main())
