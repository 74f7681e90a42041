"""Files that no current exporter writes: old operator sets, half precision, external data, model-local functions.

Each function returns (ModelProto, the same computation as a PyTorch module or function in float64)."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

SIZE = 24


class Weights:
    """Seeded constants, kept as initialisers and as float64 tensors."""

    def __init__(self, seed):
        self.rng, self.initializers, self.tensors = np.random.default_rng(seed), [], {}

    def add(self, name, shape, low=None, high=None):
        if low is None:
            fan_in = int(np.prod(shape[1:])) or 1
            high = (3.0 / fan_in) ** 0.5
            low = -high
        return self.put(name, self.rng.uniform(low, high, shape).astype(np.float32))

    def put(self, name, array):
        self.initializers.append(numpy_helper.from_array(array, name))
        self.tensors[name] = torch.from_numpy(array.astype(np.float64) if array.dtype != np.int64 else array)
        return name

    def batch_norm(self, name, channels):
        return [
            self.add(f"{name}.scale", [channels], 0.6, 1.4), self.add(f"{name}.bias", [channels], -0.2, 0.2),
            self.add(f"{name}.mean", [channels], -0.2, 0.2), self.add(f"{name}.var", [channels], 0.5, 1.5),
        ]


def finish(nodes, weights, batch, dim, opset, ir, inputs_too=False, functions=(), domains=()):
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])
    out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, dim])
    more = []
    if inputs_too:  # before IR 4 every initialiser was an input as well
        more = [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in weights.initializers]
    graph = helper.make_graph(nodes, "handmade", [image, *more], [out], weights.initializers)
    opsets = [helper.make_opsetid("", opset), *[helper.make_opsetid(d, 1) for d in domains]]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions), producer_name="by hand")
    model.ir_version = ir
    onnx.checker.check_model(model)
    return model


def opset9():
    """Attribute axes, Upsample with scales as input, Clip/Pad/Slice/Split/Dropout attributes, Softmax over the
    flattened rest."""
    w = Weights(90)
    n = helper.make_node
    w.put("scales", np.array([1, 1, 2, 2], np.float32))
    w.put("shape", np.array([0, 4, -1], np.int64))
    nodes = [
        n("Pad", ["image"], ["padded"], mode="reflect", pads=[0, 0, 1, 1, 0, 0, 1, 1]),
        n("Conv", ["padded", w.add("w1", [8, 3, 3, 3])], ["c1"], kernel_shape=[3, 3], strides=[2, 2]),
        n("BatchNormalization", ["c1", *w.batch_norm("bn1", 8)], ["b1"], epsilon=1e-3, momentum=0.9),
        n("Clip", ["b1"], ["r1"], min=0.0, max=6.0),
        n("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
        n("Upsample", ["p1", "scales"], ["u1"], mode="nearest"),
        n("Conv", ["u1", w.add("w2", [8, 1, 3, 3]), w.add("bias2", [8], -0.1, 0.1)], ["c2"], group=8, auto_pad="SAME_UPPER"),
        n("Split", ["c2"], ["left", "right"], axis=1, split=[3, 5]),
        n("Elu", ["left"], ["left_on"], alpha=0.7),
        n("LeakyRelu", ["right"], ["right_on"], alpha=0.2),
        n("Concat", ["right_on", "left_on"], ["joined"], axis=1),
        n("Sum", ["joined", "u1", "c2"], ["sum"]),
        n("Slice", ["sum"], ["cut"], starts=[1, 0], ends=[-1, 9223372036854775807], axes=[2, 3]),
        n("ReduceMax", ["cut"], ["peaks"], axes=[3], keepdims=0),
        n("Softmax", ["peaks"], ["shares"]),  # axis 1: over channels and rows together
        n("Unsqueeze", ["shares"], ["column"], axes=[3]),
        n("Mul", ["cut", "column"], ["weighted"]),
        n("ReduceSum", ["weighted"], ["spread"], axes=[2], keepdims=1),
        n("Squeeze", ["spread"], ["row"], axes=[2]),
        n("Reshape", ["row", "shape"], ["folded"]),
        n("Dropout", ["folded"], ["kept"], ratio=0.3),
        n("ReduceMean", ["kept"], ["means"], axes=[1], keepdims=0),
        n("Gemm", ["means", w.add("w3", [12, 24]), w.add("bias3", [12], -0.1, 0.1)], ["e"], transB=1),
        n("ReduceL2", ["e"], ["norm"], axes=[1], keepdims=1),
        n("Div", ["e", "norm"], ["embedding"]),
    ]
    t = w.tensors

    def forward(x):
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        x = F.conv2d(x, t["w1"], stride=2)
        x = F.batch_norm(x, t["bn1.mean"], t["bn1.var"], t["bn1.scale"], t["bn1.bias"], eps=1e-3).clamp(0, 6)
        u = F.interpolate(F.max_pool2d(x, 2, 2), scale_factor=2, mode="nearest")
        c = F.conv2d(u, t["w2"], t["bias2"], padding=1, groups=8)
        x = torch.cat([F.leaky_relu(c[:, 3:], 0.2), F.elu(c[:, :3], 0.7)], 1) + u + c
        x = x[:, :, 1:-1]
        shares = torch.softmax(x.amax(3).flatten(1), 1).view(len(x), 8, -1, 1)
        x = (x * shares).sum(2)
        e = F.linear(x.reshape(len(x), 4, -1).mean(1), t["w3"], t["bias3"])
        return e / e.norm(dim=1, keepdim=True)

    return finish(nodes, w, "n", 12, 9, 3, inputs_too=True), forward


def opset7():
    """Older still: Upsample with scales as attribute, a fixed batch of one, LRN, PRelu, hard sigmoid, global max."""
    w = Weights(70)
    n = helper.make_node
    nodes = [
        n("Conv", ["image", w.add("w1", [8, 3, 5, 5]), w.add("b1", [8], -0.1, 0.1)], ["c1"], pads=[2, 2, 1, 1], strides=[2, 2]),
        n("PRelu", ["c1", w.add("slope", [8, 1, 1], 0.1, 0.4)], ["p1"]),
        n("LRN", ["p1"], ["l1"], size=3, alpha=0.2, beta=0.6, bias=1.5),
        n("AveragePool", ["l1"], ["a1"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0]),
        n("Upsample", ["a1"], ["u1"], mode="nearest", scales=[1.0, 1.0, 2.0, 2.0]),
        n("ConvTranspose", ["u1", w.add("w2", [8, 4, 3, 3])], ["t1"], group=2, strides=[2, 2], output_padding=[1, 1], pads=[1, 1, 1, 1]),
        n("HardSigmoid", ["t1"], ["h1"], alpha=0.25, beta=0.4),
        n("Mul", ["t1", "h1"], ["m1"]),
        n("GlobalMaxPool", ["m1"], ["g1"]),
        n("GlobalAveragePool", ["m1"], ["g2"]),
        n("Concat", ["g1", "g2"], ["g"], axis=1),
        n("Flatten", ["g"], ["flat"]),
        n("MatMul", ["flat", w.add("w3", [16, 12], -0.5, 0.5)], ["e0"]),
        n("Selu", ["e0"], ["e"]),
        n("LpNormalization", ["e"], ["embedding"], axis=1, p=2),
    ]
    t = w.tensors

    def forward(x):
        x = F.conv2d(F.pad(x, (2, 1, 2, 1)), t["w1"], t["b1"], stride=2)
        x = F.prelu(x, t["slope"].flatten())
        squares = F.pad(x**2, (0, 0, 0, 0, 1, 1))
        x = x / (1.5 + 0.2 / 3 * (squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:])) ** 0.6
        ones = F.avg_pool2d(F.pad(torch.ones_like(x), (1, 0, 1, 0)), 3, 2)
        x = F.avg_pool2d(F.pad(x, (1, 0, 1, 0)), 3, 2) / ones  # the pad is not counted
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = F.conv_transpose2d(x, t["w2"], stride=2, padding=1, output_padding=1, groups=2)
        x = x * (0.25 * x + 0.4).clamp(0, 1)
        x = torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1)
        return F.normalize(F.selu(x @ t["w3"]), dim=1)

    return finish(nodes, w, 1, 12, 7, 3, inputs_too=True), forward


def functions():
    """Model-local functions: attributes by reference, one function that calls another, a default attribute."""
    w = Weights(21)
    n = helper.make_node

    def referring(op, inputs, outputs, **attributes):
        node = helper.make_node(op, inputs, outputs)
        for name, (outer, kind) in attributes.items():
            a = node.attribute.add()
            a.name, a.ref_attr_name, a.type = name, outer, kind
        return node

    kind = onnx.AttributeProto
    opset = [helper.make_opsetid("", 18)]
    own = [*opset, helper.make_opsetid("house", 1)]
    gate = helper.make_function(
        "house", "Gate", ["x"], ["y"],
        [referring("HardSigmoid", ["x"], ["h"], alpha=("slope", kind.FLOAT)), n("Mul", ["x", "h"], ["y"])], opset,
        attribute_protos=[helper.make_attribute("slope", 0.3)],
    )
    block = helper.make_function(
        "house", "Block", ["x", "w", "scale", "bias"], ["y"],
        [
            referring("Conv", ["x", "w"], ["c"], strides=("strides", kind.INTS), pads=("pads", kind.INTS)),
            n("InstanceNormalization", ["c", "scale", "bias"], ["i"], epsilon=1e-4),
            n("Gate", ["i"], ["g"], domain="house"),
            n("Gate", ["g"], ["y"], domain="house", slope=0.2),
        ],
        own, attributes=["strides", "pads"],
    )
    nodes = []
    x, channels = "image", 3
    for i, (to, stride) in enumerate([(8, 2), (8, 1), (12, 2)]):
        inputs = [w.add(f"w{i}", [to, channels, 3, 3]), w.add(f"s{i}", [to], 0.6, 1.4), w.add(f"b{i}", [to], -0.2, 0.2)]
        nodes.append(n("Block", [x, *inputs], [f"y{i}"], domain="house", strides=[stride] * 2, pads=[1] * 4))
        x, channels = f"y{i}", to
    w.put("axes", np.array([2, 3], np.int64))
    nodes += [
        n("ReduceMean", [x, "axes"], ["mean"], keepdims=0),
        n("Gemm", ["mean", w.add("head", [12, 12]), w.add("offset", [12], -0.1, 0.1)], ["embedding"]),
    ]
    t = w.tensors

    def forward(x):
        for i, stride in enumerate([2, 1, 2]):
            x = F.instance_norm(F.conv2d(x, t[f"w{i}"], stride=stride, padding=1), eps=1e-4)
            x = x * t[f"s{i}"].view(1, -1, 1, 1) + t[f"b{i}"].view(1, -1, 1, 1)
            x = x * (0.3 * x + 0.5).clamp(0, 1)
            x = x * (0.2 * x + 0.5).clamp(0, 1)
        return x.mean((2, 3)) @ t["head"] + t["offset"]

    return finish(nodes, w, "n", 12, 18, 9, functions=[gate, block], domains=["house"]), forward


def bfloat16_external():
    """Weights as bfloat16, cast to float32 where they are used; stored outside the file."""
    w = Weights(16)
    n = helper.make_node
    nodes, initializers, tensors = [], [], {}

    def half(name, shape):
        values = torch.from_numpy(w.rng.uniform(-1, 1, shape) * (3.0 / int(np.prod(shape[1:]))) ** 0.5).bfloat16()
        tensors[name] = values.double()
        raw = values.view(torch.int16).numpy().tobytes()
        initializers.append(helper.make_tensor(name, TensorProto.BFLOAT16, shape, raw, raw=True))
        nodes.append(n("Cast", [name], [f"{name}.float"], to=TensorProto.FLOAT))
        return f"{name}.float"

    x, channels = "image", 3
    for i, (to, stride) in enumerate([(8, 2), (16, 2), (16, 1)]):
        weight = half(f"w{i}", [to, channels, 3, 3])
        nodes.append(n("Conv", [x, weight], [f"c{i}"], strides=[stride] * 2, pads=[1] * 4))
        nodes.append(n("Sigmoid", [f"c{i}"], [f"g{i}"]))
        nodes.append(n("Mul", [f"c{i}", f"g{i}"], [f"y{i}"]))
        x, channels = f"y{i}", to
    nodes += [
        n("GlobalAveragePool", [x], ["pooled"]),
        n("Flatten", ["pooled"], ["flat"]),
        n("Gemm", ["flat", half("head", [12, 16])], ["e"], transB=1),
        n("LpNormalization", ["e"], ["embedding"], axis=1, p=2),
    ]
    w.initializers = initializers

    def forward(x):
        for i, stride in enumerate([2, 2, 1]):
            x = F.silu(F.conv2d(x, tensors[f"w{i}"], stride=stride, padding=1))
        return F.normalize(F.linear(x.mean((2, 3)), tensors["head"]), dim=1)

    return finish(nodes, w, "n", 12, 17, 8), forward
