"""The architectures that the package `onnx` carries, with random weights: files of docs/foreign-models.md.

    pip install onnx==1.23.2 numpy
    python tests/benches/peers/light_models.py FOLDER
    mdprop verify FOLDER/squeezenet.onnx
    mdprop verify FOLDER/resnet50.onnx --output r172

The package's graphs hold constants in place of weights. Kernels are drawn from N(0, 2 / fan-in), biases from N(0, 0.01²), norms
do nothing.
"""

import pathlib
import sys

import numpy as np
import onnx
from onnx import numpy_helper


def value(op, place, shape, rng):
    if op == "BatchNormalization":
        return np.ones(shape) if place in (1, 4) else np.zeros(shape)
    if op in ("Mul", "Add"):
        return np.ones(shape) if op == "Mul" else np.zeros(shape)
    if len(shape) >= 2:
        return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    return rng.normal(0, 0.01, shape)


def filled(model):
    graph, rng = model.graph, np.random.default_rng(0)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    readers = {name: (node, place) for node in graph.node for place, name in reversed(list(enumerate(node.input)))}
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in constants:
            kept.append(node)
            continue
        reader, place = readers[node.output[0]]
        if reader.op_type == "Unsqueeze":
            reader, place = readers[reader.output[0]]
        drawn = value(reader.op_type, place, tuple(int(n) for n in constants[node.input[0]]), rng)
        graph.initializer.append(numpy_helper.from_array(drawn.astype(np.float32), node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    return model


folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for path in sorted((pathlib.Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx")):
    onnx.save(filled(onnx.load(path)), folder / path.name.removeprefix("light_"))
