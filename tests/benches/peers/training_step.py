"""The steps of tests/benches/training_step.rs in plain PyTorch eager (torch==2.11.0), written for speed.

python training_step.py [threads]
Same network, batch, attack, loss (vectorised here too), Adam; nn modules in place of a flat parameter buffer.
"""
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

N, SIZE, WIDTHS, DIM, EPSILON = 128, 32, [32, 64, 128, 256], 128, 0.1


class Net(nn.Module):
    def __init__(self, branches):
        super().__init__()
        pairs = list(zip([3] + WIDTHS, WIDTHS))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairs)
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(b) for _ in range(branches + 1)) for b in WIDTHS)
        self.head = nn.Linear(WIDTHS[-1], DIM)

    def forward(self, x, split):
        for i, (conv, norms) in enumerate(zip(self.convs, self.norms)):
            x = conv(x)
            if len(split) == 1:
                x = norms[split[0][0]](x)
            else:
                x = torch.cat([norms[b](part) for (b, _), part in zip(split, x.split([n for _, n in split]))])
            x = F.relu(x, inplace=True)
            if i + 1 < len(WIDTHS):
                x = F.max_pool2d(x, 2)
        return F.normalize(self.head(x.mean((2, 3))))


def multi_similarity(e, labels, a=2.0, b=40.0, t=0.5, margin=0.1):
    s = e @ e.T
    with torch.no_grad():
        same = labels[:, None] == labels[None]
        pos = same ^ torch.eye(len(e), dtype=torch.bool)
        neg = ~same
        neg_kept = neg & (s + margin > s.masked_fill(~pos, torch.inf).amin(1, True))
        pos_kept = pos & (s - margin < s.masked_fill(same, -torch.inf).amax(1, True))
        kept = (pos_kept.any(1) & neg_kept.any(1)).float()
    up = torch.log1p((torch.exp(-a * (s - t)) * pos_kept).sum(1)) / a
    down = torch.log1p((torch.exp(b * (s - t)) * neg_kept).sum(1)) / b
    return ((up + down) * kept).sum() / kept.sum().clamp_min(1)


def attack(net, x, branch, targets):
    n = len(x)
    net.eval()
    split = [(branch, n)]
    with torch.no_grad():
        e = net(x, split)
        goals = torch.stack([e[torch.randperm(n)] for _ in range(targets)], 1)
        low, high = x - EPSILON, x + EPSILON
        start = x + (torch.rand_like(x) * 2 - 1) * 0.0005
    start.requires_grad_()
    loss = ((goals - net(start, split)[:, None]) ** 2).sum()
    (gradient,) = torch.autograd.grad(loss, start)
    net.train()
    with torch.no_grad():
        return torch.min(torch.max(start - EPSILON * gradient.sign(), low), high)


def stepper(method):
    groups = {"standard": [], "adversarial": [(0, 1)], "mdprop": [(1, 1), (2, 5)]}[method]
    torch.manual_seed(0)
    net = Net(len(groups) if method == "mdprop" else 0)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=4e-4)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    pixels, labels = torch.rand(N, 3, SIZE, SIZE), torch.arange(N) // 4

    def step():
        x = (pixels - mean) / std
        images, split, all_labels = [x], [(0, N)], labels
        if groups:
            size = N // len(groups)
            images += [attack(net, x[g * size:(g + 1) * size], *group) for g, group in enumerate(groups)]
            split = [(0, 2 * N)] if method == "adversarial" else split + [(b, size) for b, _ in groups]
            all_labels = torch.cat([labels, labels])
        loss = multi_similarity(net(torch.cat(images), split), all_labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss.item()

    return step


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    for method in ("standard", "adversarial", "mdprop"):
        step = stepper(method)
        for _ in range(5):
            step()
        times = []
        for _ in range(20):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        print(f"{method}: median {1e3 * statistics.median(times):.1f} ms, min {1e3 * min(times):.1f} ms, "
              f"{torch.get_num_threads()} threads")
