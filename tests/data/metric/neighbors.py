# Made neighbors.json: python neighbors.py > neighbors.json   (Python 3, numpy 2.4.6, scikit-learn 1.9.1)
# Brute-force neighbours by scikit-learn in float64, self removed by index; recall@k counted directly.
import json
import numpy as np
from sklearn.neighbors import NearestNeighbors

rng = np.random.default_rng(0)
centres = rng.normal(size=(10, 6))
labels = np.arange(80) % 10
rows = (centres[labels] + 1.1 * rng.normal(size=(80, 6))).astype(np.float32)
order = NearestNeighbors(n_neighbors=79, algorithm="brute").fit(rows.astype(np.float64)).kneighbors(return_distance=False)
hits = labels[order] == labels[:, None]
print(json.dumps({
    "rows": [float(v) for v in rows.ravel()],
    "labels": labels.tolist(),
    "neighbors": order[:, :8].ravel().tolist(),
    "recall": [float(hits[:, :k].any(1).mean()) for k in (1, 2, 4, 8)],
}))
