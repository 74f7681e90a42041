"""Makes ers.onnx and ers.json: RobRank's ten scores and ERS of a small fixed model, computed in PyTorch (float64) from
the definitions of the attacks (arXiv:2002.11293, 2106.03614), with autograd and plain loops.

    python ers.py          # torch 2.11, onnx 1.22, numpy

The images that an attack is about are drawn by a ChaCha8 written here, so that the draws are those of the Rust program
without a line of it.
"""
import base64
import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

SIZE, CLASSES, PER_CLASS, DIM = 8, 12, 5, 12
EPSILON, STEP, STEPS = 8 / 255, 3 / 255, 32
SEED, NAME = 7, "ers"
PARTS = ["ca+", "ca-", "qa+", "qa-", "tma", "es", "ltm", "gtm", "gtt"]


# --- the program's random numbers -----------------------------------------------------------------------------------
def chacha8(key):
    """Words of ChaCha with 8 rounds, counter and stream 0 (Bernstein 2008)."""
    constants = struct.unpack("<4I", b"expand 32-byte k")
    rotate = lambda v, n: ((v << n) | (v >> (32 - n))) & 0xFFFFFFFF
    counter = 0
    while True:
        state = list(constants) + list(struct.unpack("<8I", key)) + [counter & 0xFFFFFFFF, counter >> 32, 0, 0]
        x = state[:]

        def quarter(a, b, c, d):
            for i, j, k, n in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]:
                x[i] = (x[i] + x[j]) & 0xFFFFFFFF
                x[k] = rotate(x[k] ^ x[i], n)

        for _ in range(4):
            quarter(0, 4, 8, 12), quarter(1, 5, 9, 13), quarter(2, 6, 10, 14), quarter(3, 7, 11, 15)
            quarter(0, 5, 10, 15), quarter(1, 6, 11, 12), quarter(2, 7, 8, 13), quarter(3, 4, 9, 14)
        yield from ((a + b) & 0xFFFFFFFF for a, b in zip(x, state))
        counter += 1


def below(words, bound):
    """Lemire 2019: multiply, keep the high word, reject the biased low ones."""
    while True:
        low, high = next(words), next(words)
        product = (low | high << 32) * bound
        if product % 2**64 >= (2**64 - bound) % bound:
            return product >> 64


def stream(purpose, *counters):
    name = struct.pack("<QQ", SEED, len(purpose)) + purpose.encode() + struct.pack(f"<{len(counters)}Q", *counters)
    return chacha8(hashlib.sha256(name).digest())


# --- images and model -----------------------------------------------------------------------------------------------
rng = np.random.default_rng(5)
patterns = rng.integers(70, 186, (CLASSES, 3, SIZE, SIZE))
labels = np.repeat(np.arange(CLASSES), PER_CLASS)
pixels = np.clip(patterns[labels] + rng.integers(-45, 46, (len(labels), 3, SIZE, SIZE)), 0, 255).astype(np.uint8)
N = len(labels)
weights = {
    "conv1": rng.normal(0, 0.45, (10, 3, 3, 3)), "bias1": rng.normal(0, 0.1, 10),
    "conv2": rng.normal(0, 0.2, (14, 10, 3, 3)), "bias2": rng.normal(0, 0.1, 14),
    "dense": rng.normal(0, 0.2, (DIM, 14 * 4)), "bias3": rng.normal(0, 0.05, DIM),
}
weights = {name: w.astype(np.float32) for name, w in weights.items()}
W = {name: torch.tensor(w, dtype=torch.float64) for name, w in weights.items()}


def embed(x):
    h = torch.relu(torch.nn.functional.conv2d(x - 0.5, W["conv1"], W["bias1"], stride=2, padding=1))
    h = torch.relu(torch.nn.functional.conv2d(h, W["conv2"], W["bias2"], stride=2, padding=1))
    return torch.nn.functional.normalize(h.flatten(1) @ W["dense"].T + W["bias3"])


