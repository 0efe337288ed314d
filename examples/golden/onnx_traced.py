"""Formulas that are written for NumPy's arrays, as ONNX graphs: a function is called with names for arrays, and writes itself down.

    outputs = onnx_traced.run(function, {"x": x}, **attributes)

What NumPy is asked to do with a `Traced` comes here, by NumPy's protocols: `__array_ufunc__` for what goes element by element,
operators, too, `__array_function__` for the rest. Each becomes the node, or the few nodes, that somebody would write by hand.
Numbers and arrays that are NumPy's become constants, rounded to the type of what they meet.
"""

import numpy as np

import numpy_likelihood
from onnx_layers import Graph

END = np.iinfo(np.int64).max  # of an axis, as Slice has it


class Traced(np.lib.mixins.NDArrayOperatorsMixin):
    """A value in a graph: its name, its shape and its type; no numbers."""

    def __init__(self, graph, name, shape, dtype):
        self.graph, self.name, self.shape, self.dtype = graph, name, tuple(shape), np.dtype(dtype)
        self.ndim, self.size = len(self.shape), int(np.prod(self.shape))

    @property
    def zeros(self):
        """What NumPy has to say of shapes it says of zeros; they take no memory."""
        return np.broadcast_to(np.zeros((), self.dtype), self.shape)

    def made(self, name, shape, dtype=None):
        return Traced(self.graph, name, shape, dtype or self.dtype)

    def __len__(self):
        return self.shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __array_namespace__(self, api_version=None):
        return np

    def __array_ufunc__(self, ufunc, method, *inputs):
        if method != "__call__" or ufunc not in ELEMENTWISE:
            return NotImplemented
        return node(ELEMENTWISE[ufunc], ufunc, inputs)

    def __array_function__(self, function, types, args, kwargs):
        return FUNCTIONS[function](*args, **kwargs) if function in FUNCTIONS else NotImplemented

    def __getitem__(self, key):
        shape, name, axis = self.zeros[key].shape, self.name, 0
        for k in key if isinstance(key, tuple) else (key,):
            if k is None:
                name = self.graph.Unsqueeze(name, [axis])
            elif not isinstance(k, slice):
                name, axis = self.graph.Gather(name, np.int64(k), axis=axis), axis - 1  # this axis is gone
            elif k != slice(None):
                name = self.graph.Slice(name, [k.start or 0], [END if k.stop is None else k.stop], [axis])
            axis += 1
        return self.made(name, shape)

    def reshape(self, *shape):
        shape = self.zeros.reshape(*shape).shape
        return self.made(self.graph.Reshape(self.name, shape), shape)

    def astype(self, dtype):
        if dtype != self.dtype:
            raise TypeError(f"from {self.dtype} to {dtype}: here everything stays what it is")
        return self

    def clip(self, low, high):
        if isinstance(low, Traced) or isinstance(high, Traced):  # ONNX's Clip knows numbers alone
            return np.minimum(np.maximum(self, low), high)
        return self.made(self.graph.Clip(self.name, *(np.asarray(x, self.dtype) for x in (low, high))), self.shape)

    def reduced(self, kind, axis, keepdims):
        axes = [] if axis is None else [[axis]]
        name = getattr(self.graph, kind)(self.name, *axes, keepdims=int(keepdims))
        return self.made(name, self.zeros.sum(axis, keepdims=keepdims).shape)

    def sum(self, axis=None, keepdims=False):
        return self.reduced("ReduceSum", axis, keepdims)

    def mean(self, axis=None, keepdims=False):
        return self.reduced("ReduceMean", axis, keepdims)

    def max(self, axis=None, keepdims=False):
        return self.reduced("ReduceMax", axis, keepdims)


def node(kind, function, inputs):
    """ONNX's node for NumPy's function, which is asked for the shape alone. True and false have a type of their own."""
    traced = [x for x in inputs if isinstance(x, Traced)]
    dtype = np.result_type(*(x.dtype for x in traced))
    names = [x.name if isinstance(x, Traced) else np.asarray(x, dtype) for x in inputs]
    with np.errstate(all="ignore"):
        zeros = np.asarray(function(*(x.zeros if isinstance(x, Traced) else x for x in inputs)))
    graph = traced[0].graph
    name = graph.Not(graph.Equal(*names)) if kind == "NotEqual" else getattr(graph, kind)(*names)
    return traced[0].made(name, zeros.shape, bool if zeros.dtype == bool else dtype)


# --- NumPy's functions ---


def where(condition, x, y):
    return node("Where", np.where, (condition, x, y))


def full_like(x, value):
    return x.made(x.graph.Expand(np.asarray(value, x.dtype), x.shape), x.shape)


def concatenate(arrays, axis=0):
    names = [x.name for x in arrays]
    return arrays[0].made(arrays[0].graph.Concat(*names, axis=axis), np.concatenate([x.zeros for x in arrays], axis).shape)


def stack(arrays):
    return concatenate([x[None] for x in arrays])


def sort(x, axis=-1):
    """All of them, the least first."""
    return x.made(x.graph.TopK(x.name, [x.shape[axis]], axis=axis, largest=0, outputs=2)[0], x.shape)


def einsum(equation, x, y):
    return x.made(x.graph.Einsum(x.name, y.name, equation=equation), np.einsum(equation, x.zeros, y.zeros).shape)


def inv(x):
    """ONNX has no inverse; this is ONNX Runtime's own."""
    return x.made(x.graph.Inverse(x.name, domain="com.microsoft"), x.shape)


def slogdet(x):
    determinant = x.made(x.graph.Det(x.name), x.shape[:-2])
    return x.made(x.graph.Sign(determinant.name), determinant.shape), np.log(abs(determinant))


ELEMENTWISE = {np.add: "Add", np.subtract: "Sub", np.multiply: "Mul", np.divide: "Div", np.power: "Pow", np.matmul: "MatMul"}
ELEMENTWISE |= {np.negative: "Neg", np.absolute: "Abs", np.minimum: "Min", np.maximum: "Max"}
ELEMENTWISE |= {np.exp: "Exp", np.log: "Log", np.tanh: "Tanh", numpy_likelihood.erf: "Erf"}
ELEMENTWISE |= {np.less: "Less", np.less_equal: "LessOrEqual", np.greater: "Greater", np.not_equal: "NotEqual", np.bitwise_and: "And"}
FUNCTIONS = {np.clip: Traced.clip, np.where: where, np.full_like: full_like, np.concatenate: concatenate, np.stack: stack}
FUNCTIONS |= {np.sort: sort, np.einsum: einsum, np.linalg.inv: inv, np.linalg.slogdet: slogdet}


def run(function, inputs, **attributes):
    """What the function puts out, computed by ONNX Runtime but for what none of the inputs went into; no gradients."""
    graph = Graph({name: x.shape for name, x in inputs.items()})
    made = function(**{name: Traced(graph, name, x.shape, x.dtype) for name, x in inputs.items()}, **attributes)
    made = {name: x for name, x in made.items() if not name.startswith("grad.")}
    outputs = {name: graph.Identity(x.name) for name, x in made.items() if isinstance(x, Traced)}
    return made | graph.run(outputs, inputs)
