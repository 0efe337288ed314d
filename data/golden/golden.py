"""The golden kit of `ancestral`: checks another diffusion backend against float64 truth. One file, NumPy only.

    import golden
    kit = golden.open("data/golden")
    for case in kit.cases(level="ops"):            # level=None: all; op="conv2d": that op
        case.report(my_backend(case.op, case.attributes, **case.inputs))   # dict of arrays, or None: unsupported
    kit.finish()                                    # totals and verdict; exits 0 pass, 1 fail, 2 incomplete

A backend gets arrays named as in the kit ("x", "norm1.weight", "grad_output") and returns arrays named "output",
"output.x", "grad.x", "taps.conv_in". Every element has its own tolerance, which a correct float32 implementation keeps.

    python golden.py check DIR RESULTS      judges RESULTS/LEVEL/NAME.safetensors or RESULTS/LEVEL/NAME/*.npy
    python golden.py mutants DIR            a table: which known mistakes other tolerances let pass
    python golden.py show CASE.safetensors  what is in a case

`check --help` has more: a level, an op, --forward for backends without gradients, JSON, JUnit, expected failures.
"""

import argparse
import collections
import copy
import functools
import hashlib
import json
import math
import os
import pathlib
import struct
import sys
from xml.etree import ElementTree

import numpy as np

FORMAT = "ancestral golden kit 1"
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}
LOOSE, FAST = "f32, loose functions", "f32, fast algorithm"
FAILURES = ("looks like TF32", "looks like bf16/f16", "FAIL")  # from mild to severe
INCOMPLETE = ("unsupported", "incomplete", "missing")
BITS = {"f32": (23, -126), "f16": (10, -14), "bf16": (7, -126)}  # behind the point, and the least exponent
LARGEST = {"f32": float(np.finfo(np.float32).max), "f16": 65504.0, "bf16": float(np.finfo(np.float32).max)}
OUTCOMES = ("PASS", "FAIL", "INCOMPLETE")  # by exit status
SINGLE = ("linear", "conv2d", "conv_transpose2d")  # one product, whose K is known
PRODUCTS = (*SINGLE, "attention", "res_block", "attention_block", "classifier_block")
PRODUCTS += ("dit_embedding", "dit_block", "unet", "dit", "training")
ELEMENTARY = ("exp", "sigmoid", "tanh", "ln", "sin", "cos")  # functions alone: their budgets are all that they may be off by
# Operations with functions, roots or quotients: what not every device rounds as IEEE 754 says.
FUNCTIONS = (*ELEMENTARY, "silu", "gelu", "gelu_tanh", "softmax", "group_norm", "layer_norm")
FUNCTIONS += ("cross_entropy", "time_embedding", "positions", "oracle", "variational_bound", "hybrid_loss", *PRODUCTS[3:])
LOOSE_UNITS = 4.0  # tolerances that functions of some 8 ulp cost
LOOSE_OF_EXPONENT = 1.2  # tolerances for each unit of the exponent: e^a of 2 |a| ulp
FAST_UNITS = {"f32": 8.0}  # of a tensor's largest tolerance, in half formats 1: an error of the size of the largest term
# Relative errors of products: below the least they are float32's, beyond the most no precision's.
LEAST, MOST, MOST_OF_A_LOSS = 5e-5, 0.1, 3e-4
# TF32's, from which on they are bfloat16's: of one product, of training, of the two of an attention, and of many in a row.
TF32_MOST = dict.fromkeys((*SINGLE, "training"), 9e-4) | {"attention": 1e-3}
TF32_MOST_OF_MANY = 6e-4
# Scatter: inputs in bfloat16 have 2.3e-3, sums of c terms in bfloat16 1.2e-3 sqrt(c). One of K terms that was left out is 1/sqrt(K).
MOST_OF_ONE_PRODUCT, MOST_OF_SUMS = 6e-3, 2.4e-3
ODD = 1 / 16  # of a half format's numbers at least: half of many have the last bit set, of a few by chance less
COARSE, MANY = 4096, 32  # ulp of the largest number, of which so many numbers are all multiples: that is a fixed point
NEAR_IN_BITS = 0.3  # of numbers that themselves have so few bits, as sums in bfloat16 have
TRAINS = ("gradients", "optimizer", "training")  # levels that are not asked of a backend that only predicts
FEW, FEW_OF_ONE_PRODUCT = 8, 5  # elements: fewer say nothing about how errors are spread
TINY = float(np.finfo(np.float32).tiny)  # what is smaller may be flushed to zero
# Known mistakes that are precisions. Inputs of usual size are the same numbers in TF32 and in f16: the first that fits.
INPUTS = {"tf32_inputs": FAILURES[0], "f16_inputs": FAILURES[1], "bf16_inputs": FAILURES[1]}


class GoldenError(Exception):
    """A kit or a result that cannot be read: what, where, and what to do."""


