"""An example backend for the golden kit that only predicts, ONNX Runtime on the CPU:

    python onnx_backend.py data/golden [LEVEL ...]

Every layer and block is built as a small ONNX graph (onnx_layers.py); networks are exported from PyTorch. Samplers, the
variational bound and the exact denoiser are NumPy's formulas, traced into ONNX graphs (onnx_traced.py). Schedules, levels,
weights of losses, streams, the Frechet distance and precision with recall are NumPy's, in float64. No gradients.
"""

import io
import logging
import warnings

import numpy as np

import numpy_backend
import numpy_samplers
import on_kit
import onnx_layers as layers
import onnx_traced

ELEMENTARY = {"exp": "Exp", "sigmoid": "Sigmoid", "tanh": "Tanh", "ln": "Log", "sin": "Sin", "cos": "Cos"}
LAYERS = (
    "linear conv2d conv_transpose2d group_norm layer_norm silu gelu gelu_tanh softmax attention upsample_nearest_2x average_pool_2x class_embedding"
    " time_embedding positions patchify unpatchify modulate gate affine mse_loss cross_entropy q_sample"
    " res_block classifier_block attention_block dit_embedding dit_block"
).split()


def backend(op, attributes, **arrays):
    """The op's outputs as arrays, or None: not supported."""
    if op in OF_NUMPY:  # nothing in it is ONNX's
        return numpy_backend.run(op, attributes, arrays)
    if op in ("unet", "dit"):
        return network(op, attributes, **arrays)
    if op in TRACED:
        constants = {name: arrays.pop(name) for name in ("timesteps",) if name in arrays}  # which tables are made for
        return onnx_traced.run(TRACED[op], arrays, **constants, **attributes)
    if op not in OPS:
        return None
    arrays.pop("grad_output", None)
    weights = {name: x for name, x in arrays.items() if name in ("weight", "bias") or "." in name}
    inputs = {name: x for name, x in arrays.items() if name not in weights}
    if op == "positions":  # the pixels themselves: a graph without inputs would be computed by whoever reads it
        inputs = {"index": np.indices((attributes["rows"], attributes["columns"])).reshape(2, -1, 1).astype(np.float32)}
    graph = layers.Graph({name: x.shape for name, x in inputs.items()})
    # By name, as the graph knows them: what is given to it is the name.
    made = OPS[op](graph, **{name: name for name in inputs}, **weights, **attributes)
    return graph.run(made if isinstance(made, dict) else {"output": made}, inputs)


def network(op, attributes, x, t, noise, class_labels=None):
    """PyTorch's network in ONNX, by its exporter; what it puts out is named as the results are."""
    try:
        import torch  # here, since nothing else needs it

        import pytorch_backend
    except ImportError:
        return None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of what is not installed
    tensors = [torch.tensor(a) for a in (x, t, noise, class_labels) if a is not None]
    names = ["x", "t", "noise", "class_labels"][: len(tensors)]
    results = {}

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = pytorch_backend.loaded(pytorch_backend.NETWORKS[op], attributes, torch.float32)

        def forward(self, x, t, noise, class_labels=None):
            results.clear()
            results.update(pytorch_backend.outputs(self.model, x, t, noise, class_labels, attributes.get("taps")))
            return tuple(results.values())

    file = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch's, of itself
        torch.onnx.export(Network().eval(), tuple(tensors), dynamo=True, input_names=names, verbose=False).save(file)
    return dict(zip(results, layers.run(file.getvalue(), dict(zip(names, (x, t, noise, class_labels))))))


OF_NUMPY = (*numpy_backend.TABLES, "frechet_distance", "precision_recall")
TRACED = {f.__name__: f for f in (numpy_samplers.reverse_step, numpy_samplers.trajectory, numpy_backend.oracle)}
TRACED |= {f.__name__: f for f in (numpy_backend.variational_bound, numpy_backend.hybrid_loss)}
OPS = {name: lambda g, x, kind=kind: getattr(g, kind)(x) for name, kind in ELEMENTARY.items()}
OPS |= {name: getattr(layers, name) for name in LAYERS}

if __name__ == "__main__":
    on_kit.judge(__doc__, lambda kit, case: backend(case.op, case.attributes, **case.inputs), forward=True)
