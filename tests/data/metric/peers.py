# Made peers.json: python peers.py > peers.json
# (Python 3.11, numpy, scipy, torch 2.11.0, scikit-learn 1.9.1, faiss 1.15.1, pytorch-metric-learning 2.9.0; the versions
# that really ran stand in the file.)
#
# Three kinds of reference on the same embeddings, with stored cluster assignments so that no k-means draw is in it:
#   pml       pytorch-metric-learning's AccuracyCalculator
#   sklearn   NMI, AMI, V-measure; scipy's skewness
#   official  the MDProp code's definitions, written from the formulas in the paper's supplement and its fact sheet
#             (self dropped as the first neighbour, denominators n that include the query, KL over singular values)
# and one set with exact duplicates, on which "drop the first neighbour" drops the wrong one.
import json

import faiss
import numpy as np
import pytorch_metric_learning
import scipy
import sklearn
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from scipy.stats import entropy, skew
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score, v_measure_score

rng = np.random.default_rng(11)


def make(names, sizes, d, spread):
    labels = np.repeat(names, sizes)
    labels = labels[rng.permutation(len(labels))]
    centres = {name: rng.normal(size=d) for name in names}
    rows = np.stack([centres[label] + spread * rng.normal(size=d) for label in labels])
    rows *= np.linspace(1.6, 0.4, d)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def flat_search(queries, gallery, k):
    index = faiss.IndexFlatL2(gallery.shape[1])
    index.add(gallery)
    return index.search(queries, k)[1]


def official(rows, labels, clusters):
    n, d = rows.shape
    order = flat_search(rows, rows, n)[:, 1:]  # "self" is whatever came first
    hits = labels[order] == labels[:, None]
    size = np.array([(labels == label).sum() for label in labels])

    def mean_ap(depth):
        values = []
        for i in range(n):
            rel = hits[i, : min(depth(i), n - 1)]
            precision = np.cumsum(rel) / (np.arange(len(rel)) + 1)
            values.append((precision * rel).sum() / size[i])
        return float(np.mean(values))

    x = rows.astype(np.float64)
    names = np.unique(labels)
    intra, means = [], []
    for name in names:
        members = x[labels == name]
        m = len(members)
        intra.append((1 - members @ members.T).sum() / (m * m - m) if m > 1 else np.nan)
        mean = members.mean(0)
        means.append(mean / np.linalg.norm(mean))
    means = np.stack(means)
    c = len(names)
    inter = (1 - means @ means.T).sum() / (c * c - c)
    s = np.linalg.svd(x, compute_uv=False)

    def rho(values, k):
        p = values / values.sum()
        if k == -1:
            return float(entropy(p, np.ones(len(p)) / len(p)))
        p = p[k - 1 :]
        return float(entropy(np.ones(len(p)) / len(p), p))

    def pairs(counts):
        return float((counts * (counts - 1) / 2).sum())

    table = np.array([[((labels == a) & (clusters == b)).sum() for b in np.unique(clusters)] for a in names])
    tp, p, r = pairs(table), pairs(table.sum(0)), pairs(table.sum(1))
    precision, recall = tp / p, tp / r
    return {
        "recall": [float(hits[:, :k].any(1).mean()) for k in (1, 2, 4)],
        "map_c": mean_ap(lambda i: size[i]),
        "map_1000": mean_ap(lambda i: 1000),
        "map_lim": mean_ap(lambda i: min(1023, n)),
        "pi_intra": float(np.mean(intra)),
        "pi_inter": float(inter),
        "pi_ratio": float(np.mean(intra) / inter),
        "rho": {str(k): rho(s, k) for k in (-1, 1, 2, 10)},
        "rho_truncated": {str(k): rho(s[: d - 1], k) for k in (-1, 1, 2, 10)},
        "spectrum": (s / s.sum()).tolist(),
        "f1": 2 * precision * recall / (precision + recall),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
    }


def pml(rows, labels, clusters, **more):
    calculator = AccuracyCalculator(
        k=None, device=torch.device("cpu"), kmeans_func=lambda x, k: torch.as_tensor(clusters)
    )
    found = calculator.get_accuracy(torch.as_tensor(rows), torch.as_tensor(labels), **more)
    return {key: float(value) for key, value in found.items()}


def geometry(rows):
    x = torch.as_tensor(rows, dtype=torch.float64)
    s = np.linalg.svd(rows.astype(np.float64), compute_uv=False)
    p = s / s.sum()
    cosines = sklearn.metrics.pairwise.cosine_similarity(rows.astype(np.float64))
    n = len(rows)
    return {
        "uniformity": float(torch.pdist(x).pow(2).mul(-2).exp().mean().log()),
        "effective_rank": float(np.exp(entropy(p))),
        "mean_cosine": float((cosines.sum() - n) / (n * n - n)),
    }


def alignment(rows, labels):
    x = rows.astype(np.float64)
    square = ((x[:, None] - x[None]) ** 2).sum(-1)
    same = (labels[:, None] == labels[None]) & ~np.eye(len(x), dtype=bool)
    return float(square[same].mean())


def hubness(rows, k):
    order = flat_search(rows, rows, k + 1)[:, 1:]
    counts = np.bincount(order.ravel(), minlength=len(rows))
    return [float(skew(counts)), float((counts == 0).mean())]


names = np.array([3, 10, 11, 20, 77, 500])
rows, labels = make(names, [2, 5, 9, 12, 14, 16], 16, 1.4)
clusters = KMeans(len(names), n_init=4, random_state=0).fit_predict(rows.astype(np.float64))
many = KMeans(17, n_init=1, random_state=1).fit_predict(rows.astype(np.float64))
asked, asked_labels = make(names[:4], [4, 3, 3, 5], 16, 1.4)

# Pairs of equal rows from different classes: the first of each pair finds itself first, the second finds the first.
half, half_labels = make(np.array([0, 1, 2, 3]), [5, 5, 5, 5], 8, 0.2)
twins = np.concatenate([half, half])
twin_labels = np.concatenate([half_labels, (half_labels + 1) % 4])

print(json.dumps({
    "versions": {m.__name__: m.__version__ for m in (np, scipy, torch, sklearn, faiss, pytorch_metric_learning)},
    "dim": 16,
    "rows": [float(v) for v in rows.ravel()],
    "labels": labels.tolist(),
    "clusters": clusters.tolist(),
    "many_clusters": many.tolist(),
    "official": official(rows, labels, clusters),
    "pml": pml(rows, labels, clusters),
    "sklearn": [
        [float(f(labels, c)) for f in (normalized_mutual_info_score, adjusted_mutual_info_score, v_measure_score)]
        for c in (clusters, many)
    ],
    "geometry": geometry(rows) | {"alignment": alignment(rows, labels)},
    "hubness": hubness(rows, 10),
    "queries": [float(v) for v in asked.ravel()],
    "query_labels": asked_labels.tolist(),
    "pml_query_gallery": pml(asked, asked_labels, np.zeros(len(asked_labels), dtype=int), reference=torch.as_tensor(rows),
                             reference_labels=torch.as_tensor(labels), ref_includes_query=False),
    "twins": {
        "dim": 8,
        "rows": [float(v) for v in twins.ravel()],
        "labels": twin_labels.tolist(),
        "official": official(twins, twin_labels, twin_labels),
        "pml": pml(twins, twin_labels, twin_labels),
    },
}))