def read_safetensors(path):
    """The tensors and the metadata of a file."""
    data = pathlib.Path(path).read_bytes()
    try:
        (size,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + size])
        metadata = header.pop("__metadata__", {})
        tensors = {}
        for name, entry in header.items():
            start, end = (8 + size + offset for offset in entry["data_offsets"])
            if end > len(data):
                raise ValueError("it is cut off")
            tensors[name] = np.frombuffer(data[start:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    except KeyError as error:
        raise GoldenError(f"{path}: {error} is unknown here; save {', '.join(DTYPES)}, half formats as F32") from None
    except (ValueError, struct.error, RecursionError) as error:
        raise GoldenError(f"{path}: not a safetensors file ({error}); write it again") from None
    return tensors, metadata


def write_safetensors(path, tensors, metadata=None):
    """Writes a file; metadata has to be text."""
    codes = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
    header, blobs, offset = {"__metadata__": metadata} if metadata else {}, [], 0
    for name, array in tensors.items():
        array = np.asarray(array, order="C")
        if array.dtype not in codes:
            raise GoldenError(f"{path}: {name} is {array.dtype}; return one of {', '.join(map(str, codes))}")
        end = offset + array.nbytes
        header[name] = {"dtype": codes[array.dtype], "shape": array.shape, "data_offsets": [offset, end]}
        blobs.append(array.tobytes())
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def as_written(x):
    """An array of a dtype that every reader knows: float16 and other floats as float32."""
    x = np.asarray(x)
    return x if x.dtype in (np.float32, np.float64, np.int64) else x.astype(np.int64 if x.dtype.kind in "iub" else np.float32)


def checked_bytes(path, sha256):
    if not path.is_file():
        raise GoldenError(f"{path}: is missing; get the kit again")
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise GoldenError(f"{path}: its SHA-256 is not the kit's: it was changed or damaged; get the kit again")
    return path.read_bytes()


# --- Judgement ---


def ulp(x, dtype="f32"):
    """The unit in the last place at x."""
    bits, least = BITS[dtype]
    exponent = np.where(x == 0, least, np.frexp(np.abs(x).astype(np.float64))[1] - 1)
    return np.ldexp(1.0, np.maximum(exponent, least) - bits)


def distance(r, truth):
    """|r - truth|: 0 where both are the same infinity or NaN, infinite where only one is finite."""
    error = np.abs(r - truth)
    same = (r == truth) | (np.isnan(r) & np.isnan(truth))
    return np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))


def in_units(error, unit):
    """error / unit, where 0 / 0 is 0 and inf / inf is 1: float32 may overflow where the tolerance says so."""
    ratio = np.where(error == 0, 0.0, np.where(error <= unit, np.fmin(error / unit, 1), error / unit))
    return np.where(np.isnan(ratio), np.inf, ratio)


def same_bits(r, expected):
    return r.shape == expected.shape and r.tobytes() == expected.astype(np.float64).tobytes()


def half_of(x, slack=0.0):
    """The half format that holds all numbers, but for a slack, or None."""
    for dtype in ("bf16", "f16"):
        unit = ulp(x, dtype)
        if (np.abs(np.round(x / unit) * unit - x) <= slack).all() and (np.abs(x) <= LARGEST[dtype]).all():
            return dtype
    return None


