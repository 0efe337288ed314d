"""The NumPy backend with products of another precision, or by another algorithm: what the judges have to name.

    run(op, attributes, inputs, product) -> results, as numpy_backend.run; PRODUCTS has the products by name
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
    "bf16x6": (lambda a, b: of_parts(a, b, 7, 3, [(0, 2), (1, 1), (2, 0), (0, 1), (1, 0), (0, 0)]), "within f32"),
    "one after another": (accumulated, "within f32"),
}


class Array(np.ndarray):
    """An array whose products are the chosen one; everything else is NumPy's."""

    product = None

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        inputs = [np.asarray(x) if isinstance(x, Array) else x for x in inputs]
        if out is not None:
            kwargs["out"] = tuple(np.asarray(x) if isinstance(x, Array) else x for x in out)
        y = Array.product(*inputs) if ufunc is np.matmul else getattr(ufunc, method)(*inputs, **kwargs)
        return out[0] if out is not None else np.asarray(y).view(Array) if isinstance(y, (np.ndarray, np.generic)) else y

    def __array_function__(self, function, types, args, kwargs):
        if function is not np.tensordot:
            return super().__array_function__(function, types, args, kwargs)
        a, b = map(np.asarray, args)
        over = [[axes] if isinstance(axes, int) else list(axes) for axes in kwargs["axes"]]
        kept = [[axis for axis in range(x.ndim) if axis not in axes] for x, axes in zip((a, b), over)]
        left = a.transpose(kept[0] + over[0]).reshape(-1, np.prod([a.shape[axis] for axis in over[0]], dtype=int))
        right = b.transpose(over[1] + kept[1]).reshape(left.shape[1], -1)
        shape = [a.shape[axis] for axis in kept[0]] + [b.shape[axis] for axis in kept[1]]
        return Array.product(left, right).reshape(shape).view(Array)


def run(op, attributes, inputs, product):
    Array.product = staticmethod(product)
    inputs = {name: x.view(Array) if x.dtype.kind == "f" else x for name, x in inputs.items()}
    results = numpy_backend.run(op, attributes, inputs)
    return results and {name: np.asarray(x) for name, x in results.items()}
