"""Makes the fixtures of this folder: PyTorch's answers for weights that a formula gives.

torch==2.11.0 torchvision==0.26.0 numpy==2.4.6 pillow (imported by torchvision). Run: python make.py
The formula is repeated in src/train/formula.rs: a 64-bit hash of the tensor's name and the entry's index.
"""
import hashlib, json, pathlib
import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

HERE = pathlib.Path(__file__).parent
torch.set_num_threads(1)


def uniform(name, count):
    """[0, 1) with 24 bits: FNV-1a of the name, then splitmix64 of hash + index."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**24


def formula(name, shape):
    u = uniform(name, int(np.prod(shape)))
    last = name.rsplit(".", 1)[-1]
    if len(shape) > 1:  # variance 2 / fan_in
        v = (2 * u - 1) * np.sqrt(6 / np.prod(shape[1:]))
    elif last in ("weight", "running_var"):
        v = 0.5 + u
    else:
        v = 0.2 * (2 * u - 1)
    return torch.from_numpy(v.astype(np.float32)).reshape(shape)


def pixels(shape):
    return torch.from_numpy(uniform("pixels", int(np.prod(shape))).astype(np.float32)).reshape(shape)


def normalized(x):
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    return (x - mean) / std


def floats(t):
    return [float(f"{v:.9g}") for v in t.detach().flatten().tolist()]


def resnet(depth, stride_in, dim):
    model = getattr(torchvision.models, f"resnet{depth}")()
    model.fc = nn.Linear(model.fc.in_features, dim)
    if stride_in == "conv1":
        for m in model.modules():
            if isinstance(m, torchvision.models.resnet.Bottleneck):
                m.conv1.stride, m.conv2.stride = m.conv2.stride, m.conv1.stride
    return model


# 1. Names, shapes and counts of torchvision's state dicts, without the classifier and the batch counters.
tables = {}
for depth in (18, 34, 50, 101, 152):
    state = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    rows = [
        f"{name} {list(t.shape)}"
        for name, t in state.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    ]
    trained = sum(t.numel() for n, t in state.items() if "running" not in n and "num_batches" not in n and "fc." not in n)
    tables[str(depth)] = {
        "tensors": len(rows),
        "trained": trained,
        "sha256": hashlib.sha256("\n".join(rows).encode()).hexdigest(),
        "rows": rows if depth in (18, 50) else [],
    }
(HERE / "torchvision.json").write_text(json.dumps(tables, indent=0) + "\n")

# 2. Embeddings of two 64 x 64 images with running statistics.
answers = []
for depth, stride_in in ((18, "conv2"), (50, "conv2"), (50, "conv1")):
    model = resnet(depth, stride_in, 8)
    state = {}
    for name, t in model.state_dict().items():
        ours = name.replace("fc.", "embedding.")
        state[name] = t if name.endswith("num_batches_tracked") else formula(ours, tuple(t.shape))
    model.load_state_dict(state)
    model.eval()
    with torch.no_grad():
        out = F.normalize(model(normalized(pixels((2, 3, 64, 64)))))
    answers.append({"depth": depth, "stride_in": stride_in, "embedding": floats(out)})
(HERE / "resnet_forward.json").write_text(json.dumps(answers, indent=0) + "\n")


# 3. One training pass of a convnet with two auxiliary branches, the batch split at every batch norm, in float32 and with the
# feature maps under autocast.
class MixNorm(nn.Module):
    def __init__(self, channels, sizes):
        super().__init__()
        self.sizes = sizes
        self.sets = nn.ModuleList(nn.BatchNorm2d(channels) for _ in sizes)

    def forward(self, x):
        return torch.cat([bn(part) for bn, part in zip(self.sets, x.split(self.sizes))])


def name_of(block, branch, entry):
    return f"block{block}.bn.{entry}" if branch == 0 else f"block{block}.bn.aux{branch}.{entry}"


def mixed_pass(autocast):
    sizes, widths, dim, batch, side = [4, 2, 2], [4, 6], 5, 8, 12
    convs, norms = nn.ModuleList(), nn.ModuleList()
    channels = 3
    for block, width in enumerate(widths, 1):
        conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        conv.weight.data = formula(f"block{block}.conv.weight", tuple(conv.weight.shape))
        norm = MixNorm(width, sizes)
        for branch, bn in enumerate(norm.sets):
            for entry in ("weight", "bias", "running_mean", "running_var"):
                getattr(bn, entry).data = formula(name_of(block, branch, entry), (width,))
        convs.append(conv)
        norms.append(norm)
        channels = width
    head = nn.Linear(channels, dim)
    head.weight.data = formula("embed.weight", (dim, channels))
    head.bias.data = formula("embed.bias", (dim,))
    x = normalized(pixels((batch, 3, side, side)))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for i, (conv, norm) in enumerate(zip(convs, norms)):
            x = F.relu(norm(conv(x)))
            if i + 1 < len(widths):
                x = F.max_pool2d(x, 2)
    assert x.dtype == (torch.bfloat16 if autocast else torch.float32)
    out = F.normalize(head(x.mean((2, 3), dtype=torch.float32)))
    loss = (out * formula("loss.bias", (batch, dim))).sum()
    loss.backward()
    fixture = {"embedding": floats(out), "statistics": {}, "gradients": {}}
    for block, (conv, norm) in enumerate(zip(convs, norms), 1):
        fixture["gradients"][f"block{block}.conv.weight"] = floats(conv.weight.grad)
        for branch, bn in enumerate(norm.sets):
            for entry in ("running_mean", "running_var"):
                fixture["statistics"][name_of(block, branch, entry)] = floats(getattr(bn, entry))
            for entry in ("weight", "bias"):
                fixture["gradients"][name_of(block, branch, entry)] = floats(getattr(bn, entry).grad)
    fixture["gradients"]["embed.weight"] = floats(head.weight.grad)
    fixture["gradients"]["embed.bias"] = floats(head.bias.grad)
    return fixture


for name, autocast in (("mix_batch_norm.json", False), ("mix_batch_norm_bf16.json", True)):
    (HERE / name).write_text(json.dumps(mixed_pass(autocast), indent=0) + "\n")
