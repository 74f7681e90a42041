"""Peer of training_step.rs: one training step in PyTorch eager, in two forms.

official: the loop of the paper's code (its algorithm; no line of it): plain nn modules in PyTorch's default memory
layout, mixed norms by slices, targets from a pass with its graph, the loss anchor by anchor, Adam with its defaults. The
code's logging of every gradient through NumPy is left out.
tuned: the same step as PyTorch's manual would have it: channels_last, targets without a graph, the loss vectorised, Adam
fused; the bench also tells its malloc to keep memory.

Needs torch==2.11.0, torchvision, numpy. Started by the bench as: training_step.py FOLDER FORM THREADS. Talks in lines:
"first" -> loss of the step with the targets and noise of the folder, "step" -> seconds of one by the clock and of processors, "peak" -> most memory in
MiB.
"""
import json
import resource
import sys
import time
from collections import OrderedDict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision

folder, form, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
tuned = form == "tuned"
torch.set_num_threads(threads)
torch.manual_seed(0)
case = json.load(open(f"{folder}/case.json"))
groups = len(case["targets"])
target_counts = [len(t) for t in case["targets"]]
EPSILON, NOISE = 0.01, 0.0005
# (branch, images) of the batch in order; one entry without a count: all of it.
route = [(0, None)]


class MixNorm(nn.BatchNorm2d):
    def __init__(self, channels):
        super().__init__(channels)
        for g in range(groups):
            setattr(self, f"aux{g + 1}", nn.BatchNorm2d(channels))

    def one(self, branch, x):
        return super().forward(x) if branch == 0 else getattr(self, f"aux{branch}")(x)

    def forward(self, x):
        if len(route) == 1:
            return self.one(route[0][0], x)
        counts = [count for _, count in route]
        if tuned:
            parts = x.split(counts)
        else:
            ends = np.cumsum(counts)
            parts = [x[end - count:end] for count, end in zip(counts, ends)]
        return torch.cat([self.one(branch, part) for (branch, _), part in zip(route, parts)])


def convnet(widths):
    blocks, previous = OrderedDict(), 3
    for i, width in enumerate(widths, 1):
        block = OrderedDict(conv=nn.Conv2d(previous, width, 3, padding=1, bias=False), bn=MixNorm(width),
                            relu=nn.ReLU(inplace=True))
        if i < len(widths):
            block["pool"] = nn.MaxPool2d(2)
        blocks[f"block{i}"] = nn.Sequential(block)
        previous = width
    blocks["pool"] = nn.AdaptiveAvgPool2d(1)
    blocks["flat"] = nn.Flatten()
    blocks["embed"] = nn.Linear(previous, case["dim"])
    return nn.Sequential(blocks)


def network():
    kind, _, value = case["backbone"].partition(" = ")
    number = value.strip("{ }").split(" = ")[1]
    if kind == "convnet":
        return convnet(json.loads(number))
    return getattr(torchvision.models, f"resnet{number}")(num_classes=case["dim"], norm_layer=MixNorm)


def load(net):
    flat, at, state = torch.from_numpy(np.fromfile(f"{folder}/weights.f32", dtype="<f4")), 0, {}
    for name, shape in case["tensors"]:
        count = int(np.prod(shape))
        state[name.replace("embedding.", "fc.")] = flat[at:at + count].view(shape)
        at += count
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all("num_batches_tracked" in name for name in missing), (missing, unexpected)


def embed(x):
    with torch.autocast("cpu", torch.bfloat16, enabled=case["bf16"]):
        answer = net(x)
    return F.normalize(answer.float(), dim=-1)


