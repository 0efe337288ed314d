"""The NumPy backend with arithmetic of another precision or another order: what the judges have to name, and what they have to let pass.

    run(op, attributes, inputs, product, sum, quotient, flush) -> results, as numpy_backend.run

PRODUCTS has products by name and what they are called, VARIANTS what is right in another way.
"""

import numpy as np

import numpy_backend


def rounded(x, bits, cut=False):
    """float32 numbers with so many bits behind the point: the nearest, ties to even, or cut off."""
    x, dropped = np.asarray(x, np.float32).view(np.uint32), np.uint32(23 - bits)
    if not cut:
        x = x + np.uint32((1 << (22 - bits)) - 1) + ((x >> dropped) & np.uint32(1))
    return (x & ~((np.uint32(1) << dropped) - np.uint32(1))).view(np.float32)


def product(a, b):
    """Rounded once."""
    return np.matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.float32)


def accumulated(a, b, bits=None):
    """One term after another, each sum rounded: to float32, or further."""
    total = np.float32(0)
    for k in range(a.shape[-1]):
        total = total + a[..., :, k : k + 1] * b[..., k : k + 1, :]
        total = total if bits is None else rounded(total, bits)
    return total


def of_parts(a, b, bits, count, pairs):
    """The products of some pairs of parts, the smallest first: a = a_0 + a_1 + ..., each rounded to so few bits."""

    def parts(x):
        for _ in range(count):
            yield rounded(x, bits)
            x = x - rounded(x, bits)

    a, b = list(parts(a)), list(parts(b))
    return sum((product(a[i], b[j]) for i, j in pairs), np.float32(0))


# For each: the product, and what both judges call a backend that has it, where they do not call it right.
PRODUCTS = {
    "TF32": (lambda a, b: product(rounded(a, 10), rounded(b, 10)), "looks like TF32"),
    "TF32, cut off": (lambda a, b: product(rounded(a, 10, True), rounded(b, 10, True)), "looks like TF32"),
    "float16": (lambda a, b: product(a.astype(np.float16), b.astype(np.float16)), "looks like TF32"),
    "bfloat16": (lambda a, b: product(rounded(a, 7), rounded(b, 7)), "looks like bf16/f16"),
    "bfloat16, cut off": (lambda a, b: product(rounded(a, 7, True), rounded(b, 7, True)), "looks like bf16/f16"),
    "bfloat16 on one side": (lambda a, b: product(a, rounded(b, 7)), "looks like bf16/f16"),
    "sums in bfloat16": (lambda a, b: accumulated(a, b, 7), "looks like bf16/f16"),
    "3xTF32": (lambda a, b: of_parts(a, b, 10, 2, [(0, 1), (1, 0), (0, 0)]), "f32, fast algorithm"),
}


