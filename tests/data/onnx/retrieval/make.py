"""Trains two small encoders in PyTorch, exports them, and attacks them in PyTorch as `mdprop run` does on the files:
`python make.py [NAME ...]`, with ../exports/requirements.txt."""

import pathlib
import sys
import warnings

import numpy as np
import onnx
import torch
from PIL import Image
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional as F
from torchvision import models as tv

from drawings import SIZE, classes
from streams import draw_targets, start

HERE = pathlib.Path(__file__).parent
CLASSES, EACH = 36, 8
MEAN, STD = torch.tensor([0.5, 0.45, 0.55]).view(3, 1, 1), torch.tensor([0.25, 0.3, 0.28]).view(3, 1, 1)
SEED, STEPS = 11, 10
# Name, targets, grey levels: the attacks of the suite in tests/it/retrieval.rs.
ATTACKS = [("single-target", 1, 4), ("single-target", 1, 8), ("multi-target", 3, 8)]


class Head(nn.Module):
    def __init__(self, backbone, features):
        super().__init__()
        self.backbone, self.linear = backbone, nn.Linear(features, 32)

    def forward(self, x):
        return F.normalize(self.linear(self.backbone(x).flatten(1)), dim=1)


def mobilenet():
    """Inverted residuals, depthwise convolutions, gates, hard swish."""

    def row(*shape):
        return tv.mobilenetv3.InvertedResidualConfig(*shape, width_mult=1.0)

    rows = [row(16, 3, 32, 16, False, "RE", 1, 1), row(16, 3, 48, 16, True, "HS", 1, 1), row(16, 5, 48, 24, True, "HS", 1, 1)]
    net = tv.MobileNetV3(rows, last_channel=32)
    net.classifier = nn.Identity()
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 0.1  # a short training
    return Head(net, net.features[-1].out_channels)


class Tokens(nn.Module):
    """Two convolutions make 6 × 6 tokens; two of torchvision's attention blocks follow."""

    def __init__(self, width=32):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        )
        self.place = nn.Parameter(torch.randn(1, (SIZE // 4) ** 2, width) * 0.2)
        self.blocks = nn.Sequential(*(tv.vision_transformer.EncoderBlock(2, width, 48, 0.0, 0.0) for _ in range(2)))
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2) + self.place
        return self.norm(self.blocks(x)).mean(1)


def transformer():
    return Head(Tokens(), 32)


def train(net, images, labels, steps):
    """Normalised softmax over the training classes."""
    proxies = nn.Parameter(torch.randn(int(labels.max()) + 1, 32) / 32**0.5)
    optimizer = torch.optim.AdamW([*net.parameters(), proxies], lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    order = torch.Generator().manual_seed(0)
    net.train()
    for step in range(steps):
        batch = torch.randint(len(images), (64,), generator=order)
        x = (images[batch].float() / 255 - MEAN) / STD
        loss = F.cross_entropy(net(x) @ F.normalize(proxies, dim=1).T * 16, labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            print(f"  step {step}: loss {loss.item():.2f}", file=sys.stderr)
    net.eval()


def first_hits(queries, gallery, labels):
    """Rank of the first image of the same class, the query's own clean image left out, ties against the model."""
    distances = ((queries[:, None].double() - gallery[None].double()) ** 2).sum(2).float().numpy()
    ranks = []
    for i, row in enumerate(distances):
        others = np.arange(len(labels)) != i
        nearest = row[(labels == labels[i]) & others].min()
        ranks.append(1 + int((row[(labels != labels[i])] <= nearest).sum()))
    return np.array(ranks, np.int32)


def attack(net, pixels, labels, gallery, name, count, levels):
    """Signed gradient steps in the ball, uniform start, best iterate kept: float32 throughout, as one would."""
    radius = np.float32(levels / 255)
    length = torch.tensor(radius) * np.float32(min(2.5 / STEPS, 1.0))
    clean = pixels.numpy()
    lower, upper = np.maximum(clean - radius, np.float32(0)), np.minimum(clean + radius, np.float32(1))
    targets = np.array([draw_targets(labels, i, count, SEED, name) for i in range(len(labels))])
    begin = np.stack([start(clean[i], lower[i], upper[i], radius, i, SEED, name) for i in range(len(labels))])
    x, lower, upper, aims = torch.from_numpy(begin), torch.from_numpy(lower), torch.from_numpy(upper), gallery[targets]
    best, best_loss = x.clone(), torch.full((len(x),), torch.inf)
    for step in range(STEPS + 1):
        x.requires_grad_()
        squared = ((net((x - MEAN) / STD)[:, None] - aims) ** 2).sum(2)
        # One target: its squared distance; several: the mean distance.
        loss = squared[:, 0] if count == 1 else squared.sqrt().mean(1)
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        x, better = x.detach(), loss.detach() < best_loss
        best[better], best_loss = x[better], torch.minimum(loss.detach(), best_loss)
        if step < STEPS:
            x = torch.minimum(torch.maximum(x - length * gradient.sign(), lower), upper)
    with torch.no_grad():
        ranks = first_hits(net((best - MEAN) / STD), gallery, labels)
    return dict(first_hit=ranks, targets=targets.astype(np.int32), loss=best_loss.numpy())


def main(wanted):
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    seen, seen_labels = (torch.from_numpy(a) for a in classes(200, 32, seed=1))
    images, labels = classes(CLASSES, EACH, seed=2)
    sheet = images.reshape(CLASSES, EACH, 3, SIZE, SIZE).transpose(0, 3, 1, 4, 2).reshape(CLASSES * SIZE, EACH * SIZE, 3)
    Image.fromarray(sheet).save(HERE / "drawings.png", optimize=True)
    pixels = torch.from_numpy(images.astype(np.float32) / np.float32(255))
    for name, build, steps, dynamo in [("mobilenet", mobilenet, 800, True), ("transformer", transformer, 3000, False)]:
        if wanted and name not in wanted:
            continue
        torch.manual_seed(3)
        net = build()
        train(net, seen, seen_labels, steps)
        with torch.no_grad():
            gallery = net((pixels - MEAN) / STD)
        found = {"clean.first_hit": first_hits(gallery, gallery, labels)}
        print(f"{name}: clean recall@1 {(found['clean.first_hit'] == 1).mean():.3f}")
        for word, count, levels in ATTACKS:
            result = attack(net, pixels, labels, gallery, word, count, levels)
            found |= {f"{word}-{levels}.{key}": value for key, value in result.items()}
            print(f"{name}: {word} {levels}/255 recall@1 {(result['first_hit'] == 1).mean():.3f}")
        path = HERE / f"{name}.onnx"
        names = dict(input_names=["image"], output_names=["embedding"])
        example = torch.rand(2, 3, SIZE, SIZE)
        if dynamo:
            batch = ({0: torch.export.Dim("batch", min=1, max=512)},)
            torch.onnx.export(net, (example,), path, dynamo=True, dynamic_shapes=batch, external_data=False, verbose=False, **names)
        else:
            axes = {"image": {0: "batch"}, "embedding": {0: "batch"}}
            torch.onnx.export(net, (example,), path, dynamo=False, opset_version=17, dynamic_axes=axes, **names)
        model = onnx.load(path)
        for item in [*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph, model]:
            del item.metadata_props[:]
            item.doc_string = ""
        onnx.save(model, path)
        save_file(found, HERE / f"{name}.safetensors")
        (HERE / f"{name}.safetensors").chmod(0o644)


if __name__ == "__main__":
    main(sys.argv[1:])