def save_model(path):
    conv = dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    nodes = [
        helper.make_node("Sub", ["pixels", "grey"], ["centred"]),
        helper.make_node("Conv", ["centred", "conv1", "bias1"], ["a"], **conv),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "conv2", "bias2"], ["c"], **conv),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "dense", "bias3"], ["f"], transB=1),
        helper.make_node("LpNormalization", ["f"], ["embedding"], axis=1, p=2),
    ]
    tensors = [numpy_helper.from_array(w, name) for name, w in weights.items()]
    tensors.append(numpy_helper.from_array(np.float32(0.5).reshape(1), "grey"))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "ers", [info("pixels", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [info("embedding", TensorProto.FLOAT, ["n", DIM])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


X = torch.tensor(pixels.astype(np.float32) / np.float32(255), dtype=torch.float64)
G = embed(X).detach()
distance = lambda a, b: torch.linalg.vector_norm(a - b, dim=-1)


# --- whom each attack is about --------------------------------------------------------------------------------------
def nearest(i):
    d = distance(G, G[i])
    return sorted((j for j in range(N) if j != i), key=lambda j: (float(d[j]), j))


def about(part, i, count, masked):
    words = stream(f"target/{NAME}:{part}", i)
    skip = lambda place: place + (i <= place)
    top = min(max(int(N * 0.01), count), N - 1)
    if part in ("ca+", "qa+", "tma"):
        return [skip(below(words, N - 1)) for _ in range(count)]
    if part == "ca-":
        near = nearest(i)[:top]
        return [near[below(words, len(near))] for _ in range(count)]
    if part == "qa-":
        near, drawn = nearest(i)[:top], []
        for _ in range(count):
            at = below(words, len(near))
            drawn.append(near[at])
            near[at] = near[-1]
            near.pop()
        return drawn
    if part == "gtm":
        order = nearest(i)
        label = labels[order[0]] if masked else labels[i]
        found = next(j for j in order if labels[j] != label)
        return [int(np.sum(labels[:found] != label))] if masked else [found]
    if part == "gtt":
        return nearest(i)[:1]
    return []


# --- the attacks ----------------------------------------------------------------------------------------------------
def losses(part, e, chosen, self_is_positive):
    rows = []
    for i in range(N):
        near, far = (1, -1) if part[-1] == "+" else (-1, 1)
        if part in ("ca+", "ca-"):
            a = torch.stack([distance(G[q], e[i]) for q in chosen[i]])  # [W]
            b = torch.cdist(G, G[chosen[i]])  # [N, W]
            rows.append((near * (a - b)).clamp(min=0).mean())
        elif part in ("qa+", "qa-", "gtt"):
            a = distance(G[chosen[i]], e[i])  # [M]
            squared = ((G - e[i]) ** 2).sum(1)
            b = squared.clamp(min=1e-7).sqrt()[:, None]
            rows.append((near * (a - b)).clamp(min=0).mean())
        elif part == "tma":
            rows.append(1 - torch.nn.functional.cosine_similarity(e[i], G[chosen[i][0]], dim=0))
        elif part == "es":
            rows.append(-torch.linalg.vector_norm(e[i] - G[i] + 1e-4))
        elif part == "ltm":
            d = distance(G, e[i])
            # The distance to itself is 0 at the start, where it has no gradient.
            d = torch.where(d > 0, d, d.detach())
            same = torch.tensor(labels == labels[i])
            other = ~same
            if not self_is_positive:
                same[i] = False
            rows.append((d[other].max() - d[same].min()).clamp(min=0))
        else:
            rows.append(distance(G[chosen[i][0]], e[i]))
    return torch.stack(rows)


def attack(part, count, code):
    chosen = [about(part, i, count, code) for i in range(N)]
    low, high = (X - EPSILON).clamp(min=0), (X + EPSILON).clamp(max=1)
    x, best, kept, before = X.clone(), None, None, None
    for step in range(STEPS + 1):
        x = x.detach().requires_grad_()
        e = embed(x)
        loss = losses(part, e, chosen, code)
        if best is None:
            best, kept = loss.detach().clone(), x.detach().clone()
        better = torch.ones(N, dtype=bool) if code and step == STEPS else loss.detach() < best
        best[better], kept[better] = loss.detach()[better], x.detach()[better]
        if step == STEPS:
            break
        before = e.detach()
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        gradient = torch.nan_to_num(gradient)
        x = torch.min(torch.max(x - STEP * gradient.sign(), low), high)
    return chosen, embed(kept).detach(), before


def scores(part, chosen, e, before, code):
    out = []
    for i in range(N):
        row = distance(G, e[i])
        without = row.clone()
        without[i] = np.inf
        hit = 100.0 * (labels[int(without.argmin())] == labels[i])
        if part in ("ca+", "ca-"):
            out.append(np.mean([100 * float((distance(G, G[q]) < distance(G[q], e[i])).sum()) / N for q in chosen[i]]))
        elif part in ("qa+", "qa-"):
            out.append(np.mean([100 * float((row < row[c]).sum()) / N for c in chosen[i]]))
        elif part == "tma":
            out.append(float(e[i] @ G[chosen[i][0]]))
        elif part == "es":
            out.append((float(distance((before if code else e)[i], G[i])), hit))
        elif part == "gtt":
            out.append(100.0 * bool((without < row[chosen[i][0]]).sum() < 4))
        else:
            out.append(hit)
    return out


def ers(mean):
    return np.mean([2 * mean["ca+"], 100 - mean["ca-"], 2 * mean["qa+"], 100 - mean["qa-"], 100 * (1 - mean["tma"]),
                    50 * (2 - mean["es:d"]), mean["es:r"], mean["ltm"], mean["gtm"], mean["gtt"]])


def measure(count, code):
    mean = {}
    for part in PARTS:
        chosen, e, before = attack(part, count, code)
        found = scores(part, chosen, e, before, code)
        if part == "es":
            mean["es:d"], mean["es:r"] = (float(np.mean([s[k] for s in found])) for k in range(2))
        else:
            mean[part] = float(np.mean(found))
    mean["ers"] = float(ers(mean))
    return mean


here = Path(__file__).parent
save_model(here / "ers.onnx")
runs = [{"count": count, "code": code, "mean": measure(count, code)} for count, code in
        [(1, False), (1, True), (3, False)]]
json.dump({
    "made_by": f"ers.py, torch {torch.__version__}, onnx {onnx.__version__}, numpy {np.__version__}",
    "size": SIZE, "labels": labels.tolist(), "pixels": base64.b64encode(pixels.tobytes()).decode(),
    "seed": SEED, "name": NAME, "runs": runs,
}, open(here / "ers.json", "w"), indent=1)
for run in runs:
    print(run)
