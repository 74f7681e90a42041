"""One training step of EST, ACT, HM and HM + ICS on a tiny convnet, in plain PyTorch, from the papers' formulas.

EST: Zhou et al. 2020, arXiv:2002.11293. ACT: arXiv:2106.03614. HM, g_LGA, ICS: arXiv:2203.01439, sections 3.1 to 3.3.
Made with Python 3.12+, torch==2.11.0 (CPU), safetensors. Run in this folder: python make_defence_fixtures.py
Network and weights are those of make_step_fixtures.py. Triplets are the hardest ones of every second image, so that no
draw is involved; everything about a triplet is a loop over triplets.
"""
import torch
from safetensors.torch import save_file

from make_fixtures import multi_similarity
from make_step_fixtures import MEAN, N, SIZE, STD, forward, make_weights

LABELS = [0, 0, 1, 1, 2, 2, 3, 3]
MARGIN = 0.2


def distance(a, b):
    return ((a - b) ** 2).sum().add(1e-8).sqrt()


def hardness(a, p, n):
    return distance(a, p) - distance(a, n)


def hardest(embeddings):
    triplets = []
    for a in range(0, N, 2):
        d = [distance(embeddings[a], embeddings[j]).item() for j in range(N)]
        positives = [j for j in range(N) if j != a and LABELS[j] == LABELS[a]]
        negatives = [j for j in range(N) if LABELS[j] != LABELS[a]]
        triplets.append((a, max(positives, key=lambda j: d[j]), min(negatives, key=lambda j: d[j])))
    return triplets


def descend(weights, x, noise, epsilon, step, steps, loss):
    frozen = {k: v.detach() for k, v in weights.items()}
    lowest, highest = (0 - MEAN) / STD, (1 - MEAN) / STD
    low, high = torch.clamp(x - epsilon, lowest, highest), torch.clamp(x + epsilon, lowest, highest)
    current = x + noise
    for _ in range(steps):
        current = current.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(forward(frozen, current, branch=0)), current)
        current = torch.min(torch.max(current.detach() - step * gradient.sign(), low), high)
    return current.detach()


def rows(x, triplets, places):
    return torch.cat([torch.stack([x[t[place]] for t in triplets]) for place in places])


def est(weights, x, epsilon, steps):
    noise = (torch.rand_like(x) * 2 - 1) * 0.05
    with torch.no_grad():
        own = forward({k: v.detach() for k, v in weights.items()}, x, branch=0)
    moved = descend(weights, x, noise, epsilon, epsilon / steps, steps,
                    lambda out: -sum(distance(out[i], own[i]) for i in range(N)))

    def loss():
        return multi_similarity(forward(weights, moved, split=[(0, N)]), LABELS)[0]
    return {"noise": noise, "adversarial": moved}, loss


def triplet_loss(out, count, margin=MARGIN):
    return sum(torch.relu(hardness(out[i], out[count + i], out[2 * count + i]) + margin) for i in range(count)) / count


def act(weights, x, epsilon, step, steps):
    with torch.no_grad():
        triplets = hardest(forward(weights, x, branch=0))
    t = len(triplets)
    moved = descend(weights, rows(x, triplets, (1, 2)), 0, epsilon, step, steps,
                    lambda out: sum(distance(out[i], out[t + i]) for i in range(t)) / t)

    def loss():
        images = torch.cat([rows(x, triplets, (0,)), moved])
        return triplet_loss(forward(weights, images, split=[(0, 3 * t)]), t)
    return {}, loss


def hm(weights, x, epsilon, step, steps, wanted, ics):
    with torch.no_grad():
        triplets = hardest(forward(weights, x, branch=0))
    t = len(triplets)

    def objective(out):
        return sum(torch.relu(wanted - hardness(out[i], out[t + i], out[2 * t + i])) ** 2 for i in range(t)) / t
    moved = descend(weights, rows(x, triplets, (0, 1, 2)), 0, epsilon, step, steps, objective)

    def loss():
        # The clean pair passes first and alone, as in the published code: its batch statistics are its own.
        pair = forward(weights, rows(x, triplets, (0, 1)), split=[(0, 2 * t)]) if ics else None
        out = forward(weights, moved, split=[(0, 3 * t)])
        value = triplet_loss(out, t)
        if ics:
            value = value + ics * sum(torch.relu(hardness(pair[i], out[i], pair[t + i])) for i in range(t)) / t
        return value
    still = (moved == rows(x, triplets, (0, 1, 2))).flatten(1).all(1).sum().item()
    print("   images that stayed:", still, "of", 3 * t)
    return {}, loss


def case(name, seed, make):
    torch.manual_seed(seed)
    weights = make_weights(0)
    # Classes from alike to mixed up, so that some triplets are hard enough and others are not.
    base = torch.rand(N // 2, 3, SIZE, SIZE)
    amount = torch.tensor([0.05, 0.2, 0.5, 1.0]).view(-1, 1, 1, 1).repeat_interleave(2, 0)
    pixels = base.repeat_interleave(2, 0) * (1 - amount) + torch.rand(N, 3, SIZE, SIZE) * amount
    # Running statistics near those of the batch: else everything is embedded at one place.
    for _ in range(15):
        forward(weights, (pixels - MEAN) / STD, split=[(0, N)])
    tensors = {f"model.{k}": v.clone() for k, v in weights.items()}
    tensors["pixels"] = pixels
    extra, loss = make(weights, (pixels - MEAN) / STD)
    tensors.update(extra)
    trained = [k for k in weights if "running" not in k]
    for k in trained:
        weights[k].requires_grad_()
    value = loss()
    gradients = torch.autograd.grad(value, [weights[k] for k in trained])
    tensors["loss"] = value.detach().reshape(1)
    for k, gradient in zip(trained, gradients):
        tensors[f"gradient.{k}"] = gradient
    for k in weights:
        if "running" in k:
            tensors[f"after.{k}"] = weights[k]
    print(name, value.item())
    save_file({k: v.contiguous().float() for k, v in tensors.items()}, f"defence-{name}.safetensors")


if __name__ == "__main__":
    case("est", 1, lambda w, x: est(w, x, 0.1, 2))
    case("act", 2, lambda w, x: act(w, x, 8 / 255 / STD, 2 / 255 / STD, 3))
    # g_LGA after a step whose loss was 0.15: −0.2 · 0.15 / 0.2.
    case("hm-gradual", 3, lambda w, x: hm(w, x, 0.1, 0.05, 2, -0.15, 0))
    # Before the first step: −0.2.
    case("hm-ics", 10, lambda w, x: hm(w, x, 0.1, 0.05, 2, -0.2, 0.5))
    case("hm-constant", 5, lambda w, x: hm(w, x, 0.3, 0.1, 3, 2.2, 0.05))