class Comparison:
    """One result beside the truth."""

    def __init__(self, name, stored, metadata, found):
        self.name, self.op, self.found = name, metadata["op"], found
        self.dtype = metadata.get("dtype", "f32")
        self.truth, self.tol = stored[name], stored[f"tol.{name}"]
        self.stored, self.groups = stored, json.loads(metadata.get("attributes", "{}")).get("groups", 1)
        self.error = distance(found, self.truth)
        # Where the format has no such number, infinity is right, and the largest number of the same sign.
        beyond, overflows = np.isinf(self.tol), (np.abs(found) >= LARGEST[self.dtype]) & (found * self.truth > 0)
        self.error = np.where(beyond, np.where(overflows, 0.0, np.inf), self.error)
        self.tol = np.where(beyond, 1.0, self.tol)
        self.ratio = in_units(self.error, self.tol)
        self.largest = self.ratio.max(initial=0)
        # float32 cannot hold every truth (uniforms): the truth itself is exact, too.
        self.exact = same_bits(found, stored[f"bits.{name}"]) or same_bits(found, self.truth)
        self.right = self.largest <= 1 or self.exact
        self.first = np.zeros_like(self.truth)

    def starts_from(self, weights):
        """Of a trained weight what counts is by how much it was moved, from its first value: the weight itself says nothing."""
        if self.name.startswith(("output.weight.", "output.ema.")):
            self.first = weights.get(self.name.split(".", 2)[2])

    def tells(self):
        """Whether it says how errors are spread: it has some numbers, and they are not zero in truth."""
        few = FEW_OF_ONE_PRODUCT if self.op in SINGLE else FEW
        return self.truth.size >= few and np.square(self.truth).sum() > np.square(self.tol).sum()

    def is_loose(self):
        """Whether functions within their budgets explain the error."""
        if self.op not in FUNCTIONS:
            return False
        within = self.error <= (1.0 if self.op in ELEMENTARY else LOOSE_UNITS) * self.tol
        if "input.x" in self.stored and self.stored["input.x"].shape == self.truth.shape:
            within |= self.error <= budget(self.op, self.stored["input.x"].astype(np.float64), self.truth, self.tol)
        return bool(within.all())

    def is_fast(self):
        """Whether no error is larger than those of the largest terms, as sums of transformed inputs have them."""
        finite = self.tol[np.isfinite(self.tol)]
        within = (self.error <= FAST_UNITS.get(self.dtype, 1.0) * finite.max(initial=0)).all()
        # The tolerances of an embedding of times differ by their angles, not by the size of terms.
        return self.op in PRODUCTS and self.op != "dit_embedding" and not self.is_scaled() and bool(within)

    def is_scaled(self):
        """Whether the error is the truth times something: no rounding does that to many numbers."""
        e, y = self.found - self.truth, self.truth - (0.0 if self.first is None else self.first)
        dot, energies = (e * y).sum(), np.square(e).sum() * np.square(y).sum()
        return bool(dot * dot >= (0.25 if self.truth.size >= FEW else 0.99) * energies)

    def is_near(self, limit):
        """Whether the error is at most this part of what was computed."""
        if self.first is None:
            return False
        return bool(np.square(self.found - self.truth).sum() <= limit**2 * np.square(self.truth - self.first).sum())

    def rounded(self):
        """Its numbers, before a bias was added or after, and the half format that holds them all, or None. Integers and zeros are
        numbers of every precision: then nothing is told."""
        # A weight that never moved has the bits that it had before.
        if self.first is None or half_of(self.truth) or self.first.any() and half_of(self.first):
            return None
        if np.square(self.found - self.truth).sum() > NEAR_IN_BITS**2 * np.square(self.truth).sum():
            return None
        ways = [(self.found, 0.0)]
        if self.op in SINGLE and self.name == "output" and "input.bias" in self.stored:
            bias = self.stored["input.bias"]
            bias = bias if self.op == "linear" else bias.reshape(-1, *[1] * (self.found.ndim - 2))
            ways += [(self.found - bias, 0.5 * ulp(self.found))]
        return next(((x, half) for x, slack in ways if (half := half_of(x, slack))), None)

    def last_bits(self):
        """Of its wrong numbers whether each has the last bit of its half format set, and whether it is small."""
        x, half = self.rounded()
        counted = (self.error > self.tol) & (x != 0)
        odd, small = np.round(x / ulp(x, half)) % 2 == 1, np.abs(x) <= np.abs(x).max() / 2
        return odd[counted], small[counted]

    def is_of_fixed_point(self):
        """Whether all numbers are multiples of one coarse step: inputs of few bits leave finer ones, if there are many."""
        return self.found.size >= MANY and bool((self.found % (COARSE * ulp(np.abs(self.found).max())) == 0).all())

    def size_of_noise(self):
        """The relative error of products of rounded inputs, or None: the error has another size or another pattern."""
        e, nonzero = self.found - self.truth, np.abs(self.truth) > self.tol
        wrong = (self.error > self.tol).sum()
        # What Adam divides by hides the errors of most weights, and shows those of few.
        if not self.is_near(MOST) or 4 * wrong < nonzero.sum() and self.op != "training" or self.is_of_fixed_point():
            return None
        # Inputs that were cut off make all sums smaller, and never larger; what is left scatters, as the truth times a number
        # does not.
        computed = self.truth - self.first
        energy, dot, size = np.square(e).sum(), (e * computed).sum(), np.square(computed).sum()
        rest = max(energy - dot * dot / size, 0.0)
        grown = self.name.startswith("taps.") and dot > 0 and dot * dot >= 0.5 * energy * size
        if grown or rest < (0.02 if e.size >= 16 else 0.001) * energy:
            return None
        if self.op in SINGLE:
            # The tolerance of a sum is 2 u sqrt(K (sum (a b)^2 + y^2)) and half an ulp: the sum of (a b)^2 is what scatters.
            squares = np.square((self.tol - 0.5 * ulp(self.truth) - TINY) / 2.0**-23) / terms(self) - np.square(self.truth)
            size = np.maximum(squares, 0.0).sum()
        of_all, scatter = (math.sqrt(part / size) if size > 0 else math.inf for part in (energy, rest))
        most = MOST
        if self.op in SINGLE:
            # Sums in bfloat16 are numbers of it, but where a kernel's taps add up what the channels gave.
            spread = self.name == {"conv2d": "grad.x", "conv_transpose2d": "output"}.get(self.op)
            channels = terms(self) / math.prod(self.stored["input.weight"].shape[2:]) if spread else 0
            most = max(MOST_OF_ONE_PRODUCT, min(MOST_OF_SUMS * math.sqrt(channels), MOST))
        return scatter if LEAST <= of_all <= MOST and scatter <= most else None


