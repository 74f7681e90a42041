"""One training step of a tiny convnet, as the official algorithm does it, in plain PyTorch.

Made with Python 3.12+, torch==2.11.0 (CPU), safetensors. Run in this folder: python make_step_fixtures.py
Unlike the program, the whole 2n batch goes through each convolution at once and only the batch norms split it; the loss
is the loop over anchors of make_fixtures.py.
"""
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from make_fixtures import multi_similarity

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
WIDTHS, DIM, N, SIZE = [4, 6], 5, 8, 6


def branch_name(branch):
    return "" if branch == 0 else f"aux{branch}."


def make_weights(branches):
    weights, previous = {}, 3
    for i, width in enumerate(WIDTHS, 1):
        weights[f"block{i}.conv.weight"] = torch.randn(width, previous, 3, 3) * 0.3
        for b in range(branches + 1):
            prefix = f"block{i}.bn.{branch_name(b)}"
            weights[prefix + "weight"] = 1 + 0.2 * torch.randn(width)
            weights[prefix + "bias"] = 0.3 * torch.randn(width)
            weights[prefix + "running_mean"] = 0.2 * torch.randn(width)
            weights[prefix + "running_var"] = 1 + 0.3 * torch.rand(width)
        previous = width
    weights["embed.weight"] = torch.randn(DIM, previous) * 0.5
    weights["embed.bias"] = torch.randn(DIM) * 0.1
    return weights


def forward(weights, x, split=None, branch=None):
    """`split`: list of (branch, count), train mode; `branch`: that branch, eval mode."""
    for i in range(1, len(WIDTHS) + 1):
        x = F.conv2d(x, weights[f"block{i}.conv.weight"], padding=1)
        pieces, start = [], 0
        for b, count in split or [(branch, len(x))]:
            p = f"block{i}.bn.{branch_name(b)}"
            pieces.append(F.batch_norm(
                x[start:start + count], weights[p + "running_mean"], weights[p + "running_var"], weights[p + "weight"],
                weights[p + "bias"], training=split is not None, momentum=0.1, eps=1e-5))
            start += count
        x = F.relu(torch.cat(pieces))
        if i < len(WIDTHS):
            x = F.max_pool2d(x, 2)
    return F.normalize(F.linear(x.mean((2, 3)), weights["embed.weight"], weights["embed.bias"]))


def attack(weights, x, branch, targets, noise, epsilon, steps, squared, batch_clamp):
    frozen = {k: v.detach() for k, v in weights.items()}
    with torch.no_grad():
        embeddings = forward(frozen, x, branch=branch)
    goals = [embeddings[permutation] for permutation in targets]
    if batch_clamp:
        lowest, highest = x.min(), x.max()
    else:
        lowest, highest = (0 - MEAN) / STD, (1 - MEAN) / STD
    low, high = torch.clamp(x - epsilon, lowest, highest), torch.clamp(x + epsilon, lowest, highest)
    adversarial = x + noise
    for _ in range(steps):
        adversarial = adversarial.detach().requires_grad_()
        out = forward(frozen, adversarial, branch=branch)
        if squared:
            loss = sum(((goal - out) ** 2).sum(1).mean() for goal in goals) / len(goals)
        else:
            loss = (sum((goal - out).norm(dim=1).mean() for goal in goals) / len(goals)) ** 2
        (gradient,) = torch.autograd.grad(loss, adversarial)
        adversarial = adversarial.detach() - (epsilon / steps) * gradient.sign()
        adversarial = torch.min(torch.max(adversarial, low), high)
    return adversarial.detach()


def case(name, seed, groups, shared, epsilon, steps, squared, batch_clamp):
    """`groups`: lists of permutations, one list per adversarial group; `shared`: adversarial training."""
    torch.manual_seed(seed)
    weights = make_weights(0 if shared else len(groups))
    tensors = {f"model.{k}": v.clone() for k, v in weights.items()}
    pixels = torch.rand(N, 3, SIZE, SIZE)
    labels = [0, 0, 1, 1, 2, 2, 3, 3]
    x = (pixels - MEAN) / STD
    if not isinstance(epsilon, float):
        epsilon = epsilon[0] / STD
    tensors["pixels"] = pixels
    size = N // len(groups)
    split, images, all_labels = [(0, N)], [x], list(labels)
    for g, targets in enumerate(groups):
        part = x[g * size:(g + 1) * size]
        noise = (torch.rand_like(part) * 2 - 1) * 0.0005
        branch = 0 if shared else g + 1
        adversarial = attack(weights, part, branch, targets, noise, epsilon, steps, squared, batch_clamp)
        tensors[f"targets.{g}"] = torch.tensor(targets, dtype=torch.float32)
        tensors[f"noise.{g}"] = noise
        tensors[f"adversarial.{g}"] = adversarial
        images.append(adversarial)
        all_labels += labels[g * size:(g + 1) * size]
        split.append((branch, size))
    if shared:
        split = [(0, 2 * N)]
    trained = [k for k in weights if "running" not in k]
    for k in trained:
        weights[k].requires_grad_()
    loss, _ = multi_similarity(forward(weights, torch.cat(images), split=split), all_labels)
    gradients = torch.autograd.grad(loss, [weights[k] for k in trained])
    tensors["loss"] = loss.detach().reshape(1)
    for k, gradient in zip(trained, gradients):
        tensors[f"gradient.{k}"] = gradient
    for k in weights:
        if "running" in k:
            tensors[f"after.{k}"] = weights[k]
    save_file({k: v.contiguous().float() for k, v in tensors.items()}, f"step-{name}.safetensors")


if __name__ == "__main__":
    # The code preset lets an image be its own target and of its own class; the paper preset never does.
    case("code", 1, [[[2, 1, 3, 0]], [[1, 2, 3, 0], [0, 3, 2, 1], [3, 0, 1, 2]]], False, 0.1, 1, False, True)
    case("code-two-steps", 2, [[[2, 3, 1, 0]], [[1, 2, 3, 0], [3, 2, 1, 0]]], False, 0.3, 2, False, True)
    case("paper", 3, [[[2, 3, 1, 0]], [[3, 2, 1, 0], [2, 3, 0, 1]]], False, 0.1, 1, True, False)
    case("paper-pixels", 4, [[[2, 3, 1, 0]], [[3, 2, 1, 0], [2, 3, 0, 1]]], False, (8 / 255,), 2, True, False)
    case("paper-adversarial", 5, [[[7, 6, 5, 4, 3, 2, 1, 0]]], True, 0.1, 1, True, False)
