# Peer of gradient_step.rs: the same net and the same step in PyTorch eager autograd.
# Needs torch==2.11.0, onnx, numpy. Started by the bench; talks in lines: "step" -> seconds, "gradient" -> a file,
# "imports" and "peak" -> most memory in MiB, after the imports and ever.
import resource
import sys
import time

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


after_imports = peak()
folder, batch, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
model = onnx.load(f"{folder}/model.onnx")
weights = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
size = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
x0 = torch.from_numpy(np.fromfile(f"{folder}/x.f32", dtype="<f4").reshape(batch, 3, size, size).copy())
targets = torch.from_numpy(np.fromfile(f"{folder}/targets.f32", dtype="<f4").reshape(batch, -1).copy())


def plan():
    steps = []
    for node in model.graph.node:
        a = {p.name: onnx.helper.get_attribute_value(p) for p in node.attribute}
        op, names, out = node.op_type, list(node.input), node.output[0]
        if op == "Conv":
            f = lambda x, w, a=a: F.conv2d(x, w, None, a["strides"], a["pads"][:2])
        elif op == "BatchNormalization":
            f = lambda x, g, b, m, v: F.batch_norm(x, m, v, g, b, False, 0.0, 1e-5)
        elif op == "MaxPool":
            f = lambda x, a=a: F.max_pool2d(x, a["kernel_shape"], a["strides"], a["pads"][:2])
        elif op == "Gemm":
            f = lambda x, w: F.linear(x, w)
        elif op == "ReduceL2":
            f = lambda x, axes: x.norm(dim=1, keepdim=True)
        else:
            f = {
                "Relu": F.relu,
                "Add": torch.add,
                "Sub": torch.sub,
                "Div": torch.div,
                "GlobalAveragePool": lambda x: F.adaptive_avg_pool2d(x, 1),
                "Flatten": lambda x: x.flatten(1),
                "Clip": lambda x, low: x.clamp_min(1e-12),
            }[op]
        steps.append((f, names, out))
    return steps


steps = plan()


def gradient(x):
    x = x.detach().requires_grad_(True)
    values = dict(weights)
    values[model.graph.input[0].name] = x
    for f, names, out in steps:
        values[out] = f(*(values[n] for n in names))
    embedding = values[model.graph.output[0].name]
    loss = (embedding - targets).pow(2).sum(1)
    (g,) = torch.autograd.grad(loss.sum(), x)
    return g, loss


def step(x):
    g, _ = gradient(x)
    return torch.clamp(x - 1e-6 * g.sign(), -9.0, 9.0)


x = step(step(x0))
print(f"torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
for line in sys.stdin:
    if line.strip() == "step":
        start = time.perf_counter()
        x = step(x)
        print(time.perf_counter() - start, flush=True)
    elif line.strip() in ("imports", "peak"):
        print(after_imports if line.strip() == "imports" else peak(), flush=True)
    else:
        gradient(x0)[0].numpy().astype("<f4").tofile(f"{folder}/gradient.f32")
        print("done", flush=True)
