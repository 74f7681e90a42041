"""Reference values for src/train: multi-similarity loss, Adam, one-cycle schedule.

Made with Python 3.12+, torch==2.11.0 (CPU). Run in this folder: python make_fixtures.py
"""
import json
import torch

torch.manual_seed(0)
torch.set_num_threads(1)


def multi_similarity(embeddings, labels, a=2.0, b=40.0, t=0.5, margin=0.1):
    """A loop over anchors and pairs; nothing in common with the masked matrices under test."""
    terms, skipped = [], 0
    for i in range(len(labels)):
        row = [embeddings[i].dot(embeddings[j]) for j in range(len(labels))]
        positives = [row[j] for j in range(len(labels)) if j != i and labels[j] == labels[i]]
        negatives = [row[j] for j in range(len(labels)) if labels[j] != labels[i]]
        if not positives or not negatives:
            skipped += 1
            continue
        lowest, highest = min(positives), max(negatives)
        kept_n = [s for s in negatives if s + margin > lowest]
        kept_p = [s for s in positives if s - margin < highest]
        if not kept_n or not kept_p:
            skipped += 1
            continue
        pos = torch.log(1 + sum(torch.exp(-a * (s - t)) for s in kept_p)) / a
        neg = torch.log(1 + sum(torch.exp(b * (s - t)) for s in kept_n)) / b
        terms.append(pos + neg)
    return torch.stack(terms).mean(), skipped


def loss_cases():
    cases = []

    def add(name, embeddings, labels):
        embeddings = torch.nn.functional.normalize(embeddings.float(), dim=1).double().requires_grad_()
        # float32 rounding of the inputs is kept, the arithmetic is float64
        loss, skipped = multi_similarity(embeddings, labels)
        (gradient,) = torch.autograd.grad(loss, embeddings)
        cases.append({
            "name": name, "labels": labels, "skipped": skipped, "loss": loss.item(),
            "embeddings": [round(v, 9) for v in embeddings.detach().flatten().tolist()],
            "gradient": [round(v, 9) for v in gradient.flatten().tolist()],
        })

    add("random, four of each class", torch.randn(16, 6), [i // 4 for i in range(16)])
    add("a class with one image", torch.randn(9, 5), [0, 0, 1, 1, 1, 2, 2, 2, 3])
    centres = torch.eye(4, 6).repeat_interleave(3, 0)
    mixed = centres + 0.15 * torch.randn(12, 6)
    mixed[0] = centres[3] + 0.3 * torch.randn(6)
    add("separated classes, one stray image", mixed, [i // 3 for i in range(12)])
    add("nearly collapsed", torch.ones(8, 4) + 0.05 * torch.randn(8, 4), [0, 0, 1, 1, 2, 2, 3, 3])
    return cases


def adam():
    start = torch.randn(7)
    parameter = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([parameter], lr=1.0, weight_decay=4e-4)
    gradients, parameters, rates = [], [], []
    for step in range(20):
        rate = 0.01 * (1 + step % 5)
        gradient = torch.randn(7) * 10.0 ** (torch.arange(7) - 4)
        parameter.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        gradients.append(gradient.tolist())
        parameters.append(parameter.detach().tolist())
        rates.append(rate)
    return {"start": start.tolist(), "weight_decay": 4e-4, "learning_rates": rates,
            "gradients": gradients, "parameters": parameters}


def schedule():
    cases = []
    for steps in (5, 12, 36, 101):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        course = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, cycle_momentum=False)
        rates = []
        for step in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if step + 1 < steps:
                course.step()
        cases.append({"learning_rates": rates})
    return cases


if __name__ == "__main__":
    for name, value in (("multi_similarity", loss_cases()), ("adam", adam()), ("schedule", schedule())):
        with open(f"{name}.json", "w") as file:
            json.dump(value, file)
            file.write("\n")
