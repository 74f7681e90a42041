"""Gradients of PyTorch where a function has none or several: at kinks, ties and poles.

    python3 -m venv venv && venv/bin/pip install torch==2.11.0 numpy
    venv/bin/python conventions.py > conventions.json

Each case is one row of numbers through one function; stored is the gradient of the sum of the results.
"""
import json

import torch
import torch.nn.functional as F

x = lambda *v: torch.tensor([v], dtype=torch.float64)

CASES = {
    "abs": (torch.abs, x(-1, 0, 2)),
    "relu": (torch.relu, x(-1, 0, 2)),
    "leaky_relu 0.1": (lambda t: F.leaky_relu(t, 0.1), x(-1, 0, 2)),
    "prelu 0.25": (lambda t: F.prelu(t, torch.tensor([0.25], dtype=torch.float64)), x(-1, 0, 2)),
    "elu": (F.elu, x(-1, 0, 2)),
    "elu 0.5": (lambda t: F.elu(t, 0.5), x(-1, 0, 2)),
    "selu": (F.selu, x(-1, 0, 2)),
    "celu 0.5": (lambda t: F.celu(t, 0.5), x(-1, 0, 2)),
    "hardsigmoid": (F.hardsigmoid, x(-4, -3, 0, 3, 4)),
    "hardswish": (F.hardswish, x(-4, -2, 0, 2, 4)),
    "threshold 1": (lambda t: F.threshold(t, 1.0, 0.0), x(0.5, 1, 2)),
    "softshrink 0.5": (lambda t: F.softshrink(t, 0.5), x(-0.75, -0.5, 0, 0.5, 0.75)),
    "hardshrink 0.5": (lambda t: F.hardshrink(t, 0.5), x(-0.75, -0.5, 0, 0.5, 0.75)),
    "softsign": (F.softsign, x(-1, 0, 2)),
    "clamp 0.25 0.75": (lambda t: torch.clamp(t, 0.25, 0.75), x(0, 0.25, 0.5, 0.75, 1)),
    "clamp 0.25": (lambda t: torch.clamp(t, min=0.25), x(0, 0.25, 0.5)),
    "relu6": (F.relu6, x(-1, 0, 3, 6, 7)),
    "maximum 0.5": (lambda t: torch.maximum(t, torch.tensor(0.5, dtype=torch.float64)), x(0.25, 0.5, 0.75)),
    "minimum 0.5": (lambda t: torch.minimum(t, torch.tensor(0.5, dtype=torch.float64)), x(0.25, 0.5, 0.75)),
    "amax": (lambda t: torch.amax(t, -1), x(1, 3, 3, 2)),
    "amin": (lambda t: torch.amin(t, -1), x(1, 3, 1, 1)),
    "prod, no zero": (lambda t: torch.prod(t, -1), x(2, 3, 4)),
    "prod, one zero": (lambda t: torch.prod(t, -1), x(2, 0, 4)),
    "prod, two zeros": (lambda t: torch.prod(t, -1), x(0, 0, 4)),
    "norm 1": (lambda t: torch.linalg.vector_norm(t, 1, -1), x(-1, 0, 2)),
    "norm 2": (lambda t: torch.linalg.vector_norm(t, 2, -1), x(3, 0, 4)),
    "norm 2 at zero": (lambda t: torch.linalg.vector_norm(t, 2, -1), x(0, 0, 0)),
    "pow 2": (lambda t: t.pow(2), x(-1, 0, 2)),
    "pow 3": (lambda t: t.pow(3), x(-1, 0, 2)),
    "pow 0": (lambda t: t.pow(0), x(-1, 0, 2)),
    "0.5 pow x": (lambda t: torch.pow(torch.tensor(0.5, dtype=torch.float64), t), x(-1, 0, 2)),
    "0 pow x": (lambda t: torch.pow(torch.tensor(0.0, dtype=torch.float64), t), x(1, 2)),
    "gelu": (F.gelu, x(-1, 0, 2)),
    "gelu tanh": (lambda t: F.gelu(t, approximate="tanh"), x(-1, 0, 2)),
    "silu": (F.silu, x(-1, 0, 2)),
    "mish": (F.mish, x(-1, 0, 2)),
    "softplus": (F.softplus, x(-1, 0, 2)),
    "logsumexp": (lambda t: torch.logsumexp(t, -1), x(1, 1, 3)),
}

result = {}
for name, (function, values) in CASES.items():
    values.requires_grad_()
    function(values).sum().backward()
    result[name] = {"x": values[0].tolist(), "gradient": values.grad[0].tolist()}
print(json.dumps({"torch": torch.__version__, "cases": result}, indent=1))
