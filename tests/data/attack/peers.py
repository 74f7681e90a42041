"""What other libraries' attacks leave of recall@1 on ../onnx/retrieval/mobilenet.onnx: `python peers.py > peers.json`, with
torch 2.11, torchattacks 3.5.1, foolbox 3.3.4, onnx 1.19 and Pillow. Nothing in it calls this program.

Those libraries attack classifiers. The fair way to lend them a retrieval model: the logit of a class is minus the distance
to its nearest gallery image, the query's own image left out. Then "misclassified" and "recall@1 lost" are the same thing,
and their losses push in the right direction. All 288 drawings are queries and gallery at once.
"""

import contextlib
import json
import pathlib
import sys

import foolbox
import numpy as np
import onnx
import torch
import torchattacks
from onnx import numpy_helper
from PIL import Image
from torch import nn
from torch.nn import functional as F

HERE = pathlib.Path(__file__).parent
RETRIEVAL = HERE.parent / "onnx" / "retrieval"
CLASSES, EACH, SIZE = 36, 8, 24
MEAN, STD = torch.tensor([0.5, 0.45, 0.55]).view(3, 1, 1), torch.tensor([0.25, 0.3, 0.28]).view(3, 1, 1)
LINF, L2, STEPS = 4 / 255, 0.5, 20


class Encoder(nn.Module):
    """The file's nodes, one by one."""

    def __init__(self, path):
        super().__init__()
        graph = onnx.load(path).graph
        self.nodes, self.start, self.end = list(graph.node), graph.input[0].name, graph.output[0].name
        self.constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}

    def forward(self, pixels):
        values = {**self.constants, self.start: (pixels - MEAN) / STD}
        for node in self.nodes:
            given = [values[name] for name in node.input if name]
            options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            values[node.output[0]] = apply(node.op_type, given, options)
        return values[self.end]


def apply(op, given, options):
    x = given[0]
    axes = lambda: tuple(given[1].tolist()) if len(given) > 1 else None
    match op:
        case "Conv":
            top, left, bottom, right = options["pads"]
            bias = given[2] if len(given) > 2 else None
            return F.conv2d(F.pad(x, (left, right, top, bottom)), given[1], bias, options["strides"], groups=options["group"])
        case "Gemm":
            y = x @ (given[1].T if options.get("transB") else given[1])
            return y + given[2] if len(given) > 2 else y
        case "ReduceMean":
            return x.mean(axes(), keepdim=bool(options.get("keepdims", 1)))
        case "ReduceL2":
            return x.square().sum(axes(), keepdim=bool(options.get("keepdims", 1))).sqrt()
        case "HardSigmoid":
            return (x * options.get("alpha", 0.2) + options.get("beta", 0.5)).clamp(0, 1)
        case "HardSwish":
            return F.hardswish(x)
        case "Relu":
            return x.relu()
        case "Add":
            return x + given[1]
        case "Mul":
            return x * given[1]
        case "Div":
            return x / given[1]
        case "Clip":
            return x.clamp(min=given[1])
        case "Shape":
            return torch.tensor(x.shape)[options.get("start", 0) : options.get("end", None)]
        case "Concat":
            return torch.cat([g.reshape(-1) if options["axis"] == 0 else g for g in given], options["axis"])
        case "Reshape":
            sizes = given[1].tolist()
            return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(sizes)])
        case "Expand":
            return x.expand(torch.broadcast_shapes(x.shape, given[1].tolist()))
    raise NotImplementedError(op)


