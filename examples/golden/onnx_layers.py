"""Layers and blocks as ONNX graphs that ONNX Runtime runs.

A layer takes a graph, the names of values in it, and weights, which are arrays: constants, as in a file that somebody exported.
It adds its nodes and returns the name of what they put out.
"""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from numpy_schedules import alpha_bar_table

OPSET, IR = 28, 14  # the newest that onnx 1.23 and ONNX Runtime 1.32 have
DOMAINS = {"": OPSET, "com.microsoft": 1}  # ONNX's operators, and ONNX Runtime's own
TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}


class Graph:
    """g.Conv(x, w, strides=[2, 2]) adds a node and returns the name of what it puts out; an array among its inputs is a constant.

    `shapes` are those of the inputs, by name.
    """

    def __init__(self, shapes):
        self.shapes, self.nodes, self.constants = shapes, [], []

    def constant(self, x):
        x = np.asarray(x)
        x = x if x.dtype in TYPES else x.astype(np.float32 if x.dtype.kind == "f" else np.int64)
        name = f"constant{len(self.constants)}"
        self.constants.append(helper.make_tensor(name, TYPES[x.dtype], x.shape, x.tobytes(), raw=True))
        return name

    def __getattr__(self, kind):
        def node(*inputs, outputs=1, **attributes):
            names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
            made = [f"{kind}{len(self.nodes)}_{i}" for i in range(outputs)]
            self.nodes.append(helper.make_node(kind, names, made, **attributes))
            return made[0] if outputs == 1 else made

        return node

    def run(self, outputs, inputs):
        given = [helper.make_tensor_value_info(name, TYPES[x.dtype], x.shape) for name, x in inputs.items()]
        wanted = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs.values()]
        graph = helper.make_graph(self.nodes, "operation", given, wanted, self.constants)
        domains = [helper.make_opsetid(*domain) for domain in DOMAINS.items()]
        model = helper.make_model(graph, opset_imports=domains, ir_version=IR)
        return dict(zip(outputs, run(model.SerializeToString(), inputs)))


