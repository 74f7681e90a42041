# Made bootstrap.json: python bootstrap.py > bootstrap.json   (Python 3, numpy 2.4.6)
import json
import numpy as np

rng = np.random.default_rng(1)
sizes = rng.integers(1, 10, size=60)
clusters = np.repeat(np.arange(60), sizes)
rate = rng.beta(2, 2, size=60)
values = (rng.random(len(clusters)) < rate[clusters]).astype(float)
sums, counts = np.bincount(clusters, values), np.bincount(clusters).astype(float)


def ends(sums, counts):
    picks = rng.integers(0, len(sums), size=(200_000, len(sums)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    return [float(values.mean()), *map(float, np.quantile(means, [0.025, 0.975]))]


print(json.dumps({
    "values": values.tolist(), "clusters": clusters.tolist(),
    "cluster": ends(sums, counts), "plain": ends(values, np.ones_like(values)),
}))
