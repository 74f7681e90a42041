"""Reference values for src/train/loss: every loss on the same batch, as plain loops over rows and classes in float64.

Made with Python 3.12+, torch==2.11.0 (CPU), pytorch-metric-learning==2.9.0. Run in this folder: python make_loss_fixtures.py
Triplets are fixed by hand where a loss needs them (the hardest of each anchor), so that no draw is involved. ProxyAnchor
and the plain cross-entropies are also compared with pytorch-metric-learning here, by assertion.
"""
import json
import math
import torch
from pytorch_metric_learning import losses as pml

torch.manual_seed(3)
torch.set_num_threads(1)
N, D, C, CHANNELS, SIDE = 12, 6, 5, 7, 3
LABELS = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 2]  # class 4 is not in the batch


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def f32(tensor):
    """Rounded to float32, kept as float64."""
    return tensor.float().double()


embeddings = f32(unit(torch.randn(N, D))).requires_grad_()
proxies = f32((torch.rand(C, D) * 2 - 1) / math.sqrt(D)).requires_grad_()
features = f32(torch.randn(N, CHANNELS, SIDE, SIDE).abs()).requires_grad_()


def hardest():
    d = torch.cdist(embeddings.detach(), embeddings.detach())
    triplets = []
    for a in range(N):
        positives = [j for j in range(N) if j != a and LABELS[j] == LABELS[a]]
        negatives = [j for j in range(N) if LABELS[j] != LABELS[a]]
        triplets.append((a, max(positives, key=lambda j: d[a, j].item()), min(negatives, key=lambda j: d[a, j].item())))
    return triplets


def distance(i, j):
    return ((embeddings[i] - embeddings[j]) ** 2).sum().add(1e-8).sqrt()


def triplet(margin=0.2):
    terms = [torch.relu(((embeddings[a] - embeddings[p]) ** 2).sum() - ((embeddings[a] - embeddings[n]) ** 2).sum()
                        + margin) for a, p, n in hardest()]
    return sum(terms) / len(terms)


def margin_loss(beta, margin=0.2):
    total, counted = 0, 0
    for a, p, n in hardest():
        pull = torch.relu(distance(a, p) - beta[LABELS[a]] + margin)
        push = torch.relu(beta[LABELS[a]] - distance(a, n) + margin)
        total = total + pull + push
        counted += int(pull.item() > 0 or push.item() > 0)
    return total / max(counted, 1)


def contrastive(positive_margin=0.1, negative_margin=1.0):
    triplets = hardest()
    pull = sum(torch.relu(distance(a, p) - positive_margin) for a, p, _ in triplets) / len(triplets)
    push = sum(torch.relu(negative_margin - distance(a, n)) for a, _, n in triplets) / len(triplets)
    return pull + push


def cosine(i, c):
    return embeddings[i].dot(unit(proxies)[c])


def cross_entropy(logit):
    terms = []
    for i in range(N):
        row = torch.stack([logit(i, c) for c in range(C)])
        terms.append(torch.logsumexp(row, 0) - row[LABELS[i]])
    return sum(terms) / N


def normalized_softmax(temperature=0.05):
    return cross_entropy(lambda i, c: cosine(i, c) / temperature)


def arcface(scale=16.0, margin=0.5):
    return cross_entropy(lambda i, c: scale * (torch.cos(torch.acos(cosine(i, c)) + margin) if c == LABELS[i]
                                               else cosine(i, c)))


def arcface_no_op(scale=16.0, margin=0.5):
    """The margin's difference of the true class is added to every logit of the row."""
    def logit(i, c):
        clamped = cosine(i, c).clamp(1e-10, 1 - 1e-10)
        own = cosine(i, LABELS[i]).clamp(1e-10, 1 - 1e-10)
        return scale * (clamped + torch.cos(torch.acos(own) + margin) - own)
    return cross_entropy(logit)


def proxy_nca():
    terms = []
    for i in range(N):
        d = [((embeddings[i] - unit(proxies)[c]) ** 2).sum() for c in range(C)]
        others = torch.stack([-d[c] for c in range(C) if c != LABELS[i]])
        terms.append(d[LABELS[i]] + torch.logsumexp(others, 0))
    return sum(terms) / N


def proxy_anchor(alpha=32.0, delta=0.1):
    pull, push = 0, 0
    for c in range(C):
        own = [torch.exp(-alpha * (cosine(i, c) - delta)) for i in range(N) if LABELS[i] == c]
        other = [torch.exp(alpha * (cosine(i, c) + delta)) for i in range(N) if LABELS[i] != c]
        if own:
            pull = pull + torch.log(1 + sum(own))
        push = push + torch.log(1 + sum(other))
    return pull / len(set(LABELS)) + push / C