def run(model, inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    wanted = {x.name for x in session.get_inputs()}
    return session.run(None, {name: x for name, x in inputs.items() if name in wanted})


def linear(g, x, weight, bias=None):
    y = g.MatMul(x, weight.T)
    return y if bias is None else g.Add(y, bias)


def each(number, count=2):
    return number if isinstance(number, list) else [number] * count


def window(stride, padding, dilation, groups):
    left, right, top, bottom = each(padding, 4)
    return {"strides": each(stride), "pads": [top, left, bottom, right], "dilations": each(dilation), "group": groups}


def conv2d(g, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    return g.Conv(x, weight, *([] if bias is None else [bias]), **window(stride, padding, dilation, groups))


def conv_transpose2d(g, x, weight, bias=None, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    how = window(stride, padding, dilation, groups) | {"output_padding": each(output_padding)}
    return g.ConvTranspose(x, weight, *([] if bias is None else [bias]), **how)


# No kernel of ONNX Runtime's on the CPU: it runs the nodes by which ONNX defines GroupNormalization, whose variance is
# E[x^2] - E[x]^2. PyTorch's exporter writes InstanceNormalization, which has a kernel and does not cancel.
def group_norm(g, x, groups, weight=None, bias=None, eps=1e-5):
    weight = np.ones(g.shapes["x"][1], np.float32) if weight is None else weight
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    return g.GroupNormalization(x, weight, bias, num_groups=groups, epsilon=eps)


def layer_norm(g, x, weight=None, bias=None, eps=1e-5):
    weight = np.ones(g.shapes["x"][-1], np.float32) if weight is None else weight
    return g.LayerNormalization(x, weight, *([] if bias is None else [bias]), epsilon=eps)


def silu(g, x):
    return g.Mul(x, g.Sigmoid(x))  # ONNX Runtime 1.32 has no kernel of its own for ONNX's Swish


def gelu(g, x):
    return g.Gelu(x)


def gelu_tanh(g, x):
    return g.Gelu(x, approximate="tanh")


def softmax(g, x):
    return g.Softmax(x, axis=-1)


def attention(g, q, k, v, heads=1, mask=None):
    seen = []
    if mask is not None:
        seen = [g.Cast(g.Unsqueeze(mask, [-3]), to=TensorProto.BOOL)]  # ([n,] 1, tokens, keys)
    return g.Attention(q, k, v, *seen, q_num_heads=heads, kv_num_heads=heads)


def upsample_nearest_2x(g, x):
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return g.Resize(x, "", np.array([1, 1, 2, 2], np.float32), **nearest)


def average_pool_2x(g, x):
    return g.AveragePool(x, kernel_shape=[2, 2], strides=[2, 2])


def class_embedding(g, weight, labels):
    return g.Gather(weight, labels)


def time_embedding(g, t, dim, flip_sin_to_cos=True, freq_shift=0):
    half, n = dim // 2, g.shapes["t"][0]
    frequency = 10000.0 ** -(np.arange(half) / (half - freq_shift))
    angle = g.Mul(g.Unsqueeze(g.Cast(t, to=TensorProto.FLOAT), [1]), frequency)
    pair = [g.Cos(angle), g.Sin(angle)] if flip_sin_to_cos else [g.Sin(angle), g.Cos(angle)]
    return g.Concat(*pair, np.zeros((n, dim % 2)), axis=1)


def positions(g, index, rows, columns, dim, base=None):
    base = rows if base is None else base
    scales = np.array([base / rows, base / columns]).reshape(2, 1, 1)
    angle = g.Mul(index, scales * 10000.0 ** -(np.arange(dim // 4) / (dim // 4)))
    row, column = g.Split(g.Concat(g.Sin(angle), g.Cos(angle), axis=2), outputs=2, axis=0, num_outputs=2)
    return g.Squeeze(g.Concat(column, row, axis=2), [0])


def patchify(g, x, patch):
    n, c = g.shapes["x"][:2]
    return g.Transpose(g.Reshape(g.SpaceToDepth(x, blocksize=patch), [n, c * patch * patch, -1]), perm=[0, 2, 1])


def unpatchify(g, x, patch, height, width):
    n, _, c = g.shapes["x"]
    x = g.Reshape(g.Transpose(x, perm=[0, 2, 1]), [n, c, height // patch, width // patch])
    return g.DepthToSpace(x, blocksize=patch, mode="DCR")


def modulate(g, x, shift, scale):
    return g.Add(g.Mul(x, g.Add(np.float32(1), g.Unsqueeze(scale, [1]))), g.Unsqueeze(shift, [1]))


def gate(g, x, branch, gate):
    return g.Add(x, g.Mul(g.Unsqueeze(gate, [1]), branch))


def affine(g, x, weight, bias):
    return g.Add(g.Mul(x, weight), bias)


def mse_loss(g, prediction, target):
    error = g.Sub(prediction, target)
    return {"output.loss": g.ReduceMean(g.Mul(error, error), keepdims=0)}


def cross_entropy(g, logits, labels):
    return {"output.loss": g.SoftmaxCrossEntropyLoss(logits, labels, reduction="mean")}


def q_sample(g, x_0, eps, t, **config):
    alpha_bar = alpha_bar_table(**config)
    of_image = [-1] + [1] * (len(g.shapes["x_0"]) - 1)
    signal, noise = (g.Reshape(g.Gather(table, t), of_image) for table in (np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)))
    return g.Add(g.Mul(signal, x_0), g.Mul(noise, eps))


# --- Blocks ---


def part(parameters, name):
    """The parameters of one layer of a block: {"norm1.weight": w} -> {"weight": w}."""
    return {key[len(name) + 1 :]: value for key, value in parameters.items() if key.startswith(name + ".")}


def shortcut(g, x, p, stride=1):
    own = part(p, "conv_shortcut")
    return conv2d(g, x, **own, stride=stride) if own else x


def res_block(g, x, temb, groups, eps=1e-5, time_embedding_norm="default", output_scale_factor=1, **p):
    h = silu(g, group_norm(g, x, **part(p, "norm1"), groups=groups, eps=eps))
    h = conv2d(g, h, **part(p, "conv1"), padding=1)
    e = g.Unsqueeze(linear(g, silu(g, temb), **part(p, "time_emb_proj")), [2, 3])
    norm2 = part(p, "norm2") | {"groups": groups, "eps": eps}
    if time_embedding_norm == "scale_shift":
        scale, shift = g.Split(e, outputs=2, axis=1, num_outputs=2)
        h = g.Add(g.Mul(group_norm(g, h, **norm2), g.Add(np.float32(1), scale)), shift)
    else:
        h = group_norm(g, g.Add(h, e), **norm2)
    h = conv2d(g, silu(g, h), **part(p, "conv2"), padding=1)
    return g.Div(g.Add(shortcut(g, x, p), h), np.float32(output_scale_factor))


def classifier_block(g, x, groups, eps=1e-5, stride=1, **p):
    h = silu(g, group_norm(g, x, **part(p, "norm1"), groups=groups, eps=eps))
    h = conv2d(g, h, **part(p, "conv1"), padding=1, stride=stride)
    h = silu(g, group_norm(g, h, **part(p, "norm2"), groups=groups, eps=eps))
    return g.Add(shortcut(g, x, p, stride), conv2d(g, h, **part(p, "conv2"), padding=1))


def self_attention(g, x, heads, p):
    mixed = attention(g, *(linear(g, x, **part(p, f"to_{name}")) for name in "qkv"), heads)
    return linear(g, mixed, **part(p, "to_out.0"))


def attention_block(g, x, heads=1, groups=None, eps=1e-5, rescale_output_factor=1, **p):
    n, c, height, width = g.shapes["x"]
    norm = part(p, "group_norm")
    a = group_norm(g, x, **norm, groups=groups, eps=eps) if norm else x
    y = self_attention(g, g.Transpose(g.Reshape(a, [n, c, -1]), perm=[0, 2, 1]), heads, p)
    y = g.Reshape(g.Transpose(y, perm=[0, 2, 1]), [n, c, height, width])
    return g.Div(g.Add(x, y), np.float32(rescale_output_factor))


def dit_embedding(g, t, class_labels, **p):
    time = part(p, "timestep_embedder")
    h = time_embedding(g, t, time["linear_1.weight"].shape[1], freq_shift=1)
    h = linear(g, silu(g, linear(g, h, **part(time, "linear_1"))), **part(time, "linear_2"))
    return g.Add(h, g.Gather(p["class_embedder.embedding_table.weight"], class_labels))


def dit_block(g, x, emb, heads=1, eps=1e-5, **p):
    parts = g.Split(linear(g, silu(g, emb), **part(p, "norm1.linear")), outputs=6, axis=1, num_outputs=6)
    a = modulate(g, layer_norm(g, x, eps=1e-6), *parts[:2])
    x = gate(g, x, self_attention(g, a, heads, part(p, "attn1")), parts[2])
    a = modulate(g, layer_norm(g, x, **part(p, "norm3"), eps=eps), *parts[3:5])
    a = linear(g, gelu_tanh(g, linear(g, a, **part(p, "ff.net.0.proj"))), **part(p, "ff.net.2"))
    return gate(g, x, a, parts[5])