def attack(x, branch, count, targets, noise):
    """One signed step towards other images' embeddings, by the branch's running statistics."""
    route[:] = [(branch, None)]
    with torch.set_grad_enabled(not tuned):
        embeddings = embed(x.clone())
    if targets is None:
        targets = [torch.randperm(len(x)) for _ in range(count)]
    goals = [embeddings.detach()[t] for t in targets]
    least, most = x.min().item(), x.max().item()
    low, high = (x - EPSILON).clamp(least, most), (x + EPSILON).clamp(least, most)
    if noise is None:
        noise = torch.empty_like(x).uniform_(-NOISE, NOISE)
    moved = (x + noise).requires_grad_()
    answer = embed(moved)
    loss = torch.stack([(goal - answer).norm(dim=1).mean() for goal in goals]).mean() ** 2
    (gradient,) = torch.autograd.grad(loss, moved)
    return torch.min(torch.max(moved.detach() - EPSILON * gradient.sign(), low), high)


def multi_similarity(embeddings, labels, a=2.0, b=40.0, threshold=0.5, margin=0.1):
    """Anchor by anchor."""
    similarity, losses = embeddings @ embeddings.T, []
    for i, row in enumerate(similarity):
        same = labels == labels[i]
        others = row[~same]
        same[i] = False
        own = row[same]
        near, far = others[others + margin > own.min()], own[own - margin < others.max()]
        if len(near) and len(far):
            losses.append(torch.log(1 + torch.exp(-a * (far - threshold)).sum()) / a
                          + torch.log(1 + torch.exp(b * (near - threshold)).sum()) / b)
    # Without a kept anchor the official code raises.
    return torch.stack(losses).mean() if losses else 0 * embeddings.sum()


def vectorised(embeddings, labels, a=2.0, b=40.0, threshold=0.5, margin=0.1):
    s = embeddings @ embeddings.T
    with torch.no_grad():
        same = labels[:, None] == labels[None]
        own = same ^ torch.eye(len(s), dtype=torch.bool)
        near = ~same & (s + margin > s.masked_fill(~own, torch.inf).amin(1, True))
        far = own & (s - margin < s.masked_fill(same, -torch.inf).amax(1, True))
        kept = (far.any(1) & near.any(1)).float()
    up = torch.log1p((torch.exp(-a * (s - threshold)) * far).sum(1)) / a
    down = torch.log1p((torch.exp(b * (s - threshold)) * near).sum(1)) / b
    return ((up + down) * kept).sum() / kept.sum().clamp_min(1)


def step(targets=None, noise=None):
    x, parts, all_labels = (pixels - mean) / std, [], labels
    images, size = x, len(x) // max(groups, 1)
    if groups:
        net.eval()
        for g in range(groups):
            given = (targets[g], noise[g]) if targets else (None, None)
            parts.append(attack(x[g * size:(g + 1) * size], g + 1, target_counts[g], *given))
        net.train()
        images, all_labels = torch.cat([x, *parts]), torch.cat([labels, labels])
    route[:] = [(0, len(x))] + [(g + 1, size) for g in range(groups)]
    loss = (vectorised if tuned else multi_similarity)(embed(images), all_labels)
    adam.zero_grad()
    loss.backward()
    adam.step()
    return loss.item()


def floats(name):
    values = torch.from_numpy(np.fromfile(f"{folder}/{name}.f32", dtype="<f4"))
    return values.view(-1, 3, case["size"], case["size"])


net = network()
load(net)
net.train()
labels, pixels = torch.tensor(case["labels"]), floats("pixels")
if tuned:
    net = net.to(memory_format=torch.channels_last)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
adam = torch.optim.Adam(net.parameters(), lr=case["learning_rate"], weight_decay=4e-4, fused=tuned or None)

print(f"torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
for line in sys.stdin:
    if line.strip() == "first":
        given = [[torch.tensor(t) for t in group] for group in case["targets"]]
        print(step(given, floats("noise").split(len(pixels) // groups)) if groups else step(), flush=True)
    elif line.strip() == "step":
        start, before = time.perf_counter(), time.process_time()
        step()
        print(time.perf_counter() - start, time.process_time() - before, flush=True)
    else:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