class NearestOfClass(nn.Module):
    """`[n, classes]`: minus the distance to the nearest gallery image of each class. `own`: what each query leaves out."""

    def __init__(self, encoder, gallery, labels):
        super().__init__()
        self.encoder, self.gallery, self.labels, self.own = encoder, gallery, labels, None

    def forward(self, pixels):
        distances = torch.cdist(self.encoder(pixels), self.gallery)
        rows = self.own if len(self.own) == len(pixels) else self.own.repeat(len(pixels) // len(self.own))
        distances = distances.scatter(1, rows[:, None], torch.inf)
        return -torch.stack([distances[:, self.labels == c].amin(1) for c in range(CLASSES)], 1)


def recall(net, pixels, labels):
    """recall@1 in percent, ties against the model, distances in float64."""
    with torch.no_grad():
        e = net.encoder(pixels).double()
    distances = torch.cdist(e, net.gallery.double()).scatter(1, torch.arange(len(e))[:, None], torch.inf)
    same = labels[:, None] == labels[None]
    own = distances.masked_fill(~same, torch.inf).amin(1)
    other = distances.masked_fill(same, torch.inf).amin(1)
    return 100 * (own < other).double().mean().item()


def checked(clean, adversarial, norm, radius):
    change = (adversarial - clean).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert size.max() <= radius * (1 + 1e-4) + 1e-6, (norm, size.max())
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    return adversarial


def robrank_style(net, pixels, labels):
    """Signed steps on the distance to the clean embedding (RobRank's embedding shift), uniform start, last iterate."""
    with torch.no_grad():
        clean = net.encoder(pixels)
    x = (pixels + torch.empty_like(pixels).uniform_(-LINF, LINF)).clamp(0, 1)
    for _ in range(STEPS):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad((net.encoder(x) - clean).square().sum(), x)
        x = x.detach() + 2.5 * LINF / STEPS * gradient.sign()
        x = torch.minimum(torch.maximum(x, pixels - LINF), pixels + LINF).clamp(0, 1)
    return x


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sheet = np.asarray(Image.open(RETRIEVAL / "drawings.png").convert("RGB"))
    images = sheet.reshape(CLASSES, SIZE, EACH, SIZE, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, SIZE, SIZE)
    pixels = torch.from_numpy(images.astype(np.float32) / np.float32(255))
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    encoder = Encoder(RETRIEVAL / "mobilenet.onnx").eval()
    with torch.no_grad():
        gallery = encoder(pixels)
    net = NearestOfClass(encoder, gallery, labels).eval()
    net.own = torch.arange(len(pixels))
    linf, l2 = dict(eps=LINF, alpha=2.5 * LINF / STEPS, steps=STEPS), dict(eps=L2, alpha=2.5 * L2 / STEPS, steps=STEPS)
    fool = foolbox.PyTorchModel(net, bounds=(0, 1))

    def foolbox_attack(attack, radius):
        return attack(fool, pixels, labels, epsilons=radius)[1].detach()

    peers = {
        "linf": {
            "torchattacks PGD": torchattacks.PGD(net, **linf)(pixels, labels),
            "torchattacks MIFGSM": torchattacks.MIFGSM(net, eps=LINF, alpha=LINF / STEPS, steps=STEPS)(pixels, labels),
            "torchattacks APGD ce": torchattacks.APGD(net, norm="Linf", eps=LINF, steps=STEPS, loss="ce")(pixels, labels),
            "torchattacks APGD dlr": torchattacks.APGD(net, norm="Linf", eps=LINF, steps=STEPS, loss="dlr")(pixels, labels),
            "foolbox LinfPGD": foolbox_attack(foolbox.attacks.LinfPGD(rel_stepsize=2.5 / STEPS, steps=STEPS), LINF),
            "RobRank-style ES": robrank_style(net, pixels, labels),
        },
        "l2": {
            "torchattacks PGDL2": torchattacks.PGDL2(net, **l2)(pixels, labels),
            "torchattacks APGD ce": torchattacks.APGD(net, norm="L2", eps=L2, steps=STEPS, loss="ce")(pixels, labels),
            "foolbox L2PGD": foolbox_attack(foolbox.attacks.L2PGD(rel_stepsize=2.5 / STEPS, steps=STEPS), L2),
        },
    }
    black = {
        "torchattacks Square": ("linf", LINF, torchattacks.Square(net, norm="Linf", eps=LINF, n_queries=300)(pixels, labels)),
    }
    found = {"clean": recall(net, pixels, labels), "radius": {"linf": LINF, "l2": L2}, "steps": STEPS}
    for norm, radius in [("linf", LINF), ("l2", L2)]:
        found[norm] = {
            name: round(recall(net, checked(pixels, x, norm, radius), labels), 3) for name, x in peers[norm].items()
        }
    found["black box, 300 queries"] = {
        name: round(recall(net, checked(pixels, x, norm, radius), labels), 3) for name, (norm, radius, x) in black.items()
    }
    found["versions"] = {"torch": torch.__version__, "torchattacks": torchattacks.__version__, "foolbox": foolbox.__version__}
    return found


if __name__ == "__main__":
    # torchattacks talks on stdout.
    with contextlib.redirect_stdout(sys.stderr):
        found = main()
    json.dump(found, sys.stdout, indent=1)
    print()