def multi_similarity(rows, a=2.0, b=40.0, t=0.5, margin=0.1):
    terms = []
    for i in range(N):
        s = [rows[i].dot(rows[j]) for j in range(N)]
        positives = [s[j] for j in range(N) if j != i and LABELS[j] == LABELS[i]]
        negatives = [s[j] for j in range(N) if LABELS[j] != LABELS[i]]
        kept_n = [v for v in negatives if v + margin > min(positives)]
        kept_p = [v for v in positives if v - margin < max(negatives)]
        if kept_n and kept_p:
            terms.append(torch.log(1 + sum(torch.exp(-a * (v - t)) for v in kept_p)) / a
                         + torch.log(1 + sum(torch.exp(b * (v - t)) for v in kept_n)) / b)
    return torch.stack(terms).mean()


def divergence(source, target, temperature):
    total = 0
    for i in range(N):
        p = torch.softmax(target[i].detach() / temperature, 0)
        q = torch.softmax(source[i] / temperature, 0)
        total = total + (p * (p.log() - q.log())).sum()
    return total / N * temperature ** 2


def s2sd(layers, temperature=1.5, weight=50.0, feature_weight=30.0, with_maximum=True, with_features=True):
    pooled = features.mean((2, 3))
    if with_maximum:
        pooled = pooled + features.amax((2, 3))
    source = embeddings @ embeddings.T
    own, targets, distilled = multi_similarity(embeddings), [], []
    for w1, b1, w2, b2 in layers:
        target = unit(torch.relu(pooled @ w1.T + b1) @ w2.T + b2)
        targets.append(multi_similarity(target))
        distilled.append(divergence(source, target @ target.T, temperature))
    total = 0.5 * (own + sum(targets) / len(targets)) + weight * sum(distilled) / len(distilled)
    if with_features:
        rows = unit(pooled)
        total = total + feature_weight * divergence(source, rows @ rows.T, temperature)
    return total


def numbers(tensor):
    return [round(v, 9) for v in tensor.detach().flatten().tolist()]


def case(name, loss, parameters):
    leaves = [embeddings] + ([parameters] if parameters is not None else [])
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return {"name": name, "loss": loss.item(), "gradient": numbers(gradients[0]),
            "parameters": numbers(parameters) if parameters is not None else [],
            "parameter_gradient": numbers(gradients[1]) if parameters is not None else []}


if __name__ == "__main__":
    beta = f32(torch.linspace(0.5, 1.3, C)).requires_grad_()
    flat, shapes = [], []
    dims = [4, 3]
    for dim in dims:
        for shape in ((dim, CHANNELS), (dim,), (dim, dim), (dim,)):
            shapes.append(shape)
            flat.append(f32(torch.randn(shape) * 0.5).flatten())
    mlp = torch.cat(flat).requires_grad_()

    def layers():
        parts, at = [], 0
        for shape in shapes:
            count = math.prod(shape)
            parts.append(mlp[at:at + count].reshape(shape))
            at += count
        return [parts[i:i + 4] for i in range(0, len(parts), 4)]

    # Peers, in float64: their mean is over rows, as ours.
    labels = torch.tensor(LABELS)
    peer = pml.ProxyAnchorLoss(C, D, margin=0.1, alpha=32.0).double()
    peer.proxies.data = proxies.detach().clone()
    assert math.isclose(peer(embeddings, labels).item(), proxy_anchor().item(), rel_tol=1e-7)
    peer = pml.ArcFaceLoss(C, D, margin=math.degrees(0.5), scale=16.0).double()
    peer.W.data = proxies.detach().clone().T
    assert math.isclose(peer(embeddings, labels).item(), arcface().item(), rel_tol=1e-7)
    peer = pml.NormalizedSoftmaxLoss(C, D, temperature=0.05).double()
    peer.W.data = proxies.detach().clone().T
    assert math.isclose(peer(embeddings, labels).item(), normalized_softmax().item(), rel_tol=1e-7)

    cases = [
        case("triplet = { miner.hardest = {} }", triplet(), None),
        case("margin = { beta = 0.9, miner.hardest = {} }", margin_loss(beta), beta),
        case("contrastive = { positive_margin = 0.1, miner.hardest = {} }", contrastive(), None),
        case("normalized-softmax = {}", normalized_softmax(), proxies),
        case("arcface = {}", arcface(), proxies),
        case("arcface = { applied = \"no-op\" }", arcface_no_op(), proxies),
        case("proxy-nca = {}", proxy_nca(), proxies),
        case("proxy-anchor = {}", proxy_anchor(), proxies),
        case("s2sd = { dims = [4, 3], temperature = 1.5, feature_weight = 30, feature_delay = 0 }", s2sd(layers()), mlp),
        case("s2sd = { dims = [4, 3], temperature = 1.5, feature_weight = 30, feature_delay = 9, pooling = \"average\" }",
             s2sd(layers(), with_maximum=False, with_features=False), mlp),
    ]
    data = {"labels": LABELS, "classes": C, "embeddings": numbers(embeddings), "features": numbers(features),
            "feature_shape": [N, CHANNELS, SIDE, SIDE], "cases": cases}
    with open("losses.json", "w") as file:
        json.dump(data, file)
        file.write("\n")