def by_halves(x):
    """The sum over the last axis, of the sums of its halves."""
    while x.shape[-1] > 1:
        odd = x[..., -1:] if x.shape[-1] % 2 else x[..., :0]
        x = np.concatenate([x[..., : x.shape[-1] // 2] + x[..., x.shape[-1] // 2 : x.shape[-1] // 2 * 2], odd], axis=-1)
    return x[..., 0]


def compensated(x):
    """Kahan 1965: what a sum's rounding drops is taken off the next term."""
    total, dropped = np.zeros(x.shape[:-1], np.float32), np.float32(0)
    for k in range(x.shape[-1]):
        term = x[..., k] - dropped
        new = total + term
        total, dropped = new, (new - total) - term
    return total


def in_lanes(x, lanes=8):
    """Every so manyth number one after another, and then their sums."""
    whole = x[..., : x.shape[-1] // lanes * lanes].reshape(*x.shape[:-1], -1, lanes)
    rest = x[..., x.shape[-1] // lanes * lanes :]
    return by_halves(np.concatenate([one_by_one(whole.swapaxes(-1, -2)), rest], axis=-1))


def one_by_one(x):
    """np.add.accumulate has no other order."""
    return np.add.accumulate(x, axis=-1, dtype=np.float32)[..., -1] if x.shape[-1] else np.zeros(x.shape[:-1], np.float32)


def by_newton(a, b):
    """a times a reciprocal of 11 bits that was improved twice, as GPUs divide; a division where float32 cannot hold that."""
    r = rounded(np.float32(1) / b, 10)
    for _ in range(2):
        r = r * (np.float32(2) - b * r)
    quotient = a * r
    return np.where(np.isfinite(r) & (np.abs(r) > 1e-30), quotient, a / b).astype(np.float32)


# What is right in another way: no verdict but a pass will do.
VARIANTS = {
    "sums one by one": {"product": accumulated, "sum": one_by_one},
    "sums from the last": {"product": lambda a, b: accumulated(a[..., ::-1], b[..., ::-1, :]), "sum": lambda x: one_by_one(x[..., ::-1])},
    "sums by halves": {"sum": by_halves},
    "sums of eight lanes": {"sum": in_lanes},
    "Kahan's sums": {"sum": compensated},
    "flushed to zero": {"flush": True},
    "reciprocals by Newton": {"quotient": by_newton},
    "products by bf16x6": {"product": lambda a, b: of_parts(a, b, 7, 3, [(0, 2), (1, 1), (2, 0), (0, 1), (1, 0), (0, 0)])},
}


class Array(np.ndarray):
    """An array whose products, sums and quotients are the chosen ones; everything else is NumPy's."""

    chosen = {}

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        inputs = [np.asarray(x) if isinstance(x, Array) else x for x in inputs]
        if out is not None:
            kwargs["out"] = tuple(np.asarray(x) if isinstance(x, Array) else x for x in out)
        y = self.computed(ufunc, method, inputs, kwargs)
        if Array.chosen.get("flush") and np.asarray(y).dtype == np.float32:
            y = np.where(np.abs(y) < np.finfo(np.float32).tiny, np.float32(0), y)
        if out is not None:
            kwargs["out"][0][...] = y
            return out[0]
        return np.asarray(y).view(Array) if isinstance(y, (np.ndarray, np.generic)) else y

    @staticmethod
    def computed(ufunc, method, inputs, kwargs):
        float32 = all(np.asarray(x).dtype == np.float32 for x in inputs)
        if ufunc is np.matmul and "product" in Array.chosen:
            return Array.chosen["product"](*inputs)
        if ufunc is np.add and method == "reduce" and "sum" in Array.chosen and float32:
            axes = kwargs.get("axis", 0)
            axes = range(inputs[0].ndim) if axes is None else [axes] if isinstance(axes, int) else axes
            axes = [axis % inputs[0].ndim for axis in axes]
            kept = [axis for axis in range(inputs[0].ndim) if axis not in axes]
            last = inputs[0].transpose(kept + axes).reshape([inputs[0].shape[axis] for axis in kept] + [-1])
            y = Array.chosen["sum"](last)
            return np.expand_dims(y, tuple(axes)) if kwargs.get("keepdims") else y
        if ufunc is np.true_divide and "quotient" in Array.chosen and float32:
            return Array.chosen["quotient"](*map(np.asarray, inputs))
        return getattr(ufunc, method)(*inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        if function is not np.tensordot or "product" not in Array.chosen:
            return super().__array_function__(function, types, args, kwargs)
        a, b = map(np.asarray, args)
        over = [[axes] if isinstance(axes, int) else list(axes) for axes in kwargs["axes"]]
        kept = [[axis for axis in range(x.ndim) if axis not in axes] for x, axes in zip((a, b), over)]
        left = a.transpose(kept[0] + over[0]).reshape(-1, np.prod([a.shape[axis] for axis in over[0]], dtype=int))
        right = b.transpose(over[1] + kept[1]).reshape(left.shape[1], -1)
        shape = [a.shape[axis] for axis in kept[0]] + [b.shape[axis] for axis in kept[1]]
        return Array.chosen["product"](left, right).reshape(shape).view(Array)


def run(op, attributes, inputs, **chosen):
    Array.chosen = chosen
    inputs = {name: x.view(Array) if x.dtype.kind == "f" else x for name, x in inputs.items()}
    results = numpy_backend.run(op, attributes, inputs)
    return results and {name: np.asarray(x) for name, x in results.items()}