def terms(c):
    """How many products a result of `linear` or a convolution sums up."""
    weight, output = c.stored["input.weight"].shape, c.stored["output"]
    first, last = weight[0] // c.groups * math.prod(weight[2:]), math.prod(weight[1:])
    if c.op == "conv_transpose2d":
        rows = {"grad.weight": c.stored["input.x"].size // weight[0]}.get(c.name, output.size // output.shape[1])
        return {"output": first, "grad.x": last}.get(c.name, rows)
    return {"output": last, "grad.x": first}.get(c.name, output.size // weight[0])


def budget(op, x, truth, tol):
    """What mature functions of x may be off by. In ulp, after the largest that OpenCL, Vulkan, Metal, CUDA and WGSL allow:
    exp 3 + 2 |x|, ln 4 (and 2^-21 for x in [1/2, 2]), sin and cos 4, tanh 5, sigmoid 10 + 4 |x| for x < 0. Where an
    exponential is inside, the tolerance grows with its exponent."""
    below = {"sigmoid": x, "silu": x, "gelu_tanh": 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)}
    if op == "softmax":
        below["softmax"] = x - x.max(axis=-1, keepdims=True)
    exponent = np.maximum(-below[op], 0.0) if op in below else np.abs(x)
    flat = {"ln": 4.0, "sin": 4.0, "cos": 4.0, "tanh": 5.0}
    if op in flat:
        near_one = (x >= 0.5) & (x <= 2) if op == "ln" else False
        return np.where(near_one, np.maximum(4 * ulp(truth), 2.0**-21), flat[op] * ulp(truth)) + TINY
    if op in ("exp", "sigmoid"):
        return ({"exp": 3.0, "sigmoid": 10.0}[op] + {"exp": 2.0, "sigmoid": 4.0}[op] * exponent) * ulp(truth) + TINY
    return (LOOSE_UNITS + LOOSE_OF_EXPONENT * exponent) * tol if op in below else np.zeros_like(truth)


def precision(op, comparisons, wrong):
    """The member of FAILURES that a case's wrong tensors look like: a precision only if they agree on it."""
    if op == "training":
        # A precision is there from the first gradient on, and hardly in the loss, in which errors of both signs add up.
        loss, norm = map({c.name: c for c in wrong}.get, ("output.loss", "output.grad_norm"))
        if not (loss and norm and norm.ratio.flat[0] > 1 and norm.is_near(MOST)):
            return "FAIL"
        if not loss.is_near(MOST_OF_A_LOSS) and loss.rounded() is None:
            return "FAIL"
        wrong = [c for c in wrong if c not in (loss, norm)] or wrong
    # Of a traced network the first wrong tensor tells: what follows has its errors mixed.
    traced = wrong[0].name.startswith("taps.")
    telling = [c for c in (wrong[:1] if traced else wrong) if c.tells()]
    if not telling:
        return "FAIL"
    rounded = [c.rounded() is not None for c in telling]
    sizes = [c.size_of_noise() if op in PRODUCTS else None for c in telling]
    # Of many, few may have another pattern by chance.
    others = [c for c, size, few in zip(telling, sizes, rounded) if size is None and not few]
    if 5 * len(others) > len(telling) or not all(c.is_near(2 * MOST) for c in others):
        return "FAIL"
    if 2 * sum(rounded) > len(rounded):
        return FAILURES[1] if have_last_bits([c for c, few in zip(telling, rounded) if few]) else "FAIL"
    if op not in (*SINGLE, "training") and not traced:
        # Rounded products leave nothing as it was.
        asked = [c for c in comparisons if c.tells()]
        if 4 * len(telling) < 3 * len(asked):
            return "FAIL"
    # One product has the precision's own error; of many in a row, those have it that the fewest came before, and of what was
    # trained those in the middle.
    sizes = sorted(size for size in sizes if size is not None)
    size = sizes[-1 if op in SINGLE else len(sizes) // 2 if op == "training" else 0]
    return FAILURES[0] if size <= TF32_MOST.get(op, TF32_MOST_OF_MANY) else FAILURES[1]


def have_last_bits(comparisons):
    """Whether numbers have all bits of their half format: every other one has the last bit set, and of numbers with a coarser
    step, as integers are, no small one."""
    odd, small = (np.concatenate(parts) for parts in zip(*(c.last_bits() for c in comparisons)))
    odd = odd[small] if small.sum() >= FEW else odd
    return odd.size < FEW_OF_ONE_PRODUCT or bool(odd.sum() >= ODD * odd.size)


def first_weights(metadata, folder):
    """The weights that a case of training starts from, by name; none where its folder is not known."""
    if metadata["op"] != "training" or folder is None:
        return {}
    model = pathlib.Path(folder) / json.loads(metadata["attributes"])["model"] / "diffusion_pytorch_model.safetensors"
    return {name: w.astype(np.float64) for name, w in read_safetensors(model)[0].items()} if model.is_file() else {}


class Verdict:
    """What `judge` finds: `name`, the largest error `ratio` in units of its tolerance, its `place`, what was `expected` and
    `found` there, and a `note`."""

    def __init__(self, name, ratio=0.0, place="", note=""):
        self.name, self.ratio, self.place, self.note = name, ratio, place, note
        self.expected = self.found = None

    def passes(self):
        return self.name not in FAILURES + INCOMPLETE

    def __str__(self):
        return f"{self.name:20}{self.place}{'  ' if self.place and self.note else ''}{self.note}"


@np.errstate(all="ignore")
def judge(stored, metadata, results, forward=False, folder=None):
    """The verdict on `results` by the tensors and the metadata of a case's file; `forward` asks for no gradients. In the
    `folder` of the case is the model that it names: what training starts from."""
    order = [name for name in json.loads(metadata["order"]) if not (forward and name.startswith("grad."))]
    results = {name: np.asarray(x, np.float64) for name, x in results.items()}
    absent = [name for name in order if name not in results and not name.startswith("taps.")]
    judged = [name for name in order if name in results]
    for name in judged:
        if results[name].shape != stored[name].shape:
            note = f"{name} has shape {results[name].shape}, expected {stored[name].shape}"
            return Verdict("FAIL", math.inf, note=note)

    comparisons = [Comparison(name, stored, metadata, results[name]) for name in judged]
    wrong = [c for c in comparisons if not c.right]
    dtype = metadata.get("dtype", "f32")
    verdict = Verdict("exact" if all(c.exact for c in comparisons) else f"within {dtype}")
    if judged:
        worst = max(comparisons, key=lambda c: c.largest)
        verdict.ratio, verdict.place = worst.largest, place(worst.name, worst.ratio, worst.error, worst.truth, dtype)
        if worst.ratio.size:
            at = np.unravel_index(worst.ratio.argmax(), worst.ratio.shape)
            verdict.expected, verdict.found = float(worst.truth[at]), float(worst.found[at])
    notes = [f"no {', '.join(absent)}"] if absent else []
    unknown = sorted(results.keys() - set(json.loads(metadata["order"])))
    if unknown:
        notes.append(f"no result of this case: {', '.join(unknown)}")
    if wrong:
        start = first_weights(metadata, folder)
        for c in comparisons:
            c.starts_from(start)
        mistake = known_mistake(stored, metadata, comparisons)
        if mistake:
            notes.append(f"this is what the mistake `{mistake}` gives")
            verdict.name = INPUTS.get(mistake, "FAIL")
        elif dtype == "f32" and all(c.is_loose() for c in wrong):  # what is loose, or of fewer digits, is told apart in float32 alone
            verdict.name = LOOSE
        elif all(c.is_fast() for c in wrong):
            verdict.name = FAST
        else:
            verdict.name = precision(metadata["op"], comparisons, wrong) if dtype == "f32" else "FAIL"
        if any(name.startswith("taps.") for name in judged):
            notes.append(f"first wrong: {wrong[0].name}")
    if absent and verdict.passes():
        verdict.name = "incomplete"
    verdict.note = "; ".join(notes)
    return verdict


def place(name, ratios, errors, truth, dtype):
    if not ratios.size:
        return f"{name} is empty"
    at = np.unravel_index(ratios.argmax(), ratios.shape)
    error, value = float(errors[at]), abs(float(truth[at]))
    relative = error / value if value else math.inf if error else 0.0
    index = f"[{','.join(map(str, at))}]" if at else ""
    return f"{ratios[at]:9.3g} tol {error / ulp(truth[at], dtype):9.3g} ulp {relative:9.2e} rel  {name}{index}"


def mutants(stored):
    """The known mistakes of a case, by name: {name: {truth tensor: what the mistake gives}}."""
    found = collections.defaultdict(dict)
    for key in sorted(key for key in stored if key.startswith("mutant.")):
        _, mistake, tensor = key.split(".", 2)
        found[mistake][tensor] = stored[key]
    return found


def known_mistake(stored, metadata, comparisons):
    """The first mistake whose values the results have, those that it does not change being right, in a half format the only
    one; or None. Of a mistake that changes much the smallest results are stored; the others are named by how they start in
    `partial`."""
    partial = json.loads(metadata.get("partial", "{}"))

    def fits(c, mistake, mutant):
        if c.name not in mutant:
            return c.right or c.name.startswith(tuple(partial.get(mistake, ())))
        m = mutant[c.name].astype(np.float64)  # of another size than the truth: its own rounding counts, too
        return (distance(c.found, m) <= c.tol + ulp(m, c.dtype) + 4 * 2.0 ** -BITS[c.dtype][0] * np.abs(m)).all()

    names = sorted(mutants(stored).items(), key=lambda item: list(INPUTS).index(item[0]) if item[0] in INPUTS else -1)
    fitting = [mistake for mistake, m in names if all(fits(c, mistake, m) for c in comparisons)]
    # Few digits may be those of several mistakes: then none of them is known.
    return fitting[0] if len(fitting) == 1 or fitting and comparisons[0].dtype == "f32" else None


# --- The kit ---


def strided(x):
    """x as a view of every second number of an array that holds NaN between them."""
    if not x.ndim:
        return x.copy()
    wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan if x.dtype.kind == "f" else -1, x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


class Case:
    """One case: `id`, `op`, `level`, `attributes`, `inputs`; `report` takes what the backend computed."""

    def __init__(self, kit, entry):
        self.kit, self.entry = kit, entry
        self.id, self.op, self.level = entry["id"], entry["op"], entry["level"]
        self.path = kit.folder / entry["path"]

    @functools.cached_property
    def attributes(self):
        attributes = copy.deepcopy(self.entry["attributes"])
        if "model" in attributes:  # a folder named relative to the case
            attributes["model"] = os.path.normpath(self.path.parent / attributes["model"])
        return attributes

    @functools.cached_property
    def stored(self):
        """The tensors and the metadata of the case's file."""
        checked_bytes(self.path, self.entry["sha256"])
        return read_safetensors(self.path)

    @property
    def inputs(self):
        kept = (name for name in self.stored[0] if name.startswith("input.") or name == "grad_output")
        given = strided if self.kit.strided else np.copy
        return {name.removeprefix("input."): given(self.stored[0][name]) for name in kept}

    def twice(self, backend):
        """What `backend(op, attributes, **inputs)` returns, once a second call has returned the same bits: a race, or memory that
        nobody filled, gives others."""
        first, second = (backend(self.op, self.attributes, **self.inputs) for _ in range(2))
        first, second = ({name: as_written(x) for name, x in (results or {}).items()} for results in (first, second))
        same = lambda name: name in first and name in second and first[name].tobytes() == second[name].tobytes()
        others = sorted(name for name in first.keys() | second.keys() if not same(name))
        if others:
            raise GoldenError(f"{self.id}: a second call gave other bits of {', '.join(others)}; look for a race")
        return first or None

    def report(self, results, reason="the backend returned None"):
        """Judges the results, prints a line and returns the verdict."""
        if results is not None and not isinstance(results, dict):
            expected = ", ".join(json.loads(self.stored[1]["order"]))
            raise GoldenError(f"{self.id}: found {type(results).__name__}; report a dict of arrays, by name: {expected}")
        if results is None:
            verdict, results, metadata = Verdict("unsupported", note=reason), {}, {"unsupported": reason}
        else:
            results, metadata = {name: as_written(x) for name, x in results.items()}, None
            verdict = self.kit.weigh(self.op, judge(*self.stored, results, self.kit.forward, self.path.parent))
        if self.kit.results:
            write_safetensors(self.kit.results / f"{self.id}.safetensors", results, metadata)
        if self.level == "probes" and "output" in results:
            keys = [key for key in self.stored[0] if key.startswith("order.") and key.endswith(".output")]
            output = results["output"].astype(np.float64)
            equal = [key for key in keys if same_bits(output, self.stored[0][key])]
            self.kit.orders.append({key[len("order.") : -len(".output")] for key in equal})
        self.kit.verdicts[self.id] = verdict
        self.kit.say(f"{self.id:44} {verdict}")
        if verdict.name in FAILURES and verdict.expected is not None:
            self.kit.say(f"    expected {verdict.expected!r}, found {verdict.found!r}")
        self.__dict__.pop("stored", None)  # a kit may be larger than the memory
        return verdict


class Kit:
    def __init__(self, folder, results=None, forward=False, say=print, strided=False):
        self.folder, self.results = pathlib.Path(folder), results and pathlib.Path(results)
        self.forward, self.say, self.strided = forward, say, strided
        sums = self.folder / "SHA256SUMS"
        if not sums.is_file():
            raise GoldenError(f"{sums}: is missing; name a folder that `ancestral golden export` made")
        known = dict(reversed(line.split(maxsplit=1)) for line in sums.read_text().splitlines())
        self.manifest = json.loads(checked_bytes(self.folder / "MANIFEST.json", known.get("MANIFEST.json")))
        if self.manifest["format"] != FORMAT:
            raise GoldenError(f'{self.folder}: format "{self.manifest["format"]}", this golden.py reads "{FORMAT}"')
        ids = [case["id"] for case in self.manifest["cases"]]
        for name in [*ids, *(case["path"] for case in self.manifest["cases"]), *self.manifest["files"]]:
            if pathlib.PurePosixPath(name).is_absolute() or ".." in pathlib.PurePosixPath(name).parts:
                raise GoldenError(f"{self.folder}: {name} leads out of the kit; get the kit again")
        if len(set(ids)) < len(ids):
            raise GoldenError(f"{self.folder}: a case stands there twice; get the kit again")
        for path, sha256 in self.manifest["files"].items():
            checked_bytes(self.folder / path, sha256)
        self.dtype = self.manifest.get("dtype", "f32")
        self.selected, self.verdicts, self.orders, self.short = {}, {}, [], {}
        self.products = []  # verdicts of single products

    def cases(self, level=None, op=None):
        """The cases of a level and of an op, in the kit's order; every one of them has to be reported."""
        entries = self.manifest["cases"]
        for asked, what in ((level, "level"), (op, "op")):
            known = dict.fromkeys(entry[what] for entry in entries)
            if asked is not None and asked not in known:
                raise GoldenError(f'no {what} "{asked}" in {self.folder}; there are {", ".join(known)}')
        for name in self.manifest["levels"] if level is None else [level]:
            count = sum(entry["level"] == name for entry in entries)
            if count < self.manifest["levels"][name]["fewest"]:
                self.short[name] = count
        chosen = [e for e in entries if level in (None, e["level"]) and op in (None, e["op"])]
        chosen = [e for e in chosen if not (self.forward and e["level"] in TRAINS)]
        self.selected |= {entry["id"]: entry for entry in chosen}
        return [Case(self, entry) for entry in chosen]

    def weigh(self, op, verdict):
        """What rounds the inputs of its products does so in single products, too: where those are right, the same errors in what
        is made of products are another mistake."""
        if op in SINGLE:
            self.products += [verdict.name]
        elif verdict.name in FAILURES[:2] and len(self.products) >= 5 and not set(self.products) & set(FAILURES):
            verdict.name = "FAIL"
        return verdict

    def finish(self, exit=True, expected=()):
        """Prints totals and the verdict. Exits with 0 pass, 1 fail, 2 incomplete, or returns that number. Cases in `expected`
        may fail or be left out; one that passes is an error, so that the list does not outlive its reasons."""
        for id in self.selected:
            if id not in self.verdicts:
                self.verdicts[id] = Verdict("missing", note="not reported")
                self.say(f"{id:44} {self.verdicts[id]}")
        names = [self.verdicts[id].name for id in self.selected]
        for name, count in self.short.items():
            self.say(f"level {name}: {count} cases, at least {self.manifest['levels'][name]['fewest']} expected")
        if self.orders:
            same = sorted(set.intersection(*self.orders))
            self.say(f"order of addition: {', '.join(same) if same else 'none of the probed ones'}")
        self.say(", ".join(f"{count} {name}" for name, count in collections.Counter(names).items()) or "no cases")
        unknown = sorted(set(expected) - {case["id"] for case in self.manifest["cases"]})
        if unknown:
            raise GoldenError(f"expected failures that are no cases here: {', '.join(unknown)}; take them out of the list")
        better = [id for id in expected if id in self.selected and self.verdicts[id].passes()]
        if better:
            self.say(f"expected to fail, and right: {', '.join(better)}; take them out of the list")
        names = [self.verdicts[id].name for id in self.selected if id not in expected]
        failed = bool(better) or any(name in FAILURES for name in names)
        incomplete = not self.selected or self.short or any(name in INCOMPLETE for name in names)
        code = 1 if failed else 2 if incomplete else 0
        self.say(OUTCOMES[code])
        if exit:
            sys.exit(code)
        return code


def open(folder, results=None, forward=False, strided=False):  # golden.open, as in gzip.open
    """The kit in a folder; with `results` every reported result is also written there; `forward` asks for no gradients and
    for nothing that trains; `strided` hands inputs over as views that are not contiguous."""
    return Kit(folder, results, forward, strided=strided)


# --- Command line ---


def load_npy(path):
    try:
        return np.load(path).astype(np.float64)
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise GoldenError(f"{path}: not an array of numbers ({error}); write it with numpy.save") from None


def check(args):
    if not os.path.isdir(args.results):
        raise GoldenError(f"{args.results}: no folder; give that in which your backend wrote LEVEL/NAME.safetensors")
    expected = listed(args.expect_fail)
    kit = Kit(args.kit, forward=args.forward, say=(lambda line: None) if args.json else print)
    for case in [case for level in args.level or [None] for op in args.op or [None] for case in kit.cases(level, op)]:
        path = pathlib.Path(args.results) / case.id
        file = path.with_name(path.name + ".safetensors")
        if file.is_file():
            tensors, metadata = read_safetensors(file)
            reason = metadata.get("unsupported")
            case.report(None if reason is not None and not tensors else tensors, reason)
        elif (path / "unsupported").is_file():
            case.report(None, (path / "unsupported").read_text().strip())
        elif path.is_dir():
            case.report({file.name.removesuffix(".npy"): load_npy(file) for file in sorted(path.glob("*.npy"))})
    code = kit.finish(exit=False, expected=expected)
    verdicts = {id: kit.verdicts[id] for id in kit.selected}
    if args.json:
        keys = ("name", "ratio", "expected", "found", "note")
        cases = [{"id": id} | {key: finite(getattr(verdict, key)) for key in keys} for id, verdict in verdicts.items()]
        print(json.dumps({"outcome": OUTCOMES[code].lower(), "cases": cases}))
    if args.junit:
        pathlib.Path(args.junit).write_bytes(junit(verdicts, expected))
    sys.exit(code)


def listed(path):
    """The cases of a list: one a line, with a reason after #."""
    lines = pathlib.Path(path).read_text().splitlines() if path else []
    return list(dict.fromkeys(filter(None, (line.split("#")[0].strip() for line in lines))))


def finite(x):
    """JSON has no infinity."""
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x


def junit(verdicts, expected):
    """A report as CI servers read it: what fails is a failure, what is missing an error, and skipped is what is not supported
    or was expected to fail, which must not pass."""
    suite = ElementTree.Element("testsuite", name="ancestral golden kit", tests=str(len(verdicts)))
    for id, verdict in verdicts.items():
        level, name = id.split("/", 1)
        case = ElementTree.SubElement(suite, "testcase", classname=level, name=name)
        if id in expected and verdict.passes():
            ElementTree.SubElement(case, "failure", message=f"expected to fail, and {verdict.name}")
        elif id in expected:
            ElementTree.SubElement(case, "skipped", message=f"expected: {verdict.name}")
        elif verdict.name in FAILURES:
            said = f"expected {verdict.expected!r}, found {verdict.found!r}; {verdict.place} {verdict.note}"
            ElementTree.SubElement(case, "failure", message=verdict.name).text = said
        elif verdict.name in INCOMPLETE:
            kind = "skipped" if verdict.name == "unsupported" else "error"
            ElementTree.SubElement(case, kind, message=f"{verdict.name} {verdict.note}")
    for kind in ("failure", "error"):
        suite.set(f"{kind}s", str(sum(case.find(kind) is not None for case in suite)))
    return ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)


@np.errstate(all="ignore")
def accepts(results, stored, rtol, atol):
    """torch.testing.assert_close and numpy.testing.assert_allclose: |r - truth| <= atol + rtol |truth|."""
    return all((distance(r, stored[k]) <= atol + rtol * np.abs(stored[k])).all() for k, r in results.items())


def show_mutants(folder):
    """A markdown table: which mistakes, and as a control which correct results, three judges accept."""
    usual = {"assert_close (1.3e-6, 1e-5)": (1.3e-6, 1e-5), "assert_allclose (1e-3)": (1e-3, 0.0)}
    accepted = {"known mistakes": [], "single gradients x 1.0005": [], "correct results": []}
    print("| case | mistake | error / tolerance | " + " | ".join([*usual, "this kit"]) + " |\n|" + "---|" * 6)
    for case in open(folder).cases():
        stored, metadata = case.stored
        order = json.loads(metadata["order"])
        # Where the tolerance is 0 float32 may be too small for the truth itself.
        correct = {name: stored[f"bits.{name}" if stored[f"tol.{name}"].any() else name] for name in order}
        for mistake, tensors in {None: {}, **mutants(stored)}.items():
            results = correct | tensors
            verdict = judge(stored, metadata, results)
            row = [accepts(results, stored, *limits) for limits in usual.values()] + [verdict.name not in FAILURES]
            accepted["known mistakes" if mistake else "correct results"].append(row)
            if mistake:
                words = " | ".join("accepts" if accepts else "rejects" for accepts in row)
                print(f"| {case.id} | {mistake} | {verdict.ratio:.3g} | {words} |")
        for name in (name for name in order if name.startswith("grad.")):
            scaled = {name: 1.0005 * stored[name]}
            row = [accepts(scaled, stored, *limits) for limits in usual.values()]
            row.append((np.abs(0.0005 * stored[name]) <= stored[f"tol.{name}"]).all())
            accepted["single gradients x 1.0005"].append(row)
    for what, rows in accepted.items():
        print(f"| {len(rows)} {what}, accepted | | | " + " | ".join(str(sum(column)) for column in zip(*rows)) + " |")


def show(path):
    tensors, metadata = read_safetensors(path)
    for key, value in metadata.items():
        print(f"{key}: {value}")
    for name, x in tensors.items():
        ends = f"{x.min():.6g} to {x.max():.6g}" if x.size else ""
        print(f"{name:44} {x.dtype!s:8} {x.shape!s:20} {ends}")


def main():
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="golden.py", description=__doc__, formatter_class=about)
    commands = parser.add_subparsers(dest="command", required=True)
    of_check = commands.add_parser("check", help="judge what a backend computed")
    of_check.add_argument("kit", metavar="DIR", help="the kit")
    of_check.add_argument("results", metavar="RESULTS", help="LEVEL/NAME.safetensors or LEVEL/NAME/*.npy for each case")
    of_check.add_argument("--level", action="append", help="only this level; may be repeated")
    of_check.add_argument("--op", action="append", help="only this operation; may be repeated")
    of_check.add_argument("--forward", action="store_true", help="ask for no gradients and for nothing that trains")
    of_check.add_argument("--json", action="store_true", help="print one JSON object")
    of_check.add_argument("--junit", metavar="FILE", help="also write a report that CI servers read")
    of_check.add_argument("--expect-fail", metavar="FILE", help="cases that may fail, LEVEL/NAME one a line, # starts a reason")
    of_mutants = commands.add_parser("mutants", help="which known mistakes other tolerances let pass")
    of_mutants.add_argument("kit", metavar="DIR", help="the kit")
    of_show = commands.add_parser("show", help="what is in a case")
    of_show.add_argument("case", metavar="CASE.safetensors", help="the case")
    args = parser.parse_args()
    runs = {"check": check, "mutants": lambda args: show_mutants(args.kit), "show": lambda args: show(args.case)}
    try:
        runs[args.command](args)
    except (GoldenError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
